"""An overlay over a directory: what is written lands beside it, and is dropped in no time.

Mounted in a mount namespace of this process's own (with a user namespace where we are not root), so nobody else sees
the mounts, and the kernel takes them down with the last process in it, however that ends.

An overlay is not quite a file system: without root a directory of the lower one cannot be renamed (EXDEV), a file
opened for reading before somebody writes to it keeps showing what was, and the first write to a large file copies all
of it. Whoever relies on one checks the bad news on a plain copy.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWNS = 0x0002_0000
_CLONE_NEWUSER = 0x1000_0000
_MS_PRIVATE = 1 << 18
_MS_REC = 1 << 14
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def enter_namespace() -> None:
    """Give this process, which must have one thread, a mount namespace in which it may mount. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    as_root = uid == 0
    _call("unshare", _CLONE_NEWNS | (0 if as_root else _CLONE_NEWUSER))
    if not as_root:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _call("mount", None, b"/", None, ctypes.c_ulong(_MS_PRIVATE | _MS_REC), None)


def mount_overlay(folder: bytes, *, as_root: bool) -> None:
    """Mount `folder`/base with `folder`/upper on top of it at `folder`/state. Raises OSError."""
    # Relative names: none of ours holds a comma or a colon, which a path of the user's may.
    options = b"lowerdir=base,upperdir=upper,workdir=work,volatile"
    options += b",redirect_dir=on,metacopy=off" if as_root else b",userxattr"
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(folder)
        _call("mount", b"overlay", b"state", b"overlay", ctypes.c_ulong(0), options)
    finally:
        os.fchdir(before)
        os.close(before)


def unmount(path: bytes) -> None:
    """Take a mount down, whoever still uses it. Raises OSError."""
    _call("umount2", path, _MNT_DETACH)


def _call(name: str, *arguments: object) -> None:
    if _libc is None:
        raise OSError("only Linux has this")
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
