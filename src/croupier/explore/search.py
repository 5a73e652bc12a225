"""A search from its beginning to its end: record, check each distinct state, confirm by real kills, group, store."""

from __future__ import annotations

import getpass
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .. import __version__
from ..model import search as s
from ..model.errors import CroupierError, ExperimentError
from ..model.grouping import Failing, group_findings
from ..snapshot import Recorder, Store
from ..store.journal import JournalWriter
from ..store.searches import SearchDir, new_search_dir
from ..system.clock import now_us
from ..system.commands import run_command
from ..trace.levels import SAID, better_than
from . import controls, power, stacks
from .asking import Answer, Asker, Function, Job, Pool
from .deeper import recoveries
from .place import Place
from .recording import Recording, acknowledged, kill_at, record, restart

_TRIES = 3
_MEMBERS = 3
Progress = Callable[[str, int, int], None]
Key = tuple[str, int]
"""A question to the check: the state, and how many bytes had been printed."""


class Search:
    """One search. `run` does it all and returns what it came to."""

    def __init__(
        self,
        setting: s.Setting,
        out: Path,
        argv: Sequence[str] = (),
        progress: Progress | None = None,
        function: Function | None = None,
    ) -> None:
        self.setting = setting
        self.dir = new_search_dir(out, setting.title)
        self.argv = tuple(argv)
        self.function = function
        self.progress = progress or (lambda phase, done, total: None)
        self.seconds: dict[str, float] = {}
        self.self_checks: list[s.SelfCheck] = []
        self.answers: dict[Key, Answer] = {}
        self.points: list[s.CrashPoint] = []
        self.left_out = 0
        self.stacks: dict[str, tuple[str, ...]] = {}
        self.spent = False
        self._began = time.monotonic()

    def run(self) -> s.SearchResult:
        """Do the search. Raises CroupierError where it cannot be done; what was found by then is in the journal."""
        self.journal = JournalWriter(self.dir.journal, now_us())
        self._tell(self._first_line())
        try:
            with Place(self.setting) as place, _closing(Store(self.dir.states)) as store:
                self.store = store
                result = self._search(place)
        except CroupierError as problem:
            self._tell(s.SearchEnded(verdict="unknown", reasons=(problem.message,)))
            raise
        finally:
            self.journal.close()
        return result

    # -- the phases ----------------------------------------------------------------------------------------------------

    def _search(self, place: Place) -> s.SearchResult:
        with self._phase("setup"):
            place.copy_given()
            set_up(place)
        with self._phase("record"):
            self.progress("record", 0, 0)
            powered = self.setting.model != "kill"
            self.recording = record(place, self.store, keep_data=powered or self.setting.torn)
            self._list_points()
        if not self._worth_checking():
            return self._end((), ())
        asks = Pool(place, self.store, self.dir.output, self.recording.final, self.function)
        try:
            with self._phase("check"):
                self._check(asks, self.points)
            if self.setting.depth > 1:
                with self._phase("depth 2"):
                    self._go_deeper(place, asks)
            with self._phase("controls"):
                self._control(asks)
            findings, groups = self._findings()
            with self._phase("confirm"):
                groups, confirmed = self._confirm(place, asks, groups)
        finally:
            asks.close()
        findings = tuple(_with_stack(_with_confirmation(one, confirmed), self.stacks) for one in findings)
        return self._end(findings, groups)

    def _list_points(self) -> None:
        made = self.recording
        if self.setting.model == "kill":
            self.points = list(made.points(self.store, with_torn=self.setting.torn))
            self.left_out = made.torn_left_out
        else:
            spread = power.points(made, self.store, self.setting)
            self.points, self.left_out = spread.points, spread.left_out
            self.self_checks += spread.self_checks
        self.dir.write_operations(made.operations)
        self.dir.write_points(self.points)
        self.dir.output.write_bytes(made.output)
        self.store.flush()
        traced = made.traced
        assert traced is not None
        self._tell(
            s.Recorded(
                level=self.level,
                operations=len(made.operations),
                points=len(self.points),
                distinct=len({_key(one) for one in self.points}),
                acked=made.output.count(b"\n"),
                code=traced.code,
                signal=str(traced.signal or ""),
                blind=traced.blind,
            )
        )

    @property
    def level(self) -> str:
        """How the workload was watched."""
        traced = self.recording.traced
        name = traced.level if traced else "none"
        above = "; ".join(f"{one.name} does not work here: {one.detail}" for one in better_than(name))
        return SAID[name] + (f" ({above})" if above and self.setting.level == "auto" else "")

    def _worth_checking(self) -> bool:
        self.self_checks += controls.of_recording(self.recording, self.setting)
        return not any(one.name == controls.CHANGES and one.held is False for one in self.self_checks)

    def _check(self, asks: Asker, points: Sequence[s.CrashPoint]) -> None:
        fresh: dict[Key, s.CrashPoint] = {}
        for one in points:
            if _key(one) not in self.answers:
                fresh.setdefault(_key(one), one)
        budget = self.setting.budget
        order = list(fresh)
        if budget is not None:
            # A budget that ends early should have seen something of everything.
            order = [order[place] for place in spread(len(order))]
            if budget.states is not None:
                allowed = max(0, budget.states - len(self.answers))
                self.spent = self.spent or len(order) > allowed
                self.left_out += max(0, len(order) - allowed)
                order = order[:allowed]
        same = Counter(_key(one) for one in points)
        until = None if budget is None or budget.ms is None else self._began + budget.ms / 1000
        asked = 0

        def jobs() -> Iterator[Job]:
            nonlocal asked
            for number, key in enumerate(order):
                if until is not None and time.monotonic() > until:
                    self.spent = True
                    return
                asked += 1
                yield Job(number, *key)

        for done, answer in enumerate(asks.ask(jobs()), start=1):
            key = order[answer.number]
            self.answers[key] = answer
            self._tell(
                s.StateChecked(
                    point=fresh[key].id,
                    held=answer.held,
                    reason=answer.reason,
                    took_ms=round(answer.took_ms, 3),
                    same=same[key] - 1,
                )
            )
            self.progress("check", done, len(order))
        self.left_out += len(order) - asked

    def _go_deeper(self, place: Place, asks: Asker) -> None:
        """A crash during recovery: on each state that recovered, every moment of the check is a crash point."""
        parents: dict[Key, s.CrashPoint] = {}
        for one in self.points:
            answer = self.answers.get(_key(one))
            if answer is not None and answer.held:
                parents.setdefault(_key(one), one)
        seen = set(self.answers)
        budget = self.setting.budget
        until = None if budget is None or budget.ms is None else self._began + budget.ms / 1000
        most = None if budget is None or budget.states is None else budget.states
        found: list[s.CrashPoint] = []
        order = list(parents.values())
        for done, place_ in enumerate(spread(len(order)) if budget else range(len(order)), start=1):
            over = (until is not None and time.monotonic() > until) or (most is not None and len(seen) >= most)
            if over:
                self.spent = True
                self.left_out += len(order) - done + 1
                break
            parent = order[place_]
            output = bytes(self.recording.output[: parent.acked])
            for point in recoveries(place, self.store, parent, output):
                if _key(point) not in seen:
                    seen.add(_key(point))
                    found.append(point)
            self.progress("depth 2", done, len(order))
        self.points += found
        self.dir.write_points(self.points)
        self.store.flush()
        self._check(asks, found)

    def _control(self, asks: Asker) -> None:
        checked = [one for one in self.points if _key(one) in self.answers]
        self.self_checks += controls.of_answers(
            self.recording, self.store, asks, checked, {key: one.held for key, one in self.answers.items()}, self.spent
        )

    def _findings(self) -> tuple[tuple[s.Finding, ...], tuple[s.Group, ...]]:
        checked = [one for one in self.points if _key(one) in self.answers]
        failing = [
            Failing(point=one, reason=self.answers[_key(one)].reason)
            for one in checked
            if not self.answers[_key(one)].held
        ]
        told: dict[Key, Failing] = {}
        for one in failing:
            told.setdefault(_key(one.point), one)
        ids = {one.point.id for one in told.values()}
        groups = []
        home: dict[str, int] = {}
        made = sorted(
            (
                msgspec.structs.replace(group, points=mine, count=len(mine), first=mine[0])
                for group in group_findings(failing, checked, self.recording.operations)
                if (mine := tuple(one for one in group.points if one in ids))
            ),
            key=lambda group: -group.count,
        )
        reasons = {one.point.id: one.reason for one in told.values()}
        for number, group in enumerate(made, start=1):
            groups.append(msgspec.structs.replace(group, number=number, reason=reasons[group.first]))
            home.update(dict.fromkeys(group.points, number))
        return tuple(self._finding(one, home[one.point.id]) for one in told.values()), tuple(groups)

    def _finding(self, one: Failing, group: int) -> s.Finding:
        operations, point = self.recording.operations, one.point
        after = operations[point.after - 1] if 0 < point.after <= len(operations) else None
        before = operations[point.after] if point.after < len(operations) else None
        return s.Finding(
            id=point.id,
            after=s.step(after) if after else None,
            before=s.step(before) if before else None,
            cut=point.cut,
            acked=self.recording.output[: point.acked].count(b"\n"),
            reason=one.reason,
            group=group,
            lost=point.lost,
        )

    def _confirm(
        self, place: Place, asks: Asker, groups: Sequence[s.Group]
    ) -> tuple[tuple[s.Group, ...], dict[str, tuple[bool | None, str]]]:
        """Kill for real at the first finding of each group; where that contradicts it, or misses, at the next ones."""
        by_id = {one.id: one for one in self.points}
        found: dict[str, tuple[bool | None, str]] = {}
        told = []
        for done, group in enumerate(groups, start=1):
            best = group.first
            for name in group.points[:_MEMBERS]:
                found[name] = confirmed, detail = self._confirm_one(place, asks, by_id[name])
                self._tell(s.PointConfirmed(point=name, confirmed=confirmed, detail=detail))
                if confirmed:
                    best = name
                if confirmed or by_id[name].model != "kill" or by_id[name].parent:
                    break
            told.append(msgspec.structs.replace(group, first=best, confirmed=found[best][0]))
            self.progress("confirm", done, len(groups))
        self._say_how_kills_landed(place, groups, found)
        return tuple(told), found

    def _say_how_kills_landed(
        self, place: Place, groups: Sequence[s.Group], found: dict[str, tuple[bool | None, str]]
    ) -> None:
        if self.setting.model != "kill" or not groups:
            self._aim_once(place)
            return
        missed = [detail for confirmed, detail in found.values() if confirmed is None and detail.startswith("not")]
        detail = missed[0] if missed else f"{len(found)} of {len(found)}"
        self.self_checks.append(s.SelfCheck(name=controls.AIM, held=not missed, detail=detail, fatal=False))

    def _confirm_one(self, place: Place, asks: Asker, point: s.CrashPoint) -> tuple[bool | None, str]:
        if point.model != "kill":
            self._take_stack(place, point)
            return None, "a power cut is a model: no process kill loses what was not synced"
        if point.parent:
            return None, "a crash during recovery, taken from a watched run of the check"
        if place.level == "clock":
            return True, "its state is what a real kill left"
        why = ""
        for _ in range(_TRIES):
            restart(place, self.store, self.recording.initial)
            aimed = kill_at(place, self.recording.operations, point.after, point.cut, with_stack=True)
            if aimed.stack:
                self.stacks[point.id] = aimed.stack
            if not aimed.landed:
                why = f"not reached again: {aimed.why_not}"
                continue
            state = Recorder(place.state, self.store).full()
            same = state == point.state
            _, held, reason, _ = asks.ask_with(state, bytes(aimed.output[: acknowledged(aimed.output)]))
            if not held:
                return True, "killed for real there, and it failed" + ("" if same else ", on a state of other bytes")
            why = (
                f"killed for real there, and the check passed{'' if same else ', on a state of other bytes'}: {reason}"
            )
            if same and place.level != "events":
                return False, why
        if place.level == "events":
            # The n-th look is another moment each time; what was found there was on the disk all the same.
            return None, f"its state was on the disk while the workload stood still; {why}"
        return (False, why) if not why.startswith("not") else (None, why)

    def _take_stack(self, place: Place, point: s.CrashPoint) -> None:
        """Where in the program the call is made before which the power was cut; its own run, killed there."""
        if not stacks.tool() or place.level not in ("seccomp", "ptrace"):
            return
        restart(place, self.store, self.recording.initial)
        self.stacks[point.id] = kill_at(place, self.recording.operations, point.after, None, with_stack=True).stack

    def _aim_once(self, place: Place) -> None:
        """Nothing to confirm: still show that a kill lands where it is aimed, on the state that was recorded."""
        made = self.recording
        inside = [one.index for one in made.operations if one.path and one.call != "mmap-store"]
        if not inside or place.level in ("events", "clock"):
            return
        after = inside[len(inside) // 2] - 1
        restart(place, self.store, made.initial)
        aimed = kill_at(place, made.operations, after, None)
        same = aimed.landed and Recorder(place.state, self.store).full() == made.states[after]
        detail = f"before operation {after + 1}: " + (
            "the state is the recorded one"
            if same
            else aimed.why_not
            or "the state has other bytes than the recorded one, as of a program that draws or times some"
        )
        self.self_checks.append(s.SelfCheck(name=controls.AIM, held=aimed.landed, detail=detail, fatal=False))

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self, findings: tuple[s.Finding, ...], groups: tuple[s.Group, ...]) -> s.SearchResult:
        verdict, reasons = controls.verdict(findings, groups, self.self_checks, self.answers.values())
        for one in self.self_checks:
            self._tell(s.SelfChecked(check=one))
        self._tell(s.SearchEnded(verdict=verdict, reasons=reasons, findings=len(findings), groups=len(groups)))
        result = s.SearchResult(
            run=str(self.dir.path),
            verdict=verdict,
            reasons=reasons,
            level=self.level,
            model=self.setting.model,
            crash_points=len(self.points),
            distinct_states=len({_key(one) for one in self.points}),
            checked=len(self.answers),
            left_out=self.left_out,
            acked=self.recording.lines,
            operations=len(self.recording.operations),
            findings=findings,
            groups=groups,
            seconds={**self.seconds, "total": round(time.monotonic() - self._began, 3)},
            self_checks=tuple(self.self_checks),
        )
        self.dir.write_result(result)
        return result

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 3)

    def _tell(self, event: s.AnySearchEvent) -> None:
        self.journal.record(event)

    def _first_line(self) -> s.SearchStarted:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
        return s.SearchStarted(
            journal=s.SEARCH_VERSION,
            run=self.dir.name,
            setting=self.setting,
            croupier=__version__,
            python=platform.python_version(),
            os=f"{platform.system()} {platform.release()} {platform.machine()}",
            user=user,
            wall_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
            argv=self.argv or tuple(sys.argv),
        )


