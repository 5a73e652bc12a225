"""Run croupier as an ordinary user: from copies that everybody may read, by the machine's own Python."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

NOBODY = 65534
_PACKAGES = (
    "croupier", "msgspec", "jinja2", "markupsafe", "psutil", "ruamel", "rich", "pygments", "markdown_it", "mdurl",
)  # fmt: skip


class Ordinary:
    """A folder that belongs to nobody, with croupier in it. Where we are no root, it is ours and nothing is copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        self.is_root = os.geteuid() == 0
        self.python = sys.executable
        self._env = {**os.environ, "TMPDIR": str(self.work), "HOME": str(self.work)}
        if self.is_root:
            self._copy()

    def _copy(self) -> None:
        self.python = shutil.which("python3", path="/usr/bin") or ""
        for name in _PACKAGES:
            package = importlib.import_module(name)
            home = Path(next(iter(package.__path__)))
            shutil.copytree(home, self.folder / "lib" / name, ignore=shutil.ignore_patterns("__pycache__"))
        for place in (self.folder, *self.folder.parents):
            if place == Path("/tmp"):
                break
            place.chmod(place.stat().st_mode | 0o055)
        os.chown(self.work, NOBODY, NOBODY)
        self._env = {"PYTHONPATH": str(self.folder / "lib"), "PATH": "/usr/bin:/bin", "TMPDIR": str(self.work),
                     "HOME": str(self.work), "LANG": "C.UTF-8"}  # fmt: skip

    def readable(self, *files: Path) -> None:
        """Put copies of programs where they may be run."""
        for file in files:
            shutil.copy(file, self.work / file.name)
            (self.work / file.name).chmod(0o644)

    def croupier(self, *words: str, within_s: float = 300) -> subprocess.CompletedProcess[str]:
        """The command, in the folder of the work."""
        more = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if self.is_root else {}
        return subprocess.run(
            [self.python, "-m", "croupier.cli", *words], cwd=self.work, env=self._env, capture_output=True, text=True,
            timeout=within_s, check=False, **more,
        )  # fmt: skip

    def lacks(self) -> str:
        """Why it cannot be done here; "" if it can."""
        if not self.python:
            return "the machine has no Python of its own (/usr/bin/python3)"
        done = self.croupier("--help")
        return "" if done.returncode == 0 else f"the machine's own Python is another one: {done.stderr.strip()[-200:]}"
