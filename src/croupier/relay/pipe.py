"""Where the proxy is come to by a named pipe: what is written into one is carried on into another (fifo(7)).

A link is one stretch of writing: from the first byte until nobody has the pipe open for writing any more, or whoever
read it has gone. What the two would see of each other without us they see still:

- The reader sees the end when the last writer has closed. So the pipe to it is opened only when there is something to
  carry: opened again at once, the end of the stretch before might never have been seen.
- Without a reader the writer gets EPIPE. So the pipe from it is closed when the reader goes or the link is cut, and
  opened again when somebody reads; until then a new writer waits in open(2).
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..model.link import Address, LinkRule
from ..system import sockets
from ..system.clock import now_us
from .flow import Link, Twin

if TYPE_CHECKING:
    from .server import Relay

_LOOK_US = 10_000
_REST_US = 200_000
"""For how long both stay closed where a link broke off, so that each side sees that it did."""


class PipeEnd:
    """One end of a named pipe, as far as a flow needs of a socket. Raises OSError."""

    def __init__(self, path: str, flags: int) -> None:
        self._file = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Its number; -1 once it is closed."""
        return self._file

    def recv_into(self, buffer: memoryview) -> int:
        """Read what there is; 0 where nobody writes any more."""
        return os.readv(self._file, [buffer])

    def send(self, data: memoryview | bytes) -> int:
        """Write as much as goes in."""
        return os.write(self._file, data)

    def shutdown(self, how: int) -> None:
        """Nothing to do: a pipe has one direction, and is closed with it."""

    def close(self) -> None:
        """Let go of it."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class PipeDoor:
    """Carries from one named pipe into another; both are there already."""

    def __init__(self, relay: Relay, listen: Address, to: Address) -> None:
        self._relay = relay
        self._paths = listen.path, to.path
        self._from: PipeEnd | None = None
        self._to: PipeEnd | None = None
        self._await_reader()

    def _await_reader(self) -> None:
        self._to = _opened(self._paths[1], os.O_WRONLY)
        if self._to is None:
            self._later(self._await_reader)
        else:
            self._await_writing()

    def _await_writing(self) -> None:
        self._from = _opened(self._paths[0], os.O_RDONLY)
        if self._from is None:
            self._later(self._await_writing)
            return
        self._relay.watch(self._from, select.EPOLLIN, lambda events: self._written())
        if self._to is not None:
            # Of a pipe that nobody reads any more EPOLLERR is told, unasked.
            self._relay.watch(self._to, 0, lambda events: self._reader_went())

    def _reader_went(self) -> None:
        for one in (self._from, self._to):
            if one is not None:
                self._relay.unwatch(one)
                one.close()
        self._await_reader()

    def _written(self) -> None:
        """Somebody wrote, or has opened it and closed it again: that is a stretch as well."""
        assert self._from is not None
        self._relay.unwatch(self._from)
        if self._to is not None:
            self._relay.unwatch(self._to)
        self._to = self._to or _opened(self._paths[1], os.O_WRONLY)
        if self._to is None:
            # What was written stays in the pipe, as far as there is room.
            self._later(self._written)
            return
        link = self._relay.carry(self._from, self._to)
        self._from = self._to = None
        link.connected = True
        # Nothing comes back through a pipe.
        link.flows[1].done = True
        self._relay.begin(link)

    def ended(self, link: Link) -> None:
        """A stretch is over: by its writer, or it broke off."""
        if link.flows[0].read_all:
            self._await_writing()
        else:
            self._later(self._await_reader, _REST_US)

    def double(self) -> Twin | None:
        """There is no second reader of the same bytes."""
        return None

    def is_held(self, rule: LinkRule, link: Link) -> bool:
        """Whether the rule's processes have one of the pipes open."""
        return sockets.have_open(sockets.members(rule.tops), self._paths)

    def _later(self, call: Callable[[], None], after_us: int = _LOOK_US) -> None:
        self._relay.at(now_us() + after_us, call)


def _opened(path: str, flags: int) -> PipeEnd | None:
    """None where that cannot be now: nobody reads it, or there are no more files to be had."""
    try:
        return PipeEnd(path, flags)
    except OSError:
        return None
