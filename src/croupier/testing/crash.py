"""Die at a chosen moment: an injection in a child process that is killed before a line of the injector is run.

The child is a fork, so any injector can be tried, however it was made, and what it learned dies with it: whoever
heals afterwards has the records and nothing else. Moments are the lines of the injector's own module, each at its
first time, and both sides of every step that it takes through the act.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import msgspec

from ..inject import Injector
from ..model.fault import Fault
from ..model.guard import Permit
from ..model.undo import UndoStep
from .act import RecordingAct, Step

THE_END = "the end"
_LAPSED_MS = 10
_LAPSED_WAITS = 6


class Death(msgspec.Struct, frozen=True):
    """What a dead injector leaves: its undo log, and the moments that it went through."""

    undo: tuple[UndoStep, ...]
    moments: tuple[str, ...]
    raised: str = ""
    stuck: bool = False
    """It had to be ended, because it did not come to its moment in time."""


class _Line(msgspec.Struct):
    undo: UndoStep | None = None
    moment: str = ""
    raised: str = ""


def die_at(moment: str, injector: Injector, fault: Fault, permit: Permit, *, file: str, within_s: float) -> Death:
    """Inject (and hold, in a time lapse) in a child that is killed at this moment, or at the end.

    `file` is the path of the module whose lines count.
    """
    with tempfile.TemporaryDirectory(prefix="croupier-kit-") as directory:
        path = Path(directory, "undo")
        path.touch()
        child = _forked(lambda: _Mortal(path, moment, file).live(injector, fault, permit))
        stuck = not _ended(child, within_s)
        lines = [msgspec.json.decode(line, type=_Line) for line in path.read_bytes().splitlines()]
    return Death(
        undo=tuple(one.undo for one in lines if one.undo is not None),
        moments=tuple(one.moment for one in lines if one.moment),
        raised=next((one.raised for one in lines if one.raised), ""),
        stuck=stuck,
    )


def spread(moments: tuple[str, ...], count: int) -> tuple[str, ...]:
    """At most `count` of them, evenly spread over the whole."""
    if len(moments) <= count:
        return moments
    return tuple(moments[at * len(moments) // count] for at in range(count))


class _Mortal:
    """The life of the child."""

    def __init__(self, path: Path, moment: str, file: str) -> None:
        self._log = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._moment = moment
        self._file = file
        self._been: set[str] = set()

    def live(self, injector: Injector, fault: Fault, permit: Permit) -> None:
        act = _LapsingAct(permit, on_step=self._stepped)
        self._act = act
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            outcome = injector.inject(permit, fault, act)
            if outcome.result == "landed":
                act.lapse = True
                injector.hold(permit, fault, act)
        except Exception as problem:
            self._write(_Line(raised=f"{type(problem).__name__}: {problem}"))
        finally:
            sys.settrace(None)

    def _stepped(self, moment: Literal["before", "after"], step: Step) -> None:
        if moment == "after" and step.what in ("intend", "applied"):
            self._write(_Line(undo=self._act.undo[-1]))
        # How often it waits depends on the machine; a moment should come again in the next run.
        if step.what != "wait":
            self._reach(f"{moment} {step.what} {step.about if step.what != 'signal' else ''}".strip())

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != self._file:
            return None
        if event == "line":
            self._reach(f"before line {frame.f_lineno}")
        return self._trace

    def _reach(self, moment: str) -> None:
        if moment in self._been:
            return
        self._been.add(moment)
        if moment == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._moment == THE_END:
            self._write(_Line(moment=moment))

    def _write(self, line: _Line) -> None:
        os.write(self._log, msgspec.json.encode(line) + b"\n")


class _LapsingAct(RecordingAct):
    """An act on which time flies once the fault holds, and which is over after a few waits."""

    lapse = False
    _waits = 0

    def wait(self, ms: float, until: Callable[[], bool] | None = None) -> bool:
        if not self.lapse:
            return super().wait(ms, until)
        self._waits += 1
        if self._waits >= _LAPSED_WAITS:
            self.halt()
        return super().wait(min(ms, _LAPSED_MS), until)


def _forked(work: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        # Python warns of forks beside threads; the child only runs the injector, and is killed.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    try:
        work()
    finally:
        os._exit(0)


def _ended(child: int, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() >= end:
            # Not reaped yet, so the number is still that child's.
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.001)
    return True
