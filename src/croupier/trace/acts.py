"""What a handler may answer for a call that stands still."""

from __future__ import annotations

from collections.abc import Callable

from ..model.noun import Noun


class Go(Noun, frozen=True, kw_only=True):
    """Let the kernel do it."""


class Kill(Noun, frozen=True, kw_only=True):
    """End the whole tree now. The call is not done, and no other call of the tree is done after this."""


class Fail(Noun, frozen=True, kw_only=True):
    """The call is not done, and fails with an error number (`errno.ENOSPC`)."""

    errno: int


class Short(Noun, frozen=True, kw_only=True):
    """The first bytes are written (or read) for real, and the program is told that it was these."""

    length: int
    over: Callable[[], bool] | None = None
    """As that of `Delay`, for a read that still waits for its first byte."""


class Torn(Noun, frozen=True, kw_only=True):
    """The first bytes are written for real, then the whole tree ends."""

    length: int


class Lie(Noun, frozen=True, kw_only=True):
    """The call is not done, and the program is told that it was."""

    result: int = 0


class Delay(Noun, frozen=True, kw_only=True):
    """Hold the call for a while, then let the kernel do it. Other threads and processes go on meanwhile."""

    delay_ms: int
    over: Callable[[], bool] | None = None
    """Whether it may go on before that; asked when somebody hurries whoever serves the call."""


Act = Go | Kill | Fail | Short | Torn | Lie | Delay

GO = Go()
KILL = Kill()
