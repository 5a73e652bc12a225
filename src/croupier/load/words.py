"""A schema in words: `duration`, `text or list of text`, for the catalogue and the reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..model.units import QUANTITIES

_QUANTITIES = {
    "Ms": "duration",
    "Bytes": "size",
    "Percent": "share",
    "Rate": "rate",
    "Flow": "size per time",
    "Under": "bound",
}
_BY_PATTERN = {one.json_schema["pattern"]: _QUANTITIES[one.__name__] for one in QUANTITIES}
_NAMES = {"ProcessSpec": "process", "ExactInjection": "injection", "LogTrigger": "log line", "Abort": "condition"}
_TYPES = {"string": "text", "integer": "number", "boolean": "true, false", "null": "nothing"}

Link = Callable[[str, str], str]


def in_words(node: Mapping[str, Any], link: Link = lambda name, words: words, quote: str = "") -> str:
    """What a value may be, from its JSON Schema.

    `link` is given the name of a definition and the words for it, and may make a link of them; `quote` goes around
    literal values.
    """

    def say(one: Mapping[str, Any]) -> str:
        return in_words(one, link, quote)

    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return link(name, _NAMES.get(name) or re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower())
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(word for one in node["anyOf"] if (word := say(one)) != "nothing"))
    if node.get("pattern") in _BY_PATTERN:
        return _BY_PATTERN[node["pattern"]]
    if "enum" in node:
        return ", ".join(f"{quote}{one}{quote}" for one in node["enum"])
    if "const" in node:
        return f"{quote}{str(node['const']).lower()}{quote}"
    kinds = node.get("type", "anything")
    kinds = [one for one in ([kinds] if isinstance(kinds, str) else kinds) if one != "null"] or ["nothing"]
    if kinds == ["array"]:
        return f"list of {say(node['items'])}"
    if kinds == ["object"]:
        values = node.get("additionalProperties")
        return f"map to {say(values)}" if isinstance(values, dict) else "map"
    said = " or ".join(_TYPES.get(one, one) for one in kinds)
    return ", ".join(f"{quote}{one}{quote}" for one in said.split(", ")) if kinds == ["boolean"] else said


def default_of(node: Mapping[str, Any]) -> str:
    """The default as it would be written; "" for none, or for nothing."""
    value = node.get("default")
    if value in ("", None):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
