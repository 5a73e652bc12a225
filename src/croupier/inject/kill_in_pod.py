"""Kill_in_pod: a signal to a process inside of a pod of Kubernetes. Nothing is left to undo."""

from __future__ import annotations

from typing import Any

from ..model.fault import Fault
from ..model.faults.kubernetes import KillInPod
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import kubectl
from ..system.kubectl import Cluster
from . import Act, Outcome, clusters
from .clusters import missed

_PACE_MS = 200
_ENDS = ("KILL", "TERM", "INT", "QUIT", "ABRT")


class KillInPodInjector:
    """Carries out `kill_in_pod`."""

    kind = "kill_in_pod"
    spec: type[Fault] = KillInPod
    summary = "Send a signal to a process inside of a pod of Kubernetes."
    needs = f"{clusters.NEEDS} And a program `kill` in the container."
    heals = "Nothing to undo: whether it is brought back is what is being tested."
    example = "kill_in_pod: {context: staging, namespace: shop, pod: web-0, signal: TERM}"

    def lacking(self, fault: KillInPod) -> str:
        """Whether there is kubectl, and it knows the context."""
        return kubectl.lacking(fault.context)

    def inject(self, permit: Permit, fault: KillInPod, act: Act) -> Outcome:
        """Send it; landed when it was sent, and where it is to end the container, that was seen to be restarted."""

        def kill(target: Seen, cluster: Cluster) -> Outcome:
            there, signal = f"--namespace={fault.namespace}", fault.signal.removeprefix("SIG")
            pod = cluster.get("pods", fault.pod, there)
            if pod is None:
                return missed(target, f"there is no pod {fault.pod} in {fault.namespace}")
            container = fault.container or str(pod["spec"]["containers"][0]["name"])
            before = _run_of(pod, container)
            if before is None:
                return missed(target, f"pod {fault.pod} runs no container {container}")
            inside = (there, f"--container={container}", fault.pod, "--", "kill", f"-{signal}", str(fault.pid))
            cluster.tell("exec", *inside)

            def restarted() -> bool:
                now = cluster.get("pods", fault.pod, there)
                same = now is not None and now["metadata"]["uid"] == pod["metadata"]["uid"]
                return now is None or not same or _run_of(now, container) != before

            if fault.pid == 1 and signal in _ENDS:
                # Asked at a pace: each question is a process of its own, and a request to the cluster.
                for _ in range(max(1, int(fault.within_ms) // _PACE_MS)):
                    if restarted() or act.wait(_PACE_MS) or act.halted:
                        break
                if not restarted():
                    return Outcome(result="unsure", detail=f"{target}: {container} of {fault.pod} was not seen to end")
            return Outcome(result="landed", detail=f"{target}: {signal} to {fault.pid} in {container} of {fault.pod}")

        return clusters.on_cluster(permit, fault, act, self.lacking(fault), kill)

    def hold(self, permit: Permit, fault: KillInPod, act: Act) -> None:
        """Nothing is held."""

    def heal(self, record: UndoRecord) -> Healing:
        """There are no records of it."""
        return Healing(verified=True, note="nothing to undo")


def _run_of(pod: dict[str, Any], container: str) -> str | None:
    """The id of the container as it runs now: another after a restart. None where it does not run."""
    for one in pod.get("status", {}).get("containerStatuses", ()):
        if one["name"] == container and "running" in one.get("state", {}):
            return str(one.get("containerID", ""))
    return None


INJECTOR = KillInPodInjector()
