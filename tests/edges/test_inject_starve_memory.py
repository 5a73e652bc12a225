"""Memory that runs out: for the target and nobody else, at once or little by little, and given back."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from hands import SLEEPS, a_permit, eventually, started

from croupier.inject import helpers
from croupier.inject.starve_memory import INJECTOR
from croupier.model.faults.memory import StarveMemory
from croupier.model.units import Bytes, Flow, Ms
from croupier.system import freezer, limits, memory, procs
from croupier.testing import RecordingAct, check_fault

LONG = Ms(60_000)
MIB = 1 << 20
has_cgroup = pytest.mark.skipif(bool(memory.lacking()), reason=memory.lacking() or "memory can be limited")
has_prlimit = pytest.mark.skipif(bool(limits.lacking()), reason=limits.lacking() or "prlimit is there")

EATS = """
import sys
kept = []
for line in sys.stdin:
    try:
        kept.append(bytearray(b"x") * int(line))
        print("had", flush=True)
    except MemoryError:
        print("refused", flush=True)
"""
"""Takes as much as it is told, and says whether it got it."""


class Eater:
    """A target that takes memory when it is told to."""

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", EATS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.takes(1) == "had"
        self.who = procs.identity(self.process.pid)
        return self

    def takes(self, amount):
        self.process.stdin.write(f"{amount}\n")
        return self.process.stdout.readline().strip()

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def inject(who, lasts=LONG, **options):
    fault = StarveMemory(for_ms=lasts, **options)
    act = RecordingAct(permit := a_permit(fault, who))
    return INJECTOR.inject(permit, fault, act), act


def home(pid):
    return freezer.home_of(pid, 1, memory.CONTROLLER), freezer.home_of(pid, 2, memory.CONTROLLER)


def address_space(pid):
    return resource.prlimit(pid, resource.RLIMIT_AS)[0]


def more(who, mib):
    """A limit that leaves it so many MiB."""
    return Bytes(procs.usage([who.pid]).rss_bytes + mib * MIB)


@has_cgroup
def test_it_keeps_every_rule_of_a_fault_with_a_cgroup():
    check_fault(
        INJECTOR, fault=StarveMemory(for_ms=Ms(2_000), limit_bytes=Bytes(64 * MIB), pressure_bytes=Bytes(MIB)),
        observe=home, moments=6,
        only=["says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little",
              "landed-is-seen", "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
              "misses-who-is-gone", "hits-nobody-else", "no-record-no-act", "heals-what-it-did", "heals-twice",
              "heals-when-gone", "heals-nobody-else", "obeys-a-halt", "heals-after-a-crash"],
    )  # fmt: skip


@has_prlimit
def test_it_keeps_every_rule_of_a_fault_without_one():
    fault = StarveMemory(for_ms=Ms(2_000), percent=200, how="rlimit")
    check_fault(INJECTOR, fault=fault, observe=address_space, moments=6)


@has_cgroup
def test_who_takes_more_than_the_limit_is_killed_by_the_kernel():
    with Eater() as target, Eater() as other:
        outcome, act = inject(target.who, limit_bytes=more(target.who, 16))
        assert outcome.result == "landed", outcome
        assert "it may take 1" in outcome.detail
        assert target.takes(4 * MIB) == "had"
        assert other.takes(64 * MIB) == "had"
        assert target.takes(64 * MIB) == ""
        assert target.process.wait(20) == -signal.SIGKILL
        healing = INJECTOR.heal(act.records[0])
        assert healing.verified
        assert "1 killed for want of memory" in healing.note
        assert procs.alive(other.who)


@has_cgroup
def test_what_it_was_refused_it_gets_again_when_it_is_healed():
    with Eater() as target:
        before = home(target.process.pid)
        outcome, act = inject(target.who, percent=150)
        assert outcome.result == "landed", outcome
        assert home(target.process.pid) != before
        assert INJECTOR.heal(act.records[0]).verified
        assert home(target.process.pid) == before
        assert target.takes(64 * MIB) == "had"


@has_cgroup
def test_a_helper_takes_of_what_is_left_to_it():
    with Eater() as target:
        outcome, act = inject(target.who, limit_bytes=more(target.who, 48), pressure_bytes=Bytes(40 * MIB))
        assert outcome.result == "landed", outcome
        assert "of which 40MiB are taken" in outcome.detail
        (helper,) = helpers.of(act.records[0])
        assert procs.usage([helper.pid]).rss_bytes > 40 * MIB
        assert helper.pid in freezer.members(freezer.Cell(*act.records[0].data["cell"]))
        assert INJECTOR.heal(act.records[0]).verified
        assert not procs.alive(helper)
        assert target.takes(64 * MIB) == "had"


@has_cgroup
def test_a_leak_grows_at_its_rate_and_stops_at_its_ceiling():
    with started(*SLEEPS) as who:
        began = time.monotonic()
        outcome, act = inject(
            who, limit_bytes=Bytes(64 * MIB), leak=Flow(8 * MIB, 1_000), pressure_bytes=Bytes(6 * MIB)
        )
        assert outcome.result == "landed", outcome
        assert "of which 6MiB leak away, 8MiB per 1s" in outcome.detail
        cell = freezer.Cell(*act.records[0].data["cell"])
        (helper,) = helpers.of(act.records[0])
        seen = []
        while helpers.says(helper) != "has it" and time.monotonic() < began + 20:
            seen.append(memory.used(cell))
            time.sleep(0.01)
        assert time.monotonic() - began > 0.6, "not faster than it says"
        assert seen[0] < 4 * MIB
        # The kernel counts by batches, so a reading may be a little less than the one before.
        assert all(later > earlier - MIB for earlier, later in pairwise(seen))
        assert 6 * MIB <= memory.used(cell) < 9 * MIB
        assert INJECTOR.heal(act.records[0]).verified


@has_cgroup
def test_a_leak_without_a_ceiling_leaves_nothing(request):
    with Eater() as target:
        outcome, act = inject(target.who, limit_bytes=more(target.who, 8), leak=Flow(64 * MIB, 1_000))
        assert outcome.result == "landed", outcome
        cell = freezer.Cell(*act.records[0].data["cell"])
        # Who of the two is killed is the kernel's to say where we may not say it: then the leak is over.
        assert eventually(lambda: memory.kills(cell) or memory.used(cell) > 7 * MIB, within_s=20)
        assert INJECTOR.heal(act.records[0]).verified


@has_prlimit
def test_without_a_cgroup_it_is_refused_more_and_lives():
    with Eater() as target:
        outcome, act = inject(target.who, limit_bytes=more(target.who, 16), how="rlimit")
        assert outcome.result == "landed", outcome
        assert target.takes(64 * MIB) == "refused"
        assert INJECTOR.heal(act.records[0]).verified
        assert target.takes(64 * MIB) == "had"


@has_cgroup
def test_more_than_is_left_cannot_be_taken():
    with started(*SLEEPS) as who:
        outcome, act = inject(who, limit_bytes=more(who, 4), pressure_bytes=Bytes(64 * MIB))
        assert (outcome.result, act.records) == ("missed", ())
        assert "cannot be taken of that" in outcome.detail
        outcome, act = inject(who, limit_bytes=Bytes(1 << 50), leak=Flow(MIB, 1_000))
        assert (outcome.result, act.records) == ("missed", ())
        assert "more than half of what this machine has free" in outcome.detail
        assert "nothing to take" in inject(who, percent=100, leak=Flow(MIB, 1_000))[0].detail


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give either limit or percent"),
        ({"percent": 100, "limit_bytes": Bytes(1)}, "give either limit or percent"),
        ({"percent": 150, "how": "rlimit", "pressure_bytes": Bytes(1)}, "need a cgroup"),
    ],
)
def test_what_does_not_belong_together_is_refused_beforehand(options, says):
    assert says in INJECTOR.lacking(StarveMemory(for_ms=LONG, **options))


def test_limits_of_the_newer_cgroups_are_written_and_read_the_same(tmp_path):
    cell = freezer.Cell(2, str(tmp_path), str(tmp_path.parent))
    for name, text in (("memory.max", "max"), ("memory.swap.max", "max"), ("memory.current", "4096"),
                       ("memory.events", "low 0\noom 2\noom_kill 1\noom_group_kill 0\n")):  # fmt: skip
        (tmp_path / name).write_text(text)
    assert memory.most(cell) is None
    memory.limit(cell, 1 << 20)
    assert (memory.most(cell), memory.used(cell), memory.kills(cell)) == (1 << 20, 4096, 1)
    assert (tmp_path / "memory.swap.max").read_text() == "0"
