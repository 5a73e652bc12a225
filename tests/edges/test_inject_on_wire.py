"""Packets that are dropped and hurt: seen to be so, spared where they are not meant, well again whoever died."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hands import SLEEPS, a_permit, eventually, identity, python, started
from wired import a_network, may_wire

from croupier.inject import on_wire, packets, partition, saturate
from croupier.model.faults.packets import Packets, Partition, Saturate
from croupier.model.probe import Tcp
from croupier.model.target import Identity
from croupier.model.units import Bytes, Ms, Percent
from croupier.observe import READERS
from croupier.system import networks, packet_rules
from croupier.testing import FAULT_RULES, FakeWorld, RecordingAct, check_fault

WHY_NOT = packet_rules.aside_lacking()
pytestmark = [may_wire, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "packets can be hurt")]

ECHOES = """
import socket, sys, threading
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind((sys.argv[1], 7000))
door = socket.create_server((sys.argv[1], 7000))
print("up", flush=True)
while True:
    said, who = one.recvfrom(2000)
    one.sendto(said, who)
"""
PINGS = """
import os, socket, sys, time
parent = os.getppid()
file = os.open(f"{sys.argv[2]}/{os.getpid()}", os.O_CREAT | os.O_WRONLY)
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.connect((sys.argv[1], 7000))
number, told = 0, False
while os.getppid() == parent:
    number += 1
    said, until, state = b"%d" % number, time.monotonic() + 0.25, b"fine"
    try:
        one.send(said)
        while True:
            one.settimeout(max(0.001, until - time.monotonic()))
            if one.recv(2000) == said:
                break
    except OSError:
        state = b"late"
    os.pwrite(file, state, 0)
    if not told:
        told = True
        print("up", flush=True)
    time.sleep(0.01)
