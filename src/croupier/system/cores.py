"""Which processors a thread may run on: sched_setaffinity(2). A thread that is born has what its maker has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from . import procs


def lacking() -> str:
    """Why nobody can be kept to some processors here; "" where that works."""
    if sys.platform != "linux":
        return "keeping a process to some processors needs Linux (sched_setaffinity)"
    if len(os.sched_getaffinity(0)) < 2:
        return "there is one processor only"
    return ""


def threads(pid: int) -> list[tuple[int, int]]:
    """The threads of a process, each as its number and start time; none if it is gone."""
    try:
        numbers = [int(one.name) for one in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    seen = [(one, procs.read_stat(one)) for one in numbers]
    return [(one, stat.started) for one, stat in seen if stat is not None and stat.state not in "ZX"]


def read(thread: int) -> tuple[int, ...]:
    """The processors that it may run on; () if it is gone."""
    try:
        return tuple(sorted(os.sched_getaffinity(thread)))
    except OSError:
        return ()


def keep(thread: int, to: tuple[int, ...]) -> None:
    """Have a thread run on these alone. One that is gone is no trouble. Raises OSError."""
    try:
        os.sched_setaffinity(thread, to)
    except ProcessLookupError:
        return