def set_up(place: Place) -> None:
    """Let the user's command prepare the state, unwatched. Raises ExperimentError where it does not."""
    setting = place.setting
    if not setting.setup:
        return
    done = run_command(
        place.command(setting.setup),
        env=place.environment(),
        cwd=str(place.state),
        within_ms=setting.timeout_ms,
    )
    if done.failed or done.code != 0:
        lines = done.output.strip().splitlines()
        why = done.failed or ("it took too long" if done.timed_out else f"it ended with {done.code or done.signal}")
        raise ExperimentError(f"the setup did not work: {why}", at="--setup", hint=lines[-1] if lines else "")


def spread(count: int) -> Iterator[int]:
    """Every place below `count` once, such that any beginning of the sequence is spread over the whole range."""
    bits = max(count - 1, 0).bit_length()
    for nth in range(1 << bits if count else 0):
        place = int(f"{nth:0{bits}b}"[::-1], 2) if bits else 0
        if place < count:
            yield place


def recorded(found: SearchDir) -> tuple[s.Setting, list[s.Operation], list[s.CrashPoint]]:
    """What a stored search was asked, and what it recorded."""
    return found.started().setting, found.read_operations(), found.read_points()


def _key(point: s.CrashPoint) -> Key:
    return point.state, point.acked


def _with_confirmation(finding: s.Finding, confirmed: dict[str, tuple[bool | None, str]]) -> s.Finding:
    if finding.id not in confirmed:
        return finding
    answer, detail = confirmed[finding.id]
    return msgspec.structs.replace(finding, confirmed=answer, confirmation=detail)


def _with_stack(finding: s.Finding, found: dict[str, tuple[str, ...]]) -> s.Finding:
    """The stack belongs to the call that was about to be made."""
    if not found.get(finding.id) or finding.before is None:
        return finding
    return msgspec.structs.replace(finding, before=msgspec.structs.replace(finding.before, stack=found[finding.id]))


@contextmanager
def _closing(store: Store) -> Iterator[Store]:
    try:
        yield store
    finally:
        store.close()


__all__ = ["Iterable", "Recording", "Search", "recorded", "spread"]
