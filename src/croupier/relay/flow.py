"""A connection that is carried: two sockets, and one flow of bytes each way between them."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from ..system.clock import now_us
from .force import Chunk, Force, Hold, Queued, Stop

if TYPE_CHECKING:
    from .server import Relay

_AT_ONCE = 1 << 18
_STREAMED = 1 << 20
_SMALL = 1 << 12
_MUCH = 1 << 16
_AS_IT_IS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_MOST_QUEUED = 8 << 20
"""Whoever sends more than this into a slow connection waits, as on a real one."""
_buffer = memoryview(bytearray(_AT_ONCE))
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_BROKEN = select.EPOLLERR | select.EPOLLHUP


class End(Protocol):
    """What a flow needs of a socket, or of one end of a pipe."""

    def fileno(self) -> int:
        """Its number."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Read what there is; 0 at the end."""

    def send(self, data: memoryview | bytes, /) -> int:
        """Write as much as goes in."""

    def shutdown(self, how: int, /) -> None:
        """Tell that no more is sent."""

    def close(self) -> None:
        """Let go of it."""


class Flow:
    """One direction of a connection."""

    def __init__(self, link: Link, direction: Literal["up", "down"], source: End, sink: End) -> None:
        self.link = link
        self.direction = direction
        self.source = source
        self.sink = sink
        self.blocked = False
        """The sink takes no more for now."""
        self.read_all = False
        """The source has ended."""
        self.done = False
        """The sink was told so."""
        self._queue: deque[Queued] = deque()
        self._queued = 0
        self._last_us = 0
        self._wakes_us = 0
        self._streams = False

    @property
    def wants_more(self) -> bool:
        """Whether to read on."""
        return not self.read_all and not (self.blocked and not self.link.forces) and self._queued < _MOST_QUEUED

    def read(self) -> None:
        """Take what there is, and pass on what may be passed."""
        if self._streams and self._is_plain and self._splice():
            return
        try:
            count = self.source.recv_into(_buffer)
        except BlockingIOError:
            return
        except OSError:
            # Whoever reset one side would see the other go as well.
            self.link.close(reset=True)
            return
        if not count:
            self.read_all = True
            self._push([(now_us(), None)])
        elif self.done:
            pass  # It was told that this direction has ended: nobody takes what still comes.
        elif not self._is_plain:
            self._through(bytes(_buffer[:count]))
        else:
            self._streams = count >= _MUCH
            self.link.turn = self.direction
            self.link.relay.expects_answer |= count < _SMALL
            if self._pass(_buffer[:count]):
                return
        self.pump()

    @property
    def _is_plain(self) -> bool:
        return not (self.link.forces or self.link.twin or self._queue or self.done)

    def _splice(self) -> bool:
        """The quickest way: a stream goes through the kernel without being copied. False: read as usual."""
        out_of, into = self.link.relay.pipe
        try:
            count = os.splice(self.source.fileno(), into, _STREAMED, flags=_AS_IT_IS)
        except OSError:
            count = 0
        self._streams = count >= _MUCH
        if not count:
            return False
        self.link.turn = self.direction
        left = count
        try:
            while left:
                left -= os.splice(out_of, self.sink.fileno(), left, flags=_AS_IT_IS)
        except BlockingIOError:
            pass
        except OSError:
            # The pipe is everybody's, so it is left empty.
            os.read(out_of, left)
            self.link.close(reset=True)
            return True
        if left:
            # Read until all of it is there: a pipe gives what it has, page by page.
            rest = b""
            while len(rest) < left:
                rest += os.read(out_of, left - len(rest))
            self._push([(0, rest)])
            self.pump()
        return True

    def _pass(self, data: memoryview) -> bool:
        """The quick way, where nothing waits and no rule asks; whether all of it went."""
        try:
            sent = self.sink.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.link.close(reset=True)
            return True
        if sent < len(data):
            self._push([(0, bytes(data[sent:]))])
        return sent == len(data)

    def _through(self, data: bytes) -> None:
        asks = self.direction == "up" and self.link.turn != "up"
        self.link.turn = self.direction
        if self.link.twin and self.direction == "up":
            self.link.twin.feed(data)
        chunks, behind = [Chunk(now_us(), data)], list[Queued]()
        for force in self.link.forces:
            if force.rule.means(self.direction):
                chunks, stop, rest = force.through(self, chunks, asks=asks)
                if stop is not None:
                    behind = [(0, stop), *([(0, rest)] if rest else [])]
                    break
        self._push([*chunks, *behind])

    def _push(self, entries: list[Queued]) -> None:
        for due_us, what in entries:
            # A stream keeps its order, however long each part of it takes.
            self._last_us = max(self._last_us, due_us)
            self._queue.append((self._last_us, what))
            self._queued += len(what) if isinstance(what, bytes) else 0

    def pump(self) -> None:
        """Pass on what is due, as far as the sink takes it."""
        while self._queue and not self.link.closed and not self._is_stalled():
            due_us, what = self._queue[0]
            if due_us > now_us():
                self._wake(due_us)
                break
            if isinstance(what, Hold) and what.force.in_force:
                what.force.torn = True
                break
            if isinstance(what, bytes) and not self._send(what):
                break
            self._queue.popleft()
            if isinstance(what, Stop):
                self.link.close(reset=False)
            elif what is None:
                self.finish()
        if not self.link.closed:
            self.link.listen()

    def _wake(self, due_us: int) -> None:
        if not self._wakes_us or due_us < self._wakes_us:
            self._wakes_us = due_us
            self.link.relay.at(due_us, self._woken)

    def _woken(self) -> None:
        self._wakes_us = 0
        self.pump()

    def _send(self, data: bytes) -> bool:
        """Whether the sink took all of it; what it did not take stays."""
        try:
            sent = 0 if self.done else self.sink.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.link.close(reset=True)
            return False
        sent = len(data) if self.done else sent
        self._queued -= sent
        self.blocked = sent < len(data)
        if self.blocked:
            self._queue[0] = (0, data[sent:])
        return not self.blocked

    def _is_stalled(self) -> bool:
        return any(one.stalls and one.rule.means(self.direction) for one in self.link.forces)

    def finish(self) -> None:
        """Tell the sink that no more comes."""
        if self.done:
            return
        self.done = True
        try:
            self.sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # It has gone by itself, and is told nothing more.
        self.link.finished()

    def hurry(self) -> None:
        """What waits goes on now: the rule that delayed it is lifted."""
        self._queue = deque((0, what) for _, what in self._queue)
        self._last_us = 0
        self.pump()


