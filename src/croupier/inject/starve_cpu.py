"""Starve_cpu: leave a process a share of a processor, by a quota of the kernel's or by stopping it most of the time.

With a quota the target and all below it are put into a cell of their own (`system/quota.py`); whoever is born in there
is starved as well, and goes home with its parent. A busy neighbour of ours is a helper in the same cell. Without a
quota it is a suspension with a duty cycle, whose record is that of `suspend`. What `cores` does stands in `kept.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..model.errors import TargetError
from ..model.fault import Duty, Fault, Suspend
from ..model.faults.cpu import CLIMBS_BY, StarveCpu
from ..model.guard import Permit
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..model.units import Ms
from ..system import cores, freezer, procs, quota
from ..system.clock import now_us
from . import Act, Outcome, cells, helpers, kept, suspend, together, too_late

_SEEN_WITHIN_MS = 10_000
_SEEN_TICKS = 2
_NEIGHBOUR = """
import os, sys, time
cell, load, lasts, turn_s = sys.argv[1], float(sys.argv[2]) / 100, float(sys.argv[3]), 0.02
end = time.monotonic() + lasts
def is_inside():
    with open(os.path.join(cell, "cgroup.procs")) as file: return str(os.getpid()) in file.read().split()
# Busy nowhere but in there: nobody else is to be slowed.
while not is_inside() and time.monotonic() < end: time.sleep(0.005)
while (now := time.monotonic()) < end:
    while time.monotonic() < now + turn_s * load: pass
    if load < 1: time.sleep(turn_s * (1 - load))
"""


class StarveCpuInjector:
    """Carries out `starve_cpu`."""

    kind = "starve_cpu"
    spec: type[Fault] = StarveCpu
    summary = "Let a process have only a share of a processor, or only some of the processors, for a while."
    needs = (
        "For a quota, and so for `load` and `climb`: a cgroup with the cpu controller that this user may write to. "
        "`duty` needs nothing; `cores` needs Linux, and the same user as the target, or root."
    )
    heals = (
        "Everybody is moved back to their cgroup, and the cell taken away; or let go on; or has its processors again."
    )
    example = "starve_cpu: {percent: 10, for: 3s}"

    def lacking(self, fault: StarveCpu) -> str:
        """Whether the quota, or the processors, that it takes are missing."""
        if fault.cores is not None:
            return cores.lacking()
        return quota.lacking() if fault.needs_quota else ""

    def inject(self, permit: Permit, fault: StarveCpu, act: Act) -> Outcome:
        """Starve every target; landed when that was read back, or it was seen to stand still."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        if _by_duty(fault):
            return suspend.INJECTOR.inject(permit, _as_suspension(fault), act)
        starve = kept.keep if fault.cores is not None else _starve
        return together([starve(one, fault, act) for one in permit.targets], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: StarveCpu, act: Act) -> None:
        """A quota stays by itself, and climbs down where it is asked to; a duty cycle is kept up."""
        if _by_duty(fault):
            suspend.INJECTOR.hold(permit, _as_suspension(fault), act)
        elif fault.climb_ms:
            _climb(permit, fault, act)

    def heal(self, record: UndoRecord) -> Healing:
        """Give back the processors; or end the neighbour, move everybody back, and take the cell away. Then look."""
        return kept.heal(record) if kept.is_kept(record) else cells.release(record, quota.CONTROLLER)


def _by_duty(fault: StarveCpu) -> bool:
    if fault.cores is not None or fault.needs_quota:
        return False
    return fault.how == "duty" or bool(quota.lacking())


def _as_suspension(fault: StarveCpu) -> Suspend:
    whole_ms = int(fault.slice_ms)
    on_ms = max(1, round(whole_ms * (100 - fault.share) / 100))
    return Suspend(for_ms=fault.for_ms, tree=True, duty=Duty(on_ms=Ms(on_ms), off_ms=Ms(max(1, whole_ms - on_ms))))


