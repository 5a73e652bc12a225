"""The supervisor's rules: single stories first, then whatever order the world may answer in."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from croupier.model import supervision as sv
from croupier.model.choice import ChoiceStream
from croupier.model.experiment import ProcessSpec, Readiness, Restart, Stop
from croupier.model.journal import ProcessState
from croupier.model.probe import Tcp
from croupier.model.supervision import (
    EVENTS,
    IGNORED,
    TABLE,
    AliveFailed,
    Announce,
    ArmAlive,
    ArmReady,
    DelayOver,
    Died,
    Disarm,
    EndTree,
    GraceOver,
    ReadySeen,
    Signal,
    Spawn,
    Spawned,
    SpawnFailed,
    StartAsked,
    StartGraceOver,
    StartTimeOut,
    StopAsked,
    Timer,
    TreeGone,
    Unit,
    UnitCommand,
    UnitEvent,
    restart_delay_ms,
    step,
)
from croupier.model.target import Identity
from croupier.model.units import Ms, Rate

PROBE = Readiness(probe=Tcp(port=80), within_ms=Ms(10_000))
STATES: tuple[ProcessState, ...] = get_args(ProcessState)


def a_spec(**changes: Any) -> ProcessSpec:
    return msgspec.structs.replace(ProcessSpec(command=("serve",), ready=PROBE), **changes)


def pid(number: int) -> Identity:
    return Identity(pid=number, started=number, boot="boot")


def play(
    spec: ProcessSpec, *events: tuple[int, UnitEvent], unit: Unit | None = None, seed: int = 0
) -> tuple[Unit, tuple[UnitCommand, ...]]:
    """Feed the events; the unit at the end, and what the last one commanded."""
    unit, commands = unit or Unit(name="web"), ()
    for now_ms, event in events:
        unit, commands = step(unit, spec, event, now_ms, ChoiceStream(seed))
    return unit, commands


STARTED = ((0, StartAsked()), (5, Spawned(who=pid(10))))
READY = (*STARTED, (100, ReadySeen()))


def crash(who: int = 10, **changes: Any) -> Died:
    return msgspec.structs.replace(Died(cause="own", code=1, who=pid(who)), **changes)


def states(commands: Iterable[UnitCommand]) -> list[str]:
    return [one.state for one in commands if isinstance(one, Announce)]


def timers(commands: Iterable[UnitCommand]) -> list[Timer]:
    return [one for one in commands if isinstance(one, Timer)]


# The table


def test_the_table_has_a_rule_for_every_event_in_every_state():
    assert set(EVENTS) == set(get_args(UnitEvent))
    assert set(TABLE) == set(STATES)
    assert all(set(rules) == set(EVENTS) for rules in TABLE.values())


def test_no_event_is_ignored_in_every_state():
    for event in EVENTS:
        assert any(TABLE[state][event] is not IGNORED for state in STATES), event


def test_the_table_prints_as_one_line_per_event():
    lines = sv.print_table().splitlines()
    assert len(lines) == len(EVENTS) + 2
    assert all(line.count("|") == len(STATES) + 2 for line in lines)
    assert lines[2].startswith("| `StartAsked` | → starting, spawn |")


# Starting


def test_a_start_spawns_once_and_asks_whether_it_is_ready():
    unit, commands = play(a_spec(), (0, StartAsked()))
    assert (unit.state, unit.attempt) == ("starting", 1)
    assert commands == (Announce(state="starting"), Spawn(attempt=1))
    unit, commands = play(a_spec(), (5, Spawned(who=pid(10))), unit=unit)
    assert (unit.state, unit.who) == ("starting", pid(10))
    assert commands == (ArmReady(attempt=1), Timer(kind="start", after_ms=10_000, attempt=1))
    unit, commands = play(a_spec(), (90, ReadySeen(attempt=1)), unit=unit)
    assert (unit.state, unit.ready_ms) == ("ready", 90)
    assert commands == (Announce(state="ready"),)


def test_a_process_with_a_liveness_probe_is_asked_as_soon_as_it_is_ready():
    _, commands = play(a_spec(alive=PROBE), *READY)
    assert commands == (Announce(state="ready"), ArmAlive(attempt=1))


def test_without_readiness_or_grace_a_process_is_ready_when_it_runs():
    unit, commands = play(a_spec(ready=None), *STARTED)
    assert (unit.state, states(commands)) == ("ready", ["ready"])


def test_without_readiness_a_process_has_to_stay_up_for_its_start_grace():
    spec = a_spec(ready=None, start_grace_ms=Ms(1_000))
    unit, commands = play(spec, *STARTED)
    assert (unit.state, commands) == ("starting", (Timer(kind="start_grace", after_ms=1_000, attempt=1),))
    assert play(spec, (1_005, StartGraceOver(attempt=1)), unit=unit)[0].state == "ready"
    assert play(spec, (500, crash()), unit=unit)[0].state == "backoff"


def test_a_start_that_is_never_ready_is_ended_whole_and_counts_as_a_restart():
    unit, commands = play(a_spec(), *STARTED, (10_005, StartTimeOut(attempt=1)))
    assert (unit.state, unit.asked) == ("stopping", False)
    assert commands == (
        Announce(state="stopping", why="it was not ready within 10s"),
        Disarm(),
        Signal(name="TERM", who=pid(10)),
        Timer(kind="stop", after_ms=5_000, attempt=1),
    )
    unit, commands = play(a_spec(), (10_100, crash(signal="TERM", code=None, cause="asked")), unit=unit)
    assert (unit.state, commands) == ("stopping", (EndTree(who=pid(10)),))
    unit, commands = play(a_spec(), (10_110, TreeGone()), unit=unit)
    assert unit.state == "backoff"
    assert commands[0] == Announce(state="backoff", why="it was not ready within 10s", delay_ms=500)


def test_a_command_that_is_not_found_at_the_first_start_is_given_up_at_once():
    spec = a_spec(restart=Restart(limit=Rate(20, 60_000)))
    unit, commands = play(spec, (0, StartAsked()), (0, SpawnFailed(reason="serve: not found")))
    assert (unit.state, unit.attempt) == ("fatal", 1)
    assert any("serve: not found" in getattr(one, "why", "") for one in commands)


def test_a_process_that_was_never_ready_is_started_three_times_whatever_its_limit():
    spec = a_spec(restart=Restart(limit=Rate(1_000, 60_000)))
    unit, _ = play(spec, (0, StartAsked()))
    seen = []
    for turn in range(3):
        who = pid(100 + turn)
        unit, _ = play(spec, (unit.due_ms, Spawned(who=who)), unit=unit)
        unit, commands = play(spec, (unit.due_ms, Died(cause="own", code=1, who=who)), unit=unit)
        seen += states(commands)
        unit, _ = play(spec, (unit.due_ms, DelayOver(attempt=unit.attempt)), unit=unit)
    assert seen == ["backoff", "backoff", "fatal"]


def test_a_command_that_is_gone_later_is_tried_again_and_then_given_up():
    spec = a_spec(restart=Restart(limit=Rate(2, 60_000)))
    unit = Unit(name="web", state="starting", attempt=2, proven=True)
    seen = []
    for now_ms in (0, 1_000, 5_000):
        unit, commands = play(spec, (now_ms, SpawnFailed(reason="serve: not found")), unit=unit)
        seen += states(commands)
        unit, _ = play(spec, (unit.due_ms, DelayOver(attempt=unit.attempt)), unit=unit)
    assert seen == ["backoff", "backoff", "fatal"]


def test_a_process_that_never_started_and_is_never_restarted_is_fatal():
    spec = a_spec(restart=Restart(when="never"))
    assert play(spec, (0, StartAsked()), (1, SpawnFailed(reason="not found")))[0].state == "fatal"
    assert play(spec, *STARTED, (50, crash()))[0].state == "fatal"
    assert play(spec, *READY, (500, crash()))[0].state == "exited"


def test_a_process_that_ends_well_before_it_was_ready_has_failed_to_start():
    assert play(a_spec(), *STARTED, (50, crash(code=0)))[0].state == "backoff"


# Forking away


def test_the_end_of_a_command_that_forks_away_is_no_death():
    spec = a_spec(forks_away=True)
    unit, commands = play(spec, *STARTED)
    assert commands == (Timer(kind="start", after_ms=10_000, attempt=1),)
    unit, commands = play(spec, (20, crash(code=0)), unit=unit)
    assert (unit.state, unit.who, commands) == ("starting", None, ())
    unit, commands = play(spec, (30, sv.Adopted(who=pid(11))), unit=unit)
    assert (unit.who, commands) == (pid(11), (ArmReady(attempt=1),))
    unit, _ = play(spec, (90, ReadySeen(attempt=1)), unit=unit)
    assert unit.state == "ready"
    assert play(spec, (99, crash(11, signal="KILL", code=None)), unit=unit)[0].state == "backoff"


def test_a_daemon_may_be_known_before_its_command_has_ended():
    spec = a_spec(forks_away=True, ready=None)
    unit, _ = play(spec, *STARTED, (20, sv.Adopted(who=pid(11))))
    assert (unit.state, unit.who) == ("ready", pid(11))
    assert play(spec, (30, crash(10, code=0)), unit=unit)[0] == unit


def test_a_command_that_forks_away_badly_has_failed_to_start():
    assert play(a_spec(forks_away=True), *STARTED, (20, crash(code=3)))[0].state == "backoff"


def test_a_daemon_that_never_shows_is_a_failed_start_with_nothing_left():
    spec = a_spec(forks_away=True, ready=None)
    unit, commands = play(spec, *STARTED)
    assert timers(commands)[0].after_ms == sv.FORK_WITHIN_MS
    unit, commands = play(spec, (20, crash(code=0)), (30_005, StartTimeOut(attempt=1)), unit=unit)
    assert unit.state == "stopping"
    assert commands[-1] == EndTree(who=pid(10))
    assert play(spec, (30_010, TreeGone()), unit=unit)[0].state == "backoff"


def test_a_daemon_that_ends_well_while_starting_has_died():
    spec = a_spec(forks_away=True)
    unit, _ = play(spec, *STARTED, (20, crash(code=0)), (30, sv.Adopted(who=pid(11))), (40, crash(11, code=0)))
    assert unit.state == "backoff"


# Dying and coming back


@pytest.mark.parametrize(
    ("when", "death", "then"),
    [
        ("never", crash(), "exited"),
        ("unexpected", crash(code=0), "exited"),
        ("unexpected", crash(code=3), "exited"),
        ("unexpected", crash(code=1), "backoff"),
        ("unexpected", crash(code=None), "backoff"),
        ("unexpected", crash(code=None, signal="TERM"), "backoff"),
        ("unexpected", crash(code=0, signal="TERM"), "backoff"),
        ("unexpected", crash(code=None, signal="KILL", cause="injected"), "backoff"),
        ("unexpected", crash(code=None, signal="KILL", cause="oom"), "backoff"),
        ("always", crash(code=0), "backoff"),
        ("always", crash(code=1), "backoff"),
        ("always", crash(code=1, cause="asked"), "exited"),
        ("unexpected", crash(code=None, signal="TERM", cause="asked"), "exited"),
    ],
)
def test_the_policy_says_who_comes_back(when, death, then):
    spec = a_spec(restart=Restart(when=when, exit_codes=(0, 3)))
    unit, commands = play(spec, *READY, (500, death))
    assert (unit.state, states(commands), unit.who) == (then, [then], None)
    assert Disarm() in commands


def test_a_death_is_announced_with_how_and_why():
    _, commands = play(a_spec(), *READY, (500, crash(code=None, signal="KILL", cause="injected")))
    assert commands[0] == Announce(state="backoff", why="signal KILL, injected", delay_ms=500)
    assert sv.how(Died(cause="oom", signal="KILL")) == "signal KILL, out of memory"
    assert sv.how(Died(cause="own")) == "end unknown"


def test_a_process_comes_back_after_its_delay():
    unit, commands = play(a_spec(), *READY, (500, crash()))
    assert timers(commands) == [Timer(kind="delay", after_ms=500, attempt=1)]
    unit, commands = play(a_spec(), (1_000, DelayOver(attempt=1)), unit=unit)
    assert (unit.state, unit.attempt, unit.restarts, unit.restarts_ms) == ("starting", 2, 1, (1_000,))
    assert commands == (Announce(state="starting", why="attempt 2"), Spawn(attempt=2))


def test_a_delay_that_rings_early_waits_for_the_rest():
    unit, _ = play(a_spec(), *READY, (500, crash()))
    again, commands = play(a_spec(), (900, DelayOver(attempt=1)), unit=unit)
    assert (again, commands) == (unit, (Timer(kind="delay", after_ms=100, attempt=1),))


def test_restarts_in_a_row_wait_longer_each_time_up_to_the_longest_delay():
    restart = Restart(delay_ms=Ms(500), backoff=3.0, max_delay_ms=Ms(5_000))
    delays = [restart_delay_ms(restart, streak, ChoiceStream(0)) for streak in range(5)]
    assert delays == [500, 1_500, 4_500, 5_000, 5_000]


def test_a_backoff_of_any_size_and_streak_stays_within_bounds():
    steep = Restart(delay_ms=Ms(1), backoff=100.0, max_delay_ms=Ms(31_622_400_000), jitter_percent=100)
    assert 31_622_400_000 <= restart_delay_ms(steep, 10_000, ChoiceStream(0)) <= 2 * 31_622_400_000
    assert restart_delay_ms(Restart(delay_ms=Ms(0)), 10_000, ChoiceStream(0)) == 0
    assert restart_delay_ms(Restart(backoff=1.0), 10**9, ChoiceStream(0)) == 500


def test_a_process_that_was_ready_for_long_enough_begins_a_new_row():
    spec = a_spec(restart=Restart(max_delay_ms=Ms(2_000)))
    in_a_row = Unit(name="web", state="ready", attempt=3, who=pid(10), last=pid(10), ready_ms=1_000, streak=2)
    in_a_row = msgspec.structs.replace(in_a_row, proven=True)
    assert play(spec, (2_999, crash()), unit=in_a_row)[0].streak == 2
    assert play(spec, (3_000, crash()), unit=in_a_row)[0].streak == 0


def test_more_restarts_than_the_limit_are_fatal():
    spec = a_spec(ready=None, restart=Restart(delay_ms=Ms(0), limit=Rate(3, 60_000)))
    unit, _ = play(spec, (0, StartAsked()), (0, Spawned(who=pid(1))))
    seen = []
    for number in range(1, 6):
        unit, commands = play(spec, (number * 100, crash(number)), unit=unit)
        seen += states(commands)
        life = ((number * 100, DelayOver(attempt=unit.attempt)), (number * 100, Spawned(who=pid(number + 1))))
        unit, _ = play(spec, *life, unit=unit)
    assert seen == ["backoff", "backoff", "backoff", "fatal"]
    assert unit.restarts == 3


@pytest.mark.parametrize(("died_ms", "then"), [(1_499, "fatal"), (1_500, "backoff")])
def test_a_restart_counts_until_the_window_has_passed_it(died_ms, then):
    spec = a_spec(restart=Restart(delay_ms=Ms(500), backoff=1.0, limit=Rate(1, 1_000)))
    again = Unit(name="web", state="ready", attempt=2, who=pid(10), last=pid(10), ready_ms=1_100, restarts_ms=(1_000,))
    assert play(spec, (died_ms, crash()), unit=again)[0].state == then


def test_restarts_that_are_slower_than_the_limit_go_on_for_ever():
    spec = a_spec(ready=None, restart=Restart(delay_ms=Ms(30_000), backoff=1.0, limit=Rate(1, 10_000)))
    unit, _ = play(spec, (0, StartAsked()), (0, Spawned(who=pid(1))))
    for number in range(1, 50):
        unit, _ = play(spec, (number * 31_000, crash(number)), unit=unit)
        assert unit.state == "backoff"
        unit, _ = play(
            spec, (unit.due_ms, DelayOver(attempt=unit.attempt)), (unit.due_ms, Spawned(who=pid(number + 1))), unit=unit
        )
    assert len(unit.restarts_ms) <= 2


def test_the_same_seed_waits_the_same_and_another_does_not():
    restart = Restart(jitter_percent=50)
    spec = a_spec(restart=restart)

    def delays(seed: int, name: str = "web") -> list[int]:
        return [restart_delay_ms(restart, 0, ChoiceStream(seed).fork(name).fork(attempt)) for attempt in range(1, 9)]

    assert delays(42) == delays(42)
    assert delays(42) != delays(43)
    assert delays(42) != delays(42, "worker")
    assert all(500 <= one <= 750 for one in delays(42))
    unit, _ = play(spec, *READY, (500, crash()), seed=42)
    assert unit.due_ms - 500 == delays(42)[0]


def test_the_delays_of_seed_42_are_these():
    restart = Restart(jitter_percent=50)
    row = [restart_delay_ms(restart, k, ChoiceStream(42).fork("web").fork(k + 1)) for k in range(6)]
    assert row == [747, 1349, 2286, 4009, 10403, 16992]


def test_a_process_that_no_longer_answers_is_ended_whole_and_brought_back():
    spec = a_spec(alive=PROBE)
    unit, commands = play(spec, *READY, (500, AliveFailed(reason="refused", attempt=1)))
    assert unit.state == "stopping"
    assert [type(one) for one in commands] == [Announce, Disarm, Signal, Timer]
    unit, commands = play(spec, (5_500, GraceOver(attempt=1)), unit=unit)
    assert commands == (EndTree(who=pid(10)),)
    unit, commands = play(spec, (5_510, crash(signal="KILL", code=None)), (5_520, TreeGone()), unit=unit)
    assert (unit.state, states(commands)) == ("backoff", ["backoff"])
    never = a_spec(alive=PROBE, restart=Restart(when="never"))
    unit, _ = play(never, *READY, (500, AliveFailed(reason="refused")), (600, crash()), (610, TreeGone()))
    assert unit.state == "exited"


# Stopping


def test_a_stop_sends_the_signal_then_ends_the_whole_tree():
    spec = a_spec(stop=Stop(signal="SIGINT", grace_ms=Ms(2_000)))
    unit, commands = play(spec, *READY, (500, StopAsked()))
    assert commands == (
        Announce(state="stopping", why="asked to stop"),
        Disarm(),
        Signal(name="INT", who=pid(10)),
        Timer(kind="stop", after_ms=2_000, attempt=1),
    )
    gone, commands = play(spec, (700, crash(code=0)), unit=unit)
    assert (gone.state, commands) == ("stopping", (EndTree(who=pid(10)),))
    gone, commands = play(spec, (710, TreeGone()), unit=gone)
    assert (gone.state, gone.swept, states(commands)) == ("exited", True, ["exited"])
    _, commands = play(spec, (2_500, GraceOver(attempt=1)), unit=unit)
    assert commands == (EndTree(who=pid(10)),)


def test_a_tree_is_ended_once_so_that_a_late_order_cannot_hit_the_next_attempt():
    unit, _ = play(a_spec(), *STARTED, (10_005, StartTimeOut(attempt=1)))
    unit, commands = play(a_spec(), (15_005, GraceOver(attempt=1)), unit=unit)
    assert commands == (EndTree(who=pid(10)),)
    unit, commands = play(a_spec(), (15_006, crash(signal="KILL", code=None)), unit=unit)
    assert (unit.state, unit.who, commands) == ("stopping", None, ())
    assert play(a_spec(), (15_007, GraceOver(attempt=1)), unit=unit) == (unit, ())
    unit, _ = play(a_spec(), (15_008, TreeGone()), unit=unit)
    assert (unit.state, unit.ending, unit.trouble) == ("backoff", False, "")


def test_a_stop_before_the_start_starts_nothing():
    unit, commands = play(a_spec(), (0, StopAsked()))
    assert (unit.state, commands) == ("exited", (Announce(state="exited", why="never started"),))
    assert play(a_spec(), (1, StartAsked()), unit=unit) == (unit, ())


def test_a_stop_while_the_start_is_under_way_ends_what_comes_of_it():
    unit, _ = play(a_spec(), (0, StartAsked()), (1, StopAsked()))
    assert unit.state == "stopping"
    started, commands = play(a_spec(), (2, Spawned(who=pid(10))), unit=unit)
    assert commands == (EndTree(who=pid(10)),)
    assert play(a_spec(), (3, TreeGone()), unit=started)[0].state == "exited"
    assert play(a_spec(), (2, SpawnFailed(reason="not found")), unit=unit)[0].state == "exited"
    late, _ = play(a_spec(), (9_000, GraceOver(attempt=1)), unit=unit)
    assert late.state == "exited"
    assert play(a_spec(), (9_001, Spawned(who=pid(10))), unit=late)[1] == (EndTree(who=pid(10)),)


def test_a_stop_in_backoff_calls_off_the_restart_and_ends_the_orphans():
    unit, _ = play(a_spec(), *READY, (500, crash()))
    unit, commands = play(a_spec(), (600, StopAsked()), unit=unit)
    assert (unit.state, commands[-1]) == ("stopping", EndTree(who=pid(10)))
    assert play(a_spec(), (1_000, DelayOver(attempt=1)), unit=unit) == (unit, ())
    assert play(a_spec(), (1_001, TreeGone()), unit=unit)[0].state == "exited"


def test_a_stop_after_the_end_ends_the_orphans_that_are_left():
    unit, _ = play(a_spec(), *READY, (500, crash(code=0)))
    assert (unit.state, unit.swept) == ("exited", False)
    unit, commands = play(a_spec(), (600, StopAsked()), (601, TreeGone()), unit=unit)
    assert (unit.state, unit.swept, states(commands)) == ("exited", True, ["exited"])
    assert play(a_spec(), (700, StopAsked()), unit=unit) == (unit, ())


def test_a_stop_of_a_fatal_process_leaves_it_exited():
    spec = a_spec(restart=Restart(limit=Rate(0, 1_000)))
    fatal, _ = play(spec, (0, StartAsked()), (1, SpawnFailed(reason="not found")))
    assert fatal.state == "fatal"
    assert play(spec, (2, StopAsked()), unit=fatal)[0].state == "exited"


def test_a_stop_while_it_is_put_away_means_that_it_stays_away():
    unit, _ = play(a_spec(), *STARTED, (10_005, StartTimeOut(attempt=1)), (10_010, StopAsked()))
    unit, _ = play(a_spec(), (10_020, crash()), (10_030, TreeGone()), unit=unit)
    assert (unit.state, unit.restarts) == ("exited", 0)


# Answers that come late


def test_a_timer_of_an_earlier_attempt_is_ignored():
    spec = a_spec(alive=PROBE)
    second, _ = play(spec, *READY, (500, crash()), (1_000, DelayOver(attempt=1)), (1_005, Spawned(who=pid(11))))
    for stale in (StartTimeOut(attempt=1), StartGraceOver(attempt=1), GraceOver(attempt=1), DelayOver(attempt=1)):
        assert play(spec, (1_010, stale), unit=second) == (second, ())
    assert play(spec, (1_010, ReadySeen(attempt=1)), unit=second) == (second, ())
    ready, _ = play(spec, (1_020, ReadySeen(attempt=2)), unit=second)
    assert play(spec, (1_030, AliveFailed(reason="", attempt=1)), unit=ready) == (ready, ())
    assert play(spec, (11_030, StartTimeOut(attempt=2)), unit=ready) == (ready, ())


def test_a_death_that_is_told_late_does_not_count_against_the_next_process():
    second, _ = play(a_spec(), *READY, (500, crash()), (1_000, DelayOver(attempt=1)), (1_005, Spawned(who=pid(11))))
    assert play(a_spec(), (1_010, crash(10)), unit=second) == (second, ())
    assert play(a_spec(), (1_010, crash(11)), unit=second)[0].state == "backoff"


def test_every_timer_says_what_to_feed_back():
    rung = [Timer(kind=kind, after_ms=1, attempt=3).rung() for kind in ("start", "start_grace", "delay", "stop")]
    assert rung == [StartTimeOut(attempt=3), StartGraceOver(attempt=3), DelayOver(attempt=3), GraceOver(attempt=3)]


def test_a_process_that_nobody_asked_for_does_not_get_to_live():
    ready, _ = play(a_spec(), *READY)
    assert play(a_spec(), (200, Spawned(who=pid(99))), unit=ready) == (ready, (EndTree(who=pid(99)),))
    assert play(a_spec(), (200, Spawned(who=pid(10))), unit=ready) == (ready, ())


# Every order of events

durations = st.integers(0, 40_000).map(Ms)
specs = st.builds(
    ProcessSpec,
    command=st.just(("serve",)),
    ready=st.sampled_from([None, PROBE]),
    alive=st.sampled_from([None, PROBE]),
    start_grace_ms=st.sampled_from([Ms(0), Ms(1_000)]),
    restart=st.builds(
        Restart,
        when=st.sampled_from(["never", "unexpected", "always"]),
        delay_ms=durations,
        backoff=st.sampled_from([1.0, 1.1, 2.0, 100.0]),
        max_delay_ms=durations,
        jitter_percent=st.integers(0, 100),
        limit=st.builds(Rate, st.integers(0, 4), st.integers(1, 60_000)),
        exit_codes=st.sampled_from([(0,), (0, 3), ()]),
    ),
    forks_away=st.booleans(),
)
attempts = st.integers(0, 4)
people = st.integers(1, 4).map(pid)
deaths = st.builds(
    Died,
    cause=st.sampled_from(["injected", "asked", "oom", "own"]),
    code=st.sampled_from([None, 0, 1, 3]),
    signal=st.sampled_from(["", "", "KILL"]),
    who=st.none() | people,
)
anything: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([StartAsked(), TreeGone(), ReadySeen(), AliveFailed(reason="refused"), StopAsked()]),
    st.builds(Spawned, who=people),
    st.builds(sv.Adopted, who=people),
    st.just(SpawnFailed(reason="not found")),
    st.builds(ReadySeen, attempt=st.none() | attempts),
    *(st.builds(kind, attempt=attempts) for kind in (StartTimeOut, StartGraceOver, DelayOver, GraceOver)),
    deaths,
)
steps = st.lists(st.tuples(st.integers(0, 20_000), anything), max_size=60)

Lived = tuple[int, UnitEvent, Unit, tuple[UnitCommand, ...]]


def live(spec: ProcessSpec, events: list[tuple[int, UnitEvent]], seed: int = 0) -> list[Lived]:
    unit, now_ms, lived = Unit(name="web"), 0, []
    for later_ms, event in [(0, StartAsked()), *events]:
        now_ms += later_ms
        unit, commands = step(unit, spec, event, now_ms, ChoiceStream(seed))
        lived.append((now_ms, event, unit, commands))
    return lived


def spawned_at(lived: list[Lived]) -> list[int]:
    return [now_ms for now_ms, _, _, commands in lived for one in commands if isinstance(one, Spawn)]


@given(specs, steps)
def test_a_change_of_state_is_announced_once_and_first(spec, events):
    before = "waiting"
    for _, _, unit, commands in live(spec, events):
        said = states(commands)
        if not said:
            assert unit.state == before
        else:
            assert isinstance(commands[0], Announce)
            assert said == [unit.state] != [before]
        before = unit.state


@given(specs, steps)
def test_nothing_is_started_once_a_stop_was_asked_for_or_it_is_over(spec, events):
    is_over = False
    for _, event, unit, commands in live(spec, events):
        if is_over:
            assert not [one for one in commands if isinstance(one, Spawn)]
        is_over = is_over or isinstance(event, StopAsked) or unit.state in ("exited", "fatal")


@given(specs, steps)
def test_two_starts_never_come_without_an_end_between_them(spec, events):
    has_ended = True
    for _, event, _, commands in live(spec, events):
        has_ended = has_ended or isinstance(event, Died | SpawnFailed | TreeGone)
        for _ in (one for one in commands if isinstance(one, Spawn)):
            assert has_ended
            has_ended = False


@given(specs, steps)
def test_restarts_never_exceed_the_limit_in_any_window(spec, events):
    restarts = spawned_at(live(spec, events))[1:]
    limit = spec.restart.limit
    for moment in restarts:
        assert sum(moment - limit.per_ms < one <= moment for one in restarts) <= limit.count


@given(specs, steps)
def test_delays_stay_within_their_bounds(spec, events):
    restart = spec.restart
    longest = restart.max_delay_ms * (100 + restart.jitter_percent) / 100
    for now_ms, _, unit, commands in live(spec, events):
        for one in commands:
            if isinstance(one, Announce) and one.state == "backoff":
                assert min(restart.delay_ms, restart.max_delay_ms) <= one.delay_ms <= longest
                assert unit.due_ms == now_ms + one.delay_ms


@given(specs, steps, st.integers())
def test_the_same_seed_gives_the_same_life(spec, events, seed):
    assert live(spec, events, seed) == live(spec, events, seed)


@given(specs, steps)
def test_the_main_process_is_known_exactly_while_it_can_live(spec, events):
    for _, _, unit, _ in live(spec, events):
        if unit.state in ("waiting", "backoff", "exited", "fatal"):
            assert unit.who is None
        if unit.state == "ready":
            assert unit.who is not None and unit.who == unit.last


@given(specs, steps)
def test_counts_agree_with_what_was_done(spec, events):
    lived = live(spec, events)
    spawns, unit = spawned_at(lived), lived[-1][2]
    assert (unit.attempt, unit.restarts) == (len(spawns), len(spawns) - 1)
    assert set(unit.restarts_ms) <= set(spawns)
    assert all(early <= late for early, late in pairwise(unit.restarts_ms))


@given(specs, steps)
def test_a_stale_timer_changes_nothing(spec, events):
    lived = live(spec, events)
    now_ms, unit = lived[-1][0], lived[-1][2]
    for kind in ("start", "start_grace", "delay", "stop"):
        stale = Timer(kind=kind, after_ms=0, attempt=unit.attempt - 1).rung()
        assert step(unit, spec, stale, now_ms, ChoiceStream(0)) == (unit, ())


class World:
    """Processes as they may behave: they start or do not, die when they like, leave orphans, ignore signals."""

    def __init__(self, spec: ProcessSpec, draw: st.DataObject) -> None:
        self.spec, self.draw = spec, draw
        self.unit = Unit(name="web")
        self.now_ms = 0
        self.pids = 0
        self.main: Identity | None = None
        self.left = 0
        """What lives besides the main process."""
        self.coming: list[tuple[int, int, UnitEvent]] = []
        self.said = 0
        self.is_ending = False

    def later(self, after_ms: int, event: UnitEvent) -> None:
        self.said += 1
        self.coming.append((self.now_ms + after_ms, self.said, event))

    def tell(self, event: UnitEvent) -> None:
        if isinstance(event, Died):
            if event.who != self.main:
                return  # It died in another way before.
            self.main = None
            self.left += self.draw.draw(st.integers(0, 1), label="orphans")
        if isinstance(event, TreeGone):
            self.left, self.main, self.is_ending = 0, None, False
        self.unit, commands = step(self.unit, self.spec, event, self.now_ms, ChoiceStream(0))
        for command in commands:
            self.perform(command)

    def perform(self, command: UnitCommand) -> None:
        match command:
            case Spawn():
                self.spawn()
            case Timer():
                self.later(command.after_ms, command.rung())
            case Signal() if self.draw.draw(st.booleans(), label="heeds signals"):
                self.later(10, Died(cause="asked", code=None, signal=command.name, who=command.who))
            case EndTree():
                assert not self.is_ending
                self.is_ending = True
                if self.main is not None:
                    after_ms = self.draw.draw(st.integers(0, 2), label="told after")
                    self.later(after_ms, Died(cause="asked", signal="KILL", who=self.main))
                self.later(1, TreeGone())
            case ArmReady() if self.draw.draw(st.booleans(), label="gets ready"):
                self.later(50, ReadySeen(attempt=command.attempt))
            case ArmAlive() if self.draw.draw(st.booleans(), label="hangs"):
                self.later(3_000, AliveFailed(reason="refused", attempt=command.attempt))

    def spawn(self) -> None:
        assert self.main is None
        fate = self.draw.draw(st.sampled_from(["not found", "dies", "lives"]), label="fate")
        if fate == "not found":
            self.later(0, SpawnFailed(reason="not found"))
            return
        self.pids += 1
        self.main = pid(self.pids)
        self.later(0, Spawned(who=self.main))
        if fate == "dies":
            self.later(self.draw.draw(st.integers(1, 5_000)), Died(cause="own", code=1, who=self.main))

    def run(self, until_ms: int) -> None:
        while self.coming and min(self.coming)[0] <= until_ms:
            moment = min(self.coming)
            self.coming.remove(moment)
            self.now_ms = moment[0]
            self.tell(moment[2])
        self.now_ms = until_ms


@settings(max_examples=150)
@given(specs.map(lambda spec: msgspec.structs.replace(spec, forks_away=False)), st.integers(0, 60_000), st.data())
def test_a_stop_in_any_state_leads_to_exited_with_nothing_left(spec, after_ms, draw):
    world = World(spec, draw)
    world.tell(StartAsked())
    world.run(after_ms)
    world.tell(StopAsked())
    world.run(after_ms + spec.stop.grace_ms + 100)
    assert (world.unit.state, world.unit.swept, world.main, world.left) == ("exited", True, None, 0)


@settings(max_examples=150)
@given(specs.map(lambda spec: msgspec.structs.replace(spec, forks_away=False)), st.integers(0, 60_000), st.data())
def test_no_process_is_ever_stuck(spec, after_ms, draw):
    world = World(spec, draw)
    world.tell(StartAsked())
    world.run(after_ms)
    if world.unit.state in ("starting", "stopping", "backoff"):
        assert world.coming
    assert (world.unit.state == "ready") <= (world.main is not None)
