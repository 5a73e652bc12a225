"""A lock that is held for a while: others are refused, and it is let go whoever died."""

from __future__ import annotations

import sqlite3
import time

import pytest
from hands import SLEEPS, a_permit, started
from served import a_postgres, psql

from croupier.inject import helpers, lock_database
from croupier.model.faults.database import LockDatabase
from croupier.model.units import Ms
from croupier.testing import RecordingAct, check_fault

INJECTOR = lock_database.INJECTOR
LONG = Ms(60_000)


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE notes (n)")
    made.close()
    return path


def is_locked(path):
    one = sqlite3.connect(path, timeout=0)
    try:
        one.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return True
    finally:
        one.close()
    return False


def eventually(holds, within_s=10):
    end = time.monotonic() + within_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_it_keeps_every_rule_of_a_fault(base):
    check_fault(
        INJECTOR, fault=LockDatabase(sqlite=str(base), for_ms=Ms(2_000)), moments=12,
        observe=lambda pid: is_locked(base),
        only=["says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little",
              "landed-is-seen", "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
              "misses-who-is-gone", "no-record-no-act", "heals-what-it-did", "heals-quickly", "heals-twice",
              "heals-when-gone", "obeys-a-halt", "heals-after-a-crash"],
    )  # fmt: skip


def test_a_helper_that_was_started_and_not_named_yet_is_found_by_its_mark(base):
    with started(*SLEEPS) as who:
        fault = LockDatabase(sqlite=str(base), for_ms=LONG)
        act = RecordingAct(permit := a_permit(fault, who))
        assert INJECTOR.inject(permit, fault, act).result == "landed"
        first = act.undo[0].record
        assert first is not None and first.data["helpers"] == []
        assert len(helpers.of(first)) == 1
        assert INJECTOR.heal(first).verified
        assert eventually(lambda: not is_locked(base))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give either sqlite or postgres"),
        ({"sqlite": "a", "postgres": "b"}, "give either sqlite or postgres"),
        ({"sqlite": "a", "what": "row"}, "locked as a whole"),
        ({"postgres": "dbname=x", "what": "table"}, "needs `table`"),
        ({"postgres": "dbname=x", "what": "table", "table": "x; DROP TABLE y"}, "is no name of a table"),
    ],
)
def test_what_does_not_belong_together_is_refused_beforehand(options, says):
    assert says in INJECTOR.lacking(LockDatabase(for_ms=LONG, **options))


def test_a_database_that_is_not_there_is_missed(tmp_path):
    with started(*SLEEPS) as who:
        fault = LockDatabase(sqlite=str(tmp_path / "none.db"), for_ms=LONG)
        act = RecordingAct(permit := a_permit(fault, who))
        outcome = INJECTOR.inject(permit, fault, act)
    assert (outcome.result, act.records) == ("missed", ())
    assert not (tmp_path / "none.db").exists()


@pytest.fixture
def server():
    with a_postgres() as found:
        yield found


@pytest.mark.needs("postgresql")
@pytest.mark.parametrize(
    ("options", "waits", "goes"),
    [
        ({"what": "row", "table": "notes", "where": "n = 1"}, "UPDATE notes SET n = n WHERE n = 1",
         "UPDATE notes SET n = n WHERE n = 2"),
        ({"what": "table", "table": "notes"}, "SELECT n FROM notes", "SELECT 1"),
        ({"what": "whole"}, "SELECT n FROM notes", "SELECT 1"),
    ],
)  # fmt: skip
def test_postgresql_keeps_others_waiting_and_lets_go_at_once(server, options, waits, goes):
    with started(*SLEEPS) as who:
        fault = LockDatabase(postgres=server, for_ms=LONG, **options)
        act = RecordingAct(permit := a_permit(fault, who))
        outcome = INJECTOR.inject(permit, fault, act)
        assert outcome.result == "landed", outcome
        assert "lock timeout" in psql(server, waits).stderr
        assert psql(server, goes).returncode == 0
        assert INJECTOR.heal(act.records[0]).verified
        assert eventually(lambda: psql(server, waits).returncode == 0)
