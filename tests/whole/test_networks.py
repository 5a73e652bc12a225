"""Networks in whole rounds: everybody lives where the file says, and nothing of it is left, whoever died."""

from __future__ import annotations

from typing import Any

import pytest

from croupier.model import journal as j
from croupier.supervise.running import read_steps
from croupier.system import networks, procs, signals

from .house import House, a_process, an_experiment, app, python

pytestmark = pytest.mark.skipif(bool(networks.lacking()), reason=networks.lacking() or "networks can be made")
KNOCKS = "import socket, sys; socket.create_connection((sys.argv[1], 7000), 5)"


def wired(*injections: dict[str, Any], count: int = 40, **more: Any) -> dict[str, Any]:
    """A keeper of lines and a workload that uses it, each at a home of its own."""
    keeper = a_process(app("keeper", "${address.keeper}:7000", "${state}/lines", "--safe"), network="lan")
    keeper["ready"] = {"tcp": {"host": "${address.keeper}", "port": 7000}, "every": "20ms"}
    return an_experiment(
        networks={"lan": {"names": {}}},
        processes={"keeper": keeper},
        workload={"command": app("asker", "keeper:7000", str(count)), "network": "lan"},
        steady_state=[{"command": {"run": [*python(KNOCKS), "${address.keeper}"], "network": "lan"}}],
        injections=list(injections),
        **more,
    )


def test_each_fault_lands_is_healed_and_stays_with_who_is_restarted(house: House) -> None:
    ways = [
        {"at": "100ms", "packets": {"loss": "5%", "delay": "10ms", "for": "400ms"}},
        {"at": "1500ms", "kill": {}},
        {"at": "2500ms", "dns": {"names": "keep*", "for": "300ms"}},
        {"at": "3s", "saturate": {"rate": "1MiB", "for": "300ms"}},
        # Last, since whoever was cut off waits before it tries again.
        {"at": "4s", "partition": {"from": ["workload"], "for": "1s"}},
    ]
    ways = [{**one, "target": {"process": "keeper"}} for one in ways]
    played = house.play(wired(*ways, count=4_000, limits={"concurrent": 4}))
    assert played.code == 0, played.done.said
    assert [one.result for one in played.events(j.Concluded)] == ["landed"] * 5
    assert [one.verified for one in played.events(j.Healed)] == [True] * 4
    assert len(played.events(j.ProcessReady)) == 2
    last = {one.key: one.state for one in read_steps(played.stored.path)}
    assert last["subnet.lan"] == "verified"


@pytest.mark.parametrize("who", [("croupier",), ("guardian", "croupier")])
def test_whoever_is_killed_no_namespace_is_left(house: House, who: tuple[str, ...]) -> None:
    delayed = {"at": "100ms", "packets": {"delay": "20ms", "for": "60s"}, "target": {"process": "keeper"}}
    playing = house.begin(wired(delayed, count=4_000))
    playing.until(j.Concluded)
    stored = playing.stored
    (wiring,) = networks.wirings({networks.VARIABLE: str(networks.folder(str(stored.path)))})
    running = stored.running
    for one in who:
        signals.send(getattr(running, one), "KILL")
    playing.process.wait(20)
    house.croupier("recover")
    stored.sees_everybody_gone()
    assert not any(procs.alive(one.keeper) for one in (wiring.hub, *wiring.homes))
    assert house.found_left() == []
