"""The check: does the page, freshly loaded, hold each acknowledged note?

    python check.py 9222 acks.txt

Exits with 0 if so. Otherwise with 1, and the last line says what is missing.
"""

import sys
import time
from pathlib import Path

from devtools import Gone, Page

EXAMPLES = 5
LOADED_WITHIN_S = 10


def main() -> int:
    port, acks = sys.argv[1], Path(sys.argv[2])
    notes = [line.split()[1] for line in acks.read_text().splitlines() if line.startswith("ack ")]
    there = set(all_notes(port))
    lost = [note for note in notes if note not in there]
    if not lost:
        print(f"each of {len(notes)} acknowledged notes is in the page")
        return 0
    some = ", ".join(lost[:EXAMPLES]) + (", …" if len(lost) > EXAMPLES else "")
    print(f"{len(lost)} of {len(notes)} acknowledged notes are lost ({some})")
    return 1


def all_notes(port: str) -> list[str]:
    """What the page holds once it is loaded; a page that is just being loaded is asked again."""
    end = time.monotonic() + LOADED_WITHIN_S
    while True:
        try:
            with Page(port) as page:
                return list(page.evaluate("notes.all()"))
        except Gone as problem:
            if time.monotonic() > end:
                raise SystemExit(f"the page does not come back: {problem}") from problem
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
