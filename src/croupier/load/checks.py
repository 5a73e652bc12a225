"""What types cannot say: names that must exist, patterns that must compile, promises that must be measurable.

`check_one` looks at a single struct while it is read. `check_whole` runs once all names are known; it works with
whatever could be read, so that a typo in one place hides no problem in another. `warnings` says what is allowed and
probably not meant.
"""

from __future__ import annotations

import re
import signal
import warnings as python_warnings
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ..model.arrangement import ARRANGEMENTS, MOST_MEMBERS, MOST_NETWORKS, Proxy
from ..model.experiment import (
    After,
    Collect,
    CrashRate,
    ExactInjection,
    Experiment,
    LogTrigger,
    On,
    ProcessSpec,
    Schedule,
    SlowRecovery,
    Stop,
    SyscallTrigger,
    Window,
    Workload,
    references,
)
from ..model.fault import Kill, Request
from ..model.faults.cpu import StarveCpu
from ..model.faults.network import DelayQueries, Network, OnProxy
from ..model.faults.packets import InNetwork, Packets
from ..model.link import PIPE
from ..model.probe import (
    Acks,
    Command,
    Crashes,
    File,
    Http,
    Invariant,
    Log,
    Process,
    Recovery,
    Restarts,
    Sqlite,
    Tcp,
)
from ..model.target import Cmdline, Selector
from ..model.units import Ms
from .document import Node
from .links import Wrong, wrong_on_pipe, wrong_with_delay, wrong_with_network, wrong_with_packets, wrong_with_proxy
from .problems import Path, did_you_mean
from .reading import ABORT_KEYS, BAD, Mention, Reading, fields_of
from .shares import wrong_with_starving

MOST_SPINS = 1_000_000
"""Turns of the wheel in one plan: more would not fit into memory, and no round lasts that long."""
RESERVED = frozenset(("workload", "croupier", "guardian"))
"""Names that runs use themselves, for logs and artifacts."""
LONGEST_PATTERN = 2_000


def check_one(reading: Reading, found: Mention) -> None:
    """Note what is wrong with one struct that was read, all by itself."""
    _check_positive(reading, found)
    _check_signals(reading, found)
    for kind, check in _CHECKS.items():
        if isinstance(found.value, kind):
            check(reading, found)


def check_whole(reading: Reading, values: Mapping[str, Any], root: Node, environment: Mapping[str, str]) -> None:
    """Note what is wrong between the parts of a document. `values` holds the top-level fields; bad ones are BAD."""
    _check_names(reading, root)
    _check_mentions(reading, root)
    _check_needs(reading, root)
    _check_after(reading, root)
    _check_live_probes(reading)
    _check_wheel(reading, values, root)
    _check_purpose(reading, values, root)
    _check_references(reading, root, environment)


# One struct by itself.


def _check_positive(reading: Reading, found: Mention) -> None:
    """A pace or a time-out of nothing would spin, or fail always."""
    for name in _POSITIVE & fields_of(type(found.value)).keys():
        value = getattr(found.value, fields_of(type(found.value))[name].name)
        if isinstance(value, Ms) and value == 0:
            _note(reading, found, f"{name} must be longer than nothing", name)


_POSITIVE = frozenset(("every", "within", "for", "on", "off", "sample_every", "longer_than", "older_than", "fresh"))


def _check_signals(reading: Reading, found: Mention) -> None:
    if not isinstance(found.value, Kill | Stop):
        return
    for name in ("signal", "then"):
        given = getattr(found.value, name, ())
        for one in (given,) if isinstance(given, str) else given:
            if not is_known_signal(one):
                known = [known.name.removeprefix("SIG") for known in signal.Signals]
                _note(
                    reading, found, f"unknown signal {one!r}", name, hint=did_you_mean(one.removeprefix("SIG"), known)
                )


def is_known_signal(name: str) -> bool:
    """Whether POSIX or Linux knows the signal: `TERM`, `SIGTERM`, `RTMIN+3`.

    The machine is asked again before it is sent.
    """
    name = name.removeprefix("SIG")
    real_time = re.fullmatch(r"RTM(?:IN(?:\+(\d{1,2}))?|AX)", name)
    if real_time:
        return int(real_time[1] or 0) <= 30
    return name in _POSIX or f"SIG{name}" in signal.Signals.__members__


