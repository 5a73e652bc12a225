"""A port that is taken: refused to who wants it, given back, and never taken from who has it."""

from __future__ import annotations

import errno
import os
import socket

import pytest
from hands import SLEEPS, a_permit, eventually, python, started

from croupier.inject import helpers
from croupier.inject.occupy_port import INJECTOR
from croupier.model.faults.ports import OccupyPort
from croupier.model.units import Ms
from croupier.system import procs, signals
from croupier.testing import RecordingAct, check_fault

LONG = Ms(60_000)
LISTENS = (
    "import socket, sys, time\none = socket.socket()\none.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
    "one.bind(('127.0.0.1', {port}))\none.listen()\nprint('up', flush=True)\ntime.sleep(300)"
)
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@pytest.fixture
def port():
    """A port that is free, or was so a moment ago, outside of the range that the kernel hands out by itself."""
    for number in range(20_000 + os.getpid() % 10_000, 32_000):
        if all(may_bind(number, one) for one in KINDS):
            return number
    raise AssertionError("no port is free")


def may_bind(port, protocol="tcp", host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, KINDS[protocol]) as one:
        if protocol == "tcp":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError as problem:
            assert problem.errno == errno.EADDRINUSE
            return False
    return True


def names(folder):
    return [one.name for one in folder.iterdir()]


def inject(who, **options):
    fault = OccupyPort(for_ms=LONG, **options)
    act = RecordingAct(permit := a_permit(fault, who))
    return INJECTOR.inject(permit, fault, act), act


def test_it_keeps_every_rule_of_a_fault(port):
    check_fault(
        INJECTOR, fault=OccupyPort(port=port, for_ms=Ms(2_000)), moments=6, observe=lambda pid: may_bind(port),
        only=["says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little",
              "landed-is-seen", "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
              "misses-who-is-gone", "no-record-no-act", "heals-what-it-did", "heals-twice", "heals-when-gone",
              "obeys-a-halt", "heals-after-a-crash"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "another"),
    [
        ({}, ("tcp", "127.0.0.1")),
        ({}, ("tcp", "0.0.0.0")),
        ({"listen": False}, ("tcp", "127.0.0.1")),
        ({"protocol": "udp"}, ("udp", "127.0.0.1")),
    ],
)
def test_a_free_port_is_refused_to_others_until_it_is_healed(port, options, another):
    with started(*SLEEPS) as who:
        outcome, act = inject(who, port=port, **options)
        assert outcome.result == "landed", outcome
        assert not may_bind(port, *another)
        assert INJECTOR.heal(act.records[0]).verified
        assert may_bind(port, *another)


def test_what_is_merely_bound_refuses_clients_and_what_listens_lets_them_wait(port):
    with started(*SLEEPS) as who:
        for listen in (True, False):
            _, act = inject(who, port=port, listen=listen)
            with socket.socket() as client:
                client.settimeout(5)
                assert (client.connect_ex(("127.0.0.1", port)) == 0) == listen
            assert INJECTOR.heal(act.records[0]).verified


def test_the_target_that_has_it_keeps_it_and_is_told_of(port):
    with started(*python(LISTENS.format(port=port)), ready=b"up") as who:
        outcome, act = inject(who, port=port)
        assert (outcome.result, act.records) == ("missed", ())
        assert "itself: end it first (`kill: true`)" in outcome.detail
        assert procs.alive(who)


def test_with_kill_it_is_taken_in_the_moment_in_which_its_owner_ends(port):
    with started(*python(LISTENS.format(port=port)), ready=b"up") as who:
        # A connection that is open, so that the port would be in TIME_WAIT.
        with socket.create_connection(("127.0.0.1", port)):
            outcome, act = inject(who, port=port, kill=True)
        assert outcome.result == "landed", outcome
        assert not procs.alive(who)
        assert not may_bind(port)
        healing = INJECTOR.heal(act.records[0])
        assert healing.verified
        assert "is gone" in healing.note
        assert may_bind(port)


def test_it_waits_for_another_to_end_the_owner(port):
    with started(*python(LISTENS.format(port=port)), ready=b"up") as who:
        fault = OccupyPort(port=port, for_ms=LONG, within_ms=Ms(10_000))
        ends = {"after": lambda step: step.what == "start" and signals.send(who, "KILL"), "before": lambda step: None}
        act = RecordingAct(permit := a_permit(fault, who), on_step=lambda moment, step: ends[moment](step))
        outcome = INJECTOR.inject(permit, fault, act)
        assert outcome.result == "landed", outcome
        assert INJECTOR.heal(act.records[0]).verified


def test_a_stranger_keeps_what_it_has(port):
    with started(*SLEEPS) as who, started(*python(LISTENS.format(port=port)), ready=b"up") as other:
        outcome, act = inject(who, port=port, kill=True)
        assert outcome.result == "missed", outcome
        assert "somebody has it" in outcome.detail
        assert INJECTOR.heal(act.records[0]).verified
        assert procs.alive(who)
        assert procs.alive(other)


def test_the_path_of_a_socket_is_taken_and_taken_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with started(*SLEEPS) as who, socket.socket(socket.AF_UNIX) as wants:
        outcome, act = inject(who, path="app.sock")
        assert outcome.result == "landed", outcome
        assert names(tmp_path) == ["app.sock"]
        with pytest.raises(OSError, match="in use"):
            wants.bind("app.sock")
        assert INJECTOR.heal(act.records[0]).verified
        assert names(tmp_path) == []


def test_a_socket_that_the_program_made_in_its_place_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with started(*SLEEPS) as who, socket.socket(socket.AF_UNIX) as wants:
        _, act = inject(who, path="app.sock")
        (tmp_path / "app.sock").unlink()
        wants.bind("app.sock")
        assert INJECTOR.heal(act.records[0]).verified
        assert names(tmp_path) == ["app.sock"]
        outcome, act = inject(who, path="app.sock")
        assert (outcome.result, act.records) == ("missed", ())


def test_a_crash_before_the_path_was_given_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with started(*SLEEPS) as who:
        _, act = inject(who, path="app.sock")
        (tmp_path / "app.sock").rename(tmp_path / f".croupier-{who.pid}-1.1")
        first = act.undo[0].record
        assert len(helpers.of(first)) == 1
        assert INJECTOR.heal(first).verified
        assert eventually(lambda: names(tmp_path) == [])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give either port or path"),
        ({"port": 1, "path": "a"}, "give either port or path"),
        ({"path": "a", "kill": True}, "leave out `kill`"),
    ],
)
def test_what_does_not_belong_together_is_refused_beforehand(options, says):
    assert says in INJECTOR.lacking(OccupyPort(for_ms=LONG, **options))


def test_what_is_no_port_is_missed():
    with started(*SLEEPS) as who:
        assert "is no number of a port" in inject(who, port="http")[0].detail
