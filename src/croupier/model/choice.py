"""ChoiceStream: every random decision of a run, drawn from a seed.

The stream is ours, in integers only, so that a seed draws the same on every platform and Python version, for
ever. Forks carry labels: what is drawn under one label never shifts what is drawn under another, so adding a fault
to an experiment leaves the other choices as they were.

Words come from SHA-256 in counter mode (FIPS 180-4): word k of a stream is eight bytes of
sha256(key || k // 4). It is no secret generator and is not meant to be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

T = TypeVar("T")

_WORD = 2**64
_DOMAIN = b"croupier choice stream 1"


class ChoiceStream:
    """A stream of decisions, fixed by a seed and the labels of the forks that led here."""

    __slots__ = ("_counter", "_key", "_words")

    def __init__(self, seed: int) -> None:
        """Open the stream of `seed`, any integer; 0 is a seed like every other."""
        self._start(sha256(_DOMAIN + str(int(seed)).encode()).digest())

    def _start(self, key: bytes) -> None:
        self._key = key
        self._counter = 0
        self._words: list[int] = []

    def fork(self, label: str | int) -> ChoiceStream:
        """A stream of its own under `label`; it does not depend on what was drawn here before."""
        branch = object.__new__(ChoiceStream)
        branch._start(sha256(self._key + b"/" + str(label).encode()).digest())
        return branch

    def word(self) -> int:
        """The next 64-bit word, from 0 to 2**64 - 1."""
        if not self._words:
            block = sha256(self._key + self._counter.to_bytes(8, "big")).digest()
            self._words = [int.from_bytes(block[at : at + 8], "big") for at in (24, 16, 8, 0)]
            self._counter += 1
        return self._words.pop()

    def below(self, bound: int) -> int:
        """A whole number from 0 to bound - 1, each as likely as the others. `bound` is 1 to 2**64."""
        if not 1 <= bound <= _WORD:
            raise ValueError(f"a bound from 1 to 2**64 is needed, got {bound}")
        limit = _WORD - _WORD % bound
        # Words past the last full multiple would favour small numbers.
        while (word := self.word()) >= limit:
            pass
        return word % bound

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, each as likely as the others."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[T], weights: Sequence[int]) -> T:
        """One of the items, as likely as its weight says. Weights are whole numbers, not all 0."""
        mark = self.below(sum(weights))
        for item, weight in zip(items, weights, strict=True):
            mark -= weight
            if mark < 0:
                return item
        raise AssertionError("weights add up to more than the mark")

    def sample(self, items: Sequence[T], count: int) -> tuple[T, ...]:
        """`count` different items in a drawn order (all of them when there are fewer)."""
        left = list(items)
        return tuple(left.pop(self.below(len(left))) for _ in range(min(count, len(left))))
