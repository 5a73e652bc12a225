"""Starting a workload in the care of the warden, and hearing what becomes of it (see `warden.py` for the why)."""

# ruff: noqa: PTH100, PTH109, PTH110, PTH113, PTH115, PTH118, PTH119, PTH123 - paths go to system calls as they are

from __future__ import annotations

import atexit
import errno
import fcntl
import marshal
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from ..model.errors import ExperimentError, HarnessError

_SCRIPT: Final = str(Path(__file__).with_name("warden.py"))
_HIGH: Final = 1000
_PATIENCE_S: Final = 2.0


class Order(NamedTuple):
    """What to start, and for how long."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    files: tuple[int, int, int]
    deadline_s: float | None
    linger_s: float | None
    stop_fd: int | None


class Tree:
    """Everything that one workload starts. Ends it when closed."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.pid = 0
        """The main process; 0 until it is started."""
        self.status: int | None = None
        """How the main process ended, as wait(2) says; None until then."""
        self.empty = False
        """Whether nobody is left."""
        self.lost = False
        """Whether the nanny vanished, so that we cannot know."""

    def fileno(self) -> int:
        """Readable when there is something to `hear`."""
        return self._line.fileno()

    def hear(self) -> tuple[str, int | None]:
        """The next thing that happened, in a word with its arguments, and a descriptor if one came with it."""
        try:
            raw, files, _, _ = socket.recv_fds(self._line, 256, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            raw, files = b"", []
        word, _, rest = raw.decode().partition(" ")
        if word == "started":
            self.pid = int(rest)
        elif word == "exited":
            self.status = int(rest)
        elif word in ("empty", ""):
            self.lost = not self.empty and not word
            self.empty = True
        return raw.decode(), files[0] if files else None

    def say(self, word: Literal["go", "kill"]) -> None:
        """Tell the nanny. One that is gone has ended everything already."""
        try:
            self._line.send(word.encode())
        except OSError:
            pass

    def close(self) -> None:
        """Let go; whoever is still there is ended."""
        self._line.close()

    def end(self) -> None:
        """End whoever is left, and wait until that is true."""
        if not self.empty:
            self.say("kill")
            while not self.empty:
                self.hear()


def control_number() -> int:
    """The number of the descriptor by which a starting workload reports; far from those that programs use."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_HIGH, soft if soft > 0 else _HIGH) - 1


def start(order: Order, mode: Literal["notify", "trace"], lines: bytes) -> Tree:
    """Start a workload under a filter, as a tree of its own. Raises ExperimentError for a program that is not there."""
    program = find(order.argv, order.env, order.cwd)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = {
        "program": os.fsencode(program),
        "argv": [os.fsencode(word) for word in order.argv],
        "env": {os.fsencode(name): os.fsencode(value) for name, value in order.env.items()},
        # The warden's own directory is where it was started, not where we are now.
        "cwd": os.fsencode(os.path.abspath(order.cwd or ".")),
        "filter": lines,
        "mode": mode,
        "control": control_number(),
        "umask": _umask(),
    }
    try:
        _warden().order(marshal.dumps(words), [theirs.fileno(), *order.files])
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Tree(ours)


def find(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> str:
    """The path of the program, found as a shell would, so that the workload needs exactly one exec."""
    if not argv or not argv[0]:
        raise ExperimentError("no workload was given", hint="croupier explore … -- COMMAND [ARGUMENT…]")
    name = argv[0]
    base = cwd or os.getcwd()
    if "/" in name:
        places = [os.path.join(base, name)]
    else:
        places = [os.path.join(base, part, name) for part in env.get("PATH", os.defpath).split(os.pathsep)]
    for place in places:
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return place
    for place in places:
        if os.path.exists(place):
            raise ExperimentError(f"no permission to run {place!r}")
    raise ExperimentError(f"command not found: {name!r}")


class _Warden:
    """Our end of the warden, one for each process that traces."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.owner = os.getpid()
        self._socket = ours
        self._lock = threading.Lock()
        try:
            # It ends when our end of the socket closes, at the latest with us.
            self._process = subprocess.Popen(
                [_interpreter(), "-I", "-S", _SCRIPT, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={},
                cwd="/",
            )
        except OSError as error:
            ours.close()
            raise HarnessError(f"the warden of traced workloads could not be started: {error}") from error
        finally:
            theirs.close()
        atexit.register(self.close)

    def close(self) -> None:
        """Let the warden go; it ends when its nannies have."""
        self._socket.close()
        if self.owner == os.getpid():
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                pass

    def alive(self) -> bool:
        return self.owner == os.getpid() and self._process.poll() is None

    def order(self, body: bytes, files: list[int]) -> None:
        with self._lock:
            try:
                socket.send_fds(self._socket, [struct.pack("=I", len(body))], files)
                self._socket.sendall(body)
            except OSError as error:
                raise HarnessError(f"the warden of traced workloads does not answer: {error}") from error


_current: _Warden | None = None
_choosing = threading.Lock()


def _warden() -> _Warden:
    global _current
    with _choosing:
        if _current is None or not _current.alive():
            _current = _Warden()
        return _current


def _interpreter() -> str:
    """The interpreter itself; a shim of a version manager in its place would cost more than the rest together."""
    try:
        real = os.readlink("/proc/self/exe")
    except OSError:
        return sys.executable
    return real if os.access(real, os.X_OK) and "python" in os.path.basename(real) else sys.executable


def _umask() -> int:
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022


def non_blocking(file: int) -> None:
    """Reading from it never waits."""
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_NONBLOCK)


def failure(report: str, argv: Sequence[str]) -> Exception:
    """What `failed STAGE ERRNO` means."""
    stage, _, number = report.partition(" ")
    code = int(number) if number.isdigit() else 0
    program = argv[0] if argv else ""
    if stage == "filter":
        return HarnessError(f"calls cannot be filtered here: {os.strerror(code)}", hint="croupier doctor")
    if stage == "chdir":
        return ExperimentError(f"the working directory of the workload cannot be entered: {os.strerror(code)}")
    if code == errno.ENOEXEC:
        return ExperimentError(f"{program!r} is not a program: it has no #! line and no known format")
    if code == errno.ENOENT:
        return ExperimentError(f"{program!r} needs an interpreter (see its first line) that is not there")
    return ExperimentError(f"{program!r} could not be started: {os.strerror(code) if code else stage}")


def poll(*files: int | None) -> select.poll:
    """Watch for what can be read, in this order; None and negative numbers are left out."""
    watch = select.poll()
    for file in files:
        if file is not None and file >= 0:
            watch.register(file, select.POLLIN)
    return watch
