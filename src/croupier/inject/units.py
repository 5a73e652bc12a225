"""What the faults on units share: which unit is meant, whether all of it may be hit, and how it is now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..model.faults.unit import OnUnit
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import UndoRecord
from ..system import procs, systemd
from ..system.clock import now_us
from . import Act, Outcome, together
from .groups import SLOW_MS, left_out

NEEDS = "systemd, and leave to manage its units (root, or one's own with `systemctl --user`)."
_WHERE = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
"""Where a user's systemd is found."""


class Unit:
    """One unit of one systemd."""

    def __init__(self, name: str, manager: systemd.Manager, env: Mapping[str, str]) -> None:
        self.name = name
        self.manager = manager
        self.env = {key: env[key] for key in _WHERE if key in env}

    @classmethod
    def of(cls, record: UndoRecord) -> Unit:
        """The one that a record is about."""
        return cls(record.data["unit"], record.data["manager"], record.data["env"])

    def show(self, *names: str) -> dict[str, str]:
        """Properties of it. Raises SystemdError."""
        return systemd.show(self.manager, self.name, *names, env=self.env)

    def tell(self, verb: str, *words: str, within_s: float = 30.0) -> None:
        """`systemctl VERB … UNIT …`; `words` before the name begin with a dash. Raises SystemdError."""
        options = [one for one in words if one.startswith("-")]
        others = [one for one in words if not one.startswith("-")]
        systemd.tell(self.manager, verb, *options, "--", self.name, *others, within_s=within_s, env=self.env)

    def record(self, fault: str, target: Seen, act: Act, lasts_ms: int, **data: Any) -> UndoRecord:
        """The record of what is about to be done to it."""
        return UndoRecord(
            key=act.key(target), fault=fault, who=target.identity,
            data={"unit": self.name, "manager": self.manager, "env": self.env, **data},
            deadline_us=now_us() + (lasts_ms + SLOW_MS) * 1_000,
        )  # fmt: skip

    def __str__(self) -> str:
        return self.name


def lacking(fault: OnUnit) -> str:
    """Whether systemd answers: the one that was named, or any."""
    if fault.manager != "auto":
        return systemd.lacking(fault.manager)
    lack = systemd.lacking("system")
    return lack if lack and systemd.lacking("user") else ""


def on_each(permit: Permit, fault: OnUnit, act: Act, lack: str, do: Callable[[Seen, Unit], Outcome]) -> Outcome:
    """Do something to the unit of each target, and say what came of it together. What systemd says no to is unsure."""
    decided_us = now_us()
    if lack:
        return Outcome(result="missed", detail=lack)
    return together([_on(one, fault, act, do) for one in permit.targets], us=now_us() - decided_us)


def _on(target: Seen, fault: OnUnit, act: Act, do: Callable[[Seen, Unit], Outcome]) -> Outcome:
    if not procs.alive(target.identity):
        return missed(target, "gone before its unit could be disturbed")
    if act.halted:
        return missed(target, "the round was halted first")
    name = systemd.unit_of(target.pid)
    if not name:
        return missed(target, "it lives in no unit of systemd's")
    unit = Unit(name, systemd.manager_of(target.pid) if fault.manager == "auto" else fault.manager, act.env)
    try:
        group = unit.show("ControlGroup").get("ControlGroup", "")
        if not systemd.is_in(target.pid, group):
            # The name alone proves nothing: another systemd may have a unit that is called so too.
            return missed(target, f"the {unit} of the {unit.manager}'s systemd is not the one that it lives in")
        why = left_out(target, group, act)
        return missed(target, why) if why else do(target, unit)
    except systemd.SystemdError as problem:
        return Outcome(result="unsure", detail=f"{target}: {unit}: {problem}")


def missed(target: Seen, why: str) -> Outcome:
    """Nothing was done."""
    return Outcome(result="missed", detail=f"{target}: {why}")
