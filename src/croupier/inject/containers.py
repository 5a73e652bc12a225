"""What the faults on containers share: which container is meant, whether all of it may be hit, and how it is now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import cgroups, docker, procs
from ..system.clock import now_us
from . import Act, Outcome, together
from .groups import SLOW_MS, left_out

NEEDS = "Docker, and leave to use its socket."


class Container:
    """One container, by its full id, at the daemon of one socket."""

    def __init__(self, socket: str, id: str, name: str = "") -> None:
        self.socket = socket
        self.id = id
        self.name = name or id[:12]

    @classmethod
    def of(cls, record: UndoRecord) -> Container:
        """The one that a record is about."""
        return cls(record.data["socket"], record.data["container"], record.data["name"])

    def inspect(self) -> dict[str, Any] | None:
        """What Docker knows of it now; None where it is gone. Raises DockerError."""
        return docker.inspect(self.socket, self.id)

    def tell(self, what: str, body: Any = None, *, within_s: float = 10.0) -> Any:
        """Have Docker do something to it. Raises DockerError."""
        return docker.ask(self.socket, "POST", f"/containers/{self.id}/{what}", body, within_s=within_s)

    def state(self) -> str:
        """`running`, `paused`, `exited` and the like; "" where it is gone. Raises DockerError."""
        seen = self.inspect()
        return str(seen["State"]["Status"]) if seen else ""

    def record(self, fault: str, target: Seen, act: Act, lasts_ms: int, **data: Any) -> UndoRecord:
        """The record of what is about to be done to it."""
        return UndoRecord(
            key=act.key(target), fault=fault, who=target.identity,
            data={"socket": self.socket, "container": self.id, "name": self.name, **data},
            deadline_us=now_us() + (lasts_ms + SLOW_MS) * 1_000,
        )  # fmt: skip

    def __str__(self) -> str:
        return f"container {self.name}"


def on_each(permit: Permit, act: Act, lack: str, do: Callable[[Seen, Container, dict[str, Any]], Outcome]) -> Outcome:
    """Do something to the container of each target, and say what came of it together.

    `do` gets the target, its container, and what Docker knows of that; what Docker says no to is unsure.
    """
    decided_us = now_us()
    if lack:
        return Outcome(result="missed", detail=lack)
    return together([_on(one, act, do) for one in permit.targets], us=now_us() - decided_us)


def _on(target: Seen, act: Act, do: Callable[[Seen, Container, dict[str, Any]], Outcome]) -> Outcome:
    if not procs.alive(target.identity):
        return missed(target, "gone before its container could be disturbed")
    if act.halted:
        return missed(target, "the round was halted first")
    id = docker.container_of(target.pid)
    if not id:
        return missed(target, "it lives in no container of Docker's")
    try:
        container = Container(docker.address(act.env), id)
        seen = container.inspect()
        if seen is None:
            return missed(target, f"Docker knows of no {container}")
        container.name = str(seen["Name"]).removeprefix("/")
        path = next(one for one in cgroups.paths(target.pid) or ("/",) if id in one or one == "/")
        # With the whole of it, in case that the target lives in a cgroup of its own within the container.
        why = left_out(target, f"{path.partition(id)[0]}{id}{path.partition(id)[2].partition('/')[0]}", act)
        return missed(target, why) if why else do(target, container, seen)
    except docker.DockerError as problem:
        return Outcome(result="unsure", detail=f"{target}: {problem}")


def missed(target: Seen, why: str) -> Outcome:
    """Nothing was done."""
    return Outcome(result="missed", detail=f"{target}: {why}")


def healed(record: UndoRecord, wrong: str, undo: Callable[[Container], object]) -> Healing:
    """Undo where the container is in the wrong state, and see that it is running then; one that is gone is healed.

    In any other state somebody else has had it since, and it is left as it is.
    """
    container = Container.of(record)
    if container.state() == wrong:
        undo(container)
    state = container.state()
    note = "" if state == "running" else f"{container} is {state or 'gone'}"
    return Healing(verified=state != wrong, note=note)
