"""The course of a round: every rule of it, as one pure function.

    starting ─all ready─► steadying ─steady─► round ─time is up─► settling ─► judging ─► stopping ─► done
        │                     │                 │                    │           │
        └── a stop, an abort, a failed start or a full time box lead from anywhere to the way down ──►

`advance(course, event)` answers with the next course and the commands that `run.py` is to perform. Nothing waits,
signals or reads a clock here, so every order of events can be tried in a test.
"""

from __future__ import annotations

import heapq
from typing import Literal

import msgspec

from .journal import Outcome, Phase
from .noun import Noun
from .plan import AfterInjection, At, Injection, OnLog, OnSyscall, Plan

STOP_SETTLE_MS = 5_000
"""How long recovery is still watched once somebody asked for a stop."""


# What can happen.


class Happening(Noun, frozen=True, kw_only=True):
    """The base of what the course is told; `at_ms` is since the run began."""

    at_ms: int = 0


class Begun(Happening, frozen=True, kw_only=True):
    """The run begins."""


class AllReady(Happening, frozen=True, kw_only=True):
    """Every supervised process is ready."""


class CannotStart(Happening, frozen=True, kw_only=True):
    """A process failed to start for good."""

    why: str


class SteadyRead(Happening, frozen=True, kw_only=True):
    """The steady state was asked for, and held or did not, within its time."""

    held: bool
    why: str = ""


class ClockReached(Happening, frozen=True, kw_only=True):
    """Time went by."""


class MomentSeen(Happening, frozen=True, kw_only=True):
    """What an injection waits for was seen: a log line was printed, a system call is about to be made."""

    injection: int


class WorkloadEnded(Happening, frozen=True, kw_only=True):
    """The workload ended by itself."""


class Concluded(Happening, frozen=True, kw_only=True):
    """An injection was carried out, missed or refused; `holds` while its fault lasts."""

    injection: int
    holds: bool = False
    again_in_ms: int | None = None
    """The same injection is to be carried out once more, so much later."""


class Healed(Happening, frozen=True, kw_only=True):
    """The fault of an injection no longer holds anybody."""

    injection: int


class AbortSeen(Happening, frozen=True, kw_only=True):
    """A guard saw a condition that ends the round."""

    why: str


class StopAsked(Happening, frozen=True, kw_only=True):
    """Somebody wants the round to end. `at_once` skips all that can be skipped but healing."""

    why: str
    at_once: bool = False


class TimeBoxOver(Happening, frozen=True, kw_only=True):
    """The time box is spent."""


class WorkloadOver(Happening, frozen=True, kw_only=True):
    """The workload, which was told to stop, has ended."""


class InvariantsRead(Happening, frozen=True, kw_only=True):
    """Every invariant that asks the world was answered."""


class AllStopped(Happening, frozen=True, kw_only=True):
    """Nothing of the round is alive any more."""


# What is to be done.


class Command(Noun, frozen=True, kw_only=True):
    """The base of what `run.py` is told to do."""


class Enter(Command, frozen=True, kw_only=True):
    """Write down that a phase began."""

    phase: Phase
    why: str = ""


class StartProcesses(Command, frozen=True, kw_only=True):
    """Start everything under `processes`."""


class ReadSteadyState(Command, frozen=True, kw_only=True):
    """Ask the steady-state probes until all hold or the time is over; afterwards, wait for every recovery as well."""

    when: Literal["before", "after"]
    within_ms: int


class StartWorkload(Command, frozen=True, kw_only=True):
    """Start the workload, and watch the log lines that triggers wait for."""


class Attempt(Command, frozen=True, kw_only=True):
    """Ask the guard, and carry out an injection."""

    injection: int
    due_ms: int | None = None
    """Since the run began; None where no moment was fixed."""


class HealAll(Command, frozen=True, kw_only=True):
    """Undo every fault that still holds somebody, and let nothing new begin."""

    why: str


class GiveUp(Command, frozen=True, kw_only=True):
    """An injection's trigger never came: write that down."""

    injection: int


class StopWorkload(Command, frozen=True, kw_only=True):
    """Tell the workload to end."""


class ReadInvariants(Command, frozen=True, kw_only=True):
    """Ask every invariant."""


class StopProcesses(Command, frozen=True, kw_only=True):
    """End everything that the round started."""

    at_once: bool = False


class Close(Command, frozen=True, kw_only=True):
    """The run is over."""

    outcome: Outcome
    why: str = ""


