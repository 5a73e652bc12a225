"""A share of a processor: kept by the target, given back, and nobody else is slowed."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hands import SLEEPS, a_permit, eventually, started

from croupier.inject import cells, helpers, starve_cpu, suspend
from croupier.load import load_text
from croupier.model.errors import ExperimentError
from croupier.model.faults.cpu import StarveCpu
from croupier.model.units import Ms
from croupier.registry import built_in
from croupier.system import cores, freezer, procs, quota
from croupier.testing import RecordingAct, check_fault

has_quota = pytest.mark.skipif(bool(quota.lacking()), reason=quota.lacking() or "there is a quota")
LONG = Ms(60_000)


def home(pid):
    return freezer.home_of(pid, 1, quota.CONTROLLER), freezer.home_of(pid, 2, quota.CONTROLLER)


@has_quota
def test_it_keeps_every_rule_of_a_fault():
    check_fault(starve_cpu.INJECTOR, fault=StarveCpu(percent=30, for_ms=Ms(2_000), how="quota"), observe=home)


def used_s(pid):
    stat = procs.read_stat(pid)
    return stat.ticks / 100 if stat else 0.0


@pytest.mark.parametrize("how", [pytest.param("quota", marks=has_quota), "duty"])
def test_a_busy_target_gets_its_share_and_everything_again_afterwards(how):
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as child:
        try:
            who = procs.identity(child.pid)
            fault = StarveCpu(percent=20, for_ms=Ms(1_500), how=how)
            act = RecordingAct(permit := a_permit(fault, who))
            outcome = starve_cpu.INJECTOR.inject(permit, fault, act)
            assert outcome.result == "landed", outcome
            before, began = used_s(child.pid), time.monotonic()
            starve_cpu.INJECTOR.hold(permit, fault, act)
            while time.monotonic() < began + 1.2:
                time.sleep(0.01)
            share = (used_s(child.pid) - before) / (time.monotonic() - began)
            assert share < 0.5, "on a busy machine it may be less than asked, and never more than twice"
            for record in act.records:
                injector = suspend.INJECTOR if record.fault == "suspend" else starve_cpu.INJECTOR
                assert injector.heal(record).verified
            assert procs.state_of(who) not in ("T", "t")
        finally:
            child.kill()


@has_quota
def test_children_are_starved_with_it_and_go_home_with_it():
    forks = "import subprocess, sys\nsubprocess.Popen(['sleep', '60'])\nprint('up', flush=True)\nsys.stdin.readline()"
    with subprocess.Popen([sys.executable, "-S", "-c", forks], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        who, (born,) = procs.identity(child.pid), procs.family(child.pid)
        before = home(born.pid)
        fault = StarveCpu(percent=50, for_ms=LONG, how="quota")
        act = RecordingAct(permit := a_permit(fault, who))
        assert starve_cpu.INJECTOR.inject(permit, fault, act).result == "landed"
        assert home(born.pid) != before
        assert starve_cpu.INJECTOR.heal(act.records[0]).verified
        assert home(born.pid) == home(child.pid) == before
        for one in (born, who):
            subprocess.run(["kill", "-KILL", str(one.pid)], check=False)


def test_where_there_is_no_quota_auto_stops_and_lets_go(monkeypatch):
    monkeypatch.setattr(quota, "lacking", lambda: "none")
    with started(*SLEEPS) as who:
        fault = StarveCpu(percent=50, for_ms=LONG)
        act = RecordingAct(permit := a_permit(fault, who))
        assert starve_cpu.INJECTOR.inject(permit, fault, act).result == "landed"
        assert act.records[0].fault == "suspend"
        assert suspend.INJECTOR.heal(act.records[0]).verified
    assert starve_cpu.INJECTOR.lacking(StarveCpu(for_ms=LONG, how="quota")) == "none"


@contextmanager
def spinning():
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as child:
        try:
            yield procs.identity(child.pid)
        finally:
            child.kill()


def injected(fault, who):
    act = RecordingAct(permit := a_permit(fault, who))
    return starve_cpu.INJECTOR.inject(permit, fault, act), act, permit


@has_quota
def test_a_busy_neighbour_takes_its_part_of_the_share_and_is_gone_afterwards():
    with spinning() as who:
        outcome, act, _ = injected(StarveCpu(load=100, percent=40, for_ms=LONG), who)
        assert outcome.result == "landed", outcome
        assert "neighbour that is busy 100 %" in outcome.detail
        (neighbour,) = helpers.of(act.records[0])
        # The two have 40 % together, and each the same.
        theirs, ours = used_s(neighbour.pid), used_s(who.pid)
        time.sleep(1.5)
        theirs, ours = used_s(neighbour.pid) - theirs, used_s(who.pid) - ours
        assert theirs + ours < 1.5 * 0.4 * 1.5
        assert theirs > ours / 3
        assert starve_cpu.INJECTOR.heal(act.records[0]).verified
        assert not procs.alive(neighbour)


@has_quota
def test_a_share_climbs_down_step_by_step():
    with started(*SLEEPS) as who:
        fault = StarveCpu(percent=20, climb_ms=Ms(400), for_ms=LONG)
        outcome, act, permit = injected(fault, who)
        assert outcome.result == "landed", outcome
        cell = cells.cell_of(act.records[0])
        assert round(quota.percent_of(cell)) == 92
        starve_cpu.INJECTOR.hold(permit, fault, act)
        assert round(quota.percent_of(cell)) == 20
        assert starve_cpu.INJECTOR.heal(act.records[0]).verified


@has_quota
def test_a_slice_is_the_period_of_the_quota():
    with started(*SLEEPS) as who:
        outcome, act, _ = injected(StarveCpu(percent=25, slice_ms=Ms(40), for_ms=LONG), who)
        assert outcome.result == "landed", outcome
        cell = cells.cell_of(act.records[0])
        if cell.version == 1:
            assert (Path(cell.path) / "cpu.cfs_period_us").read_text().strip() == "40000"
        else:
            assert (Path(cell.path) / "cpu.max").read_text().split() == ["10000", "40000"]
        assert starve_cpu.INJECTOR.heal(act.records[0]).verified


many = pytest.mark.skipif(bool(cores.lacking()), reason=cores.lacking() or "there are several processors")


def cpus(pid):
    return tuple(cores.read(thread) for thread, _ in cores.threads(pid))


@many
def test_keeping_to_some_processors_keeps_every_rule_of_a_fault():
    check_fault(starve_cpu.INJECTOR, fault=StarveCpu(cores=1, for_ms=Ms(2_000)), observe=cpus)


THREADS = """
import os, subprocess, sys, threading, time
def rest():
    while True: time.sleep(60)
