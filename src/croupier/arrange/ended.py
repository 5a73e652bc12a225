"""How the helpers of an arrangement are ended, from what a record says of them: `[pid, start time]`."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ..model.target import Identity
from ..model.undo import UndoRecord
from ..system import procs, signals

_ENDS_WITHIN_S = 1.0
_PACE_S = 0.005


def written(who: Identity) -> list[int]:
    """How a record writes somebody down."""
    return [who.pid, who.started]


def named(record: UndoRecord, rows: Iterable[list[int]]) -> list[Identity]:
    """Whom a record means."""
    return [Identity(pid=pid, started=started, boot=record.who.boot) for pid, started in rows]


def ended(whom: Iterable[Identity]) -> list[Identity]:
    """Kill them all, and wait. Who is still alive after a second."""
    left = [one for one in whom if procs.alive(one)]
    for one in left:
        signals.send(one, "KILL")
    end = time.monotonic() + _ENDS_WITHIN_S
    while left := [one for one in left if procs.alive(one)]:
        if time.monotonic() > end:
            break
        time.sleep(_PACE_S)
    return left
