"""Programs whose weak moments are known, unmodified: what the search says of them is what was measured before.

The numbers of a program differ a little with its version and with what the workload prints, so a test names what
must be found, and what must not; `docs/reference/search.md` has the table.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from croupier.explore import explore
from croupier.explore.replaying import replay
from croupier.explore.shrinking import shrink
from croupier.store.searches import SearchDir
from croupier.trace import machine
from croupier.trace.levels import lacks

PROGRAMS = Path(__file__).parent / "programs"
KEYVALUE = PROGRAMS / "keyvalue.py"

pytestmark = [
    pytest.mark.searches,
    pytest.mark.skipif(sys.platform != "linux" or machine() is None, reason="calls are traced on 64-bit Linux only"),
]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def searched(store, **more):
    """The search of one store: fourteen operations, each acknowledged."""
    # The function of the check is in a file of its own, so that a server forks it for each state.
    checked = f"{KEYVALUE}:checked"
    from croupier.explore.api import setting_of
    from croupier.explore.search import Search

    os.environ["STORE"] = store
    setting = setting_of([sys.executable, str(KEYVALUE), "run", store], (checked,), check_call=True, **more)
    result = Search(setting, Path("runs")).run()
    fatal = [one for one in result.self_checks if one.fatal and one.held is not True]
    assert not fatal, fatal
    assert result.acked == 14
    return result


def causes(result):
    return " | ".join(group.cause for group in result.groups)


@pytest.mark.parametrize(
    "store",
    ["json-replace", "json-synced", "sqlite-delete", "sqlite-truncate", "sqlite-persist", "sqlite-wal",
     "sqlite-wal-normal"],
)  # fmt: skip
def test_what_is_safe_from_a_process_kill_is_accused_of_nothing(store):
    result = searched(store)
    assert (result.verdict, result.findings) == ("held", ()), causes(result)


@pytest.mark.parametrize(
    ("store", "least", "cause"),
    [
        ("json-naive", 14, "`notes.json` is emptied before it is written again"),
        ("sqlite-memory", 12, "no journal on disk to roll them back"),
        ("sqlite-off", 12, "no journal on disk to roll them back"),
        ("sqlite-twice", 100, "more than one transaction"),
        ("dumb", 20, "`notes.dir` is moved to `notes.bak` before the new one has its place"),
    ],
)
def test_what_a_process_kill_breaks_is_found_and_each_cause_is_confirmed(store, least, cause):
    result = searched(store)
    assert result.verdict == "violated"
    assert len(result.findings) >= least
    assert cause in causes(result)
    assert all(group.confirmed for group in result.groups)


def test_torn_writes_of_json_are_more_findings_of_the_same_cause():
    result = searched("json-naive", torn=True)
    assert len(result.findings) >= 26
    assert len(result.groups) <= 2


def test_tinydb_writes_over_its_file_and_cuts_it_afterwards():
    pytest.importorskip("tinydb", reason="not installed: tinydb (pip install tinydb)")
    result = searched("tinydb", torn=True)
    assert result.verdict == "violated"
    assert "`notes.json`" in causes(result)


def test_lmdb_survives_every_process_kill():
    pytest.importorskip("lmdb", reason="not installed: lmdb (pip install lmdb)")
    result = searched("lmdb")
    assert result.verdict == "held", causes(result)


def states_of(result):
    return {(one.state, one.acked) for one in SearchDir(Path(result.run)).read_points()}


@pytest.mark.parametrize(
    "store",
    ["json-naive", "json-replace", "json-synced", "dumb", "sqlite-off", "sqlite-memory", "sqlite-delete",
     "sqlite-truncate", "sqlite-persist", "sqlite-wal", "sqlite-twice"],
)  # fmt: skip
def test_both_ways_of_watching_give_the_same_states(store, monkeypatch):
    monkeypatch.setenv("SQLITE_SEED", "42")
    for level in ("seccomp", "ptrace"):
        if lacks(level):
            pytest.skip(f"{level} does not work here: {lacks(level)}")
    one, other = searched(store, level="seccomp"), searched(store, level="ptrace")
    assert (one.level[:7], other.level[:6]) == ("seccomp", "ptrace")
    assert states_of(one) == states_of(other)
    assert [group.pattern for group in one.groups] == [group.pattern for group in other.groups]


SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.mark.needs("python3-gdbm")
def test_gdbm_that_maps_its_file_is_watched_store_by_store():
    if subprocess.run([SYSTEM_PYTHON, "-c", "import dbm.gnu"], capture_output=True, check=False).returncode:
        pytest.skip("not installed: python3-gdbm")
    result = explore([SYSTEM_PYTHON, str(KEYVALUE), "run", "gdbm"], [SYSTEM_PYTHON, str(KEYVALUE), "check", "gdbm"])
    operations = SearchDir(Path(result.run)).read_operations()
    assert "mmap-store" in {one.call for one in operations}
    assert (result.verdict, result.acked) == ("violated", 14)
    # Its first page is made by several calls: until then there is no file that gdbm could read.
    assert all(one.confirmed for one in result.groups)


SCRIPT = ["PRAGMA journal_mode={mode};", "CREATE TABLE notes (n);", *(
    f"INSERT INTO notes VALUES ({n}); SELECT 'ack {n}';" for n in range(1, 9))]  # fmt: skip
LITE_CHECK = """
import os, sqlite3
from pathlib import Path
acked = sum(line.startswith('ack') for line in Path(os.environ['CROUPIER_ACKED']).read_text().splitlines())
file = Path(os.environ['CROUPIER_STATE']) / 'notes.db'
base = sqlite3.connect(file)
assert base.execute('PRAGMA integrity_check').fetchone() == ('ok',)
there = base.execute("SELECT count(*) FROM sqlite_master WHERE name='notes'").fetchone()[0]
count = base.execute('SELECT count(*) FROM notes').fetchone()[0] if there else 0
assert count >= acked, f'{acked} were acknowledged, {count} are there'
"""


@pytest.mark.needs("sqlite3")
@pytest.mark.parametrize(("mode", "verdict"), [("DELETE", "held"), ("WAL", "held"), ("OFF", "violated")])
def test_the_program_sqlite3_is_searched_as_the_library_is(tmp_path, mode, verdict):
    script, check = tmp_path / "script.sql", tmp_path / "check.py"
    script.write_text("\n".join(SCRIPT).format(mode=mode) + "\n")
    check.write_text(LITE_CHECK)
    result = explore(["sqlite3", "{state}/notes.db"], [sys.executable, "-S", str(check)], stdin=script)
    assert result.verdict == verdict, causes(result)
    if verdict == "violated":
        # It reads its statements from standard input, so that they can be shrunk to those that still fail.
        shrunk = shrink(f"{result.run}/{result.groups[0].first}", Path("runs"), most=40)
        assert shrunk.lines_after is not None and shrunk.lines_before is not None
        assert shrunk.lines_after < shrunk.lines_before


def test_a_hundred_of_a_hundred_replays_show_it_again():
    replayed, live = [], []
    for store in ("json-naive", "dumb", "sqlite-memory", "sqlite-twice"):
        result = searched(store)
        findings = [one.id for one in result.findings]
        chosen = [findings[place * len(findings) // 25] for place in range(25)] if len(findings) > 25 else findings
        replayed += [replay(f"{result.run}/{name}", Path("runs")).shows for name in chosen]
        live += [replay(f"{result.run}/{name}", Path("runs"), live=True).shows for name in chosen[::5]]
    while len(replayed) < 100:
        replayed.append(replay(f"{result.run}/{findings[len(replayed)]}", Path("runs")).shows)
    assert replayed == [True] * len(replayed)
    assert len(replayed) >= 100
    assert live == [True] * len(live)


@pytest.mark.needs("redis-server")
def test_redis_that_syncs_each_write_keeps_what_it_acknowledged(tmp_path):
    pytest.importorskip("redis", reason="not installed: redis (pip install redis)")
    socket = tmp_path / "socket"
    result = explore(
        ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", "{state}", "--appendonly", "yes",
         "--appendfsync", "always", "--save", ""],
        [sys.executable, str(PROGRAMS / "redis_client.py"), "check"],
        until=[sys.executable, str(PROGRAMS / "redis_client.py"), "write", str(socket)],
        setup=["rm", "-f", str(socket)],
        torn=True,
    )  # fmt: skip
    assert (result.verdict, result.acked) == ("held", 7), result.reasons


MODELS = ["power:ext4-ordered", "power:posix-strict"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("store", ["json-synced", "sqlite-wal"])
def test_what_syncs_everything_loses_nothing_in_a_power_cut(store, model):
    result = searched(store, model=model, budget=400)
    assert (result.verdict, result.findings) == ("held", ()), causes(result)


@pytest.mark.parametrize("model", MODELS)
def test_without_the_sync_of_the_directory_the_last_save_is_lost(model):
    result = searched("json-no-directory", model=model, budget=300)
    assert "the directory was not synced after `rename notes.json.tmp → notes.json`" in causes(result)
    assert len(result.groups) == 1
    if model == "power:ext4-ordered":
        # The next save's fsync commits the rename before it: it is never more than the last one.
        assert {one.reason.rpartition(": ")[2] for one in result.findings} == {"1 acknowledged operations are lost"}


@pytest.mark.parametrize("model", MODELS)
def test_sqlite_with_a_deleted_journal_may_lose_the_last_transaction_and_no_more(model):
    result = searched("sqlite-delete", model=model, budget=500)
    assert {one.reason.rpartition(": ")[2] for one in result.findings} == {"1 acknowledged operations are lost"}
    assert "the directory was not synced after `unlink notes.db-journal`" in causes(result)


def test_sqlite_wal_with_normal_loses_recent_commits_and_is_never_corrupt():
    result = searched("sqlite-wal-normal", model="power:ext4-ordered", budget=400)
    assert result.verdict == "violated"
    assert all("acknowledged operations are lost" in one.reason for one in result.findings)


def test_dbm_dumb_is_corrupt_after_a_power_cut():
    result = searched("dumb", model="power:ext4-ordered", budget=300)
    assert any("Error" in one.reason and "lost" not in one.reason for one in result.findings)


def test_the_version_of_sqlite_that_this_was_seen_with_is_known():
    assert sqlite3.sqlite_version_info >= (3, 8)
