"""The two switches of prctl(2) that keep a tree of processes together (subreaper, parent-death signal), and setns(2).

All are Linux's own; elsewhere the switches answer False, and callers say what is weaker for it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_CLONE_NEWNET = 0x40000000
_CLONE_NEWNS = 0x20000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 1 << 19

# Loaded at import: a child between fork and exec must not load libraries.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def set_subreaper(on: bool = True) -> bool:
    """Become the one to whom orphaned descendants are handed, instead of PID 1. False where there is no such thing."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, int(on))


def is_subreaper() -> bool:
    """Whether orphaned descendants are handed to this process."""
    answer = ctypes.c_int(0)
    return _libc is not None and _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer)) == 0 and answer.value != 0


def set_parent_death_signal(number: int = signal.SIGTERM) -> bool:
    """Have the kernel signal this process when the thread that made it ends. An exec keeps it, a fork does not."""
    return _prctl(_PR_SET_PDEATHSIG, number)


def enter_network(where: str | int) -> None:
    """Have this thread be in a network namespace, given as a path or a descriptor; setns(2). Raises OSError."""
    file = os.open(where, os.O_RDONLY | os.O_CLOEXEC) if isinstance(where, str) else where
    try:
        if _libc is None or _libc.setns(file, _CLONE_NEWNET) != 0:
            raise _error(str(where))
    finally:
        if isinstance(where, str):
            os.close(file)


def put_files(files: Mapping[str, str]) -> None:
    """Have this process, and whoever descends from it, see other files at some paths; unshare(2), mount(2).

    Nobody else does: it gets a mount namespace of its own. Raises OSError.
    """
    if not files:
        return
    if _libc is None or _libc.unshare(_CLONE_NEWNS) != 0:
        raise _error("unshare")
    # What is mounted elsewhere later is seen here as well, and nothing of ours there.
    _mount(b"none", "/", _MS_REC | _MS_SLAVE)
    for path, other in files.items():
        _mount(os.fsencode(other), os.path.realpath(path), _MS_BIND)


def _mount(what: bytes, where: str, flags: int) -> None:
    assert _libc is not None
    if _libc.mount(what, os.fsencode(where), None, ctypes.c_ulong(flags), None) != 0:
        raise _error(where)


def _error(about: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), about)


def _prctl(option: int, value: int) -> bool:
    return _libc is not None and _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0
