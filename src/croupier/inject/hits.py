"""Rules that are in force, and watched until each was seen to do something to its target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..model.target import Seen
from ..system import procs
from ..system.clock import now_us
from . import Act

_LOOK_MS = 20


class Watched(Protocol):
    """A rule for one target."""

    target: Seen

    def look(self) -> bool:
        """Ask how far it has come; whether there is nothing more to wait for."""


def wait_for(rules: Sequence[Watched], for_ms: int, act: Act) -> None:
    """Wait until each rule was seen to act or has lost its target, at most as long as they last."""

    def seen() -> bool:
        looked = [one.look() or not procs.alive(one.target.identity) for one in rules]
        return all(looked)

    end_us = now_us() + for_ms * 1_000
    # Asked now and then: each question takes the time of whoever carries the rule out.
    while not seen() and not act.halted and now_us() < end_us:
        act.wait(min(_LOOK_MS, (end_us - now_us()) / 1_000))
