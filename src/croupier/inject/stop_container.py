"""Stop_container: stop a container by way of Docker, and start it again."""

from __future__ import annotations

from typing import Any

from ..model.fault import Fault
from ..model.faults.container import StopContainer
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import docker, procs
from ..system.clock import now_us
from . import Act, Outcome, containers
from .containers import Container, missed

_SLACK_S = 30


class StopContainerInjector:
    """Carries out `stop_container`."""

    kind = "stop_container"
    spec: type[Fault] = StopContainer
    summary = "Stop a container, and start it again after a while."
    needs = containers.NEEDS
    heals = "The container is started, unless somebody did already or it was removed, and Docker asked whether it runs."
    heals_within_s = 5.0
    example = "stop_container: {grace: 2s, for: 3s}"

    def lacking(self, fault: StopContainer) -> str:
        """Whether Docker answers."""
        return docker.lacking()

    def inject(self, permit: Permit, fault: StopContainer, act: Act) -> Outcome:
        """Stop the container of each target; landed when it was seen to be down."""

        def stop(target: Seen, container: Container, seen: dict[str, Any]) -> Outcome:
            if seen["State"]["Status"] != "running":
                return missed(target, f"{container} is {seen['State']['Status']}")
            if seen["HostConfig"]["AutoRemove"]:
                return missed(target, f"{container} was started with --rm, so stopping would remove it")
            grace_s = -(-int(fault.grace_ms) // 1_000)
            lasts_ms = int(fault.grace_ms) + int(fault.for_ms)
            down_us = now_us() + (grace_s + _SLACK_S) * 1_000_000
            since = seen["State"]["StartedAt"]
            record = container.record("stop_container", target, act, lasts_ms, since=since, down_us=down_us)
            act.intend(record)
            container.tell(f"stop?t={grace_s}", within_s=grace_s + _SLACK_S)
            act.applied(record.key)
            if container.state() != "exited" or procs.alive(target.identity):
                return Outcome(result="unsure", detail=f"{target}: {container} was not seen to be down")
            return Outcome(result="landed", detail=f"{target}: {container} is stopped")

        return containers.on_each(permit, act, self.lacking(fault), stop)

    def hold(self, permit: Permit, fault: StopContainer, act: Act) -> None:
        """It stays down by itself: to be stopped was asked for."""

    def heal(self, record: UndoRecord) -> Healing:
        """Start it, and look. One that may have been told to stop, and has not yet, is stopped first."""
        container = Container.of(record)
        seen = container.inspect()
        still = seen is not None and seen["State"]["Running"] and seen["State"]["StartedAt"] == record.data["since"]
        if still and now_us() < record.data["down_us"]:
            # Docker goes on with a stop although nobody waits for it any more: started now, it would be down later.
            container.tell("stop?t=0")
        return containers.healed(record, "exited", lambda one: one.tell("start"))


INJECTOR = StopContainerInjector()
