"""Which cgroup a selector's unit or container has now: asked of systemd or Docker, and remembered for a moment.

A census is taken many times a second while somebody recovers, and nobody is asked as often as that.
"""

from __future__ import annotations

import os
import time

import msgspec

from ..model.target import Selector
from . import docker, systemd

_FRESH_S = 0.5
_SLOW_FRESH_S = 5.0
"""After an answer that could not be had: it may have taken its time not to come."""
_NOBODY = -1


class Groups:
    """What was answered lately."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[float, str | None]] = {}

    def resolved(self, selector: Selector) -> Selector:
        """With its unit or container turned into the cgroup that it has; one that has none means nobody.

        One that could not be asked about stays as it is.
        """
        asked = selector.outside
        if not asked:
            return selector
        path = self._group(asked, str(getattr(selector, asked)))
        if path is None:
            return selector
        found = {"cgroup": path} if path else {"pid": _NOBODY}
        return msgspec.structs.replace(selector, **{asked: None, **found})

    def _group(self, asked: str, name: str) -> str | None:
        until, path = self._known.get((asked, name), (0.0, None))
        if time.monotonic() >= until:
            path = _ask(asked, name)
            fresh_s = _SLOW_FRESH_S if path is None else _FRESH_S
            self._known[asked, name] = (time.monotonic() + fresh_s, path)
        return path


def _ask(asked: str, name: str) -> str | None:
    """The cgroup; "" where there is none now; None where nobody could say."""
    try:
        if asked == "container":
            return docker.group_of(docker.address(os.environ), name)
        return systemd.group_of("user" if asked == "user_unit" else "system", name)
    except OSError:
        return None
