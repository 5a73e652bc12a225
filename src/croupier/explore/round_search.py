"""A search of an experiment from its beginning to its end: record, a round for each crash point, confirm, group."""

from __future__ import annotations

import getpass
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .. import __version__
from ..load import load_experiment
from ..model import search as s
from ..model.errors import CroupierError, ExperimentError, Refused
from ..model.experiment import Experiment
from ..registry import catalogue
from ..store.journal import JournalWriter
from ..store.searches import SearchDir, new_search_dir
from ..system.clock import now_us
from ..trace import lacks
from .api import MOST_JOBS
from .replaying import Replayed
from .rounds import BUDGET, LEVEL, Answered, Recorded, Rounds, findings_of, in_order, replay_round

Progress = Callable[[str, int, int], None]
CALM = "the invariants hold where nothing crashed"
CALLS = "the processes changed files"
REACHED = "every crash point was reached again"
PROMISES = "the experiment promises something"


def setting_for(
    file: Path,
    *,
    processes: Sequence[str] = (),
    budget: str = "",
    jobs: int = 0,
    record_ms: int = 5_000,
    seed: int = 0,
    title: str = "",
    plugins: tuple[str, ...] = (),
) -> tuple[s.Setting, Experiment]:
    """What is asked for, with the experiment. Raises ExperimentError where it cannot be."""
    experiment = load_experiment(file, catalogue(plugins)).experiment
    for name in processes:
        if name not in experiment.processes:
            known = ", ".join(experiment.processes) or "none"
            raise ExperimentError(f"there is no process {name!r}", at="--process", hint=f"processes of it are {known}")
    chosen = tuple(processes) or tuple(experiment.processes)
    if not chosen:
        raise ExperimentError("croupier starts no process of this experiment, so no call can be stopped", at=str(file))
    if not 0 <= jobs <= MOST_JOBS:
        raise ExperimentError(f"jobs are from 1 to {MOST_JOBS}, got {jobs}", at="--jobs")
    if not experiment.invariants:
        raise ExperimentError(
            "this experiment promises nothing, so no crash can break it", at=str(file), hint="add invariants"
        )
    setting = s.Setting(
        title=title or f"{experiment.title} at every call",
        workload=("croupier", "run", str(file)),
        check=tuple(one.label for one in experiment.invariants),
        budget=s.Budget.parse(budget) if budget else s.Budget(states=BUDGET),
        jobs=jobs,
        cwd=str(Path.cwd()),
        experiment=str(file.absolute()),
        processes=chosen,
        record_ms=record_ms,
        seed=seed,
        plugins=plugins,
    )
    return setting, experiment


