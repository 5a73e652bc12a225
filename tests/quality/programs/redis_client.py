"""A client of redis: `write SOCKET` sets seven keys, each acknowledged; `check` starts redis on a state and counts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

KEYS = 7


def connected(socket: str) -> redis.Redis:
    """A connection, once there is a server."""
    for _ in range(500):
        try:
            base = redis.Redis(unix_socket_path=socket)
            base.ping()
            return base
        except redis.RedisError:
            time.sleep(0.01)
    raise SystemExit("no redis answers")


def write(socket: str) -> None:
    """Set the keys."""
    base = connected(socket)
    for number in range(1, KEYS + 1):
        base.set(f"key{number}", number)
        print("ack", number, flush=True)


def check() -> str:
    """What is wrong with the state; "" if nothing is."""
    acked = len(Path(os.environ["CROUPIER_ACKED"]).read_text().splitlines())
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/socket"
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", socket, "--dir", os.environ["CROUPIER_STATE"],
             "--appendonly", "yes", "--appendfsync", "always", "--save", ""],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            there = len(connected(socket).keys("*"))
        finally:
            server.kill()
            server.wait()
    return "" if there in (acked, acked + 1) else f"{acked} were acknowledged, {there} are there"


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2])
    else:
        wrong = check()
        print(wrong)
        sys.exit(1 if wrong else 0)
