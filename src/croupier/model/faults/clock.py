"""Clocks that are wrong, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..units import Ms


class Clock(Fault, Noun, tag="clock", tag_field="fault", frozen=True, kw_only=True):
    """Have the wall clock of a process be wrong, for a while: ahead, behind, fast or slow. Never the machine's.

    The clock jumps when the fault begins, and jumps back when it is healed. The target is the main process of a role
    that croupier starts, and is prepared for it from its start on; all that it starts shares its clock. Monotonic
    clocks, sleeps and the times of files stay true.
    """

    kind: ClassVar[str] = "clock"

    for_ms: Ms = msgspec.field(name="for")
    """For how long it is wrong."""
    ahead_ms: Ms = msgspec.field(name="ahead", default=Ms(0))
    """It shows so much more than the truth."""
    behind_ms: Ms = msgspec.field(name="behind", default=Ms(0))
    """It shows so much less."""
    rate: Annotated[float, msgspec.Meta(gt=0, le=100)] = 1.0
    """How fast it runs: 2 for two seconds a second, 0.5 for half a second, 1.001 for a drift of a thousandth."""
    jump_every_ms: Ms | None = msgspec.field(name="jump_every", default=None)
    """It is right again after so long, then wrong again, over and over."""
    monotonic: bool = False
    """Whether monotonic clocks are wrong as well."""
    how: Literal["auto", "shim", "libfaketime"] = "auto"
    """By croupier's own shim, which a C compiler must make, or by libfaketime; `auto` takes the first that works."""

    @property
    def lasting_ms(self) -> int:
        """For how long it is wrong, in ms."""
        return self.for_ms

    @property
    def offset_ms(self) -> int:
        """By how much it is ahead, in ms; behind if negative."""
        return int(self.ahead_ms) - int(self.behind_ms)

    @property
    def drift_ppb(self) -> int:
        """By how many parts per billion it runs fast; slow if negative."""
        return round((self.rate - 1) * 10**9)
