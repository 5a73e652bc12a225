"""A scenario: an experiment that others have thought through, with what to do before, meanwhile and after."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from .noun import Noun

Tier = Literal[1, 2, 3]
TIERS: dict[Tier, str] = {
    1: "one process, one fault",
    2: "what a process depends on: the network, the disk, limits, a database, its own files",
    3: "several things at once, or everybody",
}
SettingKind = Literal["command", "text", "number", "duration", "size"]
_SomeTexts = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Setting(Noun, frozen=True, kw_only=True):
    """One thing of a scenario that whoever uses it may set. Its name stands in the experiment as `<name>`."""

    kind: SettingKind
    meaning: str
    default: str | int = ""
    """Where it is empty, each line of the experiment that holds the setting is left out, as a comment."""
    example: str = ""
    """Shown in that comment."""


class Scenario(Noun, frozen=True, kw_only=True):
    """One file of the library."""

    title: str
    tier: Tier
    """See TIERS."""
    about: str
    """What it finds out, in a paragraph."""
    preconditions: _SomeTexts
    """What must be so before it is run; a checklist."""
    runbook: _SomeTexts
    """What people do while it runs, step by step."""
    signals: _SomeTexts
    """By what one sees it, and by what an alert should."""
    rollback: _SomeTexts
    """How to end it early, and what is left to do by hand."""
    references: _SomeTexts
    settings: dict[str, Setting] = {}
    """Settings of its own, beside those that all scenarios share."""
    experiment: str
    """The experiment file, with settings as `<name>`."""
