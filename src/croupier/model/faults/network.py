"""Connections that go wrong, as data: what a proxy of the round does to the bytes between two processes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import Fault
from ..link import MUTATIONS, Cut, Direction, LinkRule, Mutation
from ..noun import Noun
from ..units import Bytes, Ms, Percent

Whose = Literal["target", "everybody"]


class OnProxy(Fault):
    """What the faults on a proxied connection share: how they are told to the proxy."""

    __slots__ = ()
    proxy: str
    for_ms: Ms
    whose: Whose

    @property
    def lasting_ms(self) -> int:
        """For how long the connections are hurt, in ms."""
        return self.for_ms

    def rule(self, key: str, top: tuple[int, int], until_us: int, seed: int) -> LinkRule:
        """The rule for one target, given as pid and start time."""
        everybody = self.whose == "everybody"
        plain = LinkRule(key=key, tops=() if everybody else (top,), everybody=everybody, until_us=until_us, seed=seed)
        return self._of(plain)

    def _of(self, plain: LinkRule) -> LinkRule:
        raise NotImplementedError


class Network(OnProxy, Noun, tag="network", tag_field="fault", frozen=True, kw_only=True):
    """Have connections that go through a proxy be slow, cut to pieces, or cut off, for a while.

    Hurt are the connections that the target, or anything below it, makes or takes by that proxy. What delays may be put
    together. `cut` is one of `reset`, `time_out` (nothing is passed, and after `cut_after` it is closed), `half_close`
    (`direction` ends, the other goes on), `blackhole` (what is sent is swallowed; healed, such a connection is reset)
    and `partition` (nothing is passed; healed, it goes on as if the wire were back). With `direction: up` or `down` a
    partition is one-way.
    """

    kind: ClassVar[str] = "network"

    proxy: str
    """Its name under `proxies`."""
    for_ms: Ms = msgspec.field(name="for")
    """For how long."""
    whose: Whose = "target"
    """`everybody` hurts every connection of the proxy, and those that a restarted target makes."""
    direction: Direction = "both"
    """`up` is from whoever connected, `down` is back to it."""
    share: Percent = Percent(100)
    """How many of the connections, drawn from the seed."""
    latency_ms: Ms = msgspec.field(name="latency", default=Ms(0))
    """How much later everything arrives."""
    jitter_ms: Ms = msgspec.field(name="jitter", default=Ms(0))
    """Up to so much more or less, drawn from the seed for each chunk."""
    bandwidth_bytes: Bytes = msgspec.field(name="bandwidth", default=Bytes(0))
    """At most so much in a second."""
    slice_bytes: Bytes = msgspec.field(name="slice", default=Bytes(0))
    """What is sent at once arrives in pieces of at most this size."""
    slice_delay_ms: Ms = msgspec.field(name="slice_delay", default=Ms(0))
    """From one piece to the next."""
    limit_bytes: Bytes = msgspec.field(name="limit", default=Bytes(0))
    """After so much in one direction the connection is closed."""
    cut: Cut = ""
    """How it is cut off, if at all."""
    cut_after_ms: Ms = msgspec.field(name="cut_after", default=Ms(0))
    """With `reset`, `time_out` and `half_close`: so long after the fault began, or the connection was made."""
    duplicate: bool = False
    """New connections are made twice: the second gets a copy of what is sent, and nobody reads its answers."""

    @property
    def does_something(self) -> bool:
        """Whether any of the ways is asked for."""
        ways = (self.latency_ms, self.jitter_ms, self.bandwidth_bytes, self.slice_bytes, self.limit_bytes, self.cut)
        return any(ways) or self.duplicate

    def _of(self, plain: LinkRule) -> LinkRule:
        return msgspec.structs.replace(
            plain,
            direction=self.direction,
            share_percent=int(self.share),
            latency_us=int(self.latency_ms) * 1_000,
            jitter_us=int(self.jitter_ms) * 1_000,
            bandwidth_bytes=int(self.bandwidth_bytes),
            slice_bytes=int(self.slice_bytes),
            slice_delay_us=int(self.slice_delay_ms) * 1_000,
            limit_bytes=int(self.limit_bytes),
            cut=self.cut,
            cut_after_us=int(self.cut_after_ms) * 1_000,
            duplicate=self.duplicate,
        )


class DelayQueries(OnProxy, Noun, tag="delay_queries", tag_field="fault", frozen=True, kw_only=True):
    """Have every query to a database, or request to anything else, wait for a while before it gets there.

    A query is what comes from whoever connected after it got an answer; what follows without one keeps its place
    behind it. Answers are not delayed.
    """

    kind: ClassVar[str] = "delay_queries"

    proxy: str
    """Its name under `proxies`."""
    for_ms: Ms = msgspec.field(name="for")
    """For how long queries are delayed."""
    whose: Whose = "target"
    """`everybody` delays the queries of everybody who uses the proxy, and of a restarted target."""
    least_ms: Ms = msgspec.field(name="least", default=Ms(200))
    """Each waits at least this long."""
    most_ms: Ms = msgspec.field(name="most", default=Ms(500))
    """And at most this long; drawn from the seed."""
    match: str = ""
    """Only queries in which this text stands, like `INSERT`; all by default."""
    share: Percent = Percent(100)
    """How many of the connections, drawn from the seed."""

    def _of(self, plain: LinkRule) -> LinkRule:
        return msgspec.structs.replace(
            plain,
            share_percent=int(self.share),
            query_least_us=int(self.least_ms) * 1_000,
            query_most_us=int(self.most_ms) * 1_000,
            match=self.match,
        )


class Mutate(OnProxy, Noun, tag="mutate", tag_field="fault", frozen=True, kw_only=True):
    """Change messages on a proxied connection or pipe, as a seed draws; alone, or with a kill in the middle of one.

    A message is what arrives at once. `flip` turns one bit, `splice` puts the end of an earlier message behind the
    beginning of this one, `repeat` doubles a part, `cut` leaves one out, `length` changes a number in it. With `kill`,
    the first message that is changed is passed half, and the target is killed then.
    """

    kind: ClassVar[str] = "mutate"

    proxy: str
    """Its name under `proxies`."""
    for_ms: Ms = msgspec.field(name="for")
    """For how long messages are changed."""
    whose: Whose = "target"
    """`everybody` changes the messages of everybody who uses the proxy, and of a restarted target."""
    direction: Direction = "up"
    """`up` is from whoever connected, `down` is back to it."""
    how: Mutation | tuple[Mutation, ...] = MUTATIONS
    """In which way, or in one of several."""
    every: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Every so-manieth message of a direction is changed, counted over all connections that are meant."""
    most: Annotated[int, msgspec.Meta(ge=0)] = 0
    """So many are changed in all; 0 for no end."""
    match: str = ""
    """Only messages in which this text stands; all by default."""
    kill: bool = False
    """Kill the target when the first changed message is half passed."""

    @property
    def ends(self) -> bool:
        """Whether it kills its target."""
        return self.kill

    def _of(self, plain: LinkRule) -> LinkRule:
        return msgspec.structs.replace(
            plain,
            direction=self.direction,
            mutations=(self.how,) if isinstance(self.how, str) else self.how,
            every=self.every,
            most=self.most,
            match=self.match,
            torn=self.kill,
        )
