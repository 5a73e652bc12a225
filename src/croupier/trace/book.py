"""What both backends keep of a trace: who is who, what was noted, and which stopped calls concern the handler."""

# ruff: noqa: PTH115, PTH116, PTH123 - plain system calls, since this runs at every call of a workload

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Final

from ..model.noun import Noun
from .acts import Act, Fail
from .call import Call, Scene, shared_mapping
from .table import O_CREAT, O_TMPFILE, O_TRUNC, PROT_WRITE, REFUSED, SPAWNING, Machine

_DEPENDS: Final = REFUSED | SPAWNING | {"mmap", "mprotect", "openat2", "io_submit"}

OnCall = Callable[[Call], Act]
OnExit = Callable[[Call, int], None]
OnOutput = Callable[[bytes], None]


class Traced(Noun, frozen=True, kw_only=True):
    """How a traced workload went."""

    level: str
    """The backend that watched it: `seccomp` or `ptrace`."""
    code: int | None
    """The exit code of the main process; None if a signal ended it."""
    signal: int | None
    """The signal that ended it; None if it exited."""
    calls: int
    """How many calls the handler was asked about."""
    processes: int
    """How many processes made them."""
    killed_at: int | None = None
    """The index of the call before (or within) which the handler had the tree killed."""
    ended: str = "by itself"
    """`by itself`, `killed` (by the handler), `deadline`, `stopped` (the caller asked), or `lingering` (others outlived
    the main process)."""
    seconds: float = 0.0
    blind: tuple[str, ...] = ()
    """What could have changed files without being seen, or went differently because it was watched; in sentences."""


class Book:
    """The state of one trace that does not depend on how calls are stopped."""

    def __init__(self, machine: Machine, calls: frozenset[str]) -> None:
        self.machine = machine
        self.calls = calls
        self.names = {number: name for name, number in machine.numbers.items()}
        self.scene = Scene()
        self.index = 0
        self.no_new_privileges = False
        self._blind: dict[str, None] = {}
        self._who: dict[int, tuple[int, int, int]] = {}
        self._processes: dict[int, int] = {}
        self._threads: dict[int, dict[int, int]] = {}
        self._met = 0
        self._maps_shared = False
        # Calls that concern the handler whatever their arguments are.
        self._plain = {number: name for number, name in self.names.items() if name in calls - _DEPENDS}

    @property
    def filtered(self) -> frozenset[str]:
        """The names that the filter stops: the asked for, and those that tell us about blind spots."""
        return self.calls | SPAWNING

    @property
    def living(self) -> tuple[int, ...]:
        """The processes that made calls, and are not known to have ended."""
        return tuple(self._processes)

    @property
    def blind(self) -> tuple[str, ...]:
        """What was noted, each once, in the order of appearance."""
        return tuple(self._blind)

    @property
    def processes(self) -> int:
        """How many processes made calls."""
        return self._met

    def result(self, level: str, status: int | None, ended: str, killed_at: int | None) -> Traced:
        """What there is to tell in the end."""
        code = os.waitstatus_to_exitcode(status) if status is not None else None
        return Traced(
            level=level,
            code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            calls=self.index,
            processes=self.processes,
            killed_at=killed_at,
            ended=ended or "by itself",
            seconds=(time.monotonic_ns() - self.scene.started_ns) / 1e9,
            blind=self.blind,
        )

    def note(self, sentence: str) -> None:
        """Write down what could not be seen, or was changed by our watching."""
        self._blind.setdefault(sentence)

    def consider(self, tid: int, number: int, arch: int, args: tuple[int, ...], ip: int) -> Call | Fail | None:
        """The call for the handler; a failure that is the answer; or None for one that may just go."""
        name = self._plain.get(number)
        if name is not None and arch == self.machine.audit:
            self.index += 1
            return self._call(tid, number, name, args, ip)
        if arch != self.machine.audit:
            self.note(f"{_exe(tid) or f'process {tid}'} is a program of another architecture: its calls were not seen")
            return None
        name = self.names.get(number, "")
        if name in REFUSED:
            self.note("io_uring was refused (ENOSYS), so that the program used plain calls")
            return Fail(errno=errno.ENOSYS)
        if name == "seccomp":
            self.note(f"{_exe(tid)} wanted to supervise calls itself (a seccomp listener) and was told EBUSY")
            return Fail(errno=errno.EBUSY)
        if name in SPAWNING:
            self._note_program(tid, number, name, args, ip)
        if name not in self.calls:
            return None
        if name == "io_submit":
            self.note("io_submit writes in the background; of each batch only the first write is described")
        if name == "mmap" and not args[2] & PROT_WRITE:
            # Read only for now; mprotect may make it writable later.
            self._maps_shared = True
            return None
        if name == "mprotect" and not (self._maps_shared and shared_mapping(tid, args[0])):
            return None
        if name == "openat2":
            call = self._call(tid, number, name, args, ip)
            if not call.flags & (O_CREAT | O_TRUNC | O_TMPFILE):
                return None
        self.index += 1
        return self._call(tid, number, name, args, ip)

    def forget(self, tid: int) -> None:
        """A thread ended; its number may come again as another's."""
        who = self._who.pop(tid, None)
        if who and who[0] == tid:
            self._processes.pop(tid, None)
            self._threads.pop(tid, None)

    def _call(self, tid: int, number: int, name: str, args: tuple[int, ...], ip: int) -> Call:
        who = self._who.get(tid) or self._meet(tid)
        return Call(self.scene, self.index, tid, who, name, number, args, ip)

    def _meet(self, tid: int) -> tuple[int, int, int]:
        """The process of a thread, its number in the trace, and the thread's number in the process."""
        pid = _group_of(tid)
        process = self._processes.get(pid)
        if process is None:
            self._met += 1
            process = self._processes[pid] = self._met
        threads = self._threads.setdefault(pid, {})
        self._who[tid] = found = (pid, process, threads.setdefault(tid, len(threads) + 1))
        return found

    def _note_program(self, tid: int, number: int, name: str, args: tuple[int, ...], ip: int) -> None:
        """What is different for a program because it is watched, or hides from us."""
        path = Call(self.scene, 0, tid, (tid, 0, 0), name, number, args, ip).path
        try:
            mode = os.stat(path).st_mode
        except OSError:
            # A shell tries one directory after the other.
            return
        if not os.access(path, os.R_OK):
            self.note(f"{path} may not be read, so the kernel hides which files it works on")
        if self.no_new_privileges and (mode & stat.S_ISUID or (mode & stat.S_ISGID and mode & stat.S_IXGRP)):
            self.note(f"{path} is setuid or setgid, and ran without those privileges")


def _group_of(tid: int) -> int:
    try:
        with open(f"/proc/{tid}/status", "rb", buffering=0) as file:
            for line in file.read(512).split(b"\n"):
                if line.startswith(b"Tgid:"):
                    return int(line[5:])
    except OSError:
        pass
    return tid


def _exe(tid: int) -> str:
    try:
        return os.readlink(f"/proc/{tid}/exe")
    except OSError:
        return ""
