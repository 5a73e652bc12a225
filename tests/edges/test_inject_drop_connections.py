"""Connections that the server drops: gone, drawn by the seed, and nobody else's."""

from __future__ import annotations

import os
import subprocess

import pytest
from hands import SLEEPS, a_permit, eventually, started
from served import a_postgres, psql

from croupier.inject import drop_connections
from croupier.model.faults.database import DropConnections
from croupier.model.units import Percent
from croupier.testing import RecordingAct, check_fault

INJECTOR = drop_connections.INJECTOR
RULES = ["says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little"]


@pytest.fixture(scope="module")
def server():
    """One for all tests of a worker: what they end is their own connections."""
    with a_postgres() as found:
        yield found


@pytest.fixture
def clients(server):
    """Starts clients of a name, which sit in a transaction, and says who is still connected."""
    held = []

    def connect(*names):
        for name in names:
            env = {**os.environ, "PGAPPNAME": name}
            one = subprocess.Popen(["psql", "-X", "-q", "-d", server], env=env, text=True, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
            held.append(one)
            one.stdin.write("BEGIN;\n\\echo up\n")
            one.stdin.flush()
            assert one.stdout.readline() == "up\n"
        return held

    yield connect
    for one in held:
        one.kill()
        one.wait()
        one.stdin.close()
        one.stdout.close()
    assert eventually(lambda: connected(server) == [])


def connected(server):
    asked = "SELECT application_name FROM pg_stat_activity WHERE backend_type = 'client backend'"
    return sorted(one for one in psql(server, asked).stdout.split() if one != "psql")


def dropped(server, number=1, **options):
    with started(*SLEEPS) as who:
        permit = a_permit(DropConnections(postgres=server, **options), who, number=number)
        act = RecordingAct(permit)
        outcome = INJECTOR.inject(permit, permit.injection.fault, act)
        assert act.records == (), "nothing is left to put back"
        return outcome


def test_it_says_what_it_is():
    assert check_fault(INJECTOR, fault=DropConnections(postgres="host=/nowhere"), only=RULES) == tuple(RULES)


@pytest.mark.needs("postgresql")
def test_it_keeps_every_rule_of_a_fault(server, clients):
    def spawn():
        clients("kept")
        return subprocess.Popen(SLEEPS)

    # Not those of undo: a target that lives and has lost its connection is not put back.
    only = ["landed-is-seen", "misses-who-is-gone", "obeys-a-halt"]
    assert check_fault(
        INJECTOR, fault=DropConnections(postgres=server, application="kept"), spawn=spawn, only=only,
        observe=lambda pid: "kept" in connected(server),
    ) == tuple(only)  # fmt: skip


@pytest.mark.needs("postgresql")
def test_those_that_match_are_gone_and_the_others_stay(server, clients):
    held = clients("app-1", "app-2", "cron")
    outcome = dropped(server, application="app-*", database="postgres", user="m?")
    assert outcome.result == "landed", outcome
    assert "2 of 2" in outcome.detail
    assert connected(server) == ["cron"]
    held[0].stdin.write("SELECT 1;\n")
    held[0].stdin.close()
    assert "terminating connection due to administrator command" in held[0].stdout.read()


@pytest.mark.needs("postgresql")
@pytest.mark.parametrize(
    ("options", "left"), [({"count": 1}, 3), ({"percent": Percent(50)}, 2), ({"percent": Percent(1)}, 3), ({}, 0)]
)
def test_so_many_are_drawn(server, clients, options, left):
    clients("a", "b", "c", "d")
    assert dropped(server, **options).result == "landed"
    assert len(connected(server)) == left


@pytest.mark.needs("postgresql")
def test_where_nothing_matches_it_is_missed(server, clients):
    clients("app")
    outcome = dropped(server, application="web*")
    assert (outcome.result, connected(server)) == ("missed", ["app"])
    assert "no connection matches (1 are open)" in outcome.detail


@pytest.mark.needs("postgresql")
def test_who_may_not_be_ended_stays_and_it_is_missed_with_the_reason(server, clients):
    psql(server, "CREATE ROLE weak LOGIN")
    clients("app")
    outcome = dropped(server.replace("user=me", "user=weak"), application="app")
    assert (outcome.result, connected(server)) == ("missed", ["app"]), outcome
    # What another role is at is not shown, its name among it.
    assert "no connection matches" in outcome.detail or "superuser" in outcome.detail


def test_a_server_that_does_not_answer_is_missed(tmp_path):
    outcome = dropped(f"host={tmp_path} dbname=none")
    assert outcome.result == "missed"
    assert "could not be asked" in outcome.detail or "not installed" in outcome.detail


def test_what_does_not_belong_together_is_refused_beforehand():
    fault = DropConnections(postgres="dbname=x", count=1, percent=Percent(50))
    assert INJECTOR.lacking(fault) == "give either count or percent"
