"""Undo records: what must be put back, as data that outlives whoever disturbed it.

Written before the first mutation, in the order `intent → applied → healed → verified`. `intent` alone must be
undoable, so every inverse is idempotent. No state is unrecoverable.
"""

from __future__ import annotations

from typing import Any, Literal

from .noun import Noun
from .target import Identity

UndoState = Literal["intent", "applied", "healed", "verified"]


class UndoRecord(Noun, frozen=True, kw_only=True):
    """One thing to put back: the fault that did it, on whom, with what it needs to know; never code."""

    key: str
    """Unique in a run: `<injection>.<nth target>`."""
    fault: str
    """The fault's name in the registry; its `heal` reads `data`."""
    who: Identity
    data: dict[str, Any] = {}
    deadline_us: int
    """When it must be undone at the latest, on the machine's monotonic clock (CLOCK_MONOTONIC), microseconds."""


class Healing(Noun, frozen=True, kw_only=True):
    """What came of undoing one record. `verified` is only true when it was seen; nothing left to undo is verified,
    with a note."""

    verified: bool
    note: str = ""


class UndoStep(Noun, frozen=True, kw_only=True):
    """How far one record has come; the last step of a key counts."""

    key: str
    state: UndoState
    note: str = ""
    record: UndoRecord | None = None
    """With `intent`, the record itself."""


def unfinished(steps: list[UndoStep]) -> tuple[UndoRecord, ...]:
    """The records that are not verified yet, newest first: what was done last is undone first."""
    records: dict[str, UndoRecord] = {}
    states: dict[str, UndoState] = {}
    for step in steps:
        if step.record is not None:
            records[step.key] = step.record
        states[step.key] = step.state
    return tuple(record for key, record in reversed(records.items()) if states.get(key) != "verified")
