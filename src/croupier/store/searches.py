"""Search directories: `runs/<name>/<UTC time>/`, beside those of rounds, with `latest` pointing to the newest.

journal.jsonl      during the search, an event a line       operations.jsonl   what the workload did
points.jsonl       every crash point, with its state        states/            the content store
output             what the workload printed                result.json        what `--json` prints
report.html        the page
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from ..model import search as s
from ..model.errors import HarnessError, ReplayError
from ..model.noun import Noun
from .runs import _make_unique, _point_latest, slug, write_whole

Told = TypeVar("Told", bound=Noun)
_events: msgspec.json.Decoder[s.AnySearchEvent] = msgspec.json.Decoder(s.AnySearchEvent)


class SearchDir:
    """The paths of one search."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "journal.jsonl"
        self.operations = path / "operations.jsonl"
        self.points = path / "points.jsonl"
        self.states = path / "states"
        self.output = path / "output"
        self.result = path / "result.json"
        self.report = path / "report.html"

    @property
    def name(self) -> str:
        """`<name>/<time>`: what people call the search."""
        return f"{self.path.parent.name}/{self.path.name}"

    def write_operations(self, operations: Iterable[s.Operation]) -> None:
        """Write what the workload did, whole or not at all."""
        write_whole(self.operations, _lines(operations))

    def write_points(self, points: Iterable[s.CrashPoint]) -> None:
        """Write the crash points, whole or not at all."""
        write_whole(self.points, _lines(points))

    def write_result(self, result: s.SearchResult) -> None:
        """Write `result.json`, whole or not at all."""
        write_whole(self.result, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")

    def read_operations(self) -> list[s.Operation]:
        """What the workload did. Raises ReplayError where that cannot be read."""
        return _read(self.operations, s.Operation)

    def read_points(self) -> list[s.CrashPoint]:
        """Every crash point. Raises ReplayError where they cannot be read."""
        return _read(self.points, s.CrashPoint)

    def read_result(self) -> s.SearchResult | None:
        """What the search came to, or None where it did not come to its end."""
        try:
            return msgspec.json.decode(self.result.read_bytes(), type=s.SearchResult)
        except (OSError, msgspec.MsgspecError, ValueError):
            return None

    def read_output(self) -> bytes:
        """What the workload printed."""
        try:
            return self.output.read_bytes()
        except OSError as problem:
            raise ReplayError(f"the workload's output cannot be read: {problem.strerror}", at=str(self.output)) from (
                problem
            )

    def events(self) -> Iterator[s.AnySearchEvent]:
        """The journal; a last line that was cut is left out."""
        try:
            lines = self.journal.read_bytes().split(b"\n")
        except OSError as problem:
            raise ReplayError(f"the journal cannot be read: {problem.strerror}", at=str(self.journal)) from problem
        for number, line in enumerate(lines[:-1], start=1):
            try:
                yield _events.decode(line)
            except (msgspec.MsgspecError, ValueError) as problem:
                raise ReplayError(
                    f"this line is no event of a search: {problem}", at=f"{self.journal}:{number}"
                ) from problem

    def started(self) -> s.SearchStarted:
        """The first line of the journal. Raises ReplayError where this is no search."""
        first = next(self.events(), None)
        if not isinstance(first, s.SearchStarted):
            raise ReplayError("the journal does not begin as one of a search does", at=str(self.journal))
        if first.journal != s.SEARCH_VERSION:
            raise ReplayError(f"this search has version {first.journal}, and version {s.SEARCH_VERSION} is read here")
        return first


def new_search_dir(out: Path, title: str, now: datetime | None = None) -> SearchDir:
    """Make a fresh directory under `out`. Raises HarnessError where the disk says no."""
    folder = out / slug(title)
    stamp = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H%M%SZ")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = _make_unique(folder, stamp).path
        _point_latest(folder, path.name)
    except OSError as problem:
        raise HarnessError(
            f"the directory of the search cannot be made: {problem.strerror}",
            at=str(folder),
            hint="give another --out DIR",
        ) from problem
    return SearchDir(path)


def is_search(path: Path) -> bool:
    """Whether the journal there is one of a search."""
    try:
        with (path / "journal.jsonl").open("rb") as file:
            return b'"search-started"' in file.read(200)
    except OSError:
        return False


def find_search(asked: str, out: Path) -> SearchDir:
    """The search that is meant: a directory, a name under `out`, or the folder of a name (its newest search)."""
    for candidate in (Path(asked), out / asked):
        for path in (candidate, candidate / "latest"):
            if is_search(path):
                return SearchDir(path.resolve())
    raise ReplayError(f"no search is stored there: {asked}", hint=f"`croupier runs` lists what is under {out}")


def find_point(asked: str, out: Path) -> tuple[SearchDir, s.CrashPoint]:
    """The crash point that `RUN/k0045` means. Raises ReplayError where there is none."""
    run, _, name = asked.rstrip("/").rpartition("/")
    found = find_search(run or ".", out)
    for point in found.read_points():
        if point.id == name:
            return found, point
    raise ReplayError(f"this search has no crash point {name!r}", at=str(found.path), hint="they are in points.jsonl")


def _lines(told: Iterable[Noun]) -> bytes:
    encoder = msgspec.json.Encoder()
    return b"".join(encoder.encode(one) + b"\n" for one in told)


def _read(path: Path, kind: type[Told]) -> list[Told]:
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as file:
            return [decoder.decode(line) for line in file]
    except OSError as problem:
        raise ReplayError(f"this file of the search cannot be read: {problem.strerror}", at=str(path)) from problem
    except (msgspec.MsgspecError, ValueError) as problem:
        raise ReplayError(f"not written by a search: {problem}", at=str(path)) from problem
