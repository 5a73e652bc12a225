"""`faults`, `probes` and `schema`: what an experiment may say."""

from __future__ import annotations

import inspect
import sys
from argparse import Namespace
from typing import Any

import msgspec

from ..load import schema as file_schema
from ..model.errors import ExperimentError
from ..registry import catalogue


def faults(arguments: Namespace) -> int:
    """Every fault, with its options."""
    known = catalogue(tuple(arguments.plugin))
    rows = [
        {
            "name": name,
            "summary": injector.summary,
            "needs": injector.needs,
            "heals": injector.heals,
            "example": injector.example,
            "options": _options(injector.spec),
        }
        for name, injector in sorted(known.faults.items())
    ]
    return _print(rows, arguments, ("needs", "heals", "example"))


def probes(arguments: Namespace) -> int:
    """Every probe and invariant, with its options."""
    known = catalogue(tuple(arguments.plugin))
    rows = [
        {"name": name, "summary": inspect.getdoc(spec) or "", "options": _options(spec)}
        for name, spec in sorted(known.probe_types.items())
    ]
    return _print(rows, arguments, ())


def schema(arguments: Namespace) -> int:
    """The JSON Schema of the experiment file, or of the result of a search."""
    if arguments.search:
        from ..model.search import SearchResult

        told = msgspec.json.schema(SearchResult)
    else:
        told = file_schema(catalogue(tuple(arguments.plugin)))
    text = msgspec.json.format(msgspec.json.encode(told), indent=2)
    sys.stdout.write(text.decode() + "\n")
    return 0


def _options(spec: type[Any]) -> list[dict[str, str]]:
    return [
        {
            "name": field.encode_name,
            "type": _type_name(field.type),
            "default": "required" if field.required else _default(field),
        }
        for field in msgspec.structs.fields(spec)
    ]


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "" if value in (None, "", (), {}) else str(value)


def _type_name(kind: Any) -> str:
    units = {"Ms": "duration", "Bytes": "size", "Percent": "share", "Rate": "rate", "Under": "bound"}
    text = getattr(kind, "__name__", None) if isinstance(kind, type) else None
    said = text or str(kind)
    for name, unit in units.items():
        said = said.replace(f"croupier.model.units.{name}", unit) if said != name else unit
    return said.replace("typing.", "").replace("croupier.model.", "")


def _print(rows: list[dict[str, Any]], arguments: Namespace, more: tuple[str, ...]) -> int:
    if arguments.name:
        known = [row["name"] for row in rows]
        rows = [row for row in rows if row["name"] == arguments.name]
        if not rows:
            raise ExperimentError(f"there is no {arguments.name!r}", hint=f"known are {', '.join(known)}")
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n")
        return 0
    for row in rows:
        print(f"{row['name']}\n  {row['summary'].splitlines()[0]}")
        for option in row["options"]:
            default = f" (default {option['default']})" if option["default"] not in ("", "required") else ""
            needed = " (required)" if option["default"] == "required" else ""
            print(f"    {option['name']}: {option['type']}{default}{needed}")
        for key in more:
            if row[key]:
                print(f"  {key}: {row[key]}")
        print()
    return 0
