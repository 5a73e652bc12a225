"""Delete_pod: a pod of Kubernetes is deleted. Nothing is left to undo: another takes its place, or does not."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.kubernetes import DeletePod
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import kubectl
from ..system.kubectl import Cluster
from . import Act, Outcome, clusters
from .clusters import missed


class DeletePodInjector:
    """Carries out `delete_pod`."""

    kind = "delete_pod"
    spec: type[Fault] = DeletePod
    summary = "Delete a pod of Kubernetes."
    needs = clusters.NEEDS
    heals = "Nothing to undo: whether its controller starts another is what is being tested."
    example = "delete_pod: {context: staging, namespace: shop, pod: web-0, grace: 0s}"

    def lacking(self, fault: DeletePod) -> str:
        """Whether there is kubectl, and it knows the context."""
        return kubectl.lacking(fault.context)

    def inject(self, permit: Permit, fault: DeletePod, act: Act) -> Outcome:
        """Delete it; landed when that very pod (its uid) is gone, or marked as going."""

        def delete(target: Seen, cluster: Cluster) -> Outcome:
            there = f"--namespace={fault.namespace}"
            before = cluster.get("pods", fault.pod, there)
            if before is None:
                return missed(target, f"there is no pod {fault.pod} in {fault.namespace}")
            grace_s = -(-int(fault.grace_ms) // 1_000)
            # Asked for no grace at all, kubectl wants to be told twice.
            hard = ("--force",) if grace_s == 0 else ()
            cluster.tell("delete", there, f"--grace-period={grace_s}", "--wait=false", *hard, "--", "pods", fault.pod)
            now = cluster.get("pods", fault.pod, there)
            same = now is not None and now["metadata"]["uid"] == before["metadata"]["uid"]
            if now is not None and same and "deletionTimestamp" not in now["metadata"]:
                return Outcome(result="unsure", detail=f"{target}: pod {fault.pod} was not seen to go")
            return Outcome(result="landed", detail=f"{target}: pod {fault.pod} of {fault.namespace} is deleted")

        return clusters.on_cluster(permit, fault, act, self.lacking(fault), delete)

    def hold(self, permit: Permit, fault: DeletePod, act: Act) -> None:
        """Nothing is held."""

    def heal(self, record: UndoRecord) -> Healing:
        """There are no records of it."""
        return Healing(verified=True, note="nothing to undo")


INJECTOR = DeletePodInjector()
