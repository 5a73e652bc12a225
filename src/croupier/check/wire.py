"""Messages over a socket: a length of four bytes, then so many bytes."""

from __future__ import annotations

import socket


def send(channel: socket.socket, data: bytes) -> None:
    """Send one message."""
    channel.sendall(len(data).to_bytes(4, "big") + data)


def receive(channel: socket.socket) -> bytes:
    """The next message. Raises EOFError where the other side has hung up, TimeoutError where it takes too long."""
    return _exactly(channel, int.from_bytes(_exactly(channel, 4), "big"))


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = channel.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)
