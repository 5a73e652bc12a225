"""The two switches of prctl(2) that keep a tree of processes together: subreaper and parent-death signal.

Both are Linux's own; elsewhere each answers False, and callers say what is weaker for it.
"""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

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


def _prctl(option: int, value: int) -> bool:
    return _libc is not None and _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0
