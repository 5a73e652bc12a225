"""The fragile twin: the same service over one JSON file, which it rewrites in place for every note.

It is code that many of us have written: careful about locks, generous with `fsync`, and right on every day
on which no process dies. Two decisions undo it together:

- The file is opened with "w". From that instant until the last byte, the only copy is incomplete.
- A file that cannot be read counts as "no notes yet".

Run it with `NOTES_DB=notes.json gunicorn fragile_notes:app`.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from web import Note, notes_app

NOTES_PER_SYNC = 50


class JsonNotes:
    """Notes in one JSON file, which all workers share."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def add(self, note: Note) -> bool:
        with self._locked():
            notes = self._read()
            if any(note["id"] == kept["id"] for kept in notes):
                return False
            self._write([*notes, note])
            return True

    def all(self) -> list[Note]:
        with self._locked():
            return self._read()

    def _read(self) -> list[Note]:
        try:
            return json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return []

    def _write(self, notes: list[Note]) -> None:
        with self._path.open("w") as file:
            for number, note in enumerate(notes):
                file.write(",\n" if number else "[\n")
                json.dump(note, file)
                file.flush()
                if number % NOTES_PER_SYNC == 0:
                    os.fsync(file.fileno())
            file.write("\n]\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the other workers out. The kernel opens this lock for us, even if we are killed."""
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


app = notes_app(JsonNotes(os.environ["NOTES_DB"]))
