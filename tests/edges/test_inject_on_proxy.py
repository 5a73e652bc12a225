"""Faults on a proxied connection keep the rules: seen to act on the target, written down first, lifted whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hands import eventually
from proxied import Answerer, Proxied, a_proxy

from croupier.inject import Outcome, delay_queries, mutate, network, on_proxy
from croupier.model.fault import Fault
from croupier.model.faults.network import DelayQueries, Mutate, Network
from croupier.model.units import Ms
from croupier.system import relay
from croupier.testing import FAULT_RULES, RecordingAct, a_permit, check_fault

CLIENT = """
import os, socket, sys, time
parent, port = os.getppid(), int(sys.argv[1])
file = os.open(f"{sys.argv[2]}/{os.getpid()}", os.O_CREAT | os.O_WRONLY)
one, told = socket.create_connection(("127.0.0.1", port)), False
while os.getppid() == parent:
    began = time.monotonic()
    try:
        one.sendall(b"ping-ping")
        got = b""
        while len(got) < 9:
            part = one.recv(9 - len(got))
            if not part:
                raise ConnectionError
            got += part
    except OSError:
        state = b"gone"
        one.close()
        time.sleep(0.05)
        try:
            one = socket.create_connection(("127.0.0.1", port))
        except OSError:
            pass
    else:
        state = b"slow" if time.monotonic() - began > 0.2 else b"fine" if got == b"ping-ping" else b"odd!"
    os.pwrite(file, state, 0)
    if not told:
        told = True
        print("ready", flush=True)
    time.sleep(0.01)
"""
LONG = Ms(20_000)


class Ring:
    """A server, a proxy in front of it, and clients that each write down how they see it."""

    def __init__(self, proxy: Proxied, folder: Path) -> None:
        self.proxy = proxy
        self._folder = folder

    def client(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-S", "-c", CLIENT, str(self.proxy.port), str(self._folder)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def seen_by(self, pid: int) -> str:
        return (self._folder / str(pid)).read_text()

    def rules(self) -> list[str]:
        state = relay.ask(self.proxy.where)
        assert state is not None, f"the proxy has gone: {self.proxy.process.poll()}"
        return [one.key for one in state.rules]


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    run = f"ring-{tmp_path}"
    monkeypatch.setenv(relay.RUN, run)
    server = Answerer()
    with a_proxy(server.address, run=run) as proxy:
        yield Ring(proxy, tmp_path)
    server.close()


def test_network_keeps_the_rules(ring: Ring) -> None:
    fault = Network(proxy="db", for_ms=LONG, direction="up", latency_ms=Ms(400))
    tried = check_fault(network.INJECTOR, fault=fault, spawn=ring.client, observe=ring.seen_by, moments=8)
    assert tried == tuple(FAULT_RULES)
    assert ring.rules() == []


@pytest.mark.parametrize(
    ("injector", "fault"),
    [
        (delay_queries.INJECTOR, DelayQueries(proxy="db", for_ms=LONG, least_ms=Ms(300), most_ms=Ms(400))),
        (mutate.INJECTOR, Mutate(proxy="db", for_ms=LONG, how="flip")),
    ],
)
def test_its_siblings_keep_the_rules(ring: Ring, injector: Callable[..., Outcome], fault: Fault) -> None:
    # What they share with `network` is tried there.
    rules = ("says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little",
             "landed-is-seen", "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
             "heals-what-it-did")  # fmt: skip
    tried = check_fault(injector, fault=fault, spawn=ring.client, observe=ring.seen_by, only=rules)
    assert tried == rules
    assert ring.rules() == []


def inject(ring: Ring, fault: Fault, pid: int) -> tuple[Outcome, RecordingAct]:
    permit = a_permit(fault, pid)
    act = RecordingAct(permit)
    injector = {"network": network, "mutate": mutate}[fault.kind].INJECTOR
    return injector.inject(permit, fault, act), act


@pytest.fixture
def client(ring: Ring) -> Iterator[subprocess.Popen[bytes]]:
    process = ring.client()
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_target_that_does_not_use_the_proxy_is_missed(ring: Ring, client: subprocess.Popen[bytes]) -> None:
    with subprocess.Popen(["sleep", "60"]) as idle:
        outcome, act = inject(ring, Network(proxy="db", for_ms=Ms(200), latency_ms=Ms(400)), idle.pid)
        idle.kill()
    assert outcome.result == "missed"
    assert "no connection by db" in outcome.detail
    assert ring.seen_by(client.pid) == "fine"
    assert [on_proxy.heal(one).verified for one in act.records] == [True]


def test_a_proxy_that_nobody_set_up_is_missed_and_nothing_is_written_down(ring: Ring) -> None:
    outcome, act = inject(ring, Network(proxy="cache", for_ms=Ms(200), latency_ms=Ms(400)), os.getpid())
    assert outcome.result == "missed"
    assert "no proxy cache" in outcome.detail
    assert act.records == ()


def test_a_rule_outlives_neither_its_proxy_nor_a_proxy_that_stood_still(
    ring: Ring, client: subprocess.Popen[bytes]
) -> None:
    fault = Network(proxy="db", for_ms=LONG, latency_ms=Ms(400))
    outcome, act = inject(ring, fault, client.pid)
    assert outcome.result == "landed"
    (record,) = act.records
    ring.proxy.process.send_signal(signal.SIGSTOP)
    held = on_proxy.heal(record)
    ring.proxy.process.send_signal(signal.SIGCONT)
    assert (held.verified, "does not answer" in held.note) == (False, True)
    assert on_proxy.heal(record).verified
    assert ring.rules() == []
    ring.proxy.process.kill()
    ring.proxy.process.wait()
    gone = on_proxy.heal(record)
    assert (gone.verified, "the proxy is gone" in gone.note) == (True, True)


def test_a_client_is_killed_with_half_a_changed_message_on_its_way(ring: Ring, client: subprocess.Popen[bytes]) -> None:
    outcome, act = inject(ring, Mutate(proxy="db", for_ms=LONG, kill=True), client.pid)
    assert (outcome.result, "in the middle of a changed message" in outcome.detail) == ("landed", True)
    assert client.wait(5) == -signal.SIGKILL
    assert [on_proxy.heal(one).verified for one in act.records] == [True]


def test_a_rule_that_nobody_lifts_ends_by_itself(ring: Ring, client: subprocess.Popen[bytes]) -> None:
    permit = a_permit(fault := Network(proxy="db", for_ms=Ms(1_200), cut="partition"), client.pid)
    act = RecordingAct(permit)
    assert network.INJECTOR.inject(permit, fault, act).result == "landed"
    # Nobody heals: the proxy lifts it by itself, a second after its time.
    assert ring.rules() == [act.records[0].key]
    assert eventually(lambda: ring.rules() == [], 5)
    assert eventually(lambda: ring.seen_by(client.pid) == "fine")


def test_the_record_comes_back_from_disk_and_heals(ring: Ring, client: subprocess.Popen[bytes]) -> None:
    outcome, act = inject(ring, Network(proxy="db", for_ms=LONG, cut="reset"), client.pid)
    assert outcome.result == "landed"
    assert eventually(lambda: ring.seen_by(client.pid) == "gone")
    (record,) = act.records
    assert on_proxy.heal(msgspec.json.decode(msgspec.json.encode(record), type=type(record))).verified
    assert eventually(lambda: ring.seen_by(client.pid) == "fine")
