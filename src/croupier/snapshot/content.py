"""The content of one file as a tree of chunks: changing a page costs the page and three nodes, whatever the size.

A chunk is 4 KiB at a multiple of 4 KiB, stored without its trailing zeros; a node holds 64 references of 16 bytes.
Where there is nothing but zeros the reference is NULL, however much it spans, so holes cost nothing and a file with a
hole is the same content as one with zeros written out. The height follows from the size. All functions are pure but
for the store: they return the root of the changed content, and the old one stays good.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from .objects import NULL, Store

CHUNK: Final = 4_096
_FAN: Final = 64
_NODE_BYTES: Final = 16 * _FAN
_BLOCK: Final = 1 << 20


def height(size: int) -> int:
    """How many levels of nodes stand above the chunks."""
    levels, spans = 0, CHUNK
    while spans < size:
        levels, spans = levels + 1, spans * _FAN
    return levels


def add_chunk(store: Store, data: bytes) -> bytes:
    """Keep up to 4 KiB."""
    data = data.rstrip(b"\0")
    return store.add(b"chunk", data) if data else NULL


def build(store: Store, refs: Sequence[bytes]) -> bytes:
    """A tree over all chunks of a file, given in order."""
    if not refs:
        return NULL
    while len(refs) > 1:
        packed = b"".join(refs)
        refs = [_add_node(store, packed[at : at + _NODE_BYTES]) for at in range(0, len(packed), _NODE_BYTES)]
    return refs[0]


def change(store: Store, root: bytes, old_size: int, size: int, chunks: Mapping[int, bytes]) -> bytes:
    """The tree of a file that has `size` now and other chunks at these numbers; what lies beyond `size` is dropped.

    The caller gives the last chunk anew where the file was cut inside of it.
    """
    before, now = height(old_size), height(size)
    for _ in range(now, before):
        root = store.node(root)[:16].ljust(16, b"\0") if root != NULL else NULL
    for _ in range(before, now):
        root = _add_node(store, root)
    return _put(store, root, now, chunks, -(-size // CHUNK))


def _put(store: Store, ref: bytes, level: int, chunks: Mapping[int, bytes], keep: int) -> bytes:
    """A node, or chunk at level 0, with some chunks replaced, and everything from chunk `keep` on gone."""
    if keep <= 0:
        return NULL
    if level == 0:
        return chunks.get(0, ref)
    span = _FAN ** (level - 1)
    whole = keep >= span * _FAN
    if whole and not chunks:
        return ref
    node = bytearray(store.node(ref) if ref != NULL else b"").ljust(_NODE_BYTES, b"\0")
    below: dict[int, dict[int, bytes]] = {}
    for number, chunk in chunks.items():
        if number < keep:
            below.setdefault(number // span, {})[number % span] = chunk
    if not whole:
        node[-(-keep // span) * 16 :] = bytes(_NODE_BYTES - -(-keep // span) * 16)
        if keep % span:
            below.setdefault(keep // span, {})
    for child, some in below.items():
        at = child * 16
        node[at : at + 16] = _put(store, bytes(node[at : at + 16]), level - 1, some, keep - child * span)
    return _add_node(store, bytes(node))


def _add_node(store: Store, node: bytes) -> bytes:
    node = node.rstrip(b"\0")
    return store.add(b"node", node) if node else NULL


def chunks_between(
    store: Store, root: bytes, size: int, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """The number and reference of each chunk that is not all zeros, from number `first` up to, not with, `last`."""
    end = -(-size // CHUNK) if last is None else min(last, -(-size // CHUNK))
    yield from _walk(store, root, height(size), 0, first, end)


def _walk(store: Store, ref: bytes, level: int, base: int, first: int, end: int) -> Iterator[tuple[int, bytes]]:
    if ref == NULL or base >= end:
        return
    if level == 0:
        if base >= first:
            yield base, ref
        return
    span = _FAN ** (level - 1)
    node = store.node(ref)
    for child in range(max(0, (first - base) // span), -(-len(node) // 16)):
        start = base + child * span
        if start >= end:
            return
        yield from _walk(store, node[child * 16 : child * 16 + 16].ljust(16, b"\0"), level - 1, start, first, end)


def differing(store: Store, one: bytes, one_size: int, other: bytes, other_size: int) -> Iterator[tuple[int, bytes]]:
    """The number of each chunk in which `other` is not as `one`, with its reference in `other`."""
    tall, low = height(other_size), height(one_size)
    for _ in range(tall, low):
        one = store.node(one)[:16].ljust(16, b"\0") if one != NULL else NULL
    # A lower tree is compared with the first child, again and again; the rest of `other` is new.
    yield from _differing(store, one, min(low, tall), other, tall, 0)


def _differing(
    store: Store, one: bytes, one_level: int, other: bytes, level: int, base: int
) -> Iterator[tuple[int, bytes]]:
    if one == other and one_level == level:
        return
    if level == 0:
        yield base, other
        return
    span = _FAN ** (level - 1)
    new = (store.node(other) if other != NULL else b"").ljust(_NODE_BYTES, b"\0")
    if one_level < level:
        olds = [one] + [NULL] * (_FAN - 1)
    else:
        old = (store.node(one) if one != NULL else b"").ljust(_NODE_BYTES, b"\0")
        olds = [old[at : at + 16] for at in range(0, _NODE_BYTES, 16)]
    for child in range(_FAN):
        mine = new[child * 16 : child * 16 + 16]
        under = one_level if one_level < level and child == 0 else level - 1
        if mine != olds[child] or under != level - 1:
            yield from _differing(store, olds[child], under, mine, level - 1, base + child * span)


# --- to and from files ------------------------------------------------------------------------------------------------


def read_file(store: Store, file: int, size: int) -> bytes:
    """The whole content of an open file of `size` bytes; holes are skipped."""
    pieces = list(extents(file, 0, size))
    if pieces == [(0, size)]:
        return build(store, [chunk for _, chunk in read_chunks(store, file, 0, size)])
    found: dict[int, bytes] = {}
    for start, end in pieces:
        found.update(read_chunks(store, file, start, min(end, size)))
    return change(store, NULL, size, size, found)


def read_chunks(store: Store, file: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Read and keep the chunks that the range touches, whole."""
    at = start - start % CHUNK
    end = -(-end // CHUNK) * CHUNK
    while at < end:
        data = os.pread(file, min(_BLOCK, end - at), at)
        if len(data) % CHUNK and len(data) < end - at:
            data = _fill(file, at, data, min(_BLOCK, end - at))
        for inside in range(0, len(data), CHUNK):
            yield (at + inside) // CHUNK, add_chunk(store, data[inside : inside + CHUNK])
        if len(data) < min(_BLOCK, end - at):
            # Shorter than it was said to be: what is not there reads as zeros.
            for number in range((at + len(data) + CHUNK - 1) // CHUNK, end // CHUNK):
                yield number, NULL
            return
        at += len(data)


def _fill(file: int, at: int, data: bytes, wanted: int) -> bytes:
    while len(data) < wanted and (more := os.pread(file, wanted - len(data), at + len(data))):
        data += more
    return data


def extents(file: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a range that hold data, as far as the file system tells."""
    at = start
    while at < end:
        try:
            at = os.lseek(file, at, os.SEEK_DATA)
            stop = os.lseek(file, at, os.SEEK_HOLE)
        except OSError as problem:
            if problem.errno != 6:  # ENXIO: nothing but a hole from here on.
                yield at, end
            return
        if at < end:
            yield at, min(stop, end)
        at = stop


def read(store: Store, root: bytes, size: int, offset: int, length: int) -> bytes:
    """Bytes of a stored content, as read(2) would give them."""
    length = max(0, min(length, size - offset))
    first = offset // CHUNK
    data = bytearray(length)
    for number, ref in chunks_between(store, root, size, first, (offset + length + CHUNK - 1) // CHUNK):
        _lay(data, number * CHUNK - offset, store.load(ref))
    return bytes(data)


def _lay(into: bytearray, at: int, data: bytes) -> None:
    if at < 0:
        data, at = data[-at:], 0
    data = data[: len(into) - at]
    into[at : at + len(data)] = data


def write(store: Store, root: bytes, size: int, offset: int, data: bytes) -> tuple[bytes, int]:
    """The content after write(2) at an offset, and its size."""
    if not data:
        return root, size
    end = offset + len(data)
    first = offset // CHUNK * CHUNK
    around = bytearray(read(store, root, size, first, -(-end // CHUNK) * CHUNK - first)).ljust(end - first, b"\0")
    around[offset - first : end - first] = data
    chunks = {
        (first + at) // CHUNK: add_chunk(store, bytes(around[at : at + CHUNK])) for at in range(0, len(around), CHUNK)
    }
    return change(store, root, size, max(size, end), chunks), max(size, end)


def resize(store: Store, root: bytes, size: int, new: int) -> bytes:
    """The content after truncate(2)."""
    chunks = {}
    if new < size and new % CHUNK:
        chunks[new // CHUNK] = add_chunk(store, read(store, root, size, new - new % CHUNK, new % CHUNK))
    return change(store, root, size, new, chunks)


def write_out(store: Store, chunks: Iterator[tuple[int, bytes]], file: int, size: int) -> None:
    """Write chunks to an open file. Those that lie side by side in the pack are read and written together."""
    run: list[tuple[int, int, int]] = []  # number, place in the pack, length
    for number, ref in chunks:
        place, length = store.place(ref) if ref != NULL else (0, 0)
        if run and (
            number != run[-1][0] + 1 or (length and run[-1][1] + run[-1][2] != place) or not length or len(run) >= 256
        ):
            _write_run(store, run, file, size)
            run = []
        if length:
            run.append((number, place, length))
        else:
            os.pwrite(file, bytes(max(0, min(CHUNK, size - number * CHUNK))), number * CHUNK)
    if run:
        _write_run(store, run, file, size)


def _write_run(store: Store, run: list[tuple[int, int, int]], file: int, size: int) -> None:
    first, start, _ = run[0]
    data = store.read(start, run[-1][1] + run[-1][2] - start)
    if len(data) != (len(run) - 1) * CHUNK + run[-1][2]:
        data = b"".join(data[place - start : place - start + length].ljust(CHUNK, b"\0") for _, place, length in run)
    end = min(size, (run[-1][0] + 1) * CHUNK)
    data = data[: end - first * CHUNK].ljust(end - first * CHUNK, b"\0")
    at = first * CHUNK
    while data:
        done = os.pwrite(file, data, at)
        at, data = at + done, data[done:]
