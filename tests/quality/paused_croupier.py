"""Croupiers that stand still before one change that they make: `croupier run`, with a brake on its injections.

Every change that is made while a fault is applied or healed is a boundary: a call that writes, sends, signals, moves
or mounts, told by its place (`apply: before prlimit in limits.set_soft`). So is the begin and the end of each, and
what is written down afterwards. At the boundary that is asked for (and always at `apply: begin`) its name is written to
one descriptor, and a byte is waited for on another. Where none is asked for, every boundary is told and passed.

    python paused_croupier.py SOCKET

starts one for each request on that socket, as a fork of itself: what takes the time of a round is importing.
"""

from __future__ import annotations

import _socket
import io
import os
import signal
import socket
import sys
import threading
import traceback
from collections import Counter
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NoReturn

import msgspec

from croupier import built_in
from croupier.cli import main
from croupier.model.arrangement import ARRANGEMENTS
from croupier.model.faults import FAULTS
from croupier.model.undo import UndoStep
from croupier.registry import Catalogue
from croupier.supervise.keeper import Keeper

BEGIN = "apply: begin"
MOST_ALIKE = 2
"""How many of the same boundary count: those of a loop are alike."""

_MODULES = frozenset({"posix", "_signal", "signal", "resource", "_posixsubprocess", "fcntl", "time"})
_CALLS = frozenset(
    (
        "write", "writev", "pwrite", "kill", "killpg", "pidfd_send_signal", "prlimit", "setrlimit", "setpriority",
        "sched_setaffinity", "sched_setscheduler", "mkdir", "rmdir", "unlink", "remove", "rename", "replace", "link",
        "symlink", "chmod", "chown", "lchown", "utime", "truncate", "ftruncate", "posix_fallocate", "copy_file_range",
        "sendfile", "splice", "setxattr", "removexattr", "fork_exec", "fork", "posix_spawn", "mkfifo", "mknod", "ioctl",
        "clock_settime", "setns", "unshare",
    )
)  # fmt: skip
_ON_FILES = frozenset({"write", "writelines", "truncate", "send", "sendall", "sendmsg", "sendto", "connect", "bind"})
_NO_CHANGE = frozenset({"loop.post", "limits.read"})
"""Places in which nothing outside is changed: they wake a loop of ours, or call prlimit(2) to read."""
_OWN = str(Path(__file__).resolve())


class Brake:
    """Knows where each thread is, and holds the one that comes to the boundary."""

    def __init__(self, boundary: str, told: int, go: int) -> None:
        self._boundary = boundary
        self._told = told
        self._go = go
        self._phase = threading.local()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._fired: set[str] = set()

    def phase(self, name: str, work: Any) -> Any:
        """Do some work, with every change in it a boundary."""
        outer, self._phase.name = getattr(self._phase, "name", ""), name
        sys.setprofile(self._seen)
        try:
            self.reach(f"{name}: begin")
            answer = work()
            self.reach(f"{name}: end")
            return answer
        finally:
            self._phase.name = outer
            if not outer:
                sys.setprofile(None)

    def reach(self, name: str) -> None:
        """Somebody is here."""
        with self._lock:
            self._counts[name] += 1
            nth = self._counts[name]
            name = name if nth == 1 else f"{name} #{nth}"
            if nth > MOST_ALIKE or (self._boundary and name not in (BEGIN, self._boundary)) or name in self._fired:
                return
            self._fired.add(name)
        os.write(self._told, f"{name}\n".encode())
        if self._boundary or name == BEGIN:
            os.read(self._go, 1)

    def _seen(self, frame: FrameType, event: str, what: Any) -> None:
        name = getattr(self._phase, "name", "")
        if not name or frame.f_code.co_filename == _OWN:
            return
        if event == "c_call" and _changes(what):
            place = _place(frame)
            if place not in _NO_CHANGE:
                self.reach(f"{name}: before {what.__name__} in {place}")
        elif event == "call" and _calls_the_c_library(frame.f_code):
            self.reach(f"{name}: before {frame.f_code.co_name} in {Path(frame.f_code.co_filename).stem}")


def _changes(call: Any) -> bool:
    if call.__name__ in _CALLS and call.__module__ in _MODULES:
        return True
    on = getattr(call, "__self__", None)
    return call.__name__ in _ON_FILES and isinstance(on, io.IOBase | _socket.socket)


@cache
def _calls_the_c_library(code: CodeType) -> bool:
    return "croupier/system" in code.co_filename and "_libc" in code.co_names


def _place(frame: FrameType) -> str:
    """The nearest function of croupier's: the standard library's are of no interest."""
    at: FrameType | None = frame
    while at is not None and "croupier/" not in at.f_code.co_filename:
        at = at.f_back
    code = (at or frame).f_code
    return f"{Path(code.co_filename).stem}.{code.co_name}"


class Braked:
    """An injector, with the brake on."""

    def __init__(self, injector: Any, brake: Brake) -> None:
        self._injector = injector
        self._brake = brake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._injector, name)

    def inject(self, *given: Any) -> Any:
        return self._brake.phase("apply", lambda: self._injector.inject(*given))

    def hold(self, *given: Any) -> Any:
        return self._brake.phase("hold", lambda: self._injector.hold(*given))

    def heal(self, *given: Any) -> Any:
        return self._brake.phase("heal", lambda: self._injector.heal(*given))


def put_brakes_on(brake: Brake) -> None:
    """From now on, whatever the registry hands out stops where it should."""
    plain, step = Catalogue.injector, Keeper.step

    def injector(self: Catalogue, kind: str) -> Any:
        return Braked(plain(self, kind), brake)

    def written(self: Keeper, undo: UndoStep) -> None:
        if undo.state == "applied":
            return step(self, undo)
        brake.reach(f"heal: before {undo.state} is written")
        step(self, undo)
        return brake.reach(f"heal: after {undo.state} was written")

    Catalogue.injector = injector  # type: ignore[method-assign]
    Keeper.step = written  # type: ignore[method-assign]


class Request(msgspec.Struct, frozen=True):
    """What is to be run; with it come the descriptors to tell, to wait on, and to print to."""

    boundary: str
    argv: list[str]
    cwd: str


def serve(line: socket.socket) -> None:
    """Start what is asked for until nobody asks any more; the answer is the number of the process."""
    # Nobody waits for them here: whoever asked sees their end by itself.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, files, _, _ = socket.recv_fds(line, 1 << 16, 3)
        if not data:
            return
        pid = os.fork()
        if not pid:
            _become(msgspec.json.decode(data, type=Request), *files)
        for file in files:
            os.close(file)
        line.sendall(str(pid).encode())


def _become(asked: Request, told: int, go: int, output: int) -> NoReturn:
    code = 70
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.chdir(asked.cwd)
        for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(file, stream)
        put_brakes_on(Brake(asked.boundary, told, go))
        code = main(asked.argv)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def prepare() -> None:
    """Import what a round will need."""
    from croupier.cli import rounds  # noqa: F401

    for fault in FAULTS:
        built_in.injector(fault.kind)
    for one in ARRANGEMENTS:
        built_in.arranger(one.kind)


if __name__ == "__main__":
    prepare()
    serve(socket.socket(fileno=int(sys.argv[1])))
