"""Heal many records, newest first, past every error, each within a time of its own. Nothing is called healed unseen."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from ..model.undo import Healing, UndoRecord, UndoStep
from . import Healer


def heal_all(
    records: Sequence[UndoRecord],
    healer_of: Callable[[str], Healer],
    note: Callable[[UndoStep], None],
    *,
    each_within_s: float = 1.0,
) -> list[tuple[UndoRecord, Healing]]:
    """Heal every record in the order given, and say how each went.

    `healer_of` finds what undoes a record by its fault's name; whatever it, or the healing, raises is that record's own
    trouble. `note` writes the step down; where that fails, healing goes on.
    """
    return [(record, _heal(record, healer_of, note, each_within_s)) for record in records]


def _heal(
    record: UndoRecord,
    healer_of: Callable[[str], Healer],
    note: Callable[[UndoStep], None],
    within_s: float,
) -> Healing:
    try:
        healer = healer_of(record.fault)
        # Whoever has to wait for somebody else's daemon says so: better undone late than not.
        with _no_longer_than(max(within_s, getattr(healer, "heals_within_s", 0.0))):
            healing = healer.heal(record)
    except Exception as error:
        healing = Healing(verified=False, note=f"{type(error).__name__}: {error}")
    try:
        note(UndoStep(key=record.key, state="verified" if healing.verified else "healed", note=healing.note))
    except Exception:
        # A full disk: the record stays open there, and is healed again by whoever reads it, which does no harm.
        return healing
    return healing


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Interrupt what runs here after so long. Only a main thread can be interrupted; elsewhere there is no limit."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
