"""Shrinking: the fewest items of a list that still fail, by delta debugging (Zeller and Hildebrandt's ddmin).

Nothing is run here. `ddmin` yields each list that it wants tried, and is sent whether that one failed; whoever drives
it decides what trying means. What it returns is 1-minimal: without any single item of it, it no longer fails.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from typing import TypeVar

from .noun import Noun

Item = TypeVar("Item", bound=Hashable)


class Tally(Noun, frozen=True, kw_only=True):
    """How a shrinking went."""

    before: int
    after: int
    tried: int
    whole: bool
    """False where it was ended before it was done: fewer may do."""


def ddmin(items: Sequence[Item]) -> Generator[tuple[Item, ...], bool, tuple[Item, ...]]:
    """The fewest of `items`, in their order, that still fail. `items` as a whole is taken to fail."""
    current = tuple(items)
    parts = 2
    while len(current) >= 2:
        found = yield from _smaller(current, parts)
        if found is not None:
            kept, removed_part = found
            parts = max(parts - 1, 2) if removed_part else 2
            current = kept
        elif parts < len(current):
            parts = min(parts * 2, len(current))
        else:
            return current
    if current and (yield ()):
        return ()
    return current


def shrink(
    items: Sequence[Item], fails: Callable[[tuple[Item, ...]], bool], most: int = 2_000
) -> tuple[tuple[Item, ...], Tally]:
    """Drive `ddmin` with a question, asked at most `most` times and never twice for the same list."""
    known: dict[tuple[Item, ...], bool] = {}
    best = tuple(items)
    steps = ddmin(best)
    answer: bool | None = None
    try:
        while True:
            candidate = next(steps) if answer is None else steps.send(answer)
            if candidate not in known:
                if len(known) >= most:
                    return best, Tally(before=len(items), after=len(best), tried=len(known), whole=False)
                known[candidate] = fails(candidate)
            answer = known[candidate]
            if answer and len(candidate) < len(best):
                best = candidate
    except StopIteration as done:
        smallest: tuple[Item, ...] = done.value
        return smallest, Tally(before=len(items), after=len(smallest), tried=len(known), whole=True)


def _smaller(
    items: tuple[Item, ...], parts: int
) -> Generator[tuple[Item, ...], bool, tuple[tuple[Item, ...], bool] | None]:
    """Try each part alone, then everything but each part. Returns what failed, and whether a part was removed."""
    bounds = [len(items) * nth // parts for nth in range(parts + 1)]
    pieces = [(bounds[nth], bounds[nth + 1]) for nth in range(parts)]
    for start, end in pieces:
        if (yield items[start:end]):
            return items[start:end], False
    if parts > 2:
        for start, end in pieces:
            if (yield items[:start] + items[end:]):
                return items[:start] + items[end:], True
    return None
