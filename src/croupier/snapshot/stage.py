"""Where a check meets a state: a directory that holds it, and that holds it again however the check used it.

Three ways, and the stage says which it took:

`written`   the state is written anew for each check: for small ones, nothing is quicker.
`overlay`   one copy is kept, the next state is made from it by what differs, and checks work on an overlay over it,
            which is dropped. For all others, where the machine allows it (see the module `overlay`).
`kept`      the same copy without an overlay: what the check changed is found by stat(2) and written anew. 6 µs a file,
            and as much as the check wrote to. Where there are no overlays, or they were caught lying.

A stage is made in one process and opened in another: it is sent there as a pickle.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..model.errors import HarnessError
from . import overlay
from .materialise import Weight, materialise, patch, remove, restore, weigh
from .objects import Store

Way = Literal["written", "kept", "overlay"]
SMALL_BYTES = 1 << 20
SMALL_NAMES = 200
_Sign = tuple[int, int, int, int, int, int, int]


class Stage:
    """One directory for one check at a time."""

    def __init__(self, store: Path, place: Path, *, weight: Weight | None = None, way: Way | None = None) -> None:
        """`place` is for copies that do not fit into memory; `weight` is that of a usual state."""
        self.store_folder = store
        self.place = place
        self.weight = weight or Weight(0, 0)
        self.way: Way = way or self._choose()
        self.why = "" if way is None else "it was asked for"
        self.folder = Path()
        self._holds = ""
        self._signs: dict[bytes, _Sign] = {}
        self._mounted = False

    def _choose(self) -> Way:
        if self.weight.size <= SMALL_BYTES and self.weight.names <= SMALL_NAMES:
            return "written"
        return "overlay"

    def open(self) -> None:
        """Make ready, in the process (with one thread) that starts the checks."""
        self._store = Store(self.store_folder, writable=False)
        self.folder = Path(tempfile.mkdtemp(prefix="croupier-stage-", dir=_roomy(self.place, self.weight)))
        self._path = os.fsencode(self.folder)
        if self.way == "overlay":
            try:
                overlay.enter_namespace()
                self._try_overlay()
            except OSError as problem:
                self.way, self.why = "kept", f"no overlay: {problem}"

    def set_up(self, digest: str, *, plain: bool = False) -> Path:
        """The directory, holding a state. `plain` gives a copy of its own, without an overlay."""
        if self.way == "written" or plain:
            self._remove(b"/state")
            materialise(self._store, digest, self.folder / "state")
            return self.folder / "state"
        base = self.folder / ("base" if self.way == "overlay" else "state")
        self._bring(digest, base)
        if self.way == "overlay":
            self._mount()
        elif _COARSE:
            # Whatever is changed from now on must show another time.
            time.sleep(0.012)
        return self.folder / "state"

    def clear(self) -> None:
        """Forget what the check did. Nothing of it may run any more."""
        if self.way == "overlay" and self._mounted:
            overlay.unmount(self._path + b"/state")
            self._mounted = False
            self._remove(b"/upper")
            self._remove(b"/work")
        elif self.way == "kept":
            self._put_back()
        else:
            self._remove(b"/state")

    def distrust(self, why: str) -> None:
        """An overlay gave another answer than a plain copy: there are none from now on."""
        self._remove(b"/state")
        self.way, self.why = "kept", why
        self._holds = ""

    def close(self) -> None:
        """Remove everything."""
        if self._mounted:
            overlay.unmount(self._path + b"/state")
            self._mounted = False
        if self.folder != Path():
            remove(self._path)
        self._store.close()

    # --- one copy, kept -----------------------------------------------------------------------------------------------

    def _bring(self, digest: str, base: Path) -> None:
        if self._holds == digest:
            return
        written: list[bytes] | None = None
        if self._holds:
            try:
                written = patch(self._store, self._holds, digest, base)
            except HarnessError:
                # A folder that its owner may not write to; or no room, which shows again right away.
                written = None
        self._holds = ""
        if written is None:
            remove(os.fsencode(base))
            materialise(self._store, digest, base)
            if self.way == "kept":
                self._signs = dict(_signs(os.fsencode(base), b""))
        elif self.way == "kept":
            self._note(os.fsencode(base), written)
        self._holds = digest

    def _put_back(self) -> None:
        if not self._holds:
            self._remove(b"/state")
            return
        root = self._path + b"/state"
        now = dict(_signs(root, b""))
        odd = [path for path, sign in now.items() if self._signs.get(path) != sign]
        odd += [path for path in self._signs if path not in now]
        if b"" in odd and not os.path.isdir(root):  # noqa: PTH112 - bytes
            self._holds = ""
        elif odd:
            digest, self._holds = self._holds, ""
            try:
                restore(self._store, digest, self.folder / "state", odd)
            except HarnessError:
                # What the check left stands in the way: it is written anew for the next.
                return
            self._note(root, odd)
            self._holds = digest

    def _note(self, root: bytes, paths: list[bytes]) -> None:
        """Know these paths, and what is below and above them, as they are now."""
        for path in sorted(set(paths)):
            inside = path + b"/" if path else b"\0"
            if path:
                for one in [one for one in self._signs if one.startswith(inside)] if self._is_folder(path) else ():
                    del self._signs[one]
            self._signs.pop(path, None)
            try:
                status = os.lstat(root + b"/" + path if path else root)
            except OSError:
                continue
            self._signs[path] = _sign(status)
            if path and stat.S_ISDIR(status.st_mode):
                self._signs.update(_signs(root, path))
            parts = path.split(b"/")
            for depth in range(1, len(parts)):
                above = b"/".join(parts[:depth])
                self._signs[above] = _sign(os.lstat(root + b"/" + above))

    def _is_folder(self, path: bytes) -> bool:
        sign = self._signs.get(path)
        return sign is None or stat.S_ISDIR(sign[0])

    # --- below an overlay ---------------------------------------------------------------------------------------------

    def _try_overlay(self) -> None:
        (self.folder / "base").mkdir()
        self._mount()
        try:
            (self.folder / "state" / "probe").write_bytes(b"")
        finally:
            self.clear()

    def _mount(self) -> None:
        for name in ("upper", "work", "state"):
            (self.folder / name).mkdir(exist_ok=True)
        if self._holds:
            # The top of an overlay shows the permissions of its upper directory.
            shutil.copystat(self.folder / "base", self.folder / "upper")
            status = os.lstat(self.folder / "base")
            if os.geteuid() == 0:
                os.chown(self.folder / "upper", status.st_uid, status.st_gid)
        overlay.mount_overlay(self._path, as_root=os.geteuid() == 0)
        self._mounted = True

    def _remove(self, name: bytes) -> None:
        if self._mounted and name == b"/state":
            overlay.unmount(self._path + name)
            self._mounted = False
        remove(self._path + name)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_store"}


def stage_for(store: Store, digest: str, place: Path, *, way: Way | None = None) -> Stage:
    """A stage that suits states like this one."""
    return Stage(store.folder, place, weight=weigh(store, digest), way=way)


def _roomy(place: Path, weight: Weight) -> Path:
    """Memory where it has room for some copies: a sync costs nothing there. Else the given place."""
    memory = Path("/dev/shm")
    try:
        free = os.statvfs(memory)
        wanted = max(8 << 20, 4 * (weight.size + 4_096 * weight.names))
        if os.access(memory, os.W_OK | os.X_OK) and free.f_bavail * free.f_frsize > 2 * wanted:
            return memory
    except OSError:
        pass
    place.mkdir(parents=True, exist_ok=True)
    return place.resolve()


def _signs(root: bytes, path: bytes) -> Iterator[tuple[bytes, _Sign]]:
    """What stat(2) shows of a path and everything below it."""
    here = root + b"/" + path if path else root
    try:
        yield path, _sign(os.lstat(here))
        found = os.scandir(here)
    except OSError:
        return
    prefix = path + b"/" if path else b""
    with found:
        for one in found:
            status = one.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield from _signs(root, prefix + one.name)
            else:
                yield prefix + one.name, _sign(status)


def _sign(status: os.stat_result) -> _Sign:
    if stat.S_ISDIR(status.st_mode):
        # Its times and size change with what is in it, which is looked at by itself.
        return status.st_mode, status.st_ino, status.st_uid, status.st_gid, 0, 0, 0
    return (
        status.st_mode, status.st_ino, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns,
        status.st_ctime_ns,
    )  # fmt: skip


def _is_coarse() -> bool:
    """Before Linux 6.13 two changes within a tick of the clock (up to 10 ms) show the same time."""
    numbers = re.match(r"(\d+)\.(\d+)", platform.release())
    return numbers is None or (int(numbers[1]), int(numbers[2])) < (6, 13)


_COARSE = _is_coarse()
