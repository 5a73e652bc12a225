"""Whether a call that was let go is done. seccomp(2) tells when a call begins and never when it ends.

A call of a thread is done when the same thread makes another, or is no more. For what other threads have begun we look
at where they are; one that is computing might still be inside the kernel, and is asked by a short `ptrace` stop.
"""

# ruff: noqa: PTH123 - plain system calls, since this runs at every call of a workload

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, Literal

from . import stops
from .call import Call

_LONG_S: Final = 2.0
_LOOKS: Final = 40
_PACE_S: Final = 0.0002
BLOCKING: Final = frozenset({"pipe", "socket", "tty", "fifo", "device", "other"})


State = Literal["done", "ended", "blocked", "unknown"]


def settle(call: Call, came_again: Callable[[int], bool], touch: Callable[[int], bool] = stops.touch) -> State:
    """Wait until a call that was let go has been done.

    `came_again` says whether its thread stands still in another call by now. `ended` means that the thread is no more,
    `blocked` that the call waits for somebody else (a full pipe) and may do so for ever, `unknown` that we could not
    find out.
    """
    end = time.monotonic() + _LONG_S
    turn = 0
    while True:
        where = _where(call)
        if where in ("elsewhere", "nowhere"):
            return "done" if where == "elsewhere" else "ended"
        # The same call with the same arguments may be the next one.
        if came_again(call.tid):
            return "done"
        if call.file_kind in BLOCKING and (where == "inside" or turn >= _LOOKS):
            # Never touched: it would come back with a part of what it was to write.
            return "blocked"
        if where == "running" and turn >= _LOOKS:
            return "done" if touch(call.tid) else "unknown"
        if time.monotonic() > end:
            return "unknown"
        turn += 1
        if turn < _LOOKS:
            os.sched_yield()
        else:
            time.sleep(_PACE_S)


def _where(call: Call) -> Literal["elsewhere", "nowhere", "inside", "running"]:
    try:
        with open(f"/proc/{call.tid}/syscall", "rb", buffering=0) as file:
            words = file.read(256).split()
    except (FileNotFoundError, ProcessLookupError):
        return "nowhere"
    except OSError:
        return "running"
    if not words:
        return "nowhere"
    if words[0] == b"running":
        return "running"
    if int(words[0]) != call.number or len(words) < 7:
        return "elsewhere"
    return "inside" if tuple(int(word, 16) for word in words[1:7]) == call.args else "elsewhere"