_POSIX = frozenset(
    [
        "ABRT",
        "ALRM",
        "BUS",
        "CHLD",
        "CONT",
        "FPE",
        "HUP",
        "ILL",
        "INT",
        "KILL",
        "PIPE",
        "POLL",
        "PROF",
        "QUIT",
        "SEGV",
        "STOP",
        "SYS",
        "TERM",
        "TRAP",
        "TSTP",
        "TTIN",
        "TTOU",
        "URG",
        "USR1",
        "USR2",
        "VTALRM",
        "XCPU",
        "XFSZ",
        "IO",
        "PWR",
        "STKFLT",
        "WINCH",
    ]
)


def _check_command(reading: Reading, found: Mention) -> None:
    for name in ("command", "run", "ask"):
        command = getattr(found.value, name, None)
        if not isinstance(command, tuple):
            continue
        if not command or not command[0].strip():
            hint = f"write {name}: [program, argument]"
            _note(
                reading, found, "the command names no program" if command else "the command is empty", name, hint=hint
            )
    for key in getattr(found.value, "env", None) or {}:
        if not key or "=" in key or "\0" in key:
            _note(reading, found, f"{key!r} cannot be the name of a variable", "env")


def _check_selector(reading: Reading, found: Mention) -> None:
    one: Selector = found.value
    finding = one.criteria().keys() - {"order", "count", "percent", "pick"}
    if not finding:
        _note(
            reading,
            found,
            "this selector means every process of the machine",
            hint="give process: NAME, or how to find it",
        )
    if one.pick and not one.process:
        _note(
            reading,
            found,
            "pick belongs to a named process",
            "pick",
            hint="give process: NAME as well, or leave it out",
        )
    groups = [name for name in ("cgroup", "unit", "user_unit", "container") if getattr(one, name) is not None]
    if len(groups) > 1:
        _note(reading, found, f"{groups[0]} and {groups[1]} both name a cgroup", groups[1], hint="keep one of the two")
    if one.count is not None and one.percent is not None:
        _note(reading, found, "count and percent are both given", "percent", hint="keep one of the two")
    for name, lowest, highest in (("count", 1, 2**22), ("pid", 1, 2**22), ("parent", 0, 2**22), ("tree", 1, 2**22),
                                  ("port", 1, 65_535)):  # fmt: skip
        value = getattr(one, name)
        if isinstance(value, int) and not lowest <= value <= highest:
            _note(reading, found, f"expected a number from {lowest} to {highest}, got {value}", name)
    if one.older_than_ms is not None and one.younger_than_ms is not None and one.younger_than_ms <= one.older_than_ms:
        _note(reading, found, "nobody is older and younger than this at once", "younger_than")


def _check_cmdline(reading: Reading, found: Mention) -> None:
    if found.value == Cmdline():
        _note(reading, found, "a command line is compared by exact, glob or regex, and none is given")
    _check_regex(reading, found, "regex")


def _check_match(reading: Reading, found: Mention) -> None:
    _check_regex(reading, found, "match")


def _check_collect(reading: Reading, found: Mention) -> None:
    for at, pattern in enumerate(found.value.redact):
        _check_pattern(reading, found, pattern, "redact", at)


def _check_regex(reading: Reading, found: Mention, name: str) -> None:
    pattern = getattr(found.value, name)
    if pattern:
        _check_pattern(reading, found, pattern, name)


def _check_pattern(reading: Reading, found: Mention, pattern: str, *steps: str | int) -> None:
    if len(pattern) > LONGEST_PATTERN:
        _note(reading, found, f"the pattern has {len(pattern)} characters, and {LONGEST_PATTERN} is the most", *steps)
        return
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as problem:
        hint = "regular expressions are Python's; write \\ before . * + ? ( ) [ ] { } | for the sign itself"
        _note(reading, found, f"not a regular expression: {problem}", *steps, hint=hint)


def _check_url(reading: Reading, found: Mention) -> None:
    url: str = found.value.url
    if not url.lower().startswith(("http://", "https://", "${")) or re.search(r"[\s\x00-\x1f]", url):
        _note(reading, found, f"expected an address that begins with http:// or https://, got {url[:60]!r}", "url")
    if not re.fullmatch(r"[A-Z]{1,20}", found.value.method):
        hint = f"write {found.value.method[:20].upper()}" if found.value.method else ""
        _note(reading, found, f"{found.value.method[:20]!r} is no request method", "method", hint=hint)


