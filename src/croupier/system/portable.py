"""The same questions and signals through psutil, for systems without /proc (macOS, Windows).

Everything here runs on Linux as well, which is how it is tested; on Windows it never was. There, TERM and KILL are
TerminateProcess, STOP and CONT suspend and resume every thread, and nothing else can be sent.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import psutil

from ..model.target import Census, Column, Identity, Seen
from .procs import Usage

T = TypeVar("T")

_TICKS = 100
_LETTERS = {
    psutil.STATUS_RUNNING: "R",
    psutil.STATUS_SLEEPING: "S",
    psutil.STATUS_DISK_SLEEP: "D",
    psutil.STATUS_STOPPED: "T",
    psutil.STATUS_TRACING_STOP: "t",
    psutil.STATUS_ZOMBIE: "Z",
    psutil.STATUS_DEAD: "X",
    psutil.STATUS_IDLE: "I",
}


def identity(pid: int) -> Identity | None:
    """Who carries this number now. `started` is in hundredths of a second since 1970 here."""
    try:
        return Identity(pid=pid, started=_started(psutil.Process(pid)))
    except psutil.Error:
        return None


def state_of(who: Identity) -> str:
    """The letter of its state; "" if it is gone, or another by now."""
    try:
        process = psutil.Process(who.pid)
        return _LETTERS.get(process.status(), "S") if _started(process) == who.started else ""
    except psutil.Error:
        return ""


def all_pids() -> list[int]:
    """Every process number in use."""
    return psutil.pids()


def children(pid: int) -> list[int]:
    """The direct children."""
    try:
        return [one.pid for one in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def protected_pids() -> dict[int, str]:
    """The first process, ourselves and our ancestors."""
    found = {0: "it belongs to the kernel", 1: "it is PID 1", os.getpid(): "it is croupier itself"}
    try:
        for one in psutil.Process().parents():
            found.setdefault(one.pid, "croupier was started by it")
    except psutil.Error:
        pass
    return found


def usage(pids: Iterable[int]) -> Usage:
    """What these processes use together."""
    seconds, rss, fds, threads = 0.0, 0, 0, 0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                seconds += times.user + times.system
                rss += process.memory_info().rss
                threads += process.num_threads()
                fds += getattr(process, "num_fds" if os.name == "posix" else "num_handles")()
        except psutil.Error:
            continue
    return Usage(cpu_seconds=seconds, rss_bytes=rss, fds=fds, threads=threads)


def read_census(
    roots: Mapping[str, Identity],
    columns: frozenset[Column],
    whole: bool,
    attached: Mapping[str, Identity],
    protected: Mapping[int, str],
    zombies: bool,
) -> Census:
    """What is alive now; see `procs.read_census`."""
    roles: dict[int, tuple[str, bool]] = {}
    for name, root in (*roots.items(), *attached.items()):
        if state_of(root) not in ("", "Z"):
            below = [one.pid for one in psutil.Process(root.pid).children(recursive=True)]
            roles.update({pid: (name, False) for pid in below if pid not in roles})
            roles[root.pid] = (name, True)
    rows = [
        one
        for pid in (all_pids() if whole else list(roles))
        if (one := _row(pid, roles.get(pid, ("", False)), frozenset(roots), columns, protected))
        and (zombies or one.state not in ("Z", "X"))
    ]
    rows.sort(key=lambda one: (one.identity.started, one.pid))
    return tuple(
        Seen(**{name: getattr(one, name) for name in one.__struct_fields__ if name != "order"}, order=order)
        for order, one in enumerate(rows)
    )


def send(who: Identity, number: int) -> None:
    """Deliver a signal as well as this system can. Raises ProcessLookupError, PermissionError, ValueError."""
    try:
        process = psutil.Process(who.pid)
        if _started(process) != who.started:
            raise ProcessLookupError(who.pid)
        if os.name == "posix":
            process.send_signal(number)
            return
        ways = {"SIGKILL": process.kill, "SIGTERM": process.terminate, "SIGSTOP": process.suspend,
                "SIGCONT": process.resume}  # fmt: skip
        known = {int(getattr(signal, name)): way for name, way in ways.items() if hasattr(signal, name)}
        if number not in known:
            raise ValueError(f"this system cannot send signal {number}")
        known[number]()
    except psutil.NoSuchProcess:
        raise ProcessLookupError(who.pid) from None
    except psutil.AccessDenied:
        raise PermissionError(who.pid) from None


def _started(process: psutil.Process) -> int:
    return round(process.create_time() * _TICKS)


def _row(
    pid: int,
    role: tuple[str, bool],
    ours: frozenset[str],
    columns: frozenset[Column],
    protected: Mapping[int, str],
) -> Seen | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Seen(
                identity=Identity(pid=pid, started=_started(process)),
                parent=process.ppid(),
                name=process.name()[:15],
                state=_LETTERS.get(process.status(), "S"),
                order=0,
                role=role[0],
                main=role[1],
                ours=role[0] in ours,
                protected=protected.get(pid, ""),
                age_ms=max(0, round((time.time() - process.create_time()) * 1_000)),
                exe=_ask(process.exe) if "exe" in columns else None,
                cmdline=tuple(_ask(process.cmdline) or ()) or None if "cmdline" in columns else None,
                user=_ask(process.username) if "user" in columns else None,
                env=_environment(process) if "env" in columns else None,
                ports=_ports(process) if "ports" in columns else None,
            )
    except psutil.Error:
        return None


def _ask(question: Callable[[], T]) -> T | None:
    try:
        return question()
    except (psutil.Error, OSError):
        return None


def _environment(process: psutil.Process) -> tuple[str, ...] | None:
    env = _ask(process.environ)
    return None if env is None else tuple(f"{name}={value}" for name, value in env.items())


def _ports(process: psutil.Process) -> tuple[int, ...] | None:
    held = _ask(process.net_connections)
    if held is None:
        return None
    return tuple(sorted({one.laddr.port for one in held if one.laddr and one.status in ("LISTEN", "NONE")}))
