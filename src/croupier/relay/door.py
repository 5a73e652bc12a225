"""Where the proxy is come to by a socket: who connects is connected on, to the real address."""

from __future__ import annotations

import errno
import select
import socket
from typing import TYPE_CHECKING

from ..model.link import Address, LinkRule
from ..system import sockets
from ..system.clock import now_us
from .flow import Link, Twin

if TYPE_CHECKING:
    from .server import Relay

_PAUSE_US = 100_000
_RETRY_US = 5_000
_RETRIES = 1_000


class SocketDoor:
    """Accepts connections; TCP or Unix, on either side."""

    def __init__(self, relay: Relay, listen: Address, to: Address) -> None:
        """Listen at once. Raises OSError."""
        self._relay = relay
        self._to = to
        self._door = _listening(listen)
        self._port = 0 if listen.path else int(self._door.getsockname()[1])
        relay.watch(self._door, select.EPOLLIN, self._knocked)

    def _knocked(self, events: int) -> None:
        try:
            client, _ = self._door.accept()
        except BlockingIOError:
            return
        except OSError as problem:
            if problem.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                # They stay in the queue of the kernel until there is room.
                self._relay.unwatch(self._door)
                self._relay.at(
                    now_us() + _PAUSE_US, lambda: self._relay.watch(self._door, select.EPOLLIN, self._knocked)
                )
            return
        try:
            server = _socket(self._to)
        except OSError:
            client.close()
            return
        client.setblocking(False)
        _promptly(client)
        self._connect(self._relay.carry(client, server), server, _RETRIES)

    def _connect(self, link: Link, server: socket.socket, left: int) -> None:
        if link.closed:
            return
        failed = _connect(server, self._to)
        if failed == errno.EAGAIN and left:
            # The queue of a Unix socket is full: whoever takes from it is busy.
            self._relay.at(now_us() + _RETRY_US, lambda: self._connect(link, server, left - 1))
            return
        if failed not in (0, errno.EINPROGRESS):
            link.close(reset=True)
            return
        link.connected = not failed
        self._relay.begin(link)

    def double(self) -> Twin | None:
        """A second connection to the real address; None where none can be made."""
        try:
            second = _socket(self._to)
        except OSError:
            return None
        if _connect(second, self._to) not in (0, errno.EINPROGRESS):
            second.close()
            return None
        return Twin(self._relay, second)

    def is_held(self, rule: LinkRule, link: Link) -> bool:
        """Whether the rule's processes made this connection, or take it."""
        pids = sockets.members(rule.tops)
        if not pids:
            return False
        assert isinstance(link.client, socket.socket)
        assert isinstance(link.server, socket.socket)
        if _unix_peer(link.client) in pids or _unix_peer(link.server) in pids:
            return True
        held = sockets.inodes(pids)
        connected, listening = sockets.tcp_inodes()
        try:
            port = link.client.getpeername()[1] if self._port else 0
        except OSError:
            return False  # It is ending: there is no peer any more.
        if port and connected.get((port, self._port)) in held:
            return True
        return not self._to.path and bool(listening.get(self._to.port, set()) & held)

    def ended(self, link: Link) -> None:
        """A connection has ended: the others are nothing to it."""


def _listening(where: Address) -> socket.socket:
    door = _socket(where)
    if not where.path:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(where.path or (where.host, where.port))
    door.listen(socket.SOMAXCONN)
    return door


def _socket(where: Address) -> socket.socket:
    family = socket.AF_UNIX if where.path else socket.AF_INET6 if ":" in where.host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setblocking(False)
    _promptly(one)
    return one


def _promptly(one: socket.socket) -> None:
    if one.family != socket.AF_UNIX:
        # A proxy that waited for more to send would be a fault by itself.
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _connect(one: socket.socket, where: Address) -> int:
    try:
        return one.connect_ex(where.path or (where.host, where.port))
    except OSError as problem:
        # A name that cannot be resolved.
        return problem.errno or errno.EHOSTUNREACH


def _unix_peer(one: socket.socket) -> int:
    if one.family != socket.AF_UNIX:
        return 0
    try:
        return sockets.peer(one)[0]
    except OSError:
        return 0
