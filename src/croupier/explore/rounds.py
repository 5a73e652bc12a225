"""The round meets the search: one process of several is killed at each of its calls, while the others live.

A round without injections is recorded first, with every call that changes a file. Then each crash point is a round of
its own: the same experiment, with one kill before that call; the supervisor brings the process back, and the
invariants are read. The state is not taken from a snapshot here, so what is found is found in live rounds, and each
cause is played again before it is told as confirmed.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

import msgspec

from ..model import search as s
from ..model.errors import ExperimentError, HarnessError, Refused, ReplayError
from ..model.experiment import Experiment
from ..model.fault import Kill
from ..model.grouping import Failing, group_findings
from ..model.noun import Noun
from ..model.plan import PLAN_VERSION, Injection, OnSyscall, Plan, plan_json
from ..model.target import Selector
from ..model.verdict import Verdict
from ..run.calls import RECORD, RecordedCall, read_record
from ..store.runs import RunDir
from ..store.searches import SearchDir
from .rounding import Job, Played, play

BUDGET = 60
"""How many rounds are played, where nobody says otherwise."""
SPARE_MS = 5_000
_TRIES = 3
_UNSEEN = ("sync", "sync-range", "mmap", "msync", "spawn")
"""Before these a crash leaves what a crash before the next operation leaves."""
LEVEL = "live rounds: a real kill before each call (seccomp user notification), the supervisor brings the process back"

Tell = Callable[[s.AnySearchEvent], None]


class Answered(Noun, frozen=True, kw_only=True):
    """What the round of one crash point came to. `held` None: the point was not reached, or nothing was proven."""

    point: s.CrashPoint
    held: bool | None
    reason: str
    path: str
    took_ms: float


class Recorded(Noun, frozen=True, kw_only=True):
    """The round without a crash."""

    calls: tuple[RecordedCall, ...]
    operations: tuple[s.Operation, ...]
    points: tuple[s.CrashPoint, ...]
    verdict: Verdict
    lasted_ms: int
    acked: int


class Rounds:
    """Plays the rounds of one search."""

    def __init__(self, setting: s.Setting, experiment: Experiment, out: Path) -> None:
        self.setting = setting
        self._experiment = experiment
        self._out = out

    def record(self) -> Recorded:
        """Play the experiment without injections, and read what its processes did."""
        began = time.monotonic()
        played = self._play(self._plan((), self.setting.record_ms), record=self.setting.processes)
        lasted_ms = round((time.monotonic() - began) * 1000)
        run = RunDir(Path(played.path))
        calls = tuple(read_record(run.artifacts / RECORD))
        assert played.verdict is not None
        roots = (str(run.state), str(run.path))
        names = self.setting.processes
        operations = tuple(_operation(nth, one, roots, names) for nth, one in enumerate(calls, start=1))
        acked = run.acks.read_bytes().count(b"\n") if run.acks.exists() else 0
        points = tuple(
            s.CrashPoint(id=s.point_id(nth), after=nth, state=f"{one.process}:{one.n}")
            for nth, one in enumerate(calls)
            if operations[nth].kind not in _UNSEEN
        )
        return Recorded(
            calls=calls, operations=operations, points=points, verdict=played.verdict, lasted_ms=lasted_ms, acked=acked
        )

    def ask(self, points: Sequence[s.CrashPoint], lasted_ms: int, jobs: int) -> Iterator[Answered]:
        """Play the round of each point, so many at a time; the answers in the order of the points."""
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            yield from pool.map(lambda point: self.ask_one(point, lasted_ms), points)

    def ask_one(self, point: s.CrashPoint, lasted_ms: int, tries: int = _TRIES) -> Answered:
        """Play the round of one point; again where the round went another way and did not come to it."""
        began = time.monotonic()
        answer: Answered | None = None
        for _ in range(tries):
            played = self._play(self._plan((self._kill(point),), lasted_ms + SPARE_MS))
            answer = self._answer(point, played, round((time.monotonic() - began) * 1000, 1))
            if answer.held is not None:
                break
        assert answer is not None
        return answer

    def _answer(self, point: s.CrashPoint, played: Played, took_ms: float) -> Answered:
        verdict = played.verdict
        assert verdict is not None
        row = verdict.injections[0] if verdict.injections else None
        held: bool | None = {"held": True, "violated": False}.get(verdict.verdict)
        reason = "" if held else "; ".join(verdict.reasons[:3])
        if row is None or row.result != "landed":
            held, reason = None, f"not reached: {row.why if row else 'the round ended before'}"
        if held is not False:
            # Only what was found is worth its place on the disk.
            shutil.rmtree(played.path, ignore_errors=True)
        path = played.path if held is False else ""
        return Answered(point=point, held=held, reason=reason, path=path, took_ms=took_ms)

    def _play(self, plan: Plan, record: tuple[str, ...] = ()) -> Played:
        job = Job(
            file=self.setting.experiment,
            plan=msgspec.Raw(plan_json(plan)),
            out=str(self._out),
            record_calls=record,
            plugins=self.setting.plugins,
        )
        played = play(job)
        if played.verdict is None:
            kinds: dict[int, type[ExperimentError | Refused]] = {2: ExperimentError, 3: Refused}
            raise kinds.get(played.exit_code, HarnessError)(played.problem, at=self.setting.experiment)
        return played

    def _plan(self, injections: tuple[Injection, ...], lasts_ms: int) -> Plan:
        return Plan(
            version=PLAN_VERSION,
            title=self._experiment.title,
            seed=self.setting.seed,
            blast_radius=self._experiment.blast_radius,
            lasts_ms=lasts_ms,
            injections=injections,
            ends_when_done=bool(injections),
            ends_with_workload=True,
        )

    def _kill(self, point: s.CrashPoint) -> Injection:
        process, _, number = point.state.rpartition(":")
        return Injection(
            number=1,
            trigger=OnSyscall(process=process, call="any", nth=int(number), path="", plus_ms=0),
            fault=Kill(),
            target=Selector(process=process, pick="caller"),
            lot=0,
            drawn=False,
        )


def in_order(points: Sequence[s.CrashPoint], operations: Sequence[s.Operation]) -> list[s.CrashPoint]:
    """One point of each kind (process, call, file) in turn, those of a kind spread over the whole recording."""
    from .search import spread

    kinds: dict[tuple[str, str, str], list[s.CrashPoint]] = {}
    for point in points:
        operation = operations[point.after]
        kinds.setdefault((operation.tid_role, operation.call, _numberless(operation.path)), []).append(point)
    turns = [[of[place] for place in spread(len(of))] for of in kinds.values()]
    return [one for turn in zip_longest(*turns) for one in turn if one is not None]


def findings_of(
    answers: Iterable[Answered], points: Sequence[s.CrashPoint], operations: Sequence[s.Operation]
) -> tuple[tuple[s.Finding, ...], tuple[s.Group, ...], dict[str, str]]:
    """What does not hold, by cause; and where the round of each is stored. A point that nobody asked about ends the
    stretch of those before it."""
    failing = [one for one in answers if one.held is False]
    groups = sorted(
        group_findings([Failing(point=one.point, reason=one.reason) for one in failing], points, operations),
        key=lambda group: -group.count,
    )
    numbered = tuple(msgspec.structs.replace(group, number=nth) for nth, group in enumerate(groups, start=1))
    home = {name: group.number for group in numbered for name in group.points}
    found = tuple(
        s.Finding(
            id=one.point.id,
            after=s.step(operations[one.point.after - 1]) if one.point.after else None,
            before=s.step(operations[one.point.after]) if one.point.after < len(operations) else None,
            acked=one.point.acked,
            reason=one.reason,
            group=home.get(one.point.id, 0),
        )
        for one in failing
    )
    return found, numbered, {one.point.id: one.path for one in failing}


def replay_round(found: SearchDir, point: s.CrashPoint, experiment: Experiment) -> Answered:
    """Play the round of a stored crash point again. Raises ReplayError where its experiment is not there any more."""
    setting = found.started().setting
    if not Path(setting.experiment).is_file():
        raise ReplayError("the experiment of this search is not there any more", at=setting.experiment)
    return Rounds(setting, experiment, found.path / "rounds").ask_one(point, setting.record_ms)


def _operation(nth: int, call: RecordedCall, roots: tuple[str, ...], processes: Sequence[str]) -> s.Operation:
    return s.Operation(
        index=nth,
        process=processes.index(call.process) + 1,
        tid_role=call.process,
        call=call.call,
        kind=call.kind,  # type: ignore[arg-type]
        path=_inside(call.path, roots),
        path2=_inside(call.path2, roots),
        offset=call.offset,
        length=call.length,
    )


def _inside(path: str, roots: tuple[str, ...]) -> str:
    for root in roots:
        if path.startswith(root + "/"):
            return path[len(root) + 1 :]
    return path


def _numberless(path: str) -> str:
    return re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", path)
