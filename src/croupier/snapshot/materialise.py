"""Make a directory out of a stored state, or out of the directory of another state by what differs."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..model.errors import HarnessError
from . import content
from .objects import Store
from .tree import KEPT_XATTRS, Entry, Row, Tree, changed, find, links_of, map_rows, open_tree

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHARES = (errno.ENOSPC, errno.EDQUOT)


class Weight(NamedTuple):
    """How much a state is to write."""

    size: int
    names: int


def weigh(store: Store, digest: str) -> Weight:
    """Bytes and names of a state, without reading it."""
    top = open_tree(store, digest).top
    return Weight(top.size, top.count)


def materialise(store: Store, digest: str, into: Path) -> None:
    """Write a state into a directory, which is made, or is there and empty. Nothing is shared with the store.

    Contents, permissions, times, symlinks, hard links, holes, extended attributes, pipes and sockets are as they were;
    owners too, where we are root.
    """
    tree = open_tree(store, digest)
    root = os.fsencode(into)
    try:
        os.makedirs(root, exist_ok=True)  # noqa: PTH103 - bytes
        _Writer(store, tree, root).everything()
    except OSError as problem:
        raise _trouble(problem, into) from problem


def restore(store: Store, digest: str, into: Path, paths: list[bytes]) -> None:
    """Make some paths of a directory as they are in a state again, whatever has become of them.

    A path below another one of the list need not be given.
    """
    tree = open_tree(store, digest)
    root = os.fsencode(into)
    try:
        _Writer(store, tree, root).anew(paths)
    except OSError as problem:
        raise _trouble(problem, into) from problem


def patch(store: Store, old: str, new: str, into: Path) -> list[bytes]:
    """Make a directory that holds the state `old`, untouched, hold `new`. Only what differs is written.

    Returns the paths that were written, for whoever keeps an eye on them.
    """
    before, now = open_tree(store, old), open_tree(store, new)
    root = os.fsencode(into)
    writer = _Writer(store, now, root)
    differences = list(changed(store, before.top, now.top))
    again = _linked_and_changed(store, before, now, {path for path, _, _ in differences})
    try:
        for path, was, become in differences:
            if path not in again:
                writer.turn(path, was, become)
        writer.anew(sorted(again))
        if before.top != now.top:
            writer.dress_folder(root, now.top, None)
    except OSError as problem:
        raise _trouble(problem, into) from problem
    return [path for path, _, _ in differences] + sorted(again)


def _linked_and_changed(store: Store, before: Tree, now: Tree, paths: set[bytes]) -> set[bytes]:
    """Names of linked files that are to be made again: all of a group, where one of it or the group itself changed."""
    if not before.links and not now.links:
        return set()
    olds, news = links_of(store, before), links_of(store, now)
    again: set[bytes] = set()
    for group in olds if before.links == now.links else [*olds, *news]:
        if before.links != now.links or paths.intersection(group):
            again.update(group)
    return again


class _Writer:
    """Writes parts of one state below one directory."""

    def __init__(self, store: Store, tree: Tree, root: bytes) -> None:
        self.store = store
        self.tree = tree
        self.root = root
        self.owner = (os.geteuid(), os.getegid())
        self.first: dict[bytes, bytes] = {}
        """For each name of a linked file, the name that is written."""
        self.written: set[bytes] = set()
        self.groups = links_of(store, tree)
        for group in self.groups:
            self.first.update(dict.fromkeys(group, group[0]))

    def everything(self) -> None:
        self._below(b"", self.tree.top)
        self.dress_folder(self.root, self.tree.top, None)

    def anew(self, paths: list[bytes]) -> None:
        """Remove what is at these paths, and write it."""
        done: list[bytes] = []
        wanted = set(paths)
        for group in self.groups:
            if wanted.intersection(group):
                wanted.update(group)
        # All are gone before the first is written: else one might be linked to a file that is about to go.
        for path in wanted - {b""}:
            remove(self._at(path))
        self.written -= wanted
        for path in sorted(wanted):
            if any(path.startswith(above + b"/") for above in done):
                continue
            if not path:
                self.dress_folder(self.root, self.tree.top, None)
                continue
            row = find(self.store, self.tree.top, tuple(path.split(b"/")))
            if row is not None:
                self._make_way(path)
                self._write(path, row)
                done.append(path)

    def turn(self, path: bytes, was: Row | None, now: Row | None) -> None:
        """Make one path, which holds `was`, hold `now`."""
        here = self._at(path)
        if now is None:
            remove(here)
        elif was is None:
            self._write(path, now)
        elif was.entry.is_dir and now.entry.is_dir:
            self.dress_folder(here, now.entry, now.mtime)
        elif was.entry.is_file and now.entry.is_file:
            self._rewrite(here, was.entry, now)
        else:
            remove(here)
            self._write(path, now)

    def _at(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    def _make_way(self, path: bytes) -> None:
        """The folders above may be gone too, or be something else."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            above = self._at(b"/".join(parts[:depth]))
            try:
                if stat.S_ISDIR(os.lstat(above).st_mode):
                    continue
                remove(above)
            except FileNotFoundError:
                pass
            os.mkdir(above)  # noqa: PTH102 - bytes

    def _below(self, path: bytes, entry: Entry) -> None:
        prefix = path + b"/" if path else b""
        for row in map_rows(self.store, entry.root):
            self._write(prefix + row.name, row)

    def _write(self, path: bytes, row: Row) -> None:
        entry, here = row.entry, self._at(path)
        first = self.first.get(path)
        if first is not None and first != path:
            if first in self.written:
                os.link(self._at(first), here, follow_symlinks=False)
                return
            # This name comes first in the trie: the others are linked to it.
            self.first.update({name: path for name, of in self.first.items() if of == first})
        self.written.add(path)
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFREG:
            self._write_file(here, row)
        elif kind == stat.S_IFDIR:
            os.mkdir(here, 0o700)  # noqa: PTH102
            self._below(path, entry)
            self.dress_folder(here, entry, row.mtime, fresh=True)
        elif kind == stat.S_IFLNK:
            os.symlink(entry.root, here)  # noqa: PTH211
            self._own(here, entry)
            _set_time(here, row.mtime)
        else:
            _make_node(here, entry)
            self._own(here, entry)

    def _write_file(self, here: bytes, row: Row) -> None:
        entry = row.entry
        file = os.open(here, _NEW, 0o600)
        try:
            content.write_out(self.store, content.chunks_between(self.store, entry.root, entry.size), file, entry.size)
            self._dress(file, here, row, os.fstat(file).st_size if entry.size else 0)
        finally:
            os.close(file)

    def _rewrite(self, here: bytes, was: Entry, now: Row) -> None:
        try:
            file = os.open(here, _OLD)
        except PermissionError:
            remove(here)
            self._write_file(here, now)
            return
        entry = now.entry
        try:
            if entry.size != was.size:
                os.ftruncate(file, entry.size)
            if entry.root != was.root:
                pieces = content.differing(self.store, was.root, was.size, entry.root, entry.size)
                content.write_out(self.store, pieces, file, entry.size)
            for name, _ in was.xattrs:
                if was.xattrs != entry.xattrs:
                    os.removexattr(file, name)
            self._dress(file, here, now, entry.size)
        finally:
            os.close(file)

    def _dress(self, file: int, here: bytes, row: Row, size: int) -> None:
        entry = row.entry
        if size < entry.size:
            os.ftruncate(file, entry.size)
        self._own(here, entry)
        os.fchmod(file, stat.S_IMODE(entry.mode))
        for name, value in entry.xattrs:
            _set_xattr(file, name, value)
        if row.mtime:
            os.utime(file, ns=(row.mtime, row.mtime))

    def dress_folder(self, here: bytes, entry: Entry, mtime: int | None, *, fresh: bool = False) -> None:
        """Give a directory its permissions and owner."""
        self._own(here, entry)
        os.chmod(here, stat.S_IMODE(entry.mode))  # noqa: PTH101
        for name in () if fresh else _kept_xattrs(here):
            if name not in dict(entry.xattrs):
                os.removexattr(here, name)
        for name, value in entry.xattrs:
            _set_xattr(here, name, value)
        if mtime:
            _set_time(here, mtime)

    def _own(self, here: bytes, entry: Entry) -> None:
        if (entry.uid, entry.gid) != self.owner and self.owner[0] == 0:
            try:
                os.chown(here, entry.uid, entry.gid, follow_symlinks=False)
            except OSError as problem:
                # In a user namespace only our own number may be given.
                if problem.errno not in (errno.EPERM, errno.EINVAL):
                    raise


