"""Arrangements carried out. One kind, one file: what a round sets up around its processes, and how it is taken down.

An arranger gets the spec as data and `Hands`. Before the first change to the machine it calls `hands.intend`; from
then on the guardian holds the undo record, and takes the arrangement down when the round is over, whoever has died by
then. `heal` works from the record alone, while the processes of the round may still be alive: what they still use is
detached rather than waited for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..model.target import Identity
from ..model.undo import Healing, UndoRecord

__all__ = ["Arranger", "Hands", "Healing"]


class Hands(Protocol):
    """What an arranger may do, lent by the round."""

    env: Mapping[str, str]
    """The environment for commands and helpers."""
    folder: str
    """A directory of this round, for what arrangements leave on disk while it lasts."""
    deadline_us: int
    """When everything must be taken down at the latest, on the monotonic clock."""
    keeper: Identity
    """The guardian: whom a record is about when it is about no process of the program."""

    def intend(self, record: UndoRecord) -> None:
        """Have a record on disk and held by the guardian before this returns. Raises HarnessError where it cannot."""

    def applied(self, key: str) -> None:
        """Say that what was intended has been done."""

    def start(self, name: str, argv: Sequence[str]) -> Identity:
        """Start a helper below the guardian; it ends with the round at the latest. Raises TargetError."""


class Arranger(Protocol):
    """One kind of arrangement."""

    kind: str
    """The word before the dot in `${KIND.NAME}`."""
    summary: str
    """One line, for the catalogue."""

    def lacking(self, spec: Any) -> str:
        """What this machine lacks for it, in a sentence; "" if nothing. Asked before anything is touched."""

    def stands_for(self, name: str, spec: Any, folder: str) -> str:
        """What `${KIND.NAME}` is replaced with. Nothing is set up yet."""

    def set_up(self, name: str, spec: Any, value: str, hands: Hands) -> None:
        """Make it; `value` is what `stands_for` said. Raises OSError or HarnessError where that cannot be."""

    def heal(self, record: UndoRecord) -> Healing:
        """Take it down from data alone. Idempotent."""
