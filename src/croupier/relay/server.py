"""The loop of the proxy: accept, carry, obey. One thread, and nothing that blocks."""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress

import msgspec

from ..model.link import Address, Asked, RelayState, RuleState
from ..system import sockets
from ..system.clock import now_us
from .door import SocketDoor
from .flow import End, Link
from .force import Force
from .pipe import PipeDoor

_PIPE_BYTES = 1 << 20
_LOOK_US = 60
_LONGEST_ASKED = 1 << 16


class Relay:
    """One proxy."""

    def __init__(self, control: str, listen: Address, to: Address) -> None:
        """Listen at once. Raises OSError."""
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._numbers = itertools.count(1)
        self._links: set[Link] = set()
        self._forces: dict[str, Force] = {}
        self._carried = 0
        self.pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        """Where a stream goes through on its way from one socket to the other; always left empty."""
        with suppress(OSError):
            fcntl.fcntl(self.pipe[1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.expects_answer = False
        """Something small was passed on just now."""
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(f"\0{control}")
        self._control.listen(64)
        self._control.setblocking(False)
        self.watch(self._control, select.EPOLLIN, self._asked)
        self._door = PipeDoor(self, listen, to) if to.pipe else SocketDoor(self, listen, to)

    # The loop.

    def serve(self) -> None:
        """Carry for ever."""
        while True:
            for watched, file, events in [(self._watched.get(file), file, it) for file, it in self._happenings()]:
                # What happened before may have closed this one, and its number may be another's by now; whatever else
                # has changed is told again.
                if watched is not None and watched is self._watched.get(file):
                    watched[1](events)
            while self._timers and self._timers[0][0] <= now_us():
                heapq.heappop(self._timers)[2]()

    def _happenings(self) -> list[tuple[int, int]]:
        """What happens next, or nothing where a timer is due.

        An answer to something small often follows at once, and to be woken takes longer than to wait for it: so it is
        looked for a moment first. A stream of much at once is better served by leaving the processor to the others.
        """
        until_us, self.expects_answer = now_us() + _LOOK_US * self.expects_answer, False
        while not (found := self._epoll.poll(0)) and (now := now_us()) < until_us:
            if self._timers and self._timers[0][0] <= now:
                return []
        if found:
            return found
        return self._epoll.poll(max(0.0, (self._timers[0][0] - now_us()) / 1e6) if self._timers else -1.0)

    def at(self, due_us: int, call: Callable[[], None]) -> None:
        """Call this at that time, on the monotonic clock."""
        heapq.heappush(self._timers, (due_us, next(self._order), call))

    def watch(self, sock: End, events: int, call: Callable[[int], None]) -> None:
        """Call this when any of these happens to the socket, or it breaks."""
        file = sock.fileno()
        before = self._watched.get(file)
        if before == (events, call):
            return
        if before is None:
            self._epoll.register(file, events)
        elif before[0] != events:
            self._epoll.modify(file, events)
        self._watched[file] = events, call

    def unwatch(self, sock: End) -> None:
        """Hear nothing of the socket any more."""
        if self._watched.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    # Connections.

    def carry(self, client: End, server: End) -> Link:
        """A connection that somebody has made; it is watched from `begin` on."""
        link = Link(self, next(self._numbers), client, server)
        self._links.add(link)
        self._carried += 1
        return link

    def begin(self, link: Link) -> None:
        """It is made on both sides: the rules that mean it count from here."""
        for force in self._forces.values():
            if self._is_meant(force, link):
                self._bring(link, force)
                # Another rule may have doubled it.
                if force.rule.duplicate and not link.twin and (twin := self._door.double()):
                    link.twin = twin
                    force.hits += 1
        link.listen()

    def ended(self, link: Link) -> None:
        """A connection has ended."""
        self._links.discard(link)
        for force in self._forces.values():
            force.forget(link)
        self._door.ended(link)

    # Rules.

    def _bring(self, link: Link, force: Force) -> None:
        link.forces.append(force)
        force.begin(link, self.at)

    def _is_meant(self, force: Force, link: Link) -> bool:
        return force.rule.takes(link.number) and (force.rule.everybody or self._door.is_held(force.rule, link))

    def _add(self, force: Force) -> None:
        rule = force.rule
        if rule.key in self._forces:
            self._lift(rule.key)
        self._forces[rule.key] = force
        for link in list(self._links):
            if self._is_meant(force, link):
                self._bring(link, force)
        self.at(rule.until_us, lambda: self._over(force))

    def _over(self, force: Force) -> None:
        if force.in_force:
            self._lift(force.rule.key)

    def _lift(self, key: str) -> RuleState | None:
        force = self._forces.pop(key, None)
        if force is None:
            return None
        state, force.in_force = force.state, False
        for link in list(force.links):
            link.forces.remove(force)
            if force.rule.duplicate and link.twin:
                link.twin.close()
                link.twin = None
            link.hurry()
        return state

    # Control.

    def _asked(self, events: int) -> None:
        try:
            line, _ = self._control.accept()
        except OSError:
            return
        if sockets.peer(line)[1] not in (0, os.getuid()):
            line.close()
            return
        line.setblocking(False)
        heard = bytearray()

        def happened(events: int) -> None:
            try:
                heard.extend(part := line.recv(_LONGEST_ASKED))
            except BlockingIOError:
                return
            except OSError:
                part = b""
            if part and not heard.endswith(b"\n") and len(heard) < _LONGEST_ASKED:
                return
            self.unwatch(line)
            with line:
                if part:
                    self._answer(line, bytes(heard))

        self.watch(line, select.EPOLLIN, happened)

    def _answer(self, line: socket.socket, heard: bytes) -> None:
        try:
            asked = msgspec.json.decode(heard, type=Asked)
        except msgspec.MsgspecError:
            return
        lifted = self._lift(asked.lift) if asked.lift else None
        if asked.add is not None:
            self._add(Force(asked.add))
        state = RelayState(
            links=len(self._links),
            carried=self._carried,
            rules=tuple(one.state for one in self._forces.values()),
            lifted=lifted,
        )
        try:
            line.sendall(msgspec.json.encode(state) + b"\n")
        except OSError:
            return  # Whoever asked has gone.
