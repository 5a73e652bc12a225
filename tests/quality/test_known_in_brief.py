"""A few of the known programs, for every run: one that loses, one that does not, and both ways of watching."""

from __future__ import annotations

import sys

import pytest

from croupier.trace import machine
from croupier.trace.levels import lacks

from .test_known_programs import causes, searched, states_of

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or machine() is None, reason="calls are traced on 64-bit Linux only"
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_sqlite_without_a_journal_on_disk_is_found_and_confirmed():
    result = searched("sqlite-memory")
    assert result.verdict == "violated"
    assert "no journal on disk to roll them back" in causes(result)
    assert all(group.confirmed for group in result.groups)


def test_sqlite_with_its_defaults_is_accused_of_nothing():
    result = searched("sqlite-delete")
    assert (result.verdict, result.findings) == ("held", ()), causes(result)


def test_both_ways_of_watching_give_the_same_states_of_a_naive_program():
    for level in ("seccomp", "ptrace"):
        if lacks(level):
            pytest.skip(f"{level} does not work here: {lacks(level)}")
    one, other = searched("json-naive", level="seccomp"), searched("json-naive", level="ptrace")
    assert states_of(one) == states_of(other)
