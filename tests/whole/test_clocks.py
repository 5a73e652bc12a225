"""Rounds in which a process has a wrong clock: only that one, only for a while, whoever dies."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from croupier.model import journal as j
from croupier.system import clocks

from .house import House, Stored, a_process, an_experiment, eventually, python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="preloading works otherwise there"),
    pytest.mark.needs("gcc", "libc6-dev"),
]
# The true time is that of a file which it just wrote.
TELLS = python(
    "import os, time\n"
    "print('up', flush=True)\n"
    "while True:\n"
    "    open(os.environ['ME'], 'w').close()\n"
    "    print('off', round((time.time() - os.stat(os.environ['ME']).st_mtime) / 3600), flush=True)\n"
    "    time.sleep(0.02)\n"
)


def two(*injections: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Two programs that say by how many hours their clock is off."""
    processes = {
        name: a_process(TELLS, cwd="${state}", env={"ME": name}, ready={"log": {"process": name, "match": "^up"}})
        for name in ("app", "other")
    }
    return an_experiment(processes=processes, injections=list(injections), **more)


def wrong(**options: Any) -> dict[str, Any]:
    return {"at": "100ms", "clock": {"for": "500ms", "ahead": "5h", **options}, "target": {"process": "app"}}


def offs(stored: Stored, process: str) -> list[str]:
    lines = (stored.run.logs / f"{process}.out.log").read_text(errors="replace").splitlines()
    said = [line.split()[-1] for line in lines if " off " in line]
    return [one for one, before in zip(said, ["", *said], strict=False) if one != before]


def test_the_clock_of_one_process_is_wrong_and_right_again(house: House) -> None:
    played = house.play(two(wrong(), limits={"time_box": "20s"}, workload={"command": ["sleep", "1"]}))
    assert played.results() == ["landed"], played.done.said
    assert offs(played.stored, "app") == ["0", "5", "0"]
    assert offs(played.stored, "other") == ["0"]
    (healed,) = played.events(j.Healed)
    assert healed.verified


def test_a_process_that_comes_back_meanwhile_has_the_wrong_clock_too(house: House) -> None:
    kill = {"at": "300ms", "kill": {}, "target": {"process": "app"}}
    played = house.play(
        two(wrong(**{"for": "1500ms"}), kill, limits={"concurrent": 2}, workload={"command": ["sleep", "2"]})
    )
    assert played.results() == ["landed", "landed"], played.done.said
    assert offs(played.stored, "app") == ["0", "5", "0"]


@pytest.mark.needs("libfaketime")
def test_what_libfaketime_shares_is_taken_away_when_croupier_is_killed(house: House) -> None:
    one = wrong(how="libfaketime", monotonic=True, **{"for": "60s"})
    playing = house.begin(two(one, workload={"command": ["sleep", "60"]}))
    stored = playing.stored
    assert eventually(lambda: [event for event in stored.events(j.Concluded) if event.result == "landed"], 20)
    file = stored.path / "preloaded" / "app.faketime"
    shared = Path("/dev/shm") / clocks.shared_name(file)
    assert shared.exists()
    playing.signal(signal.SIGKILL)
    assert eventually(lambda: not shared.exists())
    assert clocks.Clock(file).read() == clocks.TRUE
    stored.sees_everybody_gone()


def test_faults_that_want_one_clock_in_two_ways_are_refused(house: House) -> None:
    done = house.refused(two(wrong(how="shim"), wrong(how="libfaketime", monotonic=True)))
    assert done.code == 2
    assert "different ways" in done.said
