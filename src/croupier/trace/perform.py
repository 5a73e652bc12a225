"""Do a part of a stopped call ourselves: for real, on the very same open file, so that position and append hold."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
from typing import Final

from . import memory
from .call import Call

_READS: Final = frozenset({"read", "pread64", "readv", "preadv", "preadv2", "recvfrom"})
CAN_BE_CUT: Final = _READS | {
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range", "sendfile", "sendto",
}  # fmt: skip
_PIPE_BUF: Final = 4096


class NotYet(Exception):
    """There is nothing to be read yet, and the program would wait for it."""


def can_be_cut(call: Call) -> bool:
    """Whether a part of this call can be done by us."""
    if call.name in ("sendto", "recvfrom") and call.args[4]:
        # A message that names the other side is whole or nothing.
        return False
    return call.name in CAN_BE_CUT and call.fd is not None


def first_part(call: Call, length: int, *, last: bool) -> int:
    """Write, or read, the first `length` bytes of what the call would. Returns how many; raises OSError as it would.

    `last` says that the tree ends after this, so that nobody will look at the position of the descriptor. Raises
    NotYet for a read that must wait, ValueError for a call that has no bytes to cut.
    """
    if not can_be_cut(call):
        raise ValueError(f"{call.name} cannot be cut; only {', '.join(sorted(CAN_BE_CUT))} can")
    assert call.fd is not None
    length = max(0, min(length, call.length or 0))
    if length == 0:
        return 0
    if call.name in _READS:
        return _read(call, length)
    data = _bytes_of(call, length)
    if not data:
        return 0
    file, same = call.scene.lender.borrow(call.pid, call.fd)
    try:
        if not same and not last and _moves(call):
            raise OSError(errno.EPERM, "this machine does not lend descriptors, so their position cannot be moved")
        return _write(call, file, same, data)
    finally:
        os.close(file)


def _read(call: Call, length: int) -> int:
    """Read on the same open file, and put the bytes where the program wants them."""
    assert call.fd is not None
    file, same = call.scene.lender.borrow(call.pid, call.fd, os.O_RDONLY)
    try:
        if not same and _moves(call):
            raise OSError(errno.EPERM, "this machine does not lend descriptors, so their position cannot be moved")
        data = _taken(call, file, length)
    finally:
        os.close(file)
    done = 0
    for address, room in call.room:
        part = data[done : done + room]
        if part:
            memory.write(call.tid, address, part)
            done += len(part)
    return done


def _taken(call: Call, file: int, length: int) -> bytes:
    if call.shape.offset is not None and not _moves(call):
        return os.pread(file, length, _signed(call.args[call.shape.offset]))
    if call.file_kind not in ("file", "device") and not _can_be_read(file):
        if not _would_wait(call, file):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        raise NotYet
    if call.name == "recvfrom":
        with socket.socket(fileno=os.dup(file)) as line:
            return line.recv(length, call.flags | socket.MSG_DONTWAIT)
    return os.read(file, length)


def _would_wait(call: Call, file: int) -> bool:
    at_once = call.name == "recvfrom" and call.flags & socket.MSG_DONTWAIT
    return not at_once and not fcntl.fcntl(file, fcntl.F_GETFL) & os.O_NONBLOCK


def _can_be_read(file: int) -> bool:
    watch = select.poll()
    watch.register(file, select.POLLIN)
    return bool(watch.poll(0))


def _moves(call: Call) -> bool:
    """Whether the call moves the position of its descriptor."""
    shape = call.shape
    if shape.offset is not None:
        return call.name in ("pwritev2", "preadv2") and call.args[shape.offset] >> 63 == 1
    return shape.offset_at is None or not call.args[shape.offset_at]


def _bytes_of(call: Call, length: int) -> bytes:
    source = call.source
    if source is None:
        return call.read_data(length)
    place = call.shape.source_offset_at
    pointer = call.args[place] if place is not None else 0
    file, same = call.scene.lender.borrow(call.pid, source, os.O_RDONLY)
    try:
        if pointer:
            offset = int.from_bytes(memory.read(call.tid, pointer, 8), "little")
            data = os.pread(file, length, offset)
            memory.write(call.tid, pointer, (offset + len(data)).to_bytes(8, "little"))
            return data
        if not same:
            raise OSError(errno.EPERM, "the position of the source cannot be moved")
        return os.read(file, length)
    finally:
        os.close(file)


def _write(call: Call, file: int, same: bool, data: bytes) -> int:
    place = call.shape.offset_at
    pointer = call.args[place] if place is not None else 0
    if pointer:
        offset = int.from_bytes(memory.read(call.tid, pointer, 8), "little")
        written = os.pwrite(file, data, offset)
        memory.write(call.tid, pointer, (offset + written).to_bytes(8, "little"))
        return written
    if not same and call.offset is not None:
        return os.pwrite(file, data, call.offset)
    if call.name == "pwritev2":
        return os.pwritev(file, [data], _signed(call.args[3]), call.flags)
    if call.shape.offset is not None:
        return os.pwrite(file, data, _signed(call.args[call.shape.offset]))
    return os.write(file, data) if call.file_kind in ("file", "device") else _without_waiting(file, data)


def _signed(offset: int) -> int:
    return offset - (1 << 64) if offset >> 63 else offset


def _without_waiting(file: int, data: bytes) -> int:
    """A full pipe must not hold us: its reader may wait for us."""
    written = 0
    while written < len(data):
        watch = select.poll()
        watch.register(file, select.POLLOUT)
        if not watch.poll(0):
            break
        written += os.write(file, data[written : written + _PIPE_BUF])
    return written
