"""PostgreSQL for a search: made, served, used, and asked what is left after a crash.

    postgres.py setup FOLDER      a cluster in $CROUPIER_STATE, whose socket is in FOLDER
    postgres.py serve             the server, until it is ended
    postgres.py use FOLDER        a few transactions, `ack N` printed after each
    postgres.py check             recover the copy of the state, and ask whether everything acknowledged is there

It refuses to run as root, so whoever searches it is an ordinary user.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROWS = 4
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
shared_buffers = 1MB
max_connections = 8
autovacuum = off
max_wal_size = 32MB
min_wal_size = 32MB
"""


def program(name: str) -> str:
    """Where Debian puts the programs of the newest version, which are not on PATH; else by its name."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else name


def data() -> Path:
    """The cluster in the state of this process."""
    return Path(os.environ["CROUPIER_STATE"]) / "data"


def setup(folder: str) -> None:
    """Make the cluster, with one table in it."""
    subprocess.run(
        [program("initdb"), "-D", str(data()), "-U", "me", "-A", "trust", "--no-sync", "--wal-segsize=1"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with (data() / "postgresql.conf").open("a") as file:
        file.write(SETTINGS.format(folder=folder))
    single("CREATE TABLE notes (n int PRIMARY KEY)")


def single(statement: str) -> str:
    """One statement by a server of one process, which recovers first. What it printed."""
    done = subprocess.run(
        [program("postgres"), "--single", "-D", str(data()), "postgres"], input=statement + "\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode or "FATAL" in done.stderr or "PANIC" in done.stderr:
        last = [line for line in done.stderr.splitlines() if "FATAL" in line or "PANIC" in line or "ERROR" in line]
        raise SystemExit((last or done.stderr.splitlines() or ["it ended without a word"])[-1])
    return done.stdout


def use(folder: str) -> None:
    """Insert rows, each in a transaction of its own."""
    psql = [program("psql"), "-h", folder, "-U", "me", "-d", "postgres", "-qAt", "-c"]
    end = time.monotonic() + 60
    while subprocess.run([*psql, "SELECT 1"], capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            raise SystemExit("the server does not answer")
        time.sleep(0.05)
    for number in range(1, ROWS + 1):
        subprocess.run([*psql, f"INSERT INTO notes VALUES ({number})"], check=True)
        print("ack", number, flush=True)


def check() -> None:
    """Recover, and compare."""
    acked = len(Path(os.environ["CROUPIER_ACKED"]).read_text().splitlines())
    # Of the machine that crashed: its number may be anybody's by now.
    (data() / "postmaster.pid").unlink(missing_ok=True)
    there = {int(one) for one in re.findall(r'n = "(\d+)"', single("SELECT n FROM notes"))}
    lost = set(range(1, acked + 1)) - there
    if lost:
        raise SystemExit(f"{len(lost)} acknowledged rows are lost")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        os.execv(program("postgres"), [program("postgres"), "-D", str(data())])
    {"setup": setup, "use": use}.get(sys.argv[1], lambda *_: check())(*sys.argv[2:])
