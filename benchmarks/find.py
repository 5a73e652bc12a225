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
from croupier.system.names import Names

CROWD = 5_000
TURNS = 7


def measure() -> Iterator[Row]:
    """By name on the whole machine, the first time and again, and in the tree of a supervised process."""
    crowd = [_sleeper() for _ in range(CROWD)]
    try:
        own = psutil.Process(os.getpid()).name()
        nobody, everybody, tree = (
            Selector(name="nobody-has-this"),
            Selector(name=own),
            Selector(process="app", pick="tree"),
        )
        root = procs.identity(crowd[0])
        assert root is not None
        first = _timed(lambda: matches(nobody, procs.find(nobody)))
        with Names() as names:
            again = _often(lambda: matches(nobody, procs.find(nobody, names=names)))
            every = _often(lambda: matches(everybody, procs.find(everybody, names=names)))
        small = _often(lambda: matches(tree, procs.read_census({"app": root})))
        first_peer = _timed(_by_psutil(own))
        again_peer = _often(_by_psutil(own))
    finally:
        for pid in crowd:
            os.kill(pid, signal.SIGKILL)
        for pid in crowd:
            os.waitpid(pid, 0)
    yield _row("find by name among 5,000, asked again", again, again_peer, 5)
    yield _row("find by name among 5,000, the first time", first, first_peer, 1)
    yield _row("find by name among 5,000, when all of them match", every, again_peer, 0)
    yield _row("find in the tree of a supervised process", small, again_peer, 5)


def _row(name: str, ours: float, peer: float, times: int) -> Row:
    return Row(
        name=name,
        unit="ms",
        ours=ours,
        peer=peer,
        peer_is="psutil.process_iter(['name']) over the same processes",
        target=f">= {times}x" if times else "(shown: each is identified, and psutil only names them)",
        met=peer / ours >= times,
    )


def _often(call: Callable[[], object]) -> float:
    return median([_timed(call) for _ in range(TURNS)])


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
