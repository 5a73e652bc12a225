"""What this machine can do, found by trying where trying harms nobody."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from pathlib import Path
from typing import Literal

import msgspec

from . import call_shim, clocks, freezer, kernel, relay, shims


class Ability(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the machine can do or cannot."""

    name: str
    here: Literal["yes", "partly", "no"]
    detail: str
    needed: bool = False
    without: str = ""
    get: str = ""


def abilities() -> tuple[Ability, ...]:
    """Everything that croupier uses of a machine, in the order of importance."""
    return (
        _system(),
        _python(),
        _proc(),
        _pidfd(),
        _subreaper(),
        _freezer(),
        _proxies(),
        _shims(),
        _clocks(),
        _cores(),
        _tool("gdb", "back-traces of core dumps", "the dump is kept, without a back-trace", "apt-get install gdb"),
        _tool(
            "chromium",
            "screenshots of the page, in the project's own tests",
            "nothing else",
            "apt-get install chromium",
        ),
    )


def _system() -> Ability:
    here: Literal["yes", "partly", "no"] = "yes" if sys.platform == "linux" else "partly"
    return Ability(
        name="operating system",
        here=here,
        detail=f"{platform.system()} {platform.release()} {platform.machine()}",
        without="rounds are made for Linux; elsewhere kill and suspend go through psutil, and are untested",
        get="run croupier on Linux, or in a container or a virtual machine with it",
    )


def _python() -> Ability:
    fine = sys.version_info >= (3, 11)
    return Ability(
        name="Python",
        here="yes" if fine else "no",
        detail=f"{platform.python_version()} at {sys.executable}",
        needed=True,
        without="nothing runs",
        get="install Python 3.11 or later",
    )


def _proc() -> Ability:
    fine = Path("/proc/self/stat").exists()
    return Ability(
        name="/proc",
        here="yes" if fine else "no",
        detail="processes are read straight from the kernel" if fine else "not mounted",
        needed=sys.platform == "linux",
        without="processes cannot be identified for sure, so nobody is touched",
        get="mount -t proc proc /proc",
    )


def _pidfd() -> Ability:
    try:
        os.close(os.pidfd_open(os.getpid()))
        return Ability(name="pidfd", here="yes", detail="a signal reaches exactly the process that was chosen")
    except (AttributeError, OSError) as problem:
        return Ability(
            name="pidfd",
            here="partly",
            detail=str(problem),
            without="identity is checked right before each signal, with a gap of microseconds",
            get="Linux 5.3 or later",
        )


def _subreaper() -> Ability:
    fine = _can_reap()
    return Ability(
        name="subreaper",
        here="yes" if fine else "no",
        detail="nothing that a round starts can slip away" if fine else "prctl(PR_SET_CHILD_SUBREAPER) is not there",
        needed=sys.platform == "linux",
        without="a process that daemonises could outlive its round",
        get="Linux 3.4 or later",
    )


def _proxies() -> Ability:
    lacking = relay.lacking()
    return Ability(
        name="proxies",
        here="no" if lacking else "yes",
        detail=lacking or "connections can be hurt without a privilege",
        without="no `proxies`, and no `network`, `delay_queries` or `mutate`",
        get="run croupier on Linux, where Unix sockets are not forbidden to it",
    )


def _shims() -> Ability:
    lacking = shims.lacking(call_shim.SHIM)
    return Ability(
        name="preloaded shims",
        here="no" if lacking else "yes",
        detail=lacking or "compiled for a round that needs them: `clock`, and `syscall` with `how: preload`",
        without="`clock` takes libfaketime; `syscall` needs seccomp user notification",
        get="apt-get install gcc libc6-dev",
    )


def _clocks() -> Ability:
    shim, packaged = clocks.lacking("shim"), clocks.lacking("libfaketime")
    here: Literal["yes", "partly", "no"] = "yes"
    if shim:
        here = "no" if packaged else "partly" if clocks.spoils_sleeps() else "yes"
    return Ability(
        name="clocks of processes",
        here=here,
        detail=f"{shim}; {packaged or 'libfaketime is there'}" if shim else "by a shim that is compiled for the round",
        without="no `clock`" if here == "no" else "`clock` is refused without `monotonic: true`",
        get="apt-get install gcc libc6-dev, or libfaketime",
    )


def _can_reap() -> bool:
    # Setting what is set already changes nothing.
    return kernel.set_subreaper(kernel.is_subreaper())


def _freezer() -> Ability:
    lacking = freezer.lacking()
    return Ability(
        name="cgroup freezer",
        here="no" if lacking else "yes",
        detail=lacking or "targets can be frozen without their noticing",
        without="`suspend: {how: freezer}` is refused; `how: stop` works",
        get="run as root, or in a delegated cgroup (systemd-run --user --scope -p Delegate=yes)",
    )


def _cores() -> Ability:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    pattern = Path("/proc/sys/kernel/core_pattern")
    says = pattern.read_text().strip() if pattern.exists() else ""
    piped = says.startswith("|")
    return Ability(
        name="core dumps",
        here="no" if hard == 0 else "partly" if piped else "yes",
        detail=f"hard limit {'none' if hard == resource.RLIM_INFINITY else hard}, pattern {says or 'unknown'}",
        without="a crash leaves no dump" if hard == 0 else "dumps go to another program, and are only pointed at",
        get="ulimit -H -c unlimited" if hard == 0 else "see core(5)",
    )


def _tool(name: str, enables: str, without: str, get: str) -> Ability:
    path = shutil.which(name)
    return Ability(
        name=name,
        here="yes" if path else "no",
        detail=f"{path}: {enables}" if path else f"not found: {enables}",
        without=without,
        get=get,
    )
