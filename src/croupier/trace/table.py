"""The system calls that change files, or read, send and connect: their numbers, and which argument means what.

Numbers are those of the kernel's headers. x86-64 is what we run and measure; the arm64 column was written from
`asm-generic/unistd.h` and is untested.
"""

from __future__ import annotations

import os
import platform
from typing import Final, Literal, NamedTuple

Kind = Literal[
    "write",
    "truncate",
    "create",
    "open-trunc",
    "rename",
    "link",
    "unlink",
    "mkdir",
    "rmdir",
    "symlink",
    "sync",
    "sync-range",
    "attr",
    "xattr",
    "allocate",
    "copy",
    "splice",
    "mmap",
    "msync",
    "spawn",
    "output",
    "read",
    "connect",
    "other",
]


class Shape(NamedTuple):
    """Which argument of a call means what; None where it has none of the kind. Numbers count from 0."""

    kind: Kind
    fd: int | None = None
    """The descriptor that is changed."""
    at: int | None = None
    """The directory that `path` is relative to."""
    path: int | None = None
    at2: int | None = None
    path2: int | None = None
    buffer: int | None = None
    """Where the bytes to be written are, or where those that are read go."""
    vector: int | None = None
    """Where the list of buffers is (struct iovec); its count is the next argument."""
    length: int | None = None
    offset: int | None = None
    """The offset, as a number."""
    offset_at: int | None = None
    """The offset, as a pointer to a number; a null pointer means the position of the descriptor."""
    flags: int | None = None
    source: int | None = None
    """The descriptor that bytes are copied from."""
    source_offset_at: int | None = None
    follow: bool = False
    """Whether a symbolic link at the end of `path` is followed."""


class Machine(NamedTuple):
    """One architecture."""

    name: str
    audit: int
    """Its number in struct seccomp_data (AUDIT_ARCH_…)."""
    numbers: dict[str, int]
    x32: bool
    """Whether the kernel may take calls of the x32 ABI, whose numbers have bit 30 set."""
    tested: bool


