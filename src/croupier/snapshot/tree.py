"""A state as a value: directories as persistent maps, so that changing one name of 10,000 costs a few small nodes.

A directory maps names to entries in a trie over the hash of the name: a leaf holds up to 16 entries in order, above it
stand nodes of 16 references. The shape follows from the names alone, whatever order they came in, so equal states have
equal digests, however they came about. Names are bytes, as the kernel has them.

A tree is its root entry and the groups of names that are one file (hard links). Its digest covers kinds, permissions,
owners, contents, link texts, extended attributes and links. Times of modification are kept beside it and are not part
of it: two moments that differ in nothing but a time are one state.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from .objects import NULL, Store, parse

_LEAF_MOST: Final = 16
_DEEPEST: Final = 16
_LEAF: Final = b"\x00"
_INNER: Final = b"\x01"

Names = tuple[bytes, ...]

KEPT_XATTRS: Final = ("user.", "trusted.", "system.posix_acl_", "security.capability")
"""The extended attributes that belong to a state, by how their names begin; others are the machine's."""


class Entry(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What one name stands for."""

    mode: int
    """As stat(2) gives it: kind and permissions."""
    uid: int
    gid: int
    size: int = 0
    """Bytes of a file; of a directory, of everything below it."""
    root: bytes = NULL
    """The content of a file, the map of a directory, the text of a symlink."""
    count: int = 0
    """Of a directory: how many names are below it."""
    device: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


class Row(NamedTuple):
    """A name in a directory. `mtime` is in nanoseconds, as it was when this content was first seen there."""

    name: bytes
    entry: Entry
    mtime: int = 0


class Tree(NamedTuple):
    """A state: the entry of its directory, and where the groups of linked names are kept ("" for none)."""

    top: Entry
    links: str = ""


class _Stats(NamedTuple):
    names: int
    size: int
    below: int


_NONE = _Stats(0, 0, 0)
_Leaf = tuple[Row, ...]


class _Inner(NamedTuple):
    stats: _Stats
    refs: tuple[bytes, ...]


_Node = _Leaf | _Inner

_encode = msgspec.msgpack.Encoder().encode
_decode_rows = msgspec.msgpack.Decoder(list[tuple[bytes, Entry]]).decode
_decode_times = msgspec.msgpack.Decoder(list[int]).decode
_decode_links = msgspec.msgpack.Decoder(list[list[bytes]]).decode
_decode_top = msgspec.msgpack.Decoder(tuple[Entry, str]).decode


# --- whole trees ------------------------------------------------------------------------------------------------------


def save(store: Store, tree: Tree) -> str:
    """Keep a tree and return its digest."""
    digest = store.add(b"tree", _encode((tree.top, tree.links)))
    store.remember(digest, tree)
    return digest.hex()


def open_tree(store: Store, digest: str) -> Tree:
    """The tree of a digest. Raises ReplayError where there is none."""
    tree: Tree = store.decoded(parse(digest), lambda data: Tree(*_decode_top(data)))
    return tree


def links_of(store: Store, tree: Tree) -> list[list[bytes]]:
    """The groups of paths that are one file each, in order."""
    return _decode_links(store.get(tree.links)) if tree.links else []


def save_links(store: Store, groups: Sequence[Sequence[bytes]]) -> str:
    """Keep groups of paths; "" for none."""
    ordered = sorted(sorted(group) for group in groups if len(group) > 1)
    return store.put(_encode(ordered)) if ordered else ""


def find(store: Store, top: Entry, names: Names) -> Row | None:
    """What is at a path, or None."""
    row = Row(b"", top)
    for name in names:
        if not row.entry.is_dir:
            return None
        below = map_get(store, row.entry.root, name)
        if below is None:
            return None
        row = below
    return row


def put(store: Store, top: Entry, names: Names, entry: Entry | None, mtime: int | None = None) -> Entry:
    """The root with something else at a path, or nothing where `entry` is None. The folders above must be there.

    Without `mtime` the one that was there stays.
    """
    if not names:
        return entry or top
    name, rest = names[0], names[1:]
    old = map_get(store, top.root, name)
    if rest:
        if old is None or not old.entry.is_dir:
            raise KeyError(name)
        new = Row(name, put(store, old.entry, rest, entry, mtime), old.mtime)
    elif entry is None:
        return top if old is None else _with_map(store, top, map_put(store, top.root, name, None))
    else:
        new = Row(name, entry, mtime if mtime is not None else old.mtime if old else 0)
    if old is not None and old.entry == new.entry:
        return top
    return _with_map(store, top, map_put(store, top.root, name, new))


def folder(store: Store, like: Entry, rows: Sequence[Row]) -> Entry:
    """A directory with these rows, in any order."""
    return _with_map(store, like, map_build(store, rows))


def _with_map(store: Store, entry: Entry, root: bytes) -> Entry:
    stats = _stats(store, root)
    return Entry(
        mode=entry.mode, uid=entry.uid, gid=entry.gid, size=stats.size, root=root, count=stats.below,
        xattrs=entry.xattrs,
    )  # fmt: skip


def walk(store: Store, top: Entry, at: bytes = b"") -> Iterator[tuple[bytes, Row]]:
    """Every path below, with what is there; a directory before what is in it."""
    for row in sorted(map_rows(store, top.root)):
        path = at + b"/" + row.name if at else row.name
        yield path, row
        if row.entry.is_dir:
            yield from walk(store, row.entry, path)


def changed(store: Store, old: Entry, new: Entry, at: bytes = b"") -> Iterator[tuple[bytes, Row | None, Row | None]]:
    """The paths that differ, with what was there and what is. Equal parts are not even read.

    A directory that came or went is given alone, without what is in it; one that only changed inside is not given.
    """
    for before, now in map_changed(store, old.root, new.root):
        path = (at + b"/" if at else b"") + (now or before).name  # type: ignore[union-attr]
        if before is not None and now is not None and before.entry.is_dir and now.entry.is_dir:
            if own(before.entry) != own(now.entry):
                yield path, before, now
            yield from changed(store, before.entry, now.entry, path)
        else:
            yield path, before, now


def own(entry: Entry) -> tuple[int, int, int, tuple[tuple[bytes, bytes], ...]]:
    """What belongs to the name itself, without its content."""
    return entry.mode, entry.uid, entry.gid, entry.xattrs


# --- one directory ---------------------------------------------------------------------------------------------------


def map_get(store: Store, root: bytes, name: bytes) -> Row | None:
    """The row of a name."""
    place = _place(name)
    depth = 0
    while root != NULL:
        node = _node(store, root)
        if not isinstance(node, _Inner):
            return next((row for row in node if row.name == name), None)
        root = node.refs[place >> 4 * depth & 15]
        depth += 1
    return None


def map_put(store: Store, root: bytes, name: bytes, row: Row | None) -> bytes:
    """The map with another row under a name, or with none."""
    return _put(store, root, 0, name, _place(name), row)


def map_rows(store: Store, root: bytes) -> Iterator[Row]:
    """All rows, in the order of the trie."""
    if root == NULL:
        return
    node = _node(store, root)
    if not isinstance(node, _Inner):
        yield from node
        return
    for ref in node.refs:
        yield from map_rows(store, ref)


def map_build(store: Store, rows: Sequence[Row]) -> bytes:
    """A map of these rows: the same as putting them in one after the other."""
    return _build(store, [(_place(row.name), row) for row in rows], 0)


def map_changed(store: Store, old: bytes, new: bytes) -> Iterator[tuple[Row | None, Row | None]]:
    """The rows in which two maps differ."""
    if old == new:
        return
    one = _node(store, old) if old != NULL else ()
    other = _node(store, new) if new != NULL else ()
    if isinstance(one, _Inner) and isinstance(other, _Inner):
        for before, now in zip(one.refs, other.refs, strict=True):
            yield from map_changed(store, before, now)
        return
    befores = {row.name: row for row in map_rows(store, old)}
    nows = {row.name: row for row in map_rows(store, new)}
    for name in sorted({*befores, *nows}):
        before_row, now_row = befores.get(name), nows.get(name)
        if before_row is None or now_row is None or before_row.entry != now_row.entry:
            yield before_row, now_row


def _place(name: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")


def _put(store: Store, root: bytes, depth: int, name: bytes, place: int, row: Row | None) -> bytes:
    node: _Node = _node(store, root) if root != NULL else ()
    if not isinstance(node, _Inner):
        rows = [one for one in node if one.name != name]
        if row is not None:
            rows.append(row)
        if len(rows) > _LEAF_MOST:
            return _build(store, [(_place(one.name), one) for one in rows], depth)
        return _add_leaf(store, rows)
    which = place >> 4 * depth & 15
    before = node.refs[which]
    now = _put(store, before, depth + 1, name, place, row)
    if now == before:
        return root
    refs = (*node.refs[:which], now, *node.refs[which + 1 :])
    gone, come = _stats(store, before), _stats(store, now)
    stats = _Stats(*(all_ - out + in_ for all_, out, in_ in zip(node.stats, gone, come, strict=True)))
    if stats.names <= _LEAF_MOST:
        return _add_leaf(store, [one for ref in refs for one in map_rows(store, ref)])
    return _add_inner(store, _Inner(stats, refs))


def _build(store: Store, rows: list[tuple[int, Row]], depth: int) -> bytes:
    if len(rows) <= _LEAF_MOST or depth == _DEEPEST:
        return _add_leaf(store, [row for _, row in rows])
    parts: list[list[tuple[int, Row]]] = [[] for _ in range(16)]
    for one in rows:
        parts[one[0] >> 4 * depth & 15].append(one)
    refs = tuple(_build(store, part, depth + 1) for part in parts)
    stats = _Stats(*(sum(column) for column in zip(*(_stats(store, ref) for ref in refs), strict=True)))
    return _add_inner(store, _Inner(stats, refs))


def _add_leaf(store: Store, rows: list[Row]) -> bytes:
    if not rows:
        return NULL
    rows.sort(key=lambda row: row.name)
    body = _encode([(row.name, row.entry) for row in rows])
    times = _encode([row.mtime for row in rows])
    digest = store.add(b"leaf", _LEAF + len(body).to_bytes(4, "little") + body, times)
    store.remember(digest, tuple(rows))
    return digest


def _add_inner(store: Store, node: _Inner) -> bytes:
    numbers = b"".join(number.to_bytes(8, "little") for number in node.stats)
    digest = store.add(b"inner", _INNER + numbers + b"".join(node.refs))
    store.remember(digest, node)
    return digest


def _node(store: Store, digest: bytes) -> _Node:
    node: _Node = store.decoded(digest, _decode)
    return node


def _decode(data: bytes) -> _Node:
    if data[:1] == _INNER:
        numbers = [int.from_bytes(data[at : at + 8], "little") for at in (1, 9, 17)]
        return _Inner(_Stats(*numbers), tuple(data[at : at + 16] for at in range(25, 281, 16)))
    end = 5 + int.from_bytes(data[1:5], "little")
    rows, times = _decode_rows(memoryview(data)[5:end]), _decode_times(memoryview(data)[end:])
    return tuple(Row(name, entry, mtime) for (name, entry), mtime in zip(rows, times, strict=True))


def _stats(store: Store, root: bytes) -> _Stats:
    if root == NULL:
        return _NONE
    node = _node(store, root)
    if isinstance(node, _Inner):
        return node.stats
    return _Stats(len(node), sum(row.entry.size for row in node), sum(1 + row.entry.count for row in node))
