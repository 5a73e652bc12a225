"""Cgroups that a test makes, in every hierarchy that this machine has, and takes away with whoever is left in them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hands import eventually

from croupier.model.target import Identity
from croupier.system import cgroups


@cache
def lacking() -> str:
    """Why such tests cannot be played here; "" where they can."""
    if os.geteuid() != 0:
        return "cgroups and namespaces of the test's own need root"
    tried = subprocess.run(
        ("unshare", "--net", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/run"),
        capture_output=True, text=True,
    )  # fmt: skip
    if tried.returncode:
        return f"no mounts may be made here, even in a namespace: {tried.stderr.strip()}"
    writable = [one for one in cgroups.mounts() if os.access(one.point, os.W_OK)]
    return "" if writable else "no cgroup may be made here"


def folders(path: str) -> list[Path]:
    """The directories of a cgroup, where it is there."""
    found = (one.directory(path) for one in cgroups.mounts())
    return [Path(one) for one in dict.fromkeys(found) if one and Path(one).is_dir()]


@contextmanager
def a_cgroup(path: str) -> Iterator[list[Path]]:
    """One of this path in every hierarchy; its directories."""
    # Of v1 the cpuset hierarchy takes nobody in before it was told of processors.
    mounts = [one for one in cgroups.mounts() if "cpuset" not in one.controllers]
    places = [Path(one.directory(path)) for one in mounts if one.directory(path)]
    try:
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        yield places
    finally:
        take_away(path)


def put_into(places: Iterable[Path], who: Identity) -> None:
    """Move a process into a cgroup."""
    for place in places:
        (place / "cgroup.procs").write_text(str(who.pid))


def take_away(path: str) -> None:
    """End whoever is in a cgroup that the test made, and remove it."""
    assert "croupier-test" in path
    for pid in cgroups.members(path):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for place in folders(path):
        for top, _, _ in os.walk(place, topdown=False):
            assert eventually(lambda top=top: _remove(top), 10), f"{top} cannot be removed"


def _remove(folder: str) -> bool:
    try:
        Path(folder).rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
