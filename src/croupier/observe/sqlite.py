"""The probe *sqlite*: a database is sound, and a query gives the expected first value.

It is opened read-only and never copied, so what a crash left is seen as it is. A transaction that was cut and has not
been rolled back yet needs somebody who may write; until the program does that, the answer is *unknown*. While it reads,
a database in rollback mode cannot be committed to: ask a busy one for a query, and for its integrity at the end.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ..model.probe import Reading, Sqlite
from .answer import Deadline, answering, in_time, many, no, shorten, size, unknown, yes
from .view import View

_LARGE_BYTES = 64 << 20
_MOST_PROBLEMS = 10
_STEPS_BETWEEN_LOOKS = 1_000
_SPARE_MS = 200
"""What the file system gets beyond SQLite's own time, since only the latter says where it was."""


@answering
def read(probe: Sqlite, view: View) -> Reading:
    """Open, check, ask."""
    path = view.cwd / probe.path
    deadline = Deadline(probe.within_ms)
    try:
        return in_time(f"sqlite {path}", lambda: _ask(probe, path, deadline), probe.within_ms + _SPARE_MS)
    except TimeoutError as problem:
        return unknown(f"it could not be read within {probe.within_ms}{f': {problem}' if str(problem) else ''}")


def _ask(probe: Sqlite, path: Path, deadline: Deadline) -> Reading:
    try:
        bytes_on_disk = path.stat().st_size
    except FileNotFoundError:
        return no("there is no such database")
    except OSError as problem:
        return unknown(f"it cannot be looked at: {problem.strerror}")
    if not path.is_file():
        return unknown("it is no regular file")
    try:
        return _ask_open(probe, path, bytes_on_disk, deadline, frozen=False)
    except sqlite3.Error as problem:
        if not _needs_a_writable_folder(problem) or not _is_at_rest(path):
            return _explain(problem, path, probe)
    # A database in WAL mode that nobody has open, in a folder that we may not write to: the file is all there is.
    before = path.stat()
    try:
        reading = _ask_open(probe, path, bytes_on_disk, deadline, frozen=True)
    except sqlite3.Error as problem:
        return _explain(problem, path, probe)
    after = path.stat()
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size) or not _is_at_rest(path):
        return unknown("it was written to while it was read, in a folder where we may not take part in its locking")
    return reading


def _ask_open(probe: Sqlite, path: Path, bytes_on_disk: int, deadline: Deadline, *, frozen: bool) -> Reading:
    address = f"file:{quote(os.fspath(path.absolute()))}?mode=ro{'&immutable=1' if frozen else ''}"
    with closing(sqlite3.connect(address, uri=True, timeout=deadline.left(), isolation_level=None)) as database:
        # Text that is not UTF-8 is the program's business, and no reason to fail.
        database.text_factory = lambda raw: raw.decode(errors="replace")
        database.set_progress_handler(lambda: deadline.over, _STEPS_BETWEEN_LOOKS)
        database.set_authorizer(_allow)
        said = []
        if probe.integrity is not None or not probe.query:
            said.append(_check(database, bytes_on_disk, deadline))
        if probe.query and not any(one.held is False for one in said):
            said.append(_query(database, probe, deadline))
    # What is wrong is said before what could not be told.
    for held in (False, None):
        for one in said:
            if one.held is held:
                return one
    values = {name: value for one in said for name, value in one.values.items()}
    return yes("; ".join(one.detail for one in said), **values)


def _allow(action: int, *about: str | None) -> int:
    # Read-only goes for this database alone: ATTACH, and VACUUM INTO by way of it, would make other files.
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK


def _execute(database: sqlite3.Connection, statement: str, deadline: Deadline) -> sqlite3.Cursor:
    database.execute(f"pragma busy_timeout = {max(1, int(deadline.left() * 1_000))}")
    return database.execute(statement)


