"""Lock_database: a helper of ours takes a lock of the database, and holds it until it is ended.

The lock is a transaction of the helper's connection: when the helper is gone the database lets it go by itself, so the
record holds nothing but the mark by which the helper is found. Landed is what a second connection was refused.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from pathlib import Path

from ..model.errors import TargetError
from ..model.fault import Fault
from ..model.faults.database import LockDatabase
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import procs, psql
from ..system.clock import now_us
from . import Act, Outcome, helpers, too_late

_SEEN_WITHIN_MS = 5_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")
_SQLITE = (
    "import sqlite3, sys, time\n"
    "base = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)\n"
    "base.execute('BEGIN EXCLUSIVE')\n"
    "time.sleep(float(sys.argv[2]))\n"
)
_ALL_TABLES = (
    "DO $$ DECLARE one regclass; BEGIN FOR one IN SELECT c.oid FROM pg_class c WHERE c.relkind = 'r' AND"
    " pg_get_userbyid(c.relowner) = current_user AND c.relnamespace::regnamespace::text NOT LIKE 'pg_%' AND"
    " c.relnamespace::regnamespace::text <> 'information_schema' LOOP"
    " EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', one); END LOOP; END $$"
)


class LockDatabaseInjector:
    """Carries out `lock_database`."""

    kind = "lock_database"
    spec: type[Fault] = LockDatabase
    summary = "Hold a lock of a SQLite or PostgreSQL database, for a while: everybody else waits."
    needs = "For PostgreSQL: psql, and a user who may lock."
    heals = "The helper that holds the lock is ended, and seen to be gone: the database lets the lock go then."
    example = 'lock_database: {sqlite: "${state}/app.db", for: 3s}'

    def lacking(self, fault: LockDatabase) -> str:
        """Whether the options belong together, and whether psql is there."""
        if bool(fault.sqlite) == bool(fault.postgres):
            return "give either sqlite or postgres"
        if fault.sqlite:
            return "SQLite is locked as a whole: leave out `what`" if fault.what != "whole" else ""
        if fault.what != "whole" and not _NAME.fullmatch(fault.table):
            return f"{fault.table!r} is no name of a table" if fault.table else f"{fault.what} needs `table`"
        return psql.lacking()

    def inject(self, permit: Permit, fault: LockDatabase, act: Act) -> Outcome:
        """Take the lock once, whoever the targets are; landed when another connection was refused it."""
        decided_us = now_us()
        lack = self.lacking(fault)
        outcome = Outcome(result="missed", detail=lack) if lack else _lock(permit.targets[0], fault, act)
        return Outcome(result=outcome.result, detail=outcome.detail, us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: LockDatabase, act: Act) -> None:
        """The helper holds it."""

    def heal(self, record: UndoRecord) -> Healing:
        """End the helper."""
        left = helpers.end(record)
        if left:
            return Healing(verified=False, note=f"whoever holds the lock is still alive: {', '.join(map(str, left))}")
        return Healing(verified=True, note="" if procs.alive(record.who) else f"{record.who} is gone")


def _lock(target: Seen, fault: LockDatabase, act: Act) -> Outcome:
    if late := too_late(target, act, "its database could be locked"):
        return late
    if fault.sqlite and not Path(act.cwd, fault.sqlite).is_file():
        return Outcome(result="missed", detail=f"{target}: there is no database {fault.sqlite}")
    key = act.key(target)
    record = UndoRecord(
        key=key, fault="lock_database", who=target.identity, data=helpers.marked(act.env, key),
        deadline_us=helpers.deadline_us(fault.for_ms),
    )  # fmt: skip
    act.intend(record)
    try:
        who = helpers.start(record, _holding(fault, act), act, psql.named({}))
    except TargetError as problem:
        return Outcome(result="unsure", detail=f"{target}: the lock could not be asked for: {problem.message}")
    seen = act.wait(_SEEN_WITHIN_MS, lambda: not procs.alive(who) or _is_locked(fault, act))
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as its database was locked")
    if not seen or not procs.alive(who):
        return Outcome(result="unsure", detail=f"{target}: the lock was not seen to be held")
    what = fault.sqlite or f"{fault.what} {fault.table}".strip()
    return Outcome(result="landed", detail=f"{target}: {what} is locked")


def _holding(fault: LockDatabase, act: Act) -> list[str]:
    """The command of the helper. It ends by itself a little after the fault's time, should nobody end it."""
    seconds = f"{int(fault.for_ms) / 1_000 + 30:g}"
    if fault.sqlite:
        return [sys.executable, "-S", "-c", _SQLITE, str(Path(act.cwd, fault.sqlite)), seconds]
    # The transaction waits in the client, so that the server hears of its end at once.
    steps = ["BEGIN", _statement(fault), f"\\! sleep {seconds}"]
    return [*psql.command(fault.postgres), *(word for step in steps for word in ("-c", step))]


def _statement(fault: LockDatabase) -> str:
    if fault.what == "row":
        return f"SELECT 1 FROM {fault.table} WHERE {fault.where} FOR UPDATE"
    return _ALL_TABLES if fault.what == "whole" else f"LOCK TABLE {fault.table} IN ACCESS EXCLUSIVE MODE"


def _is_locked(fault: LockDatabase, act: Act) -> bool:
    """Whether another connection is refused what the lock keeps."""
    if fault.sqlite:
        try:
            base = sqlite3.connect(f"file:{Path(act.cwd, fault.sqlite)}?mode=rw", uri=True, timeout=0)
        except sqlite3.Error:
            return False
        try:
            base.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as problem:
            return "locked" in str(problem)
        finally:
            base.close()
        return False
    asked = "SET lock_timeout = '100ms'; BEGIN; " + _statement(fault).replace("UPDATE", "UPDATE NOWAIT") + "; ROLLBACK"
    answer = psql.ask(fault.postgres, asked, act.env, halted=lambda: act.halted)
    return answer.failed and "lock" in answer.trouble


INJECTOR = LockDatabaseInjector()
