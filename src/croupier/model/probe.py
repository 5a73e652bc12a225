"""Probes and invariants as data.

A *probe* reads the world, with a time-out; used under `steady_state`, `ready`, `alive` and `abort_when`. An
*invariant* is a question to the recovered state (every probe can be one) or to the journal (`recovery`, `restarts`,
`acks`, `crashes`). In the experiment file each is one key: `http: {url: …, status: 200, within: 500ms}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from .noun import Noun
from .units import Bytes, Ms, Rate, Under

Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class Probe:
    """The base of everything that can be asked about the world. `within` ends the whole attempt, children included.

    A probe is also a noun, tagged with its kind: `class Http(Probe, Asked, tag="http", tag_field="probe")`. The base
    is no noun itself, so that whoever reads an experiment asks the registry which class a tag stands for.
    """

    __slots__ = ()
    kind: ClassVar[str] = ""

    if TYPE_CHECKING:
        name: str
        within_ms: Ms

    @property
    def label(self) -> str:
        """The name given, or one made from the probe's own options."""
        return self.name or f"{self.kind} {self.subject()}".strip()

    def subject(self) -> str:
        """What the probe is about, in a word or two."""
        return ""


class Asked(Noun, frozen=True, kw_only=True):
    """The options that every probe has."""

    name: str = ""
    """What people read in the verdict; made from the probe where it is empty."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(2_000))


class Http(Probe, Asked, tag="http", tag_field="probe", frozen=True, kw_only=True):
    """A request is answered with the status, and the body holds the text."""

    kind: ClassVar[str] = "http"

    url: str
    method: str = "GET"
    status: int | tuple[int, ...] = 200
    contains: str = ""
    headers: dict[str, str] = {}
    body: str = ""

    def subject(self) -> str:
        """The address asked."""
        return self.url


class Tcp(Probe, Asked, tag="tcp", tag_field="probe", frozen=True, kw_only=True):
    """A connection to the port is accepted."""

    kind: ClassVar[str] = "tcp"

    port: Port | str
    """A number, or text that `${port.name}` turns into one."""
    host: str = "127.0.0.1"

    def subject(self) -> str:
        """The address asked."""
        return f"{self.host}:{self.port}"


class Command(Probe, Asked, tag="command", tag_field="probe", frozen=True, kw_only=True):
    """A command ends with the exit code; its last line of output is the reason when it does not."""

    kind: ClassVar[str] = "command"

    run: tuple[str, ...]
    exit: int = 0
    env: dict[str, str] = {}
    within_ms: Ms = msgspec.field(name="within", default=Ms(30_000))

    def subject(self) -> str:
        """The command line."""
        return " ".join(self.run)


class Log(Probe, Asked, tag="log", tag_field="probe", frozen=True, kw_only=True):
    """A line that matches the regular expression was (or, with `absent`, was not) printed by a process."""

    kind: ClassVar[str] = "log"

    process: str
    match: str
    absent: bool = False

    def subject(self) -> str:
        """The process and the pattern."""
        return f"{self.process} {'without ' if self.absent else ''}/{self.match}/"


class File(Probe, Asked, tag="file", tag_field="probe", frozen=True, kw_only=True):
    """A file exists (or not), holds a text, grows, or was written lately."""

    kind: ClassVar[str] = "file"

    path: str
    exists: bool = True
    contains: str = ""
    matches: str = ""
    """A regular expression, tried on each line by itself."""
    at_least: Bytes | None = None
    at_most: Bytes | None = None
    grows_by: Bytes | None = None
    """Since the steady state was first seen."""
    fresh_ms: Ms | None = msgspec.field(name="fresh", default=None)
    """Modified no longer ago than this: a heartbeat file."""

    def subject(self) -> str:
        """The path."""
        return self.path


class Process(Probe, Asked, tag="process", tag_field="probe", frozen=True, kw_only=True):
    """How many processes of a role live, in which state, using how much."""

    kind: ClassVar[str] = "process"

    of: str
    pick: Literal["main", "children", "tree"] = "tree"
    count: int | None = None
    at_least: int | None = None
    at_most: int | None = None
    state: str = ""
    """Only those in one of these states count: letters of proc(5), R, S, D, T, Z, I."""
    rss_at_most: Bytes | None = None
    """What all of them use together."""

    def subject(self) -> str:
        """The role."""
        return f"{self.of} {self.pick}"


class Sqlite(Probe, Asked, tag="sqlite", tag_field="probe", frozen=True, kw_only=True):
    """A SQLite database is sound, and a query gives the expected first value."""

    kind: ClassVar[str] = "sqlite"

    path: str
    integrity: Literal["ok"] | None = None
    query: str = ""
    expect: str | int | float | None = None
    """Without it, any first row will do."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(10_000))

    def subject(self) -> str:
        """The database, and the query."""
        return f"{self.path} {self.query or 'integrity'}"


