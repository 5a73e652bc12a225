"""Stop_unit: have systemd stop a unit, and start it again."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.unit import StopUnit
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import procs
from . import Act, Outcome, units
from .units import Unit, missed


class StopUnitInjector:
    """Carries out `stop_unit`."""

    kind = "stop_unit"
    spec: type[Fault] = StopUnit
    summary = "Stop a unit of systemd's, and start it again after a while."
    needs = units.NEEDS
    heals = "The unit is started, and systemd asked whether it is active."
    heals_within_s = 5.0
    example = "stop_unit: {for: 3s}"

    def lacking(self, fault: StopUnit) -> str:
        """Whether systemd answers."""
        return units.lacking(fault)

    def inject(self, permit: Permit, fault: StopUnit, act: Act) -> Outcome:
        """Stop the unit of each target; landed when it was seen to be down."""

        def stop(target: Seen, unit: Unit) -> Outcome:
            seen = unit.show("ActiveState", "Transient")
            if (state := seen["ActiveState"]) != "active":
                return missed(target, f"{unit} is {state}")
            if seen.get("Transient") == "yes":
                return missed(target, f"{unit} is transient: once stopped, there would be nothing to start")
            record = unit.record("stop_unit", target, act, int(fault.within_ms) + int(fault.for_ms))
            act.intend(record)
            unit.tell("stop", within_s=int(fault.within_ms) / 1_000)
            act.applied(record.key)
            if procs.alive(target.identity) or unit.show("ActiveState")["ActiveState"] not in ("inactive", "failed"):
                return Outcome(result="unsure", detail=f"{target}: {unit} was not seen to be down")
            return Outcome(result="landed", detail=f"{target}: {unit} is stopped")

        return units.on_each(permit, fault, act, self.lacking(fault), stop)

    def hold(self, permit: Permit, fault: StopUnit, act: Act) -> None:
        """It stays down by itself: to be stopped was asked for."""

    def heal(self, record: UndoRecord) -> Healing:
        """Start it, and look. One that is on its way down is waited for by systemd, which starts it then."""
        unit = Unit.of(record)
        unit.tell("start")
        state = unit.show("ActiveState")["ActiveState"]
        return Healing(verified=state == "active", note="" if state == "active" else f"{unit} is {state}")


INJECTOR = StopUnitInjector()
