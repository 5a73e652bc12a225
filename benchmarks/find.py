"""Finding the target among five thousand live processes, against `psutil.process_iter` with names."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil
from row import Row, median

from croupier.model.target import Selector, matches
from croupier.system import procs

CROWD = 5_000
TURNS = 7


def measure() -> Iterator[Row]:
    """By name on the whole machine, and in the tree of a supervised process."""
    crowd = [_sleeper() for _ in range(CROWD)]
    try:
        name = psutil.Process(os.getpid()).name()
        selector = Selector(name=name)
        ours = median([_timed(lambda: matches(selector, procs.find(selector))) for _ in range(TURNS)])
        names = median([_timed(_by_psutil(name)) for _ in range(TURNS)])
        nobody = Selector(name="nobody-has-this")
        rare = median([_timed(lambda: matches(nobody, procs.find(nobody))) for _ in range(TURNS)])
        root = procs.identity(crowd[0])
        assert root is not None
        tree = Selector(process="app", pick="tree")
        small = median([_timed(lambda: matches(tree, procs.read_census({"app": root}))) for _ in range(TURNS)])
    finally:
        for pid in crowd:
            os.kill(pid, signal.SIGKILL)
        for pid in crowd:
            os.waitpid(pid, 0)
    peer = "psutil.process_iter(['name']), 5,000 processes"
    yield Row(
        name="find by name, one among 5,000",
        unit="ms",
        ours=rare,
        peer=names,
        peer_is=peer,
        target=">= 5x",
        met=names / rare >= 5,
    )
    yield Row(
        name="find by name, all 5,000 match and are identified",
        unit="ms",
        ours=ours,
        peer=names,
        peer_is=peer,
        target="(shown)",
        met=True,
    )
    yield Row(
        name="find in the tree of a supervised process",
        unit="ms",
        ours=small,
        peer=names,
        peer_is=peer,
        target=">= 5x",
        met=names / small >= 5,
    )


def _sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _by_psutil(name: str) -> Callable[[], object]:
    return lambda: [one for one in psutil.process_iter(["name"]) if one.info["name"] == name]
