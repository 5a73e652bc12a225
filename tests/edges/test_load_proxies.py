"""Proxies and faults on them in a file: nonsense is refused with its line, and references stand for addresses."""

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


def loaded(fault: dict[str, Any], *, of: str = "network", proxies: dict[str, Any] | None = None) -> Experiment:
    whole = {
        "version": 1,
        "title": "tiny",
        "hypothesis": "It goes on.",
        "processes": {"app": {"command": ["sleep", "${port.real}", "${proxy.front}"]}},
        "proxies": proxies or {"front": {"to": "${port.real}"}},
        "injections": [{"at": "1s", of: {"proxy": "front", "for": "1s", **fault}, "target": {"process": "app"}}],
        "invariants": [{"process": {"of": "app"}}],
    }
    return load_text(json.dumps(whole, indent=1).encode(), "experiment.yaml", built_in(), environment={}).experiment


@pytest.mark.parametrize(
    ("fault", "of", "said"),
    [
        ({"proxy": "fornt", "latency": "1s"}, "network", "there is no proxy 'fornt'"),
        ({}, "network", "this hurts nothing"),
        ({"cut_after": "1s", "cut": "reset"}, "network", "the fault is over (1s) before anything is cut"),
        ({"latency": "1s", "cut_after": "10ms"}, "network", "cut_after goes with cut"),
        ({"latency": "1s", "slice_delay": "10ms"}, "network", "slice_delay goes with slice"),
        ({"cut": "scissors"}, "network", "scissors"),
        ({"latency": "fast"}, "network", "fast"),
        ({"least": "2s", "most": "1s"}, "delay_queries", "at least 2s and at most 1s is never true"),
        ({"least": "0s", "most": "0s"}, "delay_queries", "this delays nothing"),
        ({"how": "burn"}, "mutate", "burn"),
        ({"every": 0}, "mutate", "0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(fault: dict[str, Any], of: str, said: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        loaded(fault, of=of)
    assert said in str(raised.value)
    assert "experiment.yaml:" in str(raised.value)


@pytest.mark.parametrize(
    ("fault", "of", "said"),
    [
        ({"latency": "1s", "direction": "down"}, "network", "nothing comes back through a pipe"),
        ({"direction": "down"}, "mutate", "nothing comes back through a pipe"),
        ({"duplicate": True}, "network", "a pipe cannot be connected to twice"),
        ({"most": "1s"}, "delay_queries", "a pipe has no queries"),
    ],
)
def test_what_a_pipe_cannot_do_is_refused(fault: dict[str, Any], of: str, said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        loaded(fault, of=of, proxies={"front": {"to": "pipe:/run/real"}})


def test_a_pipe_does_not_lead_to_a_socket() -> None:
    with pytest.raises(ExperimentError, match="from a pipe to a pipe"):
        loaded({"latency": "1s"}, proxies={"front": {"to": "pipe:/run/real", "listen": "${port.front}"}})


@pytest.mark.parametrize("to", ["nowhere", "127.0.0.1:99999", "unix:relative", "pipe:relative", ":"])
def test_an_address_that_is_none_is_refused(to: str) -> None:
    with pytest.raises(ExperimentError, match="expected"):
        loaded({"latency": "1s"}, proxies={"front": {"to": to}})


def test_a_proxy_stands_for_where_it_listens(tmp_path) -> None:
    experiment = loaded(
        {"latency": "1s"},
        proxies={
            "front": {"to": "${port.real}"},
            "chosen": {"to": "${port.real}", "listen": "${port.chosen}"},
            "path": {"to": "unix:/run/real"},
            "pipe": {"to": "pipe:/run/feed"},
        },
    )
    bindings = pick_bindings(experiment, RunDir(tmp_path), 1)
    port = bindings.ports["proxy-front"]
    assert bindings.arranged == {
        "proxy.front": f"127.0.0.1:{port}",
        "proxy.chosen": f"127.0.0.1:{bindings.ports['chosen']}",
        "proxy.path": str(tmp_path / "proxies" / "path"),
        "proxy.pipe": str(tmp_path / "proxies" / "pipe"),
    }
    assert len(set(bindings.ports.values())) == 3
    assert bind(experiment.processes["app"].command, bindings.lookup)[2] == f"127.0.0.1:{port}"
