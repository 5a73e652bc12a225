"""Collectors of garbage that are kept busy, as data."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..units import Ms


class GcPressure(Fault, Noun, tag="gc_pressure", tag_field="fault", frozen=True, kw_only=True):
    """Have a process collect all its garbage over and over: it stands still for as long as each collection takes.

    A JVM is told to by `jcmd PID GC.run`, and needs nothing. A CPython is told by a real-time signal (RTMIN+11), which
    it only hears if croupier started it for this: where a plan has this fault for a process, a `sitecustomize` is put
    before its own by PYTHONPATH. It is not loaded by a Python under -S, -E or -I. The collection runs when the main
    thread next runs Python code.
    """

    kind: ClassVar[str] = "gc_pressure"

    for_ms: Ms = msgspec.field(name="for")
    """From the first collection to the last."""
    every_ms: Ms = msgspec.field(name="every", default=Ms(500))
    """From the end of one collection to the next."""
    runtime: Literal["auto", "jvm", "python"] = "auto"
    """What the target is; `auto` looks."""

    @property
    def lasting_ms(self) -> int:
        """How long it is kept at it, in ms."""
        return self.for_ms
