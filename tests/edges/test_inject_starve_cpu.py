"""A share of a processor: kept by the target, given back, and nobody else is slowed."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hands import SLEEPS, a_permit, started

from croupier.inject import starve_cpu, suspend
from croupier.model.faults.cpu import StarveCpu
from croupier.model.units import Ms
from croupier.system import freezer, procs, quota
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
