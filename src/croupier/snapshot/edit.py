"""States that nobody recorded: a write cut short, or whatever a model of a power cut says may be left."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from ..model import power
from ..model.search import Operation
from . import content
from .objects import NULL, Store
from .tree import Entry, Names, Row, Tree, find, folder, links_of, open_tree, own, put, save, save_links, walk

_BASE = "base:"


def derive(store: Store, digest: str, operation: Operation, cut: int) -> str:
    """The state in which only the first `cut` bytes of a write made it, from the state before it.

    An operation without an offset appends. The state before is returned where its file is not there.
    """
    return torn(store, digest, operation.path, operation.offset, store.get(operation.data)[:cut])


def torn(store: Store, digest: str, path: str, offset: int | None, data: bytes) -> str:
    """The state with these bytes written to a file; at its end without an offset."""
    tree = open_tree(store, digest)
    names = _names(path)
    row = find(store, tree.top, names)
    if row is None or not row.entry.is_file or not data:
        return digest
    old = row.entry
    at = old.size if offset is None else offset
    root, size = content.write(store, old.root, old.size, at, data)
    return _with_file(store, tree, names, _filled(old, root, size))


def cut_file(store: Store, digest: str, path: str, size: int) -> str:
    """The state with a file cut, or grown by zeros, to a size: for the positive control of a search."""
    tree = open_tree(store, digest)
    names = _names(path)
    row = find(store, tree.top, names)
    if row is None or not row.entry.is_file:
        return digest
    root = content.resize(store, row.entry.root, row.entry.size, size)
    return _with_file(store, tree, names, _filled(row.entry, root, size))


def _with_file(store: Store, tree: Tree, names: Names, entry: Entry) -> str:
    """The tree with this content under a name, and under the other names of the same file."""
    path = b"/".join(names)
    group = next((group for group in links_of(store, tree) if path in group), [path]) if tree.links else [path]
    top = tree.top
    for one in group:
        top = put(store, top, tuple(one.split(b"/")), entry)
    return save(store, Tree(top, tree.links))


def entries_of(store: Store, digest: str) -> dict[str, power.Entry]:
    """A recorded state in the words of the power models: where they begin."""
    tree = open_tree(store, digest)
    number = {path: nth for nth, group in enumerate(links_of(store, tree)) for path in group}
    found = {}
    for path, row in walk(store, tree.top):
        name, mode = os.fsdecode(path), row.entry.mode
        kind: power.EntryKind = (
            "dir" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "symlink" if stat.S_ISLNK(mode)
            else "other"
        )  # fmt: skip
        found[name] = power.Entry(
            kind=kind,
            size=row.entry.size if kind == "file" else 0,
            base=name if kind in ("file", "other") else "",
            text=os.fsdecode(row.entry.root) if kind == "symlink" else "",
            mode=stat.S_IMODE(mode),
            inode=number.get(path, -1),
        )
    return found


def assemble(store: Store, initial: str, entries: Mapping[str, power.Entry]) -> str:
    """The digest of a state that a power model describes; `initial` is where its untouched files come from."""
    before = open_tree(store, initial)
    files: dict[int, Entry] = {}
    groups: dict[int, list[bytes]] = {}
    below: dict[Names, list[tuple[bytes, power.Entry]]] = {}
    for path, entry in entries.items():
        names = _names(path)
        if names:
            below.setdefault(names[:-1], []).append((names[-1], entry))
        if entry.inode >= 0 and entry.kind != "dir":
            groups.setdefault(entry.inode, []).append(b"/".join(names))

    def make(names: Names, like: Entry) -> Entry:
        rows = []
        for name, entry in below.get(names, ()):
            here = (*names, name)
            if entry.kind == "dir":
                rows.append(Row(name, make(here, _folder_entry(store, before, here, entry))))
                continue
            made = files.get(entry.inode) if entry.inode >= 0 else None
            if made is None:
                made = _file_entry(store, before, entry)
                if entry.inode >= 0:
                    files[entry.inode] = made
            if made.mode:
                rows.append(Row(name, made))
        return folder(store, like, rows)

    top = make((), before.top)
    return save(store, Tree(top, save_links(store, list(groups.values()))))


def _folder_entry(store: Store, before: Tree, names: Names, entry: power.Entry) -> Entry:
    row = find(store, before.top, _names(entry.base) if entry.base else names)
    mode, uid, gid, xattrs = own(row.entry if row and row.entry.is_dir else before.top)
    if entry.mode is not None:
        mode = stat.S_IFDIR | stat.S_IMODE(entry.mode)
    return Entry(mode=mode, uid=uid, gid=gid, xattrs=xattrs)


def _file_entry(store: Store, before: Tree, entry: power.Entry) -> Entry:
    row = find(store, before.top, _names(entry.base)) if entry.base else None
    base = row.entry if row is not None and not row.entry.is_dir else None
    if entry.kind == "other":
        # A pipe or a socket holds nothing: it is as it was, or it is left out (mode 0).
        return base or Entry(mode=0, uid=0, gid=0)
    top = before.top
    if entry.kind == "symlink":
        text = os.fsencode(entry.text)
        return Entry(mode=stat.S_IFLNK | 0o777, uid=top.uid, gid=top.gid, size=len(text), root=text)
    root, size = _pieced(store, before, entry, base)
    mode = entry.mode if entry.mode is not None else stat.S_IMODE(base.mode) if base else 0o644
    return Entry(
        mode=stat.S_IFREG | mode, uid=base.uid if base else top.uid, gid=base.gid if base else top.gid, size=size,
        root=root, xattrs=base.xattrs if base else (),
    )  # fmt: skip


def _pieced(store: Store, before: Tree, entry: power.Entry, base: Entry | None) -> tuple[bytes, int]:
    """The content that the pieces make. What is still where it was in the initial file is shared, not copied."""
    size = entry.size
    origin = next((one.data for one in entry.pieces if one.data.startswith(_BASE) and one.start == one.offset), "")
    if origin:
        row = find(store, before.top, _names(origin.removeprefix(_BASE)))
        base = row.entry if row is not None else None
    if base is None or not base.is_file:
        root, kept = NULL, []
    else:
        root = content.resize(store, base.root, base.size, size)
        kept = [one for one in entry.pieces if origin and one.data == origin and one.start == one.offset]
        at = 0
        for one in sorted(kept, key=lambda one: one.offset) if origin else ():
            root, _ = content.write(store, root, size, at, bytes(max(0, min(one.offset, size) - at)))
            at = one.offset + one.length
        if origin:
            root, _ = content.write(store, root, size, at, bytes(max(0, min(base.size, size) - at)))
    for one in entry.pieces:
        if one not in kept:
            data = _bytes_of(store, before, one)[: max(0, size - one.offset)]
            root, _ = content.write(store, root, size, one.offset, data)
    return root, size


def _bytes_of(store: Store, before: Tree, piece: power.Piece) -> bytes:
    if not piece.data:
        return bytes(piece.length)
    if piece.data.startswith(_BASE):
        row = find(store, before.top, _names(piece.data.removeprefix(_BASE)))
        entry = row.entry if row is not None else None
        return content.read(store, entry.root, entry.size, piece.start, piece.length) if entry else b""
    return store.get(piece.data)[piece.start : piece.start + piece.length]


def _filled(old: Entry, root: bytes, size: int) -> Entry:
    return Entry(mode=old.mode, uid=old.uid, gid=old.gid, size=size, root=root, xattrs=old.xattrs)


def _names(path: str) -> Names:
    return tuple(name for name in os.fsencode(path).split(b"/") if name not in (b"", b"."))
