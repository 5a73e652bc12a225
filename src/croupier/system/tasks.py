"""How many processes and threads a cell may hold: pids.max of the pids controller (the same in both versions).

The kernel refuses a fork(2) or clone(2) beyond it with EAGAIN; who is moved in is never refused.
"""

from __future__ import annotations

from pathlib import Path

from . import freezer
from .freezer import Cell

CONTROLLER = "pids"
# At the top of the hierarchy there is no pids.max; below it always is.
_KNOB = "cgroup.procs"


def lacking() -> str:
    """What this machine lacks for it, in a sentence; "" if nothing."""
    return freezer.no_cell_with(CONTROLLER, _KNOB, "a limit of processes")


def cell_for(pid: int, name: str) -> Cell | None:
    """The cell that `pid` would be put into; nothing is made yet. None where there is none with such a limit."""
    return freezer.cell_with(pid, name, CONTROLLER, _KNOB)


def limit(cell: Cell, most: int) -> None:
    """Let the cell hold so many processes and threads, and no more. Raises OSError."""
    (Path(cell.path) / "pids.max").write_text(str(most))


def count(cell: Cell) -> tuple[int, int] | None:
    """How many are in the cell, and how many may be; None where there is no limit, or no cell."""
    try:
        now, most = ((Path(cell.path) / name).read_text().strip() for name in ("pids.current", "pids.max"))
    except OSError:
        return None
    return None if most == "max" else (int(now), int(most))
