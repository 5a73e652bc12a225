"""Links: what a proxy is told about the connections that it carries, and what it answers.

A rule says what becomes of bytes between two processes while it is in force. Here it is data, with the decisions that
need no socket: how long a chunk waits, how a message is changed. `relay/` carries bytes by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from .choice import ChoiceStream
from .noun import Noun

Direction = Literal["both", "up", "down"]
Cut = Literal["", "reset", "time_out", "half_close", "blackhole", "partition"]
Mutation = Literal["flip", "splice", "repeat", "cut", "length"]
MUTATIONS: tuple[Mutation, ...] = ("flip", "splice", "repeat", "cut", "length")


PIPE = "pipe:"
AT_PATHS = ("unix:", "/", PIPE)
"""How addresses begin that are paths."""


class Address(Noun, frozen=True, kw_only=True):
    """Where a socket listens, a TCP port of a host or a path; or the path of a named pipe."""

    host: str = ""
    port: int = 0
    path: str = ""
    pipe: bool = False
    """The path is a named pipe's."""

    def __str__(self) -> str:
        kind = "pipe" if self.pipe else "unix"
        return f"{kind}:{self.path}" if self.path else f"{self.host}:{self.port}"

    @property
    def plain(self) -> str:
        """As a program is told: `host:port`, or the path alone."""
        return self.path or f"{self.host}:{self.port}"


