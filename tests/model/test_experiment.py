"""References in an experiment, and what stands for them in a round."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model.errors import ExperimentError
from croupier.model.experiment import (
    Bindings,
    Experiment,
    ProcessSpec,
    Restart,
    Schedule,
    WheelEntry,
    Workload,
    bind,
    references,
)
from croupier.model.fault import Kill, Suspend
from croupier.model.plan import draw_plan, plan_json
from croupier.model.probe import Http, Tcp
from croupier.model.target import Selector
from croupier.model.units import Ms, Rate
from croupier.model.wire import decode_plan

BINDINGS = Bindings(state="/tmp/x", acks="/tmp/x/acks", seed=0, ports={"web": 8000}, env={"HOME": "/root"})


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("${state}/notes.db", "/tmp/x/notes.db"),
        ("${acks}", "/tmp/x/acks"),
        ("--seed=${seed}", "--seed=0"),
        ("http://127.0.0.1:${port.web}/", "http://127.0.0.1:8000/"),
        ("${env.HOME}${state}", "/root/tmp/x"),
        ("$${state}", "${state}"),
        ("costs 5$ {a}", "costs 5$ {a}"),
        ("${", "${"),
    ],
)
def test_a_reference_is_replaced_by_what_it_stands_for(text, bound):
    assert bind(text, BINDINGS.lookup) == bound


@pytest.mark.parametrize("text", ["${stat}", "${port.api}", "${env.NOPE}", "${}", "${state.x}", "${port.}", "${HOME}"])
def test_a_reference_that_stands_for_nothing_is_a_mistake_with_a_hint(text):
    with pytest.raises(ExperimentError, match="stands for nothing") as caught:
        bind(text, BINDINGS.lookup)
    assert "${port.NAME}" in caught.value.hint


def test_references_are_found_in_every_text_of_a_value():
    spec = ProcessSpec(
        command=("x", "${port.web}", "$${not.this}"),
        env={"DB": "${state}/db"},
        ready=None,
        cwd="${state}",
    )
    assert list(references(spec)) == ["port.web", "state", "state"]
    assert list(references(["${a}", ("${b}", {"k": "${c}"}), 3, None])) == ["a", "b", "c"]


def test_binding_reaches_probes_inside_of_a_process_and_leaves_quantities_alone():
    experiment = an_experiment(steady_state=(Http(url="http://127.0.0.1:${port.web}/"), Tcp(port="${port.web}")))
    bound = bind(experiment, BINDINGS.lookup)
    assert bound.steady_state[0].url == "http://127.0.0.1:8000/"
    assert bound.steady_state[1].port == "8000"
    assert bound.settle_ms == experiment.settle_ms
    assert bound.processes["web"].restart.limit == Rate(5, 60_000)
    assert not list(references(bound))


def test_binding_leaves_the_experiment_as_it_was():
    experiment = an_experiment()
    before = msgspec.structs.asdict(experiment)
    bind(experiment, BINDINGS.lookup)
    assert msgspec.structs.asdict(experiment) == before


@given(st.text(alphabet="${}abc.state"))
def test_binding_a_text_without_references_only_unescapes_it(text):
    if not list(references(text)):
        assert bind(text, BINDINGS.lookup) == bind(text, lambda reference: "never asked")


@given(st.dictionaries(st.text("abc", min_size=1), st.text("xyz${}"), max_size=4))
def test_everything_that_references_finds_is_looked_up_and_nothing_else(values):
    asked = []

    def lookup(reference):
        asked.append(reference)
        return ""

    bind(values, lookup)
    assert asked == list(references(values))


def test_a_weight_may_change_with_the_blast_radius():
    entry = WheelEntry(fault=Kill(), target=Selector(process="web"), weight=3, when_blast_radius={"canary": 0})
    assert entry.weight_at("local") == 3
    assert entry.weight_at("canary") == 0


def test_every_selector_of_an_experiment_is_found():
    target = Selector(process="web")
    experiment = an_experiment(
        attach={"db": Selector(name="postgres")},
        faults=(WheelEntry(fault=Suspend(for_ms=Ms(5)), target=target),),
    )
    assert list(experiment.selectors()) == [Selector(name="postgres"), target]


def an_experiment(**changes) -> Experiment:
    parts = {
        "version": 1,
        "title": "t",
        "hypothesis": "h",
        "processes": {"web": ProcessSpec(command=("x", "${port.web}"), restart=Restart())},
        "workload": Workload(command=("y", "${acks}")),
    }
    return Experiment(**{**parts, **changes})


signals = st.sampled_from(["TERM", "KILL", "SIGHUP", "RTMIN+3"])
durations = st.integers(1, 10**7).map(Ms)
faults = st.one_of(
    st.builds(
        Kill,
        signal=signals,
        then=st.one_of(signals, st.lists(signals, max_size=3).map(tuple)),
        grace_ms=durations,
        ask=st.one_of(st.none(), st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple)),
        repeat=st.integers(1, 5),
    ),
    st.builds(Suspend, for_ms=durations, how=st.sampled_from(["stop", "freezer"]), tree=st.booleans()),
)
targets = st.builds(
    Selector,
    process=st.one_of(st.none(), st.just("web")),
    name=st.one_of(st.none(), st.text(max_size=5)),
    older_than_ms=st.one_of(st.none(), durations),
    count=st.one_of(st.none(), st.just("all"), st.integers(1, 9)),
)


@given(
    st.lists(st.builds(WheelEntry, fault=faults, target=targets, weight=st.integers(1, 5)), min_size=1, max_size=4),
    st.integers(-(2**63), 2**63 - 1),
)
def test_a_plan_reads_back_as_it_was_written(wheel, seed):
    schedule = Schedule(every_ms=Ms(1_000), for_ms=Ms(8_000))
    plan = draw_plan(an_experiment(faults=tuple(wheel), schedule=schedule), seed)
    written = plan_json(plan)
    assert decode_plan(written) == plan
    assert plan_json(decode_plan(written)) == written
