"""Starve_memory: a limit on what a process, and all below it, may take from now on; and a helper that takes of that.

With a cgroup they are put into a cell of their own (`system/memory.py`), without one the address space of the target is
limited as `limit` does it. The helper of `pressure` and `leak` starts outside, and takes nothing until it has seen
itself in the cell, so that it is never the machine's memory that runs out.
"""

from __future__ import annotations

import sys

from ..model.errors import TargetError
from ..model.fault import Fault
from ..model.faults.limits import Limit
from ..model.faults.memory import StarveMemory
from ..model.guard import Permit
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..model.units import Bytes
from ..system import freezer, limits, memory, procs
from ..system.clock import now_us
from . import Act, Outcome, cells, helpers, limit, together, too_late

_SEEN_WITHIN_MS = 10_000
_HELPER = """
import mmap, os, sys, time
cell, most, speed, lasts = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
def say(word):
    with open("/proc/self/comm", "w") as file: file.write(word)
def is_inside():
    with open(os.path.join(cell, "cgroup.procs")) as file: return str(os.getpid()) in file.read().split()
end = time.monotonic() + lasts
while not is_inside():
    if time.monotonic() > end: sys.exit("never put into the cell")
    time.sleep(0.005)
try:
    # So that it is the target which goes without; an ordinary user may not.
    with open("/proc/self/oom_score_adj", "w") as file: file.write("-999")
except OSError: pass
area = mmap.mmap(-1, most, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
try: area.madvise(mmap.MADV_NOHUGEPAGE)
except (AttributeError, OSError): pass
done, began, said = 0, time.monotonic(), ""
while time.monotonic() < end:
    wanted = min(most, int((time.monotonic() - began) * speed) + mmap.PAGESIZE) if speed else most
    while done < wanted:
        area[done] = 1
        done += mmap.PAGESIZE
    word = "has it" if done >= most else "takes it"
    if word != said: say(word)
    said = word
    time.sleep(0.02)
"""


class StarveMemoryInjector:
    """Carries out `starve_memory`."""

    kind = "starve_memory"
    spec: type[Fault] = StarveMemory
    summary = "Let a process have only so much memory, for a while; or take it from it, at once or little by little."
    needs = "A cgroup with the memory controller that this user may write to. `rlimit` needs what `limit` needs."
    heals = (
        "Helpers are ended, everybody is moved back to their cgroup, and the cell taken away; or the limit is put back."
    )
    example = "starve_memory: {percent: 120, for: 3s}"

    def lacking(self, fault: StarveMemory) -> str:
        """Whether the options belong together, and whether there is a way."""
        if (fault.limit_bytes is None) == (fault.percent is None):
            return "give either limit or percent"
        if fault.how == "rlimit" and _takes(fault):
            return "pressure and leak need a cgroup: leave out `how: rlimit`"
        if fault.how == "cgroup" or _takes(fault):
            return memory.lacking()
        return limits.lacking() if _by_rlimit(fault) else ""

    def inject(self, permit: Permit, fault: StarveMemory, act: Act) -> Outcome:
        """Starve every target; landed when its limit was read back, and what a helper took was seen to be used."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        starve = _by_limit if _by_rlimit(fault) else _by_cell
        return together([starve(one, fault, act) for one in permit.targets], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: StarveMemory, act: Act) -> None:
        """A limit stays by itself, and a leak is the helper's."""

    def heal(self, record: UndoRecord) -> Healing:
        """End the helpers, move everybody back, take the cell away; or put the limit back."""
        if "cell" not in record.data:
            return limit.INJECTOR.heal(record)
        killed = memory.kills(cells.cell_of(record))
        healing = cells.release(record, memory.CONTROLLER)
        notes = [healing.note, f"{killed} killed for want of memory" if killed else ""]
        return Healing(verified=healing.verified, note="; ".join(filter(None, notes)))


def _by_rlimit(fault: StarveMemory) -> bool:
    return fault.how == "rlimit" or (fault.how == "auto" and bool(memory.lacking()))


def _takes(fault: StarveMemory) -> bool:
    return fault.pressure_bytes is not None or fault.leak is not None


