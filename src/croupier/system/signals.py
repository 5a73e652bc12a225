"""Signals, sent to exactly one process and no other that may carry its number by now.

Where the kernel has pidfds (Linux 5.3), one is opened first and the start time compared after that: from then on the
number cannot be handed out again under us. Elsewhere the start time is compared at the last instant.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from types import TracebackType
from typing import Self

from ..model.target import Identity
from . import procs

_HAS_PIDFD = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


def signal_number(name: str) -> int:
    """The number of `TERM`, `SIGTERM` or `RTMIN+3` on this machine. Raises ValueError if it has no such signal."""
    plain = name.removeprefix("SIG")
    base, plus, offset = plain.partition("+")
    try:
        number = int(signal.Signals[f"SIG{base}"]) + (int(offset) if plus else 0)
        return int(signal.Signals(number)) if not plus else _real_time(number, base)
    except (KeyError, ValueError):
        raise ValueError(f"this machine has no signal {name!r}") from None


def signal_name(number: int) -> str:
    """The name without SIG, or the number as text where it has none."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        low = int(getattr(signal, "SIGRTMIN", 0))
        return f"RTMIN+{number - low}" if low and low < number <= int(signal.SIGRTMAX) else str(number)


def send(who: Identity, name: str) -> bool:
    """Deliver a signal. False if the process is gone, a zombie, or another by now.

    Raises PermissionError where we may not, and ValueError for a name that this machine does not know.
    """
    number = signal_number(name)
    with Watch(who) as watch:
        return watch.send(number)


class Watch:
    """An open hold on one process: tells when it has ended, and signals it and no other.

    Use as a context manager, or call `close`. Opening one on a process that is gone is no error: it is `gone()`.
    """

    def __init__(self, who: Identity) -> None:
        self.who = who
        self._starved: OSError | None = None
        """Why nothing can be told of the process: this machine, or we, have no descriptor left."""
        self._file = self._open()

    def fileno(self) -> int:
        """For select and poll: readable once the process has ended. -1 where there is nothing to wait on."""
        return self._file

    def _open(self) -> int:
        if not _HAS_PIDFD:
            return -1
        try:
            file = os.pidfd_open(self.who.pid)
        except (ProcessLookupError, ValueError):
            return -1
        except OSError as problem:
            # A filter may forbid the call: then it goes as where there are none. Without descriptors not even /proc
            # can be read, and a process of which nothing can be read must not be told to be gone.
            self._starved = problem if problem.errno in (errno.EMFILE, errno.ENFILE) else None
            return -1
        # The number may have changed hands before the descriptor pinned it; after this comparison it cannot.
        if procs.state_of(self.who) == "":
            os.close(file)
            return -1
        return file

    def send(self, number: int) -> bool:
        """Deliver a signal by number. False if it is gone. Raises PermissionError, and OSError if nobody can tell."""
        if self._starved is not None:
            raise self._starved
        if not procs.alive(self.who):
            return False
        try:
            if self._file >= 0:
                signal.pidfd_send_signal(self._file, number)
            else:
                _send_portably(self.who, number)
        except ProcessLookupError:
            return False
        return True

    def gone(self, within_ms: float = 0) -> bool:
        """Whether it has ended, waiting up to so long for it."""
        if self._file >= 0:
            poll = select.poll()
            poll.register(self._file, select.POLLIN)
            return bool(poll.poll(within_ms))
        if self._starved is not None:
            return False
        end = time.monotonic() + within_ms / 1_000
        while procs.alive(self.who):
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)
        return True

    def close(self) -> None:
        """Let go."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _real_time(number: int, base: str) -> int:
    if base != "RTMIN" or number > int(signal.SIGRTMAX):
        raise ValueError
    return number


def _send_portably(who: Identity, number: int) -> None:
    """Without pidfds; on Windows (untested) stop, continue and end are done by psutil, thread by thread."""
    if os.name == "posix":
        os.kill(who.pid, number)
        return
    from . import portable

    portable.send(who, number)
