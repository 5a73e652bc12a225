"""What known programs lose, measured: `python tests/quality/table.py` prints the table of docs/reference/search.md.

With `--write` it is put into that page, between its two marks.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from croupier.explore.api import setting_of
from croupier.explore.search import Search
from croupier.model.search import SearchResult

HERE = Path(__file__).resolve().parent
KEYVALUE = HERE / "programs" / "keyvalue.py"
PAGE = HERE.parent.parent / "docs" / "reference" / "search.md"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
BUDGET = 400
SYSTEM_PYTHON = "/usr/bin/python3"


class Program(NamedTuple):
    """One row."""

    name: str
    store: str
    why: str
    python: str = sys.executable


PROGRAMS = (
    Program('JSON, `open("w")` and dump', "json-naive", "the file is empty between the open and the write"),
    Program("JSON, temporary file and `os.replace`", "json-replace", "nothing is synced"),
    Program("the same, without the sync of the directory", "json-no-directory", "the rename is not on the disk"),
    Program("the same, all synced", "json-synced", ""),
    Program("TinyDB", "tinydb", "the new content is written over the old, and cut to size afterwards"),
    Program("shelve on `dbm.dumb`", "dumb", "`.dir` and `.dat` change apart, and the old `.dir` is moved away first"),
    Program("gdbm", "gdbm", "stores through a mapping, synced when it is closed", python=SYSTEM_PYTHON),
    Program("LMDB", "lmdb", "the directory is not synced when its file is made"),
    Program("SQLite, journal OFF", "sqlite-off", "nothing is there to roll a half-made change back"),
    Program("SQLite, journal MEMORY", "sqlite-memory", "the journal dies with the process"),
    Program("SQLite, DELETE", "sqlite-delete", "the journal's unlink is not synced: at worst the last transaction"),
    Program("SQLite, TRUNCATE", "sqlite-truncate", ""),
    Program("SQLite, PERSIST", "sqlite-persist", ""),
    Program("SQLite, WAL, synchronous FULL", "sqlite-wal", ""),
    Program("SQLite, WAL, synchronous NORMAL", "sqlite-wal-normal", "recent commits, and never corrupt"),
    Program("two autocommits for one change", "sqlite-twice", "one of the two is there"),
)


def searched(program: Program, model: str, budget: int | None) -> SearchResult:
    """One search of one program."""
    os.environ["STORE"] = program.store
    call = program.python == sys.executable
    check: tuple[str, ...] = (f"{KEYVALUE}:checked",)
    if not call:
        check = (program.python, str(KEYVALUE), "check", program.store)
    setting = setting_of(
        [program.python, str(KEYVALUE), "run", program.store], check, check_call=call, model=model, budget=budget
    )
    with tempfile.TemporaryDirectory(prefix="croupier-table-") as runs:
        return Search(setting, Path(runs)).run()


def row(program: Program) -> str:
    """A row of the table."""
    kill = searched(program, "kill", None)
    power = {model: searched(program, f"power:{model}", BUDGET) for model in ("ext4-ordered", "posix-strict")}
    cells = [program.name, f"{kill.operations}", f"{kill.distinct_states}", _lost(kill)]
    cells += [_lost(one) for one in power.values()]
    return f"| {' | '.join([*cells, program.why])} |"


def _lost(result: SearchResult) -> str:
    """How many states failed, and in which ways."""
    if not result.findings:
        return f"0 of {result.checked}"
    kinds = Counter(_kind(one.reason) for one in result.findings)
    said = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"{len(result.findings)} of {result.checked}: {said}"


def _kind(reason: str) -> str:
    if "acknowledged operations are lost" in reason:
        return "lost"
    return "of no moment" if "of no moment" in reason or "those of another" in reason else "unreadable"


def main() -> None:
    """Measure all, and print or write the table."""
    head = ["Program", "Operations", "Distinct states", "Process kill", "Power, `ext4-ordered`"]
    head += ["Power, `posix-strict`", "Why"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for program in PROGRAMS:
        if not Path(program.python).exists():
            continue
        lines.append(row(program))
        print(lines[-1], flush=True)
    if "--write" in sys.argv:
        text = PAGE.read_text()
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}")


if __name__ == "__main__":
    main()
