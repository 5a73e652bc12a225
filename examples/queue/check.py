"""The check: has each acknowledged order been fulfilled?

    python check.py orders.db acks.txt

The queue may still be busy with the last orders, so we wait for it: as long as it gets on, and no longer than
20 s. Exits with 0 if nothing is missing. Otherwise with 1, and the last line says what is.
"""

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

DRAINED_WITHIN_S = 20
STANDSTILL_S = 5  # well over the time of one order, and of replacing a dead worker
LOOK_EVERY_S = 0.25
EXAMPLES = 5


def main() -> int:
    orders, acks = Path(sys.argv[1]), Path(sys.argv[2])
    acknowledged = {line.split()[1] for line in acks.read_text().splitlines() if line.startswith("ack ")}
    missing = sorted(acknowledged - wait_for(acknowledged, orders))
    if not missing:
        print(f"each of {len(acknowledged)} acknowledged orders is done")
        return 0
    some = ", ".join(missing[:EXAMPLES]) + (", …" if len(missing) > EXAMPLES else "")
    print(f"{len(missing)} of {len(acknowledged)} acknowledged orders were never done ({some})")
    return 1


def wait_for(orders: set[str], path: Path) -> set[str]:
    """Watch until these orders are done, or nothing moves any more; return all that are done."""
    now = time.monotonic()
    give_up_at, moved_at = now + DRAINED_WITHIN_S, now
    done = done_in(path)
    while not orders <= done and now < min(give_up_at, moved_at + STANDSTILL_S):
        time.sleep(LOOK_EVERY_S)
        before, done, now = done, done_in(path), time.monotonic()
        if done != before:
            moved_at = now
    return done


def done_in(path: Path) -> set[str]:
    if not path.exists():  # the first order that is done makes it
        return set()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5)) as db:
        return {order for (order,) in db.execute("SELECT id FROM done")}


if __name__ == "__main__":
    sys.exit(main())
