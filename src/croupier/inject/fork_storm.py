"""Fork_storm: a helper of ours forks until the cell that it shares with the target may hold nobody more.

The cell is ours and has its limit (`system/tasks.py`) before anybody is in it. The helper starts outside and forks
nothing until it has seen itself in there, so that a storm is never loose. Landed is a cell that was seen to be full.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..model.errors import TargetError
from ..model.fault import Fault
from ..model.faults.limits import ForkStorm
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import freezer, procs, tasks
from ..system.clock import now_us
from . import Act, Outcome, cells, helpers, together, too_late

_SEEN_WITHIN_MS = 10_000
_HELPER = """
import os, sys, time
cell, leave, lasts = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def read(name):
    with open(os.path.join(cell, name)) as file: return file.read()
end = time.monotonic() + lasts
while time.monotonic() < end:
    time.sleep(0.005)
    # Only in there, and only below a limit.
    if str(os.getpid()) not in read("cgroup.procs").split(): continue
    most = read("pids.max").strip()
    if most == "max": continue
    while int(read("pids.current")) < int(most) - leave:
        try:
            if os.fork() == 0:
                time.sleep(max(0, end - time.monotonic()))
                os._exit(0)
        except OSError:
            break
"""


class ForkStormInjector:
    """Carries out `fork_storm`."""

    kind = "fork_storm"
    spec: type[Fault] = ForkStorm
    summary = "Use up the processes that a target may start, by a storm of our own beside it."
    needs = "A cgroup with the pids controller that this user may write to."
    heals = "The storm is ended, everybody else moved back to their cgroup, and the cell taken away."
    example = "fork_storm: {processes: 32, for: 3s}"

    def lacking(self, fault: ForkStorm) -> str:
        """Whether processes can be counted here, and the storm is larger than what it leaves."""
        if fault.leave >= fault.processes:
            return f"with leave {fault.leave} a storm of {fault.processes} processes takes nothing"
        return tasks.lacking()

    def inject(self, permit: Permit, fault: ForkStorm, act: Act) -> Outcome:
        """A storm beside every target; landed when its cell was seen to be full."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        return together([_storm(one, fault, act) for one in permit.targets], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: ForkStorm, act: Act) -> None:
        """The helper keeps it up."""

    def heal(self, record: UndoRecord) -> Healing:
        """End the storm, and take the cell away."""
        return cells.release(record, tasks.CONTROLLER)


def _storm(target: Seen, fault: ForkStorm, act: Act) -> Outcome:
    who = target.identity
    if late := too_late(target, act, "a storm could be raised beside it"):
        return late
    cell = tasks.cell_for(who.pid, cells.name_of(target, act, tasks.CONTROLLER))
    if cell is None:
        return Outcome(result="missed", detail=f"{target}: its cgroup cannot be given a limit of processes from here")
    record, members = cells.intend(target, fault, cell, tasks.CONTROLLER, act)
    try:
        freezer.confine(cell, [])
        # Before anybody is in it: a limit that holds whoever comes.
        tasks.limit(cell, fault.processes)
        freezer.confine(cell, members)
        most = (tasks.count(cell) or (0, 0))[0] + fault.processes
        tasks.limit(cell, most)
        helper = helpers.start(record, command(cell, fault), act)
        freezer.confine(cell, [helper])
    except OSError as problem:
        return Outcome(result="unsure", detail=f"{target}: no storm could be raised: {problem}")
    except TargetError as problem:
        return Outcome(result="unsure", detail=f"{target}: no storm could be raised: {problem.message}")
    act.wait(_SEEN_WITHIN_MS, lambda: _is_full(cell, fault.leave) or not procs.alive(helper) or not procs.alive(who))
    return _seen(target, fault, cell, most)


def command(cell: freezer.Cell, fault: ForkStorm) -> list[str]:
    """The command of the helper. It ends by itself a little after the fault's time, should nobody end it."""
    return [sys.executable, "-S", "-c", _HELPER, cell.path, str(fault.leave), f"{int(fault.for_ms) / 1_000 + 30:g}"]


def _is_full(cell: freezer.Cell, leave: int) -> bool:
    found = tasks.count(cell)
    return found is not None and found[0] >= found[1] - leave


def _seen(target: Seen, fault: ForkStorm, cell: freezer.Cell, most: int) -> Outcome:
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as the storm rose")
    found = tasks.count(cell)
    if found is None or found[1] != most or not _is_full(cell, fault.leave) or target.pid not in freezer.members(cell):
        return Outcome(result="unsure", detail=f"{target}: its cell was not seen to be full: {Path(cell.path).name}")
    return Outcome(
        result="landed", detail=f"{target}: {most - found[0]} of {most} processes and threads are free to it"
    )


INJECTOR = ForkStormInjector()
