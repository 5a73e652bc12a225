"""Run directories: `runs/<experiment>/<UTC time>-<seed>/`, with `latest` beside them pointing to the newest.

experiment.yaml   the file as given          plan.json      before the round
journal.jsonl     during it                  undo.jsonl     the guardian's record of what must be put back
artifacts/        logs, acks, environment    state/         what `${state}` stood for
verdict.json      after it                   report.html
"""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec

from ..model import journal as j
from ..model.errors import HarnessError, ReplayError
from ..model.noun import Noun
from ..model.search import SearchResult, SearchStarted
from ..model.verdict import Verdict
from .journal import read_journal


class RunDir:
    """The paths of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.experiment = path / "experiment.yaml"
        self.plan = path / "plan.json"
        self.journal = path / "journal.jsonl"
        self.undo = path / "undo.jsonl"
        self.verdict = path / "verdict.json"
        self.divergence = path / "divergence.json"
        self.report = path / "report.html"
        self.state = path / "state"
        self.artifacts = path / "artifacts"
        self.logs = self.artifacts / "logs"
        self.acks = self.artifacts / "acks.txt"

    @property
    def name(self) -> str:
        """`<experiment>/<time>-<seed>`: what people call the run."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def unique(self) -> str:
        """A name that no other run on this machine has, wherever it is stored: what its processes are marked with."""
        return f"{self.name}.{sha256(str(self.path).encode()).hexdigest()[:8]}"

    def events(self) -> Iterator[j.AnyEvent]:
        """The journal."""
        return read_journal(self.journal)

    def write_verdict(self, verdict: Verdict) -> None:
        """Write `verdict.json`, whole or not at all."""
        write_whole(self.verdict, msgspec.json.format(msgspec.json.encode(verdict), indent=2) + b"\n")

    def read_verdict(self) -> Verdict | None:
        """The stored verdict, or None where there is none that can be read."""
        try:
            return msgspec.json.decode(self.verdict.read_bytes(), type=Verdict)
        except (OSError, msgspec.MsgspecError, ValueError):
            return None


class StoredRun(Noun, frozen=True, kw_only=True):
    """A line of `croupier runs`."""

    name: str
    path: str
    started_utc: str
    seed: int | None
    verdict: str
    outcome: str
    broke: str


def new_run_dir(out: Path, title: str, seed: int, now: datetime | None = None) -> RunDir:
    """Make a fresh run directory under `out`. Raises HarnessError where the disk says no."""
    folder = out / slug(title)
    stamp = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H%M%SZ")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run = _make_unique(folder, f"{stamp}-{seed}")
        for one in (run.state, run.artifacts, run.logs):
            one.mkdir()
        _point_latest(folder, run.path.name)
    except OSError as problem:
        raise HarnessError(
            f"the run directory cannot be made: {problem.strerror}", at=str(folder), hint="give another --out DIR"
        ) from problem
    return run


def _make_unique(folder: Path, name: str) -> RunDir:
    # Two rounds may begin in the same second.
    for attempt in range(1, 1000):
        path = folder / (name if attempt == 1 else f"{name}.{attempt}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return RunDir(path.resolve())
    raise HarnessError("there are a thousand runs of this second", at=str(folder))


def _point_latest(folder: Path, name: str) -> None:
    aside = folder / f".latest-{os.getpid()}-{name}"
    aside.symlink_to(name)
    aside.replace(folder / "latest")


def slug(title: str) -> str:
    """A folder name made from a title: ASCII letters, digits and dashes, at most 48."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48].strip("-") or "experiment"


def find_run(asked: str, out: Path) -> RunDir:
    """The run that is meant: a directory, a name under `out`, an experiment's folder or `latest` (the newest of all).

    Raises ReplayError where there is none.
    """
    for candidate in (Path(asked), out / asked):
        for path in (candidate, candidate / "latest"):
            if (path / "journal.jsonl").is_file():
                return RunDir(path.resolve())
    if asked == "latest":
        # By when they began, which their names say; a longer one would be the last to write.
        runs = (path for path in out.glob("*/*/journal.jsonl") if not path.parent.is_symlink())
        newest = sorted(runs, key=lambda path: (path.parent.name, path.parent.stat().st_mtime))
        if newest:
            return RunDir(newest[-1].parent.resolve())
    raise ReplayError(f"no run is stored there: {asked}", hint=f"`croupier runs` lists what is under {out}")


def list_runs(out: Path) -> list[StoredRun]:
    """Every run under `out`, newest first. What cannot be read is listed as such."""
    found = []
    for journal in out.glob("*/*/journal.jsonl"):
        if journal.parent.is_symlink():
            continue
        found.append(_summary(RunDir(journal.parent)))
    return sorted(found, key=lambda run: (run.started_utc, run.name), reverse=True)


def _summary(run: RunDir) -> StoredRun:
    if _is_search(run):
        return _search_summary(run)
    verdict = run.read_verdict()
    if verdict is not None:
        broke = next((one.invariant for one in verdict.findings if one.held is False), "")
        return StoredRun(
            name=run.name,
            path=str(run.path),
            started_utc=verdict.started_utc,
            seed=verdict.seed,
            verdict=verdict.verdict,
            outcome=verdict.outcome,
            broke=broke or (verdict.reasons[0] if verdict.verdict != "held" and verdict.reasons else ""),
        )
    try:
        first = next(run.events(), None)
    except ReplayError as problem:
        return _unjudged(run, "", None, problem.message)
    if isinstance(first, j.RunStarted):
        return _unjudged(run, first.wall_utc, first.seed, "running, or cut: `croupier judge` reads what there is")
    return _unjudged(run, "", None, "the journal is empty")


def _is_search(run: RunDir) -> bool:
    try:
        with run.journal.open("rb") as file:
            return b'"search-started"' in file.read(200)
    except OSError:
        return False


def _search_summary(run: RunDir) -> StoredRun:
    """A search is listed with the rounds: by its first line, and by its result where it came to one."""
    try:
        with run.journal.open("rb") as file:
            first = msgspec.json.decode(file.readline(), type=SearchStarted)
    except (OSError, msgspec.MsgspecError, ValueError) as problem:
        return _unjudged(run, "", None, f"not a search that can be read: {problem}")
    try:
        result = msgspec.json.decode((run.path / "result.json").read_bytes(), type=SearchResult)
    except (OSError, msgspec.MsgspecError, ValueError):
        return _unjudged(run, first.wall_utc, None, "searching, or cut before its end")
    return StoredRun(
        name=run.name,
        path=str(run.path),
        started_utc=first.wall_utc,
        seed=None,
        verdict=result.verdict,
        outcome="completed",
        broke=result.reasons[0] if result.reasons else "",
    )


def _unjudged(run: RunDir, started: str, seed: int | None, why: str) -> StoredRun:
    return StoredRun(
        name=run.name, path=str(run.path), started_utc=started, seed=seed, verdict="-", outcome="-", broke=why
    )


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file by writing aside, syncing and renaming, so that nobody ever reads half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
