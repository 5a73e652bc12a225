"""The real Python behind a name: a version manager's shim is a shell script that takes 100 ms for each start."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from ..system.commands import run_command

_PYTHON = re.compile(r"python(\d+(\.\d+)?)?$")


def without_shim(argv: tuple[str, ...], *, env: Mapping[str, str], cwd: str) -> tuple[str, ...]:
    """The command with its first word replaced by what a shim of that name would start; as it is where it is none."""
    if not argv or not _PYTHON.fullmatch(Path(argv[0]).name):
        return argv
    found = shutil.which(argv[0], path=env.get("PATH"))
    if found is None or not is_shim(Path(found)):
        return argv
    asked = run_command([found, "-c", "import sys; print(sys.executable)"], env=env, cwd=cwd, within_ms=20_000)
    real = asked.output.strip().splitlines()[-1:] if asked.code == 0 else []
    return (real[0], *argv[1:]) if real and Path(real[0]).is_file() else argv


def is_shim(program: Path) -> bool:
    """Whether a program is a script, or stands in a directory of shims."""
    try:
        with program.open("rb") as file:
            return file.read(2) == b"#!" or "shims" in program.parts
    except OSError:
        return False


def own() -> str:
    """The interpreter that runs us."""
    return sys.executable
