"""Finding by name: quick because files stay open, and never fooled by a number that was handed out again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from croupier.system.names import Names

pytestmark = pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="this machine has no /proc")
NAME = f"rare-{os.getpid()}-zz"
"""Of this worker's processes: tests that run beside have others."""


@pytest.fixture
def sleeper(tmp_path: Path):
    """A process with a name that nobody else has."""
    program = tmp_path / NAME
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    child = subprocess.Popen([program, "60"])
    while Path(f"/proc/{child.pid}/comm").read_text() != f"{NAME}\n":
        pass
    yield child
    child.kill()
    child.wait()


def test_a_process_is_found_by_its_name_and_by_a_glob_over_it(sleeper):
    with Names() as names:
        assert names.matching(NAME) == names.matching(f"{NAME[:-2]}*") == [sleeper.pid]


def test_a_process_that_ended_is_not_found_though_its_file_is_still_open(sleeper):
    with Names() as names:
        assert names.matching(NAME) == [sleeper.pid]
        sleeper.kill()
        sleeper.wait()
        assert names.matching(NAME) == []


def test_a_process_that_took_another_name_is_found_by_the_new_one():
    rename = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(15, sys.argv[1].encode()); print(flush=True); sys.stdin.read()"
    )
    with (
        Names() as names,
        subprocess.Popen(
            [sys.executable, "-c", rename, "renamed-one"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child,
    ):
        names.matching("anything")
        assert child.stdout is not None
        child.stdout.readline()
        assert names.matching("renamed-one") == [child.pid]
        child.kill()


def test_no_more_files_are_kept_open_than_allowed_and_the_answers_are_the_same(sleeper):
    before = _open_files()
    with Names(most=3) as few:
        assert few.matching(NAME) == [sleeper.pid] == few.matching(NAME)
        assert _open_files() <= before + 3
    assert _open_files() == before


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
