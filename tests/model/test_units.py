"""Quantities carry their unit, and read back as they were written."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model.units import QUANTITIES, Bytes, Flow, Ms, Percent, Rate, Under, read_quantity, write_quantity

YEAR_MS = 366 * 86_400_000
durations = st.integers(0, YEAR_MS).map(Ms)
sizes = st.integers(0, 2**62).map(Bytes)
shares = st.integers(1, 100).map(Percent)
rates = st.builds(Rate, st.integers(0, 10**9), st.integers(1, YEAR_MS))
flows = st.builds(Flow, st.integers(0, 2**62), st.integers(1, YEAR_MS))
bounds = st.builds(Under, st.integers(0, YEAR_MS), inclusive=st.booleans())


@given(st.one_of(durations, sizes, shares, rates, flows, bounds))
def test_every_quantity_reads_back_as_it_was_written(quantity):
    kind = type(quantity)
    again = kind.parse(str(quantity))
    assert (type(again), again) == (kind, quantity)
    assert str(again) == str(quantity)
    assert hash(again) == hash(quantity)


@given(st.one_of(durations, sizes, shares, rates, flows, bounds))
def test_what_is_written_fits_the_pattern_of_the_schema(quantity):
    assert re.fullmatch(type(quantity).json_schema["pattern"], str(quantity))


@given(st.text(max_size=30), st.sampled_from(QUANTITIES))
def test_any_text_is_a_quantity_or_a_value_error(text, kind):
    try:
        kind.parse(text)
    except ValueError as problem:
        assert str(problem)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("500ms", 500), ("2s", 2_000), ("1.5m", 90_000), ("1h", 3_600_000), ("1d", 86_400_000), ("2 s", 2_000), ("0s", 0)],
)
def test_a_duration_has_a_number_and_a_unit(text, ms):
    assert Ms.parse(text) == ms


@pytest.mark.parametrize("text", ["5", 5, 5.0, "", "s", "-1s", "1e3s", "1s2", "１s", "1 w", None, True, "400d", "5S"])
def test_a_duration_without_a_known_unit_is_refused(text):
    with pytest.raises(ValueError, match=r"duration|year"):
        Ms.parse(text)


def test_a_duration_is_rounded_only_below_the_millisecond():
    assert Ms.parse("0.0014s") == 1
    assert Ms.parse("0.1m") == 6_000


@pytest.mark.parametrize(("text", "size"), [("512B", 512), ("64KiB", 65_536), ("10MB", 10**7), ("1.5GiB", 3 * 2**29)])
def test_a_size_tells_powers_of_two_from_powers_of_ten(text, size):
    assert Bytes.parse(text) == size


@pytest.mark.parametrize("text", ["64", "64K", "64kib", "-1B", None])
def test_a_size_without_a_known_unit_is_refused(text):
    with pytest.raises(ValueError, match="size"):
        Bytes.parse(text)


@pytest.mark.parametrize("text", ["0%", "101%", "50", 50, "5.5%", "%"])
def test_a_share_is_from_one_to_a_hundred_percent(text):
    with pytest.raises(ValueError, match="share"):
        Percent.parse(text)


@pytest.mark.parametrize("text", ["5", "5 per", "per 1m", "5 per 0s", "5/1m", "-1 per 1m", 5, None])
def test_a_rate_needs_a_number_and_a_window(text):
    with pytest.raises(ValueError, match=r"rate|duration"):
        Rate.parse(text)


def test_a_bound_holds_below_its_limit_and_at_it_only_when_it_says_so():
    assert Under.parse("< 5s").holds(4_999.9)
    assert not Under.parse("< 5s").holds(5_000)
    assert Under.parse("<= 5s").holds(5_000)
    assert Under.parse("< 5s") != Under.parse("<= 5s")


@pytest.mark.parametrize("text", ["5s", "> 5s", "=< 5s", "<", 5])
def test_a_bound_begins_with_a_less_than_sign(text):
    with pytest.raises(ValueError, match=r"bound|duration"):
        Under.parse(text)


def test_the_hooks_for_msgspec_know_the_quantities_and_nothing_else():
    assert read_quantity(Ms, "2s") == 2_000
    assert write_quantity(Rate(10, 60_000)) == "10 per 1m"
    with pytest.raises(NotImplementedError):
        read_quantity(complex, "1")
    with pytest.raises(NotImplementedError):
        write_quantity(object())


def test_what_is_a_quantity_already_stays_one():
    for one in (Ms(5), Bytes(5), Percent(5), Rate(1, 2), Under(5)):
        assert type(one).parse(one) is one
        assert type(one).__name__ in repr(one) or isinstance(one, int)


def test_a_flow_is_a_size_per_time():
    assert Flow.parse("10MB per 1h").per_second == pytest.approx(10**7 / 3_600)
    assert Flow.parse("1MiB per 500ms").per_second == 2 * 2**20


@pytest.mark.parametrize("text", ["10MB", "10MB per", "10 per 1h", "10MB per 0s", "per 1h", 5, None])
def test_a_flow_without_a_size_or_a_time_is_refused(text):
    with pytest.raises(ValueError, match=r"size|duration|flow"):
        Flow.parse(text)
