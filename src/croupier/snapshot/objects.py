"""The content store: every object once, under a digest of what it holds, packed into one file with an index beside it.

    objects.pack    the bytes, one object after the other
    objects.idx     24 bytes for each: digest, place

Objects are small (a chunk of 4 KiB, a node of 1 KiB) and many, so there is no file per object, and the index in
memory is a table of numbers rather than a dict. Written by one process; others may read it while it grows, and a
store whose writer died reads up to the last whole object.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from array import array
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from ..model.errors import HarnessError, ReplayError

NULL: Final = bytes(16)
"""Stands for zeros: a chunk, or a whole part of a file, without any byte that is not zero. Never stored."""

_MAGIC: Final = b"croupier"
_ROW: Final = struct.Struct("<16sQ")
_HALVES: Final = struct.Struct("<QQ").unpack
_LENGTH_BITS: Final = 24
_LENGTH: Final = (1 << _LENGTH_BITS) - 1
_FLUSH_BYTES: Final = 1 << 20
_CACHED: Final = 4_096
_BLOB: Final = 64 * 1024


class Store:
    """Objects by digest. One writer; with `writable=False` a reader, which sees what was flushed."""

    def __init__(self, folder: Path, *, writable: bool = True) -> None:
        self.folder = folder
        self.writable = writable
        self._lock = threading.RLock()
        self._index = _Index()
        self._pending = bytearray()
        self._rows = bytearray()
        self._cache: dict[bytes, bytes] = {}
        self._memory: dict[bytes, Any] = {}
        self._read_rows = 0
        flags = os.O_CLOEXEC | (os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY)
        self._pack = self._rows_file = -1
        try:
            if writable:
                folder.mkdir(parents=True, exist_ok=True)
            self._pack = os.open(folder / "objects.pack", flags, 0o600)
            self._rows_file = os.open(folder / "objects.idx", flags, 0o600)
            self._open()
        except OSError as problem:
            self.close()
            raise _trouble(problem, folder) from problem

    def _open(self) -> None:
        self._written = os.fstat(self._pack).st_size
        if self._written == 0 and self.writable:
            self._written = os.pwrite(self._pack, _MAGIC, 0)
        if os.pread(self._pack, len(_MAGIC), 0) != _MAGIC:
            raise ReplayError("this is no store of states", at=str(self.folder))
        self._refresh()

    def __len__(self) -> int:
        return self._index.count

    @property
    def disk_bytes(self) -> int:
        """What it takes on disk, and will once flushed."""
        return self._written + len(self._pending) + self._read_rows + len(self._rows)

    # --- objects, by digest --------------------------------------------------------------------------------------

    def add(self, sort: bytes, body: bytes, tail: bytes = b"") -> bytes:
        """Keep an object and return its digest. `tail` is stored behind the body but is not part of its identity:
        where the body is known already, the tail that came first stays."""
        digest = blake2b(body, digest_size=16, person=sort).digest()
        with self._lock:
            place = self._written + len(self._pending)
            if self._index.insert(digest, place << _LENGTH_BITS | len(body) + len(tail)):
                if len(body) + len(tail) > _LENGTH:
                    raise HarnessError("an object of a state is too large to be stored", at=str(self.folder))
                self._pending += body
                self._pending += tail
                self._rows += _ROW.pack(digest, place << _LENGTH_BITS | len(body) + len(tail))
                if len(self._pending) > _FLUSH_BYTES:
                    self.flush()
        return digest

    def load(self, digest: bytes) -> bytes:
        """The bytes of an object, with its tail. Raises ReplayError for one that is not there."""
        with self._lock:
            place = self.place(digest)
            return self.read(*place)

    def node(self, digest: bytes) -> bytes:
        """As `load`, remembered for the next time: for the small objects that everything hangs from."""
        found = self._cache.get(digest)
        if found is None:
            found = self.load(digest)
            if len(self._cache) >= _CACHED:
                _forget_half(self._cache)
            self._cache[digest] = found
        return found

    def decoded(self, digest: bytes, decode: Callable[[bytes], Any]) -> Any:
        """An object as `decode` reads it, remembered."""
        found = self._memory.get(digest)
        if found is None:
            self.remember(digest, found := decode(self.load(digest)))
        return found

    def remember(self, digest: bytes, value: Any) -> None:
        """Spare the next `decoded` its work."""
        if len(self._memory) >= _CACHED:
            _forget_half(self._memory)
        self._memory[digest] = value

    def place(self, digest: bytes) -> tuple[int, int]:
        """Where it is in the pack: offset and length."""
        found = self._index.find(digest)
        if not found and not self.writable:
            self._refresh()
            found = self._index.find(digest)
        if not found:
            raise ReplayError(f"the store has no object {digest.hex()}", at=str(self.folder))
        return found >> _LENGTH_BITS, found & _LENGTH

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the pack."""
        with self._lock:
            if offset >= self._written:
                start = offset - self._written
                return bytes(self._pending[start : start + length])
            if offset + length > self._written:
                return self.read(offset, self._written - offset) + self.read(
                    self._written, offset + length - self._written
                )
            data = os.pread(self._pack, length, offset)
        while len(data) < length:
            more = os.pread(self._pack, length - len(data), offset + len(data))
            if not more:
                raise ReplayError("the store is cut short", at=str(self.folder))
            data += more
        return data

    # --- blobs, of any length, by an address in text ----------------------------------------------------------------

    def put(self, data: bytes) -> str:
        """Keep any bytes and return their address; "" for none."""
        if not data:
            return ""
        if len(data) <= _BLOB:
            return self.add(b"blob", data).hex()
        parts = [self.add(b"blob", data[at : at + _BLOB]) for at in range(0, len(data), _BLOB)]
        return "+" + self.put(b"".join(parts))

    def get(self, address: str) -> bytes:
        """The bytes kept by `put`. Raises ReplayError where there are none at this address."""
        if address.startswith("+"):
            parts = self.get(address[1:])
            return b"".join(self.load(parts[at : at + 16]) for at in range(0, len(parts), 16))
        return self.load(parse(address)) if address else b""

    # --- to the disk --------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Hand everything to the kernel, so that readers and whoever comes after us see it.

        Raises HarnessError where the disk is full. Nothing is lost by that: it is written by the next flush that can.
        """
        with self._lock:
            if not self._pending and not self._rows:
                return
            try:
                while self._pending:
                    done = os.pwrite(self._pack, self._pending, self._written)
                    self._written += done
                    del self._pending[:done]
                # The index after what it points to: a reader never meets a row without its object.
                while self._rows:
                    done = os.pwrite(self._rows_file, self._rows, self._read_rows)
                    self._read_rows += done
                    del self._rows[:done]
            except OSError as problem:
                raise _trouble(problem, self.folder) from problem

    def close(self) -> None:
        """Flush as far as that is possible, and let go."""
        try:
            if self.writable and self._pack >= 0:
                self.flush()
        finally:
            for file in (self._pack, self._rows_file):
                if file >= 0:
                    os.close(file)
            self._pack = self._rows_file = -1

    def _refresh(self) -> None:
        """Read the rows that were added since the last time."""
        with self._lock:
            self._written = os.fstat(self._pack).st_size
            while data := os.pread(self._rows_file, _ROW.size * 40_000, self._read_rows):
                whole = len(data) - len(data) % _ROW.size
                for digest, place in _ROW.iter_unpack(data[:whole]):
                    self._index.insert(digest, place)
                self._read_rows += whole
                if whole < len(data):
                    break


class _Index:
    """Digest → place: open addressing over plain numbers, 24 bytes a slot.

    In 256 parts, so that growing one is short: nobody waits for a second in the middle of a recording.
    """

    def __init__(self) -> None:
        self.count = 0
        self._parts = [array("Q", bytes(24 * 8)) for _ in range(256)]
        self._used = [0] * 256

    def find(self, digest: bytes) -> int:
        """The place, or 0."""
        low, high = _HALVES(digest)
        slots = self._parts[low & 255]
        mask = len(slots) // 3 - 1
        at = low >> 8 & mask
        while slots[3 * at + 2]:
            if slots[3 * at] == low and slots[3 * at + 1] == high:
                return int(slots[3 * at + 2])
            at = at + 1 & mask
        return 0

    def insert(self, digest: bytes, place: int) -> bool:
        """Note a place; False if there is one already."""
        low, high = _HALVES(digest)
        part = low & 255
        slots = self._parts[part]
        mask = len(slots) // 3 - 1
        at = low >> 8 & mask
        while slots[3 * at + 2]:
            if slots[3 * at] == low and slots[3 * at + 1] == high:
                return False
            at = at + 1 & mask
        slots[3 * at], slots[3 * at + 1], slots[3 * at + 2] = low, high, place
        self.count += 1
        self._used[part] += 1
        if self._used[part] * 3 > (mask + 1) * 2:
            self._grow(part)
        return True

    def _grow(self, part: int) -> None:
        old = self._parts[part]
        new = array("Q", bytes(len(old) * 8 * 2))
        mask = len(new) // 3 - 1
        for row in range(0, len(old), 3):
            if old[row + 2]:
                at = old[row] >> 8 & mask
                while new[3 * at + 2]:
                    at = at + 1 & mask
                new[3 * at], new[3 * at + 1], new[3 * at + 2] = old[row], old[row + 1], old[row + 2]
        self._parts[part] = new


def parse(address: str) -> bytes:
    """A digest from its text. Raises ReplayError for what is none."""
    try:
        digest = bytes.fromhex(address)
    except ValueError:
        digest = b""
    if len(digest) != 16:
        raise ReplayError(f"{address!r} is no address of a state or a blob")
    return digest


def _forget_half(cache: dict[bytes, Any]) -> None:
    for key in list(cache)[: len(cache) // 2]:
        del cache[key]


def _trouble(problem: OSError, folder: Path) -> HarnessError | ReplayError:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return HarnessError(
            "the disk is full: the states of the workload could not be stored",
            at=str(folder),
            hint="make room, or give another --out DIR",
        )
    if problem.errno == errno.ENOENT:
        return ReplayError("there is no store of states", at=str(folder))
    return HarnessError(f"the store of states cannot be used: {problem.strerror}", at=str(folder))
