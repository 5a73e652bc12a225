"""Another process's memory and descriptors: read, written and borrowed while it stands still in a call."""

# ruff: noqa: PTH123 - plain system calls, since this runs at every call of a workload

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Final

_PAGE: Final = 4096
_PATH_MAX: Final = 4096
_MOST_BUFFERS: Final = 1024
_MOST_HANDLES: Final = 64
_PIDFD_GETFD: Final = 438

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class _Span(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


if _libc is not None:
    # musl has the two calls as well; older ones go through /proc.
    for _name in ("process_vm_readv", "process_vm_writev"):
        if hasattr(_libc, _name):
            _call = getattr(_libc, _name)
            _call.restype = ctypes.c_ssize_t
            _call.argtypes = [
                ctypes.c_int,
                ctypes.POINTER(_Span),
                ctypes.c_ulong,
                ctypes.POINTER(_Span),
                ctypes.c_ulong,
                ctypes.c_ulong,
            ]


def read(tid: int, address: int, length: int) -> bytes:
    """So many bytes from an address; fewer when the memory ends before. Raises OSError."""
    if length <= 0:
        return b""
    here = ctypes.create_string_buffer(length)
    got = _move("process_vm_readv", tid, ctypes.addressof(here), address, length)
    if got is not None:
        return here.raw[:got]
    with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), length, address)


def write(tid: int, address: int, data: bytes) -> None:
    """Put bytes at an address. Raises OSError."""
    here = ctypes.create_string_buffer(data, len(data))
    if _move("process_vm_writev", tid, ctypes.addressof(here), address, len(data)) is None:
        with open(f"/proc/{tid}/mem", "r+b", buffering=0) as memory:
            os.pwrite(memory.fileno(), data, address)


def read_string(tid: int, address: int) -> bytes:
    """The text at an address, up to its NUL. Raises OSError."""
    found = bytearray()
    while len(found) < _PATH_MAX:
        # Never across a page that may not be there.
        part = read(tid, address, min(_PAGE - address % _PAGE, 256))
        end = part.find(b"\0")
        if end >= 0:
            return bytes(found + part[:end])
        if not part:
            break
        found += part
        address += len(part)
    return bytes(found)


def read_vector(tid: int, address: int, count: int) -> list[tuple[int, int]]:
    """The (address, length) of each buffer of a struct iovec[]. Raises OSError."""
    count = max(0, min(count, _MOST_BUFFERS))
    raw = read(tid, address, 16 * count)
    return [struct.unpack_from("=QQ", raw, 16 * index) for index in range(len(raw) // 16)]


def read_buffers(tid: int, buffers: list[tuple[int, int]], limit: int) -> bytes:
    """What the buffers hold together, at most `limit` bytes. Raises OSError."""
    found = bytearray()
    for address, length in buffers:
        room = min(length, limit - len(found))
        if room <= 0:
            break
        part = read(tid, address, room)
        found += part
        if len(part) < room:
            break
    return bytes(found)


class Lender:
    """Borrows descriptors of other processes, and keeps a handle on each process for the next time."""

    def __init__(self) -> None:
        self._handles: dict[int, int] = {}

    def borrow(self, pid: int, fd: int, mode: int = os.O_WRONLY) -> tuple[int, bool]:
        """A descriptor of ours for the same open file, and whether it is truly the same one (position, O_APPEND).

        Where the kernel does not lend it out, the file is opened again through /proc in `mode`: same bytes, a position
        of its own. Raises OSError.
        """
        try:
            return self.lend(pid, fd), True
        except PermissionError:
            return os.open(f"/proc/{pid}/fd/{fd}", mode | os.O_CLOEXEC), False

    def lend(self, pid: int, fd: int) -> int:
        """The same open file. Raises PermissionError where that is forbidden, OSError for what is not there."""
        handle = self._handles.get(pid)
        if handle is not None:
            try:
                return _getfd(handle, fd)
            except ProcessLookupError:
                # The number is another process's by now.
                os.close(self._handles.pop(pid))
        if len(self._handles) >= _MOST_HANDLES:
            self.close()
        handle = self._handles[pid] = os.pidfd_open(pid)
        return _getfd(handle, fd)

    def close(self) -> None:
        """Let go of every process."""
        while self._handles:
            os.close(self._handles.popitem()[1])


def _getfd(process: int, fd: int) -> int:
    if _libc is None:
        raise PermissionError(1, "descriptors cannot be borrowed here")
    got: int = _libc.syscall(_PIDFD_GETFD, process, fd, 0)
    if got < 0:
        code = ctypes.get_errno()
        # A sandbox says ENOSYS for what it forbids.
        raise PermissionError(1, os.strerror(code)) if code in (1, 38) else OSError(code, os.strerror(code))
    return got


def _move(name: str, tid: int, here: int, there: int, length: int) -> int | None:
    """The number of bytes moved; None when the call itself is forbidden here."""
    call = getattr(_libc, name, None)
    if call is None:
        return None
    mine, theirs = _Span(here, length), _Span(there, length)
    got = int(call(tid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0))
    if got >= 0:
        return got
    code = ctypes.get_errno()
    if code in (1, 38):
        return None
    raise OSError(code, os.strerror(code))
