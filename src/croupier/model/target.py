"""Targets: which process is meant, among those that live right now.

A *selector* says how to find processes; a *census* is what was alive at one moment; `matches` joins the two, and
`choose` draws by rank over a stable order (role, start order), so that one seed hits the same role twice running.
Nothing here looks at the machine: `system/` reads a census, the guard decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from .choice import ChoiceStream
from .noun import Noun
from .units import Ms, Percent

Column = Literal["exe", "cmdline", "user", "cgroup", "env", "ports"]
"""What a census reads only where a selector asks for it: each costs another file per process."""


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
    glob: str | None = None
    regex: str | None = None

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
    pick: Literal["main", "children", "tree"] | None = None
    """Of a named process: itself, its descendants without it, or both. Default `main`; `tree` with `name`, `exe`
    or `cmdline`."""
    name: str | None = None
    """Glob over the short name that the kernel keeps (15 bytes)."""
    exe: str | None = None
    """Glob over the path of the executable."""
    cmdline: Cmdline | None = None
    pid: int | None = None
    pid_file: str | None = None
    parent: int | None = None
    """The pid of the direct parent."""
    tree: int | None = None
    """This pid and all its descendants."""
    user: str | None = None
    port: int | None = None
    """A TCP or UDP port that the process listens on."""
    cgroup: str | None = None
    """Glob over the process's cgroup path."""
    env: str | None = None
    """`NAME` or `NAME=VALUE` in the environment that the process was started with."""
    older_than_ms: Ms | None = msgspec.field(name="older_than", default=None)
    younger_than_ms: Ms | None = msgspec.field(name="younger_than", default=None)
    order: Literal["random", "newest", "oldest"] = "random"
    count: int | Literal["all"] | None = None
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
    cgroup: str | None = None
    env: tuple[str, ...] | None = None
    ports: tuple[int, ...] | None = None

    @property
    def pid(self) -> int:
        """The number, for reading. Acts take the identity."""
        return self.identity.pid

    def __str__(self) -> str:
        return f"{self.role or self.name}{'' if self.main or not self.role else '/' + self.name} (pid {self.pid})"


Census = tuple[Seen, ...]


def columns(selectors: Iterable[Selector]) -> frozenset[Column]:
    """The costly columns that these selectors need of a census."""
    needed: set[Column] = set()
    for one in selectors:
        asked: dict[Column, object] = {
            "exe": one.exe, "cmdline": one.cmdline, "user": one.user, "cgroup": one.cgroup, "env": one.env,
            "ports": one.port,
        }  # fmt: skip
        needed |= {name for name, value in asked.items() if value is not None}
        needed |= columns(one.exclude)
    return frozenset(needed)


def matches(selector: Selector, census: Census) -> Census:
    """Everything alive that the selector means, in the stable order (role, start order); nothing is drawn yet.

    `pid_file` must have been turned into `pid` by whoever read the census: reading files is not a noun's business.
    """
    kept = [one for one in census if _holds(selector, one, census)]
    for unwanted in selector.exclude:
        kept = [one for one in kept if not _holds(unwanted, one, census)]
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
    return selector.count or 1


def _holds(selector: Selector, one: Seen, census: Census) -> bool:
    checks = (
        selector.process is None or _in_process(selector, one),
        selector.name is None or fnmatchcase(one.name, selector.name),
        selector.exe is None or (one.exe is not None and fnmatchcase(one.exe, selector.exe)),
        selector.cmdline is None or (one.cmdline is not None and selector.cmdline.holds(" ".join(one.cmdline))),
        selector.pid is None or one.pid == selector.pid,
        selector.pid_file is None,
        selector.parent is None or one.parent == selector.parent,
        selector.tree is None or one.pid in descendants(selector.tree, census) | {selector.tree},
        selector.user is None or one.user == selector.user,
        selector.port is None or selector.port in (one.ports or ()),
        selector.cgroup is None or (one.cgroup is not None and fnmatchcase(one.cgroup, selector.cgroup)),
        selector.env is None or _has_env(selector.env, one.env or ()),
        selector.older_than_ms is None or one.age_ms > selector.older_than_ms,
        selector.younger_than_ms is None or one.age_ms < selector.younger_than_ms,
    )
    return all(checks)


def _in_process(selector: Selector, one: Seen) -> bool:
    if one.role != selector.process:
        return False
    return {"main": one.main, "children": not one.main, "tree": True}[selector.picked]


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