SHAPES: Final[dict[str, Shape]] = {
    "write": Shape("write", fd=0, buffer=1, length=2),
    "pwrite64": Shape("write", fd=0, buffer=1, length=2, offset=3),
    "writev": Shape("write", fd=0, vector=1),
    "pwritev": Shape("write", fd=0, vector=1, offset=3),
    "pwritev2": Shape("write", fd=0, vector=1, offset=3, flags=5),
    "io_submit": Shape("write"),
    "sendfile": Shape("copy", fd=0, source=1, source_offset_at=2, length=3),
    "copy_file_range": Shape("copy", fd=2, source=0, source_offset_at=1, offset_at=3, length=4, flags=5),
    "splice": Shape("splice", fd=2, source=0, source_offset_at=1, offset_at=3, length=4, flags=5),
    "vmsplice": Shape("splice", fd=0, vector=1, flags=3),
    "tee": Shape("splice", fd=1, source=0, length=2, flags=3),
    "truncate": Shape("truncate", path=0, length=1, follow=True),
    "ftruncate": Shape("truncate", fd=0, length=1),
    "fallocate": Shape("allocate", fd=0, flags=1, offset=2, length=3),
    "open": Shape("create", path=0, flags=1, follow=True),
    "openat": Shape("create", at=0, path=1, flags=2, follow=True),
    "openat2": Shape("create", at=0, path=1, follow=True),
    "creat": Shape("create", path=0, follow=True),
    "open_by_handle_at": Shape("open-trunc", flags=2),
    "rename": Shape("rename", path=0, path2=1),
    "renameat": Shape("rename", at=0, path=1, at2=2, path2=3),
    "renameat2": Shape("rename", at=0, path=1, at2=2, path2=3, flags=4),
    "link": Shape("link", path=0, path2=1),
    "linkat": Shape("link", at=0, path=1, at2=2, path2=3, flags=4),
    "symlink": Shape("symlink", path2=1),
    "symlinkat": Shape("symlink", at2=1, path2=2),
    "unlink": Shape("unlink", path=0),
    "unlinkat": Shape("unlink", at=0, path=1, flags=2),
    "rmdir": Shape("rmdir", path=0),
    "mkdir": Shape("mkdir", path=0),
    "mkdirat": Shape("mkdir", at=0, path=1),
    "mknod": Shape("create", path=0),
    "mknodat": Shape("create", at=0, path=1),
    "bind": Shape("create", fd=0),
    "chmod": Shape("attr", path=0, follow=True),
    "fchmod": Shape("attr", fd=0),
    "fchmodat": Shape("attr", at=0, path=1, follow=True),
    "fchmodat2": Shape("attr", at=0, path=1, flags=3),
    "chown": Shape("attr", path=0, follow=True),
    "lchown": Shape("attr", path=0),
    "fchown": Shape("attr", fd=0),
    "fchownat": Shape("attr", at=0, path=1, flags=4),
    "utime": Shape("attr", path=0, follow=True),
    "utimes": Shape("attr", path=0, follow=True),
    "futimesat": Shape("attr", at=0, path=1, follow=True),
    "utimensat": Shape("attr", at=0, path=1, flags=3),
    "setxattr": Shape("xattr", path=0, follow=True),
    "lsetxattr": Shape("xattr", path=0),
    "fsetxattr": Shape("xattr", fd=0),
    "setxattrat": Shape("xattr", at=0, path=1, flags=2),
    "removexattr": Shape("xattr", path=0, follow=True),
    "lremovexattr": Shape("xattr", path=0),
    "fremovexattr": Shape("xattr", fd=0),
    "removexattrat": Shape("xattr", at=0, path=1, flags=2),
    "file_setattr": Shape("attr", at=0, path=1, flags=4),
    "ioctl": Shape("attr", fd=0, flags=1),
    "sync": Shape("sync"),
    "syncfs": Shape("sync", fd=0),
    "fsync": Shape("sync", fd=0),
    "fdatasync": Shape("sync", fd=0),
    "sync_file_range": Shape("sync-range", fd=0, offset=1, length=2, flags=3),
    "msync": Shape("msync", length=1, flags=2),
    "mmap": Shape("mmap", length=1, flags=3, fd=4, offset=5),
    "mprotect": Shape("mmap", length=1, flags=2),
    "madvise": Shape("allocate", length=1),
    "mount": Shape("other", path=1, follow=True),
    "umount2": Shape("other", path=0, follow=True),
    "execve": Shape("spawn", path=0, follow=True),
    "execveat": Shape("spawn", at=0, path=1, flags=4, follow=True),
    "sendto": Shape("output", fd=0, buffer=1, length=2, flags=3),
    "sendmsg": Shape("output", fd=0, flags=2),
    "sendmmsg": Shape("output", fd=0, flags=3),
    "read": Shape("read", fd=0, buffer=1, length=2),
    "pread64": Shape("read", fd=0, buffer=1, length=2, offset=3),
    "readv": Shape("read", fd=0, vector=1),
    "preadv": Shape("read", fd=0, vector=1, offset=3),
    "preadv2": Shape("read", fd=0, vector=1, offset=3, flags=5),
    "recvfrom": Shape("read", fd=0, buffer=1, length=2, flags=3),
    "recvmsg": Shape("read", fd=0, flags=2),
    "recvmmsg": Shape("read", fd=0, flags=3),
    "connect": Shape("connect", fd=0),
    "accept": Shape("connect", fd=0),
    "accept4": Shape("connect", fd=0, flags=3),
}

SPAWNING: Final = frozenset({"execve", "execveat"})
"""Calls that start another program."""

SENDING: Final = frozenset({"sendto", "sendmsg", "sendmmsg"})
"""Calls that only a socket understands. `write` to a socket is among `MUTATING`, as to any other descriptor."""

READING: Final = frozenset(name for name, shape in SHAPES.items() if shape.kind == "read")
"""Calls that bring bytes in: from files, pipes and sockets."""

CONNECTING: Final = frozenset({"connect", "accept", "accept4"})
"""Calls that make a connection. They wait as long as the other side lets them."""

MUTATING: Final = frozenset(SHAPES) - SPAWNING - SENDING - READING - CONNECTING
"""Every call that changes a file, a name, an attribute, or what of them is on the disk."""

REFUSED: Final = frozenset({"io_uring_setup", "io_uring_enter", "io_uring_register"})
"""Calls by which files could be changed unseen. They fail with ENOSYS, and the result says so."""

# Same number on every machine since the tables were joined.
_JOINED = {
    "pidfd_open": 434,
    "pidfd_getfd": 438,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "openat2": 437,
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
    "file_setattr": 469,
}

