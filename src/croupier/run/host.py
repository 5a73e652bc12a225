"""Two hosts: the live one, on which injections are carried out, and the rehearsal, on which they are only told.

Two behaviours are two implementations, so that no line elsewhere asks whether this is a dry run.
"""

from __future__ import annotations

import threading
from typing import Protocol

from ..inject import Act, Healing, Outcome
from ..model.guard import Permit
from ..model.undo import UndoRecord
from ..registry import Catalogue

HEAL_WITHIN_S = 5.0
"""How long undoing one record may take."""


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
        """Undo one record. A heal that hangs is left behind, so that the others are healed as well."""
        told: list[Healing] = []

        def heal() -> None:
            try:
                told.append(self._catalogue.injector(record.fault).heal(record))
            except Exception as problem:
                told.append(Healing(verified=False, note=f"{type(problem).__name__}: {problem}"))

        thread = threading.Thread(target=heal, name=f"croupier-heal-{record.key}", daemon=True)
        thread.start()
        thread.join(HEAL_WITHIN_S)
        return told[0] if told else Healing(verified=False, note=f"it was not undone within {HEAL_WITHIN_S:g} s")


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
