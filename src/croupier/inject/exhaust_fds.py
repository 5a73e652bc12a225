"""Exhaust_fds: leave a process only so many free file descriptors, by a limit just above what it has open.

A new descriptor takes the lowest free number (open(2)), and has to be below the limit. So it is not how many are open
that counts, but which: the limit goes to where exactly `leave` numbers below it are free. It is lowered and given back
as `limit` does.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ..model.fault import Fault
from ..model.faults.limits import ExhaustFds, Limit
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import limits
from ..system.clock import now_us
from . import Act, Outcome, limit, together, too_late

_NAME = "NOFILE"
_SEEN_WITHIN_MS = 500


class ExhaustFdsInjector:
    """Carries out `exhaust_fds`."""

    kind = "exhaust_fds"
    spec: type[Fault] = ExhaustFds
    summary = "Leave a process only so many free file descriptors, for a while."
    needs = limit.INJECTOR.needs
    heals = "It gets back the soft limit of open files that it had, and so do children that were born meanwhile."
    example = "exhaust_fds: {for: 3s}"

    def lacking(self, fault: ExhaustFds) -> str:
        """Whether there is prlimit."""
        return limits.lacking()

    def inject(self, permit: Permit, fault: ExhaustFds, act: Act) -> Outcome:
        """Take the descriptors of each target; landed when its limit, and what it has open, were seen."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        return together([_exhaust(one, fault, act) for one in permit.targets], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: ExhaustFds, act: Act) -> None:
        """A limit stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Give back what the record says, and look again."""
        return limit.INJECTOR.heal(record)


def _exhaust(target: Seen, fault: ExhaustFds, act: Act) -> Outcome:
    who = target.identity
    if late := too_late(target, act, "its descriptors could be taken"):
        return late
    used, before = limits.open_files(who), limits.read(who, _NAME)
    if used is None or before is None:
        return Outcome(result="missed", detail=f"{target}: what it has open cannot be seen from here")
    bound = _limit_for(used, fault.leave)
    if 0 <= before[0] <= bound:
        left = _free(used, before[0])
        return Outcome(result="missed", detail=f"{target}: it has only {left} free, by a limit of {before[0]}")
    lowered = limit.lower(target, Limit(for_ms=fault.for_ms, nofile=bound), act, recorded_as=fault.kind)
    if lowered.result != "landed":
        return lowered
    # Whoever closed some meanwhile may be on the way to open as many again.
    act.wait(_SEEN_WITHIN_MS, lambda: _free(limits.open_files(who), bound) <= fault.leave)
    now = limits.open_files(who)
    if now is None:
        return Outcome(result="missed", detail=f"{target}: it ended by itself as its descriptors were taken")
    free = _free(now, bound)
    said = f"{target}: {free} descriptors free, {len(now)} open, the limit is {bound}"
    return Outcome(result="landed" if free <= fault.leave else "unsure", detail=said)


def _free(used: AbstractSet[int] | None, bound: int) -> int:
    """How many numbers below a limit are not in use."""
    return 0 if used is None else bound - len([one for one in used if one < bound])


def _limit_for(used: AbstractSet[int], leave: int) -> int:
    """The lowest limit with exactly so many free numbers below it, and the next free one at it."""
    bound = free = 0
    while bound in used or free < leave:
        free += bound not in used
        bound += 1
    return bound


INJECTOR = ExhaustFdsInjector()
