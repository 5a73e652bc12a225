"""Networks of a round: processes reach each other there, nobody else does, and nothing is left, whoever died."""

from __future__ import annotations

import socket

import pytest
from hands import eventually, python
from wired import Hands, a_network, may_wire

from croupier.arrange import subnet
from croupier.model.arrangement import Subnet
from croupier.model.probe import Tcp
from croupier.observe import READERS
from croupier.system import networks, procs
from croupier.testing import FakeWorld

pytestmark = may_wire
ANSWERS = (
    "import socket, sys\nd = socket.create_server((sys.argv[1], 7000))\nprint('up', flush=True)\n"
    "while True:\n p, who = d.accept()\n p.sendall(who[0].encode())\n p.close()"
)
ASKS = (
    "import socket, sys\np = socket.create_connection((sys.argv[1], 7000), 5)\nprint(p.recv(99).decode(), flush=True)"
)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with a_network(tmp_path_factory.mktemp("net"), "db", "app") as found:
        found.start("db", [*python(ANSWERS), found.address("db")], ready=b"up")
        yield found


def test_processes_reach_each_other_by_their_addresses(net):
    asks = net.popen("app", [*python(ASKS), net.address("db")])
    assert asks.stdout.readline().decode().strip() == net.address("app") == "198.18.7.4"


def test_nobody_there_reaches_the_outside_and_nobody_outside_gets_in(net):
    with socket.create_server(("127.0.0.1", 0)) as door:
        tries = (
            "import socket, sys\n"
            "for host in ('127.0.0.1', '198.19.0.1'):\n"
            " try: socket.create_connection((host, int(sys.argv[1])), 2)\n"
            " except OSError as no: print(type(no).__name__, no.errno, flush=True)"
        )
        lonely = net.popen("app", [*python(tries), str(door.getsockname()[1])])
        assert lonely.communicate(timeout=30)[0].split() == [b"ConnectionRefusedError", b"111", b"OSError", b"101"]
    assert net.address("db") not in open("/proc/net/fib_trie").read()  # noqa: PTH123, SIM115


def test_a_probe_asks_from_a_home_of_its_own(net):
    world = FakeWorld(env=dict(net.env))
    reading = READERS["tcp"](Tcp(host=net.address("db"), port=7000), world)
    assert reading.held, reading.detail
    there = networks.door_to(net.env, net.address("db"))
    assert there == networks.path_of(net.home("croupier").keeper)
    assert networks.door_to(net.env, "127.0.0.1") == networks.door_to(net.env, "localhost") == ""


def test_a_process_is_known_by_where_it_lives(net):
    who = net.start("app", ["sleep", "60"])
    found = networks.home_of(net.env, who)
    assert found is not None
    assert (found[0].name, found[1].name) == ("lan", "app")
    assert networks.home_of(net.env, net.wiring.hub.keeper) is None
    assert networks.home_of({}, who) is None


def test_it_is_taken_down_from_the_record_alone_and_twice(tmp_path):
    hands = Hands(tmp_path)
    spec = Subnet().joined(0, ("db",))
    subnet.ARRANGER.set_up("lan", spec, spec.range, hands)
    (record,) = hands.records.values()
    assert (hands.done, len(record.data["keepers"])) == (["subnet.lan"], 3)
    assert subnet.ARRANGER.heal(record).verified
    assert not any(procs.alive(one) for one in subnet.named(record, record.data["keepers"]))
    again = subnet.ARRANGER.heal(record)
    assert (again.verified, again.note) == (True, "the network is gone")
    assert list(networks.wirings(hands.env)) == []


def test_whoever_lives_on_is_cut_off_when_the_network_goes(tmp_path):
    looks = "import sys\nfor line in sys.stdin: print('eth0' in open('/proc/self/net/dev').read(), flush=True)"
    with a_network(tmp_path, "db") as net:
        child = net.popen("db", python(looks))

        def has_wire() -> bool:
            child.stdin.write(b"?\n")
            child.stdin.flush()
            return child.stdout.readline().strip() == b"True"

        assert has_wire()
        hub = net.wiring.hub.keeper
        subnet.ended([hub])
        assert eventually(lambda: not has_wire(), 20)
        with pytest.raises(OSError, match="is gone"):
            networks.path_of(hub)


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(networks, "_found", lambda one: None if one == "ip" else one)
    assert networks.missing("unshare", "ip") == "ip is not installed (apt-get install iproute2)"
