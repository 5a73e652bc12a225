"""Mounting a small file system of our own, seeing it, and detaching it: mount(2), umount2(2), /proc/self/mountinfo."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_MS_NOSUID = 2
_MS_NODEV = 4
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_CAP_SYS_ADMIN = 21
_SOURCE = b"croupier"
"""What our mounts are called, so that nobody else's is ever taken for one."""

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def lacking() -> str:
    """What this machine lacks for a mount, in a sentence; "" if nothing."""
    if _libc is None:
        return "only Linux mounts a file system in memory so"
    if not _may_mount():
        return (
            "this user may not mount (it takes CAP_SYS_ADMIN): run as root, or in namespaces of its own"
            " (unshare --map-root-user --mount croupier …)"
        )
    return ""


def mount_tmpfs(path: str, size_bytes: int) -> None:
    """Mount an empty file system of so many bytes, for this user alone. Raises OSError."""
    options = f"size={size_bytes},mode=0700,uid={os.getuid()},gid={os.getgid()}".encode()
    assert _libc is not None
    if _libc.mount(_SOURCE, os.fsencode(path), b"tmpfs", ctypes.c_ulong(_MS_NOSUID | _MS_NODEV), options) != 0:
        raise _error(path)


def detach(path: str) -> None:
    """Take our mount away at once, even while it is used. Raises OSError."""
    assert _libc is not None
    if _libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        raise _error(path)


def is_mounted(path: str) -> bool:
    """Whether something of ours is mounted on this directory."""
    return os.path.realpath(path) in _ours()


def mount_of(path: str) -> str | None:
    """The mount of ours that a path lies on; None where it lies on none."""
    place = os.path.realpath(path)
    ours = [one for one in _ours() if place == one or place.startswith(one + "/")]
    return max(ours, key=len, default=None)


def _ours() -> set[str]:
    """Where our file systems are mounted; fields 5 and, after the dash, 2 of proc_pid_mountinfo(5)."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        if after.split(b" ")[1:2] == [_SOURCE]:
            found.add(os.fsdecode(_unescaped(before.split(b" ")[4])))
    return found


def _unescaped(field: bytes) -> bytes:
    """Blanks, tabs, newlines and backslashes stand there as three octal digits."""
    for code in (b"040", b"011", b"012"):
        field = field.replace(b"\\" + code, bytes([int(code, 8)]))
    return field.replace(b"\\134", b"\\")


def _may_mount() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def _error(path: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), path)
