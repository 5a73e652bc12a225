"""How readers answer: in sentences, in time, and without raising."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import msgspec

from ..model.probe import Reading
from ..model.secret import hide_credentials
from .view import View

T = TypeVar("T")
# Each reader takes the probe of its own kind; the registry pairs them by the probe's tag.
Reader = Callable[[Any, View], Reading]
LONGEST = 500
"""Characters of a detail; what is longer is cut in the middle, since both ends tell most."""


class Deadline:
    """The moment at which an attempt is over."""

    __slots__ = ("_end", "within_ms")

    def __init__(self, within_ms: float) -> None:
        self.within_ms = within_ms
        self._end = time.monotonic() + within_ms / 1_000

    def left(self) -> float:
        """Seconds until then. Raises TimeoutError when it has come."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    @property
    def over(self) -> bool:
        """Whether it has come."""
        return time.monotonic() >= self._end


def yes(detail: str, **values: Any) -> Reading:
    """It held."""
    return Reading(held=True, detail=detail, values=values)


def no(detail: str, **values: Any) -> Reading:
    """It did not hold."""
    return Reading(held=False, detail=detail, values=values)


def unknown(detail: str, **values: Any) -> Reading:
    """It could not be told."""
    return Reading(held=None, detail=detail, values=values)


def answering(read: Callable[[Any, View], Reading]) -> Reader:
    """A reader that times itself, hides credentials, and answers *unknown* where it would raise."""

    @wraps(read)
    def answered(probe: Any, view: View) -> Reading:
        began = time.monotonic()
        try:
            reading = read(probe, view)
        except Exception as problem:  # Whatever a reader did not think of is our failure, never a finding.
            reading = unknown(f"the probe itself failed: {type(problem).__name__}: {problem}")
        return msgspec.structs.replace(
            reading, detail=shorten(hide_credentials(reading.detail)), took_ms=(time.monotonic() - began) * 1_000
        )

    return answered


def shorten(text: str, longest: int = LONGEST) -> str:
    """A text on one line, of at most so many characters."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]} … {text[len(text) - longest // 3 + 3 :]}"


def many(count: int, one: str, more: str = "") -> str:
    """`1 line`, `3 lines`."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def span(ms: float) -> str:
    """A length of time as people say it: `340ms`, `90.1s`, `12m`."""
    if ms < 1_000:
        return f"{ms:.0f}ms"
    return f"{ms / 1_000:.1f}s" if ms < 300_000 else f"{ms / 60_000:.0f}m"


def size(count: float) -> str:
    """A number of bytes as people say it: `17B`, `4.1KiB`, `117.7MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1_024:
            return f"{count:.0f}B" if unit == "B" else f"{count:.1f}{unit}"
        count /= 1_024
    return f"{count:.1f}GiB"


_hanging: dict[str, threading.Thread] = {}
_hanging_lock = threading.Lock()


def in_time(what: str, job: Callable[[], T], within_ms: float) -> T:
    """The result of a job that the kernel may hold up for ever, such as a read from a dead file system.

    Raises TimeoutError when it is not done in time. Its thread is left behind then, and as long as it hangs `what`
    is not tried again: a probe that is asked ten times a second must not fill the machine with threads.
    """
    with _hanging_lock:
        earlier = _hanging.get(what)
        if earlier is not None and earlier.is_alive():
            raise TimeoutError("an earlier attempt hangs still")
        _hanging.pop(what, None)
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(job())
        except BaseException as problem:
            failed.append(problem)

    thread = threading.Thread(target=work, name=f"croupier-probe {what}"[:60], daemon=True)
    thread.start()
    thread.join(within_ms / 1_000)
    if failed:
        raise failed[0]
    if not done:
        with _hanging_lock:
            _hanging[what] = thread
        raise TimeoutError
    return done[0]
