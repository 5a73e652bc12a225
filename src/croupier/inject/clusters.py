"""What the faults on a cluster share: once for all targets, as it is the cluster that is hurt; and nodes put back."""

from __future__ import annotations

from collections.abc import Callable

from ..model.faults.kubernetes import OnCluster
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import kubectl, procs
from ..system.clock import now_us
from ..system.kubectl import Cluster
from . import Act, Outcome
from .groups import SLOW_MS

NEEDS = "kubectl, with a context that may do it; and leave in `limits.cluster`."


def on_cluster(
    permit: Permit, fault: OnCluster, act: Act, lack: str, do: Callable[[Seen, Cluster], Outcome]
) -> Outcome:
    """Do something to a cluster, on behalf of the first target. What kubectl says no to is unsure."""
    decided_us = now_us()
    outcome = Outcome(result="missed", detail=lack) if lack else _on(permit.targets[0], fault, act, do)
    return Outcome(result=outcome.result, detail=outcome.detail, us=now_us() - decided_us)


def _on(target: Seen, fault: OnCluster, act: Act, do: Callable[[Seen, Cluster], Outcome]) -> Outcome:
    if not procs.alive(target.identity):
        return missed(target, "gone before the cluster could be disturbed")
    if act.halted:
        return missed(target, "the round was halted first")
    try:
        return do(target, Cluster(fault.context, act.env))
    except kubectl.KubectlError as problem:
        return Outcome(result="unsure", detail=f"{target}: {problem}")


def missed(target: Seen, why: str) -> Outcome:
    """Nothing was done."""
    return Outcome(result="missed", detail=f"{target}: {why}")


def record_of(fault: str, target: Seen, act: Act, cluster: Cluster, node: str, lasts_ms: int) -> UndoRecord:
    """The record of a node that is about to be cordoned."""
    return UndoRecord(
        key=act.key(target), fault=fault, who=target.identity,
        data={"context": cluster.context, "env": cluster.env, "node": node},
        deadline_us=now_us() + (lasts_ms + SLOW_MS) * 1_000,
    )  # fmt: skip


def is_cordoned(cluster: Cluster, node: str) -> bool | None:
    """Whether a node takes no new pods; None where there is no such node. Raises KubectlError."""
    seen = cluster.get("nodes", node)
    return None if seen is None else bool(seen.get("spec", {}).get("unschedulable", False))


def healed(record: UndoRecord) -> Healing:
    """Uncordon the node of a record, and look. Used only for nodes that took pods before."""
    cluster, node = Cluster(record.data["context"], record.data["env"]), record.data["node"]
    if is_cordoned(cluster, node):
        cluster.tell("uncordon", "--", node)
    state = is_cordoned(cluster, node)
    if state is None:
        return Healing(verified=True, note=f"node {node} is gone")
    gone = "" if procs.alive(record.who) else f"{record.who} is gone"
    return Healing(verified=not state, note=f"node {node} is still cordoned" if state else gone)
