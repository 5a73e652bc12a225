"""Processes as the machine shows them: identities, states, trees, and the census that choices are made from.

On Linux everything is read from /proc by plain system calls, one small file per question; a process that vanishes
between two reads is left out, never an error. Elsewhere `portable` answers the same questions through psutil.

Fields of /proc/PID/stat are numbered as in proc(5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from ..model.noun import Noun
from ..model.target import Census, Column, Identity, Seen, Selector, columns
from . import cgroups
from .names import Names

HAS_PROC: Final = Path("/proc/self/stat").exists()

_PF_KTHREAD: Final = 0x0020_0000
_GONE: Final = frozenset("ZXx")
_LISTEN: Final = "0A"

# What a desktop or a machine cannot lose. Names only ever protect here; nothing is found by one to be touched.
_GUARDED_NAMES: Final = {
    **dict.fromkeys(
        ("systemd", "init", "launchd", "runit", "s6-svscan", "openrc-init", "dbus-daemon", "dbus-broker", "elogind",
         "systemd-logind", "systemd-udevd", "systemd-journal", "(sd-pam)"), "it belongs to the init system"),
    **dict.fromkeys(
        ("Xorg", "X", "Xwayland", "gnome-shell", "gnome-session-b", "kwin_x11", "kwin_wayland", "plasmashell", "sway",
         "weston", "Hyprland", "mutter", "gdm", "gdm3", "sddm", "lightdm", "WindowServer", "loginwindow"),
        "it belongs to the display server"),
    "sshd": "somebody may be logged in through it",
}  # fmt: skip

_shielded: dict[Identity, str] = {}


class Usage(Noun, frozen=True, kw_only=True):
    """What some processes use together. `cpu_seconds` counts since each was started, user and kernel time."""

    cpu_seconds: float = 0.0
    rss_bytes: int = 0
    fds: int = 0
    threads: int = 0


class Stat(NamedTuple):
    """One line of /proc/PID/stat, as far as we need it."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    flags: int
    ticks: int
    threads: int
    started: int
    rss_pages: int


# --- one process -----------------------------------------------------------------------------------------------------


@cache
def boot_id() -> str:
    """The id of this boot of the machine; "" where there is none."""
    return _text("/proc/sys/kernel/random/boot_id").strip()


def identity(pid: int) -> Identity | None:
    """Who carries this number now; None if nobody does. A zombie still carries its number."""
    if not HAS_PROC:
        from . import portable

        return portable.identity(pid)
    stat = read_stat(pid)
    return Identity(pid=pid, started=stat.started, boot=boot_id()) if stat else None


def alive(who: Identity) -> bool:
    """Whether exactly this process still lives: the number, the start time and the boot agree, and it is no zombie."""
    state = state_of(who)
    return state != "" and state not in _GONE


def state_of(who: Identity) -> str:
    """The letter of proc(5) for its state (`T` is stopped, `Z` a zombie); "" if it is gone, or another by now."""
    if not HAS_PROC:
        from . import portable

        return portable.state_of(who)
    if who.boot and who.boot != boot_id():
        return ""
    stat = read_stat(who.pid)
    return stat.state if stat and stat.started == who.started else ""


def thread_states(who: Identity) -> tuple[str, ...]:
    """The state letters of all its threads, ended ones left out; empty if it is gone."""
    if not HAS_PROC:
        state = state_of(who)
        return (state,) if state and state not in _GONE else ()
    states = []
    for thread in _listdir(f"/proc/{who.pid}/task"):
        stat = _parse(_bytes(f"/proc/{who.pid}/task/{thread}/stat"))
        if stat and stat.state not in _GONE:
            states.append(stat.state)
    # Asked last: if it is the same process now, what was read before was its own as well.
    return tuple(states) if state_of(who) else ()


def disposition(who: Identity, number: int) -> str:
    """What a signal will do: `caught`, `ignored`, or `default`; "" where that cannot be known."""
    mask = {
        line.split(":")[0]: line.split()[-1] for line in _text(f"/proc/{who.pid}/status").splitlines() if ":" in line
    }
    try:
        caught, ignored = (int(mask[key], 16) >> (number - 1) & 1 for key in ("SigCgt", "SigIgn"))
    except (KeyError, ValueError, IndexError):
        return ""
    return "caught" if caught else "ignored" if ignored else "default"


def program(pid: int) -> str:
    """The path of the file that it runs; "" if that may not be known."""
    return _link(f"/proc/{pid}/exe") or ""


def environment(pid: int) -> tuple[str, ...]:
    """The `NAME=VALUE` it was started with; empty if that may not be read, or was written over."""
    return _environment(pid) or ()


