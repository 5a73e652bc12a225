"""Pods and nodes of Kubernetes, as data: what kubectl is told. The target is whoever of the round is to feel it.

Each names its context, and `limits.cluster` has to name context, namespaces and nodes as well: nothing is touched
because a kubeconfig happens to point there.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from ..fault import Fault, SignalName
from ..noun import Noun
from ..units import Ms

KubernetesName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
ContextName = Annotated[str, msgspec.Meta(pattern=r"^[^-\s]\S*$")]


class OnCluster(Fault):
    """What the faults on a cluster share."""

    __slots__ = ()
    context: ContextName


class CordonNode(OnCluster, Noun, tag="cordon_node", tag_field="fault", frozen=True, kw_only=True):
    """Take no new pods on a node, for a while (`kubectl cordon`, `uncordon`). What runs there goes on."""

    kind: ClassVar[str] = "cordon_node"

    context: ContextName
    """Of the kubeconfig."""
    node: KubernetesName
    """Its name."""
    for_ms: Ms = msgspec.field(name="for")
    """From the cordon to the healing."""

    @property
    def lasting_ms(self) -> int:
        """How long it is cordoned, in ms."""
        return self.for_ms

    @property
    def reaches(self) -> tuple[tuple[str, str], ...]:
        """The node."""
        return ("context", self.context), ("node", self.node)


class DrainNode(OnCluster, Noun, tag="drain_node", tag_field="fault", frozen=True, kw_only=True):
    """Evict the pods of a node, and take no new ones for a while (`kubectl drain`, `uncordon`).

    Pods of daemon sets stay. Where a pod of a namespace that is not listed would have to go as well, nothing is done.
    Evicted pods do not come back here: their controllers start others.
    """

    kind: ClassVar[str] = "drain_node"

    context: ContextName
    """Of the kubeconfig."""
    node: KubernetesName
    """Its name."""
    namespaces: tuple[KubernetesName, ...]
    """Those whose pods may be evicted."""
    for_ms: Ms = msgspec.field(name="for")
    """How long the node takes no new pods once it is drained."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(60_000))
    """How long the eviction may take; budgets (PodDisruptionBudget) are respected."""

    @property
    def lasting_ms(self) -> int:
        """How long it stays cordoned, in ms."""
        return self.for_ms

    @property
    def busy_ms(self) -> int:
        """How long the eviction may take."""
        return self.within_ms

    @property
    def reaches(self) -> tuple[tuple[str, str], ...]:
        """The node, and the namespaces."""
        return ("context", self.context), ("node", self.node), *(("namespace", one) for one in self.namespaces)


class DeletePod(OnCluster, Noun, tag="delete_pod", tag_field="fault", frozen=True, kw_only=True):
    """Delete a pod (`kubectl delete pod`): whether another takes its place is what is being tested."""

    kind: ClassVar[str] = "delete_pod"

    context: ContextName
    """Of the kubeconfig."""
    namespace: KubernetesName
    """Where it is."""
    pod: KubernetesName
    """Its name."""
    grace_ms: Ms = msgspec.field(name="grace", default=Ms(30_000))
    """How long its programs are given to end, in whole seconds, rounded up; `0s` kills at once."""

    @property
    def reaches(self) -> tuple[tuple[str, str], ...]:
        """The namespace."""
        return ("context", self.context), ("namespace", self.namespace)


class KillInPod(OnCluster, Noun, tag="kill_in_pod", tag_field="fault", frozen=True, kw_only=True):
    """Send a signal to a process inside of a pod (`kubectl exec … kill`), by the `kill` of its container.

    The first process of a container is not ended by KILL from inside, as the kernel shields it; TERM ends it if it
    takes heed of that.
    """

    kind: ClassVar[str] = "kill_in_pod"

    context: ContextName
    """Of the kubeconfig."""
    namespace: KubernetesName
    """Where it is."""
    pod: KubernetesName
    """Its name."""
    container: KubernetesName | None = None
    """Which of its containers; the first by default."""
    signal: SignalName = "TERM"
    """Which one, with or without `SIG`."""
    pid: Annotated[int, msgspec.Meta(ge=1, le=1 << 22)] = 1
    """Whose number, as the container counts."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(10_000))
    """How long until the container was seen to be restarted, where its first process was hit."""

    @property
    def busy_ms(self) -> int:
        """How long its end is waited for."""
        return self.within_ms

    @property
    def reaches(self) -> tuple[tuple[str, str], ...]:
        """The namespace."""
        return ("context", self.context), ("namespace", self.namespace)
