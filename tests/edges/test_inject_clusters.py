"""Nodes and pods of Kubernetes, by the commands that kubectl is given: a stand-in answers, no cluster is touched."""

from __future__ import annotations

import os

import msgspec
import pytest
from a_kubectl import Kubectl, a_node, a_pod
from hands import SLEEPS, Hands, started

from croupier.inject import cordon_node, delete_pod, drain_node, kill_in_pod
from croupier.model.experiment import Cluster, Limits
from croupier.model.faults.kubernetes import CordonNode, DeletePod, DrainNode, KillInPod
from croupier.model.guard import Permit, Standing, consider
from croupier.model.plan import At, Injection
from croupier.model.target import Selector
from croupier.model.units import Ms
from croupier.system import procs
from croupier.testing import check_fault

LONG = Ms(60_000)
LIMITS = Limits(cluster=Cluster(contexts=("staging",), namespaces=("shop",), nodes=("worker-1",)))
CORDON = CordonNode(context="staging", node="worker-1", for_ms=LONG)
DRAIN = DrainNode(context="staging", node="worker-1", namespaces=("shop",), for_ms=LONG)
DELETE = DeletePod(context="staging", namespace="shop", pod="web-0")
KILL = KillInPod(context="staging", namespace="shop", pod="web-0")


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    found = Kubectl(tmp_path)
    monkeypatch.setenv("PATH", f"{found.path}:{os.environ['PATH']}")
    return found


def hit(injector, fault):
    with started(*SLEEPS) as who:
        injection = Injection(number=1, trigger=At(at_ms=0), fault=fault, target=Selector(process="app"), lot=0)
        permit = consider(injection, procs.read_census({"app": who}), LIMITS, Standing(now_ms=0, live=True))
        assert isinstance(permit, Permit), permit
        act = Hands(permit=permit)
        return injector.inject(permit, fault, act), act


@pytest.mark.parametrize(
    ("injector", "fault"),
    [
        (cordon_node.INJECTOR, CORDON),
        (drain_node.INJECTOR, DRAIN),
        (delete_pod.INJECTOR, DELETE),
        (kill_in_pod.INJECTOR, KILL),
    ],
)
def test_each_fault_says_what_it_is(injector, fault):
    check_fault(injector, fault=fault, only=("says-what-it-is", "example-loads", "survives-a-plan"))


RULES = ("landed-is-seen", "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
         "no-record-no-act", "heals-what-it-did", "heals-twice", "heals-after-a-crash")  # fmt: skip


@pytest.mark.parametrize(
    ("injector", "fault"),
    [
        (cordon_node.INJECTOR, msgspec.structs.replace(CORDON, for_ms=Ms(2_000))),
        (drain_node.INJECTOR, msgspec.structs.replace(DRAIN, for_ms=Ms(2_000), within_ms=Ms(5_000))),
    ],
)
def test_what_lasts_keeps_the_rules_of_a_fault(kubectl, injector, fault):
    spec = lambda pid: str(kubectl.state["nodes"][0]["spec"])  # noqa: E731
    assert check_fault(injector, fault=fault, observe=spec, only=RULES, moments=4, limits=LIMITS) == RULES


def test_a_node_is_cordoned_and_takes_pods_again(kubectl):
    outcome, act = hit(cordon_node.INJECTOR, CORDON)
    assert (outcome.result, kubectl.state["nodes"][0]["spec"]) == ("landed", {"unschedulable": True}), outcome
    for _ in range(2):
        assert cordon_node.INJECTOR.heal(act.records[0]).verified
    assert kubectl.state["nodes"][0]["spec"] == {}
    assert len(kubectl.asked("uncordon")) == 1


def test_a_node_that_somebody_else_has_cordoned_stays_theirs(kubectl):
    kubectl.set(nodes=[a_node("worker-1", unschedulable=True)])
    for injector, fault in ((cordon_node.INJECTOR, CORDON), (drain_node.INJECTOR, DRAIN)):
        outcome, act = hit(injector, fault)
        assert (outcome.result, act.records) == ("missed", []), outcome
    assert not kubectl.asked("cordon") + kubectl.asked("drain")


