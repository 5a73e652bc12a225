"""What the parts of a running round share: the loop, the journal, the keeper, and a way to tell the course."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..collect.events import clean_event
from ..collect.redact import Redactor
from ..model import course as c
from ..model import journal as j
from ..model.experiment import Experiment
from ..model.plan import Plan
from ..registry import Catalogue
from ..store import JournalWriter, RunDir
from ..supervise.keeper import Keeper
from ..system.clock import now_us
from .host import Host
from .loop import Loop

if TYPE_CHECKING:
    from .calls import CallWatch
    from .preloads import Preloads
    from .view import RoundView

MOST_ALIKE = 100
"""How many remarks that differ in their numbers only are written down."""
_NUMBERS = re.compile(r"\d+")


@dataclass(kw_only=True)
class Floor:
    """The gaming floor. `experiment` has its references filled in and is never written down; `plan` has not."""

    experiment: Experiment
    plain: Experiment
    """As the file has it: what things are called in the journal is taken from here."""
    plan: Plan
    run: RunDir
    base: Path
    """The directory of the experiment file: relative paths and commands start here."""
    catalogue: Catalogue
    host: Host
    loop: Loop
    journal: JournalWriter
    keeper: Keeper
    env: Mapping[str, str]
    redactor: Redactor
    live: bool
    view: RoundView
    tell: Callable[[c.Happening], None]
    """Hand something to the course, which may command more."""
    listen: Callable[[j.Event], None]
    """The terminal, reading along."""
    broke: Callable[[str], None]
    """We broke: end the round, heal, and say so."""
    calls: CallWatch | None = None
    """Whose system calls are watched; set once the floor is there."""
    preloads: Preloads | None = None
    """What processes are started with in front of the C library; set once the floor is there."""
    phase: j.Phase = "starting"
    _said: Counter[str] = field(default_factory=Counter, init=False)

    @property
    def now_ms(self) -> int:
        """Milliseconds since the run began."""
        return (now_us() - self.journal.zero_us) // 1000

    def record(self, event: j.Event) -> j.Event:
        """Write an event down without any secret, and let the terminal see it."""
        written = self.journal.record(clean_event(event, self.redactor))
        self.listen(written)
        return written

    def note(self, text: str, *, trouble: bool = False) -> None:
        """Write a remark down; trouble weakens the evidence, and so the verdict.

        Of remarks that differ in their numbers only, so many are kept; `close_notes` says how many more there were.
        """
        alike = _NUMBERS.sub("#", text)
        self._said[alike] += 1
        if self._said[alike] <= MOST_ALIKE:
            self.record(j.Noted(text=text, trouble=trouble))

    def close_notes(self) -> None:
        """Say how many remarks were left out."""
        for alike, times in self._said.items():
            if times > MOST_ALIKE:
                self.record(j.Noted(text=f"and {times - MOST_ALIKE} more like this one: {alike}"))
        self._said.clear()