def address(text: str) -> Address:
    """Read `host:port`, a port of the loopback, `unix:/path`, `/path` or `pipe:/path`. Raises ValueError."""
    plain = text.strip()
    if plain.startswith(AT_PATHS):
        pipe = plain.startswith(PIPE)
        path = plain.removeprefix(PIPE if pipe else "unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"expected a path that begins with /, got {text!r}")
        return Address(path=path, pipe=pipe)
    host, _, port = plain.rpartition(":")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ValueError(f"expected host:port, a port, unix:/path or pipe:/path, got {text!r}")
    return Address(host=host.removeprefix("[").removesuffix("]") or "127.0.0.1", port=int(port))


class LinkRule(Noun, frozen=True, kw_only=True):
    """What becomes of the bytes of some connections of one proxy, until it is lifted or its time is over."""

    key: str
    """The undo record's."""
    tops: tuple[tuple[int, int], ...] = ()
    """Pid and start time: connections are meant that these, or anything below them, made or take."""
    everybody: bool = False
    """Every connection is meant."""
    until_us: int
    """When the proxy lifts it by itself, on the monotonic clock."""
    seed: int = 0
    """What is drawn is drawn from this."""
    direction: Direction = "both"
    """`up` is from whoever connected, `down` is back to it."""
    share_percent: int = 100
    """How many of the connections."""
    latency_us: int = 0
    jitter_us: int = 0
    bandwidth_bytes: int = 0
    """In a second; 0 is no limit."""
    slice_bytes: int = 0
    slice_delay_us: int = 0
    limit_bytes: int = 0
    cut: Cut = ""
    cut_after_us: int = 0
    duplicate: bool = False
    query_least_us: int = 0
    query_most_us: int = 0
    match: str = ""
    """With a query delay or mutations: only messages in which this text stands."""
    mutations: tuple[Mutation, ...] = ()
    every: Annotated[int, msgspec.Meta(ge=1)] = 1
    most: int = 0
    torn: bool = False
    """The first message that is changed is passed half, and the rest held."""

    def means(self, direction: Direction) -> bool:
        """Whether bytes that go this way are meant."""
        return self.direction in ("both", direction)

    def takes(self, link: int) -> bool:
        """Whether the connection of this number is in the share."""
        return ChoiceStream(self.seed).fork(f"share {link}").below(100) < self.share_percent

    def stream(self, link: int, direction: Direction) -> ChoiceStream:
        """Where one direction of one connection draws from."""
        return ChoiceStream(self.seed).fork(f"{link} {direction}")


def wait_us(rule: LinkRule, choices: ChoiceStream, *, asks: bool) -> int:
    """How much later a chunk arrives; `asks` where it begins a query."""
    wait = rule.latency_us
    if rule.jitter_us:
        wait += choices.between(0, 2 * rule.jitter_us) - rule.jitter_us
    if rule.query_most_us and asks:
        wait += choices.between(rule.query_least_us, rule.query_most_us)
    return max(0, wait)


def slices(data: bytes, most: int) -> list[bytes]:
    """The bytes in pieces of at most so many; whole where `most` is 0."""
    if not most:
        return [data]
    return [data[at : at + most] for at in range(0, len(data), most)]


def mutated(data: bytes, how: Mutation, choices: ChoiceStream, earlier: Sequence[bytes] = ()) -> bytes:
    """The message, changed in one way, and really another one; `earlier` are messages that went before it."""
    if not data:
        return data
    changed = _CHANGES[how](data, choices, earlier)
    # A change that leaves everything as it was would be no fault.
    return changed if changed != data else _flip(data, choices, earlier)


def _flip(data: bytes, choices: ChoiceStream, earlier: Sequence[bytes]) -> bytes:
    at = choices.below(len(data) * 8)
    changed = bytearray(data)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def _splice(data: bytes, choices: ChoiceStream, earlier: Sequence[bytes]) -> bytes:
    other = choices.pick(earlier) if earlier else data[::-1]
    return data[: choices.below(len(data))] + other[choices.below(len(other)) :]


def _repeat(data: bytes, choices: ChoiceStream, earlier: Sequence[bytes]) -> bytes:
    begin = choices.below(len(data))
    end = choices.between(begin + 1, len(data))
    return data[:end] + data[begin:end] + data[end:]


def _cut(data: bytes, choices: ChoiceStream, earlier: Sequence[bytes]) -> bytes:
    begin = choices.below(len(data))
    return data[:begin] + data[choices.between(begin + 1, len(data)) :]


def _length(data: bytes, choices: ChoiceStream, earlier: Sequence[bytes]) -> bytes:
    """A number that may be a length: a run of digits, or else one of the first four bytes."""
    runs = _digit_runs(data)
    if not runs:
        at = choices.below(min(4, len(data)))
        return data[:at] + bytes([choices.pick((0, 1, 127, 128, 255))]) + data[at + 1 :]
    begin, end = choices.pick(runs)
    number = int(data[begin:end])
    other = choices.pick((0, number + 1, max(0, number - 1), number * 16 + 1, 2**31))
    return data[:begin] + str(other).encode() + data[end:]


_LONGEST_NUMBER = 18


def _digit_runs(data: bytes) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    begin = None
    for at, byte in enumerate((*data[:512], 0)):
        if 48 <= byte <= 57:
            begin = at if begin is None else begin
        elif begin is not None:
            if at - begin <= _LONGEST_NUMBER:
                runs.append((begin, at))
            begin = None
    return runs


_CHANGES = {"flip": _flip, "splice": _splice, "repeat": _repeat, "cut": _cut, "length": _length}


# What a proxy is asked, and what it answers: one line of JSON each.


class Asked(Noun, frozen=True, kw_only=True):
    """Put a rule into force, lift one, or neither; then say how things are."""

    add: LinkRule | None = None
    lift: str = ""


class RuleState(Noun, frozen=True, kw_only=True):
    """How far a rule has come."""

    key: str
    hits: int
    """How often it did something to a connection."""
    links: int
    """How many connections it means now."""
    torn: bool = False
    """A message stands half passed."""


class RelayState(Noun, frozen=True, kw_only=True):
    """How a proxy is."""

    links: int
    """How many connections it carries now."""
    carried: int
    """How many it has carried in all."""
    rules: tuple[RuleState, ...] = ()
    """What is in force."""
    lifted: RuleState | None = None
    """What was lifted just now."""

    def rule(self, key: str) -> RuleState | None:
        """The rule of this key, if it is in force."""
        return next((one for one in self.rules if one.key == key), None)
