"""Proxies in whole rounds: set up before the first process, hurt by faults, and gone afterwards, whoever died."""

from __future__ import annotations

from typing import Any

import pytest

from croupier.model import journal as j
from croupier.model.target import Identity
from croupier.supervise.running import read_steps
from croupier.system import procs, signals

from .house import House, a_process, an_experiment, app, eventually, python


def served(*injections: dict[str, Any], count: int = 40, **more: Any) -> dict[str, Any]:
    """A keeper of lines behind a proxy, and a workload that uses it by that."""
    keeper = a_process(app("keeper", "${port.real}", "${state}/lines", "--safe"))
    keeper["ready"] = {"tcp": {"port": "${port.real}"}, "every": "20ms"}
    return an_experiment(
        processes={"keeper": keeper},
        proxies={"front": {"to": "${port.real}"}},
        workload={"command": app("asker", "${proxy.front}", str(count))},
        steady_state=[{"tcp": {"port": "${port.real}"}}],
        injections=list(injections),
        **more,
    )


def hurt(at: str = "100ms", *, fault: str = "network", **options: Any) -> dict[str, Any]:
    """A fault on the keeper's connections."""
    return {"at": at, fault: {"proxy": "front", **options}, "target": {"process": "keeper"}}


def the_proxy(run: str) -> list[Identity]:
    """The proxies of a round, by their mark."""
    return [one for one in procs.marked(f"CROUPIER_RUN={run}") if b"croupier.relay" in _cmdline(one.pid)]


