"""Undo records: what is open is told newest first, and only what was seen to be undone is closed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from croupier.model.target import Identity
from croupier.model.undo import UndoRecord, UndoState, UndoStep, unfinished

WHO = Identity(pid=7, started=1)
STATES: tuple[UndoState, ...] = ("intent", "applied", "healed", "verified")


def a_record(key: str, **data: int) -> UndoRecord:
    return UndoRecord(key=key, fault="suspend", who=WHO, data=data, deadline_us=0)


def intent(key: str, **data: int) -> UndoStep:
    return UndoStep(key=key, state="intent", record=a_record(key, **data))


def test_what_was_done_last_is_undone_first() -> None:
    steps = [intent("1.1"), intent("1.2"), UndoStep(key="1.1", state="applied"), intent("2.1")]
    assert [one.key for one in unfinished(steps)] == ["2.1", "1.2", "1.1"]


def test_an_intent_alone_is_open_and_so_is_what_was_healed_but_not_seen_to_be() -> None:
    assert unfinished([intent("1.1")]) == (a_record("1.1"),)
    healed = UndoStep(key="1.1", state="healed", note="it said so")
    assert unfinished([intent("1.1"), healed]) == (a_record("1.1"),)
    assert unfinished([intent("1.1"), healed, UndoStep(key="1.1", state="verified")]) == ()


def test_a_record_that_is_intended_again_takes_the_place_of_the_one_before() -> None:
    assert unfinished([intent("1.1"), intent("2.1"), intent("1.1", helpers=1)]) == (
        a_record("2.1"), a_record("1.1", helpers=1),
    )  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(STATES)), max_size=20))
def test_a_record_is_open_exactly_until_its_last_word_is_verified(words: list[tuple[str, UndoState]]) -> None:
    steps = [intent(key) if state == "intent" else UndoStep(key=key, state=state) for key, state in words]
    last = dict(words)
    intended = {key for key, state in words if state == "intent"}
    assert {one.key for one in unfinished(steps)} == {key for key in intended if last[key] != "verified"}