def _environment(pid: int) -> tuple[str, ...] | None:
    """None where it may not be read: that is not the same as empty."""
    try:
        text = os.fsdecode(_read(f"/proc/{pid}/environ", 1 << 20))
    except OSError:
        return None
    return tuple(part for part in text.split("\0") if part)


def has_marker(pid: int, marker: bytes) -> bool:
    """Whether `NAME=VALUE` is in the environment it was started with. The cheap question for a scan."""
    data = _bytes(f"/proc/{pid}/environ", 1 << 21)
    return data.startswith(marker + b"\0") or b"\0" + marker + b"\0" in data


# --- trees -----------------------------------------------------------------------------------------------------------


def all_pids() -> list[int]:
    """Every process number in use."""
    if not HAS_PROC:
        from . import portable

        return portable.all_pids()
    return [int(name) for name in os.listdir("/proc") if name[0] in "123456789"]  # noqa: PTH208 - names only, and fast


def children(pid: int) -> list[int]:
    """The direct children, zombies included. The kernel may leave one out while others of them are ending."""
    if not HAS_PROC:
        from . import portable

        return portable.children(pid)
    found: list[int] = []
    for thread in _listdir(f"/proc/{pid}/task"):
        try:
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children", 1 << 20).split())
        except FileNotFoundError:
            # Either the thread ended, or this kernel was built without the file.
            if not _has_children_file():
                return [stat.pid for stat in _scan() if stat.parent == pid]
        except OSError:
            continue
    return found


def tree(pid: int) -> list[int]:
    """The process and all its descendants, parents before their children."""
    found, seen = [pid], {pid}
    for one in found:
        fresh = [child for child in children(one) if child not in seen]
        seen.update(fresh)
        found += fresh
    return found


def ancestors(pid: int) -> list[int]:
    """The parents up to PID 1, nearest first, without the process itself."""
    found: list[int] = []
    while (stat := read_stat(pid)) and stat.parent > 0 and stat.parent not in found:
        pid = stat.parent
        found.append(pid)
    return found


def family(pid: int) -> list[Identity]:
    """The identities of everything below `pid` that is alive, without it."""
    found = []
    for one in tree(pid)[1:]:
        stat = read_stat(one)
        if stat and stat.state not in _GONE:
            found.append(Identity(pid=one, started=stat.started, boot=boot_id()))
    return found


def marked(marker: str) -> list[Identity]:
    """Everything alive that was started with `NAME=VALUE` in its environment. Reads one file per process."""
    wanted = os.fsencode(marker)
    found = [identity(pid) for pid in all_pids() if has_marker(pid, wanted)]
    return [who for who in found if who and alive(who)]


# --- the census ------------------------------------------------------------------------------------------------------


def read_census(
    roots: Mapping[str, Identity],
    *,
    columns: frozenset[Column] = frozenset(),
    whole: bool = False,
    attached: Mapping[str, Identity] | None = None,
    groups: Mapping[str, str] | None = None,
    zombies: bool = False,
) -> Census:
    """What is alive now, in the order of start time.

    `roots` are the main processes that croupier started, by logical name, `attached` those it did not; `groups` are
    the cgroups of those that were attached to as a group: whoever is in one belongs to its name as well. Only their
    trees are walked, unless `whole` asks for the machine. Never raises for a process that vanishes or hides.
    """
    if not HAS_PROC:
        from . import portable

        return portable.read_census(roots, columns, whole, attached or {}, protected_pids(), zombies)
    roles = _roles(roots, attached or {}, groups or {})
    pids: Iterable[int] = all_pids() if whole else roles
    return _seen(pids, roles, frozenset(columns), frozenset(roots), zombies)


def find(
    selector: Selector,
    *,
    roots: Mapping[str, Identity] | None = None,
    attached: Mapping[str, Identity] | None = None,
    groups: Mapping[str, str] | None = None,
    wanted: frozenset[Column] = frozenset(),
    names: Names | None = None,
) -> Census:
    """A census with everybody whom the selector can mean, and their ancestors, read in the cheapest order.

    `matches(selector, find(selector))` equals `matches(selector, read_census(…, whole=True))`; whoever is ruled out
    by number, parent, tree or name is never read any further. `wanted` names columns that other selectors (allow,
    deny) ask for as well. With `names`, asking again costs a fraction.
    """
    needed = wanted | columns((selector,))
    if not HAS_PROC:
        return read_census(roots or {}, columns=needed, whole=True, attached=attached)
    roles = _roles(roots or {}, attached or {}, groups or {})
    pids = set(_shortlist(selector, roles, names))
    # Ancestors come along so that a `tree` in this selector, or in a deny list, holds as in the whole census.
    climbed: set[int] = set()
    for pid in pids:
        while pid > 0 and pid not in climbed:
            climbed.add(pid)
            stat = read_stat(pid)
            pid = stat.parent if stat else 0
    return _seen(climbed, roles, needed, frozenset(roots or {}), False)