threading.Thread(target=rest, daemon=True).start()
pinned = threading.Thread(target=lambda: (os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}), rest()), daemon=True)
pinned.start()
print("up", flush=True)
sys.stdin.readline()
threading.Thread(target=rest, daemon=True).start()
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.readline()
child.kill()
"""


@many
def test_every_thread_and_whoever_is_born_meanwhile_gets_its_processors_back():
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-S", "-c", THREADS], stdin=pipe, stdout=pipe) as one:
        one.stdout.readline()
        who = procs.identity(one.pid)
        first = cpus(one.pid)[0][0]
        assert eventually(lambda: cpus(one.pid).count((first,)) == 1)
        everywhere = cpus(one.pid)[0]
        outcome, act, _ = injected(StarveCpu(cores=(first,), for_ms=LONG), who)
        assert outcome.result == "landed", outcome
        assert outcome.detail.endswith(f"kept to processor {first} of {len(everywhere)}")
        one.stdin.write(b"\n")
        one.stdin.flush()
        child = int(one.stdout.readline())
        assert cpus(one.pid) == ((first,),) * 4
        assert cpus(child) == ((first,),)
        assert starve_cpu.INJECTOR.heal(act.records[0]).verified
        # The program had pinned one of them itself, and it stays so.
        assert sorted(cpus(one.pid)) == sorted([everywhere] * 3 + [(first,)])
        assert cpus(child) == (everywhere,)
        one.communicate(b"\n")


@many
@pytest.mark.parametrize(("some", "said"), [(4_096, "alone as it is"), ((4_095,), "may run on none of these")])
def test_who_would_be_kept_from_nothing_or_everything_is_missed(some, said):
    with started(*SLEEPS) as who:
        outcome, act, _ = injected(StarveCpu(cores=some, for_ms=LONG), who)
    assert (outcome.result, act.records) == ("missed", ())
    assert said in outcome.detail


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("cores: 1, percent: 10", "percent does not go with it"),
        ("cores: 1, load: 10", "load does not go with it"),
        ("cores: []", "on no processor at all nothing runs"),
        ("cores: 0", "0"),
        ("percent: 5, slice: 10ms", "less than the kernel gives"),
        ("slice: 2s", "between 10ms and 1s"),
        ("climb: 3s", "before it is there"),
        ("load: 50, how: duty", "load is done by a quota"),
    ],
)
def test_what_no_kernel_can_do_is_refused(options, said):
    text = (
        "version: 1\ntitle: t\nhypothesis: h\nprocesses: {app: {command: [sleep, '9']}}\n"
        f"injections: [{{at: 1s, starve_cpu: {{for: 3s, {options}}}, target: {{process: app}}}}]\n"
        "invariants: [{process: {of: app}}]\n"
    )
    with pytest.raises(ExperimentError, match=said):
        load_text(text.encode(), "experiment.yaml", built_in(), environment={})
