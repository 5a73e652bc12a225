"""Limits: lowered for a while, met by the target, and given back to it and to all that it started."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest
from hands import SLEEPS, a_permit, eventually, started

from croupier.inject.limit import INJECTOR
from croupier.model.faults.limits import Limit
from croupier.model.units import Bytes, Ms
from croupier.system import limits, procs
from croupier.testing import RecordingAct, check_fault

pytestmark = pytest.mark.skipif(bool(limits.lacking()), reason=limits.lacking() or "prlimit is there")


def soft(pid, name="NOFILE"):
    return resource.prlimit(pid, limits.NAMES[name])[0]


def test_it_keeps_every_rule_of_a_fault():
    check_fault(INJECTOR, fault=Limit(for_ms=Ms(2_000), nofile=40), observe=soft)


def landed(who, **options):
    permit = a_permit(Limit(for_ms=Ms(60_000), **options), who)
    act = RecordingAct(permit)
    outcome = INJECTOR.inject(permit, permit.injection.fault, act)
    return outcome, act


@pytest.mark.parametrize(
    ("options", "name", "to"),
    [
        ({"nofile": 12}, "NOFILE", 12),
        ({"fsize_bytes": Bytes(4096)}, "FSIZE", 4096),
        ({"as_bytes": Bytes(1 << 30)}, "AS", 1 << 30),
        ({"core_bytes": Bytes(0)}, "CORE", 0),
    ],
)
def test_each_limit_is_lowered_and_given_back(options, name, to):
    with started(*SLEEPS) as who:
        before = soft(who.pid, name)
        outcome, act = landed(who, **options)
        if before == to:
            return
        assert (outcome.result, soft(who.pid, name)) == ("landed", to), outcome
        assert INJECTOR.heal(act.records[0]).verified
        assert soft(who.pid, name) == before


def test_who_ends_of_its_limit_at_once_was_hit():
    with started(*SLEEPS) as who:
        permit = a_permit(Limit(for_ms=Ms(60_000), nofile=12), who)

        def ends(moment, step):
            if (moment, step.what) == ("before", "applied"):
                os.kill(who.pid, signal.SIGKILL)
                assert eventually(lambda: not procs.alive(who))

        outcome = INJECTOR.inject(permit, permit.injection.fault, RecordingAct(permit, on_step=ends))
    assert outcome.result == "landed", outcome
    assert "it has ended since" in outcome.detail


def test_a_program_meets_its_limit():
    opens = (
        "import os, sys\nsys.stdin.readline()\ntry:\n for _ in range(99): os.open('/', 0)\n"
        "except OSError as no: print(no.errno, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", opens], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        who = procs.identity(child.pid)
        outcome, _ = landed(who, nofile=20)
        assert outcome.result == "landed"
        out, _ = child.communicate(b"go\n", timeout=30)
    assert out == b"24\n"


def test_a_child_that_inherited_the_limit_gets_what_its_parent_had():
    forks = (
        "import subprocess, sys\nsys.stdin.readline()\nsubprocess.Popen(['sleep', '60'])\n"
        "print('up', flush=True)\nsys.stdin.readline()"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", forks], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        who, before = procs.identity(child.pid), soft(child.pid)
        outcome, act = landed(who, nofile=20)
        assert outcome.result == "landed"
        child.stdin.write(b"go\n")
        child.stdin.flush()
        child.stdout.readline()
        (born,) = procs.family(child.pid)
        assert soft(born.pid) == 20
        assert INJECTOR.heal(act.records[0]).verified
        assert (soft(born.pid), soft(who.pid)) == (before, before)
        for one in (born, who):
            os.kill(one.pid, signal.SIGKILL)


def test_a_limit_that_the_program_chose_for_itself_stays():
    with started(*SLEEPS) as who:
        _, act = landed(who, nofile=20)
        resource.prlimit(who.pid, resource.RLIMIT_NOFILE, (30, resource.prlimit(who.pid, resource.RLIMIT_NOFILE)[1]))
        assert INJECTOR.heal(act.records[0]).verified
        assert soft(who.pid) == 30


def test_who_is_not_held_to_a_limit_is_missed(monkeypatch):
    monkeypatch.setattr(limits, "is_held_to", lambda who, name: name != "NPROC")
    with started(*SLEEPS) as who:
        outcome, act = landed(who, nproc=1)
        assert (outcome.result, act.records) == ("missed", ())
        assert "held to no NPROC" in outcome.detail


def test_what_limits_nothing_is_refused_beforehand():
    assert "it limits nothing" in INJECTOR.lacking(Limit(for_ms=Ms(1_000)))
