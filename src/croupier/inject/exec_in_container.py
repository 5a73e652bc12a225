"""Exec_in_container: run a command inside of a container. What it does is its own; what is left of it is ended."""

from __future__ import annotations

from typing import Any

import msgspec

from ..model.fault import Fault
from ..model.faults.container import ExecInContainer
from ..model.guard import Permit
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..system import docker, procs, signals
from . import Act, Outcome, containers
from .containers import Container, missed


class ExecInContainerInjector:
    """Carries out `exec_in_container`."""

    kind = "exec_in_container"
    spec: type[Fault] = ExecInContainer
    summary = "Run a command inside of a container."
    needs = containers.NEEDS
    heals = "A command that still runs is ended. What it has done stays done."
    example = "exec_in_container: {command: [rm, -f, /tmp/cache], within: 5s}"

    def lacking(self, fault: ExecInContainer) -> str:
        """Whether there is a command, and Docker answers."""
        return docker.lacking() if fault.command and fault.command[0] else "the command is empty"

    def inject(self, permit: Permit, fault: ExecInContainer, act: Act) -> Outcome:
        """Run it in the container of each target; landed when it ended as it should."""

        def run(target: Seen, container: Container, seen: dict[str, Any]) -> Outcome:
            if seen["State"]["Status"] != "running":
                return missed(target, f"{container} is {seen['State']['Status']}")
            made = container.tell("exec", {"Cmd": list(fault.command)})["Id"]
            lasts_ms = int(fault.within_ms) + 1_000
            record = container.record("exec_in_container", target, act, lasts_ms, exec=made, process=None)
            act.intend(record)
            docker.ask(container.socket, "POST", f"/exec/{made}/start", {"Detach": True})
            if (who := _process(record)) is not None:
                record = msgspec.structs.replace(record, data={**record.data, "process": [who.pid, who.started]})
                act.intend(record)
            act.applied(record.key)
            ended = act.wait(int(fault.within_ms), lambda: not _look(record)["Running"])
            code = _look(record)["ExitCode"]
            if not ended or code is None:
                return Outcome(result="unsure", detail=f"{target}: {fault.command[0]} had not ended in time")
            told = f"{target}: {fault.command[0]} ended with {code} in {container}"
            return Outcome(result="landed" if code in fault.exit_codes else "unsure", detail=told)

        return containers.on_each(permit, act, self.lacking(fault), run)

    def hold(self, permit: Permit, fault: ExecInContainer, act: Act) -> None:
        """Nothing is held."""

    def heal(self, record: UndoRecord) -> Healing:
        """End the command where it still runs, with all that is below it."""
        who = _process(record)
        for one in () if who is None else (who, *procs.family(who.pid)):
            signals.send(one, "KILL")
        if who is None:
            return Healing(verified=True, note="the command had ended")
        with signals.Watch(who) as watch:
            watch.gone(500)
        alive = procs.alive(who)
        return Healing(verified=not alive, note=f"{who} is still alive" if alive else "the command was ended")


def _look(record: UndoRecord) -> dict[str, Any]:
    found: dict[str, Any] = docker.ask(record.data["socket"], "GET", f"/exec/{record.data['exec']}/json")
    return found


def _process(record: UndoRecord) -> Identity | None:
    """Who runs the command now; None where it does not run. Told by the record, or by Docker, and seen in there."""
    if (named := record.data["process"]) is not None:
        who: Identity | None = Identity(pid=named[0], started=named[1], boot=record.who.boot)
    else:
        try:
            seen = _look(record)
        except docker.DockerError as problem:
            if problem.status != 404:
                raise
            return None  # The daemon forgets a command when it, or its container, is gone.
        who = procs.identity(int(seen["Pid"])) if seen["Running"] and seen["Pid"] else None
    inside = who is not None and docker.container_of(who.pid) == record.data["container"]
    return who if who is not None and inside and procs.alive(who) else None


INJECTOR = ExecInContainerInjector()