# fmt: off
_X86_64 = _JOINED | {
    "read": 0, "write": 1, "open": 2, "mmap": 9, "mprotect": 10, "ioctl": 16, "pread64": 17, "pwrite64": 18,
    "readv": 19, "writev": 20, "msync": 26, "madvise": 28, "sendfile": 40, "connect": 42, "accept": 43, "sendto": 44,
    "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "bind": 49, "execve": 59, "fsync": 74, "fdatasync": 75,
    "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "utime": 132, "mknod": 133,
    "sync": 162, "mount": 165, "umount2": 166, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
    "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "io_submit": 209, "utimes": 235, "openat": 257,
    "mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat": 261, "unlinkat": 263, "renameat": 264,
    "linkat": 265, "symlinkat": 266, "fchmodat": 268, "splice": 275, "tee": 276, "sync_file_range": 277,
    "vmsplice": 278, "utimensat": 280, "fallocate": 285, "accept4": 288, "preadv": 295, "pwritev": 296, "recvmmsg": 299,
    "open_by_handle_at": 304, "syncfs": 306, "sendmmsg": 307,
    "process_vm_readv": 310, "process_vm_writev": 311, "renameat2": 316, "seccomp": 317,
    "execveat": 322, "copy_file_range": 326, "preadv2": 327, "pwritev2": 328,
}

_ARM64 = _JOINED | {
    "io_submit": 2, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
    "fremovexattr": 16, "ioctl": 29, "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37,
    "renameat": 38, "umount2": 39, "mount": 40, "truncate": 45, "ftruncate": 46, "fallocate": 47, "fchmod": 52,
    "fchmodat": 53, "fchownat": 54, "fchown": 55, "openat": 56, "read": 63, "write": 64, "readv": 65,
    "writev": 66, "pread64": 67, "pwrite64": 68, "preadv": 69, "pwritev": 70, "sendfile": 71,
    "vmsplice": 75, "splice": 76, "tee": 77, "sync": 81, "fsync": 82, "fdatasync": 83,
    "sync_file_range": 84, "utimensat": 88, "bind": 200, "accept": 202, "connect": 203,
    "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "execve": 221, "mmap": 222,
    "mprotect": 226, "msync": 227, "madvise": 233, "accept4": 242, "recvmmsg": 243,
    "open_by_handle_at": 265, "syncfs": 267, "sendmmsg": 269, "process_vm_readv": 270,
    "process_vm_writev": 271, "renameat2": 276, "seccomp": 277, "execveat": 281, "copy_file_range": 285,
    "preadv2": 286, "pwritev2": 287,
}
# fmt: on

X86_64: Final = Machine("x86-64", 0xC000_003E, _X86_64, x32=True, tested=True)
ARM64: Final = Machine("arm64", 0xC000_00B7, _ARM64, x32=False, tested=False)

_MACHINES: Final = {"x86_64": X86_64, "amd64": X86_64, "aarch64": ARM64, "arm64": ARM64}


def machine() -> Machine | None:
    """The table of this machine; None for an architecture that we have none of, and for a 32-bit Python."""
    found = _MACHINES.get(platform.machine().lower())
    return found if found and _is_64_bit() else None


def _is_64_bit() -> bool:
    return platform.architecture()[0] == "64bit"


# --- bits of flags ---------------------------------------------------------------------------------------------------

O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_DSYNC: Final = 0o10000
O_SYNC: Final = 0o4010000
O_TMPFILE: Final = 0o20000000
"""Without O_DIRECTORY, which has another bit on each machine."""
O_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0o400000)

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_REMOVEDIR: Final = 0x200
AT_SYMLINK_FOLLOW: Final = 0x400

RWF_DSYNC: Final = 0x2
RWF_SYNC: Final = 0x4
RWF_APPEND: Final = 0x10

MAP_SHARED: Final = 0x01
MAP_ANONYMOUS: Final = 0x20
PROT_WRITE: Final = 0x2
MADV_REMOVE: Final = 9
"""The only advice that changes a file: it punches a hole where a shared mapping shows it."""

# ioctl(2) requests that change a file.
FICLONE: Final = 0x4004_9409
FICLONERANGE: Final = 0x4020_940D
FIDEDUPERANGE: Final = 0xC018_9436
FS_IOC_SETFLAGS: Final = 0x4008_6602
FS_IOC_FSSETXATTR: Final = 0x401C_5820
CHANGING_IOCTLS: Final = {
    FICLONE: "copy",
    FICLONERANGE: "copy",
    FIDEDUPERANGE: "copy",
    FS_IOC_SETFLAGS: "attr",
    FS_IOC_FSSETXATTR: "attr",
}
