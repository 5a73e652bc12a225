"""The plan: everything a round will do, drawn from the seed before anything starts.

`draw_plan` is pure and quick; the same experiment, stage and seed give the same bytes anywhere. Each injection
carries a `lot`, the number by which its target will be chosen among those that live when it is due.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from .choice import ChoiceStream
from .errors import ExperimentError
from .experiment import After, BlastRadius, Experiment, On
from .fault import Fault
from .noun import Noun
from .target import Selector

PLAN_VERSION = 1


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
        return f"when {self.process} prints /{self.match}/ (no. {self.nth})"


Trigger = At | AfterInjection | OnLog


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


def draw_plan(experiment: Experiment, seed: int) -> Plan:
    """Draw everything that chance decides. Raises ExperimentError where the wheel has nothing to draw from."""
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
    )


def plan_json(plan: Plan) -> bytes:
    """The bytes that stand for this plan on disk: one line, keys in a fixed order."""
    return msgspec.json.encode(plan, enc_hook=encode_quantity) + b"\n"


def digest(data: bytes) -> str:
    """A short name for some bytes: the first 16 hex digits of their SHA-256."""
    return sha256(data).hexdigest()[:16]


def encode_quantity(value: object) -> Any:
    """Write a quantity as people write it (`2s`), so that plan and journal read back by the rules of the file."""
    return str(value)


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
    return tuple(drawn)


def _moment(moment: After | On | None, at: str) -> Trigger:
    match moment:
        case After():
            return AfterInjection(injection=moment.injection, plus_ms=int(moment.plus_ms))
        case On():
            log = moment.log
            return OnLog(process=log.process, match=log.match, nth=log.nth, plus_ms=int(moment.plus_ms))
        case None:
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
    jitter = int(schedule.jitter_ms)
    moments = sorted(
        max(0, tick + (when.between(-jitter, jitter) if jitter else 0))
        for tick in range(int(schedule.every_ms), int(schedule.for_ms), int(schedule.every_ms))
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
    known: dict[int, int] = {}
    for one in injections:
        if isinstance(one.trigger, At):
            known[one.number] = one.trigger.at_ms
        elif isinstance(one.trigger, AfterInjection) and one.trigger.injection in known:
            known[one.number] = known[one.trigger.injection] + one.trigger.plus_ms
    ends = [known.get(one.number, 0) + one.fault.lasting_ms for one in injections if one.number in known]
    floor = int(experiment.schedule.for_ms) if experiment.schedule else 0
    if any(isinstance(one.trigger, OnLog) for one in injections) and not floor:
        floor = 60_000
    return max([floor, *(end + 1 for end in ends)])
