"""What becomes of a chunk, decided without a socket: drawn from the seed, and always really another message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model.choice import ChoiceStream
from croupier.model.link import MUTATIONS, Address, LinkRule, Mutation, address, mutated, slices, wait_us

seeds = st.integers(0, 2**64)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("8080", Address(host="127.0.0.1", port=8080)),
        ("example.org:80", Address(host="example.org", port=80)),
        ("[::1]:80", Address(host="::1", port=80)),
        ("unix:/run/x", Address(path="/run/x")),
        ("/run/x", Address(path="/run/x")),
    ],
)
def test_an_address_is_a_port_a_host_with_one_or_a_path(text: str, means: Address) -> None:
    assert address(text) == means
    assert address(str(means)) == means


@pytest.mark.parametrize("text", ["", "x", "0", "65536", "host:", "host:²", "unix:x", "unix:", "-1"])
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        address(text)


@given(
    st.binary(min_size=1, max_size=600), st.sampled_from(MUTATIONS), seeds, st.lists(st.binary(min_size=1), max_size=3)
)
def test_a_changed_message_is_another_one_and_the_same_for_the_same_seed(
    data: bytes, how: Mutation, seed: int, earlier: list[bytes]
) -> None:
    changed = mutated(data, how, ChoiceStream(seed), earlier)
    assert changed != data
    assert mutated(data, how, ChoiceStream(seed), earlier) == changed


def test_a_number_in_a_message_is_taken_for_a_length() -> None:
    changed = {mutated(b"Content-Length: 12\r\n", "length", ChoiceStream(seed)) for seed in range(40)}
    assert changed == {b"Content-Length: %d\r\n" % number for number in (0, 13, 11, 193, 2**31)}


@given(st.binary(max_size=200), st.integers(0, 50))
def test_slices_lose_nothing(data: bytes, most: int) -> None:
    pieces = slices(data, most)
    assert b"".join(pieces) == data
    assert not most or all(len(one) <= most for one in pieces)


@given(st.integers(0, 1_000), st.integers(0, 2_000), seeds)
def test_a_wait_is_the_latency_give_or_take_the_jitter(latency: int, jitter: int, seed: int) -> None:
    rule = LinkRule(key="1", until_us=0, latency_us=latency, jitter_us=jitter)
    wait = wait_us(rule, ChoiceStream(seed), asks=False)
    assert max(0, latency - jitter) <= wait <= latency + jitter


@given(seeds, st.integers(0, 500), st.integers(0, 500))
def test_only_what_asks_waits_as_a_query(seed: int, least: int, more: int) -> None:
    rule = LinkRule(key="1", until_us=0, query_least_us=least, query_most_us=least + more)
    assert wait_us(rule, ChoiceStream(seed), asks=False) == 0
    assert least <= wait_us(rule, ChoiceStream(seed), asks=True) <= least + more


def test_a_share_takes_about_as_many_connections_as_it_says() -> None:
    rule = LinkRule(key="1", until_us=0, seed=5, share_percent=30)
    taken = [rule.takes(number) for number in range(1_000)]
    assert 250 <= sum(taken) <= 350
    assert taken == [rule.takes(number) for number in range(1_000)]
    assert all(LinkRule(key="1", until_us=0).takes(number) for number in range(100))
