"""Limit: lower what a running process may use, for a while.

Only soft limits are lowered, so that putting them back needs no right. The record holds what each process had. Whoever
was born to a limited process meanwhile inherited our limit, and gets what its parent had. A limit that is neither what
it was nor what we made of it was chosen by the process itself, and stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..model.fault import Fault
from ..model.faults.limits import Limit
from ..model.guard import Permit
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..system import limits, procs
from ..system.clock import now_us
from . import Act, Outcome, together, too_late

_WALKS = 8
"""How often we look again for children that were born while we were at it."""

Prior = list[int]
"""pid, start time, then the soft limit that it had of each name, in the order of `names`."""


class LimitInjector:
    """Carries out `limit`."""

    kind = "limit"
    spec: type[Fault] = Limit
    summary = "Lower what a running process may use, for a while: open files, processes, file size, memory, core dumps."
    needs = "prlimit(2): Linux, and the same user as the target, or root."
    heals = "Each process gets back the soft limits that it had, children born meanwhile those of their parent."
    example = "limit: {nofile: 16, for: 3s}"

    def lacking(self, fault: Limit) -> str:
        """Whether there is prlimit, and whether anything is to be limited at all."""
        if not fault.lowered:
            return "it limits nothing: give one of nofile, nproc, fsize, as, core"
        return limits.lacking()

    def inject(self, permit: Permit, fault: Limit, act: Act) -> Outcome:
        """Lower the limits of each target; landed when they were read back."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        return together([lower(one, fault, act) for one in permit.targets], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: Limit, act: Act) -> None:
        """A limit stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Give back what the record says, and look again."""
        troubles: list[str] = []
        for _ in range(_WALKS):
            lowered = list(_lowered(record))
            if not lowered:
                break
            for who, name, prior in lowered:
                try:
                    limits.set_soft(who, name, prior)
                except OSError as error:
                    troubles.append(f"{who}: {name}: {error.strerror}")
            if troubles:
                break
        left = [f"{who} {name}" for who, name, _ in _lowered(record)]
        if left:
            return Healing(verified=False, note="; ".join([f"still lowered: {', '.join(left)}", *troubles]))
        return Healing(verified=True, note="" if procs.alive(record.who) else f"{record.who} is gone")


def lower(target: Seen, fault: Limit, act: Act, recorded_as: str = "limit") -> Outcome:
    """Lower the limits of one target; the record is that of the fault `recorded_as`, and is healed as ours."""
    who, names = target.identity, list(fault.lowered)
    if late := too_late(target, act, "it could be limited"):
        return late
    free = [name for name in names if not limits.is_held_to(who, name)]
    if free:
        return Outcome(result="missed", detail=f"{target}: it is root in effect, and held to no {' or '.join(free)}")
    record = UndoRecord(
        key=act.key(target), fault=recorded_as, who=who,
        data={"names": names, "to": list(fault.lowered.values()), "priors": []},
        deadline_us=now_us() + int(fault.for_ms) * 1_000,
    )  # fmt: skip
    seen = False
    for _ in range(_WALKS):
        fresh = [one for one in _whom(target, fault, act) if one.pid not in {row[0] for row in record.data["priors"]}]
        rows = [row for one in fresh if (row := _row(one, names)) is not None]
        if not rows:
            break
        record = msgspec.structs.replace(record, data={**record.data, "priors": [*record.data["priors"], *rows]})
        # First what each had, then the change.
        act.intend(record)
        for row in rows:
            for name, to in fault.lowered.items():
                try:
                    limits.set_soft(_identity(record, row), name, to)
                except (OSError, ValueError) as error:
                    return Outcome(result="unsure", detail=f"{target}: {name}: {error}")
        # At once: who ends of it does so at its next call.
        seen = seen or not _unlike(who, record)
    if not record.data["priors"]:
        return Outcome(result="missed", detail=f"{target}: gone before it could be limited")
    act.applied(record.key)
    return _seen(target, record, seen=seen)


def _whom(target: Seen, fault: Limit, act: Act) -> list[Identity]:
    below = [one.identity for one in act.below(target).free] if fault.tree else []
    return [target.identity, *below]


def _row(who: Identity, names: list[str]) -> Prior | None:
    found = [limits.read(who, name) for name in names]
    if any(one is None for one in found):
        return None
    return [who.pid, who.started, *(one[0] for one in found if one is not None)]


def _seen(target: Seen, record: UndoRecord, *, seen: bool) -> Outcome:
    gone = not procs.alive(target.identity)
    if gone and not seen:
        return Outcome(result="missed", detail=f"{target}: it ended by itself as it was limited")
    if not gone and (unlike := _unlike(target.identity, record)):
        return Outcome(result="unsure", detail=f"{target}: not seen to be held to {unlike}")
    said = ", ".join(f"{name} {to}" for name, to in _wanted(record).items())
    more = f", with {len(record.data['priors']) - 1} below it" if len(record.data["priors"]) > 1 else ""
    return Outcome(result="landed", detail=f"{target}: {said}{more}{'; it has ended since' * gone}")


def _unlike(who: Identity, record: UndoRecord) -> str:
    """The first limit that is not as it was made."""
    for name, to in _wanted(record).items():
        now = limits.read(who, name)
        if now is None or now[0] != to:
            return f"{name} {to}"
    return ""


def _wanted(record: UndoRecord) -> dict[str, int]:
    return dict(zip(record.data["names"], record.data["to"], strict=True))


def _lowered(record: UndoRecord) -> Iterator[tuple[Identity, str, int]]:
    """Each process that has a limit of our making, with the one that it should have."""
    names, made, rows = record.data["names"], record.data["to"], record.data["priors"]
    listed = {(row[0], row[1]): row[2:] for row in rows}
    tops = [_identity(record, row) for row in rows]
    for top in tops:
        for who in (top, *procs.family(top.pid)) if procs.alive(top) else ():
            # A child that is not listed was born later: what it should have is what its parent had.
            priors = listed.get((who.pid, who.started), listed[top.pid, top.started])
            for name, to, prior in zip(names, made, priors, strict=True):
                now = limits.read(who, name)
                if now is not None and now[0] == to and to != prior:
                    yield who, name, prior


def _identity(record: UndoRecord, row: Prior) -> Identity:
    return Identity(pid=row[0], started=row[1], boot=record.who.boot)


INJECTOR = LimitInjector()
