"""Packets that go wrong, as data: what the wire between a process and the others in its network does to them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..arrangement import CROUPIER
from ..fault import Fault
from ..flooding import How
from ..noun import Noun
from ..probe import Port
from ..units import Bytes, Ms, Percent

Way = Literal["both", "in", "out"]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
_NONE = Percent(0)


class InNetwork(Fault):
    """What the faults in a network share: they last, and name others who live there."""

    __slots__ = ()
    for_ms: Ms

    @property
    def lasting_ms(self) -> int:
        """For how long the wire is hurt, in ms."""
        return self.for_ms

    @property
    def neighbours(self) -> tuple[str, ...]:
        """The others whom it names."""
        raise NotImplementedError


class OnWire(InNetwork):
    """What the faults on a wire share: whose packets they are about."""

    __slots__ = ()
    peers: tuple[str, ...]
    direction: Way
    look_ups: bool

    @property
    def neighbours(self) -> tuple[str, ...]:
        """From and to whom the packets are."""
        return self.peers


class Partition(OnWire, Noun, tag="partition", tag_field="fault", frozen=True, kw_only=True):
    """Cut a process off from others in its network: packets vanish, and nobody is told.

    Its connections stay open, and go on when the wire is back, if nobody gave up. With `direction` the cut is one-way.
    Croupier's own questions get through unless `from` names `croupier`, and so do look-ups of names (port 53).
    """

    kind: ClassVar[str] = "partition"

    for_ms: Ms = msgspec.field(name="for")
    """For how long."""
    peers: tuple[Name, ...] = msgspec.field(name="from", default=())
    """From whom: names of processes in its network, `workload`, or `croupier`; by default from all but croupier."""
    direction: Way = "both"
    """`in` is towards the target, `out` away from it."""
    look_ups: bool = False
    """Whether look-ups of names are cut off as well."""


class Packets(OnWire, Noun, tag="packets", tag_field="fault", frozen=True, kw_only=True):
    """Have packets of a process be lost, late, doubled, overtaken, damaged or slow on their way, for a while.

    The wire of the target is hurt, for each packet as the seed draws; all ways may be put together. It is a process of
    ours that carries the packets meanwhile, so no module of the kernel is needed beside tun. Croupier's own questions
    are spared unless `from` names `croupier`, and so are look-ups of names (port 53).
    """

    kind: ClassVar[str] = "packets"

    for_ms: Ms = msgspec.field(name="for")
    """For how long."""
    loss: Percent = _NONE
    """How many are lost."""
    delay_ms: Ms = msgspec.field(name="delay", default=Ms(0))
    """How much later each arrives."""
    jitter_ms: Ms = msgspec.field(name="jitter", default=Ms(0))
    """Up to so much more or less. The order stays."""
    duplicate: Percent = _NONE
    """How many arrive twice."""
    reorder: Percent = _NONE
    """How many are overtaken by those that were sent up to 20 ms later."""
    corrupt: Percent = _NONE
    """In how many a bit is turned behind the IP header. What has a checksum is thrown away by whoever gets it."""
    rate_bytes: Bytes = msgspec.field(name="rate", default=Bytes(0))
    """At most so much in a second, each way. What would wait longer than a second is lost."""
    peers: tuple[Name, ...] = msgspec.field(name="from", default=())
    """On the way from and to whom: names of processes in its network, `workload`, or `croupier`; by default all but
    croupier."""
    direction: Way = "both"
    """`in` is towards the target, `out` away from it."""
    look_ups: bool = False
    """Whether look-ups of names are hurt as well."""

    @property
    def does_something(self) -> bool:
        """Whether any of the ways is asked for."""
        return any(
            (self.loss, self.delay_ms, self.jitter_ms, self.duplicate, self.reorder, self.corrupt, self.rate_bytes)
        )


class Saturate(InNetwork, Noun, tag="saturate", tag_field="fault", frozen=True, kw_only=True):
    """Fill the wire of a process with traffic of a limited rate, from within its network, for a while.

    `datagrams` sends UDP to a port where usually nobody listens: they cost the target's wire, and its kernel.
    `connections` makes some to a port where the target listens, and sends zeros on them as fast as they are taken.
    Nothing of it leaves the network of the round.
    """

    kind: ClassVar[str] = "saturate"

    for_ms: Ms = msgspec.field(name="for")
    """For how long."""
    rate_bytes: Bytes = msgspec.field(name="rate")
    """So much in a second, all together; 100MiB at most."""
    how: How = "datagrams"
    """`datagrams` or `connections`."""
    port: Port | str = 9
    """Where to; for `connections`, where the target listens. A number, or text that `${port.name}` turns into one."""
    size_bytes: Bytes = msgspec.field(name="size", default=Bytes(1_200))
    """Of each datagram."""
    connections: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 16
    """How many at the same time."""
    source: Name = msgspec.field(name="from", default=CROUPIER)
    """At whose home it is sent: a process in the same network, `workload` or `croupier`."""

    @property
    def neighbours(self) -> tuple[str, ...]:
        """At whose home it is sent."""
        return (self.source,)
