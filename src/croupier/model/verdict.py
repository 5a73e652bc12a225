"""The verdict: what a journal proves. `judge` reads events in order, once, and needs nothing else.

Violated beats unknown, and unknown beats held: a promise that was broken was broken, whatever else went wrong, and a
run that proved nothing says so. How the *run* ended is the outcome, and is kept apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from . import journal as j
from .noun import Noun
from .probe import INVARIANTS, Acks, Crashes, Probe, Recovery, Restarts
from .units import Under, read_quantity

Word = Literal["held", "unknown", "violated"]
EXIT_CODES: dict[Word, int] = {"held": 0, "violated": 1, "unknown": 4}


class Finding(Noun, frozen=True, kw_only=True):
    """One question and its answer, with where the evidence lies."""

    invariant: str
    kind: str
    held: bool | None
    detail: str = ""
    after_injection: int = 0
    """The injection that came before it; 0 for none."""
    at_us: int = 0
    look_at: str = ""
    """A path inside of the run directory."""


class InjectionRow(Noun, frozen=True, kw_only=True):
    """What became of one injection."""

    number: int
    due_us: int = 0
    late_us: int = 0
    fault: str = ""
    detail: str = ""
    targets: tuple[j.Struck, ...] = ()
    result: Literal["landed", "missed", "unsure", "refused", "rehearsed"] = "missed"
    why: str = ""
    took_us: int = 0
    healed_us: int = 0
    recovered_ms: float | None = None
    open: bool = False
    """Not recovered within the time that the experiment gives it."""


class RecoveryStats(Noun, frozen=True, kw_only=True):
    """How soon one process was ready again."""

    process: str
    times_ms: tuple[float, ...]
    mean_ms: float
    p95_ms: float
    worst_ms: float
    open: int
    """How many times it was not ready again at all."""


class Verdict(Noun, frozen=True, kw_only=True):
    """What held, and what it rests on."""

    verdict: Word
    outcome: j.Outcome
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    injections: tuple[InjectionRow, ...]
    recoveries: tuple[RecoveryStats, ...]
    landed: int
    missed: int
    refused: int
    unsure: int
    seed: int
    run: str
    title: str
    hypothesis: str
    acks: int
    restarts: dict[str, int]
    crashes: dict[str, int]
    started_utc: str
    lasted_us: int
    cut: bool
    unhealed: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()
    """What is not as it was before the round; it may be somebody else's doing, so the verdict does not rest on it."""
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 held, 1 violated, 4 unknown; 5 where something is still disturbed."""
        return 5 if self.unhealed else EXIT_CODES[self.verdict]


def judge(events: Iterable[j.Event]) -> Verdict:
    """Read a journal once, in order, and say what it proves. Memory grows with injections, not with events."""
    reading = _Reading()
    for event in events:
        reading.take(event)
    return reading.verdict()


def percentile(times: Sequence[float], share: int) -> float:
    """The nearest-rank percentile: the smallest value with at least `share` per cent at or below it; 0.0 of nothing."""
    if not times:
        return 0.0
    return sorted(times)[-(-len(times) * share // 100) - 1]


class _Reading:
    """What was read so far."""

    def __init__(self) -> None:
        self.started: j.RunStarted | None = None
        self.ended: j.RunEnded | None = None
        self.rows: dict[int, dict[str, Any]] = {}
        self.findings: list[Finding] = []
        self.questions: list[tuple[Probe, j.InvariantAsked]] = []
        self.times: dict[str, list[tuple[int, float]]] = {}
        self.never: dict[str, list[tuple[int, float]]] = {}
        self.restarts: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.crash_moments: dict[str, list[int]] = {}
        self.struck_roles: set[str] = set()
        self.doubts: list[str] = []
        self.notes: list[str] = []
        self.acks = 0
        self.last_landed = 0
        self.last_us = 0
        self.baseline: bool | None = None
        self.unverified: dict[int, str] = {}
        self.promised: j.Promised | None = None
        self.disturbed: Counter[tuple[int, str]] = Counter()
        self.gave_up: set[int] = set()

    def take(self, event: j.Event) -> None:
        self.last_us = max(self.last_us, event.at_us)
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def row(self, number: int) -> dict[str, Any]:
        return self.rows.setdefault(number, {"number": number})

    def on_started(self, event: j.RunStarted) -> None:
        self.started = event

    def on_due(self, event: j.Due) -> None:
        row = self.row(event.injection)
        row.setdefault("due_us", event.at_us)
        row.setdefault("late_us", event.late_us)

    def on_refused(self, event: j.InjectionRefused) -> None:
        row = self.row(event.injection)
        if row.get("result") != "landed":
            row.update(result="refused", why=f"{event.limit}: {event.reason}{f' ({event.hint})' if event.hint else ''}")

    def on_intended(self, event: j.Intended) -> None:
        row = self.row(event.injection)
        row.update(fault=event.fault, detail=event.detail)
        row["targets"] = (*row.get("targets", ()), *event.targets)
        # Until its outcome is read, it may have happened: a journal that was cut here cannot say.
        row.setdefault("result", "unsure")
        row.setdefault("why", "its outcome was not written down")
        row["cut"] = True

    def on_concluded(self, event: j.Concluded) -> None:
        row = self.row(event.injection)
        row.pop("cut", None)
        if event.rehearsed:
            row.update(result="rehearsed", why=event.detail)
            return
        if row.get("result") != "landed":
            row.update(result=event.result, why=event.detail, took_us=event.took_us)
        if event.result == "landed":
            self.last_landed = event.injection
            self.struck_roles |= {one.role for one in row.get("targets", ())}

    def on_healed(self, event: j.Healed) -> None:
        self.row(event.injection)["healed_us"] = event.at_us
        if event.verified:
            self.unverified.pop(event.injection, None)
        else:
            self.unverified[event.injection] = event.note or "not seen to be undone"

    def on_promised(self, event: j.Promised) -> None:
        self.promised = event

    def on_disturbed(self, event: j.Disturbed) -> None:
        self.disturbed[event.injection, event.process] += 1

    def on_recovered(self, event: j.Recovered) -> None:
        self.disturbed[event.injection, event.process] -= 1
        self.times.setdefault(event.process, []).append((event.injection, event.took_ms))
        row = self.row(event.injection)
        row["recovered_ms"] = max(row.get("recovered_ms") or 0.0, event.took_ms)

    def on_not_recovered(self, event: j.NotRecovered) -> None:
        self.disturbed[event.injection, event.process] -= 1
        if event.final:
            self.gave_up.add(event.injection)
        self.never.setdefault(event.process, []).append((event.injection, event.waited_ms))
        self.row(event.injection)["open"] = True

    def on_process_started(self, event: j.ProcessStarted) -> None:
        if event.attempt > 1:
            self.restarts[event.process] += 1

    def on_exit(self, event: j.ProcessExited) -> None:
        if event.cause in ("own", "oom"):
            self.crashes[event.process] += 1
            self.crash_moments.setdefault(event.process, []).append(event.at_us)

    def on_acks(self, event: j.Acknowledged) -> None:
        self.acks = max(self.acks, event.count)

    def on_workload_ended(self, event: j.WorkloadEnded) -> None:
        self.acks = max(self.acks, event.acks)

    def on_steady(self, event: j.SteadyStateRead) -> None:
        if event.when == "before":
            self.baseline = event.held
            if not event.held:
                self.doubts.append(f"the steady state did not hold before the round: {event.detail}")
            return
        self.findings.append(
            Finding(
                invariant="the steady state holds again",
                kind="steady-state",
                held=event.held,
                detail=event.detail,
                after_injection=self.last_landed,
                at_us=event.at_us,
            )
        )

    def on_guard(self, event: j.GuardTripped) -> None:
        self.doubts.append(f"the round was aborted: {event.reason}")

    def on_invariant(self, event: j.InvariantRead) -> None:
        self.findings.append(
            Finding(
                invariant=event.invariant,
                kind=event.kind,
                held=event.held,
                detail=event.detail,
                after_injection=self.last_landed if event.held is False else 0,
                at_us=event.at_us,
                look_at=event.look_at,
            )
        )

    def on_question(self, event: j.InvariantAsked) -> None:
        kinds: dict[str, Any] = {one.kind: one for one in INVARIANTS}
        try:
            self.questions.append((msgspec.convert(event.options, kinds[event.kind], dec_hook=read_quantity), event))
        except (KeyError, msgspec.ValidationError, ValueError) as problem:
            self.doubts.append(f"{event.invariant}: this croupier cannot answer it: {problem}")

    def on_note(self, event: j.Noted) -> None:
        (self.doubts if event.trouble else self.notes).append(event.text)

    def on_ended(self, event: j.RunEnded) -> None:
        self.ended = event

    # What it adds up to.

    def verdict(self) -> Verdict:
        rows = tuple(
            InjectionRow(**{key: value for key, value in self.rows[number].items() if key != "cut"})
            for number in sorted(self.rows)
        )
        findings = tuple(
            self.fair(one) for one in (*self.findings, *(self.answer(*question) for question in self.questions))
        )
        count: Counter[str] = Counter(row.result for row in rows)
        started = self.started
        word, reasons = self.weigh(findings, count)
        return Verdict(
            verdict=word,
            outcome=self.ended.outcome if self.ended else "aborted",
            reasons=reasons,
            findings=tuple(sorted(findings, key=lambda one: {False: 0, None: 1, True: 2}[one.held])),
            injections=rows,
            recoveries=self.recoveries(),
            landed=count["landed"],
            missed=count["missed"],
            refused=count["refused"],
            unsure=count["unsure"],
            seed=started.seed if started else 0,
            run=started.run if started else "",
            title=started.title if started else "",
            hypothesis=started.hypothesis if started else "",
            acks=self.acks,
            restarts=dict(self.restarts),
            crashes=dict(self.crashes),
            started_utc=started.wall_utc if started else "",
            lasted_us=self.last_us,
            cut=self.ended is None,
            unhealed=self.unhealed(),
            left_behind=self.ended.left_behind if self.ended else (),
            notes=tuple(self.notes),
        )

    def fair(self, finding: Finding) -> Finding:
        """A steady state that had less than its time to come back was not broken by that."""
        cut_short = self.ended is None or self.ended.outcome != "completed"
        if finding.kind != "steady-state" or finding.held is not False or not cut_short:
            return finding
        detail = f"the round was ended early, and it was not back yet: {finding.detail}"
        return msgspec.structs.replace(finding, held=None, detail=detail)

    def unanswered(self, findings: tuple[Finding, ...]) -> list[str]:
        """What was promised to be asked, and was not; what was disturbed, and never heard of again."""
        if self.promised is None:
            return []
        left = Counter(self.promised.invariants) - Counter(one.invariant for one in findings)
        never = [f"{name}: it was not asked" for name in left.elements()]
        if self.promised.steady and not any(one.kind == "steady-state" for one in findings):
            never.append("whether the steady state holds again was not asked")
        never += [
            f"what became of {process} after injection {number} was not written down"
            for (number, process), open_ in self.disturbed.items()
            if open_ > 0
        ]
        never += [
            f"injection {number} was about to be made, and its outcome was not written down"
            for number, row in self.rows.items()
            if row.get("cut")
        ]
        asked = {question.of for question, _ in self.questions if isinstance(question, Recovery)}
        never += [
            f"{process} was not ready again {waited / 1000:.1f} s after injection {number}"
            for process, times in self.never.items()
            if process not in asked
            for number, waited in times
        ]
        return never

    def weigh(self, findings: tuple[Finding, ...], count: Counter[str]) -> tuple[Word, tuple[str, ...]]:
        broken = [_sentence(one) for one in findings if one.held is False]
        unsure = [_sentence(one) for one in findings if one.held is None]
        doubts = _at_most(MOST_REASONS, [*self.doubts, *unsure, *self.unanswered(findings)])
        if self.started is not None and self.started.rehearsal:
            would = count["rehearsed"]
            rehearsal = f"this was a rehearsal: {would} injection{_s(would)} would have been made, none was"
            # Nothing was done to it, so what is broken was broken before; that is worth knowing, and no finding.
            return "unknown", (rehearsal, *(f"without any injection, {one}" for one in broken), *doubts)
        if not count["landed"] and self.baseline:
            refused = next((f": {row['why']}" for row in self.rows.values() if row.get("result") == "refused"), "")
            doubts.insert(0, f"nothing landed ({_tally(count)}), so nothing was proven{refused}")
        if self.baseline is None:
            why = f": {self.ended.why}" if self.ended and self.ended.why else ""
            doubts.insert(0, f"the round never came to its steady state{why}")
        elif self.promised is not None and self.ended is not None and self.ended.outcome == "stopped":
            made, planned = len(self.rows), self.promised.injections
            if made < planned:
                doubts.append(f"it was stopped before its end, when {made} of {planned} injections were due")
        if self.ended is None:
            doubts.append("the journal ends without its last line")
        elif self.ended.outcome == "aborted" and not any(self.ended.why in one for one in doubts):
            doubts.insert(0, f"the round was aborted: {self.ended.why}")
        doubts += [f"still disturbed: {one}" for one in self.unhealed()]
        if broken:
            return "violated", (*broken, *doubts)
        if not findings and self.baseline is not None:
            doubts.append("no invariant was asked")
        if doubts:
            return "unknown", tuple(doubts)
        landed = count["landed"]
        return "held", (f"every promise held after {landed} injection{_s(landed)} that landed",)

    def unhealed(self) -> tuple[str, ...]:
        ended = self.ended.unhealed if self.ended else ()
        return (*ended, *(f"injection {number}: {note}" for number, note in self.unverified.items()))

    def recoveries(self) -> tuple[RecoveryStats, ...]:
        stats = []
        for process in sorted(self.times.keys() | self.never.keys()):
            times = [took for _, took in self.times.get(process, ())]
            stats.append(
                RecoveryStats(
                    process=process,
                    times_ms=tuple(times),
                    mean_ms=sum(times) / len(times) if times else 0.0,
                    p95_ms=percentile(times, 95),
                    worst_ms=max(times, default=0.0),
                    open=len(self.never.get(process, ())),
                )
            )
        return tuple(stats)

    def answer(self, question: Probe, asked: j.InvariantAsked) -> Finding:
        match question:
            case Recovery():
                held, detail, after = self.answer_recovery(question)
            case Restarts():
                held, detail, after = self.answer_restarts(question)
            case Crashes():
                held, detail, after = self.answer_crashes(question)
            case Acks():
                enough = self.acks >= question.at_least
                held, after = (True if enough else None), 0
                detail = f"{self.acks} acknowledgements, {question.at_least} needed to prove anything"
            case _:
                held, detail, after = None, f"no answer is known to {question.kind!r}", 0
        return Finding(
            invariant=asked.invariant,
            kind=asked.kind,
            held=held,
            detail=detail,
            after_injection=after,
            at_us=asked.at_us,
        )

    def answer_recovery(self, asked: Recovery) -> tuple[bool | None, str, int]:
        never = self.never.get(asked.of, ())
        if never:
            number, waited = max(never, key=lambda one: one[1])
            gave_up = any(number in self.gave_up for number, _ in never)
            bounds = [] if gave_up else [one for one in (asked.every, asked.mean, asked.p95) if one is not None]
            if bounds and all(one.holds(waited) for one in bounds):
                # It was not waited for as long as it was promised to take.
                return (
                    None,
                    f"{asked.of} was not back yet {waited / 1000:.1f} s after injection {number}, at the end",
                    number,
                )
            return False, f"{asked.of} was not ready again {waited / 1000:.1f} s after injection {number}", number
        timed = self.times.get(asked.of, ())
        if not timed:
            return None, f"no injection landed on {asked.of}, so nothing is known of its recovery", 0
        times = [took for _, took in timed]
        number, worst = max(timed, key=lambda one: one[1])
        figures: tuple[tuple[str, Under | None, float], ...] = (
            ("the slowest", asked.every, worst),
            ("the mean", asked.mean, sum(times) / len(times)),
            ("the 95th percentile", asked.p95, percentile(times, 95)),
        )
        for word, bound, value in figures:
            if bound is not None and not bound.holds(value):
                return False, f"{word} of {len(times)} recoveries took {value:.0f} ms, promised was {bound}", number
        said = ", ".join(f"{word} {value:.0f} ms" for word, bound, value in figures if bound is not None)
        return True, f"{len(times)} recoveries: {said}", 0

    def answer_restarts(self, asked: Restarts) -> tuple[bool | None, str, int]:
        count = self.restarts[asked.of]
        held = (asked.at_most is None or count <= asked.at_most) and (asked.at_least is None or count >= asked.at_least)
        return held, f"{asked.of} was restarted {count} time{_s(count)}", 0 if held else self.last_landed

    def answer_crashes(self, asked: Crashes) -> tuple[bool | None, str, int]:
        moments = self.crash_moments.get(asked.of, [])
        count = len(moments)
        if asked.at_most is not None and count > asked.at_most:
            return False, f"{asked.of} died {count} time{_s(count)} of its own", self.last_landed
        if asked.rate is not None and exceeds(moments, asked.rate.count, asked.rate.per_ms * 1000):
            return False, f"{asked.of} died of its own more than {asked.rate}", self.last_landed
        return True, f"{asked.of} died {count} time{_s(count)} of its own", 0


def exceeds(moments: Sequence[int], count: int, window: int) -> bool:
    """Whether more than `count` of the sorted moments lie within any `window` (same unit)."""
    return any(moments[at] - moments[at - count] <= window for at in range(count, len(moments)))


MOST_REASONS = 100


def _at_most(most: int, said: list[str]) -> list[str]:
    """Each reason once, and not more than a person reads."""
    different = list(dict.fromkeys(said))
    rest = len(different) - most
    return different if rest <= 0 else [*different[:most], f"and {rest} more"]


def _sentence(finding: Finding) -> str:
    came_before = f" (after injection {finding.after_injection})" if finding.after_injection else ""
    state = {False: "broken", None: "cannot be told", True: "held"}[finding.held]
    return f"{finding.invariant}: {finding.detail or state}{came_before}"


def _tally(count: Counter[str]) -> str:
    said = [f"{count[word]} {word}" for word in ("missed", "refused", "unsure") if count[word]]
    return ", ".join(said) or "no injection was due"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


_HANDLERS: dict[type[j.Event], Any] = {
    j.RunStarted: _Reading.on_started,
    j.Due: _Reading.on_due,
    j.InjectionRefused: _Reading.on_refused,
    j.Intended: _Reading.on_intended,
    j.Concluded: _Reading.on_concluded,
    j.Healed: _Reading.on_healed,
    j.Promised: _Reading.on_promised,
    j.Disturbed: _Reading.on_disturbed,
    j.Recovered: _Reading.on_recovered,
    j.NotRecovered: _Reading.on_not_recovered,
    j.ProcessStarted: _Reading.on_process_started,
    j.ProcessExited: _Reading.on_exit,
    j.Acknowledged: _Reading.on_acks,
    j.WorkloadEnded: _Reading.on_workload_ended,
    j.SteadyStateRead: _Reading.on_steady,
    j.GuardTripped: _Reading.on_guard,
    j.InvariantRead: _Reading.on_invariant,
    j.InvariantAsked: _Reading.on_question,
    j.Noted: _Reading.on_note,
    j.RunEnded: _Reading.on_ended,
}
