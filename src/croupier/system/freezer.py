"""The cgroup freezer: a cell of our own below the cgroup that a process lives in, frozen, thawed, and taken away.

Nobody but whoever is put into the cell stands still. Both versions of cgroups, whichever the target can be reached
through; the unified hierarchy (v2) first. A cell is told by its paths alone, so that it can be undone from data. Cells
of another controller are made, and taken away, in the same way (`quota.py`, `tasks.py`, `memory.py` beside this).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..model.target import Identity
from . import cgroups, procs
from .cgroups import Version

VERSIONS: tuple[Version, ...] = (2, 1)

PREFIX = "croupier-"
"""How the name of every cell begins; after it come the number and the start time of whom it was made for."""
_PACE_S = 0.002


class Cell(NamedTuple):
    """A cgroup that we make, and the one that it is made in: the home of whom it was made for."""

    version: Version
    path: str
    home: str


def lacking() -> str:
    """What this machine lacks for it, in a sentence; "" if nothing."""
    mounts = _mounts()
    if not mounts:
        return "no cgroup freezer is mounted here"
    for version in mounts:
        home = _home(os.getpid(), version)
        if home and os.access(home, os.W_OK):
            return ""
    return "no cgroup with a freezer may be written by this user (run as root, or in a delegated cgroup)"


def cell_for(pid: int, name: str, versions: Iterable[Version] = VERSIONS, controller: str = "freezer") -> Cell | None:
    """The cell that `pid` would be put into; nothing is made yet. None where its cgroup cannot be reached."""
    for version in versions:
        home = _home(pid, version, controller)
        if home and os.access(home, os.W_OK):
            return Cell(version, str(Path(home) / f"{PREFIX}{name}"), home)
    return None


def cell_with(pid: int, name: str, controller: str, knob: str) -> Cell | None:
    """The cell that `pid` would be put into, where it has a controller, with the file `knob` in v1; else None."""
    for version in VERSIONS:
        cell = cell_for(pid, name, (version,), controller)
        if cell is not None and _is_controlled(cell, controller, knob):
            return cell
    return None


def _is_controlled(cell: Cell, controller: str, knob: str) -> bool:
    if cell.version == 1:
        return (Path(cell.home) / knob).exists()
    # Below a cgroup of v2 that has processes of its own, controllers are there only if somebody delegated them so.
    return controller in _text(Path(cell.home) / "cgroup.subtree_control").split()


def no_cell_with(controller: str, knob: str, what: str) -> str:
    """What is lacking where nobody can be put into a cell with this controller, in a sentence; "" if nothing."""
    if cell_with(os.getpid(), "look", controller, knob) is None:
        return f"no cgroup with {what} may be written by this user (run as root, or in a delegated cgroup)"
    return ""


def is_frozen(cgroup: str, version: Version) -> bool:
    """Whether a cgroup stands still, by its own switch or by one above it."""
    if version == 1:
        return "FROZEN" in _text(Path(cgroup) / "freezer.state")
    return "frozen 1" in _text(Path(cgroup) / "cgroup.events")


def home_of(pid: int, version: Version, controller: str = "freezer") -> str:
    """The cgroup that a process lives in, as a directory; "" where it is gone, or cannot be seen from here."""
    return _home(pid, version, controller)


def confine(cell: Cell, who: Iterable[Identity]) -> None:
    """Make the cell, and move processes into it. One that is gone is left out. Raises OSError."""
    Path(cell.path).mkdir(exist_ok=True)
    for one in who:
        if not procs.alive(one):
            continue
        _move(one.pid, cell.path)
        stat = procs.read_stat(one.pid)
        if stat is not None and stat.started != one.started:
            # Its number was handed to somebody who was born this moment, and so belongs where its parent does.
            let_out(cell, one.pid)


def let_out(cell: Cell, pid: int) -> None:
    """Move somebody who has no business in the cell to where its parent lives. Raises OSError."""
    if pid in members(cell):
        stat = procs.read_stat(pid)
        home = _home(stat.parent, cell.version) if stat is not None else ""
        _move(pid, home if home and home != cell.path else cell.home)


def freeze(cell: Cell) -> None:
    """Begin to freeze; `is_frozen` says when it has come about. Raises OSError."""
    _switch(cell, on=True)


def thaw(cell: Cell) -> None:
    """Let the cell go on. Raises OSError."""
    _switch(cell, on=False)


def dissolve(
    cell: Cell, homes: Mapping[Identity, str] | None = None, within_s: float = 1.0, controller: str = "freezer"
) -> str:
    """Thaw, move everybody back to their own home, take the cell away. Returns "" once that is seen to be done, else
    what stands in the way.

    `homes` says where each was before; whoever was born in the cell goes where its nearest ancestor in there belongs.
    Idempotent: a cell that is not there is gone.
    """
    path = Path(cell.path)
    if not path.name.startswith(PREFIX) or path.parent != Path(cell.home):
        return f"{cell.path} is no cell of croupier's"
    end = time.monotonic() + within_s
    trouble, astray = "", dict[int, str]()
    while path.is_dir():
        try:
            if controller == "freezer":
                thaw(cell)
            for pid, home in [(one, _belongs(one, cell, homes or {})) for one in members(cell)]:
                astray.pop(pid, None)
                if seen := _send_home(pid, home, cell.version, controller):
                    astray[pid] = seen
            path.rmdir()
        except OSError as error:
            # Busy for as long as somebody inside is being moved, or ends.
            trouble = str(error)
        if not path.is_dir():
            break
        if time.monotonic() >= end:
            return trouble or f"{cell.path} is still there"
        time.sleep(_PACE_S)
    return "; ".join(astray.values())


def _belongs(pid: int, cell: Cell, homes: Mapping[Identity, str]) -> str:
    own = procs.identity(pid)
    if own is not None and homes.get(own):
        return homes[own]
    by_pid = {who.pid: home for who, home in homes.items() if home}
    return next((by_pid[up] for up in procs.ancestors(pid) if up in by_pid), cell.home)


def _send_home(pid: int, home: str, version: Version, controller: str) -> str:
    """Move one back; "" if it is seen there, or gone. Where its home was taken away, the next above has to do."""
    place = Path(home)
    while not place.is_dir():
        place = place.parent
    if not _move(pid, str(place)):
        return ""
    if str(place) != home:
        return f"pid {pid} was put into {place}, as {home} is not there any more"
    now, who = _home(pid, version, controller), procs.identity(pid)
    # Of one that has ended meanwhile, the place says nothing.
    return (
        "" if now == home or who is None or not procs.alive(who) else f"pid {pid} is in {now}, and belongs into {home}"
    )


def members(cell: Cell) -> list[int]:
    """Who is in the cell."""
    # A process that has no number here is shown as 0, which in a write would mean ourselves.
    return [pid for line in _text(Path(cell.path) / "cgroup.procs").split() if (pid := int(line))]


def _switch(cell: Cell, on: bool) -> None:
    if cell.version == 1:
        (Path(cell.path) / "freezer.state").write_text("FROZEN" if on else "THAWED")
    else:
        (Path(cell.path) / "cgroup.freeze").write_text("1" if on else "0")


def _move(pid: int, cgroup: str) -> bool:
    """False for one that is gone, or about to be: it stays on the lists for a moment."""
    try:
        (Path(cgroup) / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        return False
    return True


def _home(pid: int, version: Version, controller: str = "freezer") -> str:
    """The directory of the cgroup that `pid` lives in; "" where it cannot be seen from here."""
    mount = _mounts(controller).get(version)
    if mount is None:
        return ""
    for line in _text(Path(f"/proc/{pid}/cgroup")).splitlines():
        number, controllers, path = line.split(":", 2)
        if (number == "0") if version == 2 else (controller in controllers.split(",")):
            return mount.directory(path)
    return ""


def _mounts(controller: str = "freezer") -> dict[Version, cgroups.Mount]:
    """The first hierarchy of each version that may have this controller."""
    found: dict[Version, cgroups.Mount] = {}
    for mount in cgroups.mounts():
        if mount.version == 2 or controller in mount.controllers:
            found.setdefault(mount.version, mount)
    return dict(sorted(found.items(), reverse=True))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
