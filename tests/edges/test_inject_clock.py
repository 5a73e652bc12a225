"""Clocks that are wrong for a while: as the target sees them, for nobody else, and right again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from hands import SLEEPS, a_permit, eventually, identity, started

from croupier.inject.clock import INJECTOR
from croupier.model.faults.clock import Clock
from croupier.model.units import Ms
from croupier.system import clocks, procs, shims
from croupier.testing import RecordingAct, check_fault

LONG = Ms(60_000)
HOUR = Ms(3_600_000)
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="preloading works otherwise there"),
    pytest.mark.needs("gcc"),
]
# Says what its clocks show whenever it is asked, how long a sleep took, and what a child of it sees.
TELLS = (
    "import subprocess, sys, time\n"
    "for word in sys.stdin:\n"
    "    if word == 'child\\n': print(subprocess.check_output(['date', '+%s.%N']).decode().strip(), flush=True)\n"
    "    elif word == 'sleep\\n': began = time.perf_counter(); time.sleep(0.05); print(time.perf_counter() - began, flush=True)\n"  # noqa: E501
    "    else: print(time.time(), time.monotonic(), flush=True)\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("clocks")
    shims.build(clocks.SHIM, made)
    return made


_numbers = count(1)


def a_clock(folder, way="shim"):
    clock = clocks.Clock.named(folder, f"app-{next(_numbers)}", way)
    clock.make()
    return clock


class Telling:
    """A process that lives by a clock, and says what it shows."""

    def __init__(self, clock, env=None):
        self.clock = clock
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", TELLS], env=env or clock.environment(os.environ), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.ask("now")
        self.who = identity(self.process.pid)

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return [float(one) for one in self.process.stdout.readline().split()]

    def off_s(self):
        """By how much its wall clock and its monotonic clock are ahead, in seconds."""
        wall, monotonic = time.time(), time.monotonic()
        shown = self.ask("now")
        return shown[0] - wall, shown[1] - monotonic


@contextmanager
def telling(clock, env=None):
    one = Telling(clock, env)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()


def spoilt(who, **options):
    permit = a_permit(Clock(for_ms=LONG, **options), who)
    act = RecordingAct(permit)
    return INJECTOR.inject(permit, permit.injection.fault, act), act


def near(seconds, within=3):
    """Whatever a slow machine needs in between."""
    return pytest.approx(seconds, abs=within)


def test_it_keeps_every_rule_of_a_fault(folder):
    def spawn():
        clock = a_clock(folder)
        sleeping = subprocess.Popen(SLEEPS, env=clock.environment(os.environ))
        assert eventually(lambda: clock.is_in(sleeping.pid))
        return sleeping

    def shown(pid):
        (path,) = (one.partition("=")[2] for one in procs.environment(pid) if one.startswith(clocks.VARIABLE))
        return clocks.Clock(Path(path)).read()

    check_fault(INJECTOR, fault=Clock(for_ms=Ms(2_000), ahead_ms=HOUR), spawn=spawn, observe=shown, moments=10)


@pytest.mark.parametrize(
    ("options", "off"),
    [({"ahead_ms": HOUR}, 3_600), ({"behind_ms": HOUR}, -3_600), ({"ahead_ms": Ms(86_400_000)}, 86_400)],
)
def test_a_clock_is_off_for_the_process_and_its_children_and_right_again(folder, options, off):
    with telling(a_clock(folder)) as one:
        outcome, act = spoilt(one.who, **options)
        assert outcome.result == "landed", outcome
        wall, monotonic = one.off_s()
        assert (wall, monotonic) == (near(off), near(0))
        assert one.ask("child")[0] - time.time() == near(off)
        assert 0.05 <= one.ask("sleep")[0] < 3, "how long a sleep takes is not the wall clock's business"
        assert INJECTOR.heal(act.records[0]).verified
        assert one.off_s() == (near(0), near(0))
        assert one.ask("child")[0] - time.time() == near(0)


@pytest.mark.parametrize("rate", [50, 0.01])
def test_a_clock_runs_fast_or_slow_without_a_jump(folder, rate):
    with telling(a_clock(folder)) as one:
        began = time.time()
        outcome, act = spoilt(one.who, rate=rate)
        assert outcome.result == "landed", outcome
        since = act.records[0].data["made"]["since_ns"] / 1e9
        time.sleep(0.2)
        before = time.time()
        shown = one.ask("now")[0]
        low, high = (since + (moment - since) * rate for moment in (before, time.time()))
        assert began <= since
        assert low - 0.01 <= shown <= high + 0.01
        assert INJECTOR.heal(act.records[0]).verified
        assert one.off_s()[0] == near(0)


def test_the_monotonic_clock_is_off_where_that_is_said(folder):
    with telling(a_clock(folder)) as one:
        outcome, act = spoilt(one.who, behind_ms=HOUR, monotonic=True)
        assert outcome.result == "landed", outcome
        assert one.off_s() == (near(-3_600), near(-3_600))
        assert 0.05 <= one.ask("sleep")[0] < 3
        assert INJECTOR.heal(act.records[0]).verified
        assert one.off_s() == (near(0), near(0))


def test_a_wait_until_a_moment_of_the_wrong_clock_takes_as_long_as_it_seems(folder):
    waits = (
        "import ctypes, time\n"
        "libc, room = ctypes.CDLL(None), ctypes.create_string_buffer(64)\n"
        "libc.sem_init(room, 0, 0)\n"
        "until, began = time.time_ns() + 50_000_000, time.perf_counter()\n"
        "moment = (ctypes.c_long * 2)(*divmod(until, 10**9))\n"
        "libc.sem_timedwait(room, moment)\n"
        "print(time.perf_counter() - began)\n"
    )
    clock = a_clock(folder)
    clock.set(clocks.Setting(offset_ms=-HOUR))
    said = subprocess.check_output([sys.executable, "-S", "-c", waits], env=clock.environment(os.environ), timeout=60)
    assert 0.04 <= float(said) < 10


def test_it_jumps_back_and_forth(folder):
    with telling(a_clock(folder)) as one:
        fault = Clock(for_ms=LONG, ahead_ms=HOUR, jump_every_ms=Ms(1))
        act = RecordingAct(permit := a_permit(fault, one.who))
        assert INJECTOR.inject(permit, fault, act).result == "landed"
        seen = []
        rests = act.wait

        def wait(ms, until=None):
            seen.append(round(one.off_s()[0] / 3_600))
            if len(seen) == 4:
                act.halt()
            return rests(ms, until)

        act.wait = wait
        INJECTOR.hold(permit, fault, act)
        assert seen == [1, 0, 1, 0]
        assert INJECTOR.heal(act.records[0]).verified
        assert one.off_s()[0] == near(0)


def test_who_was_not_started_for_it_is_missed():
    with started(*SLEEPS) as who:
        outcome, act = spoilt(who, ahead_ms=HOUR)
        assert (outcome.result, act.records) == ("missed", ())
        assert "not started for this" in outcome.detail


def test_a_static_program_is_missed(folder, tmp_path):
    (tmp_path / "static.c").write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    made = subprocess.run(["cc", "-static", "-o", tmp_path / "static", tmp_path / "static.c"], capture_output=True)
    assert made.returncode == 0, made.stderr
    with started(str(tmp_path / "static"), env=a_clock(folder).environment(os.environ)) as who:
        assert eventually(lambda: shims.is_told(who, clocks.VARIABLE))
        outcome, act = spoilt(who, ahead_ms=HOUR)
        assert (outcome.result, act.records) == ("missed", ())
        assert "static" in outcome.detail


def test_a_child_shares_the_clock_of_who_started_it_and_is_missed(folder):
    forks = "import subprocess\nprint(subprocess.Popen(['sleep', '300']).pid, flush=True)\ninput()"
    env = a_clock(folder).environment(os.environ)
    with subprocess.Popen(
        [sys.executable, "-S", "-c", forks], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        child = identity(int(one.stdout.readline()))
        try:
            # What it was started with can be read only a moment after it has begun.
            assert eventually(lambda: shims.is_told(child, clocks.VARIABLE))
            outcome, act = spoilt(child, ahead_ms=HOUR)
            assert (outcome.result, act.records) == ("missed", ())
            assert f"process {one.pid}" in outcome.detail
        finally:
            os.kill(child.pid, 9)
            one.communicate(b"\n")


def test_two_faults_do_not_share_a_clock_and_a_setting_that_is_not_ours_stays(folder):
    with telling(a_clock(folder)) as one:
        first, act = spoilt(one.who, ahead_ms=HOUR)
        second, more = spoilt(one.who, behind_ms=HOUR)
        assert (first.result, second.result, more.records) == ("landed", "missed", ())
        theirs = clocks.Setting(offset_ms=7)
        one.clock.set(theirs)
        healing = INJECTOR.heal(act.records[0])
        assert not healing.verified
        assert "did not write" in healing.note
        assert one.clock.read() == theirs


@pytest.mark.needs("libfaketime")
def test_libfaketime_does_it_as_well_and_leaves_nothing_behind(folder):
    clock = a_clock(folder, "libfaketime")
    shared = clocks.share(clock.path)
    env = clock.environment({**os.environ, "FAKETIME": "-1d"}, shared=shared, monotonic=True)
    pids = []
    with telling(clock, env) as one:
        constant = one.off_s()[1]
        pids.append(one.process.pid)
        outcome, act = spoilt(one.who, ahead_ms=HOUR, monotonic=True, how="libfaketime")
        assert outcome.result == "landed", outcome
        wall, monotonic = one.off_s()
        assert (wall, monotonic - constant) == (near(3_600), near(3_600))
        assert 0.05 <= one.ask("sleep")[0] < 3
        assert INJECTOR.heal(act.records[0]).verified
        assert one.off_s()[0] == near(0)
        outcome, act = spoilt(one.who, rate=50, monotonic=True, how="libfaketime")
        assert outcome.result == "landed", outcome
        assert INJECTOR.heal(act.records[0]).verified
        assert one.off_s()[0] == near(0)
    assert clocks.unshare(shared)
    assert clocks.unshare(shared), "what is gone is gone"
    assert not [left for pid in pids for left in Path("/dev/shm").glob(f"*faketime*_{pid}")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "it changes nothing"),
        ({"ahead_ms": HOUR, "behind_ms": HOUR}, "either ahead or behind"),
    ],
)
def test_what_does_not_belong_together_is_refused_beforehand(options, says):
    assert says in INJECTOR.lacking(Clock(for_ms=LONG, **options))


def test_the_reason_is_said_where_no_way_works(monkeypatch):
    monkeypatch.setattr(clocks, "lacking", lambda way: f"no {way}")
    assert INJECTOR.lacking(Clock(for_ms=LONG, ahead_ms=HOUR)) == "no shim; and no libfaketime"
    monkeypatch.setattr(clocks, "lacking", lambda way: "" if way == "libfaketime" else "no compiler")
    monkeypatch.setattr(clocks, "spoils_sleeps", lambda: True)
    assert "monotonic: true" in INJECTOR.lacking(Clock(for_ms=LONG, ahead_ms=HOUR))
    assert INJECTOR.lacking(Clock(for_ms=LONG, ahead_ms=HOUR, monotonic=True)) == ""
