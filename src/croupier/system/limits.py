"""The limits of another process: getrlimit(2) and setrlimit(2) by way of prlimit(2)."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from ..model.target import Identity
from . import procs

NAMES: dict[str, int] = {
    name: number
    for name in ("NOFILE", "NPROC", "FSIZE", "AS", "CORE")
    if (number := getattr(resource, f"RLIMIT_{name}", None)) is not None
}
_CAPABILITIES = (21, 24)
"""CAP_SYS_ADMIN and CAP_SYS_RESOURCE: whoever has one is not held to a number of processes."""


def lacking() -> str:
    """What this machine lacks, in a sentence; "" if nothing."""
    return "" if hasattr(resource, "prlimit") else f"{sys.platform} has no prlimit(2)"


def read(who: Identity, name: str) -> tuple[int, int] | None:
    """The soft and the hard limit of exactly this process; None where it is gone. -1 is no limit."""
    try:
        found = resource.prlimit(who.pid, NAMES[name])
    except (ProcessLookupError, PermissionError):
        return None
    return found if procs.alive(who) else None


def open_files(who: Identity) -> frozenset[int] | None:
    """The file descriptors that exactly this process has open (proc_pid_fd(5)); None where that cannot be seen."""
    try:
        found = frozenset(int(name) for name in os.listdir(f"/proc/{who.pid}/fd"))  # noqa: PTH208 - names only
    except OSError:
        return None
    return found if procs.alive(who) else None


def set_soft(who: Identity, name: str, soft: int) -> None:
    """Set the soft limit of exactly this process, and leave the hard one. Raises OSError; nothing where it is gone."""
    before = read(who, name)
    if before is None:
        return
    resource.prlimit(who.pid, NAMES[name], (soft, before[1]))


def is_held_to(who: Identity, name: str) -> bool:
    """Whether the kernel holds this process to a limit of that name."""
    if name != "NPROC":
        return True
    try:
        status = Path(f"/proc/{who.pid}/status").read_text()
    except OSError:
        return True
    rights = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    is_root = next((line.split()[1] == "0" for line in status.splitlines() if line.startswith("Uid:")), False)
    return not is_root and not any(rights >> one & 1 for one in _CAPABILITIES)
