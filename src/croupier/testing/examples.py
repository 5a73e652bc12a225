"""Does what the catalogue shows really load, and come back from a plan?"""

from __future__ import annotations

import textwrap
from typing import Any

import msgspec

from ..load import load_text, schema
from ..model.fault import Fault
from ..model.probe import Probe
from ..model.units import write_quantity
from ..model.wire import BUILT_IN, Words, dec_hook

_HEAD = """\
version: 1
title: An example
hypothesis: The example loads.
processes:
  web: {command: [sleep, "60"]}
proxies:
  db: {to: "127.0.0.1:5432"}
networks: {lan: {names: {}}}
"""
_FAULT = """\
injections:
  - at: 1s
%s
invariants:
  - process: {of: web}
"""
_PROBE = """\
steady_state:
%s
injections:
  - at: 1s
    kill: {}
    target: {process: web}
invariants:
  - process: {of: web}
"""


def with_fault(spec: type[Fault]) -> Words:
    """The built-in vocabulary and one more fault."""
    return Words(fault_types={**BUILT_IN.fault_types, spec.kind: spec}, probe_types=BUILT_IN.probe_types)


def with_probe(spec: type[Probe]) -> Words:
    """The built-in vocabulary and one more probe."""
    return Words(fault_types=BUILT_IN.fault_types, probe_types={**BUILT_IN.probe_types, spec.kind: spec})


def load_fault(example: str, spec: type[Fault]) -> Fault:
    """The fault of an example. Raises ExperimentError with what is wrong with it."""
    words = with_fault(spec)
    fragment = textwrap.dedent(example).strip().removeprefix("- ")
    target = "" if "target:" in fragment else "\ntarget: {process: web}"
    text = _HEAD + _FAULT % textwrap.indent(fragment + target, "    ")
    schema(words)
    return load_text(text.encode(), f"the example of {spec.kind}", words, environment={}).experiment.injections[0].fault


def load_probe(example: str, spec: type[Probe]) -> Probe:
    """The probe of an example. Raises ExperimentError with what is wrong with it."""
    words = with_probe(spec)
    fragment = textwrap.dedent(example).strip()
    listed = fragment if fragment.startswith("- ") else "- " + textwrap.indent(fragment, "  ").lstrip()
    text = _HEAD + _PROBE % textwrap.indent(listed, "  ")
    schema(words)
    return load_text(text.encode(), f"the example of {spec.kind}", words, environment={}).experiment.steady_state[0]


def through_a_plan(fault: Fault) -> Any:
    """The fault as a replay reads it back."""
    written = msgspec.json.encode(fault, enc_hook=write_quantity)
    return msgspec.json.decode(written, type=type(fault), dec_hook=dec_hook(with_fault(type(fault))))
