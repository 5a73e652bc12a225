"""Faults carried out. One fault, one file; a plugin's comes in by the same door (`croupier.faults`).

An injector gets a `Permit` (whom it may touch, already chosen and guarded), the fault as data, and an `Act`: its
hands. Before the first mutation that leaves something to put back it calls `act.intend`; from then on the guardian
holds the undo record, with its deadline, whatever becomes of croupier. `heal` undoes from the record alone.

What counts as landed is what was *seen*; what could not be seen is unsure; a target that had gone by itself is
missed. None of these is an exception. An injector that raises is reported as unsure, and its records are healed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ..model.fault import Fault
from ..model.guard import Below, Permit
from ..model.journal import Result
from ..model.noun import Noun
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..system import procs

__all__ = ["Act", "Healer", "Healing", "Injector", "Outcome", "PartAct", "together", "too_late"]


class Outcome(Noun, frozen=True, kw_only=True):
    """What came of one injection."""

    result: Result
    detail: str = ""
    us: int = 0
    """From the decision (the call of `inject`) until the act was delivered to every target, microseconds."""


class Act(Protocol):
    """The hands of an injector, lent by the round."""

    env: Mapping[str, str]
    """The environment for commands that an injector runs."""
    cwd: str

    @property
    def halted(self) -> bool:
        """The round is being stopped: return soon, begin nothing new."""

    def intend(self, record: UndoRecord) -> None:
        """Have a record on disk and held by the guardian before this returns. Call before the first mutation.

        Called again with the same key, the record takes the place of the one before. Raises HarnessError when it
        cannot be kept, or the round is halted: then nothing may be done. Raises PermissionError for a record about
        somebody whom the permit does not cover.
        """

    def applied(self, key: str) -> None:
        """Say that what was intended has been done."""

    def signal(self, who: Identity, name: str) -> bool:
        """Deliver a signal to exactly this process. False if it is gone, or the round is halted (ask `halted`).

        Raises PermissionError where the machine says no, and for whoever is neither a target of the permit nor was
        named by `below`.
        """

    def below(self, target: Seen) -> Below:
        """Who lives below a target now, judged by the guard as the target was: only `free` may be disturbed."""

    def wait(self, ms: float, until: Callable[[], bool] | None = None) -> bool:
        """Wait so long, or until something is true (True), or the round is halted (False; ask `halted`)."""

    def start(self, key: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Identity:
        """Start a helper of ours: a process that carries the fault out, as a child of the guardian.

        `key` is that of an undo record that was intended before. The helper carries `helpers.mark(key)` in its
        environment, by which healing finds it whoever died between its start and the record that names it. It ends
        with the round at the latest. Raises TargetError where it cannot be started, HarnessError once halted.
        """

    def part(self, nth: int) -> PartAct:
        """The nth part of a combination, from 0, to be carried out in its turn."""

    def key(self, target: Seen) -> str:
        """The key for this target's undo record: `<injection>.<nth target>`."""


class PartAct(Protocol):
    """One part of a combination, lent by the round."""

    def inject(self) -> Outcome:
        """Carry it out. Blocks; never raises for what the world does."""

    def hold(self) -> None:
        """Keep it up until its own time is over, or the act is halted. Blocks."""

    def heal(self) -> list[Healing]:
        """Undo what it left, now. A part that left nothing has nothing to heal."""


class Healer(Protocol):
    """Whoever undoes the records of one name. One that may need longer than the guardian gives says so, in seconds, as
    `heals_within_s`."""

    def heal(self, record: UndoRecord) -> Healing:
        """Undo from data alone. Idempotent; also called by the guardian and by `croupier recover`."""


class Injector(Healer, Protocol):
    """One kind of fault: its words for people, and how it is done and undone."""

    kind: str
    """The fault's name in the experiment file."""
    spec: type[Fault]
    """Its options."""
    summary: str
    """One line, for the catalogue."""
    needs: str
    """What it needs of the machine, or "" for nothing special."""
    heals: str
    """How it is undone, in a line."""
    example: str
    """A fragment of an experiment file, YAML."""

    def lacking(self, fault: Any) -> str:
        """What this machine lacks for it, in a sentence; "" if nothing. Asked before anything is touched."""

    def inject(self, permit: Permit, fault: Any, act: Act) -> Outcome:
        """Do it to the permit's targets. Runs in a worker thread, and may wait by `act.wait`."""

    def hold(self, permit: Permit, fault: Any, act: Act) -> None:
        """Upkeep while it lasts (a duty cycle); returns when `act.wait` says that it is over. Often nothing."""


def together(parts: Iterable[Outcome], us: int = 0) -> Outcome:
    """One outcome for several targets: unsure if any is, else landed if any is, else missed."""
    parts = tuple(parts)
    results = {one.result for one in parts}
    result: Result = "unsure" if "unsure" in results else "landed" if "landed" in results else "missed"
    return Outcome(result=result, detail="; ".join(one.detail for one in parts if one.detail), us=us)


def too_late(target: Seen, act: Act, done: str) -> Outcome | None:
    """Missed, where a target is gone before it was `done`, or the round was halted first; None where it may be done."""
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: gone before {done}")
    if act.halted:
        return Outcome(result="missed", detail=f"{target}: the round was halted first")
    return None
