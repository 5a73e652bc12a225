"""Containers of Docker's: found, killed, paused, stopped, limited, entered; and put back from a record alone.

They share one daemon, which these tests start for themselves.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import pytest
from a_docker import Docker, a_docker
from cgroup_of_ours import lacking
from hands import SLEEPS, Hands, a_permit, eventually, started

from croupier.inject import exec_in_container, kill_container, limit_container, pause_container, stop_container
from croupier.model.faults.container import (
    ExecInContainer,
    KillContainer,
    LimitContainer,
    PauseContainer,
    StopContainer,
)
from croupier.model.target import Selector, matches
from croupier.model.units import Bytes, Ms
from croupier.system import cgroups, docker, procs
from croupier.system.groups import Groups
from croupier.testing import check_fault

pytestmark = [
    pytest.mark.needs("docker.io", "busybox-static"),
    pytest.mark.xdist_group("docker"),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]
LONG = Ms(60_000)


@pytest.fixture(scope="module")
def daemon():
    # pytest's own folders are too long for the path of a socket.
    with a_docker(Path(tempfile.mkdtemp(prefix="cd"))) as found:
        yield found


@pytest.fixture(autouse=True)
def host(daemon, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", daemon.env["DOCKER_HOST"])


@pytest.fixture(scope="module")
def shared(daemon):
    """A container for tests that leave it as it was."""
    with daemon.container("shared", Memory=256 << 20, MemorySwap=256 << 20) as name:
        yield name


def hit(injector, fault, daemon: Docker, name: str):
    """Do it to the first process of a container."""
    permit = a_permit(fault, daemon.main(name))
    act = Hands(permit=permit)
    return injector.inject(permit, fault, act), act


class Inside:
    """A new container in the form of a `Popen` of its first process, as the conformance kit starts its targets."""

    stdin = stdout = stderr = None
    made = 0

    def __init__(self, daemon: Docker) -> None:
        Inside.made += 1
        self._daemon, self.name = daemon, f"kit{Inside.made}"
        self._held = daemon.container(self.name)
        self._held.__enter__()
        self.pid = daemon.main(self.name).pid

    def wait(self) -> int:
        if self._held is not None:
            self._held.__exit__(None, None, None)
            self._held = None
        return 0


def test_a_pause_keeps_every_rule_of_a_fault(daemon):
    def paused(pid):
        return daemon.state(docker.container_of(pid))

    # Those that show most: each takes containers of its own. A frozen process cannot be killed on cgroups v1, so that
    # the kit cannot try what happens to one that is gone.
    rules = (
        "imports-little", "landed-is-seen", "writes-before-it-acts", "no-record-no-act", "heals-what-it-did",
        "heals-twice", "heals-after-a-crash",
    )  # fmt: skip
    check_fault(
        pause_container.INJECTOR, fault=PauseContainer(for_ms=Ms(2_000)), spawn=lambda: Inside(daemon), observe=paused,
        only=rules, moments=3,
    )  # fmt: skip


@pytest.mark.searches
def test_a_limit_keeps_every_rule_of_a_fault(daemon):
    def held(pid):
        return cgroups.processors(pid), cgroups.memory_bytes(pid)

    rules = ("imports-little", "landed-is-seen", "writes-before-it-acts", "no-record-no-act", "heals-what-it-did",
             "heals-twice", "heals-when-gone", "heals-after-a-crash")  # fmt: skip
    fault = LimitContainer(for_ms=Ms(2_000), cpus=0.5)
    check_fault(
        limit_container.INJECTOR, fault=fault, spawn=lambda: Inside(daemon), observe=held, only=rules, moments=3
    )


def test_a_container_that_was_removed_meanwhile_counts_as_healed(daemon):
    with daemon.container("removed") as name:
        _, act = hit(pause_container.INJECTOR, PauseContainer(for_ms=LONG), daemon, name)
        assert daemon.state(name) == "paused"
    healing = pause_container.INJECTOR.heal(act.records[0])
    assert (healing.verified, healing.note) == (True, "container removed is gone")


@pytest.mark.parametrize(
    ("injector", "fault"),
    [
        (pause_container.INJECTOR, PauseContainer(for_ms=Ms(1_000))),
        (kill_container.INJECTOR, KillContainer()),
        (stop_container.INJECTOR, StopContainer(for_ms=Ms(1_000))),
        (limit_container.INJECTOR, LimitContainer(for_ms=Ms(1_000), cpus=0.5)),
        (exec_in_container.INJECTOR, ExecInContainer(command=("true",))),
    ],
)
def test_each_fault_says_what_it_is(injector, fault):
    rules = ("says-what-it-is", "example-loads", "survives-a-plan")
    check_fault(injector, fault=fault, only=rules)


def test_a_container_is_found_by_its_name_with_everybody_in_it(daemon, shared):
    made = daemon.ask("POST", f"/containers/{shared}/exec", {"Cmd": ["sleep", "300"]})["Id"]
    daemon.ask("POST", f"/exec/{made}/start", {"Detach": True})
    beside = daemon.ask("GET", f"/exec/{made}/json")["Pid"]
    try:
        selector = Groups().resolved(Selector(container=shared))
        main = daemon.main(shared)
        found = {one.pid for one in matches(selector, procs.find(selector))}
        assert found == {main.pid, beside, *(one.pid for one in procs.family(main.pid))}
        census = procs.read_census({}, attached={"web": main}, groups={"web": selector.group})
        assert {one.pid for one in census if one.role == "web"} == found
        assert [one.pid for one in census if one.main] == [main.pid]
    finally:
        os.kill(beside, 9)


def test_a_container_that_is_not_there_means_nobody(daemon):
    selector = Groups().resolved(Selector(container="no-such"))
    assert not matches(selector, procs.find(selector))
    assert not matches(selector, procs.find(selector), doubtful=True)


def test_where_docker_cannot_be_asked_a_container_may_be_anybody_to_who_forbids(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    selector = Groups().resolved(Selector(container="web"))
    census = procs.read_census({"me": procs.identity(os.getpid())})
    assert not matches(selector, census)
    assert matches(selector, census, doubtful=True)


def test_a_container_is_killed(daemon):
    with daemon.container("killed", RestartPolicy={"Name": "always"}) as name:
        outcome, act = hit(kill_container.INJECTOR, KillContainer(), daemon, name)
        assert (outcome.result, act.records) == ("landed", []), outcome
        # As its operator's doing: its policy is not asked.
        assert eventually(lambda: daemon.state(name) == "exited")


def test_a_container_is_stopped_with_grace_and_started_again(daemon):
    with daemon.container("stopped", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done") as name:
        first = daemon.main(name)
        outcome, act = hit(stop_container.INJECTOR, StopContainer(for_ms=LONG, grace_ms=Ms(9_000)), daemon, name)
        assert outcome.result == "landed", outcome
        assert (daemon.state(name), daemon.inspect(name)["State"]["ExitCode"]) == ("exited", 7)
        for _ in range(2):
            assert stop_container.INJECTOR.heal(act.records[0]).verified
        assert daemon.state(name) == "running"
        assert daemon.main(name) != first


def test_a_stop_that_croupier_did_not_live_to_see_is_undone_all_the_same(daemon):
    with daemon.container("slow", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done") as name:
        act = Hands()
        fault = StopContainer(for_ms=LONG, grace_ms=Ms(20_000))
        permit = a_permit(fault, daemon.main(name))
        act.permit = permit
        thread = threading.Thread(target=stop_container.INJECTOR.inject, args=(permit, fault, act), daemon=True)
        thread.start()
        assert eventually(lambda: act.records)
        assert stop_container.INJECTOR.heal(act.records[0]).verified
        thread.join(20)
        assert not thread.is_alive()
        assert stop_container.INJECTOR.heal(act.records[0]).verified
        assert daemon.state(name) == "running"


def test_a_container_that_docker_would_remove_is_not_stopped(daemon):
    with daemon.container("fleeting", AutoRemove=True) as name:
        outcome, act = hit(stop_container.INJECTOR, StopContainer(for_ms=LONG), daemon, name)
        assert (outcome.result, act.records, daemon.state(name)) == ("missed", [], "running")
        assert "--rm" in outcome.detail


def test_limits_are_met_and_the_prior_ones_put_back(daemon, shared):
    pid = daemon.main(shared).pid
    fault = LimitContainer(for_ms=LONG, cpus=0.25, memory_bytes=Bytes(32 << 20))
    outcome, act = hit(limit_container.INJECTOR, fault, daemon, shared)
    assert outcome.result == "landed", outcome
    assert (cgroups.processors(pid), cgroups.memory_bytes(pid)) == (0.25, 32 << 20)
    for _ in range(2):
        assert limit_container.INJECTOR.heal(act.records[0]).verified
    assert (cgroups.processors(pid), cgroups.memory_bytes(pid)) == (None, 256 << 20)


def test_what_had_no_limit_of_memory_or_a_number_of_processors_gets_that_back(daemon):
    with daemon.container("free", NanoCpus=1_500_000_000) as name:
        pid = daemon.main(name).pid
        fault = LimitContainer(for_ms=LONG, cpus=0.5, memory_bytes=Bytes(64 << 20))
        outcome, act = hit(limit_container.INJECTOR, fault, daemon, name)
        assert outcome.result == "landed", outcome
        assert limit_container.INJECTOR.heal(act.records[0]).verified
        assert (cgroups.processors(pid), cgroups.memory_bytes(pid)) == (1.5, None)


def test_limits_that_somebody_else_has_set_since_stay(daemon, shared):
    fault = LimitContainer(for_ms=LONG, memory_bytes=Bytes(32 << 20))
    _, act = hit(limit_container.INJECTOR, fault, daemon, shared)
    other = {"Memory": 256 << 20, "MemorySwap": 300 << 20}
    daemon.ask("POST", f"/containers/{shared}/update", other)
    healing = limit_container.INJECTOR.heal(act.records[0])
    assert healing.verified
    assert "somebody else" in healing.note
    assert daemon.inspect(shared)["HostConfig"]["MemorySwap"] == 300 << 20


def test_what_limits_nothing_or_too_much_is_refused_beforehand():
    assert "it limits nothing" in limit_container.INJECTOR.lacking(LimitContainer(for_ms=LONG))
    assert "6 MiB" in limit_container.INJECTOR.lacking(LimitContainer(for_ms=LONG, memory_bytes=Bytes(4096)))


def test_a_command_is_run_inside(daemon, shared):
    outcome, act = hit(exec_in_container.INJECTOR, ExecInContainer(command=("touch", "/tmp/was-here")), daemon, shared)
    assert outcome.result == "landed", outcome
    assert exec_in_container.INJECTOR.heal(act.records[0]).verified
    assert Path(f"/proc/{daemon.main(shared).pid}/root/tmp/was-here").exists()
    outcome, _ = hit(exec_in_container.INJECTOR, ExecInContainer(command=("false",)), daemon, shared)
    assert outcome.result == "unsure"
    assert "ended with 1" in outcome.detail


def test_a_command_that_does_not_end_is_ended_and_nobody_else(daemon, shared):
    before = procs.family(daemon.main(shared).pid)
    fault = ExecInContainer(command=("sleep", "297"), within_ms=Ms(100))
    outcome, act = hit(exec_in_container.INJECTOR, fault, daemon, shared)
    assert outcome.result == "unsure"
    healing = exec_in_container.INJECTOR.heal(act.records[0])
    assert (healing.verified, healing.note) == (True, "the command was ended")
    assert exec_in_container.INJECTOR.heal(act.records[-1]).verified
    assert all(procs.alive(one) for one in before)


def test_a_container_in_which_somebody_may_not_be_touched_is_left_alone(daemon, shared):
    child, *_ = procs.family(daemon.main(shared).pid)
    fault = PauseContainer(for_ms=LONG)
    permit = a_permit(fault, child)
    act = Hands(permit=permit)
    outcome = pause_container.INJECTOR.inject(permit, fault, act)
    assert (outcome.result, act.records, daemon.state(shared)) == ("missed", [], "running")
    assert "aim at the main process" in outcome.detail


def test_who_lives_in_no_container_is_missed():
    fault = PauseContainer(for_ms=LONG)
    with started(*SLEEPS) as who:
        permit = a_permit(fault, who)
        outcome = pause_container.INJECTOR.inject(permit, fault, Hands(permit=permit))
    assert outcome.result == "missed"
    assert "no container" in outcome.detail


def test_without_docker_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    assert "start Docker" in pause_container.INJECTOR.lacking(PauseContainer(for_ms=LONG))
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert "another machine" in pause_container.INJECTOR.lacking(PauseContainer(for_ms=LONG))