class Course(Noun, frozen=True, kw_only=True):
    """Where a round stands."""

    plan: Plan
    steady_within_ms: int = 30_000
    settle_ms: int = 30_000
    phase: Phase = "starting"
    zero_ms: int = 0
    """When the round began, since the run began: the moments of the plan count from here."""
    pending: tuple[tuple[int, int], ...] = ()
    """A heap of (moment since the run began, injection)."""
    waiting: frozenset[int] = frozenset()
    """Injections whose trigger is no fixed moment and has not come yet."""
    at_work: frozenset[int] = frozenset()
    """Injections that were attempted and have not concluded yet."""
    time_is_up: bool = False
    """The round is over as soon as nothing is at work any more: no ladder is cut short by the clock."""
    holding: frozenset[int] = frozenset()
    outcome: Outcome = "completed"
    why: str = ""
    proven: bool = False
    """The round began, so there is something to judge."""

    @property
    def next_ms(self) -> int | None:
        """The next moment at which the clock matters, since the run began; None where it does not."""
        if self.phase != "round" or self.time_is_up:
            return None
        end = self.zero_ms + self.plan.lasts_ms
        return min(end, self.pending[0][0]) if self.pending else end

    def injection(self, number: int) -> Injection:
        """The injection of that number."""
        return self.plan.injections[number - 1]


Step = tuple[Course, tuple[Command, ...]]
_DOWN: tuple[Phase, ...] = ("settling", "judging", "stopping", "done")


def advance(course: Course, event: Happening) -> Step:
    """The next course, and what to do now. Total: every event is allowed in every phase."""
    match event:
        case StopAsked() | AbortSeen() | TimeBoxOver() | CannotStart():
            return _end_early(course, event)
        case ClockReached() if course.phase == "round":
            return _clock(course, event.at_ms)
        case MomentSeen() if course.phase == "round":
            return _moment(course, event)
        case WorkloadEnded() if course.phase == "round" and course.plan.ends_with_workload:
            return _time_is_up(msgspec.structs.replace(course, time_is_up=True))
        case Concluded():
            return _ended_if_done(*_concluded(course, event))
        case Healed():
            return _ended_if_done(msgspec.structs.replace(course, holding=course.holding - {event.injection}), ())
    return _phase_over(course, event)


def _phase_over(course: Course, event: Happening) -> Step:
    match course.phase, event:
        case "starting", Begun():
            return course, (Enter(phase="starting"), StartProcesses())
        case "starting", AllReady():
            ask = ReadSteadyState(when="before", within_ms=course.steady_within_ms)
            return _enter(course, "steadying"), (Enter(phase="steadying"), ask)
        case "steadying", SteadyRead(held=True):
            return _begin_round(course, event.at_ms)
        case "steadying", SteadyRead():
            # A system that is not steady is never disturbed.
            return _stop(course, "aborted", "the steady state did not hold before the round")
        case "settling", SteadyRead():
            return _enter(course, "judging"), (Enter(phase="judging"), StopWorkload())
        case "judging", WorkloadOver():
            return course, (ReadInvariants(),)
        case "judging", InvariantsRead():
            return _stop(course, course.outcome, course.why)
        case "stopping", AllStopped():
            close = Close(outcome=course.outcome, why=course.why)
            return _enter(course, "done"), (Enter(phase="done", why=course.why), close)
    return course, ()


def _enter(course: Course, phase: Phase) -> Course:
    return msgspec.structs.replace(course, phase=phase)


def _begin_round(course: Course, at_ms: int) -> Step:
    timed = [(at_ms + one.trigger.at_ms, one.number) for one in course.plan.injections if isinstance(one.trigger, At)]
    heapq.heapify(timed)
    others = frozenset(one.number for one in course.plan.injections if not isinstance(one.trigger, At))
    begun = msgspec.structs.replace(
        course, phase="round", zero_ms=at_ms, pending=tuple(timed), waiting=others, proven=True
    )
    return begun, (Enter(phase="round"), StartWorkload())


def _clock(course: Course, now_ms: int) -> Step:
    pending, due = list(course.pending), []
    while pending and pending[0][0] <= now_ms:
        due.append(heapq.heappop(pending))
    if due:
        course = msgspec.structs.replace(
            course, pending=tuple(pending), at_work=course.at_work | {number for _, number in due}
        )
        return course, tuple(Attempt(injection=number, due_ms=moment) for moment, number in due)
    if now_ms < course.zero_ms + course.plan.lasts_ms:
        return course, ()
    return _time_is_up(msgspec.structs.replace(course, time_is_up=True))


