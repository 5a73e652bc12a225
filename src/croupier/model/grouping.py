"""Findings that have one cause, told as one: which operation broke it, which would have healed it, and what to do.

A program that is vulnerable between two operations is so every time it gets there, and at every crash point in
between. So the findings of process kills are gathered into *stretches*, runs of neighbouring crash points that all
fail; the operation that opens a stretch and the one that closes it are the pattern, and stretches of one pattern are
one group. What a power cut lost is a set of operations: the smallest sets that fail are the causes, and a larger set
belongs to the first small one that it contains.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .noun import Noun
from .search import CrashPoint, Group, Operation

START, END = "start", "end"

ASIDE = (
    "write the new content to a temporary file in the same directory, fsync it, os.replace() it over the old name,"
    " then fsync the directory"
)
ASIDE_LINK = "https://lwn.net/Articles/457667/"
DIRECTORY = "fsync the directory after the rename, create or unlink, and acknowledge only then"
DIRECTORY_LINK = "https://man7.org/linux/man-pages/man2/fsync.2.html"
SYNC_FIRST = "fsync the new file before the rename gives it its name"
SYNC_LINK = "https://docs.python.org/3/library/os.html#os.fsync"
REPLACE = "do not remove or move the old one first: os.replace() (rename) takes the place of the old name in one step"
REPLACE_LINK = "https://docs.python.org/3/library/os.html#os.replace"
TRANSACTION = "make both changes in one transaction (BEGIN … COMMIT): each autocommit statement is one of its own"
TRANSACTION_LINK = "https://www.sqlite.org/lang_transaction.html"
JOURNAL = "use PRAGMA journal_mode=WAL or DELETE: without a journal on disk, no half-made change can be rolled back"
JOURNAL_LINK = "https://www.sqlite.org/pragma.html#pragma_journal_mode"
ACK_LATER = "acknowledge after the last operation that the promise needs, not before it"
ONE_FILE = (
    "keep what must change together in one file that is replaced as a whole, or in a store with transactions, or make"
    " recovery rebuild one from the other"
)
ONE_LINK = "https://www.sqlite.org/atomiccommit.html"
_NEWS = ("create", "open-trunc", "write", "mmap", "truncate", "copy", "splice", "allocate")
_CHANGES = ("write", "mmap", "truncate", "copy", "splice", "allocate")


class Failing(Noun, frozen=True, kw_only=True):
    """A crash point with the answer of its check."""

    point: CrashPoint
    reason: str


class _Told(NamedTuple):
    pattern: str
    cause: str
    fix: str = ""
    link: str = ""


def group_findings(
    failing: Sequence[Failing], order: Sequence[CrashPoint], operations: Sequence[Operation]
) -> tuple[Group, ...]:
    """The groups, the largest first. `order` are all crash points that were checked, failing ones included."""
    made: dict[tuple[str, str], list[Failing]] = {}
    told: dict[tuple[str, str], _Told] = {}
    stretched = [one for one in failing if not one.point.lost]
    for stretch, opener, closer in _stretches(stretched, order, operations):
        words = _tell(stretch, opener, closer, operations)
        # At depth 2 a recovery broke, which is another cause than the workload's.
        key = (words.pattern, f"depth {stretch[0].point.depth}")
        told.setdefault(key, words)
        made.setdefault(key, []).extend(stretch)
    for cause, members in _by_loss([one for one in failing if one.point.lost], operations):
        told.setdefault((cause.pattern, "power"), cause)
        made.setdefault((cause.pattern, "power"), []).extend(members)
    groups = sorted(made.items(), key=lambda item: (-len(item[1]), item[1][0].point.id))
    return tuple(
        Group(
            number=number,
            count=len(members),
            first=members[0].point.id,
            pattern=told[key].pattern,
            cause=told[key].cause,
            reason=members[0].reason,
            fix=told[key].fix,
            link=told[key].link,
            points=tuple(one.point.id for one in members),
        )
        for number, (key, members) in enumerate(groups, start=1)
    )


def shape(path: str) -> str:
    """A path with what differs from time to time taken out: `tmpa8x_k2q1` and `part-17` become `tmp*` and `part-*`."""
    path = re.sub(r"tmp[a-z0-9_]{8}", "tmp*", path)
    path = re.sub(r"(?<![A-Za-z])[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,}", "*", path)
    return re.sub(r"(?<=[._-])(?=\w*\d)(?=\w*[A-Za-z_])[A-Za-z0-9_]{8,}(?=$|[./-])|\d+", "*", path)


def pattern_of(operation: Operation | None, otherwise: str) -> str:
    """An operation without its numbers: `write notes.json`, `rename notes.json.tmp → notes.json`."""
    if operation is None:
        return otherwise
    if operation.kind == "output":
        return "acknowledgement"
    word = {"open-trunc": "open and truncate", "mmap": "store through mmap"}.get(operation.kind, operation.kind)
    if operation.kind == "sync":
        word = operation.call
    path = shape(operation.path)
    path2 = f" → {shape(operation.path2)}" if operation.path2 and operation.kind in ("rename", "link") else ""
    return f"{word} {path}{path2}".rstrip()


# -- process kills: stretches ------------------------------------------------------------------------------------------


def _stretches(
    failing: Sequence[Failing], order: Sequence[CrashPoint], operations: Sequence[Operation]
) -> list[tuple[list[Failing], Operation | None, Operation | None]]:
    by_id = {one.point.id: one for one in failing}
    found: list[tuple[list[Failing], Operation | None, Operation | None]] = []
    tracks: dict[str, list[CrashPoint]] = {}
    for point in order:
        if not point.lost:
            tracks.setdefault(point.parent, []).append(point)
    for parent, points in tracks.items():
        inside: list[Failing] = []
        for point in sorted(points, key=_place):
            if point.id in by_id:
                inside.append(by_id[point.id])
            elif inside:
                found.append(_closed(inside, point, operations, parent))
                inside = []
        if inside:
            found.append(_closed(inside, None, operations, parent))
    return found


def _place(point: CrashPoint) -> tuple[int, int]:
    return point.after, -1 if point.cut is None else point.cut


def _closed(
    inside: list[Failing], healed: CrashPoint | None, operations: Sequence[Operation], parent: str
) -> tuple[list[Failing], Operation | None, Operation | None]:
    if parent:
        return inside, None, None
    first = inside[0].point
    # A torn write is opened by the write itself, which comes after the point.
    opener = first.after if first.cut is not None else first.after - 1
    closer = None if healed is None else healed.after - (healed.cut is None)
    return (
        inside,
        operations[opener] if 0 <= opener < len(operations) else None,
        operations[closer] if closer is not None and 0 <= closer < len(operations) else None,
    )


def _tell(
    stretch: Sequence[Failing], opener: Operation | None, closer: Operation | None, operations: Sequence[Operation]
) -> _Told:
    first = stretch[0].point
    if first.parent:
        return _Told("a crash during recovery", "recovery itself does not survive a crash: the check, run again on"
                     " what it left, fails", "make recovery repeatable: it may be cut short and start again at any"
                     " moment", "https://www.sqlite.org/atomiccommit.html#_hazards")  # fmt: skip
    if all(one.point.cut is not None for one in stretch) and opener is not None:
        path = shape(opener.path)
        return _Told(
            f"torn: {pattern_of(opener, START)}",
            f"a write to `{path}` that is cut short is taken for a whole one, or is not told from a broken one",
            f"{ASIDE}; or store a length and a checksum with each record, and drop the last one if they do not fit",
            ASIDE_LINK,
        )
    pattern = f"{pattern_of(opener, START)} ⟶ {pattern_of(closer, END)}"
    if opener is None:
        return _Told(pattern, "the check fails before the workload has done anything: it does not accept the state"
                     " that the workload starts from", "let the check accept a state in which nothing was acknowledged"
                     " yet", "")  # fmt: skip
    return _kill_cause(pattern, opener, closer, operations)


def _kill_cause(pattern: str, opener: Operation, closer: Operation | None, operations: Sequence[Operation]) -> _Told:
    name = shape(opener.path)
    if opener.kind == "output":
        before = f" before `{pattern_of(closer, END)}`" if closer is not None else ""
        return _Told(pattern, f"it is acknowledged{before}: a crash right after the acknowledgement loses it",
                     ACK_LATER, ASIDE_LINK)  # fmt: skip
    if closer is None:
        return _Told(pattern, f"from `{pattern_of(opener, START)}` on, nothing that the workload does makes the state"
                     " good again")  # fmt: skip
    other = shape(closer.path)
    lost = closer.path2 or closer.path
    if _is_commit(opener) and _is_commit(closer):
        return _Told(
            pattern,
            f"the change is made of more than one transaction (`{name}` ends one, `{other}` the next): a crash between"
            " keeps only the first",
            TRANSACTION,
            TRANSACTION_LINK,
        )
    if opener.kind == "open-trunc" or (opener.kind == "truncate" and not opener.length):
        return _Told(pattern, f"`{name}` is emptied before it is written again: a crash between leaves it empty or cut",
                     ASIDE, ASIDE_LINK)  # fmt: skip
    if opener.kind == "create" and closer.kind in _NEWS and closer.path == opener.path:
        return _Told(pattern, f"`{name}` is there before its content is: a crash between leaves it empty or cut",
                     ASIDE, ASIDE_LINK)  # fmt: skip
    if opener.kind in ("unlink", "rename") and lost == opener.path:
        word = "removed" if opener.kind == "unlink" else f"moved to `{shape(opener.path2)}`"
        return _Told(pattern, f"`{name}` is {word} before the new one has its place: a crash between leaves none",
                     REPLACE, REPLACE_LINK)  # fmt: skip
    if opener.kind in _CHANGES and closer.kind in _CHANGES and opener.path == closer.path:
        return _in_place(pattern, opener, operations)
    if opener.path != closer.path and closer.path:
        return _Told(pattern, f"`{name}` and `{other}` are changed one after the other: a crash between leaves them"
                     " contradicting each other", ONE_FILE, ONE_LINK)  # fmt: skip
    return _Told(pattern, f"after `{pattern_of(opener, START)}` and before `{pattern_of(closer, END)}` the state does"
                 " not recover")  # fmt: skip


def _in_place(pattern: str, opener: Operation, operations: Sequence[Operation]) -> _Told:
    name = shape(opener.path)
    if opener.kind == "mmap":
        return _Told(pattern, f"`{name}` is changed in place through a shared mapping: every store is in the file at"
                     " once, and a crash between two leaves it half changed", ONE_FILE, ONE_LINK)  # fmt: skip
    if re.search(r"\.(db|sqlite|sqlite3|db3)$", name):
        journals = {f"{opener.path}-journal", f"{opener.path}-wal"}
        if not any(one.path in journals for one in operations):
            return _Told(pattern, f"`{name}` is changed in place by several writes, with no journal on disk to roll"
                         " them back", JOURNAL, JOURNAL_LINK)  # fmt: skip
    return _Told(pattern, f"`{name}` is changed in place by several writes: between two of them it is neither the old"
                 " nor the new", ASIDE, ASIDE_LINK)  # fmt: skip


def _is_commit(operation: Operation) -> bool:
    """The moment at which SQLite commits: its journal is deleted, emptied or zeroed, or its log has grown."""
    if operation.path.endswith("-journal"):
        return operation.kind in ("unlink", "truncate") or (operation.kind == "write" and operation.offset == 0)
    return operation.path.endswith("-wal") and operation.kind == "write"


# -- power cuts: what was lost -----------------------------------------------------------------------------------------

_NUMBER = re.compile(r"operation (\d+)\)")


def _by_loss(failing: Sequence[Failing], operations: Sequence[Operation]) -> list[tuple[_Told, list[Failing]]]:
    """The smallest sets of losses that fail, each with every finding whose losses contain it."""
    causes: list[tuple[frozenset[str], _Told, list[Failing]]] = []
    for one in sorted(failing, key=lambda one: (len(one.point.lost), one.point.after)):
        kinds = frozenset(_loss_pattern(words, operations) for words in one.point.lost)
        home = next((members for smaller, _, members in causes if smaller <= kinds), None)
        if home is None:
            home = []
            causes.append((kinds, _power_cause(one.point, kinds, operations), home))
        home.append(one)
    return [(told, sorted(members, key=lambda one: one.point.after)) for _, told, members in causes]


def _lost_operation(words: str, operations: Sequence[Operation]) -> Operation | None:
    found = _NUMBER.search(words)
    number = int(found[1]) if found else 0
    return operations[number - 1] if 0 < number <= len(operations) else None


def _loss_pattern(words: str, operations: Sequence[Operation]) -> str:
    operation = _lost_operation(words, operations)
    # Lost, zero or cut short: the cause is the same.
    return pattern_of(operation, START) if operation is not None else "more"


def _power_cause(point: CrashPoint, kinds: frozenset[str], operations: Sequence[Operation]) -> _Told:
    lost = [operation for words in point.lost if (operation := _lost_operation(words, operations)) is not None]
    pattern = f"lost: {'; '.join(sorted(kinds - {'more'}))}"
    names = [one for one in lost if one.kind in ("rename", "create", "link", "unlink", "mkdir", "symlink", "rmdir")]
    content = [one for one in lost if one.kind in (*_CHANGES, "open-trunc")]
    done = operations[: point.after]
    for one in content:
        moved = next((late for late in done if late.kind == "rename" and late.path == one.path and late not in lost
                      and late.index > one.index), None)  # fmt: skip
        if moved is not None:
            return _Told(pattern, f"the rename to `{shape(moved.path2)}` is on disk before the bytes of"
                         f" `{shape(one.path)}` are: `{shape(moved.path2)}` is empty, short or zero",
                         SYNC_FIRST, SYNC_LINK)  # fmt: skip
    if content:
        name = shape(content[-1].path)
        synced = any(one.kind == "sync" and one.path == content[-1].path for one in operations)
        why = "not synced before it was relied upon" if synced else "never synced"
        return _Told(pattern, f"the bytes of `{name}` were {why}: a power cut loses them", "fsync the file before"
                     " acknowledging what is in it", SYNC_LINK)  # fmt: skip
    if names:
        one = names[-1]
        what = f"`{pattern_of(one, START)}`"
        return _Told(pattern, f"the directory was not synced after {what}: a power cut undoes it",
                     DIRECTORY, DIRECTORY_LINK)  # fmt: skip
    return _Told(pattern, "a power cut loses what was not synced")