class Heartbeat(Probe, Asked, tag="heartbeat", tag_field="probe", frozen=True, kw_only=True):
    """A heartbeat arrives at least this often: a file is touched, or a datagram comes in on a Unix socket.

    The path is given to the process in `CROUPIER_HEARTBEAT` when `path` is empty.
    """

    kind: ClassVar[str] = "heartbeat"

    every_ms: Ms = msgspec.field(name="every")
    path: str = ""
    socket: bool = False

    def subject(self) -> str:
        """The path, and the pace."""
        return f"{self.path} every {self.every_ms}".strip()


class Invariant(Probe):
    """The base of a question to the journal alone: `judge` answers it again at any time, with no world around."""

    __slots__ = ()


class Recovery(Invariant, Asked, tag="recovery", tag_field="probe", frozen=True, kw_only=True):
    """After each injection a process was ready again in time. Times run from landing (or from healing, for a fault
    that lasts) until readiness and the number of children are back."""

    kind: ClassVar[str] = "recovery"

    of: str
    every: Under | None = None
    mean: Under | None = None
    p95: Under | None = None

    def subject(self) -> str:
        """The process and the bounds."""
        bounds = [
            f"{word} {one}" for word, one in (("every", self.every), ("mean", self.mean), ("p95", self.p95)) if one
        ]
        return f"of {self.of} ({', '.join(bounds)})"


class Restarts(Invariant, Asked, tag="restarts", tag_field="probe", frozen=True, kw_only=True):
    """A supervised process was restarted no more (and no less) often than this."""

    kind: ClassVar[str] = "restarts"

    of: str
    at_most: int | None = None
    at_least: int | None = None

    def subject(self) -> str:
        """The process."""
        return f"of {self.of}"


class Acks(Invariant, Asked, tag="acks", tag_field="probe", frozen=True, kw_only=True):
    """The ledger of acknowledgements: every id that the workload printed as `ack ID` is found exactly once.

    `found` is a command that prints the ids which the recovered system holds, one a line. Without it only the
    number of acknowledgements is asked: fewer than `at_least` means that nothing was proven.
    """

    kind: ClassVar[str] = "acks"

    found: tuple[str, ...] = ()
    at_least: int = 1
    within_ms: Ms = msgspec.field(name="within", default=Ms(30_000))

    def subject(self) -> str:
        """What is compared."""
        return "each found exactly once" if self.found else f"at least {self.at_least}"


class Crashes(Invariant, Asked, tag="crashes", tag_field="probe", frozen=True, kw_only=True):
    """Deaths that no injection caused stay within a number or a rate."""

    kind: ClassVar[str] = "crashes"

    of: str
    at_most: int | None = None
    rate: Rate | None = None

    def subject(self) -> str:
        """The process."""
        return f"of {self.of} not caused by an injection"


PROBES: tuple[type[Probe], ...] = (Http, Tcp, Command, Log, File, Process, Sqlite, Heartbeat)
INVARIANTS: tuple[type[Probe], ...] = (Recovery, Restarts, Acks, Crashes)


class Reading(Noun, frozen=True, kw_only=True):
    """What a probe saw: whether it held (None: it could not tell), why in a sentence, and how long it took."""

    held: bool | None
    detail: str = ""
    took_ms: float = 0.0
    values: dict[str, Any] = {}
