"""The check: is each acknowledged note in the table?

    python check.py 127.0.0.1:5432 acks.txt

Exits with 0 if so. Otherwise with 1, and the last line says what is missing. That no note is there twice, its primary
key sees to.
"""

import sys
from pathlib import Path

import psycopg

EXAMPLES = 5


def main() -> int:
    host, _, port = sys.argv[1].rpartition(":")
    notes = [line.split()[1] for line in Path(sys.argv[2]).read_text().splitlines() if line.startswith("ack ")]
    with psycopg.connect(f"host={host} port={port} user=me dbname=postgres connect_timeout=5") as server:
        there = {note for (note,) in server.execute("SELECT id FROM notes")}
    lost = [note for note in notes if note not in there]
    if not lost:
        print(f"each of {len(notes)} acknowledged notes is there")
        return 0
    some = ", ".join(lost[:EXAMPLES]) + (", …" if len(lost) > EXAMPLES else "")
    print(f"{len(lost)} of {len(notes)} acknowledged notes are lost ({some})")
    return 1


if __name__ == "__main__":
    sys.exit(main())
