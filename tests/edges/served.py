"""A PostgreSQL of a test's own, on a socket of its own; as an ordinary user, since it refuses root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POSTGRES = Path(__file__).parent.parent / "quality" / "programs" / "postgres.py"


@contextmanager
def a_postgres() -> Iterator[str]:
    """Its connection string, while it serves. It has a table `notes` with the numbers 1 to 4."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    shutil.copy(POSTGRES, folder / "postgres.py")
    more = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    python = "/usr/bin/python3" if os.geteuid() == 0 else sys.executable
    if more:
        os.chown(folder, 65534, 65534)
        folder.chmod(0o755)
    env = {**os.environ, "CROUPIER_STATE": str(folder), "HOME": str(folder)}
    run = [python, str(folder / "postgres.py")]
    subprocess.run([*run, "setup", str(folder)], env=env, cwd=folder, check=True, **more)
    with subprocess.Popen([*run, "serve"], env=env, cwd=folder, stderr=subprocess.DEVNULL, **more) as serving:
        try:
            subprocess.run(
                [*run, "use", str(folder)], env=env, cwd=folder, check=True, stdout=subprocess.DEVNULL, **more
            )
            yield f"host={folder} user=me dbname=postgres"
        finally:
            serving.terminate()
            serving.wait(20)
    shutil.rmtree(folder)


def psql(server: str, statement: str) -> subprocess.CompletedProcess[str]:
    """One statement in a connection of its own, which does not wait long for locks."""
    return subprocess.run(
        ["psql", "-X", "-qAt", "-d", server, "-c", f"SET lock_timeout = '200ms'; {statement}"],
        capture_output=True,
        text=True,
    )
