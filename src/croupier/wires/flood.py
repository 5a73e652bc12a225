"""The flood, `python -m croupier.wires.flood SPEC`: sends so much in a second to one address, and no more.

It lives in a namespace of the round's network, from which nothing else can be reached. What it could not send in its
time is not sent later.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
import time

import msgspec

from ..model.flooding import Flooded, Flooding
from ..system import counts, kernel
from ..system.clock import now_us

_PACE_S = 0.005
_LONGEST_DEBT_S = 0.05
"""What was not sent for longer than this is forgotten, so that a pause is not followed by a burst."""
_CHUNK = 16_384


class Flood:
    """Who sends."""

    def __init__(self, spec: Flooding) -> None:
        kernel.enter_network(spec.network)
        self._spec = spec
        self._done = Flooded()
        self._sheet = counts.Sheet()
        self._sheet.tell(self._done)
        self._payload = bytes(max(spec.size_bytes, _CHUNK))
        self._open: list[socket.socket] = []

    def serve(self) -> None:
        """Send until the time is over."""
        send = self._datagrams if self._spec.how == "datagrams" else self._connections
        last, may = time.monotonic(), 0.0
        while now_us() < self._spec.until_us:
            now = time.monotonic()
            may = min(may + (now - last) * self._spec.rate_bytes, self._spec.rate_bytes * _LONGEST_DEBT_S + _CHUNK)
            last = now
            may -= send(int(may))
            self._sheet.tell(self._done)
            time.sleep(_PACE_S)

    def _datagrams(self, may: int) -> int:
        if not self._open:
            self._open.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sent = 0
        while sent + self._spec.size_bytes <= may:
            try:
                self._open[0].sendto(self._payload[: self._spec.size_bytes], (self._spec.host, self._spec.port))
            except OSError:
                # Cut off meanwhile, or nobody listens: that is for others to see.
                break
            sent += self._spec.size_bytes
        self._done.bytes += sent
        return sent

    def _connections(self, may: int) -> int:
        while len(self._open) < self._spec.connections:
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((self._spec.host, self._spec.port))
            self._open.append(one)
        poll = select.poll()
        for one in self._open:
            poll.register(one, select.POLLOUT)
        by_file, sent = {one.fileno(): one for one in self._open}, 0
        for file, event in poll.poll(0):
            one = by_file[file]
            try:
                if event & ~select.POLLOUT:
                    raise ConnectionError
                sent += one.send(self._payload[: min(_CHUNK, max(1, may - sent))]) if sent < may else 0
            except OSError:
                self._open.remove(one)
                one.close()
        self._done.bytes += sent
        self._done.connections = max(self._done.connections, sum(map(_is_connected, self._open)))
        return sent


def _is_connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def main() -> None:
    """Send until the time is over."""
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    try:
        flood = Flood(msgspec.json.decode(sys.argv[1], type=Flooding))
    except OSError as problem:
        sys.exit(f"nothing can be sent: {problem}")
    flood.serve()


if __name__ == "__main__":
    main()
