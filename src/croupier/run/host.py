"""Two hosts: the live one, on which injections are carried out, and the rehearsal, on which they are only told.

Two behaviours are two implementations, so that no line elsewhere asks whether this is a dry run.
"""

from __future__ import annotations

from typing import Protocol

from ..inject import Act, Healing, Outcome
from ..model.guard import Permit
from ..model.undo import UndoRecord
from ..registry import Catalogue


class Host(Protocol):
    """Where injections happen."""

    rehearsed: bool

    def inject(self, permit: Permit, act: Act) -> Outcome:
        """Carry out what the permit allows. Blocks while it works; never raises for what the world does."""

    def hold(self, permit: Permit, act: Act) -> None:
        """Keep a lasting fault up until it is to be healed. Blocks."""

    def heal(self, record: UndoRecord) -> Healing:
        """Undo one record, and see that it is undone."""


class LiveHost:
    """This machine."""

    rehearsed = False

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def inject(self, permit: Permit, act: Act) -> Outcome:
        """Carry out what the permit allows."""
        fault = permit.injection.fault
        return self._catalogue.injector(fault.kind).inject(permit, fault, act)

    def hold(self, permit: Permit, act: Act) -> None:
        """Keep a lasting fault up."""
        fault = permit.injection.fault
        self._catalogue.injector(fault.kind).hold(permit, fault, act)

    def heal(self, record: UndoRecord) -> Healing:
        """Undo one record."""
        return self._catalogue.injector(record.fault).heal(record)


class Rehearsal:
    """Everything is decided as it would be, and nobody is touched."""

    rehearsed = True

    def inject(self, permit: Permit, act: Act) -> Outcome:
        """Say whom it would have hit."""
        whom = ", ".join(str(one) for one in permit.targets)
        return Outcome(result="missed", detail=f"rehearsed: {permit.injection.fault} would have hit {whom}")

    def hold(self, permit: Permit, act: Act) -> None:
        """Nothing is held."""

    def heal(self, record: UndoRecord) -> Healing:
        """Nothing was done, so nothing is left to undo."""
        return Healing(verified=True, note="rehearsed")
