"""The times at which a trace ends whatever happens."""

from __future__ import annotations

import math
import time

from .launch import Order


class Clock:
    """The deadline of the whole, and the patience with those who outlive the main process."""

    def __init__(self, order: Order) -> None:
        self._linger_s = order.linger_s
        self._ends: dict[str, float] = {}
        self.first = math.inf
        """The first of the times, by the monotonic clock."""
        if order.deadline_s is not None:
            self._set("deadline", order.deadline_s)

    def main_ended(self) -> None:
        """The main process is no more; from now on the others linger."""
        if self._linger_s is not None and "lingering" not in self._ends:
            self._set("lingering", self._linger_s)

    def until(self, other: float = math.inf) -> float | None:
        """Milliseconds until the first of the times, and of another; None if there is none."""
        first = min(self.first, other)
        return None if first == math.inf else max(0.0, (first - time.monotonic()) * 1000 + 0.5)

    def struck(self) -> str | None:
        """The name of a time that has come; each strikes once."""
        now = time.monotonic()
        if now < self.first:
            return None
        name = min(self._ends, key=self._ends.__getitem__)
        self._ends[name] = math.inf
        self.first = min(self._ends.values())
        return name

    def _set(self, name: str, after_s: float) -> None:
        self._ends[name] = time.monotonic() + after_s
        self.first = min(self._ends.values())
