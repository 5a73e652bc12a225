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

from . import (
    call_shim,
    clocks,
    docker,
    freezer,
    kernel,
    memory,
    networks,
    packet_rules,
    quota,
    relay,
    shims,
    systemd,
    tasks,
)


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
        _cells("cpu", quota.lacking(), "`starve_cpu: {how: quota}` is refused; `how: duty` works"),
        _cells("pids", tasks.lacking(), "`fork_storm` is refused"),
        _cells(
            "memory", memory.lacking(), "`starve_memory` limits the address space instead: no pressure, and no leak"
        ),
        _proxies(),
        _shims(),
        _clocks(),
        _networks(),
        _docker(),
        _systemd(),
        _tool(
            "kubectl",
            "faults on pods and nodes",
            "`delete_pod`, `kill_in_pod`, `cordon_node` and `drain_node` are refused",
            "https://kubernetes.io/docs/tasks/tools/",
        ),
        _cores(),
        _tool("jcmd", "`gc_pressure` on a JVM", "a JVM is missed", "apt-get install default-jdk-headless"),
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


def _networks() -> Ability:
    lacking, partly = networks.lacking(), packet_rules.aside_lacking()
    return Ability(
        name="networks",
        here="no" if lacking else "partly" if partly else "yes",
        detail=lacking or partly or "processes can live in network namespaces of the round's own",
        without="no `networks`, and no `partition`, `packets`, `saturate` or `dns`; `proxies` work",
        get="run as root, with iproute2 and nftables (apt-get install iproute2 nftables)",
    )


def _docker() -> Ability:
    lacking = docker.lacking()
    return Ability(
        name="docker",
        here="no" if lacking else "yes",
        detail=lacking or f"containers can be found and hurt by {docker.address(os.environ)}",
        without="no `container` in selectors, and the faults on containers are refused",
        get="apt-get install docker.io; DOCKER_HOST=unix://… for another socket; root, or the group docker",
    )


def _systemd() -> Ability:
    managers: tuple[systemd.Manager, ...] = ("system", "user")
    lacking = {manager: systemd.lacking(manager) for manager in managers}
    there = [manager for manager, lack in lacking.items() if not lack]
    return Ability(
        name="systemd units",
        here="yes" if "system" in there else "partly" if there else "no",
        detail=f"units of the {' and the '.join(there)} manager can be found and hurt" if there else lacking["system"],
        without="no `unit` (or no `user_unit`) in selectors, and the faults on units are refused",
        get="run croupier where systemd is PID 1, or as a user who has a systemd of their own (XDG_RUNTIME_DIR)",
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


def _cells(controller: str, lacking: str, without: str) -> Ability:
    return Ability(
        name=f"cgroup {controller}",
        here="no" if lacking else "yes",
        detail=lacking or "targets can be put into a cell of their own with a limit",
        without=without,
        get="run as root, or in a delegated cgroup below which the controller is enabled",
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
