"""Fourteen key-value operations on one of several stores, `ack N` printed after each; and the check on what is left.

    keyvalue.py run STORE      do them          keyvalue.py check STORE      is everything acknowledged there?

With $SQLITE_SEED the numbers that SQLite draws for its journals are the same in every run, so that states can be
compared. The state directory is $CROUPIER_STATE, what was printed before the crash is in the file $CROUPIER_ACKED.
"""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

OPERATIONS = [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4"), ("d", "5"), ("b", None), ("e", "6"),
              ("c", "7"), ("f", "8"), ("a", None), ("g", "9"), ("d", "10"), ("h", "11"), ("e", "12")]  # fmt: skip


def expected(count: int) -> dict[str, str]:
    """What is there after so many operations."""
    data: dict[str, str] = {}
    for key, value in OPERATIONS[:count]:
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value
    return data


# -- stores: each yields after every operation, and reads everything back ----------------------------------------------


def json_naive(state: Path) -> Iterator[None]:
    data: dict[str, str] = {}
    for nth in range(len(OPERATIONS)):
        data = expected(nth + 1)
        with (state / "notes.json").open("w") as file:
            json.dump(data, file)
        yield


def json_replace(state: Path) -> Iterator[None]:
    for nth in range(len(OPERATIONS)):
        aside = state / "notes.json.tmp"
        with aside.open("w") as file:
            json.dump(expected(nth + 1), file)
        aside.replace(state / "notes.json")
        yield


def json_synced(state: Path) -> Iterator[None]:
    folder = os.open(state, os.O_RDONLY)
    for nth in range(len(OPERATIONS)):
        aside = state / "notes.json.tmp"
        with aside.open("w") as file:
            json.dump(expected(nth + 1), file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(state / "notes.json")
        os.fsync(folder)
        yield


def json_no_directory(state: Path) -> Iterator[None]:
    for nth in range(len(OPERATIONS)):
        aside = state / "notes.json.tmp"
        with aside.open("w") as file:
            json.dump(expected(nth + 1), file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(state / "notes.json")
        yield


def read_json(state: Path) -> dict[str, str]:
    file = state / "notes.json"
    found: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    return found


_PRNG_SEED = 28
"""SQLITE_TESTCTRL_PRNG_SEED, https://sqlite.org/c3ref/c_testctrl_always.html"""


def _pin() -> None:
    # The library that Python's own module has loaded.
    library = ctypes.CDLL("libsqlite3.so.0")
    library.sqlite3_test_control(_PRNG_SEED, int(os.environ["SQLITE_SEED"]), None)
    library.sqlite3_randomness(0, None)


def sqlite(state: Path, mode: str, *, synchronous: str = "FULL", twice: bool = False) -> Iterator[None]:
    if "SQLITE_SEED" in os.environ:
        _pin()
    base = sqlite3.connect(state / "notes.db", isolation_level=None)
    base.execute(f"PRAGMA journal_mode={mode}")
    base.execute(f"PRAGMA synchronous={synchronous}")
    base.execute("CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT)")
    if twice:
        base.execute("CREATE TABLE IF NOT EXISTS meta (one INTEGER PRIMARY KEY, count INTEGER)")
        base.execute("INSERT OR REPLACE INTO meta VALUES (1, 0)")
    for nth, (key, value) in enumerate(OPERATIONS, start=1):
        if value is None:
            base.execute("DELETE FROM notes WHERE key=?", (key,))
        else:
            base.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, value))
        if twice:
            base.execute("UPDATE meta SET count=?", (nth,))
        yield


def read_sqlite(state: Path) -> dict[str, str]:
    if not (state / "notes.db").exists():
        return {}
    base = sqlite3.connect(state / "notes.db")
    answer = base.execute("PRAGMA integrity_check").fetchone()[0]
    if answer != "ok":
        raise ValueError(f"integrity_check: {answer}")
    if not base.execute("SELECT 1 FROM sqlite_master WHERE name='notes'").fetchone():
        return {}
    found = dict(base.execute("SELECT key, value FROM notes"))
    if base.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone():
        row = base.execute("SELECT count FROM meta").fetchone()
        count = row[0] if row else 0
        if found != expected(count):
            raise ValueError(f"meta counts {count} operations, and the notes are those of another")
    return found


def dumb(state: Path) -> Iterator[None]:
    import dbm.dumb
    import shelve

    for key, value in OPERATIONS:
        with dbm.dumb.open(str(state / "notes"), "c") as base, shelve.Shelf(base) as shelf:
            if value is None:
                del shelf[key]
            else:
                shelf[key] = value
        yield


