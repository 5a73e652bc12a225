"""A share of the processor for a cell of processes: cpu.cfs_quota_us (cgroups v1) or cpu.max (v2).

The kernel gives the cell so many microseconds in each period, and has it wait for the rest; nobody else is slowed.
"""

from __future__ import annotations

from pathlib import Path

from . import freezer
from .freezer import Cell

CONTROLLER = "cpu"
_KNOB = "cpu.cfs_quota_us"
LEAST_US = 1_000
"""The kernel gives no less at a time."""


def lacking() -> str:
    """What this machine lacks for it, in a sentence; "" if nothing."""
    return freezer.no_cell_with(CONTROLLER, _KNOB, "a processor quota")


def cell_for(pid: int, name: str) -> Cell | None:
    """The cell that `pid` would be put into; nothing is made yet. None where there is none with a quota."""
    return freezer.cell_with(pid, name, CONTROLLER, _KNOB)


def limit(cell: Cell, percent: float, period_ms: int) -> None:
    """Give the cell so many per cent of one processor, anew in each period of 1 ms to 1 s. Raises OSError."""
    period_us = period_ms * 1_000
    quota = max(LEAST_US, round(period_us * percent / 100))
    if cell.version == 1:
        (Path(cell.path) / "cpu.cfs_period_us").write_text(str(period_us))
        (Path(cell.path) / _KNOB).write_text(str(quota))
    else:
        (Path(cell.path) / "cpu.max").write_text(f"{quota} {period_us}")


def percent_of(cell: Cell) -> float | None:
    """What the cell is held to, in per cent of one processor; None where it is held to nothing, or is gone."""
    try:
        if cell.version == 1:
            quota = (Path(cell.path) / _KNOB).read_text().strip()
            period = (Path(cell.path) / "cpu.cfs_period_us").read_text().strip()
        else:
            quota, period = (Path(cell.path) / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period) * 100
