"""System calls that go wrong, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import Fault, SyscallName
from ..noun import Noun
from ..units import Bytes, Ms

ErrorName = Annotated[str, msgspec.Meta(pattern=r"^E[A-Z0-9]{1,15}$", examples=["ENOSPC", "EIO"])]
Doing = Literal["fail", "delay", "short", "torn", "lie", "freeze", "kill"]
FileKind = Literal["file", "dir", "socket", "pipe", "any"]
InputOutput = Literal["read", "write", "sync"]
_CALLS: dict[InputOutput, tuple[SyscallName, ...]] = {
    "read": ("read", "pread64", "readv", "preadv", "preadv2"),
    "write": ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    "sync": ("fsync", "fdatasync", "syncfs", "sync_file_range"),
}


class Syscall(Fault, Noun, tag="syscall", tag_field="fault", frozen=True, kw_only=True):
    """Have system calls of a process go wrong, for a while: fail, take their time, do a part, or only seem to be done.

    The target, and all that it starts, must be a process that croupier starts: its calls are watched from its start
    on. `fail` returns `errno`; `delay` holds the call; `short` writes or reads the first `bytes` and says so; `torn`
    does that and ends the process; `lie` says that it was done (an `fsync` that synced nothing); `freeze` has the call
    stand still until the fault is healed; `kill` ends the process before the call. Of calls that change no file (reads,
    sends, `connect`, `accept`) only those that are named go wrong.
    """

    kind: ClassVar[str] = "syscall"

    for_ms: Ms = msgspec.field(name="for")
    """For how long calls go wrong."""
    do: Doing
    """What becomes of a call."""
    call: SyscallName | tuple[SyscallName, ...] = "any"
    """Which call, or which of several; `any` for every call that changes a file."""
    errno: ErrorName = "EIO"
    """With `fail`: the error."""
    delay_ms: Ms = msgspec.field(name="delay", default=Ms(200))
    """With `delay`: how long each call is held."""
    bytes: Annotated[int, msgspec.Meta(ge=0)] = 1
    """With `short` and `torn`: how many are written or read."""
    path: str = ""
    """A glob over the path that the call is about, or over its last part; all by default."""
    on: FileKind = msgspec.field(name="file_kind", default="any")
    """What the call must be about."""
    nth: Annotated[int, msgspec.Meta(ge=1)] = 1
    """The first match that goes wrong, counted from the beginning of the fault."""
    every: Annotated[int, msgspec.Meta(ge=0)] = 1
    """After that every so-manieth; 0 for that one alone."""
    how: Literal["auto", "seccomp", "preload"] = "auto"
    """By the kernel, which sees every call; or by a library in front of the C library, which does without seccomp user
    notification, needs a C compiler, and can `fail`, `delay` and `short` calls that are named. `auto`: the first that
    works."""

    @property
    def lasting_ms(self) -> int:
        """For how long calls go wrong, in ms."""
        return self.for_ms

    @property
    def ends(self) -> bool:
        """Whether a call that goes wrong ends its process."""
        return self.do in ("kill", "torn")

    @property
    def calls(self) -> tuple[str, ...]:
        """The calls that are meant."""
        return (self.call,) if isinstance(self.call, str) else self.call


class SlowIo(Fault, Noun, tag="slow_io", tag_field="fault", frozen=True, kw_only=True):
    """Have reads, writes and syncs of files take their time, or hang, for a while: a slow disk that is one process's.

    The target, and all that it starts, must be a process that croupier starts, as with `syscall`. Every limit that is
    given counts; calls beyond it wait their turn, one after the other. What is read or written through mapped memory is
    not slowed.
    """

    kind: ClassVar[str] = "slow_io"

    for_ms: Ms = msgspec.field(name="for")
    """For how long."""
    of: InputOutput | tuple[InputOutput, ...] = ("read", "write", "sync")
    """What is slow: all three by default."""
    path: str = ""
    """A glob over the path of the file, or over its last part; every file by default."""
    bandwidth_bytes: Bytes = msgspec.field(name="bandwidth", default=Bytes(0))
    """So many bytes a second, as calls ask for them; 0 for no limit."""
    per_second: Annotated[int, msgspec.Meta(ge=0)] = 0
    """So many calls a second; 0 for no limit."""
    delay_ms: Ms = msgspec.field(name="delay", default=Ms(0))
    """Each call takes so much longer."""
    hang: bool = False
    """Calls stand still until the fault is healed."""

    @property
    def lasting_ms(self) -> int:
        """For how long it is slow, in ms."""
        return self.for_ms

    @property
    def calls(self) -> tuple[str, ...]:
        """The calls that are meant."""
        kinds = (self.of,) if isinstance(self.of, str) else self.of
        return tuple(name for kind in kinds for name in _CALLS[kind])

    @property
    def on(self) -> FileKind:
        """What a call must be about."""
        return "file"

    def cost_us(self, length: int) -> int:
        """How long a call of so many bytes occupies the disk, in microseconds."""
        cost = length * 1_000_000 // self.bandwidth_bytes if self.bandwidth_bytes else 0
        return cost + (1_000_000 // self.per_second if self.per_second else 0)
