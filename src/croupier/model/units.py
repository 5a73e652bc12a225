"""Quantities with their units, read strictly: `2s`, `500ms`, `10 per 1m`, `10MB per 1h`, `< 5s`, `50%`.

A bare number is refused wherever a unit is needed: `grace: 5` does not say five what.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Self

_MS_PER = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES_PER = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)", re.ASCII)
_LONGEST_MS = 366 * _MS_PER["d"]


class Ms(int):
    """A length of time in whole milliseconds, written `500ms`, `2s`, `1.5m`, `1h` or `1d`."""

    json_schema = {
        "type": "string",
        "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$",
        "examples": ["500ms", "2s", "1m"],
    }

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a duration. Raises ValueError with a sentence that says what was expected."""
        if isinstance(text, cls):
            return text
        match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"expected a duration with a unit, like 500ms, 2s or 1m, got {text!r}")
        exact = Fraction(match[1]) * _MS_PER[match[2]]
        if exact > _LONGEST_MS:
            raise ValueError(f"{text!r} is longer than a year")
        return cls(round(exact))

    def __str__(self) -> str:
        for unit in ("d", "h", "m", "s"):
            if self and self % _MS_PER[unit] == 0:
                return f"{self // _MS_PER[unit]}{unit}"
        return f"{int(self)}ms"


class Bytes(int):
    """A size in bytes, written `512B`, `64KiB`, `10MiB`, `1GB`."""

    json_schema = {
        "type": "string",
        "pattern": r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB|KB|MB|GB)$",
        "examples": ["64KiB"],
    }

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a size. Raises ValueError with a sentence that says what was expected."""
        if isinstance(text, cls):
            return text
        match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"expected a size with a unit, like 64KiB or 10MB, got {text!r}")
        return cls(round(Fraction(match[1]) * _BYTES_PER[match[2]]))

    def __str__(self) -> str:
        for unit in ("GiB", "MiB", "KiB"):
            if self and self % _BYTES_PER[unit] == 0:
                return f"{self // _BYTES_PER[unit]}{unit}"
        return f"{int(self)}B"


class Percent(int):
    """A share in whole per cent from 1 to 100, written `50%`."""

    json_schema = {"type": "string", "pattern": r"^\d{1,3}\s*%$", "examples": ["50%"]}

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a share. Raises ValueError with a sentence that says what was expected."""
        if isinstance(text, cls):
            return text
        match = re.fullmatch(r"(\d{1,3})\s*%", text.strip(), re.ASCII) if isinstance(text, str) else None
        if match is None or not 1 <= int(match[1]) <= 100:
            raise ValueError(f"expected a share from 1% to 100%, got {text!r}")
        return cls(int(match[1]))

    def __str__(self) -> str:
        return f"{int(self)}%"


class _Text:
    """A quantity that is kept as it was written, and compared by what it means."""

    __slots__ = ("_key",)
    _key: tuple[Any, ...]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._key == self._key

    def __hash__(self) -> int:
        return hash((type(self), self._key))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class Rate(_Text):
    """At most `count` in any window of `per_ms`, written `10 per 1m`."""

    __slots__ = ("count", "per_ms")
    json_schema = {
        "type": "string",
        "pattern": r"^\d+ per \d+(\.\d+)?\s*(ms|s|m|h|d)$",
        "examples": ["10 per 1m"],
    }

    def __init__(self, count: int, per_ms: int) -> None:
        self.count = count
        self.per_ms = Ms(per_ms)
        self._key = (count, int(per_ms))

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a rate. Raises ValueError with a sentence that says what was expected."""
        if isinstance(text, cls):
            return text
        match = re.fullmatch(r"(\d+)\s+per\s+(.+)", text.strip(), re.ASCII) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"expected a rate, like 10 per 1m, got {text!r}")
        per_ms = Ms.parse(match[2])
        if per_ms <= 0:
            raise ValueError(f"the window of a rate must be longer than nothing, got {text!r}")
        return cls(int(match[1]), per_ms)

    def __str__(self) -> str:
        return f"{self.count} per {self.per_ms}"


class Flow(_Text):
    """So many bytes in each `per_ms`, written `10MB per 1h` or `1MiB per 1s`."""

    __slots__ = ("amount", "per_ms")
    json_schema = {
        "type": "string",
        "pattern": r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB|KB|MB|GB) per \d+(\.\d+)?\s*(ms|s|m|h|d)$",
        "examples": ["10MB per 1h"],
    }

    def __init__(self, amount: int, per_ms: int) -> None:
        self.amount = Bytes(amount)
        self.per_ms = Ms(per_ms)
        self._key = (int(amount), int(per_ms))

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a flow. Raises ValueError with a sentence that says what was expected."""
        if isinstance(text, cls):
            return text
        amount, word, per = text.partition(" per ") if isinstance(text, str) else ("", "", "")
        if not word:
            raise ValueError(f"expected a size per time, like 10MB per 1h, got {text!r}")
        per_ms = Ms.parse(per)
        if per_ms <= 0:
            raise ValueError(f"the time of a flow must be longer than nothing, got {text!r}")
        return cls(Bytes.parse(amount), per_ms)

    @property
    def per_second(self) -> float:
        """Bytes in a second."""
        return self.amount * 1_000 / self.per_ms

    def __str__(self) -> str:
        return f"{self.amount} per {self.per_ms}"


class Under(_Text):
    """An upper bound on a time, written `< 5s` or `<= 5s`."""

    __slots__ = ("inclusive", "limit_ms")
    json_schema = {"type": "string", "pattern": r"^<=?\s*\d+(\.\d+)?\s*(ms|s|m|h|d)$", "examples": ["< 5s"]}

    def __init__(self, limit_ms: int, *, inclusive: bool = False) -> None:
        self.limit_ms = Ms(limit_ms)
        self.inclusive = inclusive
        self._key = (int(limit_ms), inclusive)

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a bound. Raises ValueError with a sentence that says what was expected."""
        if isinstance(text, cls):
            return text
        match = re.fullmatch(r"(<=?)\s*(.+)", text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f'expected an upper bound, like "< 5s", got {text!r}')
        return cls(Ms.parse(match[2]), inclusive=match[1] == "<=")

    def holds(self, value_ms: float) -> bool:
        """Whether a measured time keeps the bound."""
        return value_ms <= self.limit_ms if self.inclusive else value_ms < self.limit_ms

    def __str__(self) -> str:
        return f"{'<=' if self.inclusive else '<'} {self.limit_ms}"


QUANTITIES: tuple[type[Any], ...] = (Ms, Bytes, Percent, Rate, Flow, Under)


def read_quantity(kind: type, value: object) -> Any:
    """A `dec_hook` for msgspec that knows the quantities; other types raise NotImplementedError."""
    if kind in QUANTITIES:
        return kind.parse(value)
    raise NotImplementedError(kind)


def write_quantity(value: object) -> str:
    """An `enc_hook` for msgspec: a quantity as people write it (`2s`), which reads back by the rules of the file."""
    if isinstance(value, QUANTITIES):
        return str(value)
    raise NotImplementedError(type(value))
