"""Shaping: what is done to the packets of one wire, decided packet by packet, from a seed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .choice import ChoiceStream
from .noun import Noun

OVERTAKEN_US = 20_000
"""How much longer a packet waits that others overtake."""
LONGEST_QUEUE_US = 1_000_000
"""What would wait longer for a slow wire is lost, as at a router whose memory is full."""
_HEADER = 20
"""Bytes of an IPv4 header without options: RFC 791."""
_TO = slice(16, 20)
"""Where it holds the address that a packet is for."""


class Shaping(Noun, frozen=True, kw_only=True):
    """What a shaper is told. Shares are in per cent, times in microseconds."""

    network: str
    """The namespace to work in, as a path."""
    device: str
    """What its tun device is called."""
    target: bytes
    """The address whose packets are carried, four bytes."""
    until_us: int
    """It ends by itself then, on the monotonic clock."""
    seed: int
    loss: int = 0
    delay_us: int = 0
    jitter_us: int = 0
    duplicate: int = 0
    reorder: int = 0
    corrupt: int = 0
    rate_bytes: int = 0


class Counts(msgspec.Struct, kw_only=True):
    """How many packets have come, and what became of them."""

    came: int = 0
    lost: int = 0
    late: int = 0
    doubled: int = 0
    overtaken: int = 0
    corrupted: int = 0
    overflowed: int = 0

    @property
    def hurt(self) -> int:
        """How often something was done to a packet."""
        return self.lost + self.late + self.doubled + self.overtaken + self.corrupted + self.overflowed

    def __str__(self) -> str:
        did = ((name, getattr(self, name)) for name in self.__struct_fields__[1:])
        said = ", ".join(f"{count} {name}" for name, count in did if count)
        return f"of {self.came} packets {said or 'none was hurt'}"


class _Lane:
    """One direction of the wire."""

    def __init__(self) -> None:
        self.free_us = 0
        """When the wire has carried what was given to it."""
        self.last_us = 0
        """When the last packet arrives: none that comes later is earlier."""


class Line:
    """The decisions, in the order in which packets come."""

    def __init__(self, spec: Shaping) -> None:
        self.counts = Counts()
        self._spec = spec
        self._choices = {
            name: ChoiceStream(spec.seed).fork(name) for name in ("loss", "corrupt", "jitter", "reorder", "duplicate")
        }
        self._lanes = {True: _Lane(), False: _Lane()}

    def carry(self, packet: bytes, now_us: int) -> Iterator[tuple[int, bytes]]:
        """When a packet arrives, and as what: never, once or twice."""
        spec, counts, lane = self._spec, self.counts, self._lanes[packet[_TO] == self._spec.target]
        counts.came += 1
        if self._drawn("loss", spec.loss):
            counts.lost += 1
            return
        if self._drawn("corrupt", spec.corrupt):
            counts.corrupted += 1
            packet = self._corrupted(packet)
        due_us = self._through(lane, len(packet), now_us)
        if due_us is None:
            counts.overflowed += 1
            return
        if spec.delay_us or spec.jitter_us:
            due_us += max(0, spec.delay_us + self._choices["jitter"].between(-spec.jitter_us, spec.jitter_us))
        counts.late += due_us > now_us
        if self._drawn("reorder", spec.reorder):
            counts.overtaken += 1
            due_us = max(due_us, lane.last_us) + OVERTAKEN_US
        else:
            due_us = lane.last_us = max(due_us, lane.last_us)
        yield due_us, packet
        if self._drawn("duplicate", spec.duplicate):
            counts.doubled += 1
            yield due_us, packet

    def _drawn(self, name: str, share: int) -> bool:
        return bool(share) and self._choices[name].below(100) < share

    def _corrupted(self, packet: bytes) -> bytes:
        if len(packet) <= _HEADER:
            return packet
        bit = self._choices["corrupt"].between(_HEADER * 8, len(packet) * 8 - 1)
        damaged = bytearray(packet)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def _through(self, lane: _Lane, size: int, now_us: int) -> int | None:
        if not self._spec.rate_bytes:
            return now_us
        begins_us = max(now_us, lane.free_us)
        if begins_us - now_us > LONGEST_QUEUE_US:
            return None
        lane.free_us = begins_us + size * 1_000_000 // self._spec.rate_bytes
        return lane.free_us
