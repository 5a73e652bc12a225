"""Memory that is not there, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..units import Bytes, Flow, Ms


class StarveMemory(Fault, Noun, tag="starve_memory", tag_field="fault", frozen=True, kw_only=True):
    """Let a process have only so much memory, for a while. Nobody else has less.

    Give `limit` or `percent`. What it has already is not taken from it: what it, and all below it, may take from now
    on is the limit less what they use now (resident memory). `cgroup` puts them into a cgroup of their own with that
    limit, beyond which the kernel kills; such a death is the injection's doing, and no crash. `rlimit` limits the
    address space of the target (RLIMIT_AS), beyond which it is refused more (ENOMEM): what it makes of that is its own.
    `auto` takes the cgroup where it can.

    `pressure` and `leak` have a helper of ours take memory within that limit, which needs a cgroup.
    """

    kind: ClassVar[str] = "starve_memory"

    for_ms: Ms = msgspec.field(name="for")
    """From the starving to the healing."""
    limit_bytes: Bytes | None = msgspec.field(name="limit", default=None)
    """How much it may use in all."""
    percent: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    """The same, of what it uses now: `150` for half as much again."""
    how: Literal["auto", "cgroup", "rlimit"] = "auto"
    """The way."""
    pressure_bytes: Bytes | None = msgspec.field(name="pressure", default=None)
    """How much of that a helper takes."""
    leak: Flow | None = None
    """The helper takes it little by little, so fast, and keeps it: up to `pressure`, else until nothing is left."""

    @property
    def lasting_ms(self) -> int:
        """How long it starves, in ms."""
        return self.for_ms

    @property
    def runs_out(self) -> bool:
        """Whoever is killed for want of memory meanwhile was meant to be."""
        return self.how != "rlimit"
