"""Drain_node: the pods of a node of Kubernetes are evicted, and it takes no new ones for a while."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..model.fault import Fault
from ..model.faults.kubernetes import DrainNode
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import kubectl
from ..system.kubectl import Cluster
from . import Act, Outcome, clusters
from .clusters import missed


class DrainNodeInjector:
    """Carries out `drain_node`."""

    kind = "drain_node"
    spec: type[Fault] = DrainNode
    summary = "Evict the pods of a node of Kubernetes, and let it take no new ones for a while."
    needs = clusters.NEEDS
    heals = "The node is uncordoned, and the cluster asked whether it takes pods. Evicted pods are their controllers'."
    heals_within_s = 5.0
    example = "drain_node: {context: staging, node: worker-1, namespaces: [shop], for: 1m}"

    def lacking(self, fault: DrainNode) -> str:
        """Whether anybody may be evicted, there is kubectl, and it knows the context."""
        if not fault.namespaces:
            return "it may evict nobody: list the namespaces whose pods may go"
        return kubectl.lacking(fault.context)

    def inject(self, permit: Permit, fault: DrainNode, act: Act) -> Outcome:
        """Drain it; landed when nobody who was to go is left. Nothing is done if others are there."""

        def drain(target: Seen, cluster: Cluster) -> Outcome:
            state = clusters.is_cordoned(cluster, fault.node)
            if state is not False:
                return missed(target, f"node {fault.node} is cordoned already" if state else f"no node {fault.node}")
            there = _evictable(cluster, fault.node)
            others = sorted({one.namespace for one in there} - set(fault.namespaces))
            if others:
                return missed(target, f"pods of {', '.join(others)} are on {fault.node}, and may not be evicted")
            if bare := sorted(one.name for one in there if not one.controlled):
                return missed(target, f"nobody would bring back {', '.join(bare)}: it has no controller")
            lasts_ms = int(fault.within_ms) + int(fault.for_ms)
            record = clusters.record_of("drain_node", target, act, cluster, fault.node, lasts_ms)
            act.intend(record)
            within_s = int(fault.within_ms) / 1_000
            options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={max(1, round(within_s))}s")
            cluster.tell("drain", *options, "--", fault.node, within_s=within_s)
            act.applied(record.key)
            left = there & _evictable(cluster, fault.node)
            if left or not clusters.is_cordoned(cluster, fault.node):
                return Outcome(result="unsure", detail=f"{target}: node {fault.node} was not seen to be drained")
            return Outcome(result="landed", detail=f"{target}: node {fault.node} is drained of {len(there)} pods")

        return clusters.on_cluster(permit, fault, act, self.lacking(fault), drain)

    def hold(self, permit: Permit, fault: DrainNode, act: Act) -> None:
        """It stays so by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Uncordon it, and look."""
        return clusters.healed(record)


class _Pod(NamedTuple):
    namespace: str
    name: str
    uid: str
    controlled: bool


def _evictable(cluster: Cluster, node: str) -> set[_Pod]:
    """The pods that a drain would evict: not those of daemon sets, mirrored or over."""
    listed = cluster.get("pods", "", "--all-namespaces", f"--field-selector=spec.nodeName={node}") or {}
    found = [pod["metadata"] for pod in listed.get("items", ()) if not _stays(pod)]
    return {
        _Pod(
            str(meta["namespace"]), str(meta["name"]), str(meta["uid"]),
            any(one.get("controller") for one in meta.get("ownerReferences", ())),
        )
        for meta in found
    }  # fmt: skip


def _stays(pod: dict[str, Any]) -> bool:
    meta = pod["metadata"]
    owners = {one.get("kind") for one in meta.get("ownerReferences", ())}
    mirrored = "kubernetes.io/config.mirror" in meta.get("annotations", {})
    return mirrored or "DaemonSet" in owners or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


INJECTOR = DrainNodeInjector()
