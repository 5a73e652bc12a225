"""What a power cut may leave behind: two named models, computed from the recorded operations. They are models.

A power cut, unlike `kill -9`, loses what the program wrote and did not sync. Which of it is lost, and in which order
it reaches the disk, differs between file systems; so a search names the model that it used:

`ext4-ordered`   metadata reaches the disk in order, and any fsync commits all metadata before it; bytes that were not
                 synced may be lost, zero or short; a rename over an existing file flushes the new file's bytes first.
`posix-strict`   only an fsync of the file makes its bytes durable, only an fsync of the directory its names; of all
                 that was not synced, any one may be missing, any one may be the only one, or everything may be gone.

In both, O_SYNC, O_DSYNC and RWF_DSYNC count, else a program that uses them (LMDB) would be accused for nothing.

`power_states` goes through the crash points breadth-first: every point gets its first state before any gets its
second. A budget used up at the first operations, before anything was acknowledged, would find nothing and mean nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, NamedTuple

from .noun import Noun
from .search import Operation, PowerModel

EntryKind = Literal["file", "dir", "symlink", "other"]
ROOT = 0
MOST_TOLD = 24
MOST_SINGLES = 64
"""How many single effects per crash point are left out, or kept alone; a longer list is thinned, and counted."""
_EVERYTHING = ("sync", "syncfs")
_NEVER = 1 << 62


class Piece(Noun, frozen=True, kw_only=True):
    """Bytes of a file: `length` from `start` on of what is stored at `data`, or zeros where that is empty."""

    offset: int
    length: int
    data: str = ""
    start: int = 0


class Entry(Noun, frozen=True, kw_only=True):
    """One name of a state: a file with its pieces (what no piece covers is zero), a directory, a symlink."""

    kind: EntryKind
    size: int = 0
    pieces: tuple[Piece, ...] = ()
    base: str = ""
    """For a file untouched since the beginning: its path in the initial state."""
    text: str = ""
    mode: int | None = None
    inode: int = -1
    """Names with the same number are one file."""


class PowerState(Noun, frozen=True, kw_only=True):
    """A state that a power cut after `after` operations may leave."""

    after: int
    entries: dict[str, Entry]
    lost: tuple[str, ...]
    """What of the operations before did not make it, in words."""
    digest: str


class PowerStates(Noun, frozen=True, kw_only=True):
    """What a model allows, within a budget."""

    model: PowerModel
    states: tuple[PowerState, ...]
    points: int
    """Crash points that got at least one state."""
    left_out: int
    """Combinations that were not looked at, because of the budget or because there are too many."""
    unmodelled: tuple[str, ...]
    """Operations that the model does not know: a state after them is a guess."""


class _Effect(NamedTuple):
    """What one operation does to one file or to names. `sort` says which rules it obeys."""

    op: int
    sort: Literal["bytes", "size", "names"]
    inode: int
    offset: int = 0
    length: int = 0
    data: str = ""
    keep_size: bool = False
    names: tuple[tuple[int, str, int | None], ...] = ()
    grows: bool = False
    """It makes its file longer than it was."""
    flushes: int = -1
    """ext4: the file whose bytes are flushed when this rename is committed."""
    words: str = ""


@dataclass(slots=True)
class _Inode:
    kind: EntryKind
    base: str = ""
    size: int = 0
    text: str = ""
    mode: int | None = None


@dataclass(slots=True)
class _Log:
    """The operations as effects, with what was durable, or could be, after each of them."""

    inodes: list[_Inode]
    initial: dict[tuple[int, str], int]
    effects: list[_Effect] = field(default_factory=list)
    upto: list[int] = field(default_factory=list)
    """After so many operations (the index), how many effects there were."""
    syncs: list[tuple[int, int, int, bool, int]] = field(default_factory=list)
    """(operation, effects before it, inode or -1 for all, fdatasync, one effect that is durable alone or -1)."""
    unmodelled: list[str] = field(default_factory=list)


def power_states(
    operations: Sequence[Operation],
    model: PowerModel,
    *,
    initial: Mapping[str, Entry] | None = None,
    budget: int | None = None,
    points: Iterable[int] | None = None,
) -> PowerStates:
    """The distinct states that a power cut may leave, breadth-first over the crash points.

    `initial` is the state before the workload by path. `points` are the crash points to look at (how many operations
    are complete); all of them when it is None. A state that an earlier crash point had already is not told again for a
    later one unless something was acknowledged between the two.
    """
    log = _read(operations, initial or {})
    acks = _acks(operations)
    wanted = sorted(set(range(len(operations) + 1) if points is None else points))
    durability = _ordered(log) if model == "ext4-ordered" else _strict(log)
    queues = [(after, _Choices(log, after, model, durability)) for after in wanted]
    seen: set[tuple[str, int]] = set()
    states: list[PowerState] = []
    reached: set[int] = set()
    left_out = sum(one.thinned for _, one in queues)
    order = list(_spread(len(queues)))
    rounds = max((len(one) for _, one in queues), default=0)
    for nth in range(rounds):
        for place in order:
            after, choices = queues[place]
            if nth >= len(choices):
                continue
            if budget is not None and len(states) >= budget:
                left_out += 1
                continue
            kept, short = choices[nth]
            reached.add(after)
            entries = _image(log, kept, short)
            digest = _digest(entries)
            if (digest, acks[after]) in seen:
                continue
            seen.add((digest, acks[after]))
            states.append(PowerState(after=after, entries=entries, lost=_lost(log, after, kept, short), digest=digest))
    return PowerStates(
        model=model,
        states=tuple(states),
        points=len(reached),
        left_out=left_out,
        unmodelled=tuple(dict.fromkeys(log.unmodelled)),
    )


def whole_state(operations: Sequence[Operation], initial: Mapping[str, Entry] | None = None) -> dict[str, Entry]:
    """The state when nothing is lost: what the model thinks that a process kill leaves. Compared with a snapshot, it
    says whether the model understood the operations."""
    log = _read(operations, initial or {})
    return _image(log, frozenset(range(len(log.effects))), {})


# -- operations as effects ---------------------------------------------------------------------------------------------


def _acks(operations: Sequence[Operation]) -> list[int]:
    """After so many operations, how many outputs there had been."""
    counts = [0]
    for one in operations:
        counts.append(counts[-1] + (one.kind == "output"))
    return counts


class _Namespace:
    """The tree as the running program sees it."""

    def __init__(self, log: _Log) -> None:
        self.log = log
        self.names = dict(log.initial)
        self.sizes = [one.size for one in log.inodes]

    def make(self, inode: _Inode) -> int:
        self.log.inodes.append(inode)
        self.sizes.append(inode.size)
        return len(self.log.inodes) - 1

    def place(self, path: str) -> tuple[int, str] | None:
        """The directory and the name that a path means."""
        parts = [one for one in path.split("/") if one not in ("", ".")]
        if not parts:
            return None
        directory = ROOT
        for one in parts[:-1]:
            found = self.names.get((directory, one))
            if found is None:
                return None
            directory = found
        return directory, parts[-1]

    def find(self, path: str) -> int | None:
        if path in ("", "."):
            return ROOT
        place = self.place(path)
        return None if place is None else self.names.get(place)

    def set(self, changes: tuple[tuple[int, str, int | None], ...]) -> None:
        for directory, name, inode in changes:
            if inode is None:
                self.names.pop((directory, name), None)
            else:
                self.names[directory, name] = inode


def _read(operations: Sequence[Operation], initial: Mapping[str, Entry]) -> _Log:
    log = _Log(inodes=[_Inode("dir")], initial={})
    space = _Namespace(log)
    by_number: dict[int, int] = {}
    for path in sorted(initial):
        entry = initial[path]
        place = space.place(path)
        if place is None:
            continue
        inode = by_number.get(entry.inode, -1) if entry.inode >= 0 else -1
        if inode < 0:
            inode = space.make(
                _Inode(entry.kind, base=entry.base or path, size=entry.size, text=entry.text, mode=entry.mode)
            )
            if entry.inode >= 0:
                by_number[entry.inode] = inode
        space.names[place] = inode
    log.initial.update(space.names)
    log.upto.append(0)
    for one in operations:
        if not one.outside and not (one.result is not None and one.result < 0):
            _apply(one, log, space)
        log.upto.append(len(log.effects))
    return log


def _apply(op: Operation, log: _Log, space: _Namespace) -> None:
    if op.kind in ("write", "copy", "splice", "mmap", "allocate"):
        _change_bytes(op, log, space)
    elif op.kind in ("create", "open-trunc", "mkdir", "symlink", "mknod"):
        _make_name(op, log, space)
    elif op.kind == "truncate":
        inode = space.find(op.path)
        if inode is not None:
            _resize(op, log, space, inode, op.length or 0)
    elif op.kind in ("rename", "link"):
        _move_name(op, log, space)
    elif op.kind in ("unlink", "rmdir"):
        place = space.place(op.path)
        if place is not None and place in space.names:
            _names(op, log, space, ((*place, None),), f"{op.call} {op.path} (operation {op.index})")
    elif op.kind in ("sync", "msync"):
        _sync(op, log, space)
    elif op.kind == "other" and op.path:
        log.unmodelled.append(f"{op.call} {op.path}")


def _change_bytes(op: Operation, log: _Log, space: _Namespace) -> None:
    inode = space.find(op.path)
    if inode is None:
        # Written to by a descriptor whose name is gone: nothing of it can survive.
        return
    if op.length is None or (not op.data and op.kind not in ("allocate",)):
        if op.kind != "mmap":
            log.unmodelled.append(f"{op.call} {op.path}: which bytes it wrote is not known")
        return
    keep_size = op.kind == "allocate" and bool(op.flags & 1)
    offset = space.sizes[inode] if op.offset is None else op.offset
    if op.kind == "allocate":
        _allocate(op, log, space, inode, offset, keep_size)
        return
    log.effects.append(
        _Effect(
            op.index,
            "bytes",
            inode,
            offset,
            op.length,
            op.data,
            grows=offset + op.length > space.sizes[inode],
            words=f"{op.length} bytes at {offset} of {op.path} ({op.call}, operation {op.index})",
        )
    )
    space.sizes[inode] = max(space.sizes[inode], offset + op.length)
    if op.sync:
        log.syncs.append((op.index, len(log.effects), inode, True, len(log.effects) - 1))


def _allocate(op: Operation, log: _Log, space: _Namespace, inode: int, offset: int, keep_size: bool) -> None:
    length = op.length or 0
    if op.flags & ~0x13:
        log.unmodelled.append(f"fallocate with flags {op.flags:#x} on {op.path}")
        return
    if op.flags & 0x12:
        words = f"{length} bytes zeroed at {offset} of {op.path} (operation {op.index})"
        log.effects.append(_Effect(op.index, "bytes", inode, offset, length, "", keep_size, words=words))
    if not keep_size and offset + length > space.sizes[inode]:
        _resize(op, log, space, inode, offset + length)


def _make_name(op: Operation, log: _Log, space: _Namespace) -> None:
    there = space.find(op.path)
    if there is not None:
        if op.kind == "open-trunc":
            _resize(op, log, space, there, 0)
        return
    place = space.place(op.path)
    if place is None:
        return
    kind: EntryKind = {"mkdir": "dir", "symlink": "symlink", "mknod": "other"}.get(op.kind, "file")  # type: ignore[assignment]
    inode = space.make(_Inode(kind, text=op.path2 if kind == "symlink" else "", mode=op.mode))
    _names(op, log, space, ((*place, inode),), f"the name {op.path} ({op.call}, operation {op.index})", inode)


def _move_name(op: Operation, log: _Log, space: _Namespace) -> None:
    source, inode, target = space.place(op.path), space.find(op.path), space.place(op.path2)
    if source is None or inode is None or target is None:
        return
    over = space.names.get(target)
    words = f"{op.call} {op.path} → {op.path2} (operation {op.index})"
    if op.kind == "link":
        if over is None:
            _names(op, log, space, ((*target, inode),), words)
        return
    if over == inode:
        return
    exchange = bool(op.flags & 2)
    changes = ((*source, over if exchange else None), (*target, inode))
    flushes = inode if over is not None and not exchange else -1
    log.effects.append(_Effect(op.index, "names", -1, names=changes, flushes=flushes, words=words))
    space.set(changes)


def _names(
    op: Operation,
    log: _Log,
    space: _Namespace,
    changes: tuple[tuple[int, str, int | None], ...],
    words: str,
    inode: int = -1,
) -> None:
    log.effects.append(_Effect(op.index, "names", inode, names=changes, words=words))
    space.set(changes)


def _resize(op: Operation, log: _Log, space: _Namespace, inode: int, size: int) -> None:
    if size == space.sizes[inode]:
        return
    words = f"{op.path} resized to {size} bytes ({op.call}, operation {op.index})"
    log.effects.append(_Effect(op.index, "size", inode, length=size, words=words))
    space.sizes[inode] = size


def _sync(op: Operation, log: _Log, space: _Namespace) -> None:
    if op.call in _EVERYTHING:
        log.syncs.append((op.index, len(log.effects), -1, False, -1))
        return
    if op.kind == "msync" and not op.flags & 4:
        return
    inode = space.find(op.path)
    if inode is not None:
        log.syncs.append((op.index, len(log.effects), inode, op.call in ("fdatasync", "msync"), -1))


# -- what may be missing -----------------------------------------------------------------------------------------------

_Kept = tuple[frozenset[int], dict[int, int]]
"""Which effects made it, and how many bytes of those that made it in part (-1: as zeros)."""


@dataclass(slots=True)
class _Durability:
    """When each effect became durable: computed once for all crash points."""

    since: list[int]
    """By effect: the operation that made it durable, or more than there are."""
    commits: list[tuple[int, int]]
    """ext4: (operation, the last effect on names or sizes that it committed), both ascending."""

    def committed(self, after: int) -> int:
        """The last effect on names or sizes that was committed after so many operations; -1 for none."""
        place = bisect_right(self.commits, after, key=lambda one: one[0])
        return self.commits[place - 1][1] if place else -1


def _ordered(log: _Log) -> _Durability:
    effects = log.effects
    since = [_NEVER] * len(effects)
    loose: dict[int, list[int]] = {}
    changed: dict[int, int] = {}
    commits: list[tuple[int, int]] = []
    seen, last, committed = 0, -1, -1
    for op, before, inode, data_only, alone in log.syncs:
        for nth in range(seen, before):
            effect = effects[nth]
            if effect.sort == "bytes":
                loose.setdefault(effect.inode, []).append(nth)
            else:
                last = nth
                changed[effect.inode] = nth
        seen = max(seen, before)
        fresh = [alone] if alone >= 0 else [nth for one in _those(loose, inode) for nth in loose[one]]
        for nth in fresh:
            since[nth] = min(since[nth], op)
        if alone < 0:
            for one in _those(loose, inode):
                loose[one] = []
        # fdatasync leaves the journal alone unless the file itself has changed its size or is new.
        grew = changed.get(inode, -1) > committed or any(effects[nth].grows for nth in fresh)
        if (not data_only or grew) and last > committed:
            committed = last
            commits.append((op, committed))
    return _Durability(since, commits)


def _strict(log: _Log) -> _Durability:
    effects = log.effects
    since = [_NEVER] * len(effects)
    loose: dict[int, list[int]] = {}
    named: dict[int, list[int]] = {}
    missing: dict[int, set[int]] = {}
    seen = 0
    for op, before, inode, _, alone in log.syncs:
        for nth in range(seen, before):
            effect = effects[nth]
            if effect.sort != "names":
                loose.setdefault(effect.inode, []).append(nth)
                continue
            missing[nth] = {directory for directory, _, _ in effect.names}
            for directory in missing[nth]:
                named.setdefault(directory, []).append(nth)
        seen = max(seen, before)
        for one in _those(loose, inode):
            done = [nth for nth in loose[one] if alone < 0 or nth == alone or effects[nth].sort == "size"]
            for nth in done:
                since[nth] = op
            loose[one] = [nth for nth in loose[one] if since[nth] == _NEVER]
        if alone >= 0:
            continue
        for one in _those(named, inode):
            for nth in named[one]:
                missing[nth].discard(one)
                if not missing[nth]:
                    since[nth] = op
            named[one] = []
    return _Durability(since, [])


def _those(by_inode: Mapping[int, list[int]], inode: int) -> list[int]:
    return list(by_inode) if inode == -1 else [inode] if inode in by_inode else []


class _Choices:
    """The states that a model allows at one crash point, the most telling first; each is made when it is asked for."""

    def __init__(self, log: _Log, after: int, model: PowerModel, durability: _Durability) -> None:
        self.thinned = 0
        self._log = log
        self._count = log.upto[after]
        since = durability.since
        self._lost = [nth for nth in range(self._count) if since[nth] > after]
        self._specs: list[tuple[str, int]] = [("all", 0)]
        if model == "ext4-ordered":
            self._committed = durability.committed(after)
            self._specs_ordered()
        else:
            self._specs_strict()

    def __len__(self) -> int:
        return len(self._specs)

    def __getitem__(self, nth: int) -> _Kept:
        return self._make(*self._specs[nth])

    def _specs_ordered(self) -> None:
        effects = self._log.effects
        self._loose = loose = [nth for nth in self._lost if effects[nth].sort == "bytes"]
        pending = [nth for nth in range(self._committed + 1, self._count) if effects[nth].sort != "bytes"]
        self._last = last = pending[-1] if pending else self._committed
        specs: list[tuple[str, int]] = []
        if loose:
            specs += [("no bytes", last), ("zeros", last), ("short", last)]
        if pending:
            specs += [("no bytes", self._committed), ("bytes", self._committed)]
        files = list(dict.fromkeys(effects[nth].inode for nth in reversed(loose)))
        if len(files) > 1:
            specs += [(word, inode) for inode in self._thin(files) for word in ("but file", "only file")]
        for nth in self._thin(pending[-2::-1]):
            specs += [("bytes", nth), ("no bytes", nth)]
        if len(loose) > 1:
            specs += [(word, nth) for nth in self._thin(loose[::-1]) for word in ("but", "only")]
        self._specs += dict.fromkeys(specs)

    def _specs_strict(self) -> None:
        if self._lost:
            self._specs.append(("none", 0))
        if len(self._lost) > 1:
            thin = self._thin(self._lost[::-1])
            self._specs += [("omit", nth) for nth in thin] + [("one", nth) for nth in thin]

    def _thin(self, many: list[int]) -> list[int]:
        if len(many) <= MOST_SINGLES:
            return many
        self.thinned += 2 * (len(many) - MOST_SINGLES)
        # The latest ones are the most telling; of the others, some from everywhere.
        late = many[: MOST_SINGLES // 2]
        rest = many[MOST_SINGLES // 2 :]
        stride = len(rest) / (MOST_SINGLES // 2)
        return late + [rest[int(nth * stride)] for nth in range(MOST_SINGLES // 2)]

    def _make(self, word: str, which: int) -> _Kept:
        everything = frozenset(range(self._count))
        if word == "all":
            return everything, {}
        if word == "none":
            return everything - set(self._lost), {}
        if word == "omit":
            return everything - {which}, {}
        if word == "one":
            return everything - set(self._lost) | {which}, {}
        return self._make_ordered(word, which)

    def _make_ordered(self, word: str, which: int) -> _Kept:
        effects = self._log.effects
        last = which if word in ("no bytes", "bytes", "zeros", "short") else self._last
        kept = {nth for nth in range(self._count) if effects[nth].sort == "bytes" or nth <= last} - set(self._loose)
        for nth in sorted(kept):
            # A rename over a file flushes the bytes of the new one before the name changes.
            if effects[nth].flushes >= 0:
                kept |= {one for one in self._loose if one < nth and effects[one].inode == effects[nth].flushes}
        short: dict[int, int] = {}
        loose = [nth for nth in self._loose if nth not in kept]
        if word == "bytes":
            kept |= set(loose)
        elif word == "zeros":
            kept |= set(loose)
            short = dict.fromkeys(loose, -1)
        elif word == "short" and loose:
            kept |= set(loose)
            for nth in {effects[one].inode: one for one in loose}.values():
                short[nth] = _cut(effects[nth])
        elif word == "but file":
            kept |= {nth for nth in loose if effects[nth].inode != which}
        elif word == "only file":
            kept |= {nth for nth in loose if effects[nth].inode == which}
        elif word == "but":
            kept |= {nth for nth in loose if nth != which}
        elif word == "only":
            kept |= {nth for nth in loose if nth == which}
        # Bytes written after a truncation need its transaction: their blocks are the new ones.
        held_back = [nth for nth in range(last + 1, self._count) if effects[nth].sort == "size"]
        for nth in held_back:
            kept -= {one for one in self._loose if one > nth and effects[one].inode == effects[nth].inode}
        return frozenset(kept), {nth: cut for nth, cut in short.items() if nth in kept}


def _cut(effect: _Effect) -> int:
    """Where a write is cut short: at the last page boundary inside of it, or after half of it."""
    boundary = (effect.offset + effect.length - 1) // 4096 * 4096 - effect.offset
    return boundary if boundary > 0 else effect.length // 2


def _spread(count: int) -> Iterator[int]:
    """Every place below `count` once, such that any beginning of the sequence is spread over the whole range."""
    bits = max(count - 1, 0).bit_length()
    for nth in range(1 << bits):
        place = int(f"{nth:0{bits}b}"[::-1], 2) if bits else 0
        if place < count:
            yield place


# -- the state that is left --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _File:
    size: int
    base: str
    pieces: list[Piece] = field(default_factory=list)


def _image(log: _Log, kept: frozenset[int], short: Mapping[int, int]) -> dict[str, Entry]:
    names = dict(log.initial)
    files: dict[int, _File] = {}
    for nth in sorted(kept):
        effect = log.effects[nth]
        if effect.sort == "names":
            for directory, name, inode in effect.names:
                if inode is None:
                    names.pop((directory, name), None)
                else:
                    names[directory, name] = inode
            continue
        file = files.get(effect.inode)
        if file is None:
            file = files[effect.inode] = _opened(log.inodes[effect.inode])
        if effect.sort == "size":
            _truncate(file, effect.length)
        else:
            _overwrite(file, effect, short.get(nth, effect.length))
    return _tree(log, names, files)


def _opened(inode: _Inode) -> _File:
    whole = [Piece(offset=0, length=inode.size, data=f"base:{inode.base}")] if inode.base and inode.size else []
    return _File(inode.size, "", whole)


def _truncate(file: _File, size: int) -> None:
    if size < file.size:
        file.pieces = _without(file.pieces, size, file.size)
    file.size = size


def _overwrite(file: _File, effect: _Effect, length: int) -> None:
    zeros = length < 0 or not effect.data
    length = effect.length if length < 0 else length
    if effect.keep_size:
        length = max(0, min(length, file.size - effect.offset))
    if length <= 0:
        return
    end = effect.offset + length
    pieces = _without(file.pieces, effect.offset, end)
    if not zeros:
        pieces.append(Piece(offset=effect.offset, length=length, data=effect.data))
    file.pieces = pieces
    file.size = max(file.size, end)


def _without(pieces: list[Piece], start: int, end: int) -> list[Piece]:
    left = []
    for one in pieces:
        if one.offset + one.length <= start or one.offset >= end:
            left.append(one)
            continue
        if one.offset < start:
            left.append(Piece(offset=one.offset, length=start - one.offset, data=one.data, start=one.start))
        tail = one.offset + one.length - end
        if tail > 0:
            left.append(Piece(offset=end, length=tail, data=one.data, start=one.start + end - one.offset))
    return left


def _tree(log: _Log, names: Mapping[tuple[int, str], int], files: Mapping[int, _File]) -> dict[str, Entry]:
    children: dict[int, list[tuple[str, int]]] = {}
    for (directory, name), inode in names.items():
        children.setdefault(directory, []).append((name, inode))
    entries: dict[str, Entry] = {}
    todo: list[tuple[str, int, frozenset[int]]] = [("", ROOT, frozenset([ROOT]))]
    while todo:
        path, directory, above = todo.pop()
        for name, inode in children.get(directory, ()):
            inside = f"{path}/{name}" if path else name
            node = log.inodes[inode]
            entries[inside] = _entry(node, inode, files.get(inode))
            # A name that was moved half may hang a directory below itself.
            if node.kind == "dir" and inode not in above:
                todo.append((inside, inode, above | {inode}))
    return dict(sorted(entries.items()))


def _entry(node: _Inode, number: int, file: _File | None) -> Entry:
    if node.kind != "file":
        return Entry(kind=node.kind, text=node.text, mode=node.mode, base=node.base, inode=number)
    if file is None:
        return Entry(kind="file", size=node.size, base=node.base, mode=node.mode, inode=number)
    pieces = tuple(sorted(file.pieces, key=lambda one: one.offset))
    return Entry(kind="file", size=file.size, pieces=pieces, mode=node.mode, inode=number)


def _digest(entries: Mapping[str, Entry]) -> str:
    """An address of the state by what it is made of. Different addresses may still be the same bytes."""
    digest = blake2b(digest_size=16)
    for path, entry in entries.items():
        pieces = ",".join(f"{one.offset}+{one.length}={one.data}@{one.start}" for one in entry.pieces)
        said = f"{path}\0{entry.kind}\0{entry.size}\0{entry.base}\0{entry.text}\0{entry.mode}\0{pieces}\n"
        digest.update(said.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _lost(log: _Log, after: int, kept: frozenset[int], short: Mapping[int, int]) -> tuple[str, ...]:
    names: list[str] = []
    rest: list[str] = []
    for nth in range(log.upto[after]):
        effect = log.effects[nth]
        if nth not in kept:
            (names if effect.sort == "names" else rest).append(f"lost: {effect.words}")
        elif nth in short:
            rest.append(f"{'zeros' if short[nth] < 0 else f'cut after {short[nth]} bytes'}: {effect.words}")
    # Names first: a rename that is gone says more than the bytes that went with it.
    more = max(0, len(names) - MOST_TOLD) + max(0, len(rest) - MOST_TOLD)
    return (*names[-MOST_TOLD:], *rest[-MOST_TOLD:], *((f"and {more} more before",) if more else ()))
