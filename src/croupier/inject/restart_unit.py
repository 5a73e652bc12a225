"""Restart_unit: have systemd restart a unit. Nothing is left to undo."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.unit import RestartUnit
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import procs
from . import Act, Outcome, units
from .units import Unit


class RestartUnitInjector:
    """Carries out `restart_unit`."""

    kind = "restart_unit"
    spec: type[Fault] = RestartUnit
    summary = "Restart a unit of systemd's, as after an update."
    needs = units.NEEDS
    heals = "Nothing to undo: systemd starts it again by itself."
    example = "restart_unit: {}"

    def lacking(self, fault: RestartUnit) -> str:
        """Whether systemd answers."""
        return units.lacking(fault)

    def inject(self, permit: Permit, fault: RestartUnit, act: Act) -> Outcome:
        """Restart the unit of each target; landed when it was active again, and the target seen to be gone."""

        def restart(target: Seen, unit: Unit) -> Outcome:
            unit.tell("restart", within_s=int(fault.within_ms) / 1_000)
            state = unit.show("ActiveState")["ActiveState"]
            if procs.alive(target.identity) or state != "active":
                return Outcome(result="unsure", detail=f"{target}: {unit} was not seen to be restarted: it is {state}")
            return Outcome(result="landed", detail=f"{target}: {unit} was restarted")

        return units.on_each(permit, fault, act, self.lacking(fault), restart)

    def hold(self, permit: Permit, fault: RestartUnit, act: Act) -> None:
        """Nothing is held."""

    def heal(self, record: UndoRecord) -> Healing:
        """There are no records of it."""
        return Healing(verified=True, note="nothing to undo")


INJECTOR = RestartUnitInjector()