def _starve(target: Seen, fault: StarveCpu, act: Act) -> Outcome:
    if late := too_late(target, act, "it could be starved"):
        return late
    cell = quota.cell_for(target.pid, cells.name_of(target, act, quota.CONTROLLER))
    if cell is None:
        return Outcome(result="missed", detail=f"{target}: its cgroup has no quota that may be written from here")
    record, members = cells.intend(target, fault, cell, quota.CONTROLLER, act)
    neighbour = None
    try:
        freezer.confine(cell, [])
        quota.limit(cell, _first(fault), int(fault.slice_ms))
        if fault.load:
            neighbour = helpers.start(record, _neighbour(cell, fault), act)
            freezer.confine(cell, [neighbour])
        freezer.confine(cell, members)
    except OSError as problem:
        return Outcome(result="unsure", detail=f"{target}: it could not be starved: {problem}")
    except TargetError as problem:
        return Outcome(result="unsure", detail=f"{target}: it could not be starved: {problem.message}")
    act.applied(record.key)
    if neighbour is not None:
        act.wait(_SEEN_WITHIN_MS, lambda: _is_busy(neighbour) or not procs.alive(neighbour))
    return _seen(target, fault, cell, len(members), neighbour)


def _first(fault: StarveCpu) -> float:
    return fault.share_at(1) if fault.climb_ms else fault.share


def _neighbour(cell: freezer.Cell, fault: StarveCpu) -> list[str]:
    """It ends by itself a little after the fault's time, should nobody end it."""
    lasts_s = int(fault.for_ms) / 1_000 + 30
    return [sys.executable, "-S", "-c", _NEIGHBOUR, cell.path, str(fault.load), f"{lasts_s:g}"]


def _is_busy(neighbour: Identity) -> bool:
    stat = procs.read_stat(neighbour.pid)
    return stat is not None and stat.started == neighbour.started and stat.ticks >= _SEEN_TICKS


def _seen(target: Seen, fault: StarveCpu, cell: freezer.Cell, count: int, neighbour: Identity | None) -> Outcome:
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as it was starved")
    share = quota.percent_of(cell)
    if target.pid not in freezer.members(cell) or share is None or round(share) != round(_first(fault)):
        return Outcome(result="unsure", detail=f"{target}: it was not seen to be held to {fault.share} %")
    if neighbour is not None and not (_is_busy(neighbour) and neighbour.pid in freezer.members(cell)):
        return Outcome(result="unsure", detail=f"{target}: its neighbour was not seen to be busy")
    below = f", with {count - 1} below it" if count > 1 else ""
    beside = f", together with a neighbour that is busy {fault.load} % of the time" if neighbour is not None else ""
    within = f" within {fault.climb_ms}" if fault.climb_ms else ""
    return Outcome(result="landed", detail=f"{target}: held to {fault.share} % of a processor{within}{below}{beside}")


def _climb(permit: Permit, fault: StarveCpu, act: Act) -> None:
    for step in range(2, CLIMBS_BY + 1):
        act.wait(int(fault.climb_ms) / CLIMBS_BY)
        if act.halted:
            return
        for target in permit.targets:
            cell = _cell_of(target, act)
            if cell is not None:
                try:
                    quota.limit(cell, fault.share_at(step), int(fault.slice_ms))
                except OSError:
                    # It is healed already, and the cell gone.
                    continue


def _cell_of(target: Seen, act: Act) -> freezer.Cell | None:
    """The cell that the target is in, if that is the one made for it."""
    name = f"{freezer.PREFIX}{cells.name_of(target, act, quota.CONTROLLER)}"
    for version in freezer.VERSIONS:
        path = Path(freezer.home_of(target.pid, version, quota.CONTROLLER))
        if path.name == name:
            return freezer.Cell(version, str(path), str(path.parent))
    return None


INJECTOR = StarveCpuInjector()
