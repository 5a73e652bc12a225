"""Combinations: several faults that are one injection, at the same time or one after the other.

An outage is seldom one thing: time-outs come together, a partition comes with starvation. A combination is drawn,
permitted, counted and judged as one; it goes ahead only if every part of it may.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..target import Selector
from ..units import Ms

MOST_PARTS = 16


class Part(Noun, frozen=True, kw_only=True):
    """One fault of a combination."""

    fault: Fault
    target: Selector | None = None
    """Whom it hits, if not the target of the injection."""
    after_ms: Ms = msgspec.field(name="after", default=Ms(0))
    """In `together` so long after the beginning, in `sequence` so long after the part before was healed."""

    def __str__(self) -> str:
        return f"{self.fault} on {self.target}" if self.target is not None else str(self.fault)


Parts = Annotated[tuple[Part, ...], msgspec.Meta(min_length=1, max_length=MOST_PARTS)]


class Together(Fault, Noun, tag="together", tag_field="fault", frozen=True, kw_only=True):
    """Several faults at the same time. Each lasts as long as it says, from its own beginning.

    Written as a list: each entry is a fault, with `target` where it is another than the injection's, and `after`.
    """

    kind: ClassVar[str] = "together"

    of: Parts
    """The faults."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them."""
        return self.of

    @property
    def lasting_ms(self) -> int:
        """Until the last of them is healed, in ms."""
        return max(int(one.after_ms) + one.fault.lasting_ms for one in self.of) if _lasts(self.of) else 0

    @property
    def busy_ms(self) -> int:
        """Until the last of them has begun, in ms."""
        return max(int(one.after_ms) + one.fault.busy_ms for one in self.of)

    @property
    def ends(self) -> bool:
        """Whether any of them is meant to end its target."""
        return any(one.fault.ends for one in self.of)

    @property
    def said(self) -> str:
        """The parts, as text."""
        return "; ".join(map(str, self.of))


class Sequence(Fault, Noun, tag="sequence", tag_field="fault", frozen=True, kw_only=True):
    """Several faults one after the other: each begins when the one before is healed, and `after` is over.

    Written as a list, like `together`.
    """

    kind: ClassVar[str] = "sequence"

    of: Parts
    """The faults, in their order."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them."""
        return self.of

    @property
    def lasting_ms(self) -> int:
        """How long the last of them lasts, in ms: the others are over when the sequence has been carried out."""
        return self.of[-1].fault.lasting_ms

    @property
    def busy_ms(self) -> int:
        """Until the last of them has begun, in ms."""
        before = sum(one.fault.lasting_ms for one in self.of[:-1])
        return before + sum(int(one.after_ms) + one.fault.busy_ms for one in self.of)

    @property
    def ends(self) -> bool:
        """Whether any of them is meant to end its target."""
        return any(one.fault.ends for one in self.of)

    @property
    def said(self) -> str:
        """The parts, as text."""
        return "; then ".join(map(str, self.of))


def _lasts(parts: tuple[Part, ...]) -> bool:
    return any(one.fault.lasting_ms for one in parts)


def single(fault: Fault) -> tuple[Fault, ...]:
    """The faults that are carried out: the parts of a combination, or the fault itself."""
    return tuple(one.fault for one in fault.parts) or (fault,)
