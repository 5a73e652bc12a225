"""Rounds in which processes are left without something: descriptors, a port, processes, memory."""

from __future__ import annotations

import sys

import pytest

from croupier.model import journal as j
from croupier.supervise.running import read_steps
from croupier.system import memory, tasks

from .house import House, a_process, an_experiment, python

pytestmark = pytest.mark.slow
READY = {"log": {"process": "app", "match": "^up"}, "every": "20ms"}
SERVES = """
import socket, sys, time
one = socket.socket()
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    one.bind(("127.0.0.1", int(sys.argv[1])))
except OSError as problem:
    sys.exit(problem.strerror)
one.listen()
print("up", flush=True)
time.sleep(300)
"""
EATS = """
import time
kept = []
print("up", flush=True)
while True:
    if len(kept) < 64:
        kept.append(bytearray(b"x") * (1 << 20))
    time.sleep(0.02)
"""
OPENS_AND_FORKS = """
import os, time
print("up", flush=True)
while True:
    try:
        os.close(os.open("/", 0))
        pid = os.fork()
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0)
    except OSError as problem:
        print("refused:", problem.strerror, flush=True)
    time.sleep(0.02)
"""


def one_app(program, injection, *arguments, **more):
    process = a_process([*python(program), *arguments], ready=READY)
    injection = {"at": "300ms", "target": {"process": "app"}, **injection}
    return an_experiment(processes={"app": process}, injections=[injection], **more)


@pytest.mark.parametrize(
    "injection",
    [
        {"occupy_port": {"port": "${port.app}", "kill": True, "for": "1500ms"}},
        {
            "together": [
                {"occupy_port": {"port": "${port.app}", "within": "4s", "for": "1500ms"}},
                {"kill": {}, "after": "500ms"},
            ]
        },
    ],
    ids=["by itself", "beside a kill"],
)
def test_a_process_whose_port_was_taken_comes_back_when_it_is_free(house: House, injection) -> None:
    played = house.play(one_app(SERVES, injection, "${port.app}"))
    assert played.code == 0, played.done.said
    (outcome,) = played.events(j.Concluded)
    assert outcome.result == "landed", outcome
    assert "is taken" in outcome.detail
    exits = played.events(j.ProcessExited)
    assert (exits[0].cause, exits[0].signal) == ("injected", "KILL")
    assert "Address already in use" in played.stored.log
    assert played.events(j.Recovered)


def test_an_owner_that_was_killed_before_has_its_port_back_first(house: House) -> None:
    steps = [{"kill": {}}, {"occupy_port": {"port": "${port.app}", "for": "600ms"}}]
    played = house.play(one_app(SERVES, {"sequence": steps}, "${port.app}"))
    (outcome,) = played.events(j.Concluded)
    assert "part 2: app" in outcome.detail
    assert "`kill: true` ends it and takes it in one" in outcome.detail


@pytest.mark.skipif(bool(memory.lacking()), reason=memory.lacking() or "memory can be limited")
def test_a_death_for_want_of_memory_that_was_meant_is_no_crash(house: House) -> None:
    starve = {"starve_memory": {"percent": 110, "for": "3s"}}
    crashes = [{"crashes": {"of": "app", "at_most": 0}}, {"recovery": {"of": "app", "every": "< 20s"}}]
    played = house.play(one_app(EATS, starve, invariants=crashes))
    assert played.code == 0, played.done.said
    assert played.results() == ["landed"]
    died = played.events(j.ProcessExited)[0]
    assert (died.cause, died.signal, died.injection, died.oom) == ("injected", "KILL", 1, True)
    assert [one.state for one in read_steps(played.stored.path)][-1] == "verified"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"exhaust_fds": {"for": "600ms"}}, "Too many open files"),
        pytest.param(
            {"fork_storm": {"processes": 4, "for": "600ms"}},
            "Resource temporarily unavailable",
            marks=pytest.mark.skipif(bool(tasks.lacking()), reason=tasks.lacking() or "processes can be counted"),
        ),
    ],
)
def test_a_process_meets_what_it_is_refused_and_goes_on(house: House, fault, says) -> None:
    met = [{"log": {"process": "app", "match": f"refused: {says}"}}, {"crashes": {"of": "app", "at_most": 0}}]
    played = house.play(one_app(OPENS_AND_FORKS, fault, invariants=met))
    assert played.code == 0, played.done.said
    assert played.results() == ["landed"]
    (healed,) = played.events(j.Healed)
    assert healed.verified
    assert "up" in played.stored.log


def test_a_python_that_is_to_collect_is_started_so_that_it_hears_of_it(house: House) -> None:
    pressed = one_app("", {"gc_pressure": {"every": "20ms", "for": "500ms"}})
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"]
    pressed["processes"]["app"]["command"] = command
    pressed["processes"]["other"] = a_process(command)
    played = house.play(pressed)
    assert played.code == 0, played.done.said
    assert played.results() == ["landed"]
    (count,) = (played.stored.path / "artifacts" / "collections").iterdir()
    assert count.name == str(played.events(j.Intended)[0].targets[0].who.pid)
    assert int(count.read_text().split()[0]) > 1
