"""A call that stands still: who makes it, on which file, how much and where. Everything is read when it is asked for.

What cannot be read (a process that vanished, a pointer to nowhere) is empty; the kernel will fail such a call itself.
"""

# ruff: noqa: PTH115, PTH116, PTH118, PTH123 - plain system calls, since this runs at every call of a workload

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from fcntl import F_GETFL, fcntl
from time import monotonic_ns
from typing import Any, Final, Generic, Literal, TypeVar, overload

from . import memory
from .table import (
    AT_FDCWD,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    CHANGING_IOCTLS,
    FICLONE,
    FICLONERANGE,
    MAP_SHARED,
    O_APPEND,
    O_CREAT,
    O_DSYNC,
    O_EXCL,
    O_NOFOLLOW,
    O_SYNC,
    O_TMPFILE,
    O_TRUNC,
    PROT_WRITE,
    RWF_APPEND,
    RWF_DSYNC,
    RWF_SYNC,
    SHAPES,
    Kind,
    Shape,
)

FileKind = Literal["file", "dir", "fifo", "pipe", "socket", "tty", "device", "memory", "other", ""]

_GONE: Final = " (deleted)"
_WRITES: Final = frozenset({"write", "copy", "splice"})
_HAS_OFFSET: Final = _WRITES | {"read", "allocate", "sync-range", "mmap"}


_T = TypeVar("_T")


