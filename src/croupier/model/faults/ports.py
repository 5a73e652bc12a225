"""Ports that somebody else has, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..probe import Port
from ..units import Ms


class OccupyPort(Fault, Noun, tag="occupy_port", tag_field="fault", frozen=True, kw_only=True):
    """Take a port of the loopback, or the path of a Unix socket, for a while: whoever binds it is refused (EADDRINUSE).

    Give `port` or `path`. Whoever has it already keeps it: `kill` ends the target if it is the one, and the port is
    taken before anybody can bring it back; `within` waits for it to come free by another fault's doing.
    """

    kind: ClassVar[str] = "occupy_port"

    for_ms: Ms = msgspec.field(name="for")
    """How long it is taken."""
    port: Port | str = ""
    """A number, or text that `${port.name}` turns into one."""
    path: str = ""
    """The path of a Unix socket. There must be nothing at it yet."""
    protocol: Literal["tcp", "udp"] = "tcp"
    """With `port`."""
    host: Annotated[str, msgspec.Meta(pattern=r"^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1)$")] = "127.0.0.1"
    """With `port`: the address, of the loopback. Who binds all addresses is refused as well."""
    listen: bool = True
    """Whether clients can connect, and wait for ever; or it is merely bound, and they are refused."""
    within_ms: Ms | None = msgspec.field(name="within", default=None)
    """How long it is tried while somebody else has it; once, if not given."""
    kill: bool = False
    """End the target (SIGKILL) where it has the port, and take it in that moment."""

    @property
    def lasting_ms(self) -> int:
        """How long it is taken, in ms."""
        return self.for_ms

    @property
    def busy_ms(self) -> int:
        """How long it is tried, in ms."""
        return self.within_ms or 0

    @property
    def ends(self) -> bool:
        """With `kill` it is meant to."""
        return self.kill
