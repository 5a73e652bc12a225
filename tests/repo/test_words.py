"""Words that must not stand anywhere in the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from shown import tracked

REPOSITORY = Path(__file__).resolve().parents[2]
# Spelled apart, so that this file may stay.
FORBIDDEN = {
    "ending processes by a broad name": r"\bp" r"kill\b|\bkill" r"all\b|\bpidof\b",
    "a way of working instead of the work": r"(?<!user-)\b(sub-?)?ag" r"ents?\b|\blanguage mod" r"el\b|\bissue[ #]*\d",
    "somebody's machine": r"/wo" r"rk/(main|shared)|/home/(?!user\b)\w+/",
    "what is not done yet": r"\bTO" r"DO\b|\bFIX" r"ME\b|\bX" r"XX\b",
    "a process that is signalled by name": r"psutil\.process_iter\(.*\)\s*.*\.kill",
}
EXEMPT = ("LICENSE",)


@pytest.mark.parametrize("what", sorted(FORBIDDEN))
def test_nowhere_in_the_tree_is(what: str) -> None:
    found = []
    for file in tracked(REPOSITORY):
        if file.name in EXEMPT:
            continue
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if re.search(FORBIDDEN[what], line, re.IGNORECASE if "way" in what else 0):
                found.append(f"{file.relative_to(REPOSITORY)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_every_module_says_what_it_is_for() -> None:
    for file in (REPOSITORY / "src").rglob("*.py"):
        assert file.read_text().lstrip().startswith('"""'), file
