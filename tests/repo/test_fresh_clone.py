"""What somebody meets who clones the repository and types the commands of the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shown import blocks, copy_of

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO_WITHIN_S = 120


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_demo_holds_in_a_fresh_clone_within_two_minutes_after_installation(tmp_path: Path) -> None:
    clone = copy_of(REPOSITORY, tmp_path / "fresh")
    python = getattr(sys, "_base_executable", "") or sys.executable
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "LANG"))}
    env = {
        **kept,
        "HOME": str(tmp_path / "home"),
        "PATH": os.pathsep.join([str(Path(python).parent), "/usr/bin", "/bin"]),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    (tmp_path / "home").mkdir()
    make(clone, env, ".venv/.for-demo")

    began = time.monotonic()
    printed = make(clone, env, "demo")
    took_s = time.monotonic() - began

    last = printed.splitlines()[-2:]
    assert last[1] == "verdict: held"
    page = re.fullmatch(r" +page +(\S+)", last[0])
    assert page and Path(page[1]).is_file(), last
    assert Path(page[1]).is_relative_to(clone)
    assert took_s < DEMO_WITHIN_S


def make(where: Path, env: dict[str, str], target: str) -> str:
    done = subprocess.run(
        ["make", target],
        cwd=where,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_continuous_integration_runs_the_readme_s_test_command() -> None:
    shown = [block.text for block in blocks(REPOSITORY / "README.md")]
    assert "$ make test\n" in shown
    script = (REPOSITORY / ".ci" / "run").read_text()
    assert re.search(r"^make test\b", script, re.MULTILINE)
    assert "CI=true" in script


def test_the_readme_fits_on_one_screen_or_two() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 100
    experiment = next(block for block in blocks(REPOSITORY / "README.md") if block.kind == "yaml")
    assert len(experiment.text.splitlines()) - 1 <= 12


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "docs", "clean"])
def test_the_makefile_knows_and_explains(target: str) -> None:
    text = (REPOSITORY / "Makefile").read_text()
    assert re.search(rf"^{target}:", text, re.MULTILINE)
    assert re.search(rf"^#     make {target} ", text, re.MULTILINE)
