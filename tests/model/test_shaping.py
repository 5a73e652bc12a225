"""What happens to a packet is drawn from the seed; the order is kept unless asked otherwise; a slow wire queues."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from croupier.model.shaping import LONGEST_QUEUE_US, OVERTAKEN_US, Line, Shaping

TARGET = bytes((198, 18, 0, 3))


def packet(number: int = 0, *, to: bytes = TARGET, size: int = 40) -> bytes:
    return bytes(16) + to + number.to_bytes(size - 20, "big")


def carried(count: int = 200, every_us: int = 1_000, seed: int = 1, **options: int) -> tuple[Line, list[list[int]]]:
    """When each of some packets towards the target arrives, as times from the first one's start."""
    line = Line(Shaping(network="", device="", target=TARGET, until_us=0, seed=seed, **options))
    arrived = [[due for due, _ in line.carry(packet(nth), nth * every_us)] for nth in range(count)]
    return line, arrived


def test_a_wire_that_is_well_changes_nothing():
    line, arrived = carried()
    assert arrived == [[nth * 1_000] for nth in range(200)]
    assert (line.counts.hurt, str(line.counts)) == (0, "of 200 packets none was hurt")


def test_what_is_lost_is_drawn_from_the_seed():
    line, arrived = carried(loss=30)
    assert 35 < line.counts.lost < 85
    assert carried(loss=30)[1] == arrived
    assert carried(loss=30, seed=2)[1] != arrived
    # What else is asked for does not shift the draw.
    assert [bool(one) for one in carried(loss=30, duplicate=50, delay_us=9)[1]] == [bool(one) for one in arrived]


@given(st.integers(0, 50_000), st.integers(0, 50_000), st.integers(0, 2**32))
def test_late_packets_keep_their_order_and_none_is_early(delay_us, jitter_us, seed):
    _, arrived = carried(30, delay_us=delay_us, jitter_us=jitter_us, seed=seed)
    due = [one for (one,) in arrived]
    assert due == sorted(due)
    assert all(nth * 1_000 <= one <= nth * 1_000 + delay_us + jitter_us for nth, one in enumerate(due[:1]))


def test_some_are_overtaken_by_those_behind_them():
    line, arrived = carried(reorder=10)
    late = [nth for nth, (due,) in enumerate(arrived) if due == nth * 1_000 + OVERTAKEN_US]
    assert len(late) == line.counts.overtaken > 5


def test_some_arrive_twice():
    line, arrived = carried(duplicate=10)
    assert sum(len(one) == 2 for one in arrived) == line.counts.doubled > 5


def test_one_bit_is_turned_behind_the_header():
    line = Line(Shaping(network="", device="", target=TARGET, until_us=0, seed=1, corrupt=100))
    for nth in range(50):
        ((_, got),) = line.carry(packet(nth), 0)
        assert got[:20] == packet(nth)[:20]
        turned = int.from_bytes(got, "big") ^ int.from_bytes(packet(nth), "big")
        assert turned.bit_count() == 1


def test_a_slow_wire_carries_one_after_the_other_and_loses_what_waits_too_long():
    line, arrived = carried(every_us=0, rate_bytes=400)
    took = [due for (due,) in arrived if due] if all(arrived) else [one[0] for one in arrived if one]
    assert took == [100_000 * nth for nth in range(1, len(took) + 1)]
    assert took[-1] - 100_000 <= LONGEST_QUEUE_US < took[-1]
    assert line.counts.overflowed == 200 - len(took)


def test_each_direction_has_a_wire_of_its_own():
    line = Line(Shaping(network="", device="", target=TARGET, until_us=0, seed=1, rate_bytes=400))
    assert [next(line.carry(packet(to=to), 0))[0] for to in (TARGET, b"\x0a\0\0\1", TARGET)] == [
        100_000,
        100_000,
        200_000,
    ]
