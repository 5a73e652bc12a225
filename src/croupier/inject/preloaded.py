"""The fault `syscall` by a preloaded shim: for a round's processes where the kernel does not let us watch calls."""

from __future__ import annotations

import errno
from pathlib import Path

from ..model.faults.syscall import Syscall
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..system import call_shim, procs, shims
from ..system.clock import now_us
from . import Act, Outcome


def lacking(fault: Syscall) -> str:
    """What is missing for it, or beyond it, in a sentence; "" if nothing."""
    if fault.do not in call_shim.DOINGS:
        return f"do: {fault.do} needs `how: seccomp`; a preloaded shim can {', '.join(call_shim.DOINGS)}"
    able = call_shim.CAN_BE_CUT if fault.do == "short" else call_shim.CALLS
    beyond = [one for one in fault.calls if one not in able]
    if beyond:
        said = f"a preloaded shim sees no call {beyond[0]!r} to {fault.do}"
        return f"{said}: name some of {', '.join(sorted(able))}"
    if len(fault.path.encode()) > call_shim.MOST_PATH:
        return "the path is too long for a preloaded shim"
    return shims.lacking(call_shim.SHIM)


class Shimmed:
    """A rule that the shim of a process holds, with what it has met so far."""

    def __init__(self, top: Identity, fault: Syscall, file: Path) -> None:
        self.top = top
        self.fault = fault
        self._file = file

    @property
    def seen(self) -> int:
        """Calls that matched."""
        return call_shim.met(self._file)[0]

    @property
    def hits(self) -> int:
        """Calls that went wrong."""
        return call_shim.met(self._file)[1]


def begin(target: Seen, fault: Syscall, act: Act) -> Shimmed | Outcome:
    """Put the rule in force for a target; the outcome where it could not be."""
    who = target.identity
    file, why = shims.own_file(who, call_shim.VARIABLE)
    if file is not None and not shims.maps(who.pid, str(file)):
        file, why = None, "it does not have the shim in its memory (a static or a setuid program has not)"
    if file is None:
        return Outcome(result="missed", detail=f"{target}: {why}")
    if call_shim.is_in_force(file):
        return Outcome(result="missed", detail=f"{target}: its calls go wrong already")
    key = act.key(target)
    act.intend(
        UndoRecord(
            key=key, fault=fault.kind, who=who, data={"file": str(file)},
            deadline_us=now_us() + int(fault.for_ms) * 1_000,
        )
    )  # fmt: skip
    told = call_shim.Told(
        calls=fault.calls, do=fault.do, errno=getattr(errno, fault.errno, 0), kind=fault.on, nth=fault.nth,
        delay_us=int(fault.delay_ms) * 1_000, bytes=fault.bytes, every=fault.every, path=fault.path,
    )  # fmt: skip
    call_shim.put_in_force(file, told)
    act.applied(key)
    return Shimmed(who, fault, file)


def heal(record: UndoRecord) -> Healing:
    """Lift the rule, and see that it is lifted."""
    file = Path(str(record.data["file"]))
    try:
        call_shim.lift(file)
        if call_shim.is_in_force(file):
            return Healing(verified=False, note=f"the rule of {file} is still in force")
        seen, hits = call_shim.met(file)
    except FileNotFoundError:
        return Healing(verified=True, note=f"{file} is gone, and with it whoever lived by it")
    gone = "" if procs.alive(record.who) else f"; {record.who} is gone"
    return Healing(verified=True, note=f"{hits} of {seen} calls went wrong{gone}")
