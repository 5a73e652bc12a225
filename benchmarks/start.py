"""How soon `croupier --help` answers, against a Python that starts and does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from row import Row, median

TURNS = 15


def measure() -> Iterator[Row]:
    """One row."""
    ours = median([_timed([sys.executable, "-m", "croupier.cli", "--help"]) for _ in range(TURNS)])
    peer = median([_timed([sys.executable, "-c", "pass"]) for _ in range(TURNS)])
    yield Row(
        name="croupier --help",
        unit="ms",
        ours=ours,
        peer=peer,
        peer_is="python -c pass",
        target="a Python start and little more: < 60 ms on top",
        met=ours - peer < 60,
    )


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000
