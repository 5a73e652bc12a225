"""One short stop of a thread by ptrace, to know that it is not inside a call."""

# ruff: noqa: PTH110 - plain system calls, since this runs at every call of a workload

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_DETACH: Final = 17
_WALL: Final = 0x4000_0000

libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
if libc is not None:
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def touch(tid: int) -> bool:
    """Stop a thread at the border of the kernel and let it go on at once; whatever call it was in is then done.

    False where that is forbidden. Its parent notices nothing.
    """
    if libc is None or libc.ptrace(_SEIZE, tid, None, None) < 0:
        return not os.path.exists(f"/proc/{tid}")
    libc.ptrace(_INTERRUPT, tid, None, None)
    try:
        _, status = os.waitpid(tid, _WALL)
    except ChildProcessError:
        return True
    if os.WIFSTOPPED(status):
        # A signal that came in the same moment is passed on.
        sent = os.WSTOPSIG(status) if status >> 16 == 0 else 0
        libc.ptrace(_DETACH, tid, None, ctypes.c_void_p(sent))
    return True
