"""Flooding: traffic of a limited rate towards one address, as it is told to whoever makes it."""

from __future__ import annotations

from typing import Literal

import msgspec

from .noun import Noun

How = Literal["datagrams", "connections"]


class Flooding(Noun, frozen=True, kw_only=True):
    """What a flood is told."""

    network: str
    """The namespace to send from, as a path."""
    host: str
    port: int
    how: How
    rate_bytes: int
    """At most so much in a second, all together."""
    size_bytes: int
    connections: int
    until_us: int
    """It ends by itself then, on the monotonic clock."""


class Flooded(msgspec.Struct, kw_only=True):
    """What was sent so far."""

    bytes: int = 0
    connections: int = 0
    """How many were made."""
