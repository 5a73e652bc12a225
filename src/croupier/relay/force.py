"""A rule in force: what it does to the chunks of the connections that it means, and how often it did."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..model.choice import ChoiceStream
from ..model.link import LinkRule, RuleState, mutated, slices, wait_us
from ..system.clock import now_us

if TYPE_CHECKING:
    from .flow import Flow, Link

_TICKS = 50
"""Into how many pieces a second of a limited bandwidth is cut."""
_REMEMBERED = 8
_LONGEST_REMEMBERED = 4_096


class Stop:
    """In a queue: here the connection is closed."""


class Hold:
    """In a queue: what follows waits until the rule is lifted."""

    def __init__(self, force: Force) -> None:
        self.force = force


Queued = tuple[int, "bytes | Stop | Hold | None"]
"""When it is due, and what: bytes, or the end of this direction (None)."""


class _Mark:
    """What a rule keeps of one direction of one connection."""

    def __init__(self, choices: ChoiceStream) -> None:
        self.choices = choices
        self.passed = 0
        self.free_us = 0
        self.earlier: deque[bytes] = deque(maxlen=_REMEMBERED)


class Chunk(NamedTuple):
    """Bytes on their way through the rules."""

    due_us: int
    data: bytes


class Force:
    """One rule that is in force."""

    def __init__(self, rule: LinkRule) -> None:
        self.rule = rule
        self.hits = 0
        self.torn = False
        self.links: set[Link] = set()
        self.in_force = True
        self._text = rule.match.encode()
        self._tearing = rule.torn
        self._changed = 0
        self._messages: Counter[str] = Counter()
        self._marks: dict[tuple[int, str], _Mark] = {}

    @property
    def state(self) -> RuleState:
        """How far it has come."""
        return RuleState(key=self.rule.key, hits=self.hits, links=len(self.links), torn=self.torn)

    @property
    def stalls(self) -> bool:
        """Whether nothing is passed on."""
        return self.rule.cut in ("partition", "time_out")

    def begin(self, link: Link, at: Callable[[int, Callable[[], None]], None]) -> None:
        """A connection comes under the rule; what ends it later is set by `at`."""
        self.links.add(link)
        if self.rule.cut not in ("reset", "time_out", "half_close"):
            return
        # A connection is never cut before it is one: whoever made it could not tell that from nobody listening.
        at(now_us() + self.rule.cut_after_us, lambda: self._end(link))

    def _end(self, link: Link) -> None:
        if not self.in_force or link not in self.links:
            return
        self.hits += 1
        if self.rule.cut == "half_close":
            for flow in link.flows:
                if self.rule.means(flow.direction):
                    flow.finish()
        else:
            link.close(reset=self.rule.cut == "reset")

    def forget(self, link: Link) -> None:
        """A connection has ended."""
        self.links.discard(link)
        for direction in ("up", "down"):
            self._marks.pop((link.number, direction), None)

    def through(self, flow: Flow, chunks: list[Chunk], *, asks: bool) -> tuple[list[Chunk], Stop | Hold | None, bytes]:
        """What becomes of these chunks: those that go on, what stands behind them, and what is left behind that."""
        rule, mark = self.rule, self._mark(flow)
        if self.stalls or rule.cut == "blackhole":
            self.hits += 1
            flow.link.tainted |= not self.stalls
            return (chunks if self.stalls else []), None, b""
        passed: list[Chunk] = []
        for due_us, data in chunks:
            meant = self._text in data
            if rule.mutations and meant:
                changed = self._mutated(mark, data, flow.direction)
                if self._tearing and changed is not data:
                    half = max(1, len(changed) // 2)
                    self._tearing = False
                    return [*passed, Chunk(due_us, changed[:half])], Hold(self), changed[half:]
                data = changed
            wait = wait_us(rule, mark.choices, asks=asks and meant)
            self.hits += wait > 0
            if rule.limit_bytes and mark.passed + len(data) > rule.limit_bytes:
                self.hits += 1
                return [*passed, Chunk(due_us + wait, data[: rule.limit_bytes - mark.passed])], Stop(), b""
            mark.passed += len(data)
            passed += self._paced(mark, due_us + wait, data)
        return passed, None, b""

    def _paced(self, mark: _Mark, due_us: int, data: bytes) -> list[Chunk]:
        rule = self.rule
        pieces = slices(data, rule.slice_bytes)
        self.hits += len(pieces) > 1
        chunks = [Chunk(due_us + nth * rule.slice_delay_us, piece) for nth, piece in enumerate(pieces)]
        if not rule.bandwidth_bytes:
            return chunks
        paced: list[Chunk] = []
        for due, chunk in chunks:
            for piece in slices(chunk, max(1, rule.bandwidth_bytes // _TICKS)):
                # It has arrived when its last byte has.
                mark.free_us = max(mark.free_us, due) + len(piece) * 1_000_000 // rule.bandwidth_bytes
                paced.append(Chunk(mark.free_us, piece))
        self.hits += 1
        return paced

    def _mutated(self, mark: _Mark, data: bytes, direction: str) -> bytes:
        rule = self.rule
        self._messages[direction] += 1
        earlier = tuple(mark.earlier)
        mark.earlier.append(data[:_LONGEST_REMEMBERED])
        # Of all connections: many programs send one message on each.
        if self._messages[direction] % rule.every or (rule.most and self._changed >= rule.most):
            return data
        self._changed += 1
        self.hits += 1
        return mutated(data, mark.choices.pick(rule.mutations), mark.choices, earlier)

    def _mark(self, flow: Flow) -> _Mark:
        key = flow.link.number, flow.direction
        if key not in self._marks:
            self._marks[key] = _Mark(self.rule.stream(*key))
        return self._marks[key]
