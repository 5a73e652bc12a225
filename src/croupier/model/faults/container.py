"""Containers of Docker's, as data: what the daemon is told about the one that the target lives in."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from ..fault import ENDING, Fault, SignalName
from ..noun import Noun
from ..units import Bytes, Ms

Processors = Annotated[float, msgspec.Meta(ge=0.01, le=4096)]


class KillContainer(Fault, Noun, tag="kill_container", tag_field="fault", frozen=True, kw_only=True):
    """Have Docker send a signal to the first process of the container that the target lives in (`docker kill`).

    Unlike `kill`, which the daemon takes for a crash and answers with the container's restart policy, this counts as
    asked for: Docker does not bring it back.
    """

    kind: ClassVar[str] = "kill_container"

    signal: SignalName = "KILL"
    """Which one, with or without `SIG`."""

    @property
    def ends(self) -> bool:
        """Whether it is a signal that programs are ended by."""
        return self.signal.removeprefix("SIG") in ENDING


class PauseContainer(Fault, Noun, tag="pause_container", tag_field="fault", frozen=True, kw_only=True):
    """Freeze everybody in the container that the target lives in, for a while (`docker pause`): nobody is told.

    Docker knows of it: `docker ps` says so, and health checks stop as well. `suspend` goes behind its back.
    """

    kind: ClassVar[str] = "pause_container"

    for_ms: Ms = msgspec.field(name="for")
    """From the pause to the healing."""

    @property
    def lasting_ms(self) -> int:
        """How long it is paused, in ms."""
        return self.for_ms


class StopContainer(Fault, Noun, tag="stop_container", tag_field="fault", frozen=True, kw_only=True):
    """Stop the container that the target lives in, and start it again after a while (`docker stop`, `docker start`).

    Its stop signal first; whoever is left after `grace` is killed. One that Docker would remove (`--rm`) is left alone.
    """

    kind: ClassVar[str] = "stop_container"

    for_ms: Ms = msgspec.field(name="for")
    """From the stop to the start."""
    grace_ms: Ms = msgspec.field(name="grace", default=Ms(10_000))
    """How long it is given to end by itself; counted in whole seconds, rounded up."""

    @property
    def lasting_ms(self) -> int:
        """How long it is down, in ms."""
        return self.for_ms

    @property
    def busy_ms(self) -> int:
        """The grace."""
        return self.grace_ms

    @property
    def ends(self) -> bool:
        """It ends everybody in the container."""
        return True


class LimitContainer(Fault, Noun, tag="limit_container", tag_field="fault", frozen=True, kw_only=True):
    """Give the container that the target lives in less of a processor or of memory, for a while (`docker update`).

    Docker refuses a limit of memory below what is in use where the kernel does (cgroups v1), and one below 6 MiB.
    """

    kind: ClassVar[str] = "limit_container"

    for_ms: Ms = msgspec.field(name="for")
    """From the lowering to the healing."""
    cpus: Processors | None = None
    """How many processors it may use; `0.5` is half of one."""
    memory_bytes: Bytes | None = msgspec.field(name="memory", default=None)
    """How much memory it may use, swap included."""

    @property
    def lasting_ms(self) -> int:
        """How long the limits hold, in ms."""
        return self.for_ms


class ExecInContainer(Fault, Noun, tag="exec_in_container", tag_field="fault", frozen=True, kw_only=True):
    """Run a command inside of the container that the target lives in (`docker exec`), and see it end well.

    What the command does is not undone; a command that has not ended in time is ended.
    """

    kind: ClassVar[str] = "exec_in_container"

    command: tuple[str, ...]
    """A program of the container's, and its arguments. There is no shell."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(10_000))
    """How long it may take."""
    exit_codes: tuple[int, ...] = (0,)
    """How it has to end to count as landed."""

    @property
    def busy_ms(self) -> int:
        """How long it may take."""
        return self.within_ms
