"""The two small processes that keep a traced workload together, run as a script of its own.

    tracer ── the warden: started once, forks a nanny for each trace (a fork of something small is cheap, and safe)
                └─ nanny: parent and subreaper of everything the workload starts; ends it all, then tells
                     └─ the workload

Why: when the tracer is killed, its listener closes, and from then on the kernel fails every filtered call of the
workload with ENOSYS, so that it would go on with wrong results. The nanny holds the listener too and watches the
tracer: the calls stay held while it ends the tree. Should the nanny die, the warden gets its orphans and ends them.

This file imports nothing of croupier: a bare interpreter runs it (`python -I -S warden.py FD`).
"""

# ruff: noqa: PTH112, PTH123, PTH208 - as few imports as can be: it starts with every search

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import marshal
import os
import select
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SPEC_ALLOW = 4
_NEW_LISTENER = 8
_WAIT_KILLABLE = 32

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


# --- the warden ------------------------------------------------------------------------------------------------------


def main(number: int) -> None:
    """Wait for orders, fork a nanny for each, and end whoever is left without one."""
    parent = os.getppid()
    try:
        owner = os.pidfd_open(parent)
    except OSError:
        return
    if os.getppid() != parent:
        return
    os.setsid()
    orders = socket.socket(fileno=number)
    os.set_inheritable(number, False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    alarm = _children_alarm()
    # A traced workload is never to meet our garbage collector between fork and exec.
    gc.disable()
    nannies: set[int] = set()
    # Alive for its nannies: they are its children, and see to it themselves that the workloads end.
    while not _ready(orders, owner, alarm, nannies):
        order = _receive_order(orders)
        if order is None:
            break
        what, files = order
        pid = os.fork()
        if pid == 0:
            try:
                orders.close()
                nanny(what, files, owner)
            finally:
                os._exit(70)
        nannies.add(pid)
        for file in files:
            os.close(file)
    orders.close()
    while nannies:
        _wait([alarm], -1)
        _tidy(alarm, nannies)


def _ready(orders: socket.socket, owner: int, alarm: int, nannies: set[int]) -> bool:
    """Wait for an order. True when the tracer has ended instead."""
    while True:
        seen = _wait([orders.fileno(), owner, alarm], -1)
        if alarm in seen:
            _tidy(alarm, nannies)
        if owner in seen:
            return True
        if orders.fileno() in seen:
            return False


def _tidy(alarm: int, nannies: set[int]) -> None:
    """Reap nannies, and end orphans of one that was killed."""
    _drain(alarm)
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            nannies.clear()
            return
        if pid == 0:
            break
        nannies.discard(pid)
    for pid in _children(os.getpid()):
        if pid not in nannies:
            for one in [pid, *_descendants(pid)]:
                _kill(one)


def _receive_order(orders: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    size = struct.calcsize("=I")
    head, files, _, _ = socket.recv_fds(orders, size, 16, socket.MSG_CMSG_CLOEXEC)
    if len(head) < size:
        return None
    wanted = struct.unpack("=I", head)[0]
    body = bytearray()
    while len(body) < wanted:
        part = orders.recv(min(1 << 16, wanted - len(body)))
        if not part:
            return None
        body += part
    return marshal.loads(bytes(body)), files


# --- the nanny -------------------------------------------------------------------------------------------------------


def nanny(order: dict[str, Any], files: list[int], owner: int) -> NoReturn:
    """Start the workload, tell the tracer what happens to it, and end the whole tree when told or left alone.

    Files: the line to the tracer, then what the workload gets as 0, 1 and 2.
    """
    line = socket.socket(fileno=files[0])
    os.setsid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    alarm = _children_alarm()
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        workload(order, files[1:], theirs, parent)
    theirs.close()
    for file in files[1:]:
        os.close(file)
    _tell(line, b"started %d" % child)
    # Held until we end: without it, calls of the workload would fail instead of standing still. Never read.
    listener = -1
    starting = True
    reported = False
    while True:
        seen = _wait([line.fileno(), owner, alarm, *([mine.fileno()] if starting else [])], -1)
        status: int | None = None
        alone = False
        if alarm in seen:
            _drain(alarm)
            status, alone = _reap(child)
        # After the reaping: whoever has ended by now had said before why, and that is told first.
        while starting and mine.fileno() in _wait([mine.fileno()], 0):
            said, got, _, _ = socket.recv_fds(mine, 256, 4, socket.MSG_CMSG_CLOEXEC)
            if got:
                listener = got[0]
            if said:
                _tell(line, said, [listener] if got else [])
            else:
                starting = False
                _tell(line, b"running")
        if status is not None:
            reported = True
            _tell(line, b"exited %d" % status)
        if alone:
            break
        if owner in seen:
            _end_everything(alarm)
            break
        if line.fileno() in seen:
            word = line.recv(64)
            if word == b"go":
                mine.send(b"go")
                continue
            # "kill", or nobody there any more.
            _end_everything(alarm, child, line, reported)
            break
    _tell(line, b"empty")
    # Closing with a word unread would cost the tracer ours.
    while owner not in _wait([line.fileno(), owner], -1):
        try:
            if not line.recv(64):
                break
        except OSError:
            break
    os._exit(0)


def _reap(child: int) -> tuple[int | None, bool]:
    """Take in the ended. Returns how the main process ended, if it was among them, and whether nobody is left."""
    status: int | None = None
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, True
        if pid == 0:
            return status, False
        if pid == child:
            status = ended


def _end_everything(alarm: int, child: int = -1, line: socket.socket | None = None, reported: bool = True) -> None:
    """Kill until nobody is left: whoever forked meanwhile is found in the next turn, since orphans come to us."""
    while True:
        for pid in _descendants(os.getpid()):
            _kill(pid)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            if pid == child and not reported and line is not None:
                reported = True
                _tell(line, b"exited %d" % status)
        # Whoever is ending tells by the alarm; the short turn is for those who had forked just before.
        _wait([alarm], 1)
        _drain(alarm)


def _tell(line: socket.socket, word: bytes, files: list[int] | None = None) -> None:
    try:
        if files:
            socket.send_fds(line, [word], files)
        else:
            line.send(word)
    except OSError:
        # The tracer is gone; `owner` says so as well.
        pass


# --- the workload ----------------------------------------------------------------------------------------------------


def workload(order: dict[str, Any], files: list[int], line: socket.socket, parent: int) -> NoReturn:
    """Become the program of the order, under its filter."""
    stage = b"prepare"
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)
        os.setsid()
        line = _place(files, line, order["control"])
        os.umask(order["umask"])
        stage = b"chdir"
        os.chdir(order["cwd"])
        stage = b"filter"
        if order["mode"] == "notify":
            listener, bare = listen(order["filter"])
            socket.send_fds(line, [b"listener %d" % bare], [listener])
            os.close(listener)
        elif order["mode"] == "trace":
            line.send(b"ready")
            line.recv(8)
            _, bare = _install(order["filter"], _SPEC_ALLOW)
            line.send(b"filtered %d" % bare)
        _default_signals()
        stage = b"exec"
        os.execve(order["program"], order["argv"], order["env"])
    except OSError as error:
        line.send(b"failed %s %d" % (stage, error.errno or 0))
    except BaseException:
        line.send(b"failed %s 0" % stage)
    finally:
        os._exit(127)


def _place(files: list[int], line: socket.socket, control: int) -> socket.socket:
    """Put the streams on 0, 1 and 2 and the line on a number that the filter lets send; the rest closes at exec."""
    lifted = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10) for file in files]
    os.dup2(line.fileno(), control, inheritable=False)
    for number, file in enumerate(lifted):
        os.dup2(file, number)
        os.close(file)
    line.close()
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in (0, 1, 2, control):
            try:
                os.close(int(name))
            except OSError:
                pass
    return socket.socket(fileno=control)


