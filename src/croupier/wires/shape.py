"""The shaper, `python -m croupier.wires.shape SPEC`: hurts the packets that the hub leads to its tun device.

When it ends, the device is gone, and with it the way by which packets came here: they go straight again. Told to end by
SIGTERM, it lets go at once whatever waits. What it has done so far can be read in a file of its own that has no path.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import signal
import struct
import sys

import msgspec

from ..model.shaping import Line, Shaping
from ..system import counts, kernel
from ..system.clock import now_us

_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_MOST_BYTES = 65_535
_AT_ONCE = 64
"""How many packets are taken in one go, before those that are due are sent."""


class Shaper:
    """One device, and who waits for its time."""

    def __init__(self, spec: Shaping) -> None:
        kernel.enter_network(spec.network)
        self._until_us = spec.until_us
        self._line = Line(spec)
        self._waiting: list[tuple[int, int, bytes]] = []
        self._number = 0
        self._tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(self._tun, _TUNSETIFF, struct.pack("16sH22x", spec.device.encode(), _IFF_TUN | _IFF_NO_PI))
        self._sheet = counts.Sheet()
        self._ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._sheet.tell(self._line.counts)

    def serve(self) -> None:
        """Carry until told to end, or the time is over; then let go."""
        poll = select.poll()
        poll.register(self._tun, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        while now_us() < self._until_us:
            first_us = min(self._until_us, self._waiting[0][0] if self._waiting else self._until_us)
            ready = {file for file, _ in poll.poll(max(0.0, (first_us - now_us()) / 1_000))}
            if self._ended in ready:
                break
            if self._tun in ready:
                self._take()
            self._send(now_us())
        self._take()
        self._send(None)

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                packet = os.read(self._tun, _MOST_BYTES)
            except OSError:
                # Not up yet, or nothing there.
                break
            for due_us, carried in self._line.carry(packet, now_us()):
                self._number += 1
                heapq.heappush(self._waiting, (due_us, self._number, carried))
        self._sheet.tell(self._line.counts)

    def _send(self, by_us: int | None) -> None:
        while self._waiting and (by_us is None or self._waiting[0][0] <= by_us):
            try:
                os.write(self._tun, heapq.heappop(self._waiting)[2])
            except OSError:
                # The kernel takes no more of it, as a full router would not: this one is lost.
                continue


def main() -> None:
    """Carry until the time is over."""
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    try:
        shaper = Shaper(msgspec.json.decode(sys.argv[1], type=Shaping))
    except OSError as problem:
        sys.exit(f"the packets cannot be carried: {problem}")
    shaper.serve()


if __name__ == "__main__":
    main()
