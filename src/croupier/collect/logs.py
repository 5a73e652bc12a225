"""Logs: the output of a process, line by line, with the time each line came.

Fed from the run's loop with whatever bytes a pipe gave. Nothing here waits, and nothing here raises for the disk: the
pipes of the program under test must be emptied whatever happens to our files.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from .redact import Redactor

LONGEST_LINE = 64 * 1024
"""Bytes of a line that are kept."""
_TAIL_LINES = 1_000
_TAIL_CHARACTERS = 256 * 1024
# A line that is cut may end in the middle of a secret, which nobody would recognise by its first half.
_UNSAFE_END = 4 * 1024
_STAMP = re.compile(r"\+(\d+)\.(\d{6}) ", re.ASCII)

Listener = Callable[[str, int], None]


class Matches:
    """How many lines matched one regular expression, since `watch`."""

    __slots__ = ("_search", "count")

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.count = 0
        self._search = pattern.search

    def look_at(self, line: str) -> None:
        """Count the line if it matches."""
        if self._search(line):
            self.count += 1


def read_log(path: Path) -> Iterator[tuple[int, str]]:
    """The time in µs and the text of each line that a sink wrote, the rotated part first. A missing file has none.

    Raises OSError for a file that is there and cannot be read.
    """
    for part in (path.with_name(f"{path.name}.1"), path):
        try:
            file = part.open(encoding="utf-8", errors="replace", newline="\n")
        except FileNotFoundError:
            continue
        with file:
            for line in file:
                # What does not look like ours was torn when the disk was full.
                if found := _STAMP.match(line):
                    yield int(found[1]) * 1_000_000 + int(found[2]), line[found.end() :].rstrip("\n")


class LogSink:
    """One stream of one process. `feed`, `end` and `close` belong to the loop's thread; the rest is for any.

    On disk stands `+12.345678 line` with secrets taken out. At `limit_bytes` the file is renamed to `….1` and a fresh
    one begun, so at most about twice that much is kept: the newest. `listeners` get each whole line *as it was
    printed* with the time in µs; who writes it down has to redact it.
    """

    def __init__(self, path: Path, redactor: Redactor, limit_bytes: int) -> None:
        """The file is made when the first line comes."""
        self.path = path
        self.listeners: list[Listener] = []
        self.trouble = ""
        """Why nothing more is written, in a sentence; "" while all is well."""
        self.on_trouble: Callable[[str], None] | None = None
        """Called once, when the disk refuses."""
        self.lines = 0
        self._redactor = redactor
        self._limit = limit_bytes
        self._fd: int | None = None
        self._size = 0
        self._held = bytearray()
        self._length = 0
        self._last_us = 0
        self._lock = threading.Lock()
        self._watched: dict[str, Matches] = {}
        self._tail: deque[str] = deque()
        self._tail_size = 0

    # Fed by the loop.

    def feed(self, chunk: bytes, at_us: int) -> None:
        """Take what a pipe gave, at a time in µs since the run began."""
        lines = []
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._hold(chunk[start:end])
            lines.append(self._let_go())
            start = end + 1
        self._hold(chunk[start:])
        self._take(lines, at_us)
        for line, _ in lines:
            for listener in self.listeners:
                listener(line, at_us)

    def end(self, at_us: int) -> None:
        """The stream is over. A last line without an end is kept, but no listener gets it: it may have been cut."""
        if self._length:
            self._take([self._let_go()], at_us)

    def close(self) -> None:
        """Write what is left, and close the file. Twice is once."""
        self.end(self._last_us)
        self._close_file()

    # For anybody.

    def watch(self, regex: str) -> Matches:
        """Count the lines that match from now on, and those still in memory. Raises re.error.

        Called before the process is started it misses nothing; later, it knows of the last lines only.
        """
        with self._lock:
            found = self._watched.get(regex)
            if found is None:
                found = Matches(re.compile(regex))
                for line in self._tail:
                    found.look_at(line)
                self._watched[regex] = found
            return found

    def matches(self, regex: str) -> int:
        """How many lines matched; see `watch`."""
        return self.watch(regex).count

    def tail(self) -> tuple[str, ...]:
        """The last lines, with secrets taken out."""
        with self._lock:
            kept = tuple(self._tail)
        return tuple(self._redactor.clean(line) for line in kept)

    # Lines.

    def _hold(self, piece: bytes) -> None:
        self._length += len(piece)
        self._held += piece[: LONGEST_LINE - len(self._held)]

    def _let_go(self) -> tuple[str, int]:
        """The line that is complete now, and how long it was."""
        raw, length = bytes(self._held), self._length
        self._held.clear()
        self._length = 0
        if length == len(raw):
            raw = raw.removesuffix(b"\r")
        return raw.decode(errors="replace"), length

    def _take(self, lines: list[tuple[str, int]], at_us: int) -> None:
        self._last_us = at_us
        if not lines:
            return
        self.lines += len(lines)
        with self._lock:
            for line, _ in lines:
                for matches in self._watched.values():
                    matches.look_at(line)
                self._tail.append(line)
                self._tail_size += len(line)
            while len(self._tail) > _TAIL_LINES or (self._tail_size > _TAIL_CHARACTERS and len(self._tail) > 1):
                self._tail_size -= len(self._tail.popleft())
        if not self.trouble:
            stamp = f"+{at_us // 1_000_000}.{at_us % 1_000_000:06}"
            self._write("".join(f"{stamp} {one}\n" for one in self._printable(lines)).encode(errors="replace"))

    def _printable(self, lines: list[tuple[str, int]]) -> Iterator[str]:
        for line, length in lines:
            clean = self._redactor.clean(line)
            if length > LONGEST_LINE:
                clean = f"{clean[:-_UNSAFE_END]} … (cut: the line has {length} bytes)"
            # A lone carriage return would look like a new line to whoever reads the file as text.
            yield clean.replace("\r", "␍")

    # The file.

    def _write(self, data: bytes) -> None:
        try:
            if self._fd is not None and self._size and self._size + len(data) > self._limit:
                self._rotate()
            if self._fd is None:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
                self._size = os.fstat(self._fd).st_size
            left = memoryview(data)
            while left:
                written = os.write(self._fd, left)
                self._size += written
                left = left[written:]
        except OSError as problem:
            self.trouble = f"the log {self.path.name} could not be written further: {problem.strerror or problem}"
            self._close_file()
            if self.on_trouble is not None:
                self.on_trouble(self.trouble)

    def _rotate(self) -> None:
        self._close_file()
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))

    def _close_file(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            try:
                os.close(fd)
            except OSError:
                pass  # A disk may report the failure of an earlier write here; the descriptor is gone all the same.