def test_a_node_that_is_gone_counts_as_healed(kubectl):
    _, act = hit(cordon_node.INJECTOR, CORDON)
    kubectl.set(nodes=[])
    healing = cordon_node.INJECTOR.heal(act.records[0])
    assert (healing.verified, healing.note) == (True, "node worker-1 is gone")


def test_where_the_cluster_cannot_be_asked_nothing_is_called_healed(kubectl, monkeypatch, tmp_path):
    _, act = hit(cordon_node.INJECTOR, CORDON)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="cannot be run"):
        cordon_node.INJECTOR.heal(act.records[0])


def test_a_node_is_drained_of_pods_that_may_go(kubectl):
    kubectl.set(pods=[a_pod("web-0"), a_pod("logs", namespace="kube-system", owner="DaemonSet"),
                      a_pod("far", namespace="other", node="worker-2")])  # fmt: skip
    outcome, act = hit(drain_node.INJECTOR, DRAIN)
    assert outcome.result == "landed", outcome
    assert [pod["metadata"]["name"] for pod in kubectl.state["pods"]] == ["logs", "far"]
    assert drain_node.INJECTOR.heal(act.records[0]).verified
    assert kubectl.state["nodes"][0]["spec"] == {}


def test_a_node_with_a_pod_that_may_not_go_is_left_alone(kubectl):
    kubectl.set(pods=[a_pod("web-0"), a_pod("bank", namespace="money")])
    outcome, act = hit(drain_node.INJECTOR, DRAIN)
    assert (outcome.result, act.records, kubectl.asked("drain")) == ("missed", [], [])
    assert "money" in outcome.detail
    kubectl.set(pods=[a_pod("web-0"), a_pod("alone", owner="")])
    outcome, act = hit(drain_node.INJECTOR, DRAIN)
    assert (outcome.result, act.records, kubectl.asked("drain")) == ("missed", [], [])
    assert "nobody would bring back alone" in outcome.detail


@pytest.mark.parametrize("grace_ms", [0, 2_500])
def test_a_pod_is_deleted(kubectl, grace_ms):
    kubectl.set(pods=[a_pod("web-0")])
    fault = DeletePod(context="staging", namespace="shop", pod="web-0", grace_ms=Ms(grace_ms))
    outcome, act = hit(delete_pod.INJECTOR, fault)
    assert (outcome.result, act.records) == ("landed", []), outcome
    assert f"--grace-period={-(-grace_ms // 1_000)}" in kubectl.asked("delete")[0]
    outcome, _ = hit(delete_pod.INJECTOR, DeletePod(context="staging", namespace="shop", pod="none"))
    assert outcome.result == "missed"


def test_a_process_in_a_pod_is_killed_and_its_container_seen_to_be_restarted(kubectl):
    kubectl.set(pods=[a_pod("web-0")])
    outcome, _ = hit(kill_in_pod.INJECTOR, KILL)
    assert outcome.result == "landed", outcome
    assert kubectl.asked("exec")[0][-4:] == ["--", "kill", "-TERM", "1"]


def test_a_container_that_lives_on_is_unsure(kubectl):
    kubectl.set(pods=[a_pod("web-0")])
    fault = KillInPod(context="staging", namespace="shop", pod="web-0", signal="KILL", within_ms=Ms(1))
    outcome, _ = hit(kill_in_pod.INJECTOR, fault)
    assert outcome.result == "unsure"
    assert "not seen to end" in outcome.detail


def test_it_says_what_is_lacking(kubectl, monkeypatch, tmp_path):
    assert cordon_node.INJECTOR.lacking(CORDON) == ""
    other = CordonNode(context="production", node="n", for_ms=LONG)
    assert "no context 'production'" in cordon_node.INJECTOR.lacking(other)
    nobody = DrainNode(context="staging", node="n", namespaces=(), for_ms=LONG)
    assert "it may evict nobody" in drain_node.INJECTOR.lacking(nobody)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not installed" in cordon_node.INJECTOR.lacking(CORDON)
