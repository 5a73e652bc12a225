"""Descriptors that run out: just above what a target has open, met by it, and given back."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hands import SLEEPS, a_permit, eventually, started

from croupier.inject.exhaust_fds import INJECTOR
from croupier.model.faults.limits import ExhaustFds
from croupier.model.units import Ms
from croupier.system import limits, procs
from croupier.testing import RecordingAct, check_fault

pytestmark = pytest.mark.skipif(bool(limits.lacking()), reason=limits.lacking() or "prlimit is there")

OPENS = """
import os, sys
for number in (3, 5, 9): os.dup2(2, number)
for line in sys.stdin:
    got = []
    try:
        while len(got) < 50: got.append(os.open("/", 0))
        said = "fine"
    except OSError as no:
        said = f"{no.errno} {len(got)}"
    for one in got: os.close(one)
    print(said, flush=True)
"""
"""Holds 0 to 3, 5 and 9, and says how many more it gets each time it is asked."""


def soft(pid):
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def test_it_keeps_every_rule_of_a_fault():
    check_fault(INJECTOR, fault=ExhaustFds(for_ms=Ms(2_000)), observe=soft, moments=6)


@pytest.mark.parametrize(("leave", "bound"), [(0, 4), (1, 6), (2, 7), (5, 11)])
def test_exactly_so_many_opens_succeed_however_its_descriptors_lie(leave, bound):
    with subprocess.Popen(
        [sys.executable, "-S", "-c", OPENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:

        def ask():
            child.stdin.write("go\n")
            return child.stdout.readline().strip()

        assert ask() == "fine"
        who, before = procs.identity(child.pid), soft(child.pid)
        act = RecordingAct(permit := a_permit(fault := ExhaustFds(for_ms=Ms(60_000), leave=leave), who))
        outcome = INJECTOR.inject(permit, fault, act)
        assert outcome.result == "landed", outcome
        assert f"{leave} descriptors free, 6 open, the limit is {bound}" in outcome.detail
        assert (soft(child.pid), ask()) == (bound, f"24 {leave}")
        assert INJECTOR.heal(act.records[0]).verified
        assert (soft(child.pid), ask()) == (before, "fine")
        child.stdin.close()


def test_who_has_no_more_to_lose_is_missed():
    with started(*SLEEPS) as who:
        assert eventually(lambda: Path(f"/proc/{who.pid}/exe").readlink().name == "sleep")
        resource.prlimit(who.pid, resource.RLIMIT_NOFILE, (3, resource.prlimit(who.pid, resource.RLIMIT_NOFILE)[1]))
        act = RecordingAct(permit := a_permit(fault := ExhaustFds(for_ms=Ms(1_000), leave=9), who))
        outcome = INJECTOR.inject(permit, fault, act)
    assert (outcome.result, act.records) == ("missed", ())
    assert "only 0 free, by a limit of 3" in outcome.detail
