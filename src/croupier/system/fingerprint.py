"""Taking the fingerprint of the host: reading, and nothing but reading, what a round may have changed.

Every source is the kernel's own: proc(5), cgroups(7), namespaces(7), and the commands of iproute2 and nftables where
they are there. What may not be read by this user is left out, before and after alike.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..model.fingerprint import FileSeen, Fingerprint, ProcessSeen, Scope
from ..model.target import Identity
from . import freezer, procs
from .cgroups import Version

RUN_MARKER = "CROUPIER_RUN"
OURS = ("set-aside", "proxies", "volumes")
"""Directories of a run in which something stands only while the round lasts."""
MOST_FILES = 10_000

_CONTROLLERS = ("cpu", "memory", "pids", "freezer", "cpuset", "blkio")
_SETTINGS = (
    "cpu.max", "cpu.weight", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "memory.max", "memory.high",
    "memory.limit_in_bytes", "pids.max", "io.max", "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device",
    "cpuset.cpus",
)  # fmt: skip
_LIMIT = re.compile(r"(Max .+?)\s{2,}(\S+)\s+(\S+)")
_COUNTED = re.compile(r"counter packets \d+ bytes \d+")
_COMMAND_WITHIN_S = 2.0
_LISTENS, _ACCEPTS = "0A", "00010000"
_WALL = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def take(scope: Scope, touched: Iterable[Identity] = ()) -> Fingerprint:
    """Look at everything in the scope now. `touched` are processes of the round, after which cgroups may be named.

    Reads some files for each process of the scope, and one for each on the machine. Raises nothing for what vanishes.
    """
    seen = [one for who in scope.processes if (one := process_seen(who)) is not None]
    net = list(_net(scope.processes))
    return Fingerprint(
        scope=scope,
        boot=procs.boot_id(),
        processes=tuple(seen),
        files=dict(_files(scope.files)),
        alive=tuple(map(str, _marked(scope.run))),
        cells=tuple(sorted(_cells(scope.processes, (*scope.processes, *touched)))),
        mounts=tuple(one for one in _mount_lines("self") if one.startswith(scope.run_dir + "/")),
        aside=tuple(sorted(_aside(Path(scope.run_dir)))),
        traffic={f"{name} {device}": said for name, argv in net for device, said in _queueing(argv)},
        rules={name: said for name, argv in net if (said := _filters(argv, whole=name != "this host"))},
        clock_source=_text(_WALL),
        clock_offset_us=_since_epoch_us(),
    )


def process_seen(who: Identity) -> ProcessSeen | None:
    """What can be seen of one process; None where it is gone."""
    if not procs.alive(who):
        return None
    pid = who.pid
    homes = {home for home in (freezer.home_of(pid, 2), *_homes_v1(pid)) if home}
    seen = ProcessSeen(
        who=who,
        state=_state(who),
        traced_by=int(_line(f"/proc/{pid}/status", "TracerPid:") or 0),
        limits={name: f"{soft} ({hard})" for name, soft, hard in _LIMIT.findall(_text(Path(f"/proc/{pid}/limits")))},
        scheduling=scheduling(pid),
        cpus=_cpus(pid),
        oom_score_adj=_text(Path(f"/proc/{pid}/oom_score_adj")),
        cgroups=tuple(sorted(_text(Path(f"/proc/{pid}/cgroup")).splitlines())),
        settings={
            f"{home}/{name}": said
            for home in sorted(homes)
            for name in _SETTINGS
            if (said := " ".join(_text(Path(home, name)).split()))
        },
        namespaces=_namespaces(pid),
        clock_offsets=_text(Path(f"/proc/{pid}/timens_offsets")),
        mounts=() if _namespace(pid, "mnt") in ("", _namespace("self", "mnt")) else tuple(_mount_lines(pid)),
        listens=tuple(sorted(_listens(pid))),
    )
    # Asked last: if it is alive now, what was read before was its own.
    return seen if procs.alive(who) else None


def scheduling(pid: int) -> tuple[str, ...]:
    """Niceness, priority and policy of its threads, each once: fields 19, 40 and 41 of proc_pid_stat(5)."""
    found = set()
    for thread in _names(f"/proc/{pid}/task"):
        rest = _text(Path(f"/proc/{pid}/task/{thread}/stat")).rpartition(")")[2].split()
        if len(rest) > 38:
            found.add(f"{rest[16]} {rest[37]} {rest[38]}")
    return tuple(sorted(found))


# --- one process -----------------------------------------------------------------------------------------------------


def _state(who: Identity) -> str:
    states = set(procs.thread_states(who))
    stopped = states & set("Tt")
    if stopped:
        return "stopped" if states == stopped else "partly stopped"
    frozen = any(home and freezer.is_frozen(home, version) for version, home in _freezers(who.pid))
    return "frozen" if frozen else "runs"


def _freezers(pid: int) -> tuple[tuple[Version, str], ...]:
    return (2, freezer.home_of(pid, 2)), (1, freezer.home_of(pid, 1))


def _homes_v1(pid: int) -> Iterator[str]:
    return (freezer.home_of(pid, 1, controller) for controller in _CONTROLLERS)


def _cpus(pid: int) -> tuple[int, ...]:
    try:
        return tuple(sorted(os.sched_getaffinity(pid)))
    except OSError:
        return ()


def _namespaces(pid: int) -> dict[str, str]:
    return {one: inode for one in _names(f"/proc/{pid}/ns") if (inode := _namespace(pid, one))}


def _namespace(pid: int | str, kind: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return ""


def _listens(pid: int) -> Iterator[str]:
    held = set()
    for file in _names(f"/proc/{pid}/fd"):
        try:
            held.add(str(Path(f"/proc/{pid}/fd/{file}").readlink()))
        except OSError:
            continue
    held = {one for one in held if one.startswith("socket:")}
    for part in _table(pid, "unix") if held else ():
        if len(part) > 6 and (socket := f"socket:[{part[6]}]") in held:
            held.discard(socket)
            if len(part) > 7 and part[3] == _ACCEPTS:
                yield f"unix {part[7]}"
    # These tables hold every connection of the namespace, and are slow to read.
    for table in ("tcp", "tcp6") if held else ():
        for part in _table(pid, table):
            if part[3] == _LISTENS and f"socket:[{part[9]}]" in held:
                yield f"tcp {int(part[1].rpartition(':')[2], 16)}"


def _table(pid: int, name: str) -> list[list[str]]:
    return [line.split() for line in _text(Path(f"/proc/{pid}/net/{name}")).splitlines()[1:]]


# --- what is ours ----------------------------------------------------------------------------------------------------


def _marked(run: str) -> list[Identity]:
    own = {os.getpid(), *procs.ancestors(os.getpid())}
    return [who for who in procs.marked(f"{RUN_MARKER}={run}") if who.pid not in own]


def _cells(processes: Iterable[Identity], named: Iterable[Identity]) -> Iterator[str]:
    """Cgroups of ours for these: croupier names each after the process that it made it for."""
    prefixes = tuple(f"{freezer.PREFIX}{who.pid}-{who.started}-" for who in named)
    homes = {
        home
        for pid in (os.getpid(), *(who.pid for who in processes))
        for home in (freezer.home_of(pid, 2), *_homes_v1(pid))
        if home
    }
    for home in homes:
        yield from (f"{home}/{name}" for name in _names(home) if prefixes and name.startswith(prefixes))


def _mount_lines(pid: int | str) -> Iterator[str]:
    """Where, of what type, and from what: fields 5, and after the dash 1 and 2, of proc_pid_mountinfo(5)."""
    for line in _text(Path(f"/proc/{pid}/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        yield f"{before.split()[4]} ({' of '.join(after.split()[:2])})"


def _aside(run_dir: Path) -> Iterator[str]:
    for name in OURS:
        for folder, _, files in os.walk(run_dir / name):
            yield from (str(Path(folder, one)) for one in files)


def _files(roots: Iterable[str]) -> Iterator[tuple[str, FileSeen]]:
    count = 0
    for root in roots:
        below = ((folder, names) for folder, _, names in os.walk(root))
        for path in (root, *(os.path.join(folder, one) for folder, names in below for one in names)):  # noqa: PTH118
            if (seen := file_seen(Path(path))) is not None and (count := count + 1) <= MOST_FILES:
                yield path, seen


def file_seen(path: Path) -> FileSeen | None:
    """One file as it is now; None where there is none, or it may not be read."""
    try:
        found = path.lstat()
        kind = next((name for name, test in _KINDS if test(found.st_mode)), "other")
        digest = ""
        if kind == "file":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        elif kind == "link":
            digest = str(path.readlink())
    except OSError:
        return None
    is_file = kind == "file"
    return FileSeen(
        kind=kind, mode=stat.S_IMODE(found.st_mode), owner=(found.st_uid, found.st_gid), digest=digest,
        size=found.st_size if is_file else 0, mtime_ns=found.st_mtime_ns if is_file else 0,
    )  # fmt: skip


_KINDS = (("file", stat.S_ISREG), ("directory", stat.S_ISDIR), ("link", stat.S_ISLNK), ("socket", stat.S_ISSOCK))


# --- the network -----------------------------------------------------------------------------------------------------


def _net(processes: Iterable[Identity]) -> Iterator[tuple[str, list[str]]]:
    """Our network namespace and those of the processes: a name, and what is put before a command to run it there."""
    own = _namespace("self", "net")
    yield "this host", []
    others = {inode: who.pid for who in processes if (inode := _namespace(who.pid, "net")) not in ("", own)}
    if shutil.which("nsenter"):
        for inode, pid in others.items():
            yield inode, ["nsenter", f"--net=/proc/{pid}/ns/net"]


def _queueing(there: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Per device: what tc(8) shows without its counters."""
    found: dict[str, list[str]] = {}
    for line in _said_by([*there, "tc", "qdisc", "show"]).splitlines():
        words = line.split()
        if "dev" in words[:-1]:
            at = words.index("dev")
            found.setdefault(words[at + 1], []).append(" ".join([*words[:at], *words[at + 2 :]]))
    for device, said in found.items():
        yield device, "; ".join(sorted(said))


def _filters(there: Sequence[str], *, whole: bool) -> str:
    """The tables of nft(8), counters left out: all of them, or only those in which croupier is named."""
    if not Path("/sys/module/nf_tables").exists():
        # Asking would load it.
        return ""
    tables = re.split(r"(?m)^(?=table )", _COUNTED.sub("counter", _said_by([*there, "nft", "list", "ruleset"])))
    return " ".join(" ".join(one.split()) for one in tables if one.strip() and (whole or "croupier" in one))


def _said_by(argv: Sequence[str]) -> str:
    program = argv[0] if argv[0] != "nsenter" else argv[2]
    if not shutil.which(program):
        return ""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_COMMAND_WITHIN_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


# --- files of /proc --------------------------------------------------------------------------------------------------


def _since_epoch_us() -> int:
    # Time that the machine slept is in both.
    since_boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return (time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(since_boot)) // 1_000


def _line(path: str, word: str) -> str:
    return next((line[len(word) :].strip() for line in _text(Path(path)).splitlines() if line.startswith(word)), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)  # noqa: PTH208 - names only
    except OSError:
        return []
