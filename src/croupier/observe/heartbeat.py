"""The probe *heartbeat*: a sign of life arrives at least this often, in a file that is touched or on a Unix socket.

The socket is one of ours: whoever runs the round makes a `HeartbeatSocket` and polls it; the reader only asks when the
last datagram came.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

import msgspec

from ..model.errors import ExperimentError
from ..model.probe import Heartbeat, Probe, Reading
from .answer import answering, in_time, no, span, unknown, yes
from .view import View

_LONGEST_PATH = 107
"""Bytes of a Unix socket's path, on Linux; see unix(7)."""


@answering
def read(probe: Heartbeat, view: View) -> Reading:
    """How long ago the last beat was. A probe without a path must have been `addressed` to its process."""
    if not probe.path:
        return unknown("it has no path, and is asked of no process that would have been given one")
    path = view.cwd / probe.path
    if probe.socket:
        seen_ms = view.heartbeat_seen_ms(path)
        if seen_ms is None:
            return no("no heartbeat came yet")
        return _judge(probe, seen_ms)
    try:
        modified = in_time(f"heartbeat {path}", lambda: path.stat().st_mtime, probe.within_ms)
    except FileNotFoundError:
        return no("no heartbeat yet: the file is not there")
    except TimeoutError:
        return unknown(f"the file could not be looked at within {probe.within_ms}")
    except OSError as problem:
        return unknown(f"the file cannot be looked at: {problem.strerror}")
    return _judge(probe, max(0.0, (time.time() - modified) * 1_000))


def _judge(probe: Heartbeat, age_ms: float) -> Reading:
    if age_ms > probe.every_ms:
        return no(
            f"the last heartbeat came {span(age_ms)} ago, and one is due every {probe.every_ms}", age_ms=round(age_ms)
        )
    return yes(f"the last heartbeat came {span(age_ms)} ago", age_ms=round(age_ms))


def addressed(probe: Probe, view: View, process: str) -> Probe:
    """The probe as it is asked of a process: a heartbeat without a path gets the one that the process was given."""
    if isinstance(probe, Heartbeat) and not probe.path and process:
        return msgspec.structs.replace(probe, path=str(view.heartbeat_path(process)))
    return probe


class HeartbeatSocket:
    """Listens for datagrams at a path; each one, whatever it says, is a beat.

    `fileno()` becomes readable when something came; `receive()` then takes it without blocking. Only the loop's thread
    may receive and close; `seen_ms` may be asked from any.
    """

    def __init__(self, path: Path) -> None:
        """Bind the socket, in the place of a dead one. Raises ExperimentError where that path cannot hold one."""
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise ExperimentError(
                f"the path of a socket may have {_LONGEST_PATH} bytes at most",
                at=str(path),
                hint="give a shorter `path`, or none: croupier picks a short one then",
            )
        self.path = path
        self._folder: Path | None = None
        self._seen: float | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            if path.is_socket():
                path.unlink()
            self._socket.bind(os.fspath(path))
        except OSError as problem:
            self._socket.close()
            raise ExperimentError(f"no heartbeat socket can be made: {problem.strerror}", at=str(path)) from problem
        self._socket.setblocking(False)

    @classmethod
    def private(cls, name: str) -> HeartbeatSocket:
        """A socket in a fresh directory with a short path, which `close` takes away."""
        folder = Path(tempfile.mkdtemp(prefix="croupier-"))
        try:
            made = cls(folder / name[:32])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        made._folder = folder
        return made

    def fileno(self) -> int:
        """For the loop."""
        return self._socket.fileno()

    def receive(self) -> int:
        """Take the datagrams that are there; how many they were."""
        beats = 0
        while beats < 1_000:
            try:
                self._socket.recv(4_096)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                break
            beats += 1
        if beats:
            self._seen = time.monotonic()
        return beats

    def seen_ms(self) -> float | None:
        """How long ago the last beat was taken, in ms; None if there was none."""
        seen = self._seen
        return None if seen is None else (time.monotonic() - seen) * 1_000

    def close(self) -> None:
        """Close it, and take it away."""
        self._socket.close()
        self.path.unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
