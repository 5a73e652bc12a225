"""The fingerprint of a host, as a value: all that a round may change beside the program's own work, at one moment.

Two of them tell what was left behind. Held in it is what is ours (marked with the round, named after it, or below its
run directory) and what belongs to the processes that it was taken of; whatever others do on the machine is not in it,
so that it cannot be taken for ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from .noun import Noun
from .target import Identity

CLOCK_TOLERANCE_US = 1_000_000
"""A wall clock that is kept in step by the network is moved by less than this while a round lasts."""


class Scope(Noun, frozen=True, kw_only=True):
    """Of whom and what a fingerprint is taken."""

    run: str
    """The round's unique name: the mark of its processes (`CROUPIER_RUN`)."""
    run_dir: str
    processes: tuple[Identity, ...] = ()
    """Processes that were there before the round and go on after it: those that it is attached to."""
    files: tuple[str, ...] = ()
    """Files, and directories with all that is in them, which nobody but a fault would change."""


class FileSeen(Noun, frozen=True, kw_only=True):
    """What a fault may change of a file."""

    kind: str
    """`file`, `directory`, `link`, `socket` or `other`."""
    mode: int
    owner: tuple[int, int]
    size: int = 0
    mtime_ns: int = 0
    digest: str = ""
    """SHA-256 of the content, or where a link points to."""


class ProcessSeen(Noun, frozen=True, kw_only=True):
    """What a fault may change of a live process, as the system shows it from the outside."""

    who: Identity
    state: str
    """`runs`, `stopped`, `partly stopped` or `frozen`."""
    traced_by: int = 0
    limits: dict[str, str] = {}
    """Each line of proc_pid_limits(5): soft and hard."""
    scheduling: tuple[str, ...] = ()
    """Niceness, priority and policy of its threads, each once."""
    cpus: tuple[int, ...] = ()
    oom_score_adj: str = ""
    cgroups: tuple[str, ...] = ()
    settings: dict[str, str] = {}
    """What its cgroups are held to: quota, memory, tasks, frozen or not."""
    namespaces: dict[str, str] = {}
    clock_offsets: str = ""
    """Of its time namespace; proc_pid_timens_offsets(5)."""
    mounts: tuple[str, ...] = ()
    """What is mounted for it, where it does not share our mounts."""
    listens: tuple[str, ...] = ()
    """Where it takes connections: `tcp 80`, `unix /run/app.sock`."""


class Fingerprint(Noun, frozen=True, kw_only=True):
    """One moment of a host, as far as one round may change it."""

    scope: Scope
    boot: str = ""
    processes: tuple[ProcessSeen, ...] = ()
    """Those of the scope that are alive."""
    files: dict[str, FileSeen] = {}
    alive: tuple[str, ...] = ()
    """Who carries the mark of the round: its processes and helpers."""
    cells: tuple[str, ...] = ()
    """Cgroups that croupier made for processes of the round."""
    mounts: tuple[str, ...] = ()
    """What is mounted below the run directory."""
    aside: tuple[str, ...] = ()
    """What croupier keeps in the run directory only while something is disturbed: set aside, listening, filling."""
    pointer: str = ""
    """Where the state home says that the round is running; "" once it does not."""
    traffic: dict[str, str] = {}
    """Queueing disciplines, by network namespace and device: of ours every device, of a target's own as well."""
    rules: dict[str, str] = {}
    """Packet filters, by network namespace: in ours only what carries croupier's name."""
    clock_source: str = ""
    clock_offset_us: int = 0
    """The wall clock less the time since boot."""


def difference(before: Fingerprint, after: Fingerprint) -> tuple[str, ...]:
    """What is not as it was, one sentence each; () where everything is.

    A process that has ended is no difference: that is for the journal to tell. After a reboot only what lasts longer
    than processes is compared.
    """
    return tuple(_differences(before, after))


def _differences(before: Fingerprint, after: Fingerprint) -> Iterator[str]:
    for word, was, now in (
        ("process of the round is alive", before.alive, after.alive),
        ("cgroup of ours is there", before.cells, after.cells),
        ("mount of the round is there", before.mounts, after.mounts),
        ("file of ours is there", before.aside, after.aside),
        ("round is still registered", (before.pointer,), (after.pointer,)),
    ):
        for one in now:
            if one and one not in was:
                yield f"a {word}: {one}"
    yield from _of_files(before.files, after.files)
    if before.boot != after.boot:
        return
    then = {one.who: one for one in before.processes}
    for now_seen in after.processes:
        if now_seen.who in then:
            yield from (f"{now_seen.who}: {said}" for said in _fields(then[now_seen.who], now_seen))
    for name, was_said, now_said in _changed(before.traffic, after.traffic):
        # A device that came or went did so with whoever owns it.
        if was_said and now_said:
            yield f"queueing of {name} was {was_said}, and is {now_said}"
    for name, was_said, now_said in _changed(before.rules, after.rules):
        yield f"packet filter of {name} was {was_said or 'empty'}, and is {now_said or 'empty'}"
    if before.clock_source != after.clock_source:
        yield f"the clock source was {before.clock_source}, and is {after.clock_source}"
    moved_us = after.clock_offset_us - before.clock_offset_us
    if abs(moved_us) > CLOCK_TOLERANCE_US:
        yield f"the wall clock was moved by {moved_us / 1e6:+.3f} s"


def _of_files(before: Mapping[str, FileSeen], after: Mapping[str, FileSeen]) -> Iterator[str]:
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was is None:
            yield f"{path} was not there, and is"
        elif now is None:
            yield f"{path} is gone"
        else:
            yield from (f"{path}: {said}" for said in _fields(was, now))


def _fields(before: Noun, after: Noun) -> Iterator[str]:
    """Each field of two nouns of a kind that differs, as words; of a mapping each key."""
    for field in msgspec.structs.fields(type(before)):
        was, now = getattr(before, field.name), getattr(after, field.name)
        if was == now:
            continue
        name = field.name.replace("_", " ")
        if isinstance(was, dict):
            for key, one, other in _changed(was, now):
                yield f"{key} was {one or 'nothing'}, and is {other or 'nothing'}"
        else:
            yield f"{name} was {_said(field.name, was)}, and is {_said(field.name, now)}"


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for key in sorted(before.keys() | after.keys()):
        if (was := before.get(key, "")) != (now := after.get(key, "")):
            yield key, was, now


def _said(name: str, value: object) -> str:
    if name == "mode" and isinstance(value, int):
        return f"{value:o}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "nothing"
    text = str(value)
    return (text[:12] if name == "digest" else text) or "nothing"
