"""A processor that is not there, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..units import Ms


class StarveCpu(Fault, Noun, tag="starve_cpu", tag_field="fault", frozen=True, kw_only=True):
    """Let a process have only a share of a processor, for a while. Nobody else is slowed.

    `quota` puts the targets into a cgroup of their own that the kernel gives so much and no more; `duty` stops and lets
    them go on ten times a second, which needs no privilege and may be noticed; `auto` takes the quota where it can.
    """

    kind: ClassVar[str] = "starve_cpu"

    for_ms: Ms = msgspec.field(name="for")
    """From the starving to the healing."""
    percent: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    """Of one processor: what is left to each target, together with what it starts."""
    how: Literal["auto", "quota", "duty"] = "auto"
    """The way."""

    @property
    def lasting_ms(self) -> int:
        """How long it starves, in ms."""
        return self.for_ms
