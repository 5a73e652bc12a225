"""Freeze_unit: have systemd freeze a unit, and thaw it."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.unit import FreezeUnit
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import freezer, systemd
from . import Act, Outcome, units
from .units import Unit, missed


class FreezeUnitInjector:
    """Carries out `freeze_unit`."""

    kind = "freeze_unit"
    spec: type[Fault] = FreezeUnit
    summary = "Freeze a whole unit of systemd's, for a while."
    needs = f"{units.NEEDS} And cgroups v2 alone."
    heals = "The unit is thawed, and systemd asked whether it runs."
    example = "freeze_unit: {for: 3s}"

    def lacking(self, fault: FreezeUnit) -> str:
        """Whether systemd answers."""
        return units.lacking(fault)

    def inject(self, permit: Permit, fault: FreezeUnit, act: Act) -> Outcome:
        """Freeze the unit of each target; landed when the kernel was seen to have frozen it."""

        def freeze(target: Seen, unit: Unit) -> Outcome:
            state = unit.show("FreezerState").get("FreezerState", "")
            if state != "running":
                return missed(target, f"{unit} is {state} already" if state else "this systemd has no freezer")
            record = unit.record("freeze_unit", target, act, int(fault.for_ms))
            act.intend(record)
            try:
                unit.tell("freeze", within_s=10)
            except systemd.SystemdError as problem:
                if "not support" in str(problem):
                    return missed(target, f"systemd cannot freeze here: {problem}")
                raise
            act.applied(record.key)
            if not freezer.is_frozen(freezer.home_of(target.pid, 2), 2):
                return Outcome(result="unsure", detail=f"{target}: {unit} was not seen to stand still")
            return Outcome(result="landed", detail=f"{target}: {unit} is frozen")

        return units.on_each(permit, fault, act, self.lacking(fault), freeze)

    def hold(self, permit: Permit, fault: FreezeUnit, act: Act) -> None:
        """A frozen unit stays so by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Thaw it, and look."""
        unit = Unit.of(record)
        if unit.show("FreezerState").get("FreezerState", "running") != "running":
            unit.tell("thaw", within_s=10)
        state = unit.show("FreezerState").get("FreezerState", "running")
        return Healing(verified=state == "running", note="" if state == "running" else f"{unit} is {state}")


INJECTOR = FreezeUnitInjector()
