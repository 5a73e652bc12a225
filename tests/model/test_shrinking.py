"""Shrinking finds the fewest items that still fail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from croupier.model.shrinking import shrink


def test_one_guilty_item_is_found_alone():
    kept, tally = shrink(range(100), lambda some: 37 in some)
    assert kept == (37,)
    assert tally.whole and tally.tried < 40


def test_items_that_fail_only_together_are_kept_together_and_in_order():
    kept, _ = shrink(range(64), lambda some: {3, 41, 60} <= set(some))
    assert kept == (3, 41, 60)


def test_what_fails_with_nothing_at_all_shrinks_to_nothing():
    kept, _ = shrink("abc", lambda some: True)
    assert kept == ()


def test_a_single_item_that_is_needed_stays():
    assert shrink((7,), lambda some: 7 in some)[0] == (7,)


def test_no_list_is_tried_twice_and_never_more_than_was_allowed():
    tried = []

    def fails(some):
        tried.append(some)
        return {0, 99} <= set(some)

    kept, tally = shrink(range(100), fails, most=25)
    assert len(tried) == len(set(tried)) == tally.tried == 25
    assert not tally.whole
    assert {0, 99} <= set(kept)


@given(st.sets(st.integers(0, 40), max_size=6), st.integers(0, 50))
def test_the_result_fails_and_no_single_item_of_it_can_go(guilty, extra):
    items = tuple(range(41 + extra))

    def fails(some):
        return guilty <= set(some)

    kept, tally = shrink(items, fails)
    assert tally.whole
    assert fails(kept)
    assert not any(fails(tuple(one for one in kept if one != gone)) for gone in kept)
    assert list(kept) == sorted(kept)