def remove(path: bytes) -> None:
    """Remove whatever is there, directories without permissions included. Nothing there is fine."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(path)  # noqa: PTH108
        return
    try:
        shutil.rmtree(path)
    except OSError:
        for folder in _folders(path):
            os.chmod(folder, 0o700)  # noqa: PTH101
        shutil.rmtree(path)


def _folders(path: bytes) -> Iterator[bytes]:
    """The directory and those below it, each before it is listed."""
    yield path
    for one in os.scandir(path):
        if one.is_dir(follow_symlinks=False):
            yield from _folders(one.path)


def _make_node(here: bytes, entry: Entry) -> None:
    try:
        os.mknod(here, entry.mode, entry.device)
        os.chmod(here, stat.S_IMODE(entry.mode))  # noqa: PTH101
    except PermissionError:
        if not (stat.S_ISBLK(entry.mode) or stat.S_ISCHR(entry.mode)):
            raise
        # Only root makes devices; nobody's recovery hangs on one.


def _set_xattr(where: int | bytes, name: bytes, value: bytes) -> None:
    try:
        os.setxattr(where, name, value)
    except OSError as problem:
        if problem.errno in _SHARES:
            raise
        # The file system of the copies may know none; then the check sees none.


def _kept_xattrs(where: bytes) -> list[bytes]:
    try:
        return [os.fsencode(name) for name in os.listxattr(where) if name.startswith(KEPT_XATTRS)]
    except OSError:
        return []


def _set_time(here: bytes, mtime: int) -> None:
    if mtime:
        os.utime(here, ns=(mtime, mtime), follow_symlinks=False)


def _trouble(problem: OSError, into: Path) -> HarnessError:
    if problem.errno in _SHARES:
        return HarnessError(
            "no room to write a state for its check", at=str(into), hint="make room, or give another place for copies"
        )
    return HarnessError(f"a state could not be written: {problem.strerror}", at=str(problem.filename or into))
