"""What a journal proves: violated beats unknown, unknown beats held, and a run that proved nothing says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model import journal as j
from croupier.model.target import Identity
from croupier.model.verdict import exceeds, judge, percentile

WHO = Identity(pid=100, started=1)


def started(**changes: object) -> j.RunStarted:
    said: dict[str, object] = {
        "journal": 1, "run": "a/b", "title": "t", "hypothesis": "h", "seed": 0, "blast_radius": "local",
        "live": False, "rehearsal": False, "croupier": "0", "python": "3", "os": "Linux", "host": "h", "boot": "b",
        "user": "u", "pid": 1, "argv": (), "experiment_file": "e.yaml", "experiment_digest": "d",
        "plan_digest": "p", "environment_digest": "e", "wall_utc": "2026-01-01T00:00:00.000+00:00",
    }  # fmt: skip
    return j.RunStarted(**{**said, **changes})  # type: ignore[arg-type]


def struck(role: str = "web") -> j.Struck:
    return j.Struck(who=WHO, role=role, name=role, main=True, rank=0, of=1)


def landed(number: int = 1, role: str = "web") -> list[j.Event]:
    return [
        j.Due(injection=number),
        j.Intended(injection=number, fault="kill", detail="kill", targets=(struck(role),)),
        j.Concluded(injection=number, result="landed", took_us=300),
    ]


def a_run(*middle: j.Event, outcome: j.Outcome = "completed", first: j.RunStarted | None = None) -> list[j.Event]:
    return [
        first or started(),
        j.SteadyStateRead(when="before", held=True),
        *middle,
        j.RunEnded(outcome=outcome),
    ]


HELD = j.InvariantRead(invariant="nothing is lost", kind="command", held=True)
LOST = j.InvariantRead(invariant="nothing is lost", kind="command", held=False, detail="3 notes are gone")
UNSURE = j.InvariantRead(invariant="nothing is lost", kind="command", held=None, detail="locked")


def test_a_run_in_which_something_landed_and_every_invariant_held_is_held():
    verdict = judge(a_run(*landed(), HELD))
    assert (verdict.verdict, verdict.outcome, verdict.exit_code, verdict.landed) == ("held", "completed", 0, 1)


def test_a_broken_invariant_is_a_violation_and_names_the_injection_before_it():
    verdict = judge(a_run(*landed(1), *landed(2), LOST))
    assert (verdict.verdict, verdict.exit_code) == ("violated", 1)
    assert verdict.findings[0].after_injection == 2
    assert "3 notes are gone" in verdict.reasons[0] and "injection 2" in verdict.reasons[0]


@pytest.mark.parametrize(
    "middle", [(UNSURE, LOST), (LOST, UNSURE), (LOST, j.Noted(text="evidence is gone", trouble=True))]
)
def test_violated_beats_unknown(middle):
    assert judge(a_run(*landed(), *middle)).verdict == "violated"


@pytest.mark.parametrize(
    "events",
    [
        a_run(HELD),
        a_run(j.Due(injection=1), j.Concluded(injection=1, result="missed"), HELD),
        a_run(j.Due(injection=1), j.Concluded(injection=1, result="unsure"), HELD),
        a_run(j.Due(injection=1), j.InjectionRefused(injection=1, limit="deny", reason="no"), HELD),
    ],
    ids=["nothing was due", "all missed", "all unsure", "all refused"],
)
def test_a_run_in_which_nothing_landed_proves_nothing(events):
    verdict = judge(events)
    assert (verdict.verdict, verdict.exit_code) == ("unknown", 4)
    assert "nothing landed" in verdict.reasons[0]


def test_an_injection_whose_outcome_was_cut_off_is_unsure_and_not_missed():
    verdict = judge([started(), j.SteadyStateRead(when="before", held=True), *landed()[:2]])
    assert verdict.injections[0].result == "unsure" and verdict.cut and verdict.verdict == "unknown"


def test_a_baseline_that_was_not_met_is_unknown_and_not_held():
    events = [
        started(),
        j.SteadyStateRead(when="before", held=False, detail="no answer"),
        j.RunEnded(outcome="aborted"),
    ]
    verdict = judge(events)
    assert verdict.verdict == "unknown" and "no answer" in verdict.reasons[0]


@pytest.mark.parametrize(
    "weakness",
    [
        UNSURE,
        j.Noted(text="the workload died", trouble=True),
        j.GuardTripped(guard="http", reason="15 s without an answer"),
    ],
)
def test_missing_evidence_is_unknown(weakness):
    assert judge(a_run(*landed(), HELD, weakness)).verdict == "unknown"


def test_a_run_without_an_invariant_is_unknown():
    assert judge(a_run(*landed())).verdict == "unknown"


def test_a_rehearsal_is_unknown_and_says_what_would_have_been_done():
    rehearsed = j.Concluded(injection=1, result="missed", rehearsed=True)
    verdict = judge(a_run(j.Due(injection=1), rehearsed, HELD, first=started(rehearsal=True)))
    assert verdict.verdict == "unknown" and "rehearsal: 1 injection would" in verdict.reasons[0]


def test_a_steady_state_that_does_not_come_back_is_a_violation():
    verdict = judge(a_run(*landed(), HELD, j.SteadyStateRead(when="after", held=False, detail="status 503")))
    assert verdict.verdict == "violated" and "status 503" in verdict.reasons[0]


def test_a_stopped_run_is_judged_by_what_there_is_and_its_outcome_kept_apart():
    verdict = judge(a_run(*landed(), HELD, outcome="stopped"))
    assert (verdict.verdict, verdict.outcome) == ("held", "stopped")


def test_something_still_disturbed_ends_with_5_until_it_is_healed():
    bad, good = j.Healed(injection=1, verified=False, note="still stopped"), j.Healed(injection=1, verified=True)
    assert judge(a_run(*landed(), bad, HELD)).exit_code == 5
    assert judge(a_run(*landed(), bad, good, HELD)).exit_code == 0


# Questions to the journal.


def asked(kind: str, **options: object) -> j.InvariantAsked:
    return j.InvariantAsked(invariant=f"{kind} is fine", kind=kind, options={"probe": kind, **options})


def recovered(number: int, ms: float) -> j.Recovered:
    return j.Recovered(injection=number, process="web", took_ms=ms)


@pytest.mark.parametrize(
    ("bounds", "times", "word"),
    [
        ({"every": "< 5s"}, [100, 4_999], "held"),
        ({"every": "< 5s"}, [100, 5_000], "violated"),
        ({"every": "<= 5s"}, [5_000], "held"),
        ({"mean": "< 1s"}, [500, 1_600], "violated"),
        ({"p95": "< 1s"}, [*[10] * 19, 9_000], "held"),
        ({"p95": "< 1s"}, [*[10] * 9, 9_000], "violated"),
    ],
)
def test_recovery_times_are_held_against_their_bounds(bounds, times, word):
    events = [one for number, ms in enumerate(times, 1) for one in (*landed(number), recovered(number, ms))]
    assert judge(a_run(*events, asked("recovery", of="web", **bounds))).verdict == word


def test_a_process_that_never_came_back_violates_every_bound_and_names_the_injection():
    never = j.NotRecovered(injection=2, process="web", waited_ms=30_000)
    verdict = judge(a_run(*landed(1), recovered(1, 5), *landed(2), never, asked("recovery", of="web", every="< 5s")))
    assert verdict.verdict == "violated" and verdict.findings[0].after_injection == 2
    assert verdict.recoveries[0].open == 1


def test_recovery_of_a_process_that_nothing_landed_on_cannot_be_told():
    assert judge(a_run(*landed(), HELD, asked("recovery", of="db", every="< 5s"))).verdict == "unknown"


def test_restarts_and_crashes_are_counted_and_a_death_by_injection_is_no_crash():
    died = [
        j.ProcessExited(process="web", who=WHO, cause="injected", signal="KILL", injection=1),
        j.ProcessExited(process="web", who=WHO, cause="own", code=1),
        j.ProcessStarted(process="web", who=WHO, attempt=1),
        j.ProcessStarted(process="web", who=WHO, attempt=2),
        j.ProcessStarted(process="web", who=WHO, attempt=3),
    ]
    verdict = judge(
        a_run(*landed(), *died, asked("restarts", of="web", at_most=2), asked("crashes", of="web", at_most=1))
    )
    assert (verdict.verdict, verdict.restarts, verdict.crashes) == ("held", {"web": 2}, {"web": 1})
    assert judge(a_run(*landed(), *died, asked("restarts", of="web", at_most=1))).verdict == "violated"
    assert judge(a_run(*landed(), *died, asked("crashes", of="web", at_most=0))).verdict == "violated"


def test_too_few_acknowledgements_prove_nothing():
    few = [*landed(), j.Acknowledged(count=3), asked("acks", at_least=10)]
    assert judge(a_run(*few)).verdict == "unknown"
    assert judge(a_run(*few, j.WorkloadEnded(asked=True, code=0, acks=10))).verdict == "held"


PROMISED = j.Promised(invariants=("nothing is lost",))
STEADY = j.SteadyStateRead(when="after", held=True)


def test_what_was_promised_and_not_asked_was_not_proven():
    assert judge(a_run(PROMISED, *landed(), STEADY, HELD)).verdict == "held"
    halted = judge(a_run(PROMISED, *landed(), STEADY, outcome="stopped"))
    assert halted.verdict == "unknown" and "nothing is lost: it was not asked" in halted.reasons
    assert judge(a_run(PROMISED, *landed(), HELD)).verdict == "unknown"


def test_a_disturbance_that_was_not_heard_of_again_is_a_doubt():
    down = j.Disturbed(injection=1, process="web")
    assert judge(a_run(PROMISED, *landed(), down, STEADY, HELD)).verdict == "unknown"
    assert judge(a_run(PROMISED, *landed(), down, recovered(1, 5), STEADY, HELD)).verdict == "held"


def test_a_process_that_stayed_down_without_a_promise_about_it_is_a_doubt():
    down = [j.Disturbed(injection=1, process="web"), j.NotRecovered(injection=1, process="web", waited_ms=30_000)]
    assert judge(a_run(PROMISED, *landed(), *down, STEADY, HELD)).verdict == "unknown"


def test_a_recovery_that_was_watched_for_less_than_was_promised_cannot_be_told():
    never = j.NotRecovered(injection=1, process="web", waited_ms=5_000)
    question = asked("recovery", of="web", every="< 20s")
    assert judge(a_run(*landed(), never, question, outcome="stopped")).findings[0].held is None
    assert judge(a_run(*landed(), never, asked("recovery", of="web", every="< 4s"))).verdict == "violated"


def test_a_steady_state_that_had_less_than_its_time_to_come_back_was_not_broken():
    short = j.SteadyStateRead(when="after", held=False, detail="no answer")
    assert judge(a_run(*landed(), HELD, short, outcome="stopped")).verdict == "unknown"


def test_an_intent_without_an_outcome_is_a_doubt():
    due, intended, _ = landed(2)
    assert judge(a_run(PROMISED, *landed(1), due, intended, STEADY, HELD)).verdict == "unknown"


def test_an_invariant_that_nobody_here_can_answer_is_a_doubt():
    assert judge(a_run(*landed(), HELD, asked("horoscope"))).verdict == "unknown"


def test_no_more_reasons_are_given_than_a_person_reads():
    notes = [j.Noted(text=f"trouble {number}", trouble=True) for number in range(5_000)]
    assert len(judge(a_run(*landed(), *notes)).reasons) < 150


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_value_that_was_measured_with_enough_below_it(times, share):
    value = percentile(times, share)
    assert value in times
    assert sum(one <= value for one in times) * 100 >= share * len(times)


def test_a_rate_is_exceeded_only_when_more_than_its_count_fall_into_one_window():
    assert not exceeds([0, 10, 20], 3, 60)
    assert not exceeds([0, 50, 100], 2, 60)
    assert exceeds([0, 50, 55, 60], 3, 60)


EVENTS = st.sampled_from(
    [
        started(), j.SteadyStateRead(when="before", held=True), j.SteadyStateRead(when="after", held=True), *landed(),
        HELD, LOST, UNSURE, recovered(1, 7), j.Healed(injection=1, verified=True), j.Noted(text="n"),
        j.Healed(injection=1, verified=False), asked("recovery", of="web", every="< 5s"),
        j.RunEnded(outcome="completed"),
        j.InjectionRefused(injection=1, limit="rate", reason="r"), j.StopAsked(by="SIGINT"),
    ]
)  # fmt: skip


@given(st.lists(EVENTS, max_size=30))
def test_any_journal_however_torn_is_judged_and_a_violation_never_hides(events):
    verdict = judge(events)
    assert (LOST in events) <= (verdict.verdict == "violated")
    assert verdict.verdict != "held" or (verdict.landed and any(one.held for one in verdict.findings))
    assert verdict.cut == (not any(isinstance(one, j.RunEnded) for one in events))