class Twin:
    """A second connection to the same place, which gets a copy of what goes there; its answers are thrown away."""

    def __init__(self, relay: Relay, sock: socket.socket) -> None:
        self._relay = relay
        self._sock = sock
        self._waiting = bytearray()
        self.closed = False
        relay.watch(sock, _IN | _OUT, self._happened)

    def feed(self, data: bytes) -> None:
        """A copy of what the first one gets."""
        if self.closed:
            return
        self._waiting += data
        if len(self._waiting) > _MOST_QUEUED:
            self.close()
        else:
            self._relay.watch(self._sock, _IN | _OUT, self._happened)

    def _happened(self, events: int) -> None:
        try:
            if events & (_IN | _BROKEN) and not self._sock.recv_into(_buffer):
                self.close()
                return
            if events & _OUT and self._waiting:
                del self._waiting[: self._sock.send(self._waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._relay.watch(self._sock, _IN | (_OUT if self._waiting else 0), self._happened)

    def close(self) -> None:
        """End it."""
        if not self.closed:
            self.closed = True
            self._relay.unwatch(self._sock)
            self._sock.close()


class Link:
    """One connection: from whoever connected to the proxy, on to the real address."""

    def __init__(self, relay: Relay, number: int, client: End, server: End) -> None:
        self.relay = relay
        self.number = number
        self.client = client
        self.server = server
        self.forces: list[Force] = []
        self.twin: Twin | None = None
        self.turn = ""
        """Which direction spoke last."""
        self.tainted = False
        """Bytes were swallowed: what is left of the stream makes no sense."""
        self.connected = False
        self.closed = False
        self.flows = (Flow(self, "up", client, server), Flow(self, "down", server, client))
        self._deaf: set[End] = set()

    def listen(self) -> None:
        """Say what is waited for on each side."""
        if self.closed:
            return
        up, down = self.flows
        for sock, reads, writes in ((self.client, up, down), (self.server, down, up)):
            wanted = (_IN if reads.wants_more else 0) | (_OUT if writes.blocked else 0)
            if not self.connected:
                wanted = _OUT if sock is self.server else 0
            if wanted:
                self._deaf.discard(sock)
            if sock not in self._deaf:
                self.relay.watch(sock, wanted, self._on(sock))

    def _on(self, sock: End) -> Callable[[int], None]:
        return self._client_happened if sock is self.client else self._server_happened

    def _client_happened(self, events: int) -> None:
        self._happened(self.client, events)

    def _server_happened(self, events: int) -> None:
        if not self.connected:
            self._came_about()
            return
        self._happened(self.server, events)

    def _happened(self, sock: End, events: int) -> None:
        up, down = self.flows
        reads, writes = (up, down) if sock is self.client else (down, up)
        if events & _OUT:
            writes.blocked = False
            writes.pump()
        if self.closed or not events & (_IN | _BROKEN):
            return
        if reads.wants_more and self.connected:
            reads.read()
        elif events & _BROKEN:
            # It is broken and nobody may read it yet: hearing of it over and over would keep us busy.
            self._deaf.add(sock)
            self.relay.unwatch(sock)

    def _came_about(self) -> None:
        assert isinstance(self.server, socket.socket), "a pipe is there, or it is not"
        if self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close(reset=True)
            return
        self.connected = True
        self.listen()

    def finished(self) -> None:
        """A direction has ended; with both, the connection has."""
        if all(flow.done for flow in self.flows):
            self.close(reset=False)

    def hurry(self) -> None:
        """A rule was lifted."""
        if self.tainted:
            self.close(reset=True)
        for flow in self.flows:
            if not self.closed:
                flow.hurry()

    def close(self, *, reset: bool) -> None:
        """End it: both sides see the end, or a reset."""
        if self.closed:
            return
        self.closed = True
        if self.twin:
            self.twin.close()
        for sock in (self.client, self.server):
            self.relay.unwatch(sock)
            if reset and isinstance(sock, socket.socket) and sock.family != socket.AF_UNIX:
                # Closed without lingering, TCP sends RST (tcp(7), SO_LINGER in socket(7)).
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        self.relay.ended(self)
