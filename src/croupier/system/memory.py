"""How much memory a cell of processes may have: memory.limit_in_bytes of cgroups v1, memory.max of v2.

What a process had before it was moved stays on the account of where it was. Beyond the limit the kernel reclaims what
it can, and then kills the largest in the cell; nobody outside is touched.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..model.target import Identity
from . import freezer, procs
from .freezer import Cell

CONTROLLER = "memory"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_KNOB = "memory.limit_in_bytes"
_UNLIMITED = 1 << 62


def lacking() -> str:
    """What this machine lacks for it, in a sentence; "" if nothing."""
    return freezer.no_cell_with(CONTROLLER, _KNOB, "a limit of memory")


def cell_for(pid: int, name: str) -> Cell | None:
    """The cell that `pid` would be put into; nothing is made yet. None where there is none with such a limit."""
    return freezer.cell_with(pid, name, CONTROLLER, _KNOB)


def limit(cell: Cell, most: int) -> None:
    """Let the cell have so many bytes, swap included, rounded down to pages. Raises OSError."""
    first, swap, value = (
        (_KNOB, "memory.memsw.limit_in_bytes", str(most))
        if cell.version == 1
        else ("memory.max", "memory.swap.max", "0")
    )
    (Path(cell.path) / first).write_text(str(most))
    if (Path(cell.path) / swap).exists():
        (Path(cell.path) / swap).write_text(value)


def most(cell: Cell) -> int | None:
    """What the cell may have, in bytes; None where it has no limit, or is gone."""
    found = _number(cell, _KNOB if cell.version == 1 else "memory.max")
    return None if found is None or found >= _UNLIMITED else found


def used(cell: Cell) -> int:
    """What the cell has, in bytes."""
    return _number(cell, "memory.usage_in_bytes" if cell.version == 1 else "memory.current") or 0


def kills(cell: Cell) -> int:
    """How many in the cell were killed for want of memory; 0 where that is not counted."""
    try:
        text = (Path(cell.path) / ("memory.oom_control" if cell.version == 1 else "memory.events")).read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


def address_space(who: Identity) -> int:
    """How large the address space of a process is, in bytes (proc_pid_statm(5)); 0 where it is gone."""
    try:
        pages = int(Path(f"/proc/{who.pid}/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * PAGE_BYTES if procs.alive(who) else 0


def available() -> int:
    """How much the machine could give away without swapping, in bytes (MemAvailable of proc_meminfo(5))."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def _number(cell: Cell, name: str) -> int | None:
    try:
        text = (Path(cell.path) / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
