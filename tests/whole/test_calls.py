"""Rounds and system calls: an injection at exactly one call, and calls that go wrong."""

from __future__ import annotations

import json
import re
import signal
import sys
from typing import Any

import pytest

from croupier.model import journal as j
from croupier.model.experiment import Experiment
from croupier.run.calls import read_record
from croupier.run.prepare import Options
from croupier.supervise.running import read_steps
from croupier.trace import lacks

from .house import House, Played, a_process, an_experiment, app, python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or bool(lacks("seccomp")), reason=lacks("seccomp") or "not Linux"),
]
READY = {"log": {"process": "app", "match": "^up"}, "every": "20ms"}


def saving(*injections: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A program that saves a list over and over, and injections."""
    return an_experiment(
        processes={"app": a_process(app("saver", "${state}"), ready=READY)}, injections=list(injections), **more
    )


def at_call(fault: dict[str, Any], **trigger: Any) -> dict[str, Any]:
    return {"on": {"syscall": {"process": "app", **trigger}}, "target": {"process": "app"}, **fault}


def wrong(lasts: str = "300ms", at: str = "100ms", **options: Any) -> dict[str, Any]:
    return {"at": at, "syscall": {"for": lasts, **options}, "target": {"process": "app"}}


def said(played: Played, word: str) -> list[str]:
    return [line for line in played.stored.log.splitlines() if f" {word}" in line]


def test_a_kill_at_a_call_lands_exactly_there_every_time(house: House) -> None:
    found = set()
    for _ in range(3):
        played = house.play(saving(at_call({"kill": {}}, call="rename", nth=3)))
        assert played.code == 0, played.done.said
        (reached,) = played.events(j.CallReached)
        assert (reached.call, reached.path.rpartition("/")[2]) == ("rename", "numbers.tmp")
        saved = [int(one.split()[-2]) for one in said(played, "saved")]
        resumed = int(said(played, "up")[-1].split()[-1])
        # Counted from the steady state on, so how many there were before differs; what was saved last does not.
        before = [one for one in saved if one <= resumed]
        assert before[-1] == resumed, "the third rename was not done"
        found.add(reached.nth)
    assert found, "every round reached it"


@pytest.mark.parametrize("rounds", [4, pytest.param(20, marks=pytest.mark.searches)])
def test_the_state_at_a_call_is_the_same_in_every_round(house: House, rounds: int) -> None:
    writer = python(
        "import os, sys, time\n"
        "print('up', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.005)\n"
        "for n in range(40):\n"
        "    with open('log', 'a') as out: out.write(f'{n}\\n')\n"
        "print('done', flush=True); time.sleep(60)\n"
    )
    processes = {"app": a_process(writer, cwd="${state}", ready=READY, restart={"when": "never"})}
    workload = {"command": python("open('go', 'w').close()"), "cwd": "${state}"}
    states = set()
    for _ in range(rounds):
        kill = at_call({"kill": {}}, call="write", nth=17, path="log")
        played = house.play(an_experiment(processes=processes, workload=workload, injections=[kill],
                            invariants=[{"file": {"path": "${state}/log"}}]))  # fmt: skip
        assert played.results() == ["landed"], played.done.said
        states.add((played.stored.run.state / "log").read_text())
    assert states == {"".join(f"{n}\n" for n in range(16))}


def test_a_call_waits_for_the_injection_and_then_goes_on(house: House) -> None:
    played = house.play(saving(at_call({"kill": {"signal": "USR1"}}, call="fsync", nth=2, path="*.tmp")))
    assert played.code == 0, played.done.said
    (released,) = played.events(j.CallReleased)
    assert released.why in ("USR1 was sent", "it was carried out")


def test_a_call_that_never_comes_is_missed(house: House) -> None:
    never = at_call({"kill": {}}, call="unlink", path="nothing*")
    played = house.play(saving(never, a_late := {"at": "300ms", "kill": {}, "target": {"process": "app"}},
                               limits={"time_box": "5s"}))  # fmt: skip
    assert a_late
    assert played.events(j.CallReached) == []
    assert played.code == 4


@pytest.mark.parametrize(
    ("options", "sees"),
    [
        ({"do": "fail", "call": "fsync", "errno": "ENOSPC"}, r"error No space left on device"),
        ({"do": "fail", "call": "rename", "errno": "EACCES", "path": "*.tmp"}, r"error Permission denied"),
        ({"do": "delay", "call": "fsync", "delay": "120ms"}, r"saved \d+ 0\.(1[2-9]|[2-9])"),
    ],
)
def test_calls_go_wrong_as_long_as_it_lasts_and_are_well_again(house: House, options: Any, sees: str) -> None:
    played = house.play(saving(wrong(**options), {"at": "700ms", "kill": {"signal": "USR1"},
                                                  "target": {"process": "app"}}))  # fmt: skip
    assert played.results()[0] == "landed", played.done.said
    lines = said(played, "error") + said(played, "saved")
    assert [line for line in lines if re.search(sees, line)], lines
    assert not re.search(sees, sorted(lines, key=lambda line: float(line.split()[0]))[-1]), "it is well again"
    assert [one.state for one in read_steps(played.stored.path)] == ["intent", "applied", "verified"]


def test_a_short_write_is_told_and_loses_nothing_to_a_program_that_writes_on(house: House) -> None:
    played = house.play(saving(wrong(do="short", call="write", bytes=2, path="*.tmp")))
    assert played.results() == ["landed"], played.done.said
    assert json.loads((played.stored.run.state / "numbers.json").read_text())[:2] == [0, 1]


def test_a_torn_write_ends_the_process_in_the_middle_of_it(house: House) -> None:
    played = house.play(saving(wrong(do="torn", call="write", bytes=3, path="*.tmp", every=0)))
    assert played.results() == ["landed"], played.done.said
    assert played.events(j.ProcessExited)[0].cause == "injected"


def test_a_frozen_call_stands_still_until_it_is_healed(house: House) -> None:
    played = house.play(saving(wrong("400ms", do="freeze", call="fsync")))
    assert played.results() == ["landed"], played.done.said
    slow = [float(line.split()[-1]) for line in said(played, "saved")]
    assert max(slow) > 0.2


def test_a_call_that_no_rule_meets_is_missed(house: House) -> None:
    played = house.play(saving(wrong(do="fail", call="mkdir")))
    assert played.results() == ["missed"]
    assert "made no mkdir that matches" in played.events(j.Concluded)[0].detail
    assert played.code == 4


def test_whose_calls_nobody_watches_is_missed_and_said(house: House) -> None:
    guest = house.guest(["sleep", "60"])
    foreign = {"at": "100ms", "syscall": {"for": "1s", "do": "fail"}, "target": {"pid": guest.pid}}
    played = house.play(an_experiment(injections=[foreign], limits={"allow": [{"pid": guest.pid}]}), "--live")
    assert played.results() == ["missed"]
    assert "its calls are not watched" in played.events(j.Concluded)[0].detail


def test_when_croupier_is_killed_a_held_call_is_never_done(house: House) -> None:
    playing = house.begin(saving(wrong("60s", do="freeze", call="rename")))
    playing.until(j.Concluded)
    stored = playing.stored
    numbers = stored.run.state / "numbers.json"
    before = numbers.read_bytes()
    playing.signal(signal.SIGKILL)
    stored.sees_everybody_gone()
    assert numbers.read_bytes() == before
    assert "Function not implemented" not in stored.log
    assert read_steps(stored.path)[-1].state == "verified"


def test_a_restarted_process_is_watched_as_well(house: House) -> None:
    played = house.play(
        saving(
            at_call({"kill": {}}, call="rename", nth=2),
            {"after": {"injection": 1, "plus": "600ms"}, "syscall": {"do": "fail", "call": "fsync", "for": "300ms"},
             "target": {"process": "app"}},
        )
    )  # fmt: skip
    assert played.results() == ["landed", "landed"], played.done.said


def test_calls_are_written_down_where_that_is_asked(house: House) -> None:
    from croupier.load import load_text
    from croupier.model.plan import draw_plan
    from croupier.registry import built_in
    from croupier.run import run_round

    kill = {"at": "300ms", "kill": {}, "target": {"process": "app"}}
    source = json.dumps(saving(kill)).encode()
    loaded = load_text(source, str(house.path / "x.yaml"), built_in())
    assert isinstance(loaded.experiment, Experiment)
    options = Options(out=str(house.out), record_calls=("app",))
    finished = run_round(loaded, draw_plan(loaded.experiment, 1), built_in(), options)
    calls = read_record(finished.run.artifacts / "calls.jsonl")
    assert [one.n for one in calls] == list(range(1, len(calls) + 1))
    assert {"openat", "write", "fsync", "rename"} <= {one.call for one in calls}
    assert {one.process for one in calls} == {"app"}


@pytest.mark.parametrize(
    ("injection", "says"),
    [
        (at_call({"kill": {}}, call="fsyncc"), "the call 'fsyncc' cannot be stopped"),
        (at_call({"kill": {}}, call="FSYNC"), "does not match"),
        (at_call({"kill": {}}, nth=0), "nth"),
        ({**at_call({"kill": {}}), "on": {"syscall": {"process": "nobody"}}}, "nobody"),
        ({**at_call({"kill": {}}), "on": {}}, "exactly one of log and syscall"),
        (wrong(do="fail", errno="EWHAT"), "no error EWHAT"),
    ],
)
def test_what_cannot_be_stopped_is_refused_before_anything_starts(house: House, injection: Any, says: str) -> None:
    done = house.refused(saving(injection))
    assert says in done.said
