"""Every speed that croupier promises, measured beside a peer in the same run: `make bench` prints the table.

A figure on its own says more about the machine than about the program, so each row is a ratio against something
else that does the same work here and now. `--only WORD` runs the rows whose name holds the word; `--json FILE` keeps
the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import faults
import find
import numbers_only
import proxy
import search
import search_growth
import signals
import start
import steady
from row import Row

MEASURES: tuple[Callable[[], Iterator[Row]], ...] = (
    signals.measure,
    find.measure,
    steady.measure,
    numbers_only.measure,
    start.measure,
    proxy.measure,
    faults.measure,
    search.measure,
    search_growth.measure,
)


def main() -> int:
    """Measure, print, and say by the exit code whether every target was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only the modules or rows whose name holds this")
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    rows: list[Row] = []
    print(f"{'measure':58} {'ours':>14} {'peer':>14} {'ratio':>9}  target")
    for measure in MEASURES:
        if asked.only and asked.only not in measure.__module__:
            continue
        for row in measure():
            rows.append(row)
            print(row, flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([row.figures() for row in rows], indent=2) + "\n")
    missed = [row.name for row in rows if not row.met]
    print(
        f"\n{len(rows) - len(missed)} of {len(rows)} targets met" + (f"; missed: {', '.join(missed)}" if missed else "")
    )
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