def _time_is_up(course: Course) -> Step:
    if course.at_work:
        return course, ()
    left = course.waiting | {number for _, number in course.pending}
    never = [GiveUp(injection=number) for number in sorted(left)]
    why = "the round's time is up" if not course.plan.ends_with_workload else "nothing more was to come"
    course, down = _settle(course, why, course.settle_ms)
    return course, (*never, *down)


def _ended_if_done(course: Course, commands: tuple[Command, ...]) -> Step:
    """A round that only waits for what the program does is over when every injection was carried out and healed."""
    busy = course.pending or course.waiting or course.at_work or course.holding
    if course.phase != "round" or busy or not course.plan.ends_when_done:
        return course, commands
    course, down = _settle(course, "every injection was carried out", course.settle_ms)
    return course, (*commands, *down)


def _moment(course: Course, event: MomentSeen) -> Step:
    if event.injection not in course.waiting or course.time_is_up:
        return course, ()
    trigger = course.injection(event.injection).trigger
    assert isinstance(trigger, OnLog | OnSyscall)
    return _schedule(course, event.injection, event.at_ms + trigger.plus_ms, event.at_ms)


def _concluded(course: Course, event: Concluded) -> Step:
    course = msgspec.structs.replace(course, at_work=course.at_work - {event.injection})
    if event.holds:
        course = msgspec.structs.replace(course, holding=course.holding | {event.injection})
    if course.phase != "round":
        # It landed while the round was being ended: nobody else will come to heal it.
        return course, (HealAll(why=course.why or "the round is over"),) if event.holds else ()
    if course.time_is_up:
        return _time_is_up(course)
    commands: tuple[Command, ...] = ()
    if event.again_in_ms is not None:
        return _schedule(course, event.injection, event.at_ms + event.again_in_ms, event.at_ms)
    for number in sorted(course.waiting):
        trigger = course.injection(number).trigger
        if isinstance(trigger, AfterInjection) and trigger.injection == event.injection:
            course, more = _schedule(course, number, event.at_ms + trigger.plus_ms, event.at_ms)
            commands += more
    return course, commands


def _schedule(course: Course, number: int, moment_ms: int, now_ms: int) -> Step:
    course = msgspec.structs.replace(course, waiting=course.waiting - {number})
    if moment_ms <= now_ms:
        course = msgspec.structs.replace(course, at_work=course.at_work | {number})
        return course, (Attempt(injection=number, due_ms=moment_ms),)
    pending = list(course.pending)
    heapq.heappush(pending, (moment_ms, number))
    return msgspec.structs.replace(course, pending=tuple(pending)), ()


def _settle(course: Course, why: str, within_ms: int) -> Step:
    settling = msgspec.structs.replace(course, phase="settling", pending=(), waiting=frozenset())
    return settling, (
        Enter(phase="settling", why=why),
        HealAll(why=why),
        ReadSteadyState(when="after", within_ms=within_ms),
    )


def _stop(course: Course, outcome: Outcome, why: str, *, at_once: bool = False) -> Step:
    stopping = msgspec.structs.replace(
        course, phase="stopping", outcome=outcome, why=why, pending=(), waiting=frozenset()
    )
    return stopping, (
        Enter(phase="stopping", why=why),
        HealAll(why=why or "the round is over"),
        StopProcesses(at_once=at_once),
    )


def _end_early(course: Course, event: StopAsked | AbortSeen | TimeBoxOver | CannotStart) -> Step:
    why = "the time box is spent" if isinstance(event, TimeBoxOver) else event.why
    outcome: Outcome = "stopped" if isinstance(event, StopAsked) else "aborted"
    hurry = isinstance(event, TimeBoxOver) or (isinstance(event, StopAsked) and event.at_once)
    if course.phase == "done":
        return course, ()
    if course.phase == "stopping":
        # Asked again while it was stopping in its own time: end what is left at once.
        return course, (HealAll(why=why), StopProcesses(at_once=True)) if hurry else ()
    if course.phase == "round" and not hurry:
        course = msgspec.structs.replace(course, outcome=outcome, why=why)
        return _settle(course, why, min(course.settle_ms, STOP_SETTLE_MS))
    if course.phase in _DOWN and not hurry:
        # It is on its way down already, and what there is will be judged; who is not back yet gets little more time.
        course = msgspec.structs.replace(course, outcome=outcome, why=course.why or why)
        heal = HealAll(why=why)
        if course.phase != "settling":
            return course, (heal,)
        within_ms = min(course.settle_ms, STOP_SETTLE_MS)
        return course, (heal, ReadSteadyState(when="after", within_ms=within_ms))
    return _stop(course, outcome, why, at_once=hurry)