def read_dumb(state: Path) -> dict[str, str]:
    import dbm.dumb
    import shelve

    if not any((state / f"notes.{one}").exists() for one in ("dir", "dat", "bak")):
        return {}
    with dbm.dumb.open(str(state / "notes"), "c") as base, shelve.Shelf(base) as shelf:
        return dict(shelf)


def tinydb(state: Path) -> Iterator[None]:
    from tinydb import Query, TinyDB

    base = TinyDB(state / "notes.json")
    for key, value in OPERATIONS:
        if value is None:
            base.remove(Query().key == key)
        else:
            base.upsert({"key": key, "value": value}, Query().key == key)
        yield


def read_tinydb(state: Path) -> dict[str, str]:
    from tinydb import TinyDB

    if not (state / "notes.json").exists():
        return {}
    return {one["key"]: one["value"] for one in TinyDB(state / "notes.json").all()}


def gnu(state: Path) -> Iterator[None]:
    import dbm.gnu

    with dbm.gnu.open(str(state / "notes.gdbm"), "c") as base:
        for key, value in OPERATIONS:
            if value is None:
                del base[key]
            else:
                base[key] = value
            yield


def read_gnu(state: Path) -> dict[str, str]:
    import dbm.gnu

    if not (state / "notes.gdbm").exists():
        return {}
    with dbm.gnu.open(str(state / "notes.gdbm"), "r") as base:
        return {key.decode(): base[key].decode() for key in base.keys()}  # noqa: SIM118


def lmdb_store(state: Path) -> Iterator[None]:
    import lmdb

    with lmdb.open(str(state / "notes.lmdb"), map_size=1 << 20, subdir=False) as base:
        for key, value in OPERATIONS:
            with base.begin(write=True) as change:
                if value is None:
                    change.delete(key.encode())
                else:
                    change.put(key.encode(), value.encode())
            yield


def read_lmdb(state: Path) -> dict[str, str]:
    import lmdb

    file = state / "notes.lmdb"
    if not file.exists():
        return {}
    with lmdb.open(str(file), map_size=1 << 20, subdir=False) as base, base.begin() as read:
        return {bytes(key).decode(): bytes(value).decode() for key, value in read.cursor()}


STORES = {
    "json-naive": (json_naive, read_json),
    "json-replace": (json_replace, read_json),
    "json-synced": (json_synced, read_json),
    "json-no-directory": (json_no_directory, read_json),
    "sqlite-delete": (lambda state: sqlite(state, "DELETE"), read_sqlite),
    "sqlite-truncate": (lambda state: sqlite(state, "TRUNCATE"), read_sqlite),
    "sqlite-persist": (lambda state: sqlite(state, "PERSIST"), read_sqlite),
    "sqlite-wal": (lambda state: sqlite(state, "WAL"), read_sqlite),
    "sqlite-wal-normal": (lambda state: sqlite(state, "WAL", synchronous="NORMAL"), read_sqlite),
    "sqlite-memory": (lambda state: sqlite(state, "MEMORY"), read_sqlite),
    "sqlite-off": (lambda state: sqlite(state, "OFF"), read_sqlite),
    "sqlite-twice": (lambda state: sqlite(state, "DELETE", twice=True), read_sqlite),
    "dumb": (dumb, read_dumb),
    "tinydb": (tinydb, read_tinydb),
    "gdbm": (gnu, read_gnu),
    "lmdb": (lmdb_store, read_lmdb),
}


def run(name: str) -> None:
    """Do the operations, each acknowledged when its store says that it is done."""
    for nth, _ in enumerate(STORES[name][0](Path(os.environ["CROUPIER_STATE"])), start=1):
        print(f"ack {nth}", flush=True)


def check(name: str, state: Path, acked: int) -> str:
    """What is wrong; "" if nothing is. The operation in flight may be there, or not."""
    try:
        found = STORES[name][1](state)
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    if found in (expected(acked), expected(acked + 1)):
        return ""
    for fewer in range(acked):
        if found == expected(fewer):
            return f"{acked - fewer} acknowledged operations are lost"
    return f"the content is of no moment: {found}"


def checked(state: Path, acked: str) -> None:
    """The check as a function; the store is in the environment."""
    wrong = check(os.environ["STORE"], state, len(acked.splitlines()))
    if wrong:
        raise AssertionError(wrong)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[2])
    else:
        lines = Path(os.environ["CROUPIER_ACKED"]).read_text().splitlines()
        said = check(sys.argv[2], Path(os.environ["CROUPIER_STATE"]), len(lines))
        print(said or "all is there")
        sys.exit(1 if said else 0)
