"""The shortest workload, and the fewest operations, that still fail in the same way as a finding of a stored search.

A workload that reads its operations from a file, or from standard input, is made shorter by delta debugging on the
lines: each candidate is a search of its own, which ends at the first finding of the same cause. Any other workload
keeps its length; then the earliest crash point of the same cause is what is shortest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..model.errors import ReplayError
from ..model.grouping import Failing, group_findings
from ..model.noun import Noun
from ..model.search import CrashPoint, Group, Setting
from ..model.shrinking import Tally
from ..model.shrinking import shrink as ddmin
from ..snapshot import Store
from ..store.searches import SearchDir, find_point
from . import power
from .asking import Job, Pool
from .place import Place
from .recording import record
from .search import set_up

_MOST_LINES = 100_000


class Shrunk(Noun, frozen=True, kw_only=True, omit_defaults=False):
    """What is left of it."""

    point: str
    """The crash point that was asked for."""
    cause: str
    lines_before: int | None
    """How many lines the workload read; None for one that reads none."""
    lines_after: int | None
    file: str
    """The shortened input; "" where there was none."""
    operations_before: int
    """How many operations were done before the crash, at the point that was asked for."""
    operations_after: int
    first: str
    """The crash point in the shortest workload."""
    tried: int
    whole: bool

    @property
    def exit_code(self) -> int:
        """1: it still fails."""
        return 1

    @property
    def said(self) -> str:
        """For people."""
        lines = [f"{self.point}: {self.cause}"]
        if self.lines_after is not None:
            lines.append(f"  input: {self.lines_before} lines → {self.lines_after}: {self.file}")
        else:
            lines.append("  the workload reads its operations from no file and no standard input: it stays as it is")
        lines.append(
            f"  operations before the crash: {self.operations_before} → {self.operations_after} ({self.first})"
        )
        end = "" if self.whole else "; ended by --tries: fewer may do"
        lines.append(f"  {self.tried} workloads were searched{end}")
        return "\n".join(lines)


def shrink(asked: str, out: Path, *, most: int = 200) -> Shrunk:
    """Shrink `RUN/k0045`. Raises ReplayError where that is no finding."""
    found, point = find_point(asked, out)
    setting = found.started().setting
    result = found.read_result()
    group = next((one for one in result.groups if point.id in one.points), None) if result else None
    if group is None:
        raise ReplayError("this crash point is no finding: there is nothing to shrink", at=point.id)
    source = _input_of(setting)
    if source is None:
        first = _earliest(found, group)
        return Shrunk(
            point=point.id, cause=group.cause, lines_before=None, lines_after=None, file="",
            operations_before=point.after, operations_after=first.after, first=first.id, tried=0, whole=True,
        )  # fmt: skip
    return _shrink_input(point, group, setting, source, most)


def _shrink_input(point: CrashPoint, group: Group, setting: Setting, source: Path, most: int) -> Shrunk:
    lines = source.read_bytes().splitlines(keepends=True)
    if len(lines) > _MOST_LINES:
        raise ReplayError(f"{len(lines)} lines are too many to shrink", at=str(source))
    folder = Path(tempfile.mkdtemp(prefix=f"croupier-shrunk-{point.id}-"))
    file = folder / source.name
    shorter = _reading_from(setting, source, file)

    def fails(kept: tuple[int, ...]) -> bool:
        file.write_bytes(b"".join(lines[nth] for nth in kept))
        return _first_of_cause(shorter, group.pattern) is not None

    kept, tally = ddmin(range(len(lines)), fails, most)
    file.write_bytes(b"".join(lines[nth] for nth in kept))
    first = _first_of_cause(shorter, group.pattern)
    if first is None:
        raise ReplayError("it does not fail again, shortened or not", at=point.id)
    return _told(point, group, tally, file, first)


def _told(point: CrashPoint, group: Group, tally: Tally, file: Path, first: CrashPoint) -> Shrunk:
    return Shrunk(
        point=point.id, cause=group.cause, lines_before=tally.before, lines_after=tally.after, file=str(file),
        operations_before=point.after, operations_after=first.after, first=first.id, tried=tally.tried,
        whole=tally.whole,
    )  # fmt: skip


def _input_of(setting: Setting) -> Path | None:
    """The file that the workload reads its operations from: its standard input, or its last argument that is data."""
    if setting.stdin:
        return Path(setting.stdin)
    for word in reversed(setting.workload[1:]):
        path = Path(setting.cwd or ".") / word
        if not word.startswith("-") and path.is_file() and not _is_program(path):
            return path
    return None


def _is_program(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError:
        return True
    scripts = (".py", ".sh", ".pl", ".rb", ".js", ".pyc", ".jar", ".so")
    return head[:2] == b"#!" or head == b"\x7fELF" or path.suffix in scripts


def _reading_from(setting: Setting, source: Path, file: Path) -> Setting:
    if setting.stdin:
        return msgspec.structs.replace(setting, stdin=str(file))
    words = list(setting.workload)
    for nth in range(len(words) - 1, 0, -1):
        if Path(setting.cwd or ".") / words[nth] == source:
            words[nth] = str(file)
            break
    return msgspec.structs.replace(setting, workload=tuple(words))


def _first_of_cause(setting: Setting, pattern: str) -> CrashPoint | None:
    """Search one workload for a cause, without storing anything. The first crash point that has it."""
    with Place(setting) as place:
        store = Store(place.root / "states")
        try:
            place.copy_given()
            set_up(place)
            made = record(place, store, keep_data=setting.torn or setting.model != "kill")
            output = place.root / "output"
            output.write_bytes(made.output)
            if setting.model == "kill":
                points: Sequence[CrashPoint] = list(made.points(store, with_torn=setting.torn))
            else:
                points = power.points(made, store, setting).points
            failing = _failing(place, store, output, made.final, points)
            groups = group_findings(failing, points, made.operations)
            firsts = [one.first for one in groups if one.pattern == pattern]
            return next((one for one in points if one.id in firsts), None)
        finally:
            store.close()


def _failing(place: Place, store: Store, output: Path, like: str, points: Sequence[CrashPoint]) -> list[Failing]:
    keys = list(dict.fromkeys((one.state, one.acked) for one in points))
    asks = Pool(place, store, output, like)
    try:
        answers = {
            keys[one.number]: one for one in asks.ask(Job(nth, state, acked) for nth, (state, acked) in enumerate(keys))
        }
    finally:
        asks.close()
    return [
        Failing(point=one, reason=answers[one.state, one.acked].reason)
        for one in points
        if not answers[one.state, one.acked].held
    ]


def _earliest(found: SearchDir, group: Group) -> CrashPoint:
    mine = set(group.points)
    return min(
        (one for one in found.read_points() if one.id in mine), key=lambda one: (one.after, len(one.lost), one.cut or 0)
    )
