"""`faults`, `probes`, `scenarios` and `schema`: what an experiment may say."""

from __future__ import annotations

import inspect
import sys
from argparse import Namespace
from typing import Any

import msgspec

from ..load import schema as file_schema
from ..load.library import experiment_of, read_scenario, scenario_names, settings_of
from ..load.words import default_of, in_words
from ..model.errors import ExperimentError
from ..model.scenario import TIERS
from ..registry import catalogue


def faults(arguments: Namespace) -> int:
    """Every fault, with its options."""
    known = catalogue(tuple(arguments.plugin))
    written = file_schema(known)
    rows = [
        {
            "name": name,
            "summary": injector.summary,
            "needs": injector.needs,
            "heals": injector.heals,
            "example": injector.example,
            "options": _options(injector.spec, written),
        }
        for name, injector in sorted(known.faults.items())
    ]
    return _print(rows, arguments, ("needs", "heals", "example"))


def probes(arguments: Namespace) -> int:
    """Every probe and invariant, with its options."""
    known = catalogue(tuple(arguments.plugin))
    written = file_schema(known)
    rows = [
        {"name": name, "summary": inspect.getdoc(spec) or "", "options": _options(spec, written)}
        for name, spec in sorted(known.probe_types.items())
    ]
    return _print(rows, arguments, ())


def scenarios(arguments: Namespace) -> int:
    """Every scenario by tier, or one with all that it says."""
    found = {name: read_scenario(name) for name in ([arguments.name] if arguments.name else scenario_names())}
    if arguments.json:
        rows = [
            {"name": name, **msgspec.to_builtins(one), "settings": msgspec.to_builtins(settings_of(one))}
            for name, one in found.items()
        ]
        return _print_json(rows)
    if arguments.name:
        sys.stdout.write(experiment_of(arguments.name, found[arguments.name], {}))
        return 0
    widest = max(len(name) for name in found)
    for tier, meaning in TIERS.items():
        print(f"tier {tier}: {meaning}")
        for name, one in found.items():
            if one.tier == tier:
                print(f"  {name:{widest}}  {one.title}")
    print("\ncroupier scenarios NAME shows one; croupier init --from NAME writes it as an experiment of yours")
    return 0


def schema(arguments: Namespace) -> int:
    """The JSON Schema of the experiment file, or of the result of a search."""
    if arguments.search:
        from ..model.search import SearchResult

        told = msgspec.json.schema(SearchResult)
    else:
        told = file_schema(catalogue(tuple(arguments.plugin)))
    return _print_json(told)


def _options(spec: type[Any], written: dict[str, Any]) -> list[dict[str, str]]:
    node = written["$defs"][spec.__name__]
    if "items" in node:
        # A combination is a list: what its entries may say beside their fault.
        node = written["$defs"][node["items"]["$ref"].rpartition("/")[2]]
    required = node.get("required", ())
    faults = {one["required"][0] for one in node.get("oneOf", ())}
    return [
        {
            "name": key,
            "type": in_words(one),
            "default": "required" if key in required else default_of(one),
            "meaning": one.get("description", ""),
        }
        for key, one in node["properties"].items()
        if key not in faults
    ]


def _print(rows: list[dict[str, Any]], arguments: Namespace, more: tuple[str, ...]) -> int:
    if arguments.name:
        known = [row["name"] for row in rows]
        rows = [row for row in rows if row["name"] == arguments.name]
        if not rows:
            raise ExperimentError(f"there is no {arguments.name!r}", hint=f"known are {', '.join(known)}")
    if arguments.json:
        return _print_json(rows)
    for row in rows:
        summary = row["summary"] if arguments.name else row["summary"].split("\n\n")[0]
        print(row["name"])
        print("\n".join(f"  {line}".rstrip() for line in summary.splitlines()))
        for option in row["options"]:
            default = f" (default {option['default']})" if option["default"] not in ("", "required") else ""
            needed = " (required)" if option["default"] == "required" else ""
            print(f"    {option['name']}: {option['type']}{default}{needed}")
        for key in more:
            if row[key]:
                print(f"  {key}: {row[key]}")
        print()
    return 0


def _print_json(told: Any) -> int:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(told), indent=2).decode() + "\n")
    return 0
