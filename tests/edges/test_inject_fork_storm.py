"""A storm of processes: the target may start nobody, others may, and nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hands import SLEEPS, a_permit, eventually, started

from croupier.inject import fork_storm, helpers
from croupier.inject.fork_storm import INJECTOR
from croupier.model.faults.limits import ForkStorm
from croupier.model.units import Ms
from croupier.system import freezer, procs, tasks
from croupier.testing import RecordingAct, check_fault

LONG = Ms(60_000)
has_pids = pytest.mark.skipif(bool(tasks.lacking()), reason=tasks.lacking() or "processes can be counted")

FORKS = """
import os, sys
for line in sys.stdin:
    born = []
    try:
        while len(born) < 8:
            pid = os.fork()
            if pid == 0:
                sys.stdin.close()
                os.read(int(sys.argv[1]), 1)
                os._exit(0)
            born.append(pid)
        said = "8"
    except OSError as no:
        said = f"{len(born)} {no.strerror}"
    for one in born: os.kill(one, 9), os.waitpid(one, 0)
    print(said, flush=True)
"""
"""Starts eight children each time it is asked, says how many came about, and ends them."""


def home(pid):
    return freezer.home_of(pid, 1, tasks.CONTROLLER), freezer.home_of(pid, 2, tasks.CONTROLLER)


@has_pids
def test_it_keeps_every_rule_of_a_fault():
    check_fault(
        INJECTOR, fault=ForkStorm(for_ms=Ms(2_000), processes=4), observe=home, moments=6,
        only=["says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little",
              "landed-is-seen", "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
              "misses-who-is-gone", "hits-nobody-else", "no-record-no-act", "heals-what-it-did", "heals-twice",
              "heals-when-gone", "heals-nobody-else", "obeys-a-halt", "heals-after-a-crash"],
    )  # fmt: skip


@has_pids
@pytest.mark.parametrize(("leave", "says"), [(0, "0 Resource temporarily unavailable"), (2, "2 Resource temporarily")])
def test_the_target_may_start_nobody_until_it_is_healed(leave, says):
    waits, held = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-S", "-c", FORKS, str(waits)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        bufsize=1, pass_fds=[waits],
    ) as child:  # fmt: skip

        def ask():
            child.stdin.write("go\n")
            return child.stdout.readline().strip()

        assert ask() == "8"
        who = procs.identity(child.pid)
        fault = ForkStorm(for_ms=LONG, processes=12, leave=leave)
        act = RecordingAct(permit := a_permit(fault, who))
        outcome = INJECTOR.inject(permit, fault, act)
        assert outcome.result == "landed", outcome
        assert f"{leave} of 13 processes and threads are free" in outcome.detail
        assert ask().startswith(says)
        subprocess.run(["true"], check=True)
        storm = helpers.of(act.records[0])
        assert len(storm) >= 12 - leave
        assert INJECTOR.heal(act.records[0]).verified
        assert not any(map(procs.alive, storm))
        assert ask() == "8"
        child.stdin.close()
    os.close(waits)
    os.close(held)


@has_pids
def test_a_storm_that_is_not_in_its_cell_starts_nobody():
    cell = tasks.cell_for(os.getpid(), f"loose-{os.getpid()}")
    freezer.confine(cell, [])
    tasks.limit(cell, 4)
    try:
        with started(*fork_storm.command(cell, ForkStorm(for_ms=LONG))) as loose:
            assert not eventually(lambda: procs.family(loose.pid), within_s=0.3)
            assert procs.alive(loose)
    finally:
        assert freezer.dissolve(cell, controller=tasks.CONTROLLER) == ""


def test_a_storm_that_takes_nothing_is_refused_beforehand():
    assert "takes nothing" in INJECTOR.lacking(ForkStorm(for_ms=LONG, processes=4, leave=4))


def test_where_processes_cannot_be_counted_it_is_missed(monkeypatch):
    monkeypatch.setattr(tasks, "lacking", lambda: "no cgroup")
    with started(*SLEEPS) as who:
        fault = ForkStorm(for_ms=LONG)
        act = RecordingAct(permit := a_permit(fault, who))
        outcome = INJECTOR.inject(permit, fault, act)
    assert (outcome.result, outcome.detail, act.records) == ("missed", "no cgroup", ())
