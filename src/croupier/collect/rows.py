"""A census as the journal keeps it: one small row per process."""

from __future__ import annotations

from typing import Any

from ..model.target import Census


def rows(census: Census) -> tuple[dict[str, Any], ...]:
    """`pid`, `parent`, `name`, `role`, `main` and `state` of each, in the order of the census."""
    return tuple(
        {
            "pid": one.pid,
            "parent": one.parent,
            "name": one.name,
            "role": one.role,
            "main": one.main,
            "state": one.state,
        }
        for one in census
    )
