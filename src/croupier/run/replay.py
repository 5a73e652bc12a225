"""Replay, honestly: the same recorded decisions again, and where the world diverged.

A seed fixes the plan, not what the operating system does next. So each injection of the new run is set beside the one
of the old run, and whatever landed differently is named.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model import journal as j
from ..model.errors import ReplayError
from ..model.noun import Noun
from ..model.plan import Plan, digest, plan_json
from ..model.verdict import Finding, InjectionRow, Verdict, judge
from ..model.wire import decode_plan
from ..registry import Catalogue
from ..store import RunDir


class Divergence(Noun, frozen=True, kw_only=True):
    """One thing that came out differently; `injection` is 0 for the run as a whole."""

    injection: int
    what: str
    then: str
    now: str


def recorded_plan(run: RunDir, catalogue: Catalogue) -> Plan:
    """The plan of a stored run. Raises ReplayError where it is missing, or is not the one its journal speaks of."""
    try:
        data = run.plan.read_bytes()
    except OSError as problem:
        raise ReplayError(f"the plan cannot be read: {problem.strerror}", at=str(run.plan)) from problem
    plan = decode_plan(data, catalogue)
    first = next(run.events(), None)
    if isinstance(first, j.RunStarted) and first.plan_digest != digest(plan_json(plan)):
        raise ReplayError(
            "the plan is not the one that its journal speaks of",
            at=str(run.plan),
            hint="it was changed after the run; `croupier run` draws a fresh one from the experiment",
        )
    return plan


def compare(then: Iterable[j.Event], now: Iterable[j.Event]) -> tuple[Divergence, ...]:
    """Set two journals of one plan side by side: verdicts, then each injection's result and whom it hit."""
    before, after = judge(then), judge(now)
    return (*_whole(before, after), *_each(before, after))


def _whole(before: Verdict, after: Verdict) -> Iterable[Divergence]:
    pairs = (("verdict", before.verdict, after.verdict), ("outcome", before.outcome, after.outcome))
    for what, then, now in pairs:
        if then != now:
            yield Divergence(injection=0, what=what, then=then, now=now)
    answers_then = {one.invariant: one for one in before.findings}
    answers_now = {one.invariant: one for one in after.findings}
    for name in dict.fromkeys((*answers_then, *answers_now)):
        was, is_ = _answer(answers_then.get(name)), _answer(answers_now.get(name))
        if was != is_:
            yield Divergence(injection=0, what=name, then=was, now=is_)


def _each(before: Verdict, after: Verdict) -> Iterable[Divergence]:
    rows_then = {row.number: row for row in before.injections}
    rows_now = {row.number: row for row in after.injections}
    for number in sorted(rows_then.keys() | rows_now.keys()):
        then, now = rows_then.get(number), rows_now.get(number)
        if then is None or now is None:
            yield Divergence(injection=number, what="was due", then="yes" if then else "no", now="yes" if now else "no")
            continue
        if then.result != now.result:
            yield Divergence(injection=number, what="result", then=_result(then), now=_result(now))
        if then.targets and now.targets and _roles(then) != _roles(now):
            yield Divergence(injection=number, what="target", then=_roles(then), now=_roles(now))


def _answer(finding: Finding | None) -> str:
    return "not asked" if finding is None else {True: "held", False: "broken", None: "not to be told"}[finding.held]


def _result(row: InjectionRow) -> str:
    return f"{row.result} ({row.why})" if row.why else row.result


def _roles(row: InjectionRow) -> str:
    """Whom it hit, by role and rank: pids never repeat, so they are no divergence."""
    said = (
        f"{one.role or one.name}{'' if one.main else '/' + one.name} no. {one.rank + 1} of {one.of}"
        for one in row.targets
    )
    return ", ".join(said)