def _room(fault: StarveMemory, whom: list[Identity]) -> int:
    """What they may take from now on, in whole pages."""
    uses = procs.usage(one.pid for one in whom).rss_bytes
    may = uses * fault.percent // 100 if fault.percent is not None else int(fault.limit_bytes or 0)
    return max(0, may - uses) // memory.PAGE_BYTES * memory.PAGE_BYTES


def _by_limit(target: Seen, fault: StarveMemory, act: Act) -> Outcome:
    if late := too_late(target, act, "it could be starved"):
        return late
    to = memory.address_space(target.identity) + _room(fault, [target.identity])
    return limit.lower(target, Limit(for_ms=fault.for_ms, as_bytes=Bytes(to)), act, recorded_as=fault.kind)


def _by_cell(target: Seen, fault: StarveMemory, act: Act) -> Outcome:
    if late := too_late(target, act, "it could be starved"):
        return late
    cell = memory.cell_for(target.pid, cells.name_of(target, act, memory.CONTROLLER))
    if cell is None:
        return Outcome(result="missed", detail=f"{target}: its cgroup cannot be given a limit of memory from here")
    room = _room(fault, [target.identity, *(one.identity for one in act.below(target).free)])
    taken = (room if fault.pressure_bytes is None else int(fault.pressure_bytes)) if _takes(fault) else 0
    if taken and (wrong := _too_much(taken, room)):
        return Outcome(result="missed", detail=f"{target}: {wrong}")
    if _takes(fault) and not taken:
        return Outcome(
            result="missed", detail=f"{target}: it uses all that it may already, so there is nothing to take"
        )
    record, members = cells.intend(target, fault, cell, memory.CONTROLLER, act)
    helper = None
    try:
        freezer.confine(cell, [])
        memory.limit(cell, room)
        freezer.confine(cell, members)
        if taken:
            helper = helpers.start(record, _command(cell, fault, taken), act)
            freezer.confine(cell, [helper])
    except OSError as problem:
        return Outcome(result="unsure", detail=f"{target}: it could not be starved: {problem}")
    except TargetError as problem:
        return Outcome(result="unsure", detail=f"{target}: nothing could be taken: {problem.message}")
    act.applied(record.key)
    return _seen(target, fault, cell, room, taken, helper, act)


def _too_much(taken: int, room: int) -> str:
    if taken > room:
        return f"only {Bytes(room)} are left to it, so {Bytes(taken)} cannot be taken of that"
    if taken > memory.available() // 2:
        return f"{Bytes(taken)} are more than half of what this machine has free"
    return ""


def _command(cell: freezer.Cell, fault: StarveMemory, taken: int) -> list[str]:
    """The command of the helper. It ends by itself a little after the fault's time, should nobody end it."""
    speed = fault.leak.per_second if fault.leak else 0
    lasts = f"{int(fault.for_ms) / 1_000 + 30:g}"
    return [sys.executable, "-S", "-c", _HELPER, cell.path, str(taken), f"{speed:f}", lasts]


def _seen(
    target: Seen, fault: StarveMemory, cell: freezer.Cell, room: int, taken: int, helper: Identity | None, act: Act
) -> Outcome:
    words = ("", "has it", "takes it") if fault.leak else ("", "has it")
    if helper is not None:
        act.wait(_SEEN_WITHIN_MS, lambda: helpers.says(helper) in words or not procs.alive(target.identity))
    if memory.kills(cell) and not procs.alive(target.identity):
        return Outcome(
            result="landed", detail=f"{target}: it had no more than {Bytes(room)} left, and was killed for it"
        )
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as it was starved")
    if target.pid not in freezer.members(cell) or memory.most(cell) != room:
        return Outcome(result="unsure", detail=f"{target}: it was not seen to be held to {Bytes(room)}")
    said = f"{target}: it may take {Bytes(room)} more"
    if helper is None:
        return Outcome(result="landed", detail=said)
    if helpers.says(helper) not in words[1:] or memory.used(cell) < (memory.PAGE_BYTES if fault.leak else taken):
        return Outcome(result="unsure", detail=f"{said}, and nobody was seen to take of that")
    how = f"{Bytes(taken)} leak away, {fault.leak}" if fault.leak else f"{Bytes(taken)} are taken"
    return Outcome(result="landed", detail=f"{said}, of which {how}")


INJECTOR = StarveMemoryInjector()
