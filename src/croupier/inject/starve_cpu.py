"""Starve_cpu: leave a process a share of a processor, by a quota of the kernel's or by stopping it most of the time.

With a quota the target and all below it are put into a cell of their own (`system/quota.py`); whoever is born in there
is starved as well, and goes home with its parent. Without one it is a suspension with a duty cycle, whose record is
that of `suspend`.
"""

from __future__ import annotations

from ..model.fault import Duty, Fault, Suspend
from ..model.faults.cpu import StarveCpu
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..model.units import Ms
from ..system import freezer, procs, quota
from ..system.clock import now_us
from . import Act, Outcome, cells, suspend, together, too_late

_PERIOD_MS = 100


class StarveCpuInjector:
    """Carries out `starve_cpu`."""

    kind = "starve_cpu"
    spec: type[Fault] = StarveCpu
    summary = "Let a process have only a share of a processor, for a while."
    needs = "For a quota: a cgroup with the cpu controller that this user may write to. `duty` needs nothing."
    heals = "Everybody is moved back to their cgroup, and the cell taken away; or let go on."
    example = "starve_cpu: {percent: 10, for: 3s}"

    def lacking(self, fault: StarveCpu) -> str:
        """Whether the quota that was asked for is missing."""
        return quota.lacking() if fault.how == "quota" else ""

    def inject(self, permit: Permit, fault: StarveCpu, act: Act) -> Outcome:
        """Starve every target; landed when its quota was read back, or it was seen to stand still."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        if _by_duty(fault):
            return suspend.INJECTOR.inject(permit, _as_suspension(fault), act)
        return together([_starve(one, fault, act) for one in permit.targets], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: StarveCpu, act: Act) -> None:
        """A quota stays by itself; a duty cycle is kept up."""
        if _by_duty(fault):
            suspend.INJECTOR.hold(permit, _as_suspension(fault), act)

    def heal(self, record: UndoRecord) -> Healing:
        """Move everybody back, take the cell away, and see that it is gone."""
        return cells.release(record, quota.CONTROLLER)


def _by_duty(fault: StarveCpu) -> bool:
    return fault.how == "duty" or (fault.how == "auto" and bool(quota.lacking()))


def _as_suspension(fault: StarveCpu) -> Suspend:
    on_ms = max(1, round(_PERIOD_MS * (100 - fault.percent) / 100))
    return Suspend(for_ms=fault.for_ms, tree=True, duty=Duty(on_ms=Ms(on_ms), off_ms=Ms(max(1, _PERIOD_MS - on_ms))))


def _starve(target: Seen, fault: StarveCpu, act: Act) -> Outcome:
    if late := too_late(target, act, "it could be starved"):
        return late
    cell = quota.cell_for(target.pid, cells.name_of(target, act, quota.CONTROLLER))
    if cell is None:
        return Outcome(result="missed", detail=f"{target}: its cgroup has no quota that may be written from here")
    record, members = cells.intend(target, fault, cell, quota.CONTROLLER, act)
    try:
        freezer.confine(cell, [])
        quota.limit(cell, fault.percent)
        freezer.confine(cell, members)
    except OSError as problem:
        return Outcome(result="unsure", detail=f"{target}: it could not be starved: {problem}")
    act.applied(record.key)
    return _seen(target, fault, cell, len(members))


def _seen(target: Seen, fault: StarveCpu, cell: freezer.Cell, count: int) -> Outcome:
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as it was starved")
    share = quota.percent_of(cell)
    if target.pid not in freezer.members(cell) or share is None or round(share) != fault.percent:
        return Outcome(result="unsure", detail=f"{target}: it was not seen to be held to {fault.percent} %")
    below = f", with {count - 1} below it" if count > 1 else ""
    return Outcome(result="landed", detail=f"{target}: held to {fault.percent} % of a processor{below}")


INJECTOR = StarveCpuInjector()
