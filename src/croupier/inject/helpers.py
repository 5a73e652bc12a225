"""Helpers: processes of ours that carry a fault out, and how they are ended from a record alone.

The record is on disk before the helper is started, so it cannot name it; what it holds is a mark that the helper
carries in its environment. Once it runs, `naming` puts its identity into the record as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..model.errors import HarnessError, TargetError
from ..model.target import Identity
from ..model.undo import UndoRecord
from ..system import procs, signals
from ..system.clock import now_us
from . import Act

VARIABLE = "CROUPIER_HELPER"
_MARK = "helper_mark"
_WHO = "helpers"
_END_WITHIN_S = 1.0
_ASKED_WITHIN_S = 0.3
_PACE_S = 0.002
_SLACK_MS = 2_000


def mark(run: str, key: str) -> str:
    """What stands in a helper's environment: nobody else in the world carries it."""
    return f"{run}/{key}"


def deadline_us(lasting_ms: int) -> int:
    """When a record with a helper must be undone: it lasts from when the helper is at work, and ends with a process."""
    return now_us() + (lasting_ms + _SLACK_MS) * 1_000


def marked(env: Mapping[str, str], key: str) -> dict[str, Any]:
    """What a record must hold in its `data` before a helper is started for it. `env` is the act's."""
    return {_MARK: mark(env.get("CROUPIER_RUN", ""), key), _WHO: []}


def naming(record: UndoRecord, *started: Identity) -> UndoRecord:
    """The record with the identities of helpers that run by now; intend it again."""
    listed = [*record.data.get(_WHO, []), *([one.pid, one.started] for one in started)]
    return msgspec.structs.replace(record, data={**record.data, _WHO: listed})


def start(record: UndoRecord, argv: Sequence[str], act: Act, env: Mapping[str, str] | None = None) -> Identity:
    """Start a helper for a record that is intended, and name it there. `env` is set beside its environment.

    Raises TargetError where it cannot be started, or the round is halted first.
    """
    try:
        who = act.start(record.key, argv, env)
        act.intend(naming(record, who))
    except HarnessError:
        if act.halted:
            raise TargetError("the round was halted first") from None
        raise
    act.applied(record.key)
    return who


def says(who: Identity) -> str:
    """The word that a helper has put into its name (/proc/PID/comm) to tell how far it is; "" if it is gone."""
    try:
        told = Path(f"/proc/{who.pid}/comm").read_text().strip()
    except OSError:
        return ""
    return told if procs.alive(who) else ""


def has_any(record: UndoRecord) -> bool:
    """Whether a record is about helpers at all."""
    return _MARK in record.data


def of(record: UndoRecord) -> list[Identity]:
    """The helpers that a record names, and whoever carries its mark, alive, with all that is below them."""
    named = [Identity(pid=pid, started=started, boot=record.who.boot) for pid, started in record.data.get(_WHO, [])]
    told = str(record.data.get(_MARK, ""))
    tops = [one for one in named if procs.alive(one)]
    if told:
        tops += procs.marked(f"{VARIABLE}={told}")
    return list(dict.fromkeys(one for top in tops for one in (top, *procs.family(top.pid)) if procs.alive(one)))


def ask_to_end(record: UndoRecord) -> None:
    """Tell every helper of a record to end (SIGTERM), and give them a moment to put away what they hold."""
    told = of(record)
    _signal(told, "TERM")
    until = time.monotonic() + _ASKED_WITHIN_S
    while any(procs.alive(one) for one in told) and time.monotonic() < until:
        time.sleep(_PACE_S)


def end(record: UndoRecord) -> list[Identity]:
    """Kill every helper of a record until none is left. Who is still alive after a second."""
    until = time.monotonic() + _END_WITHIN_S
    while left := of(record):
        _signal(left, "KILL")
        if time.monotonic() >= until:
            return left
        time.sleep(_PACE_S)
    return []


def _signal(whom: Iterable[Identity], name: str) -> None:
    for one in whom:
        try:
            signals.send(one, name)
        except PermissionError:
            continue
