"""Start a process as a clean slate: a session of its own, no inherited descriptors, signals as after boot.

Written for one caller, the guardian, which has a single thread: a child made by fork may run Python only then.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from ..model.wiring import Place
from . import kernel

_FILES = 1 << 20


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    stdout: int,
    stderr: int,
    core_limit: bool = False,
    keeps_orphans: bool = False,
    last: Callable[[socket.socket], None] | None = None,
    report_at: int = 3,
    place: Place | None = None,
) -> tuple[int, int]:
    """Fork and exec. Returns the pid and a descriptor that tells how it went.

    The descriptor ends without a byte once the program runs, or with the text `<stage> <errno>` (see `explain`) when
    it could not be started; then the child has ended with code 127.

    The child dies by SIGKILL when the caller does, its stdin is empty, every signal has its default disposition and
    none is blocked. `core_limit` raises the soft limit of core dumps to the hard one. With
    `keeps_orphans` whatever daemonises below it stays below it for as long as it lives. `last` is called in the child
    right before it becomes the program, with the line that the descriptor is the other end of, which is `report_at`
    there. `place` is where it is to live; by default where the caller does.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = ours.detach(), theirs.detach()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid == 0:
        _become(argv, env, cwd, stdout, stderr, core_limit, keeps_orphans, last, report_at, place, writer, parent)
    os.close(writer)
    return pid, reader


def explain(report: bytes, argv: Sequence[str], cwd: str) -> str:
    """What a report of `start` means, in a sentence; "" for a program that runs."""
    if not report:
        return ""
    stage, _, number = report.decode(errors="replace").partition(" ")
    code = int(number) if number.isdigit() else 0
    program = argv[0] if argv else ""
    if stage == "filter":
        return f"its calls cannot be watched here: {os.strerror(code)}"
    if stage == "network":
        return f"its network cannot be entered: {os.strerror(code)}"
    if stage == "files":
        return f"it cannot see other files than the host: {os.strerror(code)}"
    if stage == "chdir":
        return f"the working directory {cwd!r} cannot be entered: {os.strerror(code)}"
    if code == 2:
        return f"command not found: {program!r}" + (
            " (or the interpreter that its first line names)" * ("/" in program)
        )
    if code == 13:
        return f"no permission to run {program!r}"
    if code == 8:
        return f"{program!r} is not a program: it has no #! line and no known format"
    return f"{program!r} could not be started: {os.strerror(code)}"


def _become(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    stdout: int,
    stderr: int,
    core_limit: bool,
    keeps_orphans: bool,
    last: Callable[[socket.socket], None] | None,
    report_at: int,
    place: Place | None,
    writer: int,
    parent: int,
) -> NoReturn:
    stage = "prepare"
    line: socket.socket | None = None
    try:
        kernel.set_parent_death_signal(signal.SIGKILL)
        # Our maker may have died before the line above took hold.
        if os.getppid() != parent:
            os._exit(127)
        os.setsid()
        for number in range(1, signal.NSIG):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if keeps_orphans:
            # An exec keeps it, a fork does not.
            kernel.set_subreaper()
        if core_limit:
            _, hard = resource.getrlimit(resource.RLIMIT_CORE)
            resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        line = socket.socket(fileno=_place(stdout, stderr, writer, report_at))
        if place is not None:
            stage = "network"
            kernel.enter_network(place.network)
            stage = "files"
            kernel.put_files(place.files)
        stage = "chdir"
        os.chdir(cwd or ".")
        if last is not None:
            stage = "filter"
            last(line)
        stage = "exec"
        os.execvpe(argv[0], list(argv), dict(env))
    except OSError as error:
        # Sent and not written: under a filter a write would stand still.
        _tell(line, writer, f"{stage} {error.errno}")
    except BaseException:
        _tell(line, writer, f"{stage} 0")
    finally:
        os._exit(127)


def _tell(line: socket.socket | None, writer: int, report: str) -> None:
    (line or socket.socket(fileno=writer)).send(report.encode())


def _place(stdout: int, stderr: int, writer: int, report_at: int) -> int:
    """Put the streams on 0, 1 and 2, the report where it is wanted, and close everything else."""
    empty = os.open(os.devnull, os.O_RDONLY)
    # Lifted above 3 first, so that no number is overwritten before it was read.
    lifted = [_lift(file) for file in (empty, stdout, stderr, writer)]
    for number, file in enumerate(lifted[:3]):
        os.dup2(file, number)
    if lifted[3] != report_at:
        os.dup2(lifted[3], report_at, inheritable=False)
    os.closerange(3, report_at)
    os.closerange(report_at + 1, _FILES)
    return report_at


def _lift(file: int) -> int:
    return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10)
