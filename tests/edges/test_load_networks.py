"""Networks in a file: whoever lives in one has an address, and what leads nowhere is refused with its line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from croupier.load import load_text
from croupier.model.errors import ExperimentError
from croupier.model.experiment import Experiment, bind
from croupier.registry import built_in
from croupier.run.prepare import pick_bindings
from croupier.store import RunDir


def loaded(**more: Any) -> Experiment:
    whole = {
        "version": 1,
        "title": "tiny",
        "hypothesis": "It goes on.",
        "networks": {"back": {}, "front": {}},
        "processes": {
            "db": {"command": ["sleep", "${address.db}"], "network": "back"},
            "app": {"command": ["sleep", "${address.db}", "${subnet.front}"], "network": "front"},
            "outside": {"command": ["sleep", "60"]},
        },
        "workload": {"command": ["sleep", "1"], "network": "front"},
        "injections": [{"at": "1s", "kill": {}, "target": {"process": "app"}}],
        "invariants": [{"process": {"of": "app"}}],
        **more,
    }
    return load_text(json.dumps(whole, indent=1).encode(), "experiment.yaml", built_in(), environment={}).experiment


def test_everybody_who_lives_in_a_network_has_an_address_there(tmp_path) -> None:
    experiment = loaded()
    bindings = pick_bindings(experiment, RunDir(tmp_path), 1)
    assert bindings.arranged == {
        "address.db": "198.18.0.3",
        "address.app": "198.18.1.3",
        "address.workload": "198.18.1.4",
        "subnet.back": "198.18.0.0/24",
        "subnet.front": "198.18.1.0/24",
    }
    assert bind(experiment.processes["app"].command, bindings.lookup)[1:] == ("198.18.0.3", "198.18.1.0/24")


def hurt(fault: str, **options: Any) -> dict[str, Any]:
    return {"at": "1s", fault: {"for": "1s", **options}, "target": {"process": "app"}}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"workload": {"command": ["sleep"], "network": "frnt"}}, "there is no network 'frnt'"),
        ({"steady_state": [{"command": {"run": ["true"], "network": "frnt"}}]}, "there is no network 'frnt'"),
        ({"steady_state": [{"tcp": {"host": "${address.outside}", "port": 1}}]}, "lives in a network"),
        ({"injections": [hurt("partition", **{"from": ["outsde"]})]}, "there is no process 'outsde'"),
        ({"injections": [hurt("saturate", rate="1KiB", **{"from": "outsde"})]}, "there is no process 'outsde'"),
        ({"injections": [hurt("packets")]}, "this hurts nothing"),
        ({"networks": {f"n{nth}": {} for nth in range(257)}}, "there may be 256 networks at most"),
    ],
)
def test_what_leads_nowhere_is_refused_with_its_line(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        loaded(**more)
    assert said in str(raised.value)
    assert "experiment.yaml:" in str(raised.value)
