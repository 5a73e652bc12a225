"""Faults as data: what can be done to a process, with its options, and nothing about how.

Here is what every fault is, and the two that need nothing but signals; `faults/` has the others, and lists them all.
`inject/` holds one file per fault that carries it out; a plugin brings a class of its own and enters it in the
registry by the same door. In the experiment file a fault is one key: `kill: {signal: TERM, then: KILL, grace: 500ms}`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from .noun import Noun
from .units import Ms

SignalName = Annotated[str, msgspec.Meta(pattern=r"^(SIG)?[A-Z][A-Z0-9+]*$", examples=["TERM", "KILL", "USR1"])]

SyscallName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{1,31}$", examples=["fsync", "rename", "any"])]


ENDING = frozenset({"KILL", "TERM", "INT", "QUIT", "HUP", "ABRT"})
"""Signals by which programs are told to end, whether or not they take their time over it."""


class Fault:
    """The base of every fault. `kind` is its name in the file; `lasting_ms` says how long it holds its target.

    A fault is also a noun, tagged with its kind: `class Kill(Fault, Noun, tag="kill", tag_field="fault")`. The base
    is no noun itself, so that whoever reads a plan asks the registry which class a tag stands for.
    """

    __slots__ = ()
    kind: ClassVar[str] = ""

    @property
    def lasting_ms(self) -> int:
        """How long the target stays disturbed, in ms; 0 for an act with nothing to undo."""
        return 0

    @property
    def busy_ms(self) -> int:
        """How long it may take to carry out, in ms, beside what it lasts."""
        return 0

    @property
    def ends(self) -> bool:
        """Whether it is meant to end its targets: one that dies a while after it was reached died of it."""
        return False

    @property
    def runs_out(self) -> bool:
        """Whether its targets are meant to run out of memory: a kill for want of it, while it lasts, is its doing."""
        return False

    @property
    def rounds(self) -> tuple[int, int]:
        """How often the injection is carried out, each time on whom the selector finds then, and the ms between."""
        return 1, 0

    @property
    def parts(self) -> tuple[Any, ...]:
        """The faults that it is made of (`faults.combined.Part`); none for one that is a fault by itself."""
        return ()

    @property
    def reaches(self) -> tuple[tuple[str, str], ...]:
        """What it touches beyond processes of this machine: kind and name of each, as `limits.cluster` lists them."""
        return ()

    @property
    def said(self) -> str:
        """The options that differ from their defaults, as text."""
        return ", ".join(
            f"{field.encode_name} {_text(value)}"
            for field in msgspec.structs.fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, field.name)) != field.default
        )

    def __str__(self) -> str:
        return f"{self.kind} ({self.said})" if self.said else self.kind


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(str(one) for one in value)
    return str(value)


class Request(Noun, frozen=True, kw_only=True):
    """A graceful trigger: ask the program to go by a request, before any signal."""

    url: str
    """The address."""
    method: str = "POST"
    """The request method."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(2_000))
    """How long the answer may take."""


class Kill(Fault, Noun, tag="kill", tag_field="fault", frozen=True, kw_only=True):
    """End a process by a signal, harder if it does not go, again if somebody brings it back.

    `ask` triggers a graceful shutdown first, by a command (argument list) or an HTTP request, and waits `grace`
    before the signal. `then` escalates: each step is sent if the process still lives `grace` after the one before.
    `repeat` sends the whole ladder again every `every`, to the process that the selector finds then, to outrun a
    supervisor.
    """

    kind: ClassVar[str] = "kill"

    signal: SignalName = "KILL"
    """The first signal, with or without `SIG`."""
    then: SignalName | tuple[SignalName, ...] = ()
    """What follows, one or several, while it still lives."""
    grace_ms: Ms = msgspec.field(name="grace", default=Ms(5_000))
    """How long each step is given."""
    ask: Request | tuple[str, ...] | None = None
    """A graceful way out, tried first: a request, or a command."""
    repeat: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    """How many times in all."""
    every_ms: Ms = msgspec.field(name="every", default=Ms(1_000))
    """From one repetition to the next."""

    @property
    def ladder(self) -> tuple[str, ...]:
        """The signals in the order of escalation, without the SIG prefix."""
        then = (self.then,) if isinstance(self.then, str) else self.then
        return tuple(name.removeprefix("SIG") for name in (self.signal, *then))

    @property
    def busy_ms(self) -> int:
        """The grace of each rung but the last, which is not waited out where it works, and that of `ask`."""
        waits = len(self.ladder) - 1 + (self.ask is not None)
        return waits * int(self.grace_ms)

    @property
    def ends(self) -> bool:
        """Whether any rung of the ladder is a signal that programs are ended by."""
        return any(name in ENDING for name in self.ladder)

    @property
    def rounds(self) -> tuple[int, int]:
        """`repeat` times, `every` ms."""
        return self.repeat, self.every_ms


class Duty(Noun, frozen=True, kw_only=True):
    """A duty cycle: held for `on`, let go for `off`, over and over."""

    on_ms: Ms = msgspec.field(name="on")
    """It stands still for so long."""
    off_ms: Ms = msgspec.field(name="off")
    """It goes on for so long."""


class Suspend(Fault, Noun, tag="suspend", tag_field="fault", frozen=True, kw_only=True):
    """Stop a process where it stands, and let it go on after a while.

    `how`: `stop` sends SIGSTOP (the parent may notice), `freezer` uses the cgroup freezer (nobody is
    told; the targets are put into a cgroup of their own for it). `tree` stops the descendants of each target as well.
    """

    kind: ClassVar[str] = "suspend"

    for_ms: Ms = msgspec.field(name="for")
    """From the stop to the healing."""
    how: Literal["stop", "freezer"] = "stop"
    """The way of stopping."""
    tree: bool = False
    """Whether its descendants stop as well."""
    duty: Duty | None = None
    """Stop and go, over and over, instead of one long stop."""

    @property
    def lasting_ms(self) -> int:
        """How long the target stands still, duty cycle included, in ms."""
        return self.for_ms


def is_signal_name(name: str) -> bool:
    """Whether this looks like a signal's name, with or without SIG; the host says whether it has it."""
    return re.fullmatch(r"(SIG)?[A-Z][A-Z0-9+]*", name) is not None
