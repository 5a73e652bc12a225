"""Limit_unit: less of a processor or of memory for a unit, by way of systemd; put back as it was.

The values are put back as values: a file of ours below /run, where systemd keeps what was set at run time, stays with
them in it until the machine restarts.
"""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.unit import LimitUnit
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import cgroups, procs, systemd
from . import Act, Outcome, units
from .units import Unit

_US_PER_PERCENT = 10_000
_PAGE = 4096

Values = dict[str, int | None]
"""Properties as systemctl shows them, in microseconds a second and bytes; None for no limit."""


class LimitUnitInjector:
    """Carries out `limit_unit`."""

    kind = "limit_unit"
    spec: type[Fault] = LimitUnit
    summary = "Give a unit of systemd's less of a processor or of memory, for a while."
    needs = units.NEEDS
    heals = "The unit gets back the values that it had, and systemd is asked for them."
    example = "limit_unit: {cpu: 20, memory: 64MiB, for: 3s}"

    def lacking(self, fault: LimitUnit) -> str:
        """Whether anything is to be limited, and whether systemd answers."""
        if fault.cpu_percent is None and fault.memory_bytes is None:
            return "it limits nothing: give cpu or memory"
        return units.lacking(fault)

    def inject(self, permit: Permit, fault: LimitUnit, act: Act) -> Outcome:
        """Limit the unit of each target; landed when the kernel was seen to hold it to that."""

        def limit(target: Seen, unit: Unit) -> Outcome:
            wanted = _wanted(fault)
            prior = _now(unit, wanted)
            record = unit.record("limit_unit", target, act, int(fault.for_ms), made=wanted, prior=prior)
            act.intend(record)
            _set(unit, wanted)
            act.applied(record.key)
            return _seen(target, fault, unit)

        return units.on_each(permit, fault, act, self.lacking(fault), limit)

    def hold(self, permit: Permit, fault: LimitUnit, act: Act) -> None:
        """A limit stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Put back what is still as we made it, and look."""
        unit, made, prior = Unit.of(record), record.data["made"], record.data["prior"]
        now = _now(unit, made)
        gone = "" if procs.alive(record.who) else f"{record.who} is gone"
        if now == prior:
            return Healing(verified=True, note=gone)
        if any(now[name] not in (made[name], prior[name]) for name in made):
            return Healing(verified=True, note=f"somebody else has limited {unit} since, and that stays")
        _set(unit, prior)
        back = _now(unit, made) == prior
        return Healing(verified=back, note=gone if back else f"{unit} did not get back the limits that it had")


def _wanted(fault: LimitUnit) -> Values:
    found: Values = {}
    if fault.cpu_percent is not None:
        found["CPUQuotaPerSecUSec"] = fault.cpu_percent * _US_PER_PERCENT
    if fault.memory_bytes is not None:
        found["MemoryMax"] = int(fault.memory_bytes) // _PAGE * _PAGE
    return found


def _now(unit: Unit, names: Values) -> Values:
    shown = unit.show(*names)
    read = {"CPUQuotaPerSecUSec": systemd.microseconds, "MemoryMax": _bytes}
    return {name: read[name](shown.get(name, "infinity")) for name in names}


def _bytes(shown: str) -> int | None:
    return int(shown) if shown.isdigit() else None


def _set(unit: Unit, values: Values) -> None:
    said = []
    for name, value in values.items():
        if name == "MemoryMax":
            said.append(f"MemoryMax={'infinity' if value is None else value}")
        else:
            # As a percentage is how it is set; per second is how it is shown.
            said.append(f"CPUQuota={'' if value is None else f'{value / _US_PER_PERCENT:.2f}%'}")
    unit.tell("set-property", "--runtime", *said)


def _seen(target: Seen, fault: LimitUnit, unit: Unit) -> Outcome:
    processors, memory = cgroups.processors(target.pid), cgroups.memory_bytes(target.pid)
    wanted = _wanted(fault)
    if fault.cpu_percent is not None and (processors is None or abs(processors * 100 - fault.cpu_percent) > 0.5):
        return Outcome(result="unsure", detail=f"{target}: {unit} was not seen to be held to {fault.cpu_percent} %")
    if fault.memory_bytes is not None and memory != wanted["MemoryMax"]:
        return Outcome(result="unsure", detail=f"{target}: {unit} was not seen to be held to {fault.memory_bytes}")
    said = [f"{fault.cpu_percent} % of a processor"] if fault.cpu_percent is not None else []
    said += [f"{fault.memory_bytes} of memory"] if fault.memory_bytes is not None else []
    return Outcome(result="landed", detail=f"{target}: {unit} is held to {' and '.join(said)}")


INJECTOR = LimitUnitInjector()
