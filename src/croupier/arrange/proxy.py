"""Proxy: a process of ours between two others, so that a connection can be hurt and nothing beside it.

It runs below the guardian, which ends it at the latest with the round. It is started before the first process, and
taken down after the last fault was healed; whoever is still connected then sees the end of the connection.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..model.arrangement import Proxy
from ..model.errors import TargetError
from ..model.link import PIPE, address
from ..model.target import Identity
from ..model.undo import Healing, UndoRecord
from ..system import procs, relay
from . import Hands
from .ended import ended, named, written

_STARTS_WITHIN_S = 10.0
_PACE_S = 0.005
_LONGEST_PATH = 107
"""Bytes of a path in a socket's address; unix(7)."""


class ProxyArranger:
    """Sets up `proxies`."""

    kind = "proxy"
    summary = "A process of croupier's that carries bytes between processes, so that a connection can be hurt."

    def lacking(self, spec: Proxy) -> str:
        """Whether a proxy can be spoken to here."""
        return relay.lacking()

    def stands_for(self, name: str, spec: Proxy, folder: str) -> str:
        """Where it listens, as a program is told."""
        if not spec.listen:
            return str(Path(folder) / "proxies" / name)
        try:
            return address(spec.listen).plain
        except ValueError:
            # `set_up` says what is wrong with it.
            return spec.listen

    def set_up(self, name: str, spec: Proxy, value: str, hands: Hands) -> None:
        """Start it, and see that it answers."""
        try:
            # `value` has the port that was picked, where none was asked for.
            to = address(spec.to)
            listen = address(f"{PIPE}{value}" if to.pipe else value)
        except ValueError as problem:
            raise OSError(None, str(problem)) from problem
        if len(os.fsencode(listen.path)) > _LONGEST_PATH and not listen.pipe:
            raise OSError(None, f"the path {listen.path} is too long for a socket: write `listen: unix:/short/path`")
        if listen.path:
            Path(listen.path).parent.mkdir(parents=True, exist_ok=True)
        if listen.path and Path(listen.path).exists():
            raise OSError(None, f"{listen.path} is there already, and not ours")
        made = [listen.path] if listen.path else []
        if to.pipe and not _is(stat.S_ISFIFO, to.path):
            if Path(to.path).exists():
                raise OSError(None, f"{to.path} is there already, and no named pipe")
            made.append(to.path)
        where = relay.control(hands.env, name)
        record = UndoRecord(
            key=f"{self.kind}.{name}",
            fault=self.kind,
            who=hands.keeper,
            data={"control": where, "paths": made, "process": []},
            deadline_us=hands.deadline_us,
        )
        hands.intend(record)
        if to.pipe:
            for path in made:
                os.mkfifo(path, 0o600)
        who = hands.start(f"proxy-{name}", [sys.executable, "-m", "croupier.relay", where, str(listen), str(to)])
        hands.intend(msgspec.structs.replace(record, data={**record.data, "process": [written(who)]}))
        _wait_for(where, who)
        hands.applied(record.key)

    def heal(self, record: UndoRecord) -> Healing:
        """End it, and remove the paths that were made for it."""
        left = [one for one in named(record, record.data["process"]) if procs.alive(one)]
        note = "" if left else "the proxy is gone"
        if still := ended(left):
            return Healing(verified=False, note=f"the proxy ({still[0]}) is still alive")
        for path in record.data["paths"]:
            if _is(stat.S_ISSOCK, path) or _is(stat.S_ISFIFO, path):
                Path(path).unlink(missing_ok=True)
        return Healing(verified=True, note=note)


def _wait_for(where: str, who: Identity) -> None:
    end = time.monotonic() + _STARTS_WITHIN_S
    while not _answers(where):
        if not procs.alive(who):
            raise TargetError(f"the proxy ended at once; artifacts/helpers says why ({who})")
        if time.monotonic() > end:
            raise TargetError(f"the proxy ({who}) did not answer within {_STARTS_WITHIN_S:g} s")
        time.sleep(_PACE_S)


def _answers(where: str) -> bool:
    try:
        return relay.ask(where) is not None
    except TimeoutError:
        return False


def _is(kind: Callable[[int], bool], path: str) -> bool:
    try:
        return kind(Path(path).lstat().st_mode)
    except OSError:
        return False


ARRANGER = ProxyArranger()