def _check(database: sqlite3.Connection, bytes_on_disk: int, deadline: Deadline) -> Reading:
    if bytes_on_disk == 0:
        return unknown("the file is empty: SQLite takes that for a sound database, and it proves nothing")
    checks = ["integrity_check"]
    if bytes_on_disk > _LARGE_BYTES:
        # The quick one leaves out what indexes say about tables; it finds most damage in a fraction of the time.
        checks.insert(0, "quick_check")
    done = ""
    for check in checks:
        try:
            rows = [str(row[0]) for row in _execute(database, f"pragma {check}({_MOST_PROBLEMS})", deadline)]
        except sqlite3.Error as problem:
            if _code(problem) == sqlite3.SQLITE_INTERRUPT and done:
                return unknown(f"{done}, but the full check was not done in time ({size(bytes_on_disk)})")
            raise
        if rows != ["ok"]:
            most = " or more" if len(rows) >= _MOST_PROBLEMS else ""
            return no(
                f"it is damaged, {many(len(rows), 'problem')}{most}: {shorten('; '.join(rows), 300)}", problems=rows
            )
        done = f"{check.replace('_', ' ')} is ok"
    return yes(done)


def _query(database: sqlite3.Connection, probe: Sqlite, deadline: Deadline) -> Reading:
    row = _execute(database, probe.query, deadline).fetchone()
    if row is None:
        return no("the query gave no row")
    value = row[0]
    if probe.expect is None or _equal(value, probe.expect):
        return yes(f"the query gave {_show(value)}", value=_plain(value))
    return no(f"the query gave {_show(value)} instead of {_show(probe.expect)}", value=_plain(value))


def _equal(value: object, expected: str | int | float) -> bool:
    if isinstance(expected, str):
        # `${seed}` and its like are text by the time they come here.
        return value is not None and not isinstance(value, bytes) and str(value) == expected
    return isinstance(value, int | float) and value == expected


def _plain(value: object) -> str | int | float | None:
    return value if isinstance(value, str | int | float | None) else repr(value)


def _show(value: object) -> str:
    return "NULL" if value is None else shorten(repr(value), 120)


def _code(problem: sqlite3.Error) -> int:
    code: int = getattr(problem, "sqlite_errorcode", 0) or 0
    return code & 0xFF


def _needs_a_writable_folder(problem: sqlite3.Error) -> bool:
    return _code(problem) == sqlite3.SQLITE_CANTOPEN or getattr(problem, "sqlite_errorname", "") in (
        "SQLITE_READONLY_DIRECTORY",
        "SQLITE_READONLY_CANTINIT",
    )


def _is_at_rest(path: Path) -> bool:
    """Whether nothing waits in a write-ahead log."""
    try:
        return os.access(path, os.R_OK) and path.with_name(path.name + "-wal").stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _explain(problem: sqlite3.Error, path: Path, probe: Sqlite) -> Reading:
    code, name, said = _code(problem), getattr(problem, "sqlite_errorname", ""), str(problem)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return unknown(f"somebody held it locked for all of {probe.within_ms}")
    if code == sqlite3.SQLITE_INTERRUPT:
        return unknown(f"it could not be read to the end within {probe.within_ms}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return no(f"it is damaged: {said}")
    if name == "SQLITE_READONLY_ROLLBACK":
        return unknown(
            "a transaction that was cut waits to be rolled back, and nobody has opened the database for writing since"
        )
    if code == sqlite3.SQLITE_AUTH:
        return unknown("the query is refused: it would open another file")
    if said == "attempt to write a readonly database" and name == "SQLITE_READONLY":
        return unknown("the query is refused: it would change the database")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        if not os.access(path, os.R_OK):
            return unknown("no permission to read it")
        return unknown(f"it cannot be read without writing beside it, which is not permitted there ({name or said})")
    if code == sqlite3.SQLITE_ERROR and said.startswith(("no such table", "no such column")):
        return no(f"the query failed: {said}")
    if code == sqlite3.SQLITE_IOERR:
        return unknown(f"it cannot be read: {said} ({name})")
    return unknown(f"the query cannot be asked: {said}" if probe.query else f"it cannot be read: {said}")
