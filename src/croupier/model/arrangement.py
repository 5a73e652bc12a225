"""Arrangements: what a round sets up around its processes before they start, and takes down when they have ended.

A fault that would hurt the whole machine is aimed at an arrangement instead: a full disk at a small file system that
croupier made, and not at the host's. Each is declared in the experiment by a name, and `${KIND.NAME}` stands for it.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from .noun import Noun
from .units import Bytes


class Arrangement:
    """The base of every arrangement. `kind` is the word before the dot in `${KIND.NAME}`; `section` is the key of the
    experiment file under which they stand."""

    __slots__ = ()
    kind: ClassVar[str] = ""
    section: ClassVar[str] = ""


class Volume(Arrangement, Noun, frozen=True, kw_only=True):
    """A file system of a limited size, in memory, that lives as long as the round. `${volume.NAME}` is its path."""

    kind: ClassVar[str] = "volume"
    section: ClassVar[str] = "volumes"

    size_bytes: Bytes = msgspec.field(name="size")
    """How much fits on it."""


ARRANGEMENTS: tuple[type[Arrangement], ...] = (Volume,)
"""Every kind there is."""
