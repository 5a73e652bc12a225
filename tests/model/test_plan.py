"""The plan: the same bytes for the same seed anywhere, and no choice that another one shifts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model.errors import ExperimentError
from croupier.model.experiment import (
    After,
    ExactInjection,
    Experiment,
    LogTrigger,
    On,
    Schedule,
    SyscallTrigger,
    WheelEntry,
)
from croupier.model.fault import Kill, Suspend
from croupier.model.faults.combined import Part, Together
from croupier.model.plan import (
    LATE_MS,
    AfterInjection,
    At,
    Injection,
    OnLog,
    OnSyscall,
    Plan,
    digest,
    draw_plan,
    plan_json,
    processes_hit,
)
from croupier.model.target import Selector
from croupier.model.units import Ms

GOLDEN = Path(__file__).parent.parent / "golden"
SOURCE = Path(__file__).parent.parent.parent / "src"


def _golden_experiment() -> Experiment:
    spec = importlib.util.spec_from_file_location("golden_experiment", GOLDEN / "experiment.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.roulette()


ROULETTE = _golden_experiment()
WEB = Selector(process="web")


def an_experiment(**changes: Any) -> Experiment:
    plain = Experiment(
        version=1,
        title="A wheel",
        hypothesis="It turns.",
        faults=(WheelEntry(fault=Kill(), target=WEB, weight=3), WheelEntry(fault=Suspend(for_ms=Ms(100)), target=WEB)),
        schedule=Schedule(every_ms=Ms(1_000), for_ms=Ms(60_000), jitter_ms=Ms(300)),
    )
    return msgspec.structs.replace(plain, **changes)


def moments(plan: Plan) -> list[int]:
    return [one.trigger.at_ms for one in plan.injections if one.drawn and isinstance(one.trigger, At)]


def exactly(**trigger: Any) -> ExactInjection:
    return ExactInjection(fault=Kill(), target=WEB, **trigger)


@pytest.mark.parametrize("seed", [0, 42])
def test_a_seed_draws_this_plan_for_ever(seed):
    assert plan_json(draw_plan(ROULETTE, seed)) == (GOLDEN / f"plan-{seed}.json").read_bytes()


@pytest.mark.parametrize(
    "around",
    [
        {"PYTHONHASHSEED": "1", "TZ": "Pacific/Auckland"},
        {"PYTHONHASHSEED": "2", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "America/St_Johns"},
        {"PYTHONHASHSEED": "random", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONOPTIMIZE": "2"},
    ],
)
def test_a_seed_draws_the_same_bytes_in_any_surroundings(around):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), **around}
    drawn = subprocess.run(
        [sys.executable, GOLDEN / "experiment.py", "42"], env=env, capture_output=True, check=True, timeout=60
    )
    assert drawn.stdout == (GOLDEN / "plan-42.json").read_bytes()


def test_seed_0_is_a_seed_like_every_other():
    plans = [plan_json(draw_plan(an_experiment(), seed)) for seed in (0, 1, -1, 2**70)]
    assert len(set(plans)) == 4
    assert draw_plan(an_experiment(), 0).seed == 0


def test_a_plan_names_what_it_was_drawn_for():
    plan = draw_plan(ROULETTE, 42)
    assert (plan.version, plan.title, plan.seed, plan.blast_radius) == (1, ROULETTE.title, 42, "local")
    assert [one.number for one in plan.injections] == list(range(1, len(plan.injections) + 1))
    assert [one.drawn for one in plan.injections] == [False] * 3 + [True] * 11
    assert len(digest(plan_json(plan))) == 16


def test_triggers_say_when_in_words():
    plan = draw_plan(ROULETTE, 42)
    assert [str(one.trigger) for one in plan.injections[:4]] == [
        "at 3.000 s",
        "2 s after #1",
        "when web prints /flush/ (no. 2), plus 0.05 s",
        "at 4.336 s",
    ]


@given(st.integers())
def test_a_fault_without_weight_leaves_the_whole_plan_alone(seed):
    plain = an_experiment()
    padded = an_experiment(
        faults=(WheelEntry(fault=Kill(signal="HUP"), target=WEB, weight=0), *plain.faults),
    )
    assert draw_plan(padded, seed) == draw_plan(plain, seed)


@given(st.integers(), st.integers(0, 1_000))
def test_another_fault_leaves_the_moments_and_the_lots_alone(seed, weight):
    plain = an_experiment()
    more = an_experiment(
        faults=(*plain.faults, WheelEntry(fault=Kill(signal="HUP"), target=Selector(name="x"), weight=weight))
    )
    before, after = draw_plan(plain, seed), draw_plan(more, seed)
    assert moments(before) == moments(after)
    assert [one.lot for one in before.injections] == [one.lot for one in after.injections]


@given(st.integers())
def test_an_exact_injection_leaves_the_wheel_alone(seed):
    plain = draw_plan(an_experiment(), seed)
    more = draw_plan(an_experiment(injections=(exactly(at_ms=Ms(5)), exactly(at_ms=Ms(6)))), seed)
    drawn = [msgspec.structs.replace(one, number=one.number - 2) for one in more.injections[2:]]
    assert drawn == list(plain.injections)
    first = draw_plan(an_experiment(injections=(exactly(at_ms=Ms(9)),)), seed)
    assert first.injections[0].lot == more.injections[0].lot


def test_weights_are_those_of_the_stage():
    only_suspend = (
        WheelEntry(fault=Kill(), target=WEB, weight=5, when_blast_radius={"canary": 0}),
        WheelEntry(fault=Suspend(for_ms=Ms(100)), target=WEB, weight=0, when_blast_radius={"canary": 1}),
    )
    local = draw_plan(an_experiment(faults=only_suspend), 42)
    canary = draw_plan(an_experiment(faults=only_suspend, blast_radius="canary"), 42)
    assert {type(one.fault) for one in local.injections} == {Kill}
    assert {type(one.fault) for one in canary.injections} == {Suspend}
    assert moments(local) == moments(canary)


def test_the_wheel_is_drawn_by_weight():
    schedule = Schedule(every_ms=Ms(10), for_ms=Ms(40_000))
    plan = draw_plan(an_experiment(schedule=schedule), 42)
    kills = sum(isinstance(one.fault, Kill) for one in plan.injections)
    assert len(plan.injections) == 3_999
    assert 2_880 < kills < 3_120


schedules = st.builds(
    Schedule,
    every_ms=st.integers(1, 5_000).map(Ms),
    for_ms=st.integers(0, 20_000).map(Ms),
    jitter_ms=st.integers(0, 30_000).map(Ms),
).filter(lambda one: one.for_ms // one.every_ms < 200)


@given(schedules, st.integers())
def test_jitter_moves_a_turn_but_never_out_of_the_schedule(schedule, seed):
    plan = draw_plan(an_experiment(schedule=schedule, faults=(WheelEntry(fault=Kill(), target=WEB),)), seed)
    ticks = list(range(schedule.every_ms, schedule.for_ms, schedule.every_ms))
    assert len(moments(plan)) == len(ticks)
    assert moments(plan) == sorted(moments(plan))
    assert all(0 <= moment < schedule.for_ms for moment in moments(plan))
    # Sorting never takes a turn further from the tick of its own rank than the jitter itself.
    assert all(abs(at - tick) <= schedule.jitter_ms for at, tick in zip(moments(plan), ticks, strict=True))
    assert plan.lasts_ms == schedule.for_ms


def test_without_jitter_the_wheel_turns_on_the_tick():
    plan = draw_plan(an_experiment(schedule=Schedule(every_ms=Ms(4), for_ms=Ms(13))), 7)
    assert moments(plan) == [4, 8, 12]


def test_without_a_schedule_the_wheel_stands_still():
    plan = draw_plan(an_experiment(schedule=None, injections=(exactly(at_ms=Ms(5)),)), 42)
    assert [one.drawn for one in plan.injections] == [False]


def test_a_round_lasts_long_enough_for_what_is_known_beforehand():
    def lasts(*injections: ExactInjection, **changes: Any) -> int:
        return draw_plan(an_experiment(schedule=None, **changes, injections=injections), 0).lasts_ms

    assert lasts() == 0
    assert lasts(exactly(at_ms=Ms(5_000))) == 5_001
    long = ExactInjection(fault=Suspend(for_ms=Ms(9_000)), target=WEB, at_ms=Ms(1_000))
    assert lasts(long) == 10_001
    again = ExactInjection(fault=Kill(repeat=4, every_ms=Ms(500)), target=WEB, at_ms=Ms(1_000))
    assert lasts(again) == 2_501
    forwards = (exactly(at_ms=Ms(5)), exactly(after=After(injection=1, plus_ms=Ms(10))))
    backwards = (exactly(after=After(injection=2, plus_ms=Ms(10))), exactly(at_ms=Ms(5)))
    assert lasts(*forwards) == lasts(*backwards) == 16 + LATE_MS
    assert lasts(exactly(on=On(log=LogTrigger(process="web", match="x")))) == 60_000
    chain = (exactly(on=On(log=LogTrigger(process="web", match="x"))), exactly(after=After(injection=1)))
    assert lasts(*chain) == 60_000


def test_long_chains_of_injections_are_followed_quickly():
    backwards = [exactly(after=After(injection=number + 1, plus_ms=Ms(1))) for number in range(1, 5_000)]
    plan = draw_plan(an_experiment(schedule=None, injections=(*backwards, exactly(at_ms=Ms(0)))), 0)
    assert plan.lasts_ms == 5_000 + LATE_MS


def test_a_round_in_which_one_injection_waits_for_another_ends_with_the_last_however_late_the_first_came():
    injections = (exactly(at_ms=Ms(5)), exactly(after=After(injection=1, plus_ms=Ms(10))))
    assert draw_plan(an_experiment(schedule=None, injections=injections), 0).ends_when_done
    assert not draw_plan(an_experiment(injections=injections), 0).ends_when_done, "the schedule says when"


@pytest.mark.parametrize(
    ("changes", "message", "at"),
    [
        ({"faults": ()}, "the wheel has no weight in blast radius 'local'", "faults"),
        ({"faults": (WheelEntry(fault=Kill(), target=WEB, weight=0),)}, "no weight", "faults"),
        ({"schedule": Schedule(every_ms=Ms(0), for_ms=Ms(1_000))}, "turns of the wheel", "schedule.every"),
        ({"schedule": Schedule(every_ms=Ms(1), for_ms=Ms.parse("300d"))}, "turns of the wheel", "schedule.every"),
        ({"injections": (exactly(),)}, "needs a trigger", "injections[0]"),
        ({"injections": (exactly(after=After(injection=2)),)}, "no injection 2", "injections[0].after"),
        ({"injections": (exactly(after=After(injection=1)),)}, "waits for itself", "injections[0].after"),
        (
            {"injections": (exactly(after=After(injection=2)), exactly(after=After(injection=1)))},
            "waits for itself",
            "injections[",
        ),
    ],
)
def test_a_plan_that_cannot_be_drawn_says_why_and_where(changes, message, at):
    with pytest.raises(ExperimentError) as refused:
        draw_plan(an_experiment(**changes), 42)
    assert message in refused.value.message
    assert refused.value.at.startswith(at)
    assert refused.value.hint


def test_a_plan_is_one_line_and_every_trigger_reads_back():
    data = plan_json(draw_plan(ROULETTE, 42))
    assert data.count(b"\n") == 1 and data.endswith(b"\n")
    told = msgspec.json.decode(data)
    back = [msgspec.convert(one["trigger"], At | AfterInjection | OnLog) for one in told["injections"]]
    assert back == [one.trigger for one in draw_plan(ROULETTE, 42).injections]
    assert set(told["injections"][0]) <= {field.encode_name for field in msgspec.structs.fields(Injection)}


def test_a_system_call_stays_what_it_is_in_the_plan_and_the_round_ends_when_all_is_done():
    on = On(syscall=SyscallTrigger(process="web", call="fsync", nth=3, path="*.db"), plus_ms=Ms(20))
    plan = draw_plan(an_experiment(injections=(exactly(on=on),), schedule=None, faults=()), 42)
    (injection,) = plan.injections
    assert injection.trigger == OnSyscall(process="web", call="fsync", nth=3, path="*.db", plus_ms=20)
    assert str(injection.trigger) == "before web makes fsync on *.db (no. 3), plus 0.02 s"
    assert plan.ends_when_done, "it waits for nothing but the program"


def test_it_says_which_processes_a_kind_of_fault_may_hit():
    def hit(fault, target):
        once = ExactInjection(fault=fault, target=target, at_ms=Ms(1))
        plan = draw_plan(an_experiment(injections=(once,), schedule=None, faults=()), 42)
        return processes_hit(plan, Suspend, ("web", "db"))

    stops = Suspend(for_ms=Ms(10))
    assert hit(stops, WEB) == {"web"}
    assert hit(Together(of=(Part(fault=Kill()), Part(fault=stops, target=Selector(process="db")))), WEB) == {"db"}
    # One that is not told by its name may be anybody's.
    assert hit(stops, Selector(name="python*")) == {"web", "db"}
    assert hit(Kill(), WEB) == set()
