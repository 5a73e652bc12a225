"""The check: is each acknowledged note in the store exactly once?

    python check.py notes.db acks.txt        the SQLite store of notes.py
    python check.py notes.json acks.txt      the JSON file of fragile_notes.py

Exits with 0 if so. Otherwise with 1, and the last line says what is wrong.
"""

import json
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

EXAMPLES = 5


def main() -> int:
    store, acks = Path(sys.argv[1]), Path(sys.argv[2])
    acknowledged = [line.split()[1] for line in acks.read_text().splitlines() if line.startswith("ack ")]
    try:
        kept = Counter(ids_in(store))
    except (OSError, ValueError, sqlite3.Error) as error:
        print(f"{len(acknowledged)} notes were acknowledged, but {store.name} cannot be read: {error}")
        return 1

    lost = [note for note in acknowledged if kept[note] == 0]
    doubled = [note for note in acknowledged if kept[note] > 1]
    if not (lost or doubled):
        print(f"each of {len(acknowledged)} acknowledged notes is kept exactly once")
        return 0
    reasons = [
        f"{len(notes)} of {len(acknowledged)} acknowledged notes {what} ({some(notes)})"
        for notes, what in ((lost, "are lost"), (doubled, "are kept more than once"))
        if notes
    ]
    print("; ".join(reasons))
    return 1


def ids_in(store: Path) -> list[str]:
    if store.suffix == ".json":
        return [note["id"] for note in json.loads(store.read_text())]
    # Mode "rw" rather than the usual "rwc": a store that is missing is not to be made, empty, by its check.
    with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=rw", uri=True, timeout=5)) as db:
        return [note for (note,) in db.execute("SELECT id FROM notes")]


def some(notes: list[str]) -> str:
    return ", ".join(notes[:EXAMPLES]) + (", …" if len(notes) > EXAMPLES else "")


if __name__ == "__main__":
    sys.exit(main())
