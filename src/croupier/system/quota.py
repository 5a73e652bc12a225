"""A share of the processor for a cell of processes: cpu.cfs_quota_us (cgroups v1) or cpu.max (v2).

The kernel gives the cell so many microseconds in each period, and has it wait for the rest; nobody else is slowed.
"""

from __future__ import annotations

import os
from pathlib import Path

from . import freezer
from .freezer import Cell

CONTROLLER = "cpu"
_PERIOD_US = 100_000
_LEAST_US = 1_000


def lacking() -> str:
    """What this machine lacks for it, in a sentence; "" if nothing."""
    if cell_for(os.getpid(), "look") is None:
        return "no cgroup with a processor quota may be written by this user (run as root, or in a delegated cgroup)"
    return ""


def cell_for(pid: int, name: str) -> Cell | None:
    """The cell that `pid` would be put into; nothing is made yet. None where there is none with a quota."""
    for version in (2, 1):
        cell = freezer.cell_for(pid, name, (version,), CONTROLLER)
        if cell is not None and _has_quota(cell):
            return cell
    return None


def _has_quota(cell: Cell) -> bool:
    if cell.version == 1:
        return (Path(cell.home) / "cpu.cfs_quota_us").exists()
    # Below a cgroup of v2 that has processes of its own, controllers are there only if somebody delegated them so.
    try:
        return CONTROLLER in (Path(cell.home) / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False


def limit(cell: Cell, percent: float) -> None:
    """Give the cell so many per cent of one processor. Raises OSError."""
    quota = max(_LEAST_US, round(_PERIOD_US * percent / 100))
    if cell.version == 1:
        (Path(cell.path) / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (Path(cell.path) / "cpu.cfs_quota_us").write_text(str(quota))
    else:
        (Path(cell.path) / "cpu.max").write_text(f"{quota} {_PERIOD_US}")


def percent_of(cell: Cell) -> float | None:
    """What the cell is held to, in per cent of one processor; None where it is held to nothing, or is gone."""
    try:
        if cell.version == 1:
            quota = (Path(cell.path) / "cpu.cfs_quota_us").read_text().strip()
            period = (Path(cell.path) / "cpu.cfs_period_us").read_text().strip()
        else:
            quota, period = (Path(cell.path) / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period) * 100
