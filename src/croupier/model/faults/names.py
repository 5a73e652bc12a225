"""Names that are not found, as data: what the resolver of a network answers wrongly."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..noun import Noun
from ..units import Ms
from .packets import InNetwork


class Dns(InNetwork, Noun, tag="dns", tag_field="fault", frozen=True, kw_only=True):
    """Have look-ups of names go wrong for a while, by the resolver of the network that the target lives in.

    `answer` is `nxdomain` (there is no such name), `servfail` (the server is in trouble), `time_out` (no answer), or a
    wrong address. What a program has looked up before, and keeps, is not taken from it.
    """

    kind: ClassVar[str] = "dns"

    for_ms: Ms = msgspec.field(name="for")
    """For how long."""
    names: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,253}$", examples=["*.example.com"])] = "*"
    """Which names: a glob, upper and lower case being the same."""
    answer: Annotated[
        str,
        msgspec.Meta(pattern=r"^(nxdomain|servfail|time_out|(\d{1,3}\.){3}\d{1,3}|.*\$\{.*)$", examples=["nxdomain"]),
    ] = "nxdomain"
    """`nxdomain`, `servfail`, `time_out`, or an address of IPv4, like `${address.NAME}`."""
    whose: Literal["target", "everybody"] = "target"
    """`target` is whoever lives where the target does, restarted or not."""

    @property
    def neighbours(self) -> tuple[str, ...]:
        """Nobody else is named."""
        return ()
