"""The rules of a round, tried in every order of events that we could think of, and in many that we could not."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from croupier.model import course as c
from croupier.model.course import Course, advance
from croupier.model.fault import Kill, Suspend
from croupier.model.plan import AfterInjection, At, Injection, OnLog, OnSyscall, Plan, Trigger
from croupier.model.target import Selector
from croupier.model.units import Ms


def a_plan(*triggers: Trigger, lasts_ms: int = 10_000) -> Plan:
    injections = tuple(
        Injection(number=number, trigger=trigger, fault=Kill(), target=Selector(process="web"), lot=number)
        for number, trigger in enumerate(triggers or (At(at_ms=1_000), At(at_ms=2_000)), start=1)
    )
    return Plan(version=1, title="t", seed=0, blast_radius="local", lasts_ms=lasts_ms, injections=injections)


def in_round(plan: Plan | None = None, *, zero_ms: int = 0) -> Course:
    course = Course(plan=plan or a_plan())
    for event in (c.Begun(), c.AllReady(), c.SteadyRead(at_ms=zero_ms, held=True)):
        course, _ = advance(course, event)
    assert course.phase == "round"
    return course


def attempts(commands: tuple[c.Command, ...]) -> list[int]:
    return [one.injection for one in commands if isinstance(one, c.Attempt)]


def kinds(commands: tuple[c.Command, ...]) -> list[str]:
    return [type(one).__name__ for one in commands]


def test_processes_come_first_then_the_steady_state_then_the_workload():
    course, commands = advance(Course(plan=a_plan()), c.Begun())
    assert kinds(commands) == ["Enter", "StartProcesses"]
    course, commands = advance(course, c.AllReady())
    assert kinds(commands) == ["Enter", "ReadSteadyState"]
    course, commands = advance(course, c.SteadyRead(held=True))
    assert kinds(commands) == ["Enter", "StartWorkload"]


def test_a_system_that_is_not_steady_is_never_disturbed():
    course, _ = advance(Course(plan=a_plan(At(at_ms=0))), c.Begun())
    course, _ = advance(course, c.AllReady())
    course, commands = advance(course, c.SteadyRead(held=False))
    assert course.phase == "stopping" and course.outcome == "aborted" and not course.proven
    assert kinds(commands) == ["Enter", "HealAll", "StopProcesses"]
    course, commands = advance(course, c.ClockReached(at_ms=99_999))
    assert attempts(commands) == []


def test_moments_of_the_plan_count_from_the_steady_state():
    course = in_round(zero_ms=5_000)
    assert course.next_ms == 6_000
    _, commands = advance(course, c.ClockReached(at_ms=5_999))
    assert attempts(commands) == []
    course, commands = advance(course, c.ClockReached(at_ms=6_000))
    assert attempts(commands) == [1] and course.next_ms == 7_000


def test_a_late_clock_makes_up_for_what_is_due_in_order_of_the_moments():
    course = in_round(a_plan(At(at_ms=2_000), At(at_ms=1_000)))
    _, commands = advance(course, c.ClockReached(at_ms=3_000))
    assert attempts(commands) == [2, 1]


def test_an_injection_may_follow_another_whatever_came_of_that():
    course = in_round(a_plan(At(at_ms=1_000), AfterInjection(injection=1, plus_ms=500)))
    course, _ = advance(course, c.ClockReached(at_ms=1_000))
    course, commands = advance(course, c.Concluded(at_ms=1_200, injection=1))
    assert attempts(commands) == [] and course.next_ms == 1_700
    _, commands = advance(course, c.ClockReached(at_ms=1_700))
    assert attempts(commands) == [2]


def test_an_injection_that_follows_at_once_is_attempted_at_once():
    course = in_round(a_plan(At(at_ms=1_000), AfterInjection(injection=1, plus_ms=0)))
    course, _ = advance(course, c.ClockReached(at_ms=1_000))
    _, commands = advance(course, c.Concluded(at_ms=1_001, injection=1))
    assert attempts(commands) == [2]


def test_a_log_line_fires_its_injection_once():
    course = in_round(a_plan(OnLog(process="web", match="flush", nth=1, plus_ms=0)))
    course, commands = advance(course, c.MomentSeen(at_ms=400, injection=1))
    assert attempts(commands) == [1]
    _, commands = advance(course, c.MomentSeen(at_ms=500, injection=1))
    assert attempts(commands) == []


def test_a_trigger_that_never_came_is_given_up_at_the_end():
    course = in_round(a_plan(OnLog(process="web", match="flush", nth=1, plus_ms=0), lasts_ms=3_000))
    course, commands = advance(course, c.ClockReached(at_ms=3_000))
    assert [one.injection for one in commands if isinstance(one, c.GiveUp)] == [1]
    assert course.phase == "settling"


def test_an_injection_that_was_still_to_come_at_the_end_is_given_up_as_well():
    course = in_round(a_plan(OnLog(process="web", match="flush", nth=1, plus_ms=9_000), lasts_ms=3_000))
    course, _ = advance(course, c.MomentSeen(at_ms=100, injection=1))
    course, commands = advance(course, c.ClockReached(at_ms=3_000))
    assert [one.injection for one in commands if isinstance(one, c.GiveUp)] == [1]


def test_a_repeated_injection_comes_again_after_its_pause():
    course = in_round(a_plan(At(at_ms=1_000)))
    course, _ = advance(course, c.ClockReached(at_ms=1_000))
    course, commands = advance(course, c.Concluded(at_ms=1_010, injection=1, again_in_ms=200))
    assert commands == () and course.next_ms == 1_210
    _, commands = advance(course, c.ClockReached(at_ms=1_210))
    assert attempts(commands) == [1]


def test_when_time_is_up_everything_is_healed_before_recovery_is_asked_for():
    course, _ = advance(in_round(a_plan(At(at_ms=1), lasts_ms=5_000)), c.ClockReached(at_ms=1))
    course, _ = advance(course, c.Concluded(at_ms=2, injection=1))
    course, commands = advance(course, c.ClockReached(at_ms=5_000))
    assert kinds(commands) == ["Enter", "HealAll", "ReadSteadyState"]


def test_an_injection_that_is_still_at_work_when_time_is_up_is_waited_for():
    course, _ = advance(in_round(a_plan(At(at_ms=900), lasts_ms=1_000)), c.ClockReached(at_ms=900))
    course, commands = advance(course, c.ClockReached(at_ms=1_000))
    assert (course.phase, commands, course.next_ms) == ("round", (), None)
    course, commands = advance(course, c.Concluded(at_ms=5_900, injection=1))
    assert kinds(commands) == ["Enter", "HealAll", "ReadSteadyState"]


def test_a_steady_state_that_does_not_come_back_is_still_judged():
    course, _ = advance(in_round(a_plan(At(at_ms=1), lasts_ms=5)), c.ClockReached(at_ms=1))
    course, _ = advance(course, c.Concluded(at_ms=2, injection=1))
    course, _ = advance(course, c.ClockReached(at_ms=5))
    course, commands = advance(course, c.SteadyRead(held=False))
    assert kinds(commands) == ["Enter", "StopWorkload"]
    course, commands = advance(course, c.WorkloadOver())
    assert kinds(commands) == ["ReadInvariants"]
    course, commands = advance(course, c.InvariantsRead())
    assert kinds(commands) == ["Enter", "HealAll", "StopProcesses"]
    course, commands = advance(course, c.AllStopped())
    assert kinds(commands) == ["Enter", "Close"] and course.outcome == "completed"


def test_a_fault_that_lands_while_the_round_is_being_ended_is_healed_at_once():
    course, _ = advance(in_round(), c.StopAsked(why="Ctrl-C"))
    _, commands = advance(course, c.Concluded(injection=1, holds=True))
    assert kinds(commands) == ["HealAll"]


def test_a_stop_in_the_round_heals_and_judges_what_there_is():
    course, commands = advance(in_round(), c.StopAsked(at_ms=1_500, why="SIGINT"))
    assert kinds(commands) == ["Enter", "HealAll", "ReadSteadyState"]
    assert (course.phase, course.outcome) == ("settling", "stopped")


def test_a_halt_skips_everything_but_healing_and_ending():
    for course in (in_round(), advance(in_round(), c.StopAsked(why="SIGINT"))[0]):
        course, commands = advance(course, c.StopAsked(why="halt", at_once=True))
        assert kinds(commands) == ["Enter", "HealAll", "StopProcesses"]
        assert commands[-1] == c.StopProcesses(at_once=True)


def test_a_process_that_cannot_be_started_ends_the_round_as_aborted():
    course, _ = advance(Course(plan=a_plan()), c.Begun())
    course, commands = advance(course, c.CannotStart(why="web is fatal"))
    assert course.outcome == "aborted" and "StopProcesses" in kinds(commands)


EVENTS = st.one_of(
    st.builds(c.Begun, at_ms=st.integers(0, 9_000)),
    st.builds(c.AllReady, at_ms=st.integers(0, 9_000)),
    st.builds(c.SteadyRead, at_ms=st.integers(0, 9_000), held=st.booleans()),
    st.builds(c.ClockReached, at_ms=st.integers(0, 20_000)),
    st.builds(c.MomentSeen, at_ms=st.integers(0, 9_000), injection=st.integers(1, 4)),
    st.builds(c.Concluded, at_ms=st.integers(0, 9_000), injection=st.integers(1, 4), holds=st.booleans()),
    st.builds(c.Healed, injection=st.integers(1, 4)),
    st.builds(c.AbortSeen, why=st.just("guard")),
    st.builds(c.StopAsked, why=st.just("SIGINT"), at_once=st.booleans()),
    st.just(c.TimeBoxOver()),
    st.just(c.CannotStart(why="fatal")),
    st.just(c.WorkloadOver()),
    st.just(c.InvariantsRead()),
    st.just(c.AllStopped()),
)
PLAN = a_plan(
    At(at_ms=1_000),
    AfterInjection(injection=1, plus_ms=100),
    OnLog(process="web", match="x", nth=1, plus_ms=50),
    At(at_ms=4_000),
)


@given(st.lists(EVENTS, max_size=40))
def test_in_every_order_of_events_the_rules_hold(events):
    course, steady, over, closed = Course(plan=PLAN), False, False, 0
    for event in events:
        before = course.phase
        course, commands = advance(course, event)
        steady = steady or (before == "steadying" and isinstance(event, c.SteadyRead) and event.held)
        over = over or before in ("settling", "judging", "stopping", "done")
        if attempts(commands):
            assert steady, "an injection before the steady state"
            assert not over, "an injection after the round"
        if before != course.phase and course.phase in ("settling", "stopping"):
            assert "HealAll" in kinds(commands), "a way out without healing"
        closed += "Close" in kinds(commands)
        assert closed <= 1
        assert before != "done" or (course.phase == "done" and "StopProcesses" not in kinds(commands))


@given(st.lists(EVENTS, max_size=30))
def test_from_anywhere_a_halt_leads_to_the_end(events):
    course = Course(plan=PLAN)
    for event in events:
        course, _ = advance(course, event)
    course, _ = advance(course, c.StopAsked(why="halt", at_once=True))
    course, _ = advance(course, c.AllStopped())
    assert course.phase == "done"


def test_a_lasting_fault_is_remembered_until_it_is_healed():
    plan = a_plan(At(at_ms=0))
    lasting = msgspec.structs.replace(plan.injections[0], fault=Suspend(for_ms=Ms(2_000)))
    course = in_round(msgspec.structs.replace(plan, injections=(lasting,)))
    course, _ = advance(course, c.Concluded(injection=1, holds=True))
    assert course.holding == {1}
    course, _ = advance(course, c.Healed(injection=1))
    assert course.holding == frozenset()


def test_a_system_call_fires_its_injection_at_once_or_so_long_after_it():
    at_once, later = (OnSyscall(process="web", call="fsync", nth=3, path="", plus_ms=plus) for plus in (0, 250))
    course = in_round(a_plan(at_once, later))
    course, commands = advance(course, c.MomentSeen(at_ms=400, injection=1))
    assert attempts(commands) == [1]
    course, commands = advance(course, c.MomentSeen(at_ms=400, injection=2))
    assert attempts(commands) == [] and course.next_ms == 650
    _, commands = advance(course, c.ClockReached(at_ms=650))
    assert attempts(commands) == [2]
