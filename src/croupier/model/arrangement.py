"""Arrangements: what a round sets up around its processes before they start, and takes down when they have ended.

A fault that would hurt the whole machine is aimed at an arrangement instead: a full disk at a small file system that
croupier made, and not at the host's. Each is declared in the experiment by a name, and `${KIND.NAME}` stands for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from .link import AT_PATHS
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

    `${proxy.NAME}` is where it listens: give it to whoever connects, or writes, instead of the real address.
    """

    kind: ClassVar[str] = "proxy"
    section: ClassVar[str] = "proxies"

    to: Annotated[str, msgspec.Meta(min_length=1)]
    """The real address: `host:port`, a port of the loopback, or `unix:/path`; or `pipe:/path`, the named pipe that
    somebody reads, which is made where it is not there."""
    listen: str = ""
    """Where it listens, written like `to`; by default a free port of the loopback, or a path of the run where `to` is
    one."""

    def listening(self, name: str) -> Proxy:
        """The same with `listen` filled in, where that takes a port."""
        if self.listen or self.to.startswith(AT_PATHS):
            return self
        return msgspec.structs.replace(self, listen=f"127.0.0.1:${{port.proxy-{name}}}")


CROUPIER = "croupier"
"""Who asks the probes, in a network: a member like the others."""
MOST_NETWORKS = 256
MOST_MEMBERS = 250


class Subnet(Arrangement, Noun, frozen=True, kw_only=True):
    """A network of the round's own, apart from the host's, for the processes that say `network: NAME`.

    Each of them has a network namespace of its own, with an address in this network, a loopback of its own, and no way
    to anywhere else. `${address.PROCESS}` is the address of one, `${subnet.NAME}` the range of them all.
    """

    kind: ClassVar[str] = "subnet"
    section: ClassVar[str] = "networks"

    names: dict[str, str] | None = None
    """Names that are looked up there, with the address of each; `${address.PROCESS}` is one. Given, even as `{}`, a
    resolver of the round answers for them and for the names of those who live there, and nobody else is asked."""

    def joined(self, nth: int, processes: Iterable[str]) -> JoinedSubnet:
        """The same, as the nth network of the file, with those who live there."""
        return JoinedSubnet(nth=nth, processes=tuple(processes), names=self.names)


class JoinedSubnet(Subnet, frozen=True, kw_only=True):
    """A network with those who live there. The addresses are those for test networks, which nobody routes: RFC 2544."""

    nth: int
    processes: tuple[str, ...]

    @property
    def hub(self) -> str:
        """The address of the router in the middle."""
        return self._address(1)

    @property
    def addresses(self) -> dict[str, str]:
        """Everybody's name with the address, croupier first."""
        return {name: self._address(number) for number, name in enumerate((CROUPIER, *self.processes), 2)}

    @property
    def known(self) -> dict[str, str]:
        """What the resolver knows: name to address, in lower case."""
        return {name.lower().rstrip("."): at for name, at in {**self.addresses, **(self.names or {})}.items()}

    @property
    def range(self) -> str:
        """All addresses of the network."""
        return f"{self._address(0)}/24"

    def _address(self, number: int) -> str:
        return f"198.18.{self.nth}.{number}"


ARRANGEMENTS: tuple[type[Arrangement], ...] = (Volume, Proxy, Subnet)
"""Every kind there is."""
