"""Limits of a process, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..units import Bytes, Ms

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 30)]


class ExhaustFds(Fault, Noun, tag="exhaust_fds", tag_field="fault", frozen=True, kw_only=True):
    """Leave a process only so many free file descriptors, for a while: its next open(2), socket(2), accept(2) fails.

    Its soft limit of open files is put just above what it has open, so that whatever comes next fails with EMFILE. What
    it closes meanwhile it can open again. Children that it starts inherit the limit, and get the old one back with it.
    """

    kind: ClassVar[str] = "exhaust_fds"

    for_ms: Ms = msgspec.field(name="for")
    """From the exhaustion to the healing."""
    leave: Count = 0
    """How many descriptors stay free."""

    @property
    def lasting_ms(self) -> int:
        """How long there are none, in ms."""
        return self.for_ms


class Limit(Fault, Noun, tag="limit", tag_field="fault", frozen=True, kw_only=True):
    """Lower what a running process may use, for a while: open files, processes, file size, memory, core dumps.

    The soft limits of getrlimit(2), which the kernel holds the process to; its hard limits stay, so that nothing is
    needed to put the old ones back. What it uses already stays its own: a limit meets what it asks for next. Children
    that it starts meanwhile inherit the limits, and get the old ones back with it.
    """

    kind: ClassVar[str] = "limit"

    for_ms: Ms = msgspec.field(name="for")
    """From the lowering to the healing."""
    nofile: Count | None = None
    """Open files: open(2), socket(2) and the like fail with EMFILE."""
    nproc: Count | None = None
    """Processes and threads of its user: fork(2) fails with EAGAIN. Nobody who is root in effect is held to it."""
    fsize_bytes: Bytes | None = msgspec.field(name="fsize", default=None)
    """The size of a file it writes: SIGXFSZ, and EFBIG for who ignores that."""
    as_bytes: Bytes | None = msgspec.field(name="as", default=None)
    """Its address space: mmap(2) and brk(2) fail with ENOMEM."""
    core_bytes: Bytes | None = msgspec.field(name="core", default=None)
    """The size of a core dump; `0B` for none."""
    tree: bool = False
    """Whether the descendants of each target are limited as well."""

    @property
    def lasting_ms(self) -> int:
        """How long the limits hold, in ms."""
        return self.for_ms

    @property
    def lowered(self) -> dict[str, int]:
        """What is limited, by the kernel's short name, to how much."""
        every = {
            "NOFILE": self.nofile, "NPROC": self.nproc, "FSIZE": self.fsize_bytes, "AS": self.as_bytes,
            "CORE": self.core_bytes,
        }  # fmt: skip
        return {name: int(value) for name, value in every.items() if value is not None}


class ForkStorm(Fault, Noun, tag="fork_storm", tag_field="fault", frozen=True, kw_only=True):
    """Use up the processes that a target may start, for a while, by a storm of our own: its fork(2) fails with EAGAIN.

    The target, with all below it, is put into a cgroup with room for `processes` more than it has now (threads count),
    and helpers of ours fill that room. What it gives up meanwhile is filled as well. Nobody outside runs short.
    """

    kind: ClassVar[str] = "fork_storm"

    for_ms: Ms = msgspec.field(name="for")
    """From the storm to the healing."""
    processes: Annotated[int, msgspec.Meta(ge=2, le=256)] = 32
    """How many processes the storm makes at first."""
    leave: Count = 0
    """How many processes or threads stay free to the target."""

    @property
    def lasting_ms(self) -> int:
        """How long it lasts, in ms."""
        return self.for_ms
