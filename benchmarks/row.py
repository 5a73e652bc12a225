"""A row of the table, and the few statistics that the measures share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure: ours and the peer's figure in the same unit, and the target that ours is held against."""

    name: str
    unit: str
    ours: float
    peer: float | None
    peer_is: str
    target: str
    met: bool
    more_is_better: bool = False
    """The figure is a rate."""

    @property
    def ratio(self) -> float | None:
        """The peer's figure over ours, for a rate ours over the peer's: above 1 we are quicker, or need less."""
        if not self.peer or not self.ours:
            return None
        return self.ours / self.peer if self.more_is_better else self.peer / self.ours

    def figures(self) -> dict[str, Any]:
        """The row for a file."""
        return {**self.__dict__, "ratio": self.ratio}

    def __str__(self) -> str:
        peer = f"{self.peer:,.3g} {self.unit}" if self.peer is not None else "-"
        ratio = f"{self.ratio:,.2f}x" if self.ratio is not None else "-"
        mark = "" if self.met else "   MISSED"
        line = f"{self.name:58} {f'{self.ours:,.3g} {self.unit}':>14} {peer:>14} {ratio:>9}  {self.target}{mark}"
        return line + (f"\n{'':8}peer: {self.peer_is}" if self.peer is not None else "")


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share / 100 * len(ordered)) - 1))]


def median(values: Sequence[float]) -> float:
    """The 50th percentile."""
    return percentile(values, 50)
