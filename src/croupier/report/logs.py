"""Log lines around injections: read once, in a stream, and only as many as a page can carry.

Per injection: some lines before and some after, within a few seconds, of every process, in the order of time. Which
injections get theirs is decided first, the telling ones before the others, so that a log of any size passes by in
bounded memory.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from croupier.model.verdict import InjectionRow, Verdict

from .text import one_line

LogLines = Iterable[tuple[int, str, str]]

WINDOWS = 60
OF_A_KIND = 12
LINES_BEFORE = 8
LINES_AFTER = 16
LINES_A_WINDOW = 60
BEFORE_US = 2_000_000
AFTER_US = 6_000_000
LINE_CHARS = 300

_ALARMING = re.compile(r"\b(error|exception|traceback|fatal|panic|critical|segfault|corrupt\w*|abort\w*)\b", re.I)


@dataclass(slots=True)
class Line:
    """One line of a log, clean and cut to length."""

    at_us: int
    process: str
    stream: str
    text: str
    alarming: bool


@dataclass(slots=True)
class Window:
    """The lines around one injection."""

    number: int
    at_us: int
    lines: list[Line] = field(default_factory=list)
    left_out: int = 0


def telling(verdict: Verdict) -> list[InjectionRow]:
    """The injections in the order in which they are worth reading about, most telling first.

    Where there are many, no one kind of them may crowd out the others: a dozen of each come first.
    """
    blamed = {one.after_injection for one in verdict.findings if one.held is False}
    kinds: list[list[InjectionRow]] = [[] for _ in range(6)]
    for row in verdict.injections:
        is_kind = (
            row.number in blamed,
            row.open,
            row.result == "unsure",
            row.result == "missed",
            row.result == "landed",
        )
        kinds[is_kind.index(True) if True in is_kind else -1].append(row)
    if len(verdict.injections) > WINDOWS:
        kinds[4].sort(key=lambda row: -(row.recovered_ms or 0.0))
    first = [row for kind in kinds for row in kind[:OF_A_KIND]]
    return first + [row for kind in kinds for row in kind[OF_A_KIND:]]


def around(
    rows: Sequence[InjectionRow], processes: Iterable[str], logs: Callable[[str], LogLines]
) -> dict[int, Window]:
    """The lines around each of these injections, by number. A log that cannot be read is left out, with a line that
    says so."""
    windows = sorted((Window(row.number, row.due_us) for row in rows), key=lambda one: one.at_us)
    for process in processes:
        try:
            _gather(windows, process, logs(process))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            for window in windows:
                said = one_line(f"the log of {process} could not be read: {error}", LINE_CHARS)
                window.lines.append(Line(window.at_us, process, "croupier", said, False))
    for window in windows:
        window.lines.sort(key=lambda line: line.at_us)
        _bound(window)
    return {window.number: window for window in windows}


def _gather(windows: Sequence[Window], process: str, lines: LogLines) -> None:
    # Streams may come one after the other or mixed; each is in order in itself.
    streams: dict[str, _Passing] = {}
    for at_us, stream, text in lines:
        passing = streams.get(stream)
        if passing is None:
            passing = streams[stream] = _Passing(windows, process, stream)
        passing.take(at_us, text)
    for passing in streams.values():
        passing.end()


class _Passing:
    """One stream of one process, passing by the windows in order."""

    def __init__(self, windows: Sequence[Window], process: str, stream: str) -> None:
        self.process = process
        self.stream = stream
        self.waiting = deque(windows)
        self.opened: list[tuple[Window, int]] = []
        self.before: deque[tuple[int, str]] = deque(maxlen=LINES_BEFORE)

    def take(self, at_us: int, text: str) -> None:
        """The next line."""
        while self.waiting and at_us >= self.waiting[0].at_us:
            self.opened.append((self._open(self.waiting.popleft()), LINES_AFTER))
        if self.opened:
            self.opened = [self._continue(window, left, at_us, text) for window, left in self.opened
                           if at_us <= window.at_us + AFTER_US]  # fmt: skip
        if self.waiting:
            self.before.append((at_us, text))

    def end(self) -> None:
        """No more lines: what came last stands before the injections that came after it."""
        for window in self.waiting:
            self._open(window)

    def _open(self, window: Window) -> Window:
        since = window.at_us - BEFORE_US
        window.lines += [self._line(at_us, text) for at_us, text in self.before if at_us >= since]
        return window

    def _continue(self, window: Window, left: int, at_us: int, text: str) -> tuple[Window, int]:
        if left:
            window.lines.append(self._line(at_us, text))
        else:
            window.left_out += 1
        return window, max(0, left - 1)

    def _line(self, at_us: int, text: str) -> Line:
        said = one_line(text, LINE_CHARS)
        return Line(at_us, self.process, self.stream, said, _ALARMING.search(said) is not None)


def _bound(window: Window) -> None:
    excess = len(window.lines) - LINES_A_WINDOW
    if excess > 0:
        before = sum(line.at_us < window.at_us for line in window.lines)
        start = min(max(0, before - LINES_A_WINDOW // 3), excess)
        window.lines = window.lines[start : start + LINES_A_WINDOW]
        window.left_out += excess
