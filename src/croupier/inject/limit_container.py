"""Limit_container: less of a processor or of memory for a container, by way of Docker; put back as it was.

Docker keeps a share of the processor in one of two ways, and takes no 0 for "no limit any more": what had none is put
back as a quota of -1, or as all the memory that there can be, which the kernel takes for none. Limits outlive a restart
of the container, so they are put back of one that is down as well.
"""

from __future__ import annotations

from typing import Any

from ..model.fault import Fault
from ..model.faults.container import LimitContainer
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import cgroups, docker, procs
from . import Act, Outcome, containers
from .containers import Container

_PERIOD_US = 100_000
_LEAST_BYTES = 6 << 20
_ALL_BYTES = (1 << 63) - 4096
_UNLIMITED = 1 << 60

Limits = dict[str, int]
"""Docker's own names (HostConfig of inspect, and the body of update) to numbers."""


class LimitContainerInjector:
    """Carries out `limit_container`."""

    kind = "limit_container"
    spec: type[Fault] = LimitContainer
    summary = "Give a container less of a processor or of memory, for a while."
    needs = containers.NEEDS
    heals = "The container gets back the limits that it had, and Docker is asked for them."
    example = "limit_container: {cpus: 0.2, memory: 64MiB, for: 3s}"

    def lacking(self, fault: LimitContainer) -> str:
        """Whether anything is to be limited, and whether Docker answers."""
        if fault.cpus is None and fault.memory_bytes is None:
            return "it limits nothing: give cpus or memory"
        if fault.memory_bytes is not None and fault.memory_bytes < _LEAST_BYTES:
            return "Docker takes no limit of memory below 6 MiB"
        return docker.lacking()

    def inject(self, permit: Permit, fault: LimitContainer, act: Act) -> Outcome:
        """Limit the container of each target; landed when the kernel was seen to hold it to that."""

        def limit(target: Seen, container: Container, seen: dict[str, Any]) -> Outcome:
            made = _limits(fault, seen["HostConfig"])
            prior = _of(seen["HostConfig"], made)
            record = container.record("limit_container", target, act, int(fault.for_ms), made=made, prior=prior)
            act.intend(record)
            container.tell("update", made)
            act.applied(record.key)
            return _seen(target, fault, container)

        return containers.on_each(permit, act, self.lacking(fault), limit)

    def hold(self, permit: Permit, fault: LimitContainer, act: Act) -> None:
        """A limit stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Put back what is still as we made it, and look."""
        container, made, prior = Container.of(record), record.data["made"], record.data["prior"]
        seen = container.inspect()
        if seen is None:
            return Healing(verified=True, note=f"{container} is gone")
        now = _of(seen["HostConfig"], made)
        if _plain(now) == _plain(prior):
            return Healing(verified=True, note=_gone(record))
        if now != made:
            return Healing(verified=True, note=f"somebody else has limited {container} since, and that stays")
        container.tell("update", _back(prior))
        seen = container.inspect()
        back = seen is None or _plain(_of(seen["HostConfig"], made)) == _plain(prior)
        note = _gone(record) if back else f"{container} did not get back the limits that it had"
        return Healing(verified=back, note=note)


def _limits(fault: LimitContainer, host: dict[str, Any]) -> Limits:
    found: Limits = {}
    if fault.cpus is not None:
        if host["NanoCpus"]:
            # Docker takes no quota for what was given a number of processors.
            found["NanoCpus"] = round(fault.cpus * 1_000_000_000)
        else:
            found |= {"CpuPeriod": _PERIOD_US, "CpuQuota": max(1_000, round(fault.cpus * _PERIOD_US))}
    if fault.memory_bytes is not None:
        found |= {"Memory": int(fault.memory_bytes), "MemorySwap": int(fault.memory_bytes)}
    return found


def _of(host: dict[str, Any], names: Limits) -> Limits:
    return {name: int(host[name] or 0) for name in names}


def _gone(record: UndoRecord) -> str:
    return "" if procs.alive(record.who) else f"{record.who} is gone"


def _back(prior: Limits) -> Limits:
    """What to tell Docker so that the prior limits hold again."""
    found = {name: value for name, value in prior.items() if value > 0}
    if "CpuQuota" in prior:
        found.setdefault("CpuQuota", -1)
    for name in {"Memory", "MemorySwap"} & prior.keys():
        found.setdefault(name, _ALL_BYTES)
    return found


def _plain(limits: Limits) -> Limits:
    """Only what limits: Docker has several numbers for none, and without a quota its period does not matter."""
    found = {name: value for name, value in limits.items() if 0 < value < _UNLIMITED}
    return found if "CpuQuota" in found else {name: value for name, value in found.items() if name != "CpuPeriod"}


def _seen(target: Seen, fault: LimitContainer, container: Container) -> Outcome:
    processors, memory = cgroups.processors(target.pid), cgroups.memory_bytes(target.pid)
    if fault.cpus is not None and (processors is None or abs(processors - max(0.01, fault.cpus)) > 0.005):
        return Outcome(result="unsure", detail=f"{target}: {container} was not seen to be held to {fault.cpus:g} cpus")
    if fault.memory_bytes is not None and memory != fault.memory_bytes // 4096 * 4096:
        return Outcome(result="unsure", detail=f"{target}: {container} was not seen to be held to {fault.memory_bytes}")
    said = [f"{fault.cpus:g} cpus"] if fault.cpus is not None else []
    said += [f"{fault.memory_bytes} of memory"] if fault.memory_bytes is not None else []
    return Outcome(result="landed", detail=f"{target}: {container} is held to {' and '.join(said)}")


INJECTOR = LimitContainerInjector()
