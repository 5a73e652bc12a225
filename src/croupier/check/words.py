"""What is asked of a check and what it answers: the values that go between the processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..model.noun import Noun

DEFAULT_WITHIN_MS = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandCheck:
    """A program, started anew for each state. `{state}` in an argument stands for the directory."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCheck:
    """A Python function: it raises, or returns False, where the state did not recover.

    It is called with what it asks for: nothing, the state's directory (a Path), or that and what was acknowledged
    (text). Either `target`, as `module:function` or `file.py:function`, or the `function` itself.
    """

    target: str = ""
    function: Callable[..., Any] | None = None
    python: str = ""
    """The interpreter to call it in, where that is not ours."""


Check = CommandCheck | CallCheck


class Stage(Protocol):
    """Sets states up in a directory of its own, and takes back what a check did there. Pickled into the server."""

    way: Any
    why: str
    folder: Path

    def open(self) -> None:
        """Make ready, in the process that will start the checks."""

    def set_up(self, digest: str, *, plain: bool = False) -> Path:
        """The directory, holding this state."""

    def clear(self) -> None:
        """Forget what the check did."""

    def distrust(self, why: str) -> None:
        """Work without an overlay from now on."""

    def close(self) -> None:
        """Remove everything."""


class Checked(Noun, frozen=True, kw_only=True):
    """What a check said of one state."""

    held: bool
    reason: str = ""
    """Why not: the last line that it printed, the exception, or how it ended."""
    output: str = ""
    """The last part of what it printed."""
    took_ms: float = 0.0
    """The check alone, without setting the state up."""
    timed_out: bool = False
    way: str = ""
    """How the state was set up: `written`, `kept` or `overlay`."""
    left: int = 0
    """Processes that it left behind, which were ended."""


class Order(Noun, frozen=True, kw_only=True):
    """From the pool to a server: check one state."""

    state: str
    acks: str = ""
    acked: int = 0
    within_ms: float


class Ready(Noun, frozen=True, kw_only=True):
    """From a server to the pool, once: it can begin, or why it cannot (`wrong`: the user's doing)."""

    folder: str = ""
    way: str = ""
    why: str = ""
    wrong: str = ""
    broke: str = ""


class Answer(Noun, frozen=True, kw_only=True):
    """From a server to the pool: what came of an order. `broke` is our own trouble, never a finding."""

    checked: Checked | None = None
    broke: str = ""
    why: str = ""
