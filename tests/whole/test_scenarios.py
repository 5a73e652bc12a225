"""Scenarios of the library, written by `croupier init --from` and played as they are against tiny programs."""

from __future__ import annotations

import shlex

import pytest

from croupier.system import mounts

from .house import House, app

NO_MOUNT = pytest.mark.skipif(bool(mounts.lacking()), reason=mounts.lacking() or "mounts work")
NOTES = {
    "command": shlex.join(app("notes", "${port.app}", "${state}/notes")),
    "url": "http://127.0.0.1:${port.app}/health",
}
POSTS = {"workload": shlex.join(app("post", "${port.app}"))}
FRONT = {"command": shlex.join(app("front", "${port.app}", "${proxy.store}"))}
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


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[NO_MOUNT] if one == "full-disk" else []) for one in sorted(ROUNDS)]
)
def test_a_scenario_is_played_as_it_was_written(house: House, name: str) -> None:
    given = {**ROUNDS[name], **SLOW_MACHINE}
    settings = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    done = house.croupier("init", "--from", name, *settings)
    assert done.code == 0, done
    file = house.path / f"{name}.yaml"
    assert house.croupier("validate", file).code == 0
    played = house.play(file, within_s=60)
    assert played.code == 0, (played.done, played.stored.log[-2000:])
    assert played.results() and set(played.results()) == {"landed"}
    assert played.verdict.unhealed == ()
