"""Arrangements: what a round sets up around its processes before they start, and takes down when they have ended.

A fault that would hurt the whole machine is aimed at an arrangement instead: a full disk at a small file system that
croupier made, and not at the host's. Each is declared in the experiment by a name, and `${KIND.NAME}` stands for it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from .noun import Noun
from .units import Bytes


class Arrangement:
    """The base of every arrangement. `kind` is the word before the dot in `${KIND.NAME}`; `section` is the key of the
    experiment file under which they stand."""

    __slots__ = ()
    kind: ClassVar[str] = ""
    section: ClassVar[str] = ""


class Volume(Arrangement, Noun, frozen=True, kw_only=True):
    """A file system of a limited size, in memory, that lives as long as the round. `${volume.NAME}` is its path."""

    kind: ClassVar[str] = "volume"
    section: ClassVar[str] = "volumes"

    size_bytes: Bytes = msgspec.field(name="size")
    """How much fits on it."""


class Proxy(Arrangement, Noun, frozen=True, kw_only=True):
    """A process of croupier's that carries bytes between processes, so that a connection can be hurt by itself.

    `${proxy.NAME}` is where it listens: give it to whoever connects, instead of the real address.
    """

    kind: ClassVar[str] = "proxy"
    section: ClassVar[str] = "proxies"

    to: Annotated[str, msgspec.Meta(min_length=1)]
    """The real address: `host:port`, a port of the loopback, or `unix:/path`."""
    listen: str = ""
    """Where it listens, written like `to`; by default a free port of the loopback, or a path of the run where `to` is
    one."""

    def listening(self, name: str) -> Proxy:
        """The same with `listen` filled in, where that takes a port."""
        if self.listen or self.to.startswith(("unix:", "/")):
            return self
        return msgspec.structs.replace(self, listen=f"127.0.0.1:${{port.proxy-{name}}}")


ARRANGEMENTS: tuple[type[Arrangement], ...] = (Volume, Proxy)
"""Every kind there is."""
