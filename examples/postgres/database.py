"""Make a PostgreSQL cluster where there is none, and become its server.

    python database.py STATE 5432 [setting=value …]

PostgreSQL refuses to run as root. So for root it runs as an ordinary user (`nobody`), who may not even walk to STATE:
the directory is opened first, and named by its descriptor.
"""

import os
import subprocess
import sys
from pathlib import Path

NOBODY = 65534
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 8MB
max_connections = 20
autovacuum = off
"""


def main() -> None:
    state, port, *settings = sys.argv[1:]
    data = Path(state) / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    folder = os.open(data, os.O_DIRECTORY)
    os.set_inheritable(folder, True)
    if os.geteuid() == 0:
        os.fchown(folder, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.chdir("/")
    here = f"/proc/self/fd/{folder}"
    if not Path(here, "PG_VERSION").exists():
        make(here)
    options = [word for setting in (f"port={port}", *settings) for word in ("-c", setting)]
    os.execv(program("postgres"), [program("postgres"), "-D", here, *options])


def make(cluster: str) -> None:
    """Make the cluster, with one table in it. Whoever asks from this machine is `me`, without a password."""
    initdb = [program("initdb"), "-D", cluster, "-U", "me", "-A", "trust", "--no-sync", "--wal-segsize=1"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, close_fds=False)
    with Path(cluster, "postgresql.conf").open("a") as file:
        file.write(SETTINGS)
    subprocess.run(
        [program("postgres"), "--single", "-D", cluster, "postgres"], check=True, stdout=subprocess.DEVNULL,
        close_fds=False, text=True, input="CREATE TABLE notes (id text PRIMARY KEY, text text NOT NULL)\n",
    )  # fmt: skip


def program(name: str) -> str:
    """Where Debian puts the programs of the newest version, which are not on PATH; else by its name."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else name


if __name__ == "__main__":
    main()