class lazy(Generic[_T]):
    """A property that is computed once. `functools.cached_property` takes a lock each time, in Python 3.11."""

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[_T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> _T: ...

    def __get__(self, instance: object | None, owner: type) -> lazy[_T] | _T:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value


class Scene:
    """What the calls of one trace share."""

    def __init__(self) -> None:
        self.started_ns = monotonic_ns()
        self.outputs: dict[str, Literal["stdout", "stderr"]] = {}
        """What the links of /proc call the workload's standard output and error."""
        self.lender = memory.Lender()


class Call:
    """One call, as its process asked for it. Good while the call stands still, not after.

    `index` counts from 1 in the order of the whole trace; `process` and `thread` count from 1 in the order of
    appearance.
    """

    def __init__(
        self,
        scene: Scene,
        index: int,
        tid: int,
        who: tuple[int, int, int],
        name: str,
        number: int,
        args: tuple[int, ...],
        ip: int,
    ) -> None:
        self.scene = scene
        self.index = index
        self.tid = tid
        self.pid, self.process, self.thread = who
        self.name = name
        self.number = number
        self.args = args
        self.ip = ip
        """The address that the call was made from."""
        self.at_ns = monotonic_ns()
        """When it was made, by the monotonic clock."""

    def __repr__(self) -> str:
        second = f" -> {self.path2}" if self.path2 else ""
        return f"<{self.index}: {self.name} {self.path}{second} {self.offset}+{self.length} by {self.tid}>"

    @property
    def shape(self) -> Shape:
        """Which argument means what."""
        return SHAPES[self.name]

    @property
    def at_us(self) -> int:
        """When it was made, since the trace began."""
        return (self.at_ns - self.scene.started_ns) // 1000

    # --- which file --------------------------------------------------------------------------------------------------

    @lazy
    def fd(self) -> int | None:
        """The descriptor that the call changes, as the process numbers it."""
        place = self.shape.fd
        if self.name == "io_submit":
            return self._first_iocb[0] if self._first_iocb else None
        return None if place is None else _signed(self.args[place])

    @lazy
    def path(self) -> str:
        """The absolute path of what is changed or read, links in it followed as the call does; "" if it has none.

        For a file that has no name any more it is its last name (see `deleted`).
        """
        shape = self.shape
        if self.name in ("mprotect", "msync", "madvise"):
            return _real(shared_mapping(self.tid, self.args[0]))
        if self.name == "bind":
            return self._bound_path
        if shape.path is not None:
            return self._named(shape.at, shape.path, follow=self._follows)
        if self.fd is None:
            return ""
        return _real(self._link_of_fd)

    @lazy
    def path2(self) -> str:
        """The second path: the new name of a rename or link, the link that a symlink makes, the source of a copy."""
        shape = self.shape
        if shape.path2 is not None:
            return self._named(shape.at2, shape.path2, follow=False)
        source = self.source
        return _real(_readlink(f"/proc/{self.tid}/fd/{source}")) if source is not None else ""

    @lazy
    def source(self) -> int | None:
        """The descriptor that bytes are copied from."""
        if self.name == "ioctl":
            if self.args[1] & 0xFFFF_FFFF == FICLONE:
                return _signed(self.args[2])
            if self.args[1] & 0xFFFF_FFFF == FICLONERANGE:
                return self._number_at(self.args[2])
            return None
        place = self.shape.source
        return None if place is None else _signed(self.args[place])

    @lazy
    def text(self) -> str:
        """What a symlink will point to; "" for any other call."""
        return os.fsdecode(self._string(self.args[0])) if self.name in ("symlink", "symlinkat") else ""

    @lazy
    def deleted(self) -> bool:
        """Whether the file has no name left: it is gone when its last descriptor is closed."""
        if self.fd is None or not self._link_of_fd.startswith("/"):
            return False
        status = self._status
        return status is not None and status.st_nlink == 0

    @lazy
    def file_kind(self) -> FileKind:
        """What the descriptor stands for; for a call by path, what is there now ("" if nothing)."""
        link = self._link_of_fd if self.fd is not None else self.path
        if link.startswith("pipe:"):
            return "pipe"
        if link.startswith("socket:"):
            return "socket"
        if link.startswith("/memfd:"):
            return "memory"
        status = self._status
        if status is None:
            return "other" if link.startswith("anon_inode:") else ""
        mode = status.st_mode
        if stat.S_ISREG(mode):
            return "file"
        if stat.S_ISDIR(mode):
            return "dir"
        if stat.S_ISFIFO(mode):
            return "fifo"
        if stat.S_ISSOCK(mode):
            return "socket"
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            return "tty" if link.startswith(("/dev/pts/", "/dev/tty")) else "device"
        return "other"

    @lazy
    def identity(self) -> tuple[int, int] | None:
        """Device and inode of what is changed; None if there is nothing yet."""
        status = self._status
        return (status.st_dev, status.st_ino) if status else None

    @lazy
    def stream(self) -> Literal["stdout", "stderr", ""]:
        """Whether the call writes to what the workload was given as its standard output or error."""
        outputs = self.scene.outputs
        return outputs.get(self._link_of_fd, "") if outputs and self.fd is not None else ""

    # --- what it does ------------------------------------------------------------------------------------------------

    @lazy
    def kind(self) -> Kind:
        """What the call does to the file. `other` for one that will change nothing, as an open of what is there."""
        if self.name in ("open", "openat", "openat2", "creat", "open_by_handle_at"):
            return self._kind_of_open
        if self.name == "unlinkat" and self.flags & AT_REMOVEDIR:
            return "rmdir"
        if self.name == "ioctl":
            return "copy" if CHANGING_IOCTLS.get(self.args[1] & 0xFFFF_FFFF) == "copy" else "attr"
        if self.shape.kind == "write" and self.stream:
            return "output"
        if self.name == "bind" and not self.path:
            return "other"
        return self.shape.kind

    @lazy
    def flags(self) -> int:
        """The flags of the call; for a mapping its protection is in `args[2]`."""
        if self.name == "openat2":
            return self._number_at(self.args[2]) or 0
        if self.name == "creat":
            return O_CREAT | O_TRUNC | os.O_WRONLY
        place = self.shape.flags
        return self.args[place] & 0xFFFF_FFFF if place is not None else 0

    @lazy
    def length(self) -> int | None:
        """How many bytes the call asks for; for a truncation the new size."""
        shape = self.shape
        if self.name == "io_submit":
            return self._first_iocb[3] if self._first_iocb else None
        if shape.vector is not None:
            return sum(length for _, length in self._buffers)
        return None if shape.length is None else self.args[shape.length]

    @lazy
    def offset(self) -> int | None:
        """Where in the file the call begins; the end for an append. None where there is no such thing."""
        shape = self.shape
        if self.name == "io_submit":
            return self._first_iocb[4] if self._first_iocb else None
        if self.fd is None or shape.kind not in _HAS_OFFSET:
            return None
        if self.file_kind != "file":
            return None
        if shape.kind in _WRITES and self.appends:
            return self._status.st_size if self._status else None
        if shape.offset is not None:
            given = _signed64(self.args[shape.offset])
            # pwritev2 and preadv2 with -1 mean the position.
            return self.position if given == -1 else given
        if shape.offset_at is not None and self.args[shape.offset_at]:
            return self._number_at(self.args[shape.offset_at])
        return self.position

    @lazy
    def appends(self) -> bool:
        """Whether bytes go to the end of the file, wherever its position is."""
        return bool(self._file[2] & O_APPEND) or (self.name == "pwritev2" and bool(self.flags & RWF_APPEND))

    @lazy
    def sync(self) -> bool:
        """Whether what is written is on the disk when the call returns: O_SYNC, O_DSYNC, or the like for one call."""
        if self.name == "pwritev2" and self.flags & (RWF_DSYNC | RWF_SYNC):
            return True
        return self.shape.kind in ("write", "copy", "splice") and bool(self._file[2] & (O_DSYNC | O_SYNC))

    @lazy
    def position(self) -> int | None:
        """The position of the descriptor."""
        return self._file[1]

    def read_data(self, limit: int = 1 << 30) -> bytes:
        """The bytes that the call will write, at most so many; b"" for a call whose bytes are not in its memory."""
        shape = self.shape
        try:
            if self.name == "io_submit":
                return memory.read(self.tid, self._first_iocb[2], min(self._first_iocb[3], limit))
            if shape.vector is not None:
                return memory.read_buffers(self.tid, self._buffers, limit)
            if shape.buffer is not None:
                return memory.read(self.tid, self.args[shape.buffer], min(self.length or 0, limit))
        except (OSError, IndexError):
            pass
        return b""

    @property
    def room(self) -> list[tuple[int, int]]:
        """Where the bytes that the call reads go: the address and the length of each buffer."""
        if self.shape.vector is not None:
            return self._buffers
        return [] if self.shape.buffer is None else [(self.args[self.shape.buffer], self.length or 0)]

    @lazy
    def program(self) -> str:
        """The path of the file that the process runs; "" if that may not be known."""
        return _readlink(f"/proc/{self.tid}/exe")

    @lazy
    def argv(self) -> tuple[str, ...]:
        """For a call that starts a program: the arguments that it gets."""
        if self.shape.kind != "spawn":
            return ()
        words: list[str] = []
        place = self.args[2 if self.name == "execveat" else 1]
        try:
            while len(words) < 256 and (address := self._number_at(place)):
                words.append(os.fsdecode(memory.read_string(self.tid, address)))
                place += 8
        except OSError:
            pass
        return tuple(words)

    # --- how it is read ----------------------------------------------------------------------------------------------

    @lazy
    def _link_of_fd(self) -> str:
        return _readlink(f"/proc/{self.tid}/fd/{self.fd}") if self.fd is not None else ""

    @property
    def _status(self) -> os.stat_result | None:
        """What is there now."""
        if self.fd is not None and self.shape.path is None:
            return self._file[0]
        return self._status_of_path

    @lazy
    def _status_of_path(self) -> os.stat_result | None:
        try:
            return os.lstat(self.path) if self.path else None
        except OSError:
            return None

    @lazy
    def _file(self) -> tuple[os.stat_result | None, int | None, int]:
        """Of the descriptor: what it shows, its position, its flags."""
        if self.fd is None:
            return None, None, 0
        try:
            # Borrowed for an instant: three plain calls are faster than three files of /proc.
            mine = self.scene.lender.lend(self.pid, self.fd)
        except OSError:
            return self._file_by_proc()
        try:
            status = os.fstat(mine)
            position = os.lseek(mine, 0, os.SEEK_CUR) if stat.S_ISREG(status.st_mode) else None
            return status, position, fcntl(mine, F_GETFL)
        finally:
            os.close(mine)

    def _file_by_proc(self) -> tuple[os.stat_result | None, int | None, int]:
        status, position, flags = None, None, 0
        try:
            status = os.stat(f"/proc/{self.tid}/fd/{self.fd}")
            with open(f"/proc/{self.tid}/fdinfo/{self.fd}", "rb", buffering=0) as file:
                lines = file.read(4096).split(b"\n")
        except OSError:
            return status, position, flags
        for line in lines:
            if line.startswith(b"pos:"):
                position = int(line[4:])
            elif line.startswith(b"flags:"):
                flags = int(line[6:], 8)
        return status, position, flags

    @lazy
    def _buffers(self) -> list[tuple[int, int]]:
        place = self.shape.vector
        if place is None:
            return []
        try:
            return memory.read_vector(self.tid, self.args[place], self.args[place + 1])
        except OSError:
            return []

    @lazy
    def _first_iocb(self) -> tuple[int, ...]:
        """Of the first request of an io_submit: descriptor, operation, buffer, length, offset."""
        try:
            raw = memory.read(self.tid, self._number_at(self.args[2]) or 0, 48)
            operation, _, fd, buffer, length, offset = struct.unpack_from("=HhIQQq", raw, 16)
        except (OSError, struct.error):
            return ()
        return fd, operation, buffer, length, offset

    @lazy
    def _kind_of_open(self) -> Kind:
        if self.flags & O_TMPFILE:
            return "create"
        if self.name == "open_by_handle_at":
            return "open-trunc" if self.flags & O_TRUNC else "other"
        status = self._status
        if status is None:
            return "create" if self.flags & O_CREAT else "other"
        if not stat.S_ISREG(status.st_mode) or (self.flags & O_CREAT and self.flags & O_EXCL):
            return "other"
        return "open-trunc" if self.flags & O_TRUNC else "other"

    @property
    def _follows(self) -> bool:
        if self.name in ("open", "openat", "openat2"):
            return not self.flags & O_NOFOLLOW and not (self.flags & O_CREAT and self.flags & O_EXCL)
        if self.name == "linkat":
            return bool(self.flags & AT_SYMLINK_FOLLOW)
        if self.name in ("fchmodat2", "fchownat", "utimensat", "setxattrat", "removexattrat", "file_setattr"):
            return not self.flags & AT_SYMLINK_NOFOLLOW
        return self.shape.follow

    def _named(self, at: int | None, path: int, follow: bool) -> str:
        """A path argument as an absolute path, seen from the root of our own file system."""
        name = os.fsdecode(self._string(self.args[path])) if self.args[path] else ""
        where = AT_FDCWD if at is None else _signed(self.args[at])
        if not name.startswith("/"):
            base = _readlink(f"/proc/{self.tid}/cwd" if where == AT_FDCWD else f"/proc/{self.tid}/fd/{where}")
            if not name:
                # AT_EMPTY_PATH, and utimensat with a null pointer: the descriptor itself.
                return _real(base) if at is not None else ""
            if not base.startswith("/"):
                return ""
            return _resolved(os.path.join(_real(base), name), follow, self.tid)
        root = _readlink(f"/proc/{self.tid}/root")
        return _resolved(name if root in ("/", "") else root + name, follow, self.tid)

    @lazy
    def _bound_path(self) -> str:
        try:
            raw = memory.read(self.tid, self.args[1], min(self.args[2], 110))
        except OSError:
            return ""
        # AF_UNIX, and not a name of the abstract space.
        if raw[:2] != b"\x01\x00" or raw[2:3] in (b"", b"\0"):
            return ""
        name = os.fsdecode(raw[2:].split(b"\0")[0])
        return _resolved(os.path.join(_readlink(f"/proc/{self.tid}/cwd"), name), follow=False, tid=self.tid)

    def _string(self, address: int) -> bytes:
        try:
            return memory.read_string(self.tid, address)
        except OSError:
            return b""

    def _number_at(self, address: int) -> int | None:
        try:
            return int.from_bytes(memory.read(self.tid, address, 8), "little", signed=True)
        except OSError:
            return None

    @property
    def maps_for_writing(self) -> bool:
        """For a mapping: whether stores into it change the file."""
        return self.name == "mmap" and bool(self.args[3] & MAP_SHARED) and bool(self.args[2] & PROT_WRITE)


def shared_mapping(tid: int, address: int) -> str:
    """The path of the file that a shared mapping at this address shows; "" if it is none."""
    try:
        with open(f"/proc/{tid}/maps", "rb") as file:
            for line in file:
                fields = line.split(None, 5)
                first, _, last = fields[0].partition(b"-")
                if int(first, 16) <= address < int(last, 16):
                    shared = fields[1][3:4] == b"s" and len(fields) > 5
                    return os.fsdecode(fields[5].rstrip(b"\n")) if shared else ""
    except (OSError, ValueError):
        pass
    return ""


def _resolved(path: str, follow: bool, tid: int) -> str:
    """The path with its links followed, the last one only if told; what `/proc/self` means is the caller's self."""
    if path.startswith("/proc/self/"):
        path = f"/proc/{tid}/{path[11:]}"
    elif path.startswith("/proc/thread-self/"):
        path = f"/proc/{tid}/{path[18:]}"
    elif path.startswith(("/dev/fd/", "/dev/stdin", "/dev/stdout", "/dev/stderr")):
        number = {"in": "0", "out": "1", "err": "2"}.get(path[8:], path[8:])
        path = f"/proc/{tid}/fd/{number}"
    if follow:
        return _real(os.path.realpath(path))
    head, tail = os.path.split(path.rstrip("/") or "/")
    if tail in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(head), tail)


def _real(link: str) -> str:
    """The path that a link of /proc names; "" for what is no file."""
    if not link.startswith("/"):
        return ""
    return link[: -len(_GONE)] if link.endswith(_GONE) and not os.path.lexists(link) else link


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _signed(argument: int) -> int:
    """An `int` argument: its lower half, with its sign."""
    value = argument & 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value


def _signed64(argument: int) -> int:
    return argument - (1 << 64) if argument >> 63 else argument