def _check_tcp(reading: Reading, found: Mention) -> None:
    port = found.value.port
    if isinstance(port, str) and not list(references(port)):
        number = int(port) if re.fullmatch(r"\d{1,5}", port, re.ASCII) else 0
        if not 1 <= number <= 65_535:
            _note(
                reading, found, f"expected a port from 1 to 65535, got {port[:60]!r}", "port", hint='or "${port.NAME}"'
            )


def _check_file(reading: Reading, found: Mention) -> None:
    one: File = found.value
    _check_regex(reading, found, "matches")
    if not one.path:
        _note(reading, found, "the path is empty", "path")
    asked = (
        one.contains or one.matches or one.at_least is not None or one.grows_by is not None or one.fresh_ms is not None
    )
    if not one.exists and asked:
        _note(reading, found, "a file that must not exist cannot hold anything", "exists")


def _check_process(reading: Reading, found: Mention) -> None:
    one: Process = found.value
    if one.state and not re.fullmatch(r"[RSDTtZXIWPK]+", one.state):
        _note(reading, found, f"{one.state[:20]!r} is no state of a process", "state", hint="one of R, S, D, T, Z, I")
    if one.count is not None and (one.at_least is not None or one.at_most is not None):
        _note(reading, found, "count says it all: at_least and at_most do not go with it", "count")
    _check_bounds(reading, found)


def _check_bounds(reading: Reading, found: Mention) -> None:
    low, high = getattr(found.value, "at_least", None), getattr(found.value, "at_most", None)
    for name, value in (("at_least", low), ("at_most", high), ("count", getattr(found.value, "count", None))):
        if isinstance(value, int) and value < 0:
            _note(reading, found, f"expected a number of 0 or more, got {value}", name)
    if low is not None and high is not None and low > high:
        _note(reading, found, f"at least {low} and at most {high} is never true", "at_least")


def _check_sqlite(reading: Reading, found: Mention) -> None:
    one: Sqlite = found.value
    if not one.query and one.integrity is None:
        _note(reading, found, "this asks the database nothing", hint="give integrity: ok, or query with expect")
    if one.expect is not None and not one.query:
        _note(reading, found, "expect needs a query", "expect")


def _check_recovery(reading: Reading, found: Mention) -> None:
    one: Recovery = found.value
    if one.every is one.mean is one.p95 is None:
        _note(
            reading,
            found,
            "this promises no bound on recovery",
            hint='give one of every, mean, p95, like every: "< 5s"',
        )


def _check_restarts(reading: Reading, found: Mention) -> None:
    if found.value.at_least is found.value.at_most is None:
        _note(reading, found, "this promises nothing about restarts", hint="give at_most, at_least or both")
    _check_bounds(reading, found)


def _check_crashes(reading: Reading, found: Mention) -> None:
    if found.value.at_most is None and found.value.rate is None:
        _note(reading, found, "this promises nothing about crashes", hint="give at_most or rate")
    _check_bounds(reading, found)


def _check_acks(reading: Reading, found: Mention) -> None:
    if found.value.at_least < 0:
        _note(reading, found, f"expected a number of 0 or more, got {found.value.at_least}", "at_least")
    if "found" in found.node.entries and not found.value.found:
        _note(reading, found, "the command is empty", "found", hint="write found: [program, argument]")


def _check_injection(reading: Reading, found: Mention) -> None:
    one: ExactInjection = found.value
    given = [name for name, value in (("at", one.at_ms), ("after", one.after), ("on", one.on)) if value is not None]
    if not given:
        _note(reading, found, "an injection needs a trigger", hint="give one of at, after, on")
    elif len(given) > 1:
        _note(reading, found, f"{' and '.join(given)} are two triggers", given[1], hint="keep one of at, after, on")


