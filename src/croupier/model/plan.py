"""The plan: everything a round will do, drawn from the seed before anything starts.

`draw_plan` is pure and quick; the same experiment, stage and seed give the same bytes anywhere. Each injection
carries a `lot`, the number by which its target will be chosen among those that live when it is due.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from .choice import ChoiceStream
from .errors import ExperimentError
from .experiment import After, BlastRadius, Experiment, LogTrigger, On, SyscallTrigger
from .fault import Fault
from .noun import Noun
from .target import Selector
from .units import write_quantity

PLAN_VERSION = 1
MOST_SPINS: Final = 1_000_000
"""More turns of the wheel than this are a slip of the pen: they would take the memory of the machine."""


class At(Noun, tag="at", tag_field="trigger", frozen=True, kw_only=True):
    """So many milliseconds after the steady state was seen."""

    at_ms: int

    def __str__(self) -> str:
        return f"at {self.at_ms / 1000:.3f} s"


class AfterInjection(Noun, tag="after", tag_field="trigger", frozen=True, kw_only=True):
    """So many milliseconds after another injection was carried out, whatever came of it."""

    injection: int
    plus_ms: int

    def __str__(self) -> str:
        return f"{self.plus_ms / 1000:g} s after #{self.injection}"


class OnLog(Noun, tag="on-log", tag_field="trigger", frozen=True, kw_only=True):
    """So many milliseconds after a process printed the n-th line that matches."""

    process: str
    match: str
    nth: int
    plus_ms: int

    def __str__(self) -> str:
        later = f", plus {self.plus_ms / 1000:g} s" if self.plus_ms else ""
        return f"when {self.process} prints /{self.match}/ (no. {self.nth}){later}"


class OnSyscall(Noun, tag="on-syscall", tag_field="trigger", frozen=True, kw_only=True):
    """So many milliseconds after the n-th matching system call of a process was about to be made."""

    process: str
    call: str
    nth: int
    path: str
    plus_ms: int

    def __str__(self) -> str:
        later = f", plus {self.plus_ms / 1000:g} s" if self.plus_ms else ""
        what = "a call that changes a file" if self.call == "any" else self.call
        return f"before {self.process} makes {what}{f' on {self.path}' if self.path else ''} (no. {self.nth}){later}"


Trigger = At | AfterInjection | OnLog | OnSyscall


class Injection(Noun, frozen=True, kw_only=True):
    """One fault × one target × one trigger, numbered from 1."""

    number: int
    trigger: Trigger
    fault: Fault
    target: Selector
    lot: int
    drawn: bool = True
    """From the wheel; False for one that the file names exactly."""


class Plan(Noun, frozen=True, kw_only=True):
    """The injections of one round, those of the file first, then those of the wheel in order of time."""

    version: int
    title: str
    seed: int
    blast_radius: BlastRadius
    lasts_ms: int
    """From the steady state to the end of the round; triggers that have not come by then never fire."""
    injections: tuple[Injection, ...]
    ends_when_done: bool = False
    """There is no schedule, and something waits for what the program does or for another injection: the round ends with
    the last injection, and after `lasts_ms` at the latest."""
    ends_with_workload: bool = False
    """The round ends when the workload has ended by itself."""


def aims(plan: Plan, processes: Iterable[str]) -> Iterator[tuple[Fault, frozenset[str]]]:
    """Every fault that is carried out, parts of combinations as well, and those of the processes that it may hit."""
    every = frozenset(processes)
    for injection in plan.injections:
        for part in injection.fault.parts or (injection,):
            target: Selector = getattr(part, "target", None) or injection.target
            # A target that is not told by its name may turn out to be anybody's.
            yield part.fault, every & {target.process} if target.process else every


def processes_hit(plan: Plan, by: type[Fault] | tuple[type[Fault], ...], processes: Iterable[str]) -> frozenset[str]:
    """Those of the processes that a fault of such a class may hit, alone or as a part."""
    return frozenset(name for fault, names in aims(plan, processes) if isinstance(fault, by) for name in names)


def draw_plan(experiment: Experiment, seed: int) -> Plan:
    """Draw everything that chance decides. Raises ExperimentError where the wheel has nothing to draw from or would
    turn without end, and where an injection waits for one that never comes."""
    choices = ChoiceStream(seed)
    exact = _exact(experiment, choices.fork("exact"))
    spins = _spins(experiment, choices.fork("wheel"), first=len(exact) + 1)
    injections = (*exact, *spins)
    return Plan(
        version=PLAN_VERSION,
        title=experiment.title,
        seed=seed,
        blast_radius=experiment.blast_radius,
        lasts_ms=_lasts_ms(experiment, injections),
        injections=injections,
        ends_when_done=experiment.schedule is None and _waits(injections),
    )


def plan_json(plan: Plan) -> bytes:
    """The bytes that stand for this plan on disk: one line, keys in a fixed order."""
    return msgspec.json.encode(plan, enc_hook=write_quantity) + b"\n"


def digest(data: bytes) -> str:
    """A short name for some bytes: the first 16 hex digits of their SHA-256."""
    return sha256(data).hexdigest()[:16]


def _exact(experiment: Experiment, choices: ChoiceStream) -> tuple[Injection, ...]:
    drawn = []
    for number, one in enumerate(experiment.injections, start=1):
        trigger: Trigger
        if one.at_ms is not None:
            trigger = At(at_ms=int(one.at_ms))
        else:
            trigger = _moment(one.after or one.on, f"injections[{number - 1}]")
        lot = choices.fork(number).word()
        drawn.append(
            Injection(number=number, trigger=trigger, fault=one.fault, target=one.target, lot=lot, drawn=False)
        )
    _check_waits({one.number: one.trigger for one in drawn})
    return tuple(drawn)


def _check_waits(triggers: Mapping[int, Trigger]) -> None:
    fine: set[int] = set()
    for number in triggers:
        met, trigger = {number}, triggers[number]
        while isinstance(trigger, AfterInjection) and trigger.injection not in fine:
            at = f"injections[{number - 1}].after"
            if trigger.injection not in triggers:
                raise ExperimentError(
                    f"there is no injection {trigger.injection} to wait for",
                    at=at,
                    hint=f"those of the file are numbered from 1 to {len(triggers)}, in their order",
                )
            if trigger.injection in met:
                raise ExperimentError(
                    f"injection {number} waits for itself, so it would never come",
                    at=at,
                    hint="give one of them `at` or `on`",
                )
            met.add(trigger.injection)
            trigger = triggers[trigger.injection]
        fine |= met


def _moment(moment: After | On | None, at: str) -> Trigger:
    match moment:
        case After():
            return AfterInjection(injection=moment.injection, plus_ms=int(moment.plus_ms))
        case On(log=LogTrigger() as log):
            return OnLog(process=log.process, match=log.match, nth=log.nth, plus_ms=int(moment.plus_ms))
        case On(syscall=SyscallTrigger() as one):
            return OnSyscall(
                process=one.process, call=one.call, nth=one.nth, path=one.path, plus_ms=int(moment.plus_ms)
            )
        case _:
            raise ExperimentError("an injection needs a trigger", at=at, hint="give one of at, after, on")


def _spins(experiment: Experiment, choices: ChoiceStream, first: int) -> tuple[Injection, ...]:
    schedule = experiment.schedule
    if schedule is None:
        return ()
    entries = experiment.faults
    weights = [entry.weight_at(experiment.blast_radius) for entry in entries]
    if not sum(weights):
        raise ExperimentError(
            f"the wheel has no weight in blast radius {experiment.blast_radius!r}",
            at="faults",
            hint="give at least one fault a weight above 0",
        )
    # Labelled streams: when, what and who are drawn apart, so that a new fault on the wheel leaves the moments alone.
    when, what, who = choices.fork("when"), choices.fork("what"), choices.fork("who")
    every, lasts, jitter = int(schedule.every_ms), int(schedule.for_ms), int(schedule.jitter_ms)
    if every < 1 or lasts // every > MOST_SPINS:
        raise ExperimentError(
            f"a turn every {schedule.every_ms} for {schedule.for_ms}: {MOST_SPINS:,} turns of the wheel are the most",
            at="schedule.every",
            hint="make `every` longer, or `for` shorter",
        )
    moments = sorted(
        # Jitter moves a turn, but never out of the schedule.
        min(max(0, tick + (when.between(-jitter, jitter) if jitter else 0)), lasts - 1)
        for tick in range(every, lasts, every)
    )
    spins = []
    for number, moment in enumerate(moments, start=first):
        entry = what.weighted(entries, weights)
        spins.append(
            Injection(
                number=number,
                trigger=At(at_ms=moment),
                fault=entry.fault,
                target=entry.target,
                lot=who.word(),
            )
        )
    return tuple(spins)


def _lasts_ms(experiment: Experiment, injections: tuple[Injection, ...]) -> int:
    """The schedule's length, or long enough for every moment that is known beforehand, with what it leads to."""
    known = {one.number: one.trigger.at_ms for one in injections if isinstance(one.trigger, At)}
    waiting = {one.number: one.trigger for one in injections if isinstance(one.trigger, AfterInjection)}
    for number in tuple(waiting):
        # An injection may wait for one that stands further down in the file.
        chain = []
        while number in waiting:
            chain.append((number, waiting.pop(number)))
            number = chain[-1][1].injection
        for follower, trigger in reversed(chain):
            if trigger.injection in known:
                known[follower] = known[trigger.injection] + trigger.plus_ms
    ends = [known[one.number] + _takes_ms(one.fault) for one in injections if one.number in known]
    last = max((end + 1 for end in ends), default=0)
    if experiment.schedule:
        return max(int(experiment.schedule.for_ms), last)
    if any(isinstance(one.trigger, OnLog | OnSyscall) for one in injections):
        return max(60_000, last)
    return last + LATE_MS if _waits(injections) else last


LATE_MS = 10_000
"""An injection that takes its time moves those that wait for it; so much is allowed for."""


def _waits(injections: tuple[Injection, ...]) -> bool:
    """Whether anything waits for what the program does, or for another injection."""
    return any(not isinstance(one.trigger, At) for one in injections)


def _takes_ms(fault: Fault) -> int:
    times, every_ms = fault.rounds
    return (times - 1) * every_ms + fault.busy_ms + fault.lasting_ms
