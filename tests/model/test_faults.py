"""Every fault of the catalogue, as data: what it says of itself is what the rest of croupier goes by."""

from __future__ import annotations

import pytest

from croupier.built_in import injector
from croupier.load import load_text
from croupier.model.fault import Fault
from croupier.model.faults import FAULTS
from croupier.model.faults.combined import single
from croupier.registry import built_in

FILE = """
version: 1
title: one of each
hypothesis: It comes back.
volumes: {{state: {{size: 1MB}}}}
proxies: {{db: {{to: "127.0.0.1:1"}}}}
processes:
  app: {{command: [sleep, "9"], env: {{PORT: "${{port.app}}"}}}}
  web: {{command: [sleep, "9"]}}
injections: [{{at: 1s, target: {{process: app}}, {fault}}}]
invariants: [{{recovery: {{of: app, every: "< 5s"}}}}]
"""
ENDS = {"kill", "kill_unit", "stop_unit", "restart_unit", "kill_container", "stop_container", "occupy_port"}
"""Those by whose example the target is meant to end. Pods and nodes are elsewhere: the target is who feels it."""
AT_ONCE = {
    "kill", "kill_unit", "restart_unit", "kill_container", "exec_in_container", "delete_pod", "kill_in_pod",
    "drop_connections",
}  # fmt: skip
"""Those that leave nothing that lasts."""
EXAMPLES = {one.kind: injector(one.kind).example for one in FAULTS}
ALONE = [one.kind for one in FAULTS if one.kind not in ("together", "sequence")]


def loaded(kind: str) -> Fault:
    fragment = EXAMPLES[kind].replace("${state}", "${volume.state}") if kind == "fill_disk" else EXAMPLES[kind]
    experiment = load_text(FILE.format(fault=fragment).encode(), f"{kind}.yaml", built_in()).experiment
    fault: Fault = experiment.injections[0].fault
    return fault


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_example_loads_as_its_fault_and_says_what_it_was_given(kind: str) -> None:
    fault = loaded(kind)
    assert (fault.kind, type(fault)) == (kind, injector(kind).spec)
    assert str(fault).startswith(kind)
    assert single(fault)


@pytest.mark.parametrize("kind", ALONE)
def test_a_fault_knows_how_long_it_lasts_and_whether_it_ends_its_target(kind: str) -> None:
    fault = loaded(kind)
    assert (fault.lasting_ms > 0) == (kind not in AT_ONCE)
    times, every_ms = fault.rounds
    assert times >= 1 and every_ms >= 0 and fault.busy_ms >= 0
    assert fault.ends == (kind in ENDS), "whoever dies a while after it died of it, or did not"
