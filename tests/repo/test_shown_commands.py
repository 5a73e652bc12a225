"""Every command that README and docs show is run, in the order of its page, and prints what the page says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from shown import Block, Shell, Shown, blocks, copy_of, matches, pages

from croupier.load import load_text
from croupier.registry import built_in

REPOSITORY = Path(__file__).resolve().parents[2]
WITHIN_S = 100
PAGES = {str(page.relative_to(REPOSITORY)): page for page in pages(REPOSITORY)}
SESSIONS = {name: page for name, page in PAGES.items() if any(one.kind == "console" for one in blocks(page))}
MADE_BY_OTHERS = {"make demo": "test_fresh_clone.py, in an environment that it makes itself"}
"""Commands that are run by another test."""


@pytest.fixture
def shell(tmp_path: Path, program_path: str) -> Iterator[Shell]:
    clone = copy_of(REPOSITORY, tmp_path / "croupier")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    state = tmp_path / "state-home"
    state.mkdir()
    one = Shell(clone, {**env, "PATH": program_path, "XDG_STATE_HOME": str(state), "COLUMNS": "80", "NO_COLOR": "1"})
    yield one
    one.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(SESSIONS))
def test_what_a_page_shows_is_what_happens(name: str, shell: Shell, tmp_path: Path) -> None:
    session = blocks(SESSIONS[name])
    for block in session:
        if block.file:
            (tmp_path / "croupier" / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "croupier" / block.file).write_text(block.text)
    shown = [one for block in session if block.kind == "console" for one in block.commands()]
    for nth, one in enumerate(shown):
        if one.command in MADE_BY_OTHERS:
            continue
        code, printed = shell.run(one.command, WITHIN_S)
        next_says = nth + 1 < len(shown) and shown[nth + 1].command == "echo $?"
        assert code == 0 or next_says, f"{name}:{one.line}: $ {one.command}\nended with {code}:\n{printed}"
        assert matches(one.expected, printed), f"{name}:{one.line}: $ {one.command}\nprinted\n{printed}"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_whole_experiment_on_a_page_is_valid(name: str) -> None:
    for block in blocks(PAGES[name]):
        if block.kind == "yaml" and "\nhypothesis:" in f"\n{block.text}":
            load_text(block.text.encode(), f"{name}:{block.line}", built_in(), environment={})


def test_a_shown_line_matches_loosely_only_where_it_says_so() -> None:
    printed = "one 17 ms\ntwo\nthree\n"
    assert matches(("one … ms", "two", "three"), printed)
    assert matches(("one … ms", "…"), printed)
    assert matches(("…", "three"), printed)
    assert not matches(("one 18 ms", "…"), printed)
    assert not matches(("one … ms", "three"), printed)
    assert not matches((), printed)
    assert matches((), "")


def test_a_session_is_read_as_commands_with_what_they_print() -> None:
    block = Block("console", "$ true\n$ echo a\na\n…\n", 7)
    assert list(block.commands()) == [Shown("true", (), 8), Shown("echo a", ("a", "…"), 9)]
