"""A few trials of every fault, for every run; `make undone` has them all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from croupier.model.faults import FAULTS

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import undone  # noqa: E402
from undone_fixtures import FIXTURES  # noqa: E402

PATIENCE = 5.0
"""What is measured for the documentation is held to its time; here it is only held to be undone."""

TURNS = 4


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[undone.Starter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("home")))
        with undone.Starter() as started:
            yield started


def test_every_fault_has_a_fixture() -> None:
    lacking = undone.lacking_fixtures()
    assert not lacking, f"tests/quality/undone_fixtures.py says nothing of {', '.join(lacking)}"


@pytest.mark.parametrize("kind", [one.kind for one in FAULTS if one.kind in FIXTURES])
def test_a_fault_is_undone_whoever_dies_in_the_middle_of_it(starter: undone.Starter, kind: str) -> None:
    fixture = FIXTURES[kind][0]
    untried: dict[str, str] = {}
    if undone.lacks(kind, fixture, untried):
        pytest.skip(untried[kind])
    for chosen, misfortune in ((_in_the_middle, "SIGKILL croupier"), (_the_last, "SIGKILL both")):
        # Rounds differ (a busy machine heals late, by another hand): one that passes the boundary by proves nothing.
        for _ in range(TURNS):
            boundary = chosen(undone.boundaries_of(starter, fixture))
            result = undone.tried(starter, kind, fixture, boundary, misfortune, patience=PATIENCE)
            if result.reached:
                break
        assert result.clean, str(result)


def _in_the_middle(boundaries: list[str]) -> str:
    """Of applying it."""
    applying = [one for one in boundaries if not one.startswith("heal")][1:]
    return applying[round((len(applying) - 1) / 2)]


def _the_last(boundaries: list[str]) -> str:
    return boundaries[-1]


def test_what_is_left_behind_is_seen(starter: undone.Starter) -> None:
    (fixture,) = FIXTURES["limit"]
    with undone.Trial(starter, fixture, "apply: end") as trial:
        trial.come_to_the_boundary()
        trial.kill_both()
        _, left = trial.is_as_before(0)
        assert any("Max open files was" in one for one in left), left
        _, recovered, left = undone.recovered(trial)
        assert (recovered, left) == (True, ())
