"""Kept to some processors: what `starve_cpu` with `cores` does to every thread of a target, and how that is undone.

The record holds what each thread had. Whoever was born meanwhile has our choice from its maker, and gets what the main
thread of the nearest process in the record had. A choice that is not ours was made by the program itself, and stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..model.faults.cpu import StarveCpu
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..system import cores, procs
from ..system.clock import now_us
from . import Act, Outcome, too_late

_WALKS = 8
"""How often we look again for threads that were born while we were at it."""

_Row = list[int]
"""pid, thread, when that started, then the processors that it had."""


def keep(target: Seen, fault: StarveCpu, act: Act) -> Outcome:
    """Keep the target and all below it to some of the processors that it may run on; landed when that was read back."""
    who = target.identity
    if late := too_late(target, act, "it could be kept to some processors"):
        return late
    had = cores.read(who.pid)
    to = _chosen(fault, had)
    if not to:
        return Outcome(result="missed", detail=f"{target}: it may run on none of these, but on {_said(had)}")
    if to == had:
        return Outcome(result="missed", detail=f"{target}: it runs on {_said(had)} alone as it is")
    record = UndoRecord(
        key=act.key(target), fault=fault.kind, who=who, data={"to": list(to), "threads": []},
        deadline_us=now_us() + int(fault.for_ms) * 1_000,
    )  # fmt: skip
    members = [who, *(one.identity for one in act.below(target).free)]
    for nth in range(_WALKS):
        known = {(row[1], row[2]) for row in record.data["threads"]}
        # Who had that before was kept to it by the program, and who has it now was born of one that is kept.
        fresh = [row for one in members for row in _rows(one, known) if not nth or tuple(row[3:]) != to]
        if not fresh:
            break
        record = msgspec.structs.replace(record, data={**record.data, "threads": [*record.data["threads"], *fresh]})
        act.intend(record)
        try:
            for row in fresh:
                cores.keep(row[1], to)
        except OSError as problem:
            return Outcome(result="unsure", detail=f"{target}: it could not be kept to {_said(to)}: {problem.strerror}")
    act.applied(record.key)
    if not procs.alive(who):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as it was kept to {_said(to)}")
    if any(cores.read(thread) not in (to, ()) for thread, _ in cores.threads(who.pid)):
        return Outcome(result="unsure", detail=f"{target}: not all of it was seen to be kept to {_said(to)}")
    return Outcome(result="landed", detail=f"{target}: kept to {_said(to)} of {len(had)}")


def is_kept(record: UndoRecord) -> bool:
    """Whether a record of `starve_cpu` is one of these."""
    return "threads" in record.data


def heal(record: UndoRecord) -> Healing:
    """Give every thread that has our choice what it had, or who made it, and look again."""
    troubles: list[str] = []
    for _ in range(_WALKS):
        kept = list(_kept(record))
        if not kept or troubles:
            break
        for thread, prior in kept:
            try:
                cores.keep(thread, prior)
            except OSError as problem:
                troubles.append(f"thread {thread}: {problem.strerror}")
    if left := [str(thread) for thread, _ in _kept(record)]:
        return Healing(verified=False, note="; ".join([f"still kept: threads {', '.join(left)}", *troubles]))
    return Healing(verified=True, note="" if procs.alive(record.who) else f"{record.who} is gone")


def _chosen(fault: StarveCpu, had: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(fault.cores, int):
        return had[: fault.cores]
    return tuple(one for one in had if one in (fault.cores or ()))


def _rows(who: Identity, known: set[tuple[int, int]]) -> list[_Row]:
    fresh = [one for one in cores.threads(who.pid) if one not in known] if procs.alive(who) else []
    return [[who.pid, thread, started, *had] for thread, started in fresh if (had := cores.read(thread))]


def _kept(record: UndoRecord) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each thread that has our choice, with what it should have."""
    to = tuple(record.data["to"])
    rows: list[_Row] = record.data["threads"]
    priors = {(thread, started): tuple(had) for _, thread, started, *had in rows}
    # The main thread has the number of its process, and stands before all that were born of it.
    mains = [(Identity(pid=pid, started=started, boot=record.who.boot), tuple(had))
             for pid, thread, started, *had in rows if pid == thread]  # fmt: skip
    seen: set[int] = set()
    for main, prior in reversed(mains):
        for who in (main, *procs.family(main.pid)) if procs.alive(main) else ():
            if who.pid in seen:
                continue
            seen.add(who.pid)
            for thread, started in cores.threads(who.pid):
                belongs = priors.get((thread, started), prior)
                if cores.read(thread) == to != belongs:
                    yield thread, belongs


def _said(some: tuple[int, ...]) -> str:
    return f"processor{'s' * (len(some) != 1)} {', '.join(map(str, some)) or 'none'}"