def _cmdline(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""


def test_connections_are_hurt_in_several_ways_and_well_again(house: House) -> None:
    ways = [
        hurt(latency="50ms", jitter="20ms", **{"for": "300ms"}),
        hurt(cut="partition", direction="down", **{"for": "300ms"}),
        hurt(fault="delay_queries", least="50ms", most="80ms", **{"for": "300ms"}),
    ]
    ways[1:] = [{**one, "at": at} for one, at in zip(ways[1:], ("700ms", "1300ms"), strict=True)]
    played = house.play(served(*ways, count=4_000))
    assert played.code == 0, played.done.said
    concluded = played.events(j.Concluded)
    assert [one.result for one in concluded] == ["landed"] * 3
    assert all("its connections by front are hurt" in one.detail for one in concluded)
    assert [one.verified for one in played.events(j.Healed)] == [True] * 3
    # Each connection had what it sent answered, by way of the proxy.
    assert len(played.stored.run.acks.read_text().splitlines()) > 5


def test_a_partition_comes_together_with_a_suspension(house: House) -> None:
    both = {
        "at": "100ms",
        "target": {"process": "keeper"},
        "together": [
            {"network": {"proxy": "front", "cut": "partition", "for": "1500ms"}},
            {"suspend": {"for": "200ms"}, "after": "300ms"},
        ],
    }
    played = house.play(served(both, count=4_000))
    assert played.code == 0, played.done.said
    assert played.results() == ["landed"]
    last = {one.key: one.state for one in read_steps(played.stored.path)}
    assert (len(last), set(last.values())) == (3, {"verified"})


def test_a_fault_on_a_connection_that_nobody_uses_is_missed(house: House) -> None:
    idle = {**served(hurt(latency="50ms", **{"for": "300ms"})), "workload": {"command": ["sleep", "1"]}}
    played = house.play(idle)
    assert played.code == 4, played.done.said
    assert played.results() == ["missed"]


def test_a_server_is_killed_in_the_middle_of_a_changed_message_and_comes_back(house: House) -> None:
    played = house.play(served(hurt(fault="mutate", how="cut", kill=True, **{"for": "2s"})))
    assert played.code == 0, played.done.said
    (concluded,) = played.events(j.Concluded)
    assert (concluded.result, "killed in the middle" in concluded.detail) == ("landed", True)
    assert [one.injection for one in played.events(j.ProcessExited) if one.cause == "injected"] == [1]


READS = """
import sys
while True:
    with open(sys.argv[1], "rb") as file, open(sys.argv[2], "a") as seen:
        while line := file.readline():
            print("whole" if line == b"a line like the others\\n" else "changed", file=seen, flush=True)
"""
WRITES = """
import signal, sys, time
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
while True:
    try:
        with open(sys.argv[1], "wb", buffering=0) as file:
            while True:
                file.write(b"a line like the others\\n")
                time.sleep(0.01)
    except BrokenPipeError:
        continue
"""


def test_a_pipe_is_hurt_and_its_reader_killed_in_the_middle_of_a_changed_message(house: House) -> None:
    mutate = {"proxy": "feed", "how": "flip", "for": "300ms"}
    played = house.play(
        an_experiment(
            processes={"reader": a_process(python(READS, "${state}/feed", "${state}/seen"))},
            proxies={"feed": {"to": "pipe:${state}/feed"}},
            workload={"command": python(WRITES, "${proxy.feed}")},
            injections=[
                {"at": "500ms", "mutate": {**mutate, "most": 3}, "target": {"process": "reader"}},
                {"at": "1500ms", "mutate": {**mutate, "kill": True}, "target": {"process": "reader"}},
            ],
            invariants=[{"process": {"of": "reader", "at_least": 1}}, {"recovery": {"of": "reader", "every": "< 5s"}}],
            settle="1s",
        )
    )
    assert played.code == 0, played.done.said
    assert played.results() == ["landed", "landed"]
    assert "killed in the middle of a changed message" in played.events(j.Concluded)[1].detail
    seen = (played.stored.run.state / "seen").read_text().split()
    assert seen.count("changed") in (3, 4), "the half that was read is no line, and not the reader's any more"
    assert seen[0] == seen[-1] == "whole"
    assert not (played.stored.run.state / "feed").exists()


@pytest.mark.parametrize("who", [("croupier",), ("guardian",), ("guardian", "croupier")])
def test_whoever_is_killed_no_proxy_is_left(house: House, who: tuple[str, ...]) -> None:
    playing = house.begin(served(hurt(cut="partition", **{"for": "60s"}), count=4_000))
    playing.until(j.Concluded)
    stored = playing.stored
    (proxy,) = the_proxy(stored.run.unique)
    running = stored.running
    for one in who:
        signals.send(getattr(running, one), "KILL")
    playing.process.wait(20)
    if len(who) > 1:
        # Nobody is left to heal but the kernel, and whoever calls this.
        house.croupier("recover")
    stored.sees_everybody_gone()
    assert not procs.alive(proxy)
    house.croupier("recover")
    assert house.found_left() == []


def test_a_proxy_that_dies_takes_nothing_with_it_but_its_connections(house: House) -> None:
    playing = house.begin(served(hurt("600ms", latency="50ms", **{"for": "300ms"}), count=4_000))
    playing.until(j.ProcessReady)
    (proxy,) = eventually(lambda: the_proxy(playing.stored.run.unique))
    signals.send(proxy, "KILL")
    played = playing.played(40)
    assert played.results() == ["missed"]
    assert "no proxy front that answers" in played.events(j.Concluded)[0].detail
    assert played.code == 4, played.done.said


def test_a_proxy_is_nobodys_target(house: House) -> None:
    # By a mark that only this round's processes carry: other rounds may be played beside it.
    house.env["ONLY_HERE"] = str(house.path)
    proxies = {"cmdline": {"glob": "*croupier.relay*"}, "env": f"ONLY_HERE={house.path}"}
    kill = {"at": "100ms", "kill": {}, "target": {**proxies, "count": "all"}}
    played = house.play(served(kill, limits={"allow": [proxies]}), "--live")
    assert played.code == 4, played.done.said
    assert played.results() == ["refused"]
    assert "protected" in played.events(j.InjectionRefused)[0].limit


def test_an_address_that_cannot_be_is_said_before_any_process_is_started(house: House) -> None:
    taken = served(hurt(latency="50ms", **{"for": "300ms"}))
    taken["proxies"] = {"front": {"to": "${port.real}", "listen": "unix:/nowhere/at/all/" + "x" * 120}}
    done = house.begin(taken).wait()
    assert done.code == 5, done.said
    assert "proxy 'front' could not be set up" in done.said
    assert "too long for a socket" in done.said