class RoundSearch:
    """One search of an experiment. `run` does it all and returns what it came to."""

    def __init__(
        self,
        setting: s.Setting,
        experiment: Experiment,
        out: Path,
        argv: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> None:
        self.setting = setting
        self.argv = tuple(argv)
        self.progress = progress or (lambda phase, done, total: None)
        self.dir: SearchDir = new_search_dir(out, setting.title)
        self.operations: tuple[s.Operation, ...] = ()
        self.points: tuple[s.CrashPoint, ...] = ()
        self._rounds = Rounds(setting, experiment, self.dir.path / "rounds")
        self._seconds: dict[str, float] = {}
        self._checks: list[s.SelfCheck] = []
        self._left_out = 0
        self._began = time.monotonic()

    def run(self) -> s.SearchResult:
        """Do the search. Raises CroupierError where it cannot be done; what was found by then is in the journal."""
        if lack := lacks("seccomp"):
            raise Refused(f"system calls cannot be watched in a round here: {lack}", hint="see `croupier doctor`")
        self.journal = JournalWriter(self.dir.journal, now_us())
        self.journal.record(self._first_line())
        try:
            return self._search()
        except CroupierError as problem:
            self.journal.record(s.SearchEnded(verdict="unknown", reasons=(problem.message,)))
            raise
        finally:
            self.journal.close()

    def _search(self) -> s.SearchResult:
        with self._phase("record"):
            self.progress("record", 0, 0)
            made = self._rounds.record()
            self._keep(made)
        if any(one.held is False for one in self._checks):
            return self._end(made, (), (), [])
        with self._phase("check"):
            answers = self._ask(made)
        findings, groups, homes = findings_of(answers, made.points, made.operations)
        self.points = tuple(sorted((one.point for one in answers), key=lambda point: point.after))
        self.dir.write_points(self.points)
        for one in findings:
            self.journal.record(s.SearchNoted(text=f"the round of {one.id} is {homes[one.id]}"))
        with self._phase("confirm"):
            findings, groups = self._confirm(made, findings, groups)
        self._say_what_was_reached(answers)
        return self._end(made, findings, groups, answers)

    def _keep(self, made: Recorded) -> None:
        self.operations, self.points = made.operations, made.points
        self.dir.write_operations(made.operations)
        self.dir.write_points(made.points)
        self.dir.output.write_bytes(b"")
        self.journal.record(
            s.Recorded(
                level=LEVEL, operations=len(made.operations), points=len(made.points), distinct=len(made.points),
                acked=made.acked,
            )
        )  # fmt: skip
        broken = made.verdict.verdict == "violated"
        steady = not any("steady" in one for one in made.verdict.reasons)
        self._checks += [
            s.SelfCheck(
                name=CALLS,
                held=bool(made.points),
                detail=f"{len(made.operations)} calls of {', '.join(self.setting.processes)}"
                if made.points
                else f"no call of {', '.join(self.setting.processes)} changed a file while it was watched",
            ),
            s.SelfCheck(
                name=CALM,
                held=not broken and steady,
                detail="; ".join(made.verdict.reasons[:2]) if broken or not steady else "",
            ),
        ]

    def _ask(self, made: Recorded) -> list[Answered]:
        order = in_order(made.points, made.operations)
        budget = self.setting.budget or s.Budget(states=BUDGET)
        chosen = order[: budget.states] if budget.states is not None else order
        until = None if budget.ms is None else self._began + budget.ms / 1000
        answers: list[Answered] = []
        jobs = self.setting.jobs or 1
        for first in range(0, len(chosen), jobs):
            if until is not None and time.monotonic() > until:
                break
            for one in self._rounds.ask(chosen[first : first + jobs], made.lasted_ms, jobs):
                answers.append(one)
                self.journal.record(
                    s.StateChecked(point=one.point.id, held=one.held is True, reason=one.reason, took_ms=one.took_ms)
                )
                self.progress("round", len(answers), len(chosen))
        self._left_out = len(made.points) - len(answers)
        return answers

    def _confirm(
        self, made: Recorded, findings: tuple[s.Finding, ...], groups: tuple[s.Group, ...]
    ) -> tuple[tuple[s.Finding, ...], tuple[s.Group, ...]]:
        by_id = {one.id: one for one in made.points}
        told: dict[str, tuple[bool | None, str]] = {}
        for group in groups:
            again = self._rounds.ask_one(by_id[group.first], made.lasted_ms)
            confirmed = None if again.held is None else not again.held
            words = {True: "played again, and it failed again", False: "played again, and every promise held",
                     None: f"not reached again: {again.reason}"}  # fmt: skip
            told[group.first] = confirmed, words[confirmed]
            self.journal.record(s.PointConfirmed(point=group.first, confirmed=confirmed, detail=words[confirmed]))
        groups = tuple(msgspec.structs.replace(one, confirmed=told[one.first][0]) for one in groups)
        found = tuple(
            msgspec.structs.replace(one, confirmed=told[one.id][0], confirmation=told[one.id][1])
            if one.id in told
            else one
            for one in findings
        )
        return found, groups

    def _say_what_was_reached(self, answers: Sequence[Answered]) -> None:
        missed = [one for one in answers if one.held is None]
        detail = f"{len(answers)} rounds"
        if missed:
            first = f"{missed[0].point.id}: {missed[0].reason}"
            detail = f"{len(missed)} of {len(answers)} were not, or proved nothing; {first}"
        # Some that were not reached leave the others proven; where most were not, nothing is.
        self._checks.append(
            s.SelfCheck(name=REACHED, held=not missed, detail=detail, fatal=len(missed) * 2 > len(answers))
        )

    def _end(
        self,
        made: Recorded,
        findings: tuple[s.Finding, ...],
        groups: tuple[s.Group, ...],
        answers: Sequence[Answered],
    ) -> s.SearchResult:
        proven = [one for one in answers if one.held is not None]
        doubts = [f"{one.name}: {one.detail}" for one in self._checks if one.fatal and one.held is not True]
        if not proven:
            doubts = doubts or ["no crash point was tried"]
        real = [one for one in groups if one.confirmed is not False]
        verdict: s.Ending = "violated" if real else "unknown" if doubts or groups else "held"
        reasons = tuple(one.cause for one in real) or tuple(doubts)
        if groups and not real:
            reasons = (*reasons, "every finding was contradicted when its round was played again")
        for check in self._checks:
            self.journal.record(s.SelfChecked(check=check))
        self.journal.record(s.SearchEnded(verdict=verdict, reasons=reasons, findings=len(findings), groups=len(groups)))
        result = s.SearchResult(
            run=str(self.dir.path), verdict=verdict, reasons=reasons, level=LEVEL, model="kill",
            crash_points=len(made.points), distinct_states=len(made.points), checked=len(proven),
            left_out=self._left_out, acked=made.acked, operations=len(made.operations), findings=findings,
            groups=groups, seconds={**self._seconds, "total": round(time.monotonic() - self._began, 3)},
            self_checks=tuple(self._checks),
        )  # fmt: skip
        self.dir.write_result(result)
        return result

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = round(time.monotonic() - began, 3)

    def _first_line(self) -> s.SearchStarted:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
        return s.SearchStarted(
            run=self.dir.name, setting=self.setting, croupier=__version__, python=platform.python_version(),
            os=f"{platform.system()} {platform.release()} {platform.machine()}", user=user,
            wall_utc=datetime.now(UTC).isoformat(timespec="milliseconds"), argv=self.argv or tuple(sys.argv),
        )  # fmt: skip


def replay_in_a_round(found: SearchDir, point: s.CrashPoint) -> Replayed:
    """Play the round of a stored crash point again, with the experiment as it is now."""
    setting = found.started().setting
    experiment = load_experiment(Path(setting.experiment), catalogue(setting.plugins)).experiment
    answer = replay_round(found, point, experiment)
    return Replayed(
        point=point.id,
        shows=None if answer.held is None else not answer.held,
        reason=answer.reason,
        detail=f"a round with {point.state.rpartition(':')[0]} killed before that call",
        state=answer.path,
        live=True,
    )
