"""PostgreSQL asked by its own client, psql(1): nothing of ours speaks its protocol."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

NAME = "croupier"
"""The application_name of every connection of ours, by which they are told from the program's."""
_WITHIN_S = 3.0
_PACE_S = 0.05


class Answer(NamedTuple):
    """What a script printed, and what it was refused."""

    rows: list[list[str]]
    """Each row as its columns, without a header."""
    trouble: str
    """What psql wrote to standard error, in one line; "" for nothing."""
    failed: bool
    """Whether psql could not be run, reached no server, or stopped at an error."""


def lacking() -> str:
    """What this machine lacks, in a sentence; "" if nothing."""
    return "" if shutil.which("psql") else "psql is not installed (apt-get install postgresql-client)"


def command(database: str, *, stops: bool = True) -> list[str]:
    """The command line of psql for a connection string of libpq; `stops` at the first error.

    It reads no settings of the user's, asks for no password, and prints rows alone.
    """
    strict = ["-v", "ON_ERROR_STOP=1"] if stops else []
    return ["psql", "-X", "-q", "-w", "-A", "-t", "-F", "\t", *strict, "-d", database]


def named(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which psql tells the server that it is ours, whatever the connection string leaves open."""
    return {**env, "PGAPPNAME": NAME}


def ask(
    database: str,
    script: str,
    env: Mapping[str, str],
    *,
    stops: bool = True,
    halted: Callable[[], bool] = lambda: False,
) -> Answer:
    """Run SQL in a connection of its own, for a few seconds at the most, or until we are `halted`.

    Raises nothing for what the world does.
    """
    try:
        asked = subprocess.Popen(
            command(database, stops=stops), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=named(env),
        )  # fmt: skip
    except OSError as problem:
        return Answer([], f"psql: {problem}", True)
    until, told = time.monotonic() + _WITHIN_S, script or None
    while True:
        try:
            out, trouble = asked.communicate(told, timeout=_PACE_S)
        except subprocess.TimeoutExpired:
            told = None
            if halted() or time.monotonic() >= until:
                asked.kill()
        else:
            break
    rows = [line.split("\t") for line in out.splitlines() if line]
    return Answer(rows, " ".join(trouble.split()), asked.returncode != 0)