"""
LONG = Ms(20_000)


class Ring:
    """A server that echoes, and clients at homes of their own that each write down how they see it."""

    def __init__(self, net, folder: Path) -> None:
        self.net = net
        self._folder = folder
        self.clients: list[subprocess.Popen[bytes]] = []
        self._homes = itertools.cycle(("one", "two", "three", "four"))

    def client(self, home: str = "") -> subprocess.Popen[bytes]:
        child = self.net.popen(home or next(self._homes), [*python(PINGS), self.net.address("db"), str(self._folder)])
        self.clients.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        return child

    def seen_by(self, pid: int) -> str:
        return (self._folder / str(pid)).read_text()

    def left(self) -> str:
        """What is in the hub beside what a network has."""
        said = self.net.hub("sh", "-c", "nft list tables; ip -o link show; ip rule show")
        kept = [one for one in said.splitlines() if "croupier_" in one or "shape" in one or "fwmark" in one]
        return "\n".join(kept)


@pytest.fixture(scope="module")
def everybody(tmp_path_factory):
    with a_network(tmp_path_factory.mktemp("net"), "db", "one", "two", "three", "four") as net:
        net.start("db", [*python(ECHOES), net.address("db")], ready=b"up")
        yield net


@pytest.fixture
def ring(everybody, tmp_path, monkeypatch):
    monkeypatch.setenv(networks.VARIABLE, everybody.env[networks.VARIABLE])
    found = Ring(everybody, tmp_path)
    yield found
    for one in found.clients:
        one.kill()
    assert found.left() == ""


def inject(fault, who: Identity):
    permit = a_permit(fault, who)
    act = RecordingAct(permit)
    injector = {"partition": partition, "packets": packets, "saturate": saturate}[fault.kind].INJECTOR
    return injector.inject(permit, fault, act), act


def test_partition_keeps_the_rules(ring):
    fault = Partition(for_ms=LONG, direction="in")
    tried = check_fault(partition.INJECTOR, fault=fault, spawn=ring.client, observe=ring.seen_by, moments=4)
    assert tried == tuple(FAULT_RULES)


def test_packets_keep_the_rules(ring):
    # What they share with `partition` is tried there.
    rules = ("says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little",
             "landed-is-seen", "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
             "heals-what-it-did", "obeys-a-halt", "heals-after-a-crash")  # fmt: skip
    fault = Packets(for_ms=LONG, delay_ms=Ms(600))
    tried = check_fault(packets.INJECTOR, fault=fault, spawn=ring.client, observe=ring.seen_by, moments=3, only=rules)
    assert tried == rules


def test_a_cut_from_one_leaves_the_others_and_croupier(ring):
    one, two = ring.client("one"), ring.client("two")
    db = ring.net.home("db").keeper
    outcome, act = inject(Partition(for_ms=LONG, peers=("one",)), db)
    assert (outcome.result, "cut off from one" in outcome.detail) == ("landed", True)
    assert eventually(lambda: ring.seen_by(one.pid) == "late")
    assert eventually(lambda: ring.seen_by(two.pid) == "fine")
    assert READERS["tcp"](Tcp(host=ring.net.address("db"), port=7000), FakeWorld(env=dict(ring.net.env))).held
    assert on_wire.heal(act.records[0]).verified
    assert eventually(lambda: ring.seen_by(one.pid) == "fine")


def test_croupier_is_cut_off_where_it_is_named(ring):
    probe = Tcp(host=ring.net.address("db"), port=7000, within_ms=Ms(300))
    world = FakeWorld(env=dict(ring.net.env))
    # Nothing else goes over that wire, so the rule is seen to act only when somebody asks.
    permit = a_permit(fault := Partition(for_ms=Ms(1), peers=("croupier",)), ring.net.home("db").keeper)
    act = RecordingAct(permit)
    assert partition.INJECTOR.inject(permit, fault, act).result == "missed"
    assert READERS["tcp"](probe, world).held is False
    assert on_wire.heal(act.records[0]).verified
    assert READERS["tcp"](probe, world).held


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": Percent(100)}, " lost"),
        ({"loss": Percent(50)}, " lost"),
        ({"duplicate": Percent(100)}, " doubled"),
        ({"delay_ms": Ms(30), "jitter_ms": Ms(20)}, " late"),
        ({"delay_ms": Ms(5), "reorder": Percent(50)}, " late"),
        ({"corrupt": Percent(100)}, " corrupted"),
        ({"rate_bytes": Bytes(20)}, " late"),
    ],
)
def test_each_way_is_seen_to_act(ring, options, says):
    client = ring.client()
    outcome, act = inject(Packets(for_ms=LONG, **options), identity(client.pid))
    assert (outcome.result, says in outcome.detail) == ("landed", True), outcome.detail
    late = any(name in options for name in ("loss", "corrupt", "rate_bytes"))
    assert not late or eventually(lambda: ring.seen_by(client.pid) == "late")
    assert on_wire.heal(act.records[0]).verified
    assert eventually(lambda: ring.seen_by(client.pid) == "fine", 10)


def test_a_shaper_that_is_killed_takes_no_packet_with_it(ring):
    client = ring.client()
    outcome, act = inject(Packets(for_ms=LONG, loss=Percent(100)), identity(client.pid))
    assert outcome.result == "landed"
    (pid, _), *_ = act.records[0].data["helpers"]
    assert eventually(lambda: ring.seen_by(client.pid) == "late")
    os.kill(pid, signal.SIGKILL)
    # Nobody heals, and the rule is still there: with the device the way aside is gone.
    assert eventually(lambda: ring.seen_by(client.pid) == "fine", 10)
    assert on_wire.heal(act.records[0]).verified


def test_who_lives_elsewhere_or_sends_nothing_is_missed(ring):
    with started(*SLEEPS) as who:
        outcome, act = inject(Packets(for_ms=LONG, loss=Percent(9)), who)
    assert (outcome.result, act.records) == ("missed", ())
    assert "lives in no network" in outcome.detail
    outcome, act = inject(Partition(for_ms=LONG, peers=("nobody",)), ring.net.home("one").keeper)
    assert (outcome.result, act.records) == ("missed", ())
    assert "nobody called nobody lives in its network, lan" in outcome.detail
    outcome, act = inject(Partition(for_ms=Ms(50)), ring.net.home("three").keeper)
    assert (outcome.result, "went over its wire" in outcome.detail) == ("missed", True)
    assert on_wire.heal(act.records[0]).verified


def test_somebody_elses_rules_are_neither_taken_for_ours_nor_touched(ring):
    client = ring.client()
    ring.net.hub("nft", "add", "table", "inet", "other")
    try:
        outcome, act = inject(Partition(for_ms=LONG), identity(client.pid))
        assert outcome.result == "landed"
        name = act.records[0].data["name"]
        with pytest.raises(OSError, match="File exists"):
            packet_rules.put(ring.net.wiring.hub.keeper, name, ["ip saddr 198.18.0.1"], "drop", look_ups=False)
        assert on_wire.heal(act.records[0]).verified
        assert "inet other" in ring.net.hub("nft", "list", "tables")
    finally:
        ring.net.hub("nft", "delete", "table", "inet", "other")


def test_what_waits_goes_on_when_the_fault_is_over(ring):
    sends = (
        "import socket, sys\none = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for line in sys.stdin:\n one.sendto(b'hello', (sys.argv[1], 7000))\n"
        " print(one.recv(99).decode(), flush=True)"
    )
    child = ring.net.popen("four", [*python(sends), ring.net.address("db")])
    permit = a_permit(fault := Packets(for_ms=LONG, delay_ms=Ms(15_000)), identity(child.pid))
    done = []
    act = RecordingAct(permit)
    at_work = threading.Thread(target=lambda: done.append(packets.INJECTOR.inject(permit, fault, act)))
    at_work.start()
    assert eventually(lambda: "croupier_" in ring.left(), 20)
    child.stdin.write(b"now\n")
    child.stdin.flush()
    at_work.join(20)
    assert done[0].result == "landed", done
    began = time.monotonic()
    assert on_wire.heal(act.records[0]).verified
    assert child.stdout.readline() == b"hello\n"
    assert time.monotonic() - began < 10


def test_a_wire_is_filled_up_to_its_rate_and_no_longer_than_asked(ring):
    rules = ("says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little",
             "landed-is-seen", "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
             "heals-what-it-did")  # fmt: skip
    fault = Saturate(for_ms=LONG, rate_bytes=Bytes(200_000))
    assert check_fault(saturate.INJECTOR, fault=fault, spawn=ring.client, observe=is_flooded, only=rules) == rules


def is_flooded(pid: int) -> bool:
    """Whether more comes in than a ping now and then."""
    before = saturate._arrived(identity(pid))
    time.sleep(0.1)
    return saturate._arrived(identity(pid)) - before > 5_000


def test_connections_are_filled_where_the_target_listens(ring):
    db = ring.net.home("db").keeper
    options = {"how": "connections", "port": 7000, "connections": 4, "source": "two", "rate_bytes": Bytes(100_000)}
    outcome, act = inject(Saturate(for_ms=LONG, **options), db)
    assert (outcome.result, "filled from two on 4 connections" in outcome.detail) == ("landed", True), outcome.detail
    assert saturate.INJECTOR.heal(act.records[0]).verified
    outcome, act = inject(Saturate(for_ms=LONG, source="nobody", rate_bytes=Bytes(100)), db)
    assert (outcome.result, act.records) == ("missed", ())


@pytest.mark.parametrize(
    ("options", "says"),
    [({"rate_bytes": Bytes(1 << 30)}, "1B to 100MiB"), ({"rate_bytes": Bytes(1), "size_bytes": Bytes(9_000)}, "1472B")],
)
def test_a_flood_out_of_bounds_is_refused_beforehand(options, says):
    assert says in saturate.INJECTOR.lacking(Saturate(for_ms=LONG, **options))
