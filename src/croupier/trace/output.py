"""What the workload prints, taken in while it runs: before a call is looked at, all that was printed before it."""

from __future__ import annotations

import fcntl
import os
import termios
import threading
from typing import Final

from . import launch
from .book import OnOutput

_NOTHING: Final = bytes(4)


class Outlet:
    """A pipe for the workload's standard output, or nothing when the caller gave a file for it."""

    def __init__(self, on_output: OnOutput | None) -> None:
        self._on_output = on_output
        self._lock = threading.Lock()
        self._reader = self._writer = -1
        if on_output is not None:
            self._reader, self._writer = os.pipe2(os.O_CLOEXEC)
            launch.non_blocking(self._reader)

    @property
    def writer(self) -> int:
        """What the workload gets; -1 if there is no pipe."""
        return self._writer

    def fileno(self) -> int:
        """Readable when something was printed; -1 if there is no pipe."""
        return self._reader

    def started(self) -> None:
        """The workload has its own copy of the writing end."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def drain(self) -> bool:
        """Take in what is there. False once nobody can print any more."""
        if self._reader < 0 or self._on_output is None:
            return False
        # Two threads look, and nothing may overtake.
        with self._lock:
            while True:
                try:
                    data = os.read(self._reader, 1 << 16)
                except BlockingIOError:
                    return True
                if not data:
                    return False
                self._on_output(data)

    def glance(self) -> None:
        """Take in what is there, if anything is: the cheap way to ask, before each call."""
        if self._reader < 0:
            return
        if fcntl.ioctl(self._reader, termios.FIONREAD, _NOTHING) != _NOTHING:
            self.drain()
            return
        # An empty pipe may mean that the other thread has just taken it out: it tells before it lets the lock go.
        with self._lock:
            return

    def close(self) -> None:
        """Let go of both ends."""
        self.started()
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1
