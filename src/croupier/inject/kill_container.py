"""Kill_container: have Docker send a signal to the first process of a container. Nothing is left to undo."""

from __future__ import annotations

from typing import Any

from ..model.fault import Fault
from ..model.faults.container import KillContainer
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import docker, procs
from . import Act, Outcome, containers
from .containers import Container, missed

_GONE_WITHIN_MS = 10_000


class KillContainerInjector:
    """Carries out `kill_container`."""

    kind = "kill_container"
    spec: type[Fault] = KillContainer
    summary = "Have Docker send a signal to a container's first process, as by its operator."
    needs = containers.NEEDS
    heals = "Nothing to undo: whether it is brought back is what is being tested."
    example = "kill_container: {signal: TERM}"

    def lacking(self, fault: KillContainer) -> str:
        """Whether Docker answers."""
        return docker.lacking()

    def inject(self, permit: Permit, fault: KillContainer, act: Act) -> Outcome:
        """Send it; landed when Docker said that it did, and with KILL when the target was seen to be gone."""

        def kill(target: Seen, container: Container, seen: dict[str, Any]) -> Outcome:
            if seen["State"]["Status"] != "running":
                return missed(target, f"{container} is {seen['State']['Status']}")
            signal = fault.signal.removeprefix("SIG")
            container.tell(f"kill?signal={signal}")
            if signal == "KILL" and not act.wait(_GONE_WITHIN_MS, lambda: not procs.alive(target.identity)):
                return Outcome(result="unsure", detail=f"{target}: it was not seen to end")
            return Outcome(result="landed", detail=f"{target}: {signal} to {container}")

        return containers.on_each(permit, act, self.lacking(fault), kill)

    def hold(self, permit: Permit, fault: KillContainer, act: Act) -> None:
        """Nothing is held."""

    def heal(self, record: UndoRecord) -> Healing:
        """There are no records of it."""
        return Healing(verified=True, note="nothing to undo")


INJECTOR = KillContainerInjector()
