"""The library of scenarios: read from `scenarios/`, one file each, and written out as an experiment of one's own.

To add one, add its file. `shared.yaml` holds the settings that all of them may use.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ..model.errors import ExperimentError
from ..model.scenario import Scenario, Setting, SettingKind
from ..model.units import Bytes, Ms
from .problems import did_you_mean
from .writing import flow_list, scalar

T = TypeVar("T")
WIDTH = 118
SHARED = "shared"
_PLACE = re.compile(r"<([a-z][a-z-]*)>")


def scenario_names() -> tuple[str, ...]:
    """Every scenario that comes with croupier, by tier and then by name."""
    found = [one.name.removesuffix(".yaml") for one in _FOLDER.iterdir() if one.name.endswith(".yaml")]
    return tuple(sorted((one for one in found if one != SHARED), key=lambda name: (read_scenario(name).tier, name)))


def read_scenario(name: str) -> Scenario:
    """A scenario by its name, or by the path of a file of one's own. Raises ExperimentError."""
    if "/" in name or name.endswith((".yaml", ".yml")):
        try:
            return _decode(Path(name).read_bytes(), name, Scenario)
        except OSError as problem:
            raise ExperimentError(f"the scenario cannot be read: {problem.strerror}", at=name) from problem
    file = _FOLDER / f"{name}.yaml"
    if name == SHARED or not _NAME.fullmatch(name) or not file.is_file():
        hint = did_you_mean(name, scenario_names())
        raise ExperimentError(f"there is no scenario {name[:60]!r}", hint=f"{hint}; `croupier scenarios` lists them")
    return _decode(file.read_bytes(), f"{name}.yaml", Scenario)


def settings_of(scenario: Scenario) -> dict[str, Setting]:
    """The settings that its experiment uses, in the order of their first use. Raises ExperimentError."""
    known = {**_shared(), **scenario.settings}
    used = dict.fromkeys(found[1] for found in _PLACE.finditer(scenario.experiment))
    for name in used:
        if name not in known:
            raise ExperimentError(f"<{name}> is no setting of the scenario", hint=did_you_mean(name, known))
    for name in scenario.settings:
        if name not in used:
            raise ExperimentError(f"the setting {name!r} of the scenario stands nowhere in its experiment")
    return {name: known[name] for name in used}


def experiment_of(name: str, scenario: Scenario, given: Mapping[str, str]) -> str:
    """The text of an experiment file, its settings filled in, the runbook above it.

    Raises ExperimentError for what cannot be set so.
    """
    settings = settings_of(scenario)
    for key in given:
        if key not in settings:
            hint = did_you_mean(key, settings, what="it has")
            raise ExperimentError(f"the scenario {name!r} has no setting {key[:60]!r}", at="--set", hint=hint)
    written = {key: _written(key, one, given.get(key, str(one.default))) for key, one in settings.items()}
    lines = [_line(line, settings, written) for line in scenario.experiment.splitlines()]
    return "\n".join([*_head(name, scenario, settings), "", *lines]) + "\n"


def _line(line: str, settings: Mapping[str, Setting], written: Mapping[str, str]) -> str:
    """One line of the experiment; a comment, where a setting of it is empty."""
    keys = list(dict.fromkeys(found[1] for found in _PLACE.finditer(line)))
    if not keys:
        return line
    empty = [key for key in keys if not written[key]]
    shown = {key: written[key] or _written(key, settings[key], settings[key].example) for key in keys}
    filled = _PLACE.sub(lambda found: shown[found[1]], line)
    indent = filled[: len(filled) - len(filled.lstrip())]
    filled = f"{indent}# {filled.lstrip()}" if empty else filled
    return f"{filled}  # set: {', '.join(keys)}"


def _written(key: str, setting: Setting, value: str) -> str:
    """A value as it stands in the file; "" for an empty one."""
    if not value.strip():
        return ""
    try:
        return _WRITERS[setting.kind](value.strip())
    except ValueError as problem:
        raise ExperimentError(f"{key} cannot be {value[:60]!r}: {problem}", at="--set", hint=setting.meaning) from None


def _number(value: str) -> str:
    if not value.isdecimal() or not value.isascii():
        raise ValueError("expected a whole number")
    return str(int(value))


_WRITERS: Mapping[SettingKind, Callable[[str], str]] = {
    "command": lambda value: flow_list(tuple(shlex.split(value))),
    "text": scalar,
    "number": _number,
    "duration": lambda value: str(Ms.parse(value)),
    "size": lambda value: str(Bytes.parse(value)),
}


def _head(name: str, scenario: Scenario, settings: Mapping[str, Setting]) -> list[str]:
    """The runbook, as comments above the experiment."""
    widest = max((len(key) for key in settings), default=0)
    said = [
        f"{scenario.title} (scenario {name}, tier {scenario.tier})",
        "",
        *textwrap.wrap(" ".join(scenario.about.split()), WIDTH - 2),
        *_section("Before you run it:", scenario.preconditions, "[ ] "),
        *_section(
            "Set what is marked below, here or by `croupier init --from … --set KEY=VALUE`:",
            tuple(f"{key:{widest}}  {one.meaning}" for key, one in settings.items()),
            "",
        ),
        *_section("Runbook:", (_FIRST_STEP, *scenario.runbook), "{}. "),
        *_section("How it shows:", scenario.signals, "- "),
        *_section("To end it early, and put everything back:", scenario.rollback, "- "),
        *_section("Read on:", scenario.references, "- "),
    ]
    return [f"# {line}".rstrip() for line in said]


_FIRST_STEP = "croupier validate FILE; croupier run FILE --dry-run; then croupier run FILE --seed 1."


def _section(heading: str, entries: tuple[str, ...], bullet: str) -> list[str]:
    lines = ["", heading]
    for number, entry in enumerate(entries, start=1):
        mark = "  " + bullet.format(number)
        lines += textwrap.wrap(
            entry, WIDTH - 2, initial_indent=mark, subsequent_indent=" " * len(mark), break_on_hyphens=False,
            break_long_words=False,
        )  # fmt: skip
    return lines


def _shared() -> dict[str, Setting]:
    return _decode((_FOLDER / f"{SHARED}.yaml").read_bytes(), f"{SHARED}.yaml", dict[str, Setting])


def _decode(source: bytes, at: str, kind: type[T]) -> T:
    try:
        return msgspec.convert(YAML(typ="safe", pure=True).load(source), kind)
    except (YAMLError, UnicodeDecodeError) as problem:
        raise ExperimentError(f"the scenario is no YAML: {' '.join(str(problem).split())[:200]}", at=at) from problem
    except msgspec.ValidationError as problem:
        raise ExperimentError(f"the scenario is written wrong: {problem}", at=at) from problem


_FOLDER = files(__package__) / "scenarios"
_NAME = re.compile(r"[a-z][a-z0-9-]*")
