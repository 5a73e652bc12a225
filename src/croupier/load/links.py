"""What may be wrong with a proxy, and with a fault on one, that types cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..model.arrangement import Proxy
from ..model.experiment import references
from ..model.faults.network import DelayQueries, Mutate, Network, OnProxy
from ..model.faults.packets import Packets
from ..model.link import PIPE, address


class Wrong(NamedTuple):
    """One thing that is wrong, at a key, and what to do."""

    said: str
    key: str = ""
    hint: str = ""


def wrong_with_proxy(one: Proxy) -> Iterator[Wrong]:
    """Addresses that are none."""
    for key, text in (("to", one.to), ("listen", one.listen)):
        if text and not list(references(text)):
            try:
                address(text)
            except ValueError as problem:
                yield Wrong(str(problem), key, 'write "127.0.0.1:${port.NAME}", a port, unix:/path or pipe:/path')
    if one.listen and one.listen.startswith(PIPE) != one.to.startswith(PIPE):
        yield Wrong("bytes go from a socket to a socket, or from a pipe to a pipe", "listen", "leave listen out")
    if one.listen == one.to:
        yield Wrong("a proxy that listens where it carries to carries in a circle", "listen", "leave listen out")


def wrong_on_pipe(one: OnProxy) -> Iterator[Wrong]:
    """What a pipe has not: a way back, and a second connection."""
    if isinstance(one, DelayQueries):
        yield Wrong("a pipe has no queries: nothing comes back through it", "proxy", "give it latency, by `network`")
    elif isinstance(one, (Network, Mutate)) and one.direction == "down":
        yield Wrong("nothing comes back through a pipe", "direction", "leave direction out")
    if isinstance(one, Network) and one.duplicate:
        yield Wrong("a pipe cannot be connected to twice", "duplicate", "leave duplicate out")


def wrong_with_network(one: Network) -> Iterator[Wrong]:
    """Options that do nothing, or not together."""
    if not one.does_something:
        hint = "give at least one of latency, jitter, bandwidth, slice, limit, cut, duplicate"
        yield Wrong("this hurts nothing", "", hint)
    if one.cut_after_ms and one.cut not in ("reset", "time_out", "half_close"):
        yield Wrong("cut_after goes with cut: reset, time_out or half_close", "cut_after")
    if one.cut_after_ms and one.cut_after_ms >= one.for_ms:
        yield Wrong(f"the fault is over ({one.for_ms}) before anything is cut", "cut_after", "make for longer")
    if one.slice_delay_ms and not one.slice_bytes:
        yield Wrong("slice_delay goes with slice, the size of a piece", "slice_delay")


def wrong_with_packets(one: Packets) -> Iterator[Wrong]:
    """Options that do nothing."""
    if not one.does_something:
        yield Wrong(
            "this hurts nothing", "", "give at least one of loss, delay, jitter, duplicate, reorder, corrupt, rate"
        )


def wrong_with_delay(one: DelayQueries) -> Iterator[Wrong]:
    """Bounds that bound nothing."""
    if one.least_ms > one.most_ms:
        yield Wrong(f"at least {one.least_ms} and at most {one.most_ms} is never true", "least")
    elif not one.most_ms:
        yield Wrong("this delays nothing", "most", "make most longer than nothing")
