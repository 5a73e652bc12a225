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
    """How long the whole attempt may take; then it has failed."""


class Http(Probe, Asked, tag="http", tag_field="probe", frozen=True, kw_only=True):
    """A request is answered with the status, and the body holds the text."""

    kind: ClassVar[str] = "http"

    url: str
    """The address, `http` or `https`."""
    method: str = "GET"
    """The request method."""
    status: int | tuple[int, ...] = 200
    """The status expected, or several."""
    contains: str = ""
    """A text that the body must hold."""
    headers: dict[str, str] = {}
    """Header to value."""
    body: str = ""
    """Sent with the request."""

    def subject(self) -> str:
        """The address asked."""
        return self.url


class Tcp(Probe, Asked, tag="tcp", tag_field="probe", frozen=True, kw_only=True):
    """A connection to the port is accepted."""

    kind: ClassVar[str] = "tcp"

    port: Port | str
    """A number, or text that `${port.name}` turns into one."""
    host: str = "127.0.0.1"
    """Where."""

    def subject(self) -> str:
        """The address asked."""
        return f"{self.host}:{self.port}"


class Command(Probe, Asked, tag="command", tag_field="probe", frozen=True, kw_only=True):
    """A command ends with the exit code; its last line of output is the reason when it does not."""

    kind: ClassVar[str] = "command"

    run: tuple[str, ...]
    """A program and its arguments. There is no shell."""
    exit: int = 0
    """The exit code expected."""
    env: dict[str, str] = {}
    """On top of the operator's environment."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(30_000))
    """Then it is ended, with all that it started."""
    network: str = ""
    """The network that it is run in, a name under `networks`; by default the host's."""

    def subject(self) -> str:
        """The command line."""
        return " ".join(self.run)


class Log(Probe, Asked, tag="log", tag_field="probe", frozen=True, kw_only=True):
    """A line that matches the regular expression was (or, with `absent`, was not) printed by a process."""

    kind: ClassVar[str] = "log"

    process: str
    """A name under `processes`, or `workload`."""
    match: str
    """A regular expression (Python's), searched in each line."""
    absent: bool = False
    """No line may match, instead of one."""

    def subject(self) -> str:
        """The process and the pattern."""
        return f"{self.process} {'without ' if self.absent else ''}/{self.match}/"


class File(Probe, Asked, tag="file", tag_field="probe", frozen=True, kw_only=True):
    """A file exists (or not), holds a text, grows, or was written lately."""

    kind: ClassVar[str] = "file"

    path: str
    """Relative to the experiment file."""
    exists: bool = True
    """Whether it must be there, or must not."""
    contains: str = ""
    """A text that it must hold."""
    matches: str = ""
    """A regular expression, tried on each line by itself."""
    at_least: Bytes | None = None
    """The smallest size."""
    at_most: Bytes | None = None
    """The largest size."""
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
    """A name under `processes` or `attach`."""
    pick: Literal["main", "children", "tree"] = "tree"
    """Who is counted: the main process, its descendants, or both."""
    count: int | None = None
    """Exactly so many."""
    at_least: int | None = None
    """No fewer."""
    at_most: int | None = None
    """No more."""
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
    """Relative to the experiment file."""
    integrity: Literal["ok"] | None = None
    """Ask `PRAGMA integrity_check`."""
    query: str = ""
    """A query that only reads."""
    expect: str | int | float | None = None
    """Without it, any first row will do."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(10_000))
    """How long the whole attempt may take."""

    def subject(self) -> str:
        """The database, and the query."""
        return f"{self.path} {self.query or 'integrity'}"


class Heartbeat(Probe, Asked, tag="heartbeat", tag_field="probe", frozen=True, kw_only=True):
    """A heartbeat arrives at least this often: a file is touched, or a datagram comes in on a Unix socket.

    The path is given to the process in `CROUPIER_HEARTBEAT` when `path` is empty.
    """

    kind: ClassVar[str] = "heartbeat"

    every_ms: Ms = msgspec.field(name="every")
    """The longest pause."""
    path: str = ""
    """The file or the socket; relative to the experiment file."""
    socket: bool = False
    """A Unix datagram socket, instead of a file that is touched."""

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
    """A name under `processes` or `attach`."""
    every: Under | None = None
    """Holds for each recovery."""
    mean: Under | None = None
    """Holds for their mean."""
    p95: Under | None = None
    """Holds for the 95th percentile (nearest rank)."""

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
    """A name under `processes`."""
    at_most: int | None = None
    """No more restarts."""
    at_least: int | None = None
    """No fewer restarts."""

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
    """A command that prints the ids that are there, one a line."""
    at_least: int = 1
    """With fewer acknowledgements nothing is proven."""
    within_ms: Ms = msgspec.field(name="within", default=Ms(30_000))
    """How long `found` may take."""
    network: str = ""
    """The network that `found` is run in, a name under `networks`; by default the host's."""

    def subject(self) -> str:
        """What is compared."""
        return "each found exactly once" if self.found else f"at least {self.at_least}"


class Crashes(Invariant, Asked, tag="crashes", tag_field="probe", frozen=True, kw_only=True):
    """Deaths that no injection caused stay within a number or a rate."""

    kind: ClassVar[str] = "crashes"

    of: str
    """A name under `processes`."""
    at_most: int | None = None
    """No more such deaths."""
    rate: Rate | None = None
    """No more such deaths in any window of time."""

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
