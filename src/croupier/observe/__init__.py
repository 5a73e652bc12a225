"""The verb *observe*: ask the world one question, and say in a sentence what it answered.

One file per kind of probe. A reader blocks, so it is called on a worker thread; it never raises, ends within the
probe's `within`, and answers `held=None` only where it truly could not tell.
"""

from __future__ import annotations

from . import acks, command, file, heartbeat, http, log, process, sqlite, tcp
from .answer import Reader
from .heartbeat import HeartbeatSocket, addressed
from .view import View

READERS: dict[str, Reader] = {
    "http": http.read,
    "tcp": tcp.read,
    "command": command.read,
    "log": log.read,
    "file": file.read,
    "process": process.read,
    "sqlite": sqlite.read,
    "heartbeat": heartbeat.read,
    "acks": acks.read,
}

__all__ = ["READERS", "HeartbeatSocket", "Reader", "View", "addressed"]
