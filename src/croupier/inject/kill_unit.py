"""Kill_unit: have systemd send a signal to a unit. Nothing is left to undo."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.unit import KillUnit
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import procs
from . import Act, Outcome, units
from .units import Unit

_GONE_WITHIN_MS = 10_000


class KillUnitInjector:
    """Carries out `kill_unit`."""

    kind = "kill_unit"
    spec: type[Fault] = KillUnit
    summary = "Have systemd send a signal to everybody in a unit, or to its main process."
    needs = units.NEEDS
    heals = "Nothing to undo: whether it is brought back is what is being tested."
    example = "kill_unit: {signal: TERM}"

    def lacking(self, fault: KillUnit) -> str:
        """Whether systemd answers."""
        return units.lacking(fault)

    def inject(self, permit: Permit, fault: KillUnit, act: Act) -> Outcome:
        """Send it; landed when systemd said that it did, and with KILL to all when the target was seen to be gone."""

        def kill(target: Seen, unit: Unit) -> Outcome:
            signal = fault.signal.removeprefix("SIG")
            unit.tell("kill", f"--signal={signal}", f"--kill-who={fault.whom}")
            dies = signal == "KILL" and fault.whom == "all"
            if dies and not act.wait(_GONE_WITHIN_MS, lambda: not procs.alive(target.identity)):
                return Outcome(result="unsure", detail=f"{target}: it was not seen to end")
            return Outcome(result="landed", detail=f"{target}: {signal} to {fault.whom} of {unit}")

        return units.on_each(permit, fault, act, self.lacking(fault), kill)

    def hold(self, permit: Permit, fault: KillUnit, act: Act) -> None:
        """Nothing is held."""

    def heal(self, record: UndoRecord) -> Healing:
        """There are no records of it."""
        return Healing(verified=True, note="nothing to undo")


INJECTOR = KillUnitInjector()
