"""The library of scenarios: each is a valid experiment as it is, says what it must, and can be set."""

from __future__ import annotations

import re

import pytest

from croupier.load import load_text
from croupier.load.library import experiment_of, read_scenario, scenario_names, settings_of
from croupier.model.errors import ExperimentError
from croupier.registry import built_in

BUILT_IN = built_in()
NAMES = scenario_names()
OWN = """\
title: Mine
tier: 1
about: A scenario of my own.
preconditions: [none]
runbook: [Look.]
signals: [Anything.]
rollback: [croupier halt]
references: [signal(7)]
settings:
  who: {kind: text, default: app, meaning: Whom it hits.}
experiment: |
  version: 1
  title: Mine
  hypothesis: It comes back.
  processes: {app: {command: <command>}}
  injections:
    - {at: <begin>, kill: {}, target: {process: <who>}}
  invariants:
    - recovery: {of: app, every: "< <recovery>"}
"""


def load(name, **given):
    text = experiment_of(name, read_scenario(name), {key.replace("_", "-"): value for key, value in given.items()})
    return load_text(text.encode(), f"{name}.yaml", BUILT_IN, environment={}), text


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_valid_without_a_warning_with_its_defaults_and_with_everything_set(name):
    as_it_is, _ = load(name)
    assert as_it_is.warnings == ()
    assert as_it_is.experiment.title == read_scenario(name).title
    settings = settings_of(read_scenario(name))
    everything, _ = load(name, **{key: str(one.default) or one.example for key, one in settings.items()})
    assert everything.warnings == ()
    assert everything.experiment.workload is not None or "workload" not in settings
    assert everything.experiment.injections or everything.experiment.faults


@pytest.mark.parametrize("name", NAMES)
def test_the_file_that_is_written_is_its_own_runbook(name):
    scenario = read_scenario(name)
    _, text = load(name)
    told = " ".join(text.replace("\n#", " ").split())
    for said in (*scenario.preconditions, *scenario.runbook, *scenario.signals, *scenario.rollback):
        assert " ".join(said.split()) in told
    assert "croupier halt" in told
    for key in settings_of(scenario):
        assert re.search(rf"# set: .*\b{key}\b", text), f"nothing says where {key} is set"
    assert all(len(line) <= 120 for line in text.splitlines() if line.startswith("#") and "http" not in line)


def test_there_are_scenarios_in_every_tier():
    tiers = [read_scenario(name).tier for name in NAMES]
    assert tiers == sorted(tiers) and set(tiers) == {1, 2, 3}
    assert {"kill-a-sidecar", "starve-a-worker", "slow-queries"} <= {n for n in NAMES if read_scenario(n).tier == 1}


def test_what_is_set_stands_in_the_experiment():
    loaded, text = load("slow-queries", command='serve --greeting "a b" ${proxy.db}', least="10ms", workload="use it")
    assert loaded.experiment.processes["app"].command == ("serve", "--greeting", "a b", "${proxy.db}")
    assert loaded.experiment.workload.command == ("use", "it")
    assert loaded.experiment.injections[0].fault.least_ms == 10
    assert "\nworkload: " in text


def test_an_empty_setting_leaves_its_line_out_and_shows_how_it_would_be():
    loaded, text = load("slow-disk", workload="")
    assert loaded.experiment.workload is None
    assert '# workload: {command: [python, load.py, "${port.app}"]}  # set: workload' in text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"dely": "1s"}, "no setting 'dely'"),
        ({"delay": "1"}, "delay cannot be '1': expected a duration"),
        ({"command": "it's"}, "command cannot be"),
    ],
)
def test_what_cannot_be_set_is_refused_with_a_hint(given, says):
    with pytest.raises(ExperimentError) as caught:
        load("slow-disk", **given)
    assert says in caught.value.message and caught.value.hint


def test_a_number_and_a_size_are_read_strictly():
    with pytest.raises(ExperimentError, match="whole number"):
        load("no-more-files", files="many")
    with pytest.raises(ExperimentError, match="size with a unit"):
        load("full-disk", size="16")


@pytest.mark.parametrize("name", ["no-such", "../shared", "shared", "Kill-a-worker", ""])
def test_a_scenario_that_is_not_there_is_refused(name):
    with pytest.raises(ExperimentError) as caught:
        read_scenario(name)
    assert caught.value.hint or "cannot be read" in caught.value.message


def test_a_file_of_one_s_own_is_a_scenario_like_any_other(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(OWN)
    loaded, _ = load(str(file), who="app", begin="50ms")
    assert loaded.experiment.injections[0].at_ms == 50


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("tier: 1", "tier: 9", "written wrong"),
        ("runbook: [Look.]", "runbook: []", "written wrong"),
        ("signals: ", "signal: ", "written wrong"),
        ("<who>", "<whom>", "<whom> is no setting"),
        ("process: <who>", "process: app", "stands nowhere"),
        ("title: Mine", "title: [Mine", "no YAML"),
    ],
)
def test_a_scenario_that_is_written_wrong_is_refused(tmp_path, old, new, says):
    file = tmp_path / "mine.yaml"
    file.write_text(OWN.replace(old, new, 1))
    with pytest.raises(ExperimentError) as caught:
        load(str(file))
    assert says in caught.value.message
