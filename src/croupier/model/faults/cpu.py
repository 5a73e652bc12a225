"""A processor that is not there, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..units import Ms

LEFT_PERCENT = 10
CLIMBS_BY = 10
"""In how many steps a share climbs down."""


class StarveCpu(Fault, Noun, tag="starve_cpu", tag_field="fault", frozen=True, kw_only=True):
    """Let a process have only a share of a processor, or only some processors, for a while. Nobody else is slowed.

    `quota` puts the targets into a cgroup of their own that the kernel gives so much and no more; `duty` stops and lets
    them go on ten times a second, which needs no privilege and may be noticed; `auto` takes the quota where it can.
    With `load` a busy neighbour of ours shares that quota, and takes as much of it from the machine as any program
    would; with `cores` the target is kept to these, and has all of them.
    """

    kind: ClassVar[str] = "starve_cpu"

    for_ms: Ms = msgspec.field(name="for")
    """From the starving to the healing."""
    percent: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    """Of one processor: what is left to each target, together with what it starts. 10 by default; with `load` 100, for
    both."""
    how: Literal["auto", "quota", "duty"] = "auto"
    """The way."""
    slice_ms: Ms = msgspec.field(name="slice", default=Ms(100))
    """The share is given anew so often: how long it may stand still at a time."""
    climb_ms: Ms = msgspec.field(name="climb", default=Ms(0))
    """From the whole processor down to `percent` in so long, step by step; at once by default. By a quota only."""
    load: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """Of the time, in per cent: how busy a neighbour is that shares the quota. By a quota only."""
    cores: Annotated[int, msgspec.Meta(ge=1)] | tuple[Annotated[int, msgspec.Meta(ge=0)], ...] | None = None
    """On how many processors, or on which, the target may run; without any share."""

    @property
    def lasting_ms(self) -> int:
        """How long it starves, in ms."""
        return self.for_ms

    @property
    def share(self) -> int:
        """What is left in the end, in per cent of one processor."""
        if self.percent is not None:
            return self.percent
        return 100 if self.load else LEFT_PERCENT

    @property
    def needs_quota(self) -> bool:
        """Whether stopping and letting go would not do."""
        return bool(self.how == "quota" or self.climb_ms or self.load)

    def share_at(self, step: int) -> float:
        """What is left at this step, from 1 to CLIMBS_BY, of a climb."""
        return 100 - (100 - self.share) * step / CLIMBS_BY
