"""Look-ups that go wrong: for the target, for names that match, until healed or their time is over."""

from __future__ import annotations

import itertools
import subprocess

import pytest
from hands import SLEEPS, a_permit, eventually, identity, python, started
from wired import a_network, may_wire

from croupier.inject.dns import INJECTOR
from croupier.model.faults.names import Dns
from croupier.model.units import Ms
from croupier.system import control, networks, resolver
from croupier.testing import FAULT_RULES, RecordingAct, check_fault

pytestmark = may_wire
LONG = Ms(20_000)
LOOKS = "import socket, sys\nfor name in sys.stdin:\n try: print(socket.gethostbyname(name.strip()), flush=True)\n"
LOOKS += " except OSError as no: print(no.errno, flush=True)"


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net")
    known = {"api.example.com": "198.18.7.3"}
    with a_network(path, "db", "one", "two", names=known, run=f"names-{path}") as found:
        yield found


@pytest.fixture(autouse=True)
def of_the_round(net, monkeypatch):
    for name in (networks.VARIABLE, control.RUN):
        monkeypatch.setenv(name, net.env[name])


def looked_up(net, home, name):
    door = networks.path_of(net.home(home).keeper)
    return resolver.look_up(door, net.wiring.hub.address, name, 0.5)


def inject(fault, who):
    permit = a_permit(fault, who)
    act = RecordingAct(permit)
    return INJECTOR.inject(permit, fault, act), act


def test_it_keeps_the_rules(net):
    homes = itertools.cycle(("one", "two"))

    def spawn() -> subprocess.Popen[bytes]:
        return net.popen(next(homes), SLEEPS)

    def seen_by(pid: int) -> str:
        found = networks.home_of(net.env, identity(pid))
        assert found is not None
        return looked_up(net, found[1].name, "db")

    fault = Dns(for_ms=LONG, names="d?")
    assert check_fault(INJECTOR, fault=fault, spawn=spawn, observe=seen_by, moments=6) == tuple(FAULT_RULES)


@pytest.mark.parametrize("answer", ["nxdomain", "servfail", "time_out", "192.0.2.7"])
def test_only_the_target_and_the_names_meant_are_led_astray(net, answer):
    outcome, act = inject(Dns(for_ms=LONG, names="*.example.COM", answer=answer), net.home("one").keeper)
    assert (outcome.result, f"is answered with {answer}" in outcome.detail) == ("landed", True), outcome.detail
    assert looked_up(net, "one", "api.example.com") == answer
    assert looked_up(net, "one", "db") == net.address("db")
    assert looked_up(net, "two", "api.example.com") == net.address("db")
    assert INJECTOR.heal(act.records[0]).verified
    assert looked_up(net, "one", "api.example.com") == net.address("db")


def test_a_rule_that_nobody_lifts_ends_by_itself(net):
    outcome, _ = inject(Dns(for_ms=Ms(200), whose="everybody"), net.home("one").keeper)
    assert outcome.result == "landed"
    assert eventually(lambda: looked_up(net, "two", "db") == net.address("db"), 10)


def test_a_program_asks_our_resolver_and_the_host_keeps_its_own(net):
    program = net.settled("one", python(LOOKS))
    for name, expected in (("db", net.address("db")), ("api.example.com", net.address("db")), ("nowhere", "-2")):
        program.stdin.write(f"{name}\n".encode())
        program.stdin.flush()
        assert program.stdout.readline().decode().strip() == expected
    with open("/etc/resolv.conf") as ours:  # noqa: PTH123
        assert net.wiring.hub.address not in ours.read()


def test_who_asks_no_resolver_of_ours_is_missed(tmp_path, monkeypatch):
    with started(*SLEEPS) as who:
        outcome, act = inject(Dns(for_ms=LONG), who)
        assert (outcome.result, act.records) == ("missed", ())
        outcome, act = inject(Dns(for_ms=LONG, answer="1.2.3.400"), who)
        assert (outcome.result, "is no address" in outcome.detail) == ("missed", True)
