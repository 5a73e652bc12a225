"""Chance from a seed: the same on every platform for ever, fair, and apart by label."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model.choice import ChoiceStream

FIRST_WORDS = {
    0: [0xC8C1E319A4084C50, 0xCAAC42A6D13B733A, 0x85EB221812731A0A, 0x78C2071729C7E756, 0x968CEB07540B8363],
    42: [0x9A709C6B613F81D4, 0x3DC51EC4E2872739, 0xF1F600E9E954D6DE, 0xE1CAD476AEBAEA51, 0x0B0951DFB2FD52BA],
    -1: [0x2840D95ABCEC7D93, 0xB8E7C14DDEF16A9F, 0xFA186F5B5C260DFD, 0x01F2EEB0BB5667D3, 0xD8AC185B2F00AC74],
    2**70: [0x0F21B1220E49F2AA, 0x74D73118EAF40CE9, 0x941380ED479BF360, 0xBFBB3A034DED3E54, 0xC96B89F08440FE57],
}

seeds = st.integers()
labels = st.text(max_size=8) | st.integers()


def words(stream: ChoiceStream, count: int) -> list[int]:
    return [stream.word() for _ in range(count)]


@pytest.mark.parametrize("seed", FIRST_WORDS)
def test_a_seed_draws_these_words_for_ever(seed):
    assert words(ChoiceStream(seed), 5) == FIRST_WORDS[seed]


def test_a_fork_draws_these_words_for_ever():
    root = ChoiceStream(42)
    assert root.fork("when").word() == 0xB47E1A8413E6C953
    assert root.fork("what").word() == 0x5217757DB6306F77
    assert root.fork(7).word() == 0x309AB56FAF2D5325
    assert root.fork("when").fork("web").word() == 0xCC1B365FA2F6DFFC


def test_decisions_of_seed_42_are_these():
    stream = ChoiceStream(42)
    assert [stream.below(10) for _ in range(20)] == [0, 1, 8, 7, 8, 1, 6, 6, 5, 3, 6, 3, 2, 3, 9, 0, 4, 9, 9, 3]
    assert [stream.between(-3, 3) for _ in range(8)] == [1, -3, -2, 0, 1, 0, -2, 0]
    assert stream.pick("abc") == "c"
    assert stream.weighted("abc", [1, 2, 3]) == "b"
    assert stream.sample("abcdef", 4) == ("e", "f", "b", "d")


@given(seeds)
def test_words_are_sha_256_in_counter_mode(seed):
    key = sha256(b"croupier choice stream 1" + str(seed).encode()).digest()
    blocks = b"".join(sha256(key + number.to_bytes(8, "big")).digest() for number in range(3))
    told = [int.from_bytes(blocks[at : at + 8], "big") for at in range(0, len(blocks), 8)]
    assert words(ChoiceStream(seed), 12) == told


@given(seeds, labels, st.integers(0, 20))
def test_a_fork_does_not_depend_on_what_was_drawn_before(seed, label, drawn):
    fresh, used = ChoiceStream(seed), ChoiceStream(seed)
    words(used, drawn)
    assert words(fresh.fork(label), 6) == words(used.fork(label), 6)


@given(seeds, labels, st.integers(0, 20))
def test_drawing_from_a_fork_does_not_shift_its_parent_or_its_siblings(seed, label, drawn):
    root = ChoiceStream(seed)
    sibling = root.fork("sibling")
    words(root.fork(label), drawn)
    assert words(root, 6) == words(ChoiceStream(seed), 6)
    assert words(sibling, 6) == words(ChoiceStream(seed).fork("sibling"), 6)


@given(seeds, st.lists(labels.map(str), min_size=2, max_size=10, unique=True))
def test_every_label_is_a_stream_of_its_own(seed, names):
    root = ChoiceStream(seed)
    assert len({root.word(), *(root.fork(name).word() for name in names)}) == len(names) + 1


def test_a_path_of_labels_is_not_the_same_as_its_text():
    root = ChoiceStream(0)
    assert root.fork("a").fork("b").word() != root.fork("a/b").word()
    assert root.fork("ab").fork("c").word() != root.fork("a").fork("bc").word()


@pytest.mark.parametrize("bound", [2, 3, 7, 10, 100])
def test_every_number_below_a_bound_is_as_likely_as_the_others(bound):
    stream, draws = ChoiceStream(42).fork("chi-square"), 200 * bound
    counts = [0] * bound
    for _ in range(draws):
        counts[stream.below(bound)] += 1
    expected = draws / bound
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    # Mean and variance of chi-square with k degrees of freedom are k and 2k: this is some 4 standard deviations.
    freedom = bound - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


def test_forks_with_neighbouring_labels_do_not_resemble_each_other():
    root, draws = ChoiceStream(0), 4_000
    table = [[0] * 4 for _ in range(4)]
    for number in range(draws):
        table[root.fork(number).below(4)][root.fork(number + 1_000_000).below(4)] += 1
    expected = draws / 16
    assert sum((cell - expected) ** 2 / expected for row in table for cell in row) < 15 + 4 * 30**0.5


def test_small_numbers_are_not_favoured_where_a_bound_does_not_divide_the_words():
    # With plain remainders, two thirds of these would fall into the lower half.
    bound, stream = 3 * 2**62, ChoiceStream(1)
    low = sum(stream.below(bound) < bound // 2 for _ in range(2_000))
    assert 900 < low < 1_100


@given(seeds, st.integers(1, 2**64))
def test_a_number_below_a_bound_is_below_it(seed, bound):
    assert 0 <= ChoiceStream(seed).below(bound) < bound


@given(seeds, st.integers(-(2**62), 2**62), st.integers(0, 2**62))
def test_a_number_between_two_is_between_them(seed, low, width):
    assert low <= ChoiceStream(seed).between(low, low + width) <= low + width


@pytest.mark.parametrize("bound", [0, -1, 2**64 + 1])
def test_a_bound_that_leaves_nothing_to_draw_is_an_error(bound):
    with pytest.raises(ValueError, match=r"from 1 to 2\*\*64"):
        ChoiceStream(0).below(bound)


def test_there_is_nothing_to_pick_from_nothing():
    with pytest.raises(ValueError):
        ChoiceStream(0).pick([])
    with pytest.raises(ValueError):
        ChoiceStream(0).weighted(["a"], [0])


@given(seeds)
def test_what_has_no_weight_is_never_drawn_and_shifts_nothing(seed):
    plain, padded = ChoiceStream(seed), ChoiceStream(seed)
    for _ in range(20):
        assert plain.weighted("ab", [3, 1]) == padded.weighted("xayb", [0, 3, 0, 1])


def test_weights_are_shares():
    stream = ChoiceStream(42)
    counts = {"a": 0, "b": 0}
    for _ in range(4_000):
        counts[stream.weighted("ab", [3, 1])] += 1
    assert 2_880 < counts["a"] < 3_120


@given(seeds, st.lists(st.integers(), unique=True, max_size=20), st.integers(0, 25))
def test_a_sample_takes_different_items_and_all_when_there_are_too_few(seed, items, count):
    taken = ChoiceStream(seed).sample(items, count)
    assert len(taken) == min(count, len(items))
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(items)
