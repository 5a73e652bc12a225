"""The fifth way: look at the directory whenever something in it has changed, while the workload stands still.

Any system. What happens between two looks is one change, so not every moment is seen: what is found is real, for it
was on the disk, and that nothing is found proves nothing. With inotify(7) where there is one, else by looking a
thousand times a second.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .acts import Kill
from .book import Traced
from .launch import Order
from .output import Outlet
from .seen import OnSeen, Seen, Workload
from .table import Kind

EVENT: Final = "event"
"""What a look is called, in place of a call."""
BLIND: Final = "changes that came between two looks at the directory were not seen one by one"
_MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200
_ALL: Final = _MODIFY | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_KINDS: Final[tuple[tuple[int, Kind], ...]] = (
    (_CREATE, "create"), (_DELETE, "unlink"), (_MOVED_TO, "create"), (_MOVED_FROM, "unlink"), (_MODIFY, "write"),
    (_ATTRIB, "attr"),
)  # fmt: skip
_HEAD: Final = struct.Struct("iIII")
_LOOK_S: Final = 0.001


class Watch:
    """One workload, watched by what becomes of its directory."""

    def __init__(self, root: Path, on_call: OnSeen, after: Callable[[], None]) -> None:
        """`after` is called when a change was told, while nobody of the workload moves."""
        self._root = root
        self._on_call = on_call
        self._after = after
        self._index = 0

    def run(self, order: Order, outlet: Outlet) -> Traced:
        """Start the workload and look until it has ended. Raises what the handler raises."""
        workload = Workload(order, outlet)
        looking = _Inotify(self._root) if sys.platform == "linux" else _Looks(self._root)
        try:
            workload.start()
            while workload.wait():
                self._tell(looking.wait(0.02), workload)
            self._tell(looking.wait(0.0), workload)
        except BaseException:
            workload.kill()
            raise
        finally:
            looking.close()
        return workload.finish("events", self._index, (BLIND,))

    def _tell(self, changes: list[tuple[Kind, str]], workload: Workload) -> None:
        """One look, however much has changed: what lay between was on the disk, and was not looked at."""
        if not changes or workload.ended:
            return
        workload.stop(still=True)
        try:
            workload.outlet.glance()
            self._index += 1
            kind, path = changes[0]
            seen = Seen(index=self._index, name=EVENT, kind=kind, path=path, at_us=workload.at_us)
            if isinstance(self._on_call(seen), Kill):
                workload.kill(at=self._index)
                return
            self._after()
        finally:
            workload.stop(still=False)


class _Inotify:
    """Changes below a directory, as the kernel tells of them."""

    def __init__(self, root: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._homes: dict[int, str] = {}
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)
        self._add(str(root))

    def _add(self, folder: str) -> None:
        number = self._libc.inotify_add_watch(self._file, os.fsencode(folder), ctypes.c_uint32(_ALL))
        if number >= 0:
            self._homes[number] = folder
        for one in os.scandir(folder):
            if one.is_dir(follow_symlinks=False):
                self._add(one.path)

    def wait(self, for_s: float) -> list[tuple[Kind, str]]:
        """What has changed, waiting so long for the first."""
        if not self._poll.poll(for_s * 1000):
            return []
        try:
            data = os.read(self._file, 1 << 16)
        except BlockingIOError:
            return []
        found: list[tuple[Kind, str]] = []
        place = 0
        while place + _HEAD.size <= len(data):
            number, mask, _, length = _HEAD.unpack_from(data, place)
            name = data[place + _HEAD.size : place + _HEAD.size + length].split(b"\0")[0]
            place += _HEAD.size + length
            path = os.path.join(self._homes.get(number, ""), os.fsdecode(name))  # noqa: PTH118
            kind = next((kind for bit, kind in _KINDS if mask & bit), None)
            if kind is None:
                continue
            if kind == "create" and Path(path).is_dir():
                self._add(path)
                kind = "mkdir"
            found.append((kind, path))
        return found

    def close(self) -> None:
        """Let go."""
        os.close(self._file)


class _Looks:
    """Changes below a directory, found by looking at all of it over and over."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before = self._look()

    def _look(self) -> dict[str, tuple[int, int, int]]:
        found = {}
        for one in self._root.rglob("*"):
            try:
                status = one.lstat()
            except OSError:
                continue
            found[str(one)] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return found

    def wait(self, for_s: float) -> list[tuple[Kind, str]]:
        """What has changed, looking so long for the first."""
        end = time.monotonic() + for_s
        while True:
            before, self._before = self._before, self._look()
            changes: list[tuple[Kind, str]] = [
                ("create" if path not in before else "write", path)
                for path, now in self._before.items()
                if before.get(path) != now
            ]
            changes += [("unlink", path) for path in before if path not in self._before]
            if changes or time.monotonic() >= end:
                return changes
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """Nothing is held."""
