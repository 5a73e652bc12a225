"""What the parts of a running round share: the loop, the journal, the keeper, and a way to tell the course."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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
    from .view import RoundView


@dataclass(kw_only=True)
class Floor:
    """The gaming floor. `experiment` has its references filled in and is never written down; `plan` has not."""

    experiment: Experiment
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
    phase: j.Phase = "starting"
    trouble: list[str] = field(default_factory=list)

    @property
    def now_ms(self) -> int:
        """Milliseconds since the run began."""
        return (now_us() - self.journal.zero_us) // 1000

    def record(self, event: j.Event) -> j.Event:
        """Write an event down, and let the terminal see it."""
        written = self.journal.record(event)
        self.listen(written)
        return written

    def note(self, text: str, *, trouble: bool = False) -> None:
        """Write a remark down; trouble weakens the evidence, and so the verdict."""
        self.record(j.Noted(text=self.redactor.clean(text), trouble=trouble))
