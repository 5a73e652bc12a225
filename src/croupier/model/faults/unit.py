"""Units of systemd's, as data: what systemctl is told about the one that the target lives in."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import ENDING, Fault, SignalName
from ..noun import Noun
from ..units import Bytes, Ms

Share = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Manager = Literal["auto", "system", "user"]
"""Whose systemd: the machine's, that of the user who runs croupier, or whichever the target's cgroup tells."""


class OnUnit(Fault):
    """What the faults on units share."""

    __slots__ = ()
    manager: Manager


class KillUnit(OnUnit, Noun, tag="kill_unit", tag_field="fault", frozen=True, kw_only=True):
    """Have systemd send a signal to the unit that the target lives in (`systemctl kill`).

    With `whom: all` everybody in its control group gets it at once, those who have left the tree included.
    """

    kind: ClassVar[str] = "kill_unit"

    signal: SignalName = "KILL"
    """Which one, with or without `SIG`."""
    whom: Literal["all", "main", "control"] = "all"
    """Everybody in the unit, its main process, or its control process."""
    manager: Manager = "auto"
    """The machine's systemd, or the user's."""

    @property
    def ends(self) -> bool:
        """Whether it is a signal that programs are ended by."""
        return self.signal.removeprefix("SIG") in ENDING


class FreezeUnit(OnUnit, Noun, tag="freeze_unit", tag_field="fault", frozen=True, kw_only=True):
    """Freeze the unit that the target lives in, for a while (`systemctl freeze`, `thaw`).

    Needs the unified hierarchy (cgroups v2) alone, as systemd does. Elsewhere `suspend: {tree: true}` does nearly that.
    """

    kind: ClassVar[str] = "freeze_unit"

    for_ms: Ms = msgspec.field(name="for")
    """From the freezing to the healing."""
    manager: Manager = "auto"
    """The machine's systemd, or the user's."""

    @property
    def lasting_ms(self) -> int:
        """How long it is frozen, in ms."""
        return self.for_ms


class StopUnit(OnUnit, Noun, tag="stop_unit", tag_field="fault", frozen=True, kw_only=True):
    """Stop the unit that the target lives in, and start it again after a while (`systemctl stop`, `start`)."""

    kind: ClassVar[str] = "stop_unit"

    for_ms: Ms = msgspec.field(name="for")
    """From the stop to the start."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(30_000))
    """How long stopping may take; systemd kills it after its own `TimeoutStopSec`."""
    manager: Manager = "auto"
    """The machine's systemd, or the user's."""

    @property
    def lasting_ms(self) -> int:
        """How long it is down, in ms."""
        return self.for_ms

    @property
    def busy_ms(self) -> int:
        """How long stopping may take."""
        return self.within_ms

    @property
    def ends(self) -> bool:
        """It ends everybody in the unit."""
        return True


class RestartUnit(OnUnit, Noun, tag="restart_unit", tag_field="fault", frozen=True, kw_only=True):
    """Restart the unit that the target lives in (`systemctl restart`), as after an update."""

    kind: ClassVar[str] = "restart_unit"

    within_ms: Ms = msgspec.field(name="within", default=Ms(30_000))
    """How long it may take until it is active again."""
    manager: Manager = "auto"
    """The machine's systemd, or the user's."""

    @property
    def busy_ms(self) -> int:
        """How long it may take."""
        return self.within_ms

    @property
    def ends(self) -> bool:
        """It ends everybody in the unit."""
        return True


class LimitUnit(OnUnit, Noun, tag="limit_unit", tag_field="fault", frozen=True, kw_only=True):
    """Give the unit that the target lives in less of a processor or of memory, for a while (`systemctl set-property`).

    With `--runtime`, so that a restart of the machine forgets it; the values that it had are put back before.
    """

    kind: ClassVar[str] = "limit_unit"

    for_ms: Ms = msgspec.field(name="for")
    """From the lowering to the healing."""
    cpu_percent: Share | None = msgspec.field(name="cpu", default=None)
    """Per cent of one processor (`CPUQuota`); 200 is two of them."""
    memory_bytes: Bytes | None = msgspec.field(name="memory", default=None)
    """How much memory it may use (`MemoryMax`): beyond it, somebody in it is killed."""
    manager: Manager = "auto"
    """The machine's systemd, or the user's."""

    @property
    def lasting_ms(self) -> int:
        """How long the limits hold, in ms."""
        return self.for_ms