def _check_schedule(reading: Reading, found: Mention) -> None:
    one: Schedule = found.value
    if not one.every_ms or not one.for_ms:
        return
    turns = max(0, -(-int(one.for_ms) // int(one.every_ms)) - 1)
    if turns > MOST_SPINS:
        _note(reading, found, f"the wheel would turn {turns:,} times, and {MOST_SPINS:,} is the most", "every")
    elif not turns:
        hint = f"the first turn comes after {one.every_ms}: make for longer than that"
        _note(reading, found, "the wheel stops before its first turn", "for", hint=hint)


def _check_window(reading: Reading, found: Mention) -> None:
    one: Window = found.value
    if one.start == one.end or not one.days:
        _note(reading, found, "this window is never open", "to" if one.days else "days")
    if not _zone_exists(one.zone):
        hint = did_you_mean(one.zone, sorted(zoneinfo.available_timezones()) or ["UTC"])
        _note(reading, found, f"unknown time zone {one.zone[:60]!r}", "zone", hint=hint)


def _zone_exists(name: str) -> bool:
    if name == "UTC":
        return True
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # A directory, a path that leads elsewhere, a name too long: none of them is a zone.
        return False
    return True


def _check_on(reading: Reading, found: Mention) -> None:
    if (found.value.log is None) == (found.value.syscall is None):
        _note(reading, found, "a moment is exactly one of log and syscall", hint="on: {log: {process: web, match: up}}")


def _check_by(wrong: Callable[[Any], Iterable[Wrong]]) -> Callable[[Reading, Mention], None]:
    def check(reading: Reading, found: Mention) -> None:
        for said, key, hint in wrong(found.value):
            _note(reading, found, said, *([key] if key else []), hint=hint)

    return check


_CHECKS: dict[type[Any], Callable[[Reading, Mention], None]] = {
    Proxy: _check_by(wrong_with_proxy),
    Network: _check_by(wrong_with_network),
    DelayQueries: _check_by(wrong_with_delay),
    Packets: _check_by(wrong_with_packets),
    StarveCpu: _check_by(wrong_with_starving),
    ProcessSpec: _check_command,
    Workload: _check_command,
    Command: _check_command,
    Kill: _check_command,
    Selector: _check_selector,
    Cmdline: _check_cmdline,
    LogTrigger: _check_match,
    On: _check_on,
    Log: _check_match,
    Collect: _check_collect,
    Http: _check_url,
    Request: _check_url,
    Tcp: _check_tcp,
    File: _check_file,
    Process: _check_process,
    Sqlite: _check_sqlite,
    Recovery: _check_recovery,
    Restarts: _check_restarts,
    Crashes: _check_crashes,
    Acks: _check_acks,
    ExactInjection: _check_injection,
    Schedule: _check_schedule,
    Window: _check_window,
}


# Between the parts.


def _names(root: Node, section: str) -> dict[str, Node]:
    """The names under `processes` or `attach`, with their keys: known even where what they stand for is wrong."""
    node = root.child(section)
    return {name: key for name, (key, _) in node.entries.items()} if node is not None else {}


def _check_names(reading: Reading, root: Node) -> None:
    processes, attach = _names(root, "processes"), _names(root, "attach")
    for section, names in (("processes", processes), ("attach", attach)):
        for name in RESERVED & names.keys():
            reading.note(f"the name {name!r} is croupier's own", names[name], (section, name), "choose another")
    _check_sizes(reading, root)
    for name in processes.keys() & attach.keys():
        hint = f"{name!r} stands under processes as well, in line {processes[name].line}"
        reading.note(f"the name {name!r} is given twice", attach[name], ("attach", name), hint)


def _check_sizes(reading: Reading, root: Node) -> None:
    for section, most in (("networks", MOST_NETWORKS), ("processes", MOST_MEMBERS)):
        names = _names(root, section)
        if len(names) > most and (section == "networks" or _names(root, "networks")):
            reading.note(f"with networks there may be {most} {section} at most", names[list(names)[most]], (section,))


def _check_mentions(reading: Reading, root: Node) -> None:
    """Every process that is named somewhere is there, and is of the kind that is needed."""
    started, attached = _names(root, "processes"), _names(root, "attach")
    both = {**started, **attached}
    pipes = {it.path[-1] for it in reading.mentions if isinstance(it.value, Proxy) and it.value.to.startswith(PIPE)}
    for found in reading.mentions:
        one = found.value
        match one:
            case Selector(process=str() as name):
                if found.path[:1] == ("attach",):
                    hint = "find it by name, exe, cmdline, pid_file, port or the like"
                    _note(reading, found, "attach is for processes that croupier did not start", "process", hint=hint)
                else:
                    _check_name(reading, found, name, "process", both)
            case SyscallTrigger(process=name):
                if name in attached and name not in started:
                    hint = "only calls of what stands under processes can be stopped"
                    _note(reading, found, f"croupier did not start {name!r}", "process", hint=hint)
                else:
                    _check_name(reading, found, name, "process", started)
            case ProcessSpec(network=name) | Workload(network=name) | Command(network=name) | Acks(network=name) if (
                name
            ):
                _check_name(reading, found, name, "network", _names(root, "networks"), what="network")
            case InNetwork():
                for name in one.neighbours:
                    _check_name(reading, found, name, "from", {**started, **dict.fromkeys(RESERVED, root)})
            case OnProxy(proxy=name):
                _check_name(reading, found, name, "proxy", _names(root, "proxies"), what="proxy")
                if name in pipes:
                    _check_by(wrong_on_pipe)(reading, found)
            case Log(process="workload") | LogTrigger(process="workload") if root.child("workload") is not None:
                pass
            case Log(process=name) | LogTrigger(process=name):
                if name in attached and name not in started:
                    hint = "only the output of what stands under processes is read"
                    _note(
                        reading,
                        found,
                        f"croupier did not start {name!r} and cannot read its output",
                        "process",
                        hint=hint,
                    )
                else:
                    _check_name(reading, found, name, "process", started)
            case Restarts(of=name):
                if name in attached and name not in started:
                    _note(
                        reading, found, f"croupier does not restart {name!r}", "of", hint="ask recovery of it instead"
                    )
                else:
                    _check_name(reading, found, name, "of", started)
            case Recovery(of=name) | Crashes(of=name) | Process(of=name) | CrashRate(of=name) | SlowRecovery(of=name):
                _check_name(reading, found, name, "of", both)


def _check_name(
    reading: Reading, found: Mention, name: str, key: str, known: Mapping[str, Node], what: str = "process"
) -> None:
    if name in known:
        return
    hint = did_you_mean(name, known) or "there are none in this file"
    _note(reading, found, f"there is no {what} {name[:60]!r}", key, hint=hint)


def _check_needs(reading: Reading, root: Node) -> None:
    known = _names(root, "processes")
    graph: dict[str, tuple[str, ...]] = {}
    nodes: dict[str, Node] = {}
    for name in known:
        spec = root.child("processes").child(name)  # type: ignore[union-attr]
        needs = spec.child("needs") if spec is not None else None
        if needs is None:
            continue
        nodes[name] = needs
        graph[name] = tuple(item.raw for item in needs.items)
        for at, item in enumerate(needs.items):
            if item.kind == "text" and item.raw not in known:
                hint = did_you_mean(item.raw, known)
                path: Path = ("processes", name, "needs", at)
                reading.note(f"there is no process {item.raw[:60]!r}", item, path, hint)
    for circle in _circles(graph):
        said = " needs ".join((*circle, circle[0]))
        path = ("processes", circle[0], "needs")
        reading.note(f"these wait for each other for ever: {said}", nodes[circle[0]], path, "remove one of them")


def _check_after(reading: Reading, root: Node) -> None:
    section = root.child("injections")
    count = len(section.items) if section is not None else 0
    graph: dict[int, tuple[int, ...]] = {}
    places: dict[int, Mention] = {}
    for found in reading.mentions:
        if not isinstance(found.value, After):
            continue
        number = int(found.path[1]) + 1
        if found.value.injection > count:
            hint = f"the injections of the file are numbered from 1 to {count}"
            _note(reading, found, f"there is no injection {found.value.injection}", "injection", hint=hint)
        else:
            graph[number], places[number] = (found.value.injection,), found
    for circle in _circles(graph):
        said = " after ".join(str(one) for one in (*circle, circle[0]))
        hint = "give one of them another trigger"
        _note(reading, places[circle[0]], f"these wait for each other for ever: {said}", hint=hint)


def _circles(graph: Mapping[Any, Iterable[Any]]) -> list[list[Any]]:
    """The circles that a walk through the graph closes, each from its smallest member on."""
    circles: dict[frozenset[Any], list[Any]] = {}
    done: set[Any] = set()
    for start in graph:
        trail: list[Any] = []
        branches = [iter((start,))]
        while branches:
            one = next(branches[-1], None)
            if one is None:
                branches.pop()
                if branches:
                    done.add(trail.pop())
            elif one in trail:
                circle = trail[trail.index(one) :]
                smallest = circle.index(min(circle))
                circles.setdefault(frozenset(circle), circle[smallest:] + circle[:smallest])
            elif one not in done:
                trail.append(one)
                branches.append(iter(graph.get(one, ())))
    return list(circles.values())


def _check_live_probes(reading: Reading) -> None:
    """Where the world is read while the round runs, a question to the finished journal has no answer yet."""
    for found in reading.mentions:
        if not isinstance(found.value, Invariant) or found.path[:1] == ("invariants",):
            continue
        kind = found.value.kind
        hint = "move it to invariants"
        if found.path[:1] == ("abort_when",) and kind in ABORT_KEYS:
            hint = f"write - {kind}: without probe: around it"
        reading.note(f"{kind} asks the journal, and is answered when the round is over", found.node, found.path, hint)


def _check_wheel(reading: Reading, values: Mapping[str, Any], root: Node) -> None:
    faults, schedule = root.child("faults"), root.child("schedule")
    has_faults = faults is not None and bool(faults.items)
    has_schedule = schedule is not None and schedule.kind != "null"
    if has_faults and not has_schedule:
        assert faults is not None
        reading.note(
            "the wheel has faults, and no schedule turns it", faults, ("faults",), "add schedule: {every: 5s, for: 60s}"
        )
    if has_schedule and not has_faults:
        assert schedule is not None
        hint = "add faults, or remove schedule and list injections"
        reading.note("a schedule needs faults to draw from", schedule, ("schedule",), hint)
    entries, stage = values.get("faults", ()), values.get("blast_radius", "local")
    if entries and entries is not BAD and stage is not BAD and not sum(one.weight_at(stage) for one in entries):
        assert faults is not None
        hint = "give at least one fault a weight above 0"
        reading.note(f"the wheel has no weight in blast radius {stage!r}", faults, ("faults",), hint)


def _check_purpose(reading: Reading, values: Mapping[str, Any], root: Node) -> None:
    """An experiment that could prove nothing is not run."""

    def given(name: str) -> bool:
        node = root.child(name)
        return node is not None and bool(node.items or node.entries)

    if not given("processes") and not given("attach"):
        hint = "describe what croupier starts under processes, or what runs already under attach"
        reading.note("there is neither a process to start nor one to attach to", root, (), hint)
    if not given("steady_state") and not given("invariants"):
        hint = "add a probe under steady_state, a question under invariants, or best both"
        reading.note("nothing is measured: there is neither a steady state nor an invariant", root, (), hint)
    if not given("workload"):
        for found in reading.mentions:
            if isinstance(found.value, Acks):
                hint = "a workload prints lines `ack ID`"
                reading.note("without a workload nobody acknowledges anything", found.node, found.path, hint)


def _check_references(reading: Reading, root: Node, environment: Mapping[str, str]) -> None:
    arranged = _arranged(root)
    for found in reading.texts:
        text: str = found.value
        if "${" not in text:
            continue
        if found.path in (("title",), ("hypothesis",)) and list(references(text)):
            hint = "write $${ for a literal ${"
            reading.note("this text is stored as it stands, so it holds no references", found.node, found.path, hint)
            continue
        if _OPEN.search(_CLOSED.sub("", text)):
            hint = "close it with }, or write $${ for a literal ${"
            reading.note("a reference begins here with ${ and does not end", found.node, found.path, hint)
        for reference in references(text):
            wrong, hint = _misnamed(reference, environment, arranged)
            if wrong:
                reading.note(wrong, found.node, found.path, hint)


_CLOSED = re.compile(r"\$?\$\{[^}]*\}")
_OPEN = re.compile(r"(?<!\$)\$\{")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _arranged(root: Node) -> dict[str, list[str]]:
    """The kinds of arrangements, with the names that the document declares of each."""
    sections = {one.kind: root.child(one.section) for one in ARRANGEMENTS}
    arranged = {kind: list(node.entries) if node else [] for kind, node in sections.items()}
    processes = root.child("processes")
    homes = {name: node for name, (_, node) in processes.entries.items()} if processes else {}
    if workload := root.child("workload"):
        homes["workload"] = workload
    return {**arranged, "address": [name for name, node in homes.items() if node.child("network")]}


def _misnamed(reference: str, environment: Mapping[str, str], arranged: Mapping[str, list[str]]) -> tuple[str, str]:
    """What is wrong with `${reference}`, and a hint; two empty texts where nothing is."""
    kind, dot, name = reference.partition(".")
    if not dot and kind in _SIMPLE:
        return "", ""
    if kind == "port" and _is_name(name):
        return "", ""
    shown = "${" + reference[:60] + "}"
    if kind == "env" and _VARIABLE.fullmatch(name):
        if name in environment:
            return "", ""
        return (
            f"{shown} stands for nothing: the variable {name[:60]} is not set",
            f"export {name[:60]}=… before the run",
        )
    if kind in arranged:
        declared = arranged[kind]
        if name in declared:
            return "", ""
        if kind == "address":
            return f"{shown} stands for nothing: no process of that name lives in a network", "give it network: NAME"
        return f"{shown} stands for nothing: there is no {kind} of that name", did_you_mean(name, declared)
    known = ["state", "acks", "seed", "port.NAME", "env.NAME", *(f"{one}.NAME" for one in arranged)]
    hint = did_you_mean(reference, known)
    if _VARIABLE.fullmatch(reference) and reference in environment:
        hint = "${env." + reference + "} is the variable of that name"
    elif hint.startswith("known"):
        hint = f"known are {', '.join('${' + one + '}' for one in known)}; write $${{ for a literal ${{"
    return f"{shown} stands for nothing", hint


_SIMPLE = frozenset(("state", "acks", "seed"))


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", text) is not None


# What is allowed, and probably not meant.


def warnings(experiment: Experiment, note: Callable[[Path, str, str], None]) -> None:
    """Call `note(path, message, hint)` for what will work, and perhaps not as meant."""
    if not experiment.faults and not experiment.injections:
        note((), "nothing will be disturbed, so nothing can be proven", "add faults with a schedule, or injections")
    if not experiment.steady_state:
        note((), "without steady_state nothing says that the program was well before it was disturbed", "add a probe")
    if not experiment.invariants:
        note((), "without invariants only the steady state is asked at the end", "add what must never be lost")
    _warn_of_ports(experiment, note)
    if "acks" in references(experiment) and experiment.workload is None:
        note((), "${acks} will be empty: there is no workload that could acknowledge anything", "add a workload")
    limits = experiment.limits
    for at, entry in enumerate(experiment.faults):
        _warn_of_target(experiment, entry.target, ("faults", at, "target"), note)
    for at, one in enumerate(experiment.injections):
        _warn_of_target(experiment, one.target, ("injections", at, "target"), note)
    schedule = experiment.schedule
    if schedule and limits.time_box_ms is not None and limits.time_box_ms < schedule.for_ms:
        note(("limits", "time_box"), f"the time box ends the round before the schedule ({schedule.for_ms}) does", "")


def _warn_of_ports(experiment: Experiment, note: Callable[[Path, str, str], None]) -> None:
    """A port that is asked and that nobody is told to listen on: most often a slip of the pen."""
    given = {one for spec in experiment.processes.values() for one in references((*spec.command, *spec.env.values()))}
    given |= {one for proxy in experiment.proxies.values() for one in references(proxy.listen)}
    known = sorted(one for one in given if one.startswith("port."))
    for one in sorted(set(references(experiment)) - given):
        if one.startswith("port.") and experiment.processes:
            hint = did_you_mean(one, known, what="ports that are given to a process:")
            note((), f"no process is given ${{{one}}}, so nobody will listen there", hint or "give it to one")


def _warn_of_target(
    experiment: Experiment, target: Selector, path: Path, note: Callable[[Path, str, str], None]
) -> None:
    allow = experiment.limits.allow
    name = target.process
    if name is None:
        if not allow:
            hint = "croupier disturbs only what it started; name the others in limits.allow and run with --live"
            note(path, "this target is not one of this file's processes, so it is only rehearsed", hint)
        return
    listed = any(isinstance(one, Selector) or fnmatchcase(name, one) for one in allow)
    if name in experiment.attach and not listed:
        hint = f"add {name!r} to limits.allow, and run with --live, to disturb it"
        note(path, f"croupier does not start {name!r}, so it is only rehearsed", hint)
    elif name in experiment.processes and allow and not listed:
        note(path, f"{name!r} is not in limits.allow, so the guard will refuse", f"add {name!r} to limits.allow")


def _note(reading: Reading, found: Mention, message: str, *steps: str | int, hint: str = "") -> None:
    """Note a problem of a struct, at the line of one of its keys where that is written out."""
    node = found.node
    for step in steps:
        inner = node.child(step)
        if inner is None:
            break
        node = inner
    reading.note(message, node, (*found.path, *steps), hint)
