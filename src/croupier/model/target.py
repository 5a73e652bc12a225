"""Targets: which process is meant, among those that live right now.

A *selector* says how to find processes; a *census* is what was alive at one moment; `matches` joins the two, and
`choose` draws by rank over a stable order (role, start order), so that one seed hits the same role twice running.
Nothing here looks at the machine: `system/` reads a census, the guard decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

import msgspec

from .choice import ChoiceStream
from .noun import Noun
from .units import Ms, Percent

Column = Literal["exe", "cmdline", "user", "cgroup", "env", "ports"]
"""What a census reads only where a selector asks for it: each costs another file per process."""


_NAME_BYTES: Final = 15
_GLOBS: Final = frozenset("*?[")
WHOLE_NAME: Final[frozenset[Column]] = frozenset(("exe", "cmdline"))
"""Where the rest of a name stands that the kernel has cut."""


class Identity(Noun, frozen=True, kw_only=True):
    """One process, and no other that may later carry its number.

    `started` is the start time in clock ticks since boot (proc(5), field 22); `boot` is the boot id. A pid alone
    is never an identity: the kernel hands numbers out again.
    """

    pid: int
    started: int
    boot: str = ""

    def __str__(self) -> str:
        return f"pid {self.pid}"


class Cmdline(Noun, frozen=True, kw_only=True):
    """How a full command line is compared: the arguments joined by single spaces. All that are given must hold."""

    exact: str | None = None
    """The whole of it."""
    glob: str | None = None
    """A glob over the whole of it."""
    regex: str | None = None
    """A regular expression (Python's), searched in it."""

    def holds(self, cmdline: str) -> bool:
        """Whether a command line, joined by spaces, is meant."""
        return (
            (self.exact is None or cmdline == self.exact)
            and (self.glob is None or fnmatchcase(cmdline, self.glob))
            and (self.regex is None or re.search(self.regex, cmdline) is not None)
        )


class Selector(Noun, frozen=True, kw_only=True):
    """How to find processes. Every criterion that is given must hold; then `exclude`, then the number to take.

    Without `process` the whole machine is searched, and what is found there is rehearsed only, unless a live run
    is asked for and the allow list names it.
    """

    process: str | None = None
    """A name under `processes` or `attach`."""
    pick: Literal["main", "children", "tree", "caller"] | None = None
    """Of a named process: itself, its descendants without it, or both; or `caller`, whoever of them makes the system
    call that the injection waits for. Default `main`; `tree` with `name`, `exe` or `cmdline`."""
    name: str | None = None
    """Glob over the short name that the kernel keeps (15 bytes)."""
    exe: str | None = None
    """Glob over the path of the executable."""
    cmdline: Cmdline | None = None
    """A glob over the arguments, joined by single spaces; or how they are compared."""
    pid: int | None = None
    """A process number."""
    pid_file: str | None = None
    """A file that begins with the pid; read each time. Relative to the experiment file."""
    parent: int | None = None
    """The pid of the direct parent."""
    tree: int | None = None
    """This pid and all its descendants."""
    user: str | None = None
    """The name of the user whom it runs as."""
    port: int | None = None
    """A TCP or UDP port that the process listens on."""
    cgroup: str | None = None
    """Glob over the process's cgroup paths, in any hierarchy; a path without wildcards means all below it as well."""
    unit: str | None = None
    """A unit of systemd's, like `nginx.service`: everybody in its control group."""
    user_unit: str | None = None
    """The same, of the systemd that looks after the user who runs croupier (`systemctl --user`)."""
    container: str | None = None
    """The name or id of a container of Docker's: everybody in it."""
    env: str | None = None
    """`NAME` or `NAME=VALUE` in the environment that the process was started with."""
    older_than_ms: Ms | None = msgspec.field(name="older_than", default=None)
    """Started longer ago than this."""
    younger_than_ms: Ms | None = msgspec.field(name="younger_than", default=None)
    """Started more lately than this."""
    order: Literal["random", "newest", "oldest"] = "random"
    """Who is taken first, if not all are."""
    count: Annotated[int, msgspec.Meta(ge=1)] | Literal["all"] | None = None
    """How many to take, default 1."""
    percent: Percent | None = None
    """How many to take, as a share of those that match, rounded up. Not together with `count`."""
    exclude: tuple[Selector, ...] = ()

    def criteria(self) -> dict[str, str]:
        """What was asked for, by name, as text for people and journals."""
        skip = {"exclude"}
        return {
            (field.encode_name): str(value)
            for field in msgspec.structs.fields(self)
            if field.name not in skip and (value := getattr(self, field.name)) != field.default
        }

    def __str__(self) -> str:
        said = self.criteria()
        process, pick = said.pop("process", None), said.pop("pick", None)
        head = [f"{process}'s {pick}" if pick and pick != "main" else process] if process else []
        tail = [f"{name} {value}" for name, value in said.items()]
        return ", ".join(head + tail) or "any process"

    @property
    def group(self) -> str:
        """The path of the cgroup that it means, with all that is below; "" where it names none, or may mean many."""
        path = self.cgroup or ""
        return path.rstrip("/") if path.startswith("/") and path != "/" and not _GLOBS & set(path) else ""

    @property
    def outside(self) -> str:
        """What somebody else has to be asked about: `unit`, `user_unit` or `container`; "" for none of them."""
        return next((name for name in ("unit", "user_unit", "container") if getattr(self, name) is not None), "")

    @property
    def picked(self) -> str:
        """`pick`, with its default filled in."""
        if self.pick:
            return self.pick
        return "tree" if self.name or self.exe or self.cmdline else "main"


class Seen(Noun, frozen=True, kw_only=True):
    """One process in a census.

    `role` is the logical name (`web`) of the supervised or attached process whose tree it belongs to, else "".
    `order` counts up by start time (then pid). Columns that nobody asked for are None.
    """

    identity: Identity
    parent: int
    name: str
    state: str
    order: int
    role: str = ""
    main: bool = False
    ours: bool = False
    protected: str = ""
    """Why this process may never be touched; "" where it may."""
    age_ms: int = 0
    exe: str | None = None
    cmdline: tuple[str, ...] | None = None
    user: str | None = None
    cgroup: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    ports: tuple[int, ...] | None = None

    @property
    def pid(self) -> int:
        """The number, for reading. Acts take the identity."""
        return self.identity.pid

    def __str__(self) -> str:
        return f"{self.role or self.name}{'' if self.main or not self.role else '/' + self.name} (pid {self.pid})"


Census = tuple[Seen, ...]


def columns(selectors: Iterable[Selector], *, doubtful: bool = False) -> frozenset[Column]:
    """The costly columns that these selectors need of a census; `doubtful` as they are asked of `matches`."""
    needed: set[Column] = set()
    for one in selectors:
        asked: dict[Column, object] = {
            "exe": one.exe, "cmdline": one.cmdline, "user": one.user, "cgroup": one.cgroup or one.outside or None,
            "env": one.env, "ports": one.port,
        }  # fmt: skip
        needed |= {name for name, value in asked.items() if value is not None}
        if doubtful and one.name is not None:
            needed |= WHOLE_NAME
        needed |= columns(one.exclude, doubtful=not doubtful)
    return frozenset(needed)


def matches(selector: Selector, census: Census, *, doubtful: bool = False) -> Census:
    """Everything alive that the selector means, in the stable order (role, start order); nothing is drawn yet.

    `pid_file` must have been turned into `pid` by whoever read the census, and a unit or a container into its cgroup:
    reading files, and asking others, is not a noun's business. `doubtful` takes in what may be meant as well: where a
    column could not be read, or one of these was left as it is.
    Whoever forbids asks so, because what cannot be read must not get through: `exclude` here, `deny` in the guard.
    """
    below = descendants(selector.tree, census) | {selector.tree} if selector.tree is not None else set()
    kept = [one for one in census if _holds(selector, one, below, doubtful)]
    for unwanted in selector.exclude:
        out = {one.identity for one in matches(unwanted, census, doubtful=not doubtful)}
        kept = [one for one in kept if one.identity not in out]
    return tuple(sorted(kept, key=lambda one: (one.role, one.order, one.pid)))


def choose(selector: Selector, candidates: Sequence[Seen], lot: int) -> Census:
    """Take as many of the candidates as the selector wants; `lot` is the number that the plan drew for this."""
    wanted = _wanted(selector, len(candidates))
    if selector.order == "newest":
        return tuple(sorted(candidates, key=lambda one: (-one.order, one.pid))[:wanted])
    if selector.order == "oldest":
        return tuple(sorted(candidates, key=lambda one: (one.order, one.pid))[:wanted])
    return ChoiceStream(lot).sample(candidates, wanted)


def _wanted(selector: Selector, available: int) -> int:
    if selector.percent is not None:
        return -(-available * selector.percent // 100)
    if selector.count == "all":
        return available
    return 1 if selector.count is None else selector.count


def _holds(selector: Selector, one: Seen, below: set[int], doubtful: bool) -> bool:
    # The cheap questions come first: on a machine with thousands of processes nearly all of them end there.
    return (
        (selector.process is None or _in_process(selector, one))
        and (selector.pid is None or one.pid == selector.pid)
        and (selector.parent is None or one.parent == selector.parent)
        and (selector.tree is None or one.pid in below)
        and (selector.older_than_ms is None or one.age_ms > selector.older_than_ms)
        and (selector.younger_than_ms is None or one.age_ms < selector.younger_than_ms)
        and (selector.pid_file is None or doubtful)
        and (not selector.outside or doubtful)
        and (
            selector.name is None
            or (may_be_named(selector.name, one) if doubtful else fnmatchcase(one.name, selector.name))
        )
        and (selector.user is None or (doubtful if one.user is None else one.user == selector.user))
        and (selector.exe is None or (doubtful if one.exe is None else fnmatchcase(one.exe, selector.exe)))
        and (selector.port is None or (doubtful if one.ports is None else selector.port in one.ports))
        and (selector.cgroup is None or (doubtful if one.cgroup is None else _in_cgroup(selector, one.cgroup)))
        and (selector.env is None or (doubtful if one.env is None else _has_env(selector.env, one.env)))
        and (
            selector.cmdline is None
            or (doubtful if one.cmdline is None else selector.cmdline.holds(" ".join(one.cmdline)))
        )
    )


def _in_cgroup(selector: Selector, paths: tuple[str, ...]) -> bool:
    if selector.group:
        return any(f"{path}/".startswith(f"{selector.group}/") for path in paths)
    return any(fnmatchcase(path, selector.cgroup or "") for path in paths)


def is_named(pattern: str, one: Seen) -> bool:
    """Whether a glob means the name of a process: the short one, or the one that the kernel has cut to make it."""
    if fnmatchcase(one.name, pattern):
        return True
    return _is_cut(one.name) and any(
        fnmatchcase(whole, pattern) for whole in _own_names(one) if whole.startswith(one.name)
    )


def may_be_named(pattern: str, one: Seen) -> bool:
    """Whether a glob might mean a process, by any name that it has; one that was cut and cannot be known might."""
    if is_named(pattern, one):
        return True
    names = _own_names(one)
    # A process can give itself another short name; the file that it runs stays what it is.
    if any(fnmatchcase(name, pattern) for name in names):
        return True
    if not _is_cut(one.name) or any(name.startswith(one.name) for name in names):
        return False
    # The rest of the name is nowhere to be read: it is meant if what there is of it fits the pattern so far.
    known = one.name.encode("utf-8", "surrogateescape")  # It may have been cut within a letter.
    plain = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    literal = plain.encode("utf-8", "surrogateescape")
    return literal.startswith(known) or (plain != pattern and known.startswith(literal))


def _is_cut(name: str) -> bool:
    return len(name.encode("utf-8", "surrogateescape")) >= _NAME_BYTES


def _own_names(one: Seen) -> set[str]:
    """The file names of what it runs: the executable, the first word, and the second, which is a script's."""
    paths = [one.exe or "", *(one.cmdline or ())[:2]]
    return {path.rpartition("/")[2] for path in paths} - {""}


def _in_process(selector: Selector, one: Seen) -> bool:
    if one.role != selector.process:
        return False
    meant = {"main": one.main, "children": not one.main, "tree": True, "caller": selector.pid is not None}
    return meant[selector.picked]


def _has_env(wanted: str, env: tuple[str, ...]) -> bool:
    return wanted in env if "=" in wanted else any(pair.split("=", 1)[0] == wanted for pair in env)


def descendants(pid: int, census: Census) -> set[int]:
    """The pids below `pid`, without it."""
    children: dict[int, list[int]] = {}
    for one in census:
        children.setdefault(one.parent, []).append(one.pid)
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found
