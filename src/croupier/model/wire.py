"""Reading back what was written down: how a stored `{"fault": "kill", …}` finds the class that it stands for.

A plan names faults and probes by their tags only. Which class a tag means is known to the registry, plugins
included, so whoever decodes hands in a `Vocabulary`; the registry's `Catalogue` is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from .errors import ReplayError
from .fault import Fault
from .faults import FAULTS
from .plan import PLAN_VERSION, Plan
from .probe import INVARIANTS, PROBES, Probe
from .units import read_quantity


class Vocabulary(Protocol):
    """The faults and probes that may be named, each with the class of its options."""

    @property
    def fault_types(self) -> Mapping[str, type[Fault]]:
        """Name in the file → class."""

    @property
    def probe_types(self) -> Mapping[str, type[Probe]]:
        """Name in the file → class; invariants included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A vocabulary that is simply listed."""

    fault_types: Mapping[str, type[Fault]]
    probe_types: Mapping[str, type[Probe]]


BUILT_IN = Words(
    fault_types={one.kind: one for one in FAULTS},
    probe_types={one.kind: one for one in (*PROBES, *INVARIANTS)},
)


def dec_hook(vocabulary: Vocabulary) -> Callable[[type, Any], Any]:
    """A `dec_hook` for msgspec that knows quantities, and `Fault` and `Probe` by their tags."""

    def hook(kind: type, value: Any) -> Any:
        if kind is Fault:
            return _tagged(value, "fault", vocabulary.fault_types, hook)
        if kind is Probe:
            return _tagged(value, "probe", vocabulary.probe_types, hook)
        return read_quantity(kind, value)

    return hook


def decode_plan(data: bytes, vocabulary: Vocabulary = BUILT_IN) -> Plan:
    """The plan that `plan_json` wrote. Raises ReplayError where the bytes are no plan, or one of another version."""
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != PLAN_VERSION:
            raise ReplayError(
                f"this plan has version {version}, and this croupier reads version {PLAN_VERSION}",
                hint="replay it with the croupier that wrote it: the first line of its journal names the version",
            )
        return msgspec.json.decode(data, type=Plan, dec_hook=dec_hook(vocabulary))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as problem:
        raise ReplayError(f"not a plan that can be read: {problem}") from problem


class _Versioned(msgspec.Struct):
    version: int


def _tagged(value: Any, tag: str, kinds: Mapping[str, type[Any]], hook: Callable[[type, Any], Any]) -> Any:
    if isinstance(value, msgspec.Struct):
        return value
    name = value.get(tag) if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in kinds:
        known = ", ".join(sorted(kinds))
        raise ValueError(f"unknown {tag} {name!r}; known are {known} (a plugin's are known where it is loaded)")
    return msgspec.convert(value, kinds[name], dec_hook=hook)
