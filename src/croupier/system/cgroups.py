"""Cgroups: which ones a process is in, who is in one and below it, and what the kernel holds them to.

Both versions, and both at once: a path is looked for in every hierarchy that is mounted. A path is that of
/proc/PID/cgroup (cgroups(7)), from the root of its hierarchy, as systemd's ControlGroup and Docker's are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

Version = Literal[1, 2]

_UNLIMITED = 1 << 60
"""What v1 shows for no limit of memory is the largest number of pages; nobody has so many bytes."""


class Mount(NamedTuple):
    """One hierarchy that is mounted: `root` is the part of it that is shown in the directory `point`."""

    version: Version
    controllers: tuple[str, ...]
    root: str
    point: str

    def directory(self, path: str) -> str:
        """The directory of a cgroup; "" where the mount does not show it, as in a container."""
        inside = os.path.relpath(path, self.root)
        return "" if inside.startswith("..") else str(Path(self.point) / inside)


def mounts() -> list[Mount]:
    """Every hierarchy that is mounted, in the order in which they were."""
    found: list[Mount] = []
    for line in _text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            found.append(Mount(2, (), fields[3], fields[4]))
        elif kind[0] == "cgroup":
            found.append(Mount(1, tuple(kind[2].split(",")), fields[3], fields[4]))
    return found


def paths(pid: int) -> tuple[str, ...] | None:
    """Every cgroup that a process is in, each once; the root only where it is in no other. None where it is gone."""
    lines = [line.split(":", 2) for line in _text(f"/proc/{pid}/cgroup").splitlines()]
    if not lines:
        return None
    # The unified hierarchy comes first: it is the one that people mean.
    found = dict.fromkeys(path for number, _, path in sorted(lines, key=lambda line: line[0] != "0") if path != "/")
    return tuple(found) or ("/",)


def members(path: str) -> list[int]:
    """Everybody who is in this cgroup or below it, in any hierarchy; nobody where it is not there."""
    if path == "/":
        return []  # Everybody, or nobody: the root is no group.
    found: dict[int, None] = {}
    for mount in mounts():
        top = mount.directory(path)
        for folder, _, files in os.walk(top) if top else ():
            if "cgroup.procs" in files:
                # A process that has no number here is shown as 0.
                found.update((int(line), None) for line in _text(f"{folder}/cgroup.procs").split() if line != "0")
    return list(found)


def processors(pid: int) -> float | None:
    """How many processors the cgroup of a process may use; None where it is held to no number."""
    for directory in _directories(pid, "cpu"):
        try:
            if (quota := _text(f"{directory}/cpu.max").split()) and quota[0] != "max":
                return int(quota[0]) / int(quota[1])
            if (quota := _text(f"{directory}/cpu.cfs_quota_us").split()) and int(quota[0]) > 0:
                return int(quota[0]) / int(_text(f"{directory}/cpu.cfs_period_us"))
        except (ValueError, IndexError):
            continue
    return None


def memory_bytes(pid: int) -> int | None:
    """How much memory the cgroup of a process may use; None where it is held to no number."""
    for directory in _directories(pid, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            said = _text(f"{directory}/{name}").strip()
            if said.isdigit() and int(said) < _UNLIMITED:
                return int(said)
    return None


def _directories(pid: int, controller: str) -> Iterator[str]:
    """The directories that may hold this controller's files for a process."""
    lines = [line.split(":", 2) for line in _text(f"/proc/{pid}/cgroup").splitlines()]
    for mount in mounts():
        if mount.version == 1 and controller not in mount.controllers:
            continue
        for number, controllers, path in lines:
            if (number == "0") if mount.version == 2 else (controller in controllers.split(",")):
                yield mount.directory(path)


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