def named(pattern: str) -> list[int]:
    """The numbers of all processes whose short name matches a glob. Who asks often keeps a `Names`."""
    if not HAS_PROC:
        return [one.pid for one in read_census({}, whole=True) if fnmatchcase(one.name, pattern)]
    with Names(most=0) as names:
        return names.matching(pattern)


def _shortlist(selector: Selector, roles: Mapping[int, tuple[str, bool]], names: Names | None) -> Iterable[int]:
    if selector.pid is not None:
        return (selector.pid,)
    if selector.process is not None:
        return [pid for pid, (role, _) in roles.items() if role == selector.process]
    if selector.parent is not None:
        return children(selector.parent)
    if selector.tree is not None:
        return tree(selector.tree)
    if selector.name is not None:
        return names.matching(selector.name) if names else named(selector.name)
    if selector.group:
        return cgroups.members(selector.group)
    return all_pids()


def _roles(
    roots: Mapping[str, Identity], attached: Mapping[str, Identity], groups: Mapping[str, str]
) -> dict[int, tuple[str, bool]]:
    """Each number in the trees: its logical name, and whether it is the main process."""
    roles: dict[int, tuple[str, bool]] = {}
    for name, root in (*roots.items(), *attached.items()):
        if not alive(root):
            continue
        for pid in tree(root.pid):
            # An attached process may live below one of ours; the nearer root wins, and a root is its own main.
            if pid == root.pid or pid not in roles:
                roles[pid] = (name, pid == root.pid)
    for name, path in groups.items():
        # Not everybody in a group descends from its first: `docker exec`, say, or a second process of a unit.
        for pid in cgroups.members(path):
            roles.setdefault(pid, (name, False))
    return roles


def _seen(
    pids: Iterable[int],
    roles: Mapping[int, tuple[str, bool]],
    wanted: frozenset[Column],
    ours: frozenset[str],
    zombies: bool,
) -> Census:
    shield = _fixed_protection()
    ports = _ports_by_inode() if "ports" in wanted else {}
    boot, now = boot_id(), _since_boot()
    rows: list[tuple[Stat, Seen]] = []
    for pid in pids:
        stat = read_stat(pid)
        if stat is None or (stat.state in _GONE and not zombies):
            continue
        role, main = roles.get(pid, ("", False))
        mine = role in ours
        who = Identity(pid=pid, started=stat.started, boot=boot)
        one = Seen(
            identity=who,
            parent=stat.parent,
            name=stat.name,
            state=stat.state,
            order=0,
            role=role,
            main=main,
            ours=mine,
            protected=shield.get(pid) or _shielded.get(who) or ("" if mine else _protection(stat)),
            age_ms=max(0, round((now - stat.started / _ticks_per_second()) * 1_000)),
            exe=_link(f"/proc/{pid}/exe") if "exe" in wanted else None,
            cmdline=_cmdline(pid) if "cmdline" in wanted else None,
            user=_user(pid) if "user" in wanted else None,
            cgroup=cgroups.paths(pid) if "cgroup" in wanted else None,
            env=_environment(pid) if "env" in wanted else None,
            ports=_ports(pid, ports) if "ports" in wanted else None,
        )
        rows.append((stat, one))
    rows.sort(key=lambda row: (row[0].started, row[0].pid))
    return tuple(_numbered(one, order) for order, (_, one) in enumerate(rows))


def _numbered(one: Seen, order: int) -> Seen:
    # msgspec.structs.replace costs a copy of every field; the value was made here and nobody else has it yet.
    return Seen(**{name: getattr(one, name) for name in one.__struct_fields__ if name != "order"}, order=order)


# --- who may never be touched ----------------------------------------------------------------------------------------


def shield(who: Identity, why: str) -> None:
    """Protect a process for as long as this one lives: the guardian of a round."""
    _shielded[who] = why


def protected_pids() -> dict[int, str]:
    """Everybody who may never be touched, by number, with the reason."""
    if not HAS_PROC:
        from . import portable

        return portable.protected_pids()
    found = {stat.pid: why for stat in _scan() if (why := _protection(stat))}
    return {**found, **{who.pid: why for who, why in _shielded.items() if alive(who)}, **_fixed_protection()}


