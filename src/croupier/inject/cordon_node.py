"""Cordon_node: a node of Kubernetes takes no new pods, for a while."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.kubernetes import CordonNode
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import kubectl
from ..system.kubectl import Cluster
from . import Act, Outcome, clusters
from .clusters import missed


class CordonNodeInjector:
    """Carries out `cordon_node`."""

    kind = "cordon_node"
    spec: type[Fault] = CordonNode
    summary = "A node of Kubernetes takes no new pods, for a while."
    needs = clusters.NEEDS
    heals = "The node is uncordoned, and the cluster asked whether it takes pods."
    heals_within_s = 5.0
    example = "cordon_node: {context: staging, node: worker-1, for: 30s}"

    def lacking(self, fault: CordonNode) -> str:
        """Whether there is kubectl, and it knows the context."""
        return kubectl.lacking(fault.context)

    def inject(self, permit: Permit, fault: CordonNode, act: Act) -> Outcome:
        """Cordon it; landed when the cluster said that it is. One that somebody else has cordoned stays theirs."""

        def cordon(target: Seen, cluster: Cluster) -> Outcome:
            state = clusters.is_cordoned(cluster, fault.node)
            if state is not False:
                return missed(target, f"node {fault.node} is cordoned already" if state else f"no node {fault.node}")
            record = clusters.record_of("cordon_node", target, act, cluster, fault.node, int(fault.for_ms))
            act.intend(record)
            cluster.tell("cordon", "--", fault.node)
            act.applied(record.key)
            if not clusters.is_cordoned(cluster, fault.node):
                return Outcome(result="unsure", detail=f"{target}: node {fault.node} was not seen to be cordoned")
            return Outcome(result="landed", detail=f"{target}: node {fault.node} is cordoned")

        return clusters.on_cluster(permit, fault, act, self.lacking(fault), cordon)

    def hold(self, permit: Permit, fault: CordonNode, act: Act) -> None:
        """It stays so by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Uncordon it, and look."""
        return clusters.healed(record)


INJECTOR = CordonNodeInjector()
