"""Pause_container: freeze a whole container by way of Docker, and let it go on."""

from __future__ import annotations

from typing import Any

from ..model.fault import Fault
from ..model.faults.container import PauseContainer
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import docker, freezer
from . import Act, Outcome, containers
from .containers import Container, missed


class PauseContainerInjector:
    """Carries out `pause_container`."""

    kind = "pause_container"
    spec: type[Fault] = PauseContainer
    summary = "Freeze a whole container, for a while."
    needs = containers.NEEDS
    heals = "The container is unpaused, and Docker asked whether it runs."
    example = "pause_container: {for: 3s}"

    def lacking(self, fault: PauseContainer) -> str:
        """Whether Docker answers."""
        return docker.lacking()

    def inject(self, permit: Permit, fault: PauseContainer, act: Act) -> Outcome:
        """Pause the container of each target; landed when the kernel was seen to have frozen it."""

        def pause(target: Seen, container: Container, seen: dict[str, Any]) -> Outcome:
            if seen["State"]["Status"] != "running":
                return missed(target, f"{container} is {seen['State']['Status']} already")
            record = container.record("pause_container", target, act, int(fault.for_ms))
            act.intend(record)
            container.tell("pause")
            act.applied(record.key)
            frozen = any(
                home and freezer.is_frozen(home, version)
                for version in freezer.VERSIONS
                if (home := freezer.home_of(target.pid, version))
            )
            if container.state() != "paused" or not frozen:
                return Outcome(result="unsure", detail=f"{target}: {container} was not seen to stand still")
            return Outcome(result="landed", detail=f"{target}: {container} is paused")

        return containers.on_each(permit, act, self.lacking(fault), pause)

    def hold(self, permit: Permit, fault: PauseContainer, act: Act) -> None:
        """A pause stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Unpause it, and look."""
        return containers.healed(record, "paused", lambda container: container.tell("unpause"))


INJECTOR = PauseContainerInjector()
