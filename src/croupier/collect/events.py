"""Secrets are taken out of every text of an event, whoever wrote it, before it is on disk."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

from ..model import journal as j
from ..model.target import Identity
from .redact import Redactor

Noun = TypeVar("Noun", bound=msgspec.Struct)

_KEPT = frozenset(
    {
        # Names that the experiment file gives, which is stored as it is; a reference cannot stand in them. The events
        # of a journal are found and counted by these.
        *("process", "role", "kind", "fault", "signal", "limit", "state"),
        # Ours.
        *("run", "replay_of", "blast_radius", "croupier", "python", "os", "boot", "wall_utc", "look_at"),
        *("experiment_digest", "plan_digest", "environment_digest"),
        # Of a row of a census.
        *("pid", "parent", "main"),
    }
)
_WHOLE = frozenset({(j.InvariantAsked, "options")})
"""What `judge` computes with: it has to be as the file gave it."""


def clean_event(event: Noun, redactor: Redactor) -> Noun:
    """The same event without secrets; itself where it holds none. Words that only mean one thing stay as they are."""
    changed = {}
    for name in _free_texts(type(event)):
        before = getattr(event, name)
        after = _clean(before, redactor)
        if after is not before:
            changed[name] = after
    return msgspec.structs.replace(event, **changed) if changed else event


def _clean(value: Any, redactor: Redactor) -> Any:
    """The cleaned value; the very same object where there is nothing to clean."""
    if isinstance(value, str):
        cleaned = redactor.clean(value)
        return value if cleaned == value else cleaned
    if isinstance(value, Mapping):
        rows = {key: one if key in _KEPT else _clean(one, redactor) for key, one in value.items()}
        return rows if any(rows[key] is not value[key] for key in rows) else value
    if isinstance(value, tuple | list):
        every = tuple(_clean(one, redactor) for one in value)
        return every if any(new is not old for new, old in zip(every, value, strict=True)) else value
    if isinstance(value, msgspec.Struct) and not isinstance(value, Identity):
        return clean_event(value, redactor)
    return value


@cache
def _free_texts(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields in which any text may stand, or things that hold one."""
    hints = get_type_hints(kind)
    return tuple(
        name
        for name in kind.__struct_fields__
        if name not in _KEPT
        and (kind, name) not in _WHOLE
        and (hints[name] is str or get_origin(hints[name]) in (tuple, list, dict))
    )
