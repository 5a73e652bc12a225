"""Scenarios of the library, written by `croupier init --from` and played as they are against tiny programs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import pytest

from croupier.load.library import read_scenario, scenario_names, settings_of
from croupier.system import mounts

from .house import House, app

NO_MOUNT = pytest.mark.skipif(bool(mounts.lacking()), reason=mounts.lacking() or "mounts work")
NOTES = {
    "command": shlex.join(app("notes", "${port.app}", "${state}/notes")),
    "url": "http://127.0.0.1:${port.app}/health",
}
POSTS = {"workload": shlex.join(app("post", "${port.app}"))}
FRONT = {"command": shlex.join(app("front", "${port.app}", "${proxy.store}"))}
FRONTS = {"command": shlex.join(app("front", "${port.app}", "${proxy.first}", "${proxy.second}"))}
BEGIN = {"begin": "200ms"}
SLOW_MACHINE = {"recovery": "15s", "patience": "10s"}

ROUNDS = {
    "kill-the-main-process": {**NOTES, **POSTS, **BEGIN},
    "hang-a-process": {**NOTES, **POSTS, **BEGIN, "lasts": "400ms"},
    "kill-in-mid-save": {**NOTES, **POSTS, "nth": "3", "then": "1s", "lasts": "1s"},
    "cut-off-dependency": {**FRONT, **BEGIN, "lasts": "700ms"},
    "one-way-partition": {**FRONT, **BEGIN, "latency": "50ms", "lasts": "700ms"},
    "full-disk": {
        **NOTES, **POSTS, **BEGIN, "command": shlex.join(app("notes", "${port.app}", "${volume.data}/notes")),
        "size": "256KiB", "lasts": "500ms", "then": "1s",
    },
}  # fmt: skip


LATER = {
    "all-workers-at-once": {**POSTS, "every": "1s", "for": "3s"},
    "broken-messages": {**FRONT, **BEGIN, "lasts": "1s", "then": "3s"},
    "correlated-timeouts": {**FRONTS, **BEGIN, "lasts": "1s"},
    "corrupt-cache": {
        "command": "sh -c 'mkdir -p ${state}/cache; date > ${state}/cache/day; exec python -m http.server ${port.app}'",
        "every": "1s", "for": "3s", "lasts": "300ms",
    },
    "crash-loop": {**NOTES, **POSTS, **BEGIN, "times": "3", "every": "1s"},
    "failing-fsync": {**NOTES, **POSTS, **BEGIN, "lasts": "1s", "then": "3s"},
    "graceful-shutdown": {**NOTES, **POSTS, **BEGIN},
    "kill-a-sidecar": {**NOTES, **POSTS, **BEGIN, "away": "500ms"},
    "kill-a-worker": {**POSTS, "every": "1s", "for": "3s"},
    "kill-at-start": BEGIN,
    # Not the app of the others: one whose threads cannot start hangs for ever, as the round would say.
    "little-memory": {"command": "gunicorn -w 1 -b 127.0.0.1:${port.app} app:app", **POSTS, **BEGIN, "lasts": "1s"},
    "locked-database": {
        "command": "sh -c 'python -m make_base ${state}/app.db; exec python -m http.server ${port.app}'",
        **BEGIN, "lasts": "1s",
    },
    "lost-packets": {
        "command": shlex.join(app("front", "${address.app}:8000", "${address.backend}:8000")),
        **BEGIN, "lasts": "2s", "then": "4s",
    },
    "memory-leak": {**NOTES, **POSTS, **BEGIN, "leak": "50MB per 1s", "lasts": "2s"},
    "names-that-fail": {
        "command": shlex.join(app("front", "${address.app}:8000", "backend:8000")), **BEGIN, "lasts": "1s",
    },
    "no-more-files": {**NOTES, **POSTS, **BEGIN, "lasts": "1s"},
    "partition-and-starvation": {**FRONT, **BEGIN, "lasts": "2s"},
    "region-outage": {
        "command": shlex.join(app("front", "${port.app}", "${proxy.east}", "${proxy.west}")), **BEGIN, "lasts": "2s",
    },
    "resets-and-retries": {**FRONT, "every": "1s", "spell": "500ms", "for": "3s"},
    "slow-dependency": {**FRONTS, **BEGIN, "lasts": "1s", "then": "3s"},
    "slow-disk": {**NOTES, **POSTS, **BEGIN, "delay": "50ms", "lasts": "1s"},
    "slow-queries": {
        "command": shlex.join(app("front", "${port.app}", "${proxy.db}")),
        "database": "python -m http.server ${port.db} --bind 127.0.0.1", **BEGIN, "lasts": "1s",
    },
    "starve-a-worker": {**NOTES, **POSTS, **BEGIN, "lasts": "1s"},
    "taken-port": {**NOTES, **POSTS, **BEGIN},
    "wrong-clock": {**NOTES, **POSTS, **BEGIN, "lasts": "1s", "then": "3s"},
}  # fmt: skip
"""Played by `make searches`. Those on PostgreSQL hurt what a whole example has: see test_examples.py."""
POSTGRES = {"dropped-connections", "locked-table"}

SERVES = """
def app(environ, start):
    start("200 OK", [])
    return [b"here"]
"""
MAKES_BASE = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as base: base.execute("CREATE TABLE IF NOT EXISTS notes (text)")
"""


def test_every_scenario_is_played_somewhere() -> None:
    assert {*ROUNDS, *LATER, *POSTGRES} == set(scenario_names())


@pytest.mark.searches
@pytest.mark.parametrize("name", sorted(LATER))
def test_the_others_are_played_as_they_were_written(house: House, name: str) -> None:
    (house.path / "app.py").write_text(SERVES)
    (house.path / "make_base.py").write_text(MAKES_BASE)
    plays(house, name, LATER[name])


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[NO_MOUNT] if one == "full-disk" else []) for one in sorted(ROUNDS)]
)
def test_a_scenario_is_played_as_it_was_written(house: House, name: str) -> None:
    plays(house, name, ROUNDS[name])


def plays(house: House, name: str, given: Mapping[str, str]) -> None:
    """Write the scenario with these settings, and play it: everything landed, and all was well."""
    known = settings_of(read_scenario(name))
    given = {**given, **{key: value for key, value in SLOW_MACHINE.items() if key in known}}
    settings = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    done = house.croupier("init", "--from", name, *settings)
    assert done.code == 0, done
    file = house.path / f"{name}.yaml"
    assert house.croupier("validate", file).code == 0
    played = house.play(file, within_s=100)
    assert played.code == 0, (played.done, played.stored.log[-2000:])
    assert played.results() and set(played.results()) == {"landed"}
    assert played.verdict.unhealed == ()