def _fixed_protection() -> dict[int, str]:
    """PID 1, ourselves, our ancestors, and the leader of our session."""
    own = os.getpid()
    found = dict.fromkeys(ancestors(own), "croupier was started by it")
    try:
        found.setdefault(os.getsid(0), "it leads croupier's session")
    except OSError:
        pass
    found.pop(0, None)
    return {**found, own: "it is croupier itself", 1: "it is PID 1"}


def _protection(stat: Stat) -> str:
    if stat.pid == 1:
        return "it is PID 1"
    if stat.flags & _PF_KTHREAD:
        return "it is a thread of the kernel"
    return _GUARDED_NAMES.get(stat.name, "")


# --- what they use ---------------------------------------------------------------------------------------------------


def usage(pids: Iterable[int]) -> Usage:
    """What these processes use together; those that are gone count nothing."""
    if not HAS_PROC:
        from . import portable

        return portable.usage(pids)
    ticks = pages = fds = threads = 0
    for pid in pids:
        stat = read_stat(pid)
        if stat is None:
            continue
        ticks += stat.ticks
        pages += stat.rss_pages
        threads += stat.threads
        fds += len(_listdir(f"/proc/{pid}/fd"))
    return Usage(cpu_seconds=ticks / _ticks_per_second(), rss_bytes=pages * _page_bytes(), fds=fds, threads=threads)


# --- files of /proc --------------------------------------------------------------------------------------------------


def read_stat(pid: int) -> Stat | None:
    """One line of /proc/PID/stat; None if there is nobody."""
    return _parse(_bytes(f"/proc/{pid}/stat", 1_024))


def _parse(line: bytes) -> Stat | None:
    # The name is in parentheses, and may hold parentheses and spaces itself.
    opened, closed = line.find(b"("), line.rfind(b")")
    if closed < 0:
        return None
    rest = line[closed + 2 :].split()
    return Stat(
        int(line[: opened - 1]), os.fsdecode(line[opened + 1 : closed]), rest[0].decode(), int(rest[1]), int(rest[2]),
        int(rest[3]), int(rest[6]), int(rest[11]) + int(rest[12]), int(rest[17]), int(rest[19]), int(rest[21]),
    )  # fmt: skip


def _scan() -> Iterator[Stat]:
    for pid in all_pids():
        stat = read_stat(pid)
        if stat:
            yield stat


def _read(path: str, most: int) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        data = os.read(file, most)
        # One read gives at most a page or so of the longer files.
        while len(data) < most and len(data) >= 4_000 and (more := os.read(file, most - len(data))):
            data += more
        return data
    finally:
        os.close(file)


def _bytes(path: str, most: int = 1 << 20) -> bytes:
    try:
        return _read(path, most)
    except OSError:
        return b""


def _text(path: str) -> str:
    return os.fsdecode(_bytes(path))


def _link(path: str) -> str | None:
    try:
        return os.readlink(path).removesuffix(" (deleted)")  # noqa: PTH115 - thousands of times
    except OSError:
        return None


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)  # noqa: PTH208 - names only, and fast
    except OSError:
        return []


def _cmdline(pid: int) -> tuple[str, ...] | None:
    text = _text(f"/proc/{pid}/cmdline")
    return tuple(text.removesuffix("\0").split("\0")) if text else None


def _user(pid: int) -> str | None:
    for line in _text(f"/proc/{pid}/status").splitlines():
        if line.startswith("Uid:"):
            return _user_name(int(line.split()[1]))
    return None


@cache
def _user_name(uid: int) -> str:
    import pwd  # not on Windows

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _ports_by_inode() -> dict[str, int]:
    """The local port of every socket that listens (TCP) or is bound (UDP), by its inode."""
    found: dict[str, int] = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in _text(f"/proc/net/{table}").splitlines()[1:]:
            part = line.split()
            if len(part) > 9 and (part[3] == _LISTEN or table.startswith("udp")):
                found[part[9]] = int(part[1].rsplit(":", 1)[1], 16)
    return found


def _ports(pid: int, by_inode: Mapping[str, int]) -> tuple[int, ...] | None:
    """None where its open files may not be read."""
    held = set()
    try:
        files = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - names only, and fast
    except OSError:
        return None
    for file in files:
        try:
            link = os.readlink(f"/proc/{pid}/fd/{file}")  # noqa: PTH115 - thousands of times
        except PermissionError:
            return None
        except OSError:
            continue  # Closed meanwhile.
        if link.startswith("socket:["):
            held.add(by_inode.get(link[8:-1], 0))
    return tuple(sorted(held - {0}))


@cache
def _has_children_file() -> bool:
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


@cache
def _ticks_per_second() -> int:
    return os.sysconf("SC_CLK_TCK")


@cache
def _page_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE")


def _since_boot() -> float:
    # Start times count suspended time in as well, which CLOCK_MONOTONIC leaves out.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