def _default_signals() -> None:
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def listen(lines: bytes) -> tuple[int, bool]:
    """Install the filter and get its listener, and whether privileges were given up for it."""
    try:
        # Since Linux 5.19 a signal no longer takes back a call that we have been told of.
        return _install(lines, _SPEC_ALLOW | _NEW_LISTENER | _WAIT_KILLABLE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return _install(lines, _SPEC_ALLOW | _NEW_LISTENER)


def _install(lines: bytes, flags: int) -> tuple[int, bool]:
    """Install a filter. Only who lacks the privilege gives up that of setuid programs for it, as the kernel asks."""
    try:
        return _seccomp(lines, flags), False
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return _seccomp(lines, flags), True


def _seccomp(lines: bytes, flags: int) -> int:
    number = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
    buffer = ctypes.create_string_buffer(lines, len(lines))
    program = _Program(len(lines) // 8, ctypes.addressof(buffer))
    got = _libc.syscall(number, _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(program))
    if got < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(got)


# --- hands -----------------------------------------------------------------------------------------------------------


def _prctl(option: int, value: int) -> None:
    _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _children_alarm() -> int:
    """A descriptor that becomes readable when a child has ended."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # Ended children that nobody heard of are noticed by the first look.
    os.write(writer, b"!")
    return reader


def _drain(alarm: int) -> None:
    try:
        while os.read(alarm, 4096):
            pass
    except BlockingIOError:
        pass


def _wait(files: list[int], timeout_ms: int) -> set[int]:
    watch = select.poll()
    for file in files:
        watch.register(file, select.POLLIN)
    return {file for file, _ in watch.poll(timeout_ms)}


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for one in (queue := [pid]):
        fresh = [child for child in _children(one) if child not in found]
        found += fresh
        queue += fresh
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:
        return _children_by_stat(pid) if os.path.isdir(f"/proc/{pid}") else found
    except OSError:
        pass
    return found


def _children_by_stat(pid: int) -> list[int]:
    """The slow way, for a kernel that lists no children."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and _parent(int(name)) == pid:
            found.append(int(name))
    return found


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return -1


def _kill(pid: int) -> None:
    """SIGKILL, to exactly the process that is a child of its parent now."""
    parent = _parent(pid)
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # The number is still its own if its parent is: a stranger has another.
        if _parent(pid) == parent or _parent(pid) == os.getpid():
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(handle)


if __name__ == "__main__":
    main(int(sys.argv[1]))
