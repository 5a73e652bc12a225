"""A notes service that keeps its word: a note is on disk before anyone is told that it is kept.

Run it with `NOTES_DB=notes.db gunicorn notes:app`. The worker processes share nothing but the SQLite file,
so any of them may die or stand still at any moment.
"""

import os
import sqlite3
from contextlib import closing

from web import Note, notes_app


class SqliteNotes:
    """Notes in SQLite, one transaction each."""

    def __init__(self, path: str) -> None:
        self._path = path
        with closing(self._connect()) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, text TEXT NOT NULL)")

    def add(self, note: Note) -> bool:
        with closing(self._connect()) as db, db:  # the second `db` commits, and only then do we return
            added = db.execute("INSERT INTO notes VALUES (:id, :text) ON CONFLICT DO NOTHING", note)
            return added.rowcount == 1

    def all(self) -> list[Note]:
        with closing(self._connect()) as db:
            return [{"id": id_, "text": text} for id_, text in db.execute("SELECT id, text FROM notes")]

    def _connect(self) -> sqlite3.Connection:
        # A worker that is suspended in mid-transaction keeps the file locked. The others wait for it.
        db = sqlite3.connect(self._path, timeout=5)
        # The commit returns when the disk has the note, rather than when the kernel has.
        db.execute("PRAGMA synchronous = FULL")
        return db


app = notes_app(SqliteNotes(os.environ["NOTES_DB"]))
