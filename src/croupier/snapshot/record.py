"""Follow a directory while a program changes it: after each call, the digest of the state as it is now.

A hint says what the call may have touched, and only that is looked at; so a snapshot costs what changed, not what is
there. A hint may be too wide, never too narrow: what no hint announced is found by `unannounced` (contents, all of
them) or `sweep` (what stat(2) shows, quickly), which is how a search finds out that its recorder is blind.

Whoever changes the directory must stand still during a snapshot.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ..model.errors import HarnessError
from ..model.noun import Noun
from . import content
from .objects import NULL, Store
from .tree import KEPT_XATTRS, Entry, Names, Row, Tree, changed, find, folder, put, save, save_links, walk

_TO_THE_END: Final = 1 << 62


class Touched(Noun, frozen=True, kw_only=True):
    """What a call may have changed: bytes of a file from `offset` on, its permissions, whether it is there at all.

    For a directory with `length` None: everything below it.
    """

    path: str
    """Relative to the recorded directory; "" is that directory itself."""
    offset: int = 0
    length: int | None = None
    """None: up to the end. 0: no bytes, only what stat(2) shows."""
    source: str = ""
    """What is at `path` was there before, under this name: after a rename or a link nothing is read again."""


class _Seen:
    """What was last seen of one name."""

    __slots__ = ("below", "ctime", "device", "inode", "mode", "mtime", "size")

    def __init__(self, status: os.stat_result) -> None:
        self.below: dict[bytes, _Seen] = {}
        self.take(status)

    def take(self, status: os.stat_result) -> None:
        self.mode = status.st_mode
        self.device = status.st_dev
        self.inode = status.st_ino
        self.size = status.st_size
        self.mtime = status.st_mtime_ns
        self.ctime = status.st_ctime_ns

    def is_same(self, status: os.stat_result) -> bool:
        return (
            self.inode == status.st_ino
            and self.device == status.st_dev
            and stat.S_IFMT(self.mode) == stat.S_IFMT(status.st_mode)
        )


class _Task:
    """What is to be looked at under one name."""

    __slots__ = ("origin", "ranges")

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []
        self.origin: _Origin | None = None


class _Origin(NamedTuple):
    seen: _Seen
    entry: Entry


class Recorder:
    """Keeps the states of one directory in a store, one digest after the other."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root = root
        self.store = store
        self.blind: dict[str, str] = {}
        """Paths that could not be read, with the reason."""
        self.digest = ""
        self._root = os.fsencode(root)
        self._linked: dict[tuple[int, int], set[Names]] = {}
        self._links = ""
        self._links_changed = False
        self._at = _Seen(os.lstat(self._root))
        self._top = _plain_entry(os.lstat(self._root), self._root)
        if not self._top.is_dir:
            raise HarnessError("the state is not a directory", at=str(root))

    @property
    def tree(self) -> Tree:
        """The state as it was last seen."""
        return Tree(self._top, self._links)

    def full(self) -> str:
        """Read everything, whatever was known, and return the digest."""
        self.digest = ""
        self._linked, self._links_changed = {}, True
        self.blind = {}
        self._scanned: dict[tuple[int, int], Entry] = {}
        self._top, self._at, _ = self._scan(self._root, ())
        return self._done()

    def move_to(self, root: Path) -> None:
        """The directory has another path for now; what is in it is the same."""
        self.root, self._root = root, os.fsencode(root)

    def snapshot(self, hint: Iterable[Touched] | None = None, mapped: Iterable[str] = ()) -> str:
        """Look at what the hint names and return the digest of the state. Without a hint, and at first: `full`.

        `mapped` are files that somebody may write without a call; they are read whole.
        """
        if hint is None or not self.digest:
            return self.full()
        self._scanned = {}
        # Should this end in the middle (a full disk), the hint is lost, and the next snapshot reads everything.
        self.digest = ""
        tasks, dirty = self._sort(hint, mapped)
        for names, task in tasks.items():
            self._look(names, task, dirty)
        return self._done()

    def unannounced(self) -> tuple[str, ...]:
        """Read everything and name the paths that are not as the hints said: empty for a recorder that sees all."""
        before = self.tree
        if self.full() == save(self.store, before):
            return ()
        paths = [os.fsdecode(path) for path, _, _ in changed(self.store, before.top, self._top)]
        return tuple(paths) or (("",) if before.top != self._top else ("(links)",))

    def sweep(self) -> tuple[str, ...]:
        """Name the paths that stat(2) shows changed since they were last seen. Quick; blind to stores through a
        mapping, and on kernels before 6.13 to a change within 4 ms of the last look."""
        return tuple(sorted(os.fsdecode(path) for path in self._sweep(self._root, self._at, b"")))

    # --- sorting the hints -----------------------------------------------------------------------------------------

    def _sort(
        self, hint: Iterable[Touched], mapped: Iterable[str]
    ) -> tuple[dict[Names, _Task], dict[int, list[tuple[int, int]]]]:
        tasks: dict[Names, _Task] = {}
        dirty: dict[int, list[tuple[int, int]]] = {}
        for one in (*hint, *(Touched(path=path) for path in mapped)):
            names = _names(one.path)
            task = tasks.setdefault(names, _Task())
            if one.source:
                self._follow(tasks, names, _names(one.source))
                continue
            if one.length == 0:
                continue
            span = (one.offset, _TO_THE_END if one.length is None else one.offset + one.length)
            task.ranges.append(span)
            seen = task.origin.seen if task.origin else self._seen(names)
            if seen is not None:
                dirty.setdefault(id(seen), []).append(span)
                # Should this name go away in the same breath, the other names of the file still have the bytes.
                for other in self._linked.get((seen.device, seen.inode), ()):
                    if other != names:
                        tasks.setdefault(other, _Task()).ranges.append(span)
        return tasks, dirty

    def _follow(self, tasks: dict[Names, _Task], names: Names, source: Names) -> None:
        """Something moved: what was touched under its old name is to be looked at under the new one."""
        for path, task in list(tasks.items()):
            if len(path) > len(source) and path[: len(source)] == source:
                tasks.setdefault((*names, *path[len(source) :]), _Task()).ranges += task.ranges
        before = tasks.get(source)
        if before is not None and before.origin is not None:
            tasks[names].origin = before.origin
            return
        seen = self._seen(source)
        row = find(self.store, self._top, source) if seen is not None else None
        tasks[names].origin = _Origin(seen, row.entry) if seen is not None and row is not None else None
        if before is not None:
            tasks[names].ranges += before.ranges

    def _seen(self, names: Names) -> _Seen | None:
        at: _Seen | None = self._at
        for name in names:
            at = at.below.get(name) if at else None
        return at

    # --- looking ------------------------------------------------------------------------------------------------------

    def _look(self, names: Names, task: _Task, dirty: dict[int, list[tuple[int, int]]]) -> None:
        if not names:
            self._look_at_root(task)
            return
        parent, path = self._at, self._root
        for depth, name in enumerate(names[:-1], 1):
            path = path + b"/" + name
            child, status = parent.below.get(name), _lstat(path)
            # The way there is not what it was: then everything below is new, and links are never followed.
            if child is None or status is None or not child.is_same(status) or not stat.S_ISDIR(status.st_mode):
                above = _Task()
                above.ranges.append((0, _TO_THE_END))
                self._look(names[:depth], above, dirty)
                return
            parent = child
        path = path + b"/" + names[-1]
        status, old = _lstat(path), parent.below.get(names[-1])
        if status is None:
            self._gone(names, parent, old)
            return
        base = self._base(names, task, status, old)
        if old is not None and (base is None or base.seen is not old):
            self._drop_links(names, old)
        try:
            entry, seen = self._examine(names, path, status, task, dirty, base)
        except FileNotFoundError:
            self._gone(names, parent, old)
            return
        parent.below[names[-1]] = seen
        self._top = put(self.store, self._top, names, entry, seen.mtime)
        self._tie(names, status, entry)

    def _look_at_root(self, task: _Task) -> None:
        if any(end > start for start, end in task.ranges):
            self.full()
            return
        status = os.lstat(self._root)
        self._at.take(status)
        self._top = _renewed(self._top, _plain_entry(status, self._root))

    def _base(self, names: Names, task: _Task, status: os.stat_result, old: _Seen | None) -> _Origin | None:
        """What was known of this very file before, under this name or the one that it had."""
        if old is not None and old.is_same(status):
            row = find(self.store, self._top, names)
            return _Origin(old, row.entry) if row else None
        if task.origin is not None and task.origin.seen.is_same(status):
            return task.origin
        return None

    def _examine(
        self, names: Names, path: bytes, status: os.stat_result, task: _Task, dirty: dict[int, list[tuple[int, int]]],
        base: _Origin | None,
    ) -> tuple[Entry, _Seen]:  # fmt: skip
        if stat.S_ISDIR(status.st_mode):
            if base is None or task.ranges:
                entry, seen, _ = self._scan(path, names)
                return entry, seen
            if base.seen is not self._seen(names):
                self._tie_below(names, base.seen)
            base.seen.take(status)
            return _renewed(base.entry, _plain_entry(status, path)), base.seen
        entry = _plain_entry(status, path)
        if not stat.S_ISREG(status.st_mode):
            return entry, _Seen(status)
        if base is None:
            return self._read(path, entry, None, [(0, _TO_THE_END)], 0), _Seen(status)
        ranges = [*task.ranges, *dirty.get(id(base.seen), ())]
        entry = self._read(path, entry, base.entry, ranges, base.seen.size)
        # A second name of the file, by link(2), must not share what is seen of the first.
        seen = base.seen if self._seen(names) is base.seen else _Seen(status)
        seen.take(status)
        return entry, seen

    def _read(
        self, path: bytes, entry: Entry, before: Entry | None, ranges: list[tuple[int, int]], old_size: int
    ) -> Entry:
        """The entry with the content as it is now, of which only the given parts may differ from before."""
        size = entry.size
        if before is not None and size == old_size and not ranges:
            return _with_content(entry, before.root, size)
        if size == 0:
            return _with_content(entry, NULL, 0)
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError:
            self.blind[os.fsdecode(path[len(self._root) + 1 :])] = "no permission to read it"
            return _with_content(entry, before.root if before and size == old_size else NULL, size)
        try:
            if before is None or any(start <= 0 and end >= size for start, end in ranges):
                return _with_content(entry, content.read_file(self.store, file, size), size)
            chunks: dict[int, bytes] = {}
            for start, end in (*ranges, (min(size, old_size), max(size, old_size))):
                # What was cut and grown again between is zeros on disk, and holes are quickly read.
                if start < min(end, size):
                    chunks.update(self._chunks(file, start, min(end, size)))
            if size < old_size and size % content.CHUNK:
                chunks.update(content.read_chunks(self.store, file, size - 1, size))
            return _with_content(entry, content.change(self.store, before.root, before.size, size, chunks), size)
        finally:
            os.close(file)

    def _chunks(self, file: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        if end - start <= 1 << 20:
            yield from content.read_chunks(self.store, file, start, end)
            return
        first, last = start // content.CHUNK, -(-end // content.CHUNK)
        for begin, stop in content.extents(file, start, end):
            yield from ((number, NULL) for number in range(first, begin // content.CHUNK))
            yield from content.read_chunks(self.store, file, begin, stop)
            first = -(-stop // content.CHUNK)
        yield from ((number, NULL) for number in range(first, last))

    def _gone(self, names: Names, parent: _Seen, old: _Seen | None) -> None:
        if old is not None:
            self._drop_links(names, old)
            del parent.below[names[-1]]
            self._top = put(self.store, self._top, names, None)

    # --- hard links -----------------------------------------------------------------------------------------------

    def _tie(self, names: Names, status: os.stat_result, entry: Entry) -> None:
        """Note that this is one of several names of a file, and give the others what it has."""
        key = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode) or (status.st_nlink < 2 and key not in self._linked):
            return
        group = self._linked.setdefault(key, set())
        if names not in group:
            group.add(names)
            self._links_changed = True
        for other in group - {names}:
            seen = self._seen(other)
            if seen is not None and seen.is_same(status):
                seen.take(status)
                self._top = put(self.store, self._top, other, entry, status.st_mtime_ns)

    def _tie_below(self, names: Names, seen: _Seen) -> None:
        """A directory came here under a new name: so did the names of linked files in it."""
        if not self._linked:
            return
        for below, one in _everything(names, seen):
            group = self._linked.get((one.device, one.inode))
            if group is not None and not stat.S_ISDIR(one.mode):
                group.add(below)
                self._links_changed = True

    def _drop_links(self, names: Names, seen: _Seen) -> None:
        if not self._linked:
            return
        for below, one in ((names, seen), *_everything(names, seen)):
            group = self._linked.get((one.device, one.inode))
            if group is not None and below in group:
                group.discard(below)
                self._links_changed = True

    # --- reading everything -------------------------------------------------------------------------------------------

    def _scan(self, path: bytes, names: Names) -> tuple[Entry, _Seen, int]:
        status = os.lstat(path)
        seen = _Seen(status)
        rows = []
        try:
            found = sorted(os.listdir(path))  # noqa: PTH208 - bytes
        except PermissionError:
            self.blind[os.fsdecode(b"/".join(names))] = "no permission to list it"
            found = []
        for name in found:
            below, here = (*names, name), path + b"/" + name
            inner = _lstat(here)
            if inner is None:
                continue
            if stat.S_ISDIR(inner.st_mode):
                entry, child, _ = self._scan(here, below)
            else:
                child = _Seen(inner)
                entry = self._scan_file(here, inner)
                if inner.st_nlink > 1:
                    self._linked.setdefault((inner.st_dev, inner.st_ino), set()).add(below)
                    self._links_changed = True
            seen.below[name] = child
            rows.append(Row(name, entry, inner.st_mtime_ns))
        return folder(self.store, _plain_entry(status, path), rows), seen, status.st_mtime_ns

    def _scan_file(self, path: bytes, status: os.stat_result) -> Entry:
        entry = _plain_entry(status, path)
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            return entry
        known = self._scanned.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if known is None:
            known = self._read(path, entry, None, [(0, _TO_THE_END)], 0)
            if status.st_nlink > 1:
                self._scanned[(status.st_dev, status.st_ino)] = known
        return known

    def _sweep(self, path: bytes, seen: _Seen, shown: bytes) -> Iterator[bytes]:
        left = dict(seen.below)
        with os.scandir(path) as entries:
            for one in entries:
                here = shown + b"/" + one.name if shown else one.name
                known = left.pop(one.name, None)
                status = _lstat(path + b"/" + one.name)
                if known is None or status is None or not known.is_same(status) or known.mode != status.st_mode:
                    yield here
                elif stat.S_ISDIR(status.st_mode):
                    yield from self._sweep(path + b"/" + one.name, known, here)
                elif (known.size, known.mtime, known.ctime) != (
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                ):
                    yield here
        yield from (shown + b"/" + name if shown else name for name in left)

    def _done(self) -> str:
        if self._links_changed:
            groups = [[b"/".join(names) for names in group] for group in self._linked.values()]
            self._links = save_links(self.store, groups)
            self._linked = {key: group for key, group in self._linked.items() if group}
            self._links_changed = False
        self.digest = save(self.store, Tree(self._top, self._links))
        self.store.flush()
        return self.digest


def paths_of(store: Store, tree: Tree) -> list[str]:
    """Every path of a state."""
    return [os.fsdecode(path) for path, _ in walk(store, tree.top)]


def _names(path: str) -> Names:
    return tuple(name for name in os.fsencode(path).split(b"/") if name not in (b"", b"."))


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _everything(names: Names, seen: _Seen) -> Iterator[tuple[Names, _Seen]]:
    for name, below in seen.below.items():
        yield (*names, name), below
        if below.below:
            yield from _everything((*names, name), below)


def _plain_entry(status: os.stat_result, path: bytes) -> Entry:
    """An entry without content, but for the text of a symlink."""
    mode, root, device, size = status.st_mode, NULL, 0, 0
    if stat.S_ISLNK(mode):
        root = os.readlink(path)  # noqa: PTH115 - bytes
        size = len(root)
    elif stat.S_ISREG(mode):
        size = status.st_size
    elif stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        device = status.st_rdev
    return Entry(
        mode=mode, uid=status.st_uid, gid=status.st_gid, size=size, root=root, device=device,
        xattrs=_xattrs(path, mode),
    )  # fmt: skip


def _xattrs(path: bytes, mode: int) -> tuple[tuple[bytes, bytes], ...]:
    if stat.S_ISLNK(mode) or not hasattr(os, "listxattr"):
        return ()
    try:
        names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(KEPT_XATTRS)]
        return tuple((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names))
    except OSError:
        # A file system without them, or gone meanwhile.
        return ()


def _with_content(entry: Entry, root: bytes, size: int) -> Entry:
    return Entry(mode=entry.mode, uid=entry.uid, gid=entry.gid, size=size, root=root, xattrs=entry.xattrs)


def _renewed(entry: Entry, now: Entry) -> Entry:
    """A directory with what belongs to its name as it is now."""
    return Entry(
        mode=now.mode, uid=now.uid, gid=now.gid, size=entry.size, root=entry.root, count=entry.count, xattrs=now.xattrs
    )
