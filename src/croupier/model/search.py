"""The nouns of a search: what a recorded workload did, every moment at which it could have died, and what was found.

An *operation* is one call of the workload that could change its state. A *crash point* lies between two operations
(or inside a torn write), and has an address, `k0045`. A *finding* is a crash point whose state did not recover. The
events at the end are the journal of a search: like a round's, but a language of its own.
"""

from __future__ import annotations

from typing import Literal

from .errors import ExperimentError
from .journal import Event
from .noun import Noun
from .units import Ms

SEARCH_VERSION = 1

Kind = Literal[
    "write", "truncate", "create", "open-trunc", "rename", "link", "unlink", "mkdir", "rmdir", "symlink", "mknod",
    "sync", "sync-range", "attr", "xattr", "allocate", "copy", "splice", "mmap", "msync", "spawn", "output", "other",
]  # fmt: skip
"""What an operation does, whatever the call is named. A `write` changes bytes of a file; `output` is printed, and is an
acknowledgement when it goes to the workload's standard output; `sync` covers fsync, fdatasync, sync and syncfs."""

Model = Literal["kill", "power", "power:ext4-ordered", "power:posix-strict"]
PowerModel = Literal["ext4-ordered", "posix-strict"]
Ending = Literal["held", "violated", "unknown"]


class Operation(Noun, frozen=True, kw_only=True):
    """One call of the workload that could change its state, in the order in which the calls were let through."""

    index: int
    """1 is the first."""
    process: int = 1
    """Which process made it, counted in the order of their appearance; 1 is the first that changed anything."""
    tid_role: str = ""
    """`main`, or `thread 2` where another thread of the process made it."""
    call: str
    """The name of the system call, or `mmap-store` for bytes that changed through a shared mapping."""
    kind: Kind
    path: str = ""
    """Relative to the state directory; absolute where `outside`; "" for none."""
    path2: str = ""
    """The second path: the new name of a rename or link, the source of a copy, the text of a symlink."""
    offset: int | None = None
    length: int | None = None
    sync: bool = False
    """Durable when it returns: O_SYNC, O_DSYNC or RWF_DSYNC was in force."""
    flags: int = 0
    """Flags of the call as the kernel defines them (renameat2, open, fallocate, …)."""
    mode: int | None = None
    """Permission bits, where the call gives some."""
    result: int | None = None
    """What it returned (negative: -errno), where that is known."""
    data: str = ""
    """The bytes that were written, as an address in the content store; "" for none."""
    stack: tuple[str, ...] = ()
    """Where in the program it was made, the innermost frame first, where that can be had."""
    at_us: int = 0
    outside: bool = False
    """The path is outside of the state directory: such a change is not part of any state."""


class CrashPoint(Noun, frozen=True, kw_only=True):
    """One moment in the recorded workload at which it could have died."""

    id: str
    """`k0045`; `k0045t4096` is the write after it cut at byte 4096, `k0045p2` a state that a power cut may leave there,
    `k0045r3` a crash in the recovery of it."""
    after: int
    """How many operations were complete: the crash is before operation `after + 1`."""
    cut: int | None = None
    """Torn: so many bytes of the next write made it."""
    acked: int = 0
    """How many bytes the workload had printed by then."""
    state: str
    """The address of the state's tree in the content store."""
    model: Model = "kill"
    depth: int = 1
    parent: str = ""
    """Depth 2: the crash point whose recovery was ended."""
    lost: tuple[str, ...] = ()
    """Power: what of the operations before did not make it, in words."""


class Step(Noun, frozen=True, kw_only=True, omit_defaults=False):
    """An operation as people read it."""

    index: int
    operation: str
    path: str = ""
    path2: str = ""
    offset: int | None = None
    length: int | None = None
    process: int = 1
    stack: tuple[str, ...] = ()


class Finding(Noun, frozen=True, kw_only=True, omit_defaults=False):
    """A crash point whose state did not recover, or had lost what was acknowledged."""

    id: str
    after: Step | None
    """The last operation that was done; None where it died before the first."""
    before: Step | None
    """The operation that it died before; None after the last."""
    cut: int | None = None
    acked: int
    """How many lines the workload had printed."""
    reason: str
    """The last line of the check."""
    confirmed: bool | None = None
    """True: a real kill at that point failed the check too. False: it did not (unconfirmed). None: not tried."""
    confirmation: str = ""
    """How it was tried, and what came of it, in words."""
    group: int
    """The number of its group, 1 is the largest."""
    lost: tuple[str, ...] = ()


class Group(Noun, frozen=True, kw_only=True, omit_defaults=False):
    """The findings that have one cause."""

    number: int
    count: int
    first: str
    """The id of the first finding."""
    pattern: str
    """The operations around it, without numbers: `unlink *.db → rename *.tmp *.db`."""
    cause: str
    """In words, as far as the pattern tells: "`notes.json` is emptied before it is written again"."""
    reason: str
    """The reason of the first finding."""
    confirmed: bool | None = None
    fix: str = ""
    """For known patterns, what to do."""
    link: str = ""
    """The documentation of the pattern."""
    points: tuple[str, ...] = ()


class SelfCheck(Noun, frozen=True, kw_only=True, omit_defaults=False):
    """A guard against a false "nothing found": what was asked of the search itself."""

    name: str
    held: bool | None
    """None: it could not be asked."""
    detail: str = ""
    fatal: bool = True
    """Where it did not hold, nothing is proven by "no findings"."""


