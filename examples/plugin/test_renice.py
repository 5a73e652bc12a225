"""What the author of a plugin tests: the rules that every plugin keeps, and what is special about this one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from croupier_renice import NICENESS, RENICE, Niceness, Renice, threads

from croupier.model.target import Identity
from croupier.model.units import Ms
from croupier.system import procs
from croupier.testing import FakeWorld, RecordingAct, Target, a_permit, a_process, check_fault, check_probe

FAULT = Renice(by=5, for_ms=Ms(500))
may_lower = pytest.mark.skipif(RENICE.lacking(FAULT) != "", reason=RENICE.lacking(FAULT))


def niceness(pid: int) -> tuple[tuple[int, int], ...]:
    """Of every thread, by its number: closer than the `fingerprint` that check_fault looks at by default."""
    who = procs.identity(pid)
    return tuple((one.number, one.niceness) for one in threads(who)) if who else ()


def test_renice_keeps_the_rules() -> None:
    check_fault(RENICE, fault=FAULT, observe=niceness)


@may_lower
def test_threads_that_differ_get_back_what_each_had() -> None:
    def uneven() -> "subprocess.Popen[bytes]":
        process = a_process()
        _, second, third = sorted(int(one.name) for one in Path(f"/proc/{process.pid}/task").iterdir())
        os.setpriority(os.PRIO_PROCESS, second, 3)
        os.setpriority(os.PRIO_PROCESS, third, 17)  # Is raised to 19 and no further.
        return process

    check_fault(RENICE, fault=FAULT, observe=niceness, spawn=uneven, only=["heals-what-it-did", "heals-after-a-crash"])


@may_lower
def test_children_that_were_born_meanwhile_are_given_back_their_niceness() -> None:
    with Target(_parent) as target:
        act = RecordingAct(a_permit(FAULT, target.who))
        before = threads(target.who)[0].niceness
        assert RENICE.inject(act.permit, FAULT, act).result == "landed"
        os.write(target_input[target.pid], b"have a child\n")
        child = _only_child(target.who)
        assert {one.niceness for one in threads(child)} == {before + 5}, "it inherited"
        assert RENICE.heal(act.records[0]).verified
        assert {one.niceness for one in threads(child)} == {before}


@may_lower
def test_a_niceness_that_the_program_chose_meanwhile_is_left_alone() -> None:
    with Target(a_process) as target:
        act = RecordingAct(a_permit(FAULT, target.who))
        RENICE.inject(act.permit, FAULT, act)
        os.setpriority(os.PRIO_PROCESS, target.pid, 11)
        assert RENICE.heal(act.records[0]).verified
        assert dict(niceness(target.pid))[target.pid] == 11


@may_lower
def test_a_process_that_nobody_could_be_nicer_than_is_missed() -> None:
    with Target(lambda: subprocess.Popen(["nice", "-n", "39", "sleep", "60"])) as target:
        for _ in range(2_000):
            if niceness(target.pid) == ((target.pid, 19),):
                break
            os.sched_yield()
        act = RecordingAct(a_permit(FAULT, target.who))
        outcome = RENICE.inject(act.permit, FAULT, act)
        assert (outcome.result, act.records) == ("missed", ())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_without_the_right_to_lower_a_niceness_it_says_so_before_anything_is_touched() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setuid(65_534)
        os.write(writing, RENICE.lacking(FAULT).encode() or b"nothing")
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, encoding="utf-8") as said:
        assert "takes root, CAP_SYS_NICE" in said.read()


def test_niceness_keeps_the_rules() -> None:
    @contextmanager
    def world(raised_by: int) -> Iterator[FakeWorld]:
        # The census is made up, and the process in it is real.
        with Target(a_process) as target:
            os.setpriority(os.PRIO_PROCESS, target.pid, os.getpriority(os.PRIO_PROCESS, 0) + raised_by)
            fake = FakeWorld()
            fake.start("web", identity=target.who)
            yield fake

    calm = os.getpriority(os.PRIO_PROCESS, 0)
    check_probe(
        NICENESS,
        Niceness(of="web", at_most=calm),
        true_world=lambda: world(0),
        false_world=lambda: world(1),
        blind_world=FakeWorld(),
    )


target_input: dict[int, int] = {}
_PARENT = """
import subprocess, sys
sys.stdin.readline()
child = subprocess.Popen([sys.executable, "-ISc", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
sys.stdin.read()
"""


def _parent() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-ISc", _PARENT], stdin=subprocess.PIPE)
    assert process.stdin is not None
    target_input[process.pid] = process.stdin.fileno()
    return process


def _only_child(who: Identity) -> Identity:
    for _ in range(100_000):
        family = procs.family(who.pid)
        if family:
            return family[0]
        os.sched_yield()
    raise AssertionError("it had no child")
