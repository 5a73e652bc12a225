"""Every example gives the verdict that its first lines announce, and the page of a violated one shows why.

They are played as they are, two at a time. Each takes from ten seconds to half a minute.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from croupier.model import journal as j
from croupier.system import mounts, procs

from .house import House, Played

# One worker plays them all: each would play every round otherwise.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("examples")]
REDIS = pytest.mark.needs("redis-server")
NGINX = pytest.mark.needs("nginx-light")
POSTGRES = pytest.mark.needs("postgresql")
CHROMIUM = pytest.mark.needs("chromium")
# In every run one of each kind; the others by `make searches`.
LATER = pytest.mark.searches
NO_MOUNT = pytest.mark.skipif(bool(mounts.lacking()), reason=mounts.lacking() or "mounts work")
HELD = [
    "notes/experiment",
    pytest.param("queue/retrying", marks=LATER),
    pytest.param("redis/always", marks=[REDIS, LATER]),
    pytest.param("nginx/prompt", marks=NGINX),
    pytest.param("postgres/killed-backend", marks=POSTGRES),
    pytest.param("postgres/slow", marks=[POSTGRES, LATER]),
    pytest.param("chromium/indexed-db", marks=CHROMIUM),
]
STARVED = [
    pytest.param("redis/file-size", marks=[REDIS, LATER]),
    pytest.param("redis/full-disk", marks=[REDIS, NO_MOUNT]),
]
VIOLATED = {
    "notes/fragile": "no acknowledged note is lost or doubled",
    "queue/experiment": "each acknowledged order is done",
    "redis/snapshots": "no acknowledged key is lost",
    "nginx/patient": "nobody waited for longer than 2 s",
    "postgres/asynchronous": "no acknowledged note is lost",
    "chromium/local-storage": "no acknowledged note is lost",
}
BROKEN = [
    "notes/fragile",
    pytest.param("queue/experiment", marks=LATER),
    pytest.param("redis/snapshots", marks=[REDIS, LATER]),
    pytest.param("nginx/patient", marks=NGINX),
    pytest.param("postgres/asynchronous", marks=[POSTGRES, LATER]),
    pytest.param("chromium/local-storage", marks=CHROMIUM),
]


class Rounds:
    """The rounds of the examples that this run of the tests asks for, played two at a time."""

    def __init__(self, house: House, examples: Path, wanted: set[str]) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._played: dict[str, Future[Played]] = {
            name: self._pool.submit(house.play, examples / f"{name}.yaml", seed=42, within_s=120)
            for name in sorted(wanted)
        }

    def __getitem__(self, name: str) -> Played:
        return self._played[name].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def rounds(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    repository: Path,
    lacks: Callable[[pytest.Item], bool],
) -> Iterator[Rounds]:
    # Where it is missing, the tests of it are skipped (or fail, in CI) without the round.
    here = [item for item in request.session.items if item.path == request.path and not lacks(item)]
    wanted = {item.callspec.params["example"] for item in here if isinstance(item, pytest.Function)}
    house = House(tmp_path_factory.mktemp("examples"))
    playing = Rounds(house, repository / "examples", wanted)
    yield playing
    playing.close()
    house.close()


@pytest.mark.parametrize("example", HELD)
def test_a_sturdy_example_is_held(rounds: Rounds, example: str) -> None:
    played = rounds[example]
    assert played.code == 0, played.done
    assert played.verdict.verdict == "held"
    assert played.verdict.landed == len(played.verdict.injections) >= 1
    assert played.verdict.unhealed == () and played.verdict.outcome == "completed"
    assert played.verdict.crashes == {}, "it accuses somebody of what the wheel did"
    assert "verdict: held" in played.done.out
    page = played.stored.run.report.read_text()
    assert played.verdict.title in html.unescape(page)


@pytest.mark.parametrize("example", STARVED)
def test_a_server_that_cannot_write_ends_itself_and_keeps_what_it_promised(rounds: Rounds, example: str) -> None:
    played = rounds[example]
    assert played.code == 0, played.done
    assert played.results() == ["landed", "landed"]
    assert played.verdict.unhealed == () and played.verdict.outcome == "completed"
    assert played.verdict.crashes, "with appendfsync always it dies rather than promise what it cannot keep"


@pytest.mark.parametrize("example", BROKEN)
def test_a_fragile_example_is_violated_and_the_page_shows_why(rounds: Rounds, example: str) -> None:
    played = rounds[example]
    assert played.code == 1, played.done
    assert played.verdict.verdict == "violated"
    broken = [one for one in played.verdict.findings if one.held is False]
    assert [one.invariant for one in broken] == [VIOLATED[example]], "only what is broken is accused"
    assert broken[0].after_injection > 0

    assert VIOLATED[example] in played.done.out
    page = html.unescape(re.sub(r"<[^>]+>", " ", played.stored.run.report.read_text()))
    assert VIOLATED[example] in page
    assert broken[0].detail[1:60] in page, "but for a capital letter at its beginning"
    assert re.search(rf"injection\s+{broken[0].after_injection}\b", page)


@pytest.mark.parametrize("example", [*HELD, *BROKEN])
def test_an_example_leaves_nobody_behind(rounds: Rounds, example: str) -> None:
    played = rounds[example]
    assert played.stored.alive() == []
    assert [one for one in played.stored.known() if procs.alive(one)] == []
    assert not (played.stored.path / "running.json").exists()
    assert played.events(j.RunEnded)[0].unhealed == ()