class SearchResult(Noun, frozen=True, kw_only=True, omit_defaults=False):
    """What a search came to: the object that `--json` prints."""

    run: str
    """The directory of the search."""
    verdict: Ending
    """`held`: every point recovered. `violated`: findings. `unknown`: nothing was proven; `reasons` say why."""
    reasons: tuple[str, ...]
    level: str
    """How the workload was watched, and at what level of trust."""
    model: Model
    crash_points: int
    distinct_states: int
    checked: int
    left_out: int
    """Distinct states that the budget left unchecked, or that the model left out."""
    acked: int
    """How many lines the workload printed: its acknowledgements."""
    operations: int
    findings: tuple[Finding, ...]
    groups: tuple[Group, ...]
    seconds: dict[str, float]
    """How long each phase took."""
    self_checks: tuple[SelfCheck, ...]

    @property
    def exit_code(self) -> int:
        """0 every point held, 1 findings, 4 nothing proven."""
        return {"held": 0, "violated": 1, "unknown": 4}[self.verdict]


class Budget(Noun, frozen=True, kw_only=True):
    """How much a search may check: a time, a number of states, or all of them."""

    ms: int | None = None
    states: int | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `60s` or `5000`. Raises ExperimentError for anything else."""
        if text.isascii() and text.isdigit() and int(text) > 0:
            return cls(states=int(text))
        try:
            ms = Ms.parse(text)
        except ValueError:
            ms = Ms(0)
        if ms <= 0:
            raise ExperimentError(
                f"a budget is a time or a number of states, got {text!r}", at="--budget", hint="60s, 5m or 5000"
            )
        return cls(ms=int(ms))


def point_id(
    after: int, *, cut: int | None = None, power: int | None = None, depth2: int | None = None, width: int = 4
) -> str:
    """The address of a crash point."""
    name = f"k{after:0{width}d}"
    if cut is not None:
        name += f"t{cut}"
    if power is not None:
        name += f"p{power}"
    if depth2 is not None:
        name += f"r{depth2}"
    return name


def step(operation: Operation) -> Step:
    """An operation as people read it."""
    return Step(
        index=operation.index,
        operation=operation.call,
        path=operation.path,
        path2=operation.path2,
        offset=operation.offset,
        length=operation.length,
        process=operation.process,
        stack=operation.stack,
    )


class Setting(Noun, frozen=True, kw_only=True):
    """What a search is asked to do: enough to do it again."""

    title: str
    workload: tuple[str, ...]
    check: tuple[str, ...] = ()
    """A command, or one word `module:function` with `check_call`."""
    check_call: bool = False
    setup: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    """A client: the workload is a server then, which runs until the client has ended."""
    state: str = ""
    model: Model = "kill"
    torn: bool = False
    depth: int = 1
    budget: Budget | None = None
    jobs: int = 0
    """How many checks at a time; 0 for as many as there are processors."""
    check_timeout_ms: int = 10_000
    timeout_ms: int = 120_000
    """How long the workload may take."""
    cwd: str = ""
    """Where the command was given: names of files in it are relative to this."""
    level: Literal["auto", "seccomp", "ptrace", "fuse", "shim", "events", "clock"] = "auto"
    """How the workload is watched; `auto` takes the best that works here."""
    stdin: str = ""
    """A file that the workload reads as its standard input."""
    experiment: str = ""
    """The experiment file whose rounds are searched; "" for a search of one workload."""
    processes: tuple[str, ...] = ()
    """Of an experiment: those whose calls are crash points."""
    record_ms: int = 5_000
    """Of an experiment: how long its recording lasts, where no workload ends by itself before."""
    seed: int = 0
    plugins: tuple[str, ...] = ()


class SearchStarted(Event, tag="search-started", frozen=True, kw_only=True):
    """The first line: who searched what, where, how."""

    journal: int = SEARCH_VERSION
    run: str
    setting: Setting
    croupier: str
    python: str
    os: str
    user: str
    wall_utc: str
    argv: tuple[str, ...] = ()


class Recorded(Event, tag="recorded", frozen=True, kw_only=True):
    """The workload ran once, watched; its operations are in `operations.jsonl`, its crash points in `points.jsonl`."""

    level: str
    operations: int
    points: int
    distinct: int
    acked: int
    code: int | None = None
    signal: str = ""
    blind: tuple[str, ...] = ()
    """What could not be seen."""


class StateChecked(Event, tag="state-checked", frozen=True, kw_only=True):
    """The check gave its answer on the state of one crash point (`same` are others with the same state and output)."""

    point: str
    held: bool
    reason: str = ""
    took_ms: float = 0.0
    same: int = 0


class PointConfirmed(Event, tag="confirmed", frozen=True, kw_only=True):
    """The workload was killed for real at that point, and the check asked again."""

    point: str
    confirmed: bool | None
    detail: str = ""


class SelfChecked(Event, tag="self-check", frozen=True, kw_only=True):
    """A guard against a false "nothing found" was asked."""

    check: SelfCheck


class SearchNoted(Event, tag="note", frozen=True, kw_only=True):
    """Something a reader should know."""

    text: str
    trouble: bool = False


class SearchEnded(Event, tag="search-ended", frozen=True, kw_only=True):
    """The last line of a journal that was not cut."""

    verdict: Ending
    reasons: tuple[str, ...] = ()
    findings: int = 0
    groups: int = 0


AnySearchEvent = (
    SearchStarted | Recorded | StateChecked | PointConfirmed | SelfChecked | SearchNoted | SearchEnded
)  # fmt: skip
