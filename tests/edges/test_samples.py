"""Samples of real processes, rows of a census, and what watching costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from croupier.collect.rows import rows
from croupier.collect.samples import Sampler, trees
from croupier.model.target import Identity
from croupier.system import procs
from croupier.system.procs import Usage


def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def start() -> Iterator[Callable[[str], Identity]]:
    """Start Python code that prints `ready`, and end it afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> Identity:
        one = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        started.append(one)
        assert one.stdout is not None and one.stdout.readline() == b"ready\n"
        who = procs.identity(one.pid)
        assert who is not None
        return who

    yield start
    for one in started:
        for pid in reversed(procs.tree(one.pid)):
            os.kill(pid, signal.SIGKILL)
        with one:
            one.wait()


READY = "print('ready', flush=True)\n"


def test_a_busy_process_and_an_idle_one_are_told_apart(start: Callable[[str], Identity]) -> None:
    busy = start(READY + "while True: pass")
    idle = start(READY + "import time; time.sleep(60)")
    sampler = Sampler()
    pids = {"busy": [busy.pid], "idle": [idle.pid]}
    assert [one.cpu_percent for one in sampler.take(pids)] == [0.0, 0.0]
    until(lambda: procs.usage([busy.pid]).cpu_seconds > 0.5)
    first, second = sampler.take(pids)
    assert (first.process, second.process) == ("busy", "idle")
    assert first.cpu_percent > 20
    assert second.cpu_percent < 5
    assert first.rss_bytes > 1 << 20
    assert (first.processes, first.threads) == (1, 1)
    assert first.fds >= 3


def test_a_tree_is_sampled_as_one(start: Callable[[str], Identity]) -> None:
    code = (
        "import os, threading, time\n"
        "read, write = os.pipe()\n"
        "for _ in range(2):\n"
        "    if os.fork() == 0:\n"
        "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "        os.write(write, b'.'); time.sleep(60)\n"
        "os.read(read, 1); os.read(read, 1)\n"
    )
    main = start(code + READY + "time.sleep(60)")
    census = procs.read_census({"web": main})
    (sample,) = Sampler().take(trees(census))
    assert (sample.process, sample.processes, sample.threads) == ("web", 3, 5)
    assert {(row["role"], row["main"], row["parent"] == main.pid) for row in rows(census)} == {
        ("web", True, False),
        ("web", False, True),
    }
    assert set(rows(census)[0]) == {"pid", "parent", "name", "role", "main", "state"}


def test_processes_that_come_and_go_do_not_upset_the_figures() -> None:
    used: dict[int, float] = {}
    now = [0.0]

    def usage(pids: Iterable[int]) -> Usage:
        (pid,) = pids
        return Usage(cpu_seconds=used[pid], rss_bytes=10, fds=1, threads=1) if pid in used else Usage()

    sampler = Sampler(usage, lambda: now[0])

    def percent(seconds: float, pids: list[int], **cpu: float) -> float:
        now[0] += seconds
        used.clear()
        used.update({int(name[1:]): value for name, value in cpu.items()})
        return sampler.take({"web": pids})[0].cpu_percent

    assert percent(1, [1], p1=100) == 0.0
    assert percent(2, [1], p1=101) == 50.0
    # A worker that died takes nothing away, and one that is new counts from its start.
    assert percent(1, [1, 2], p1=101, p2=0.25) == 25.0
    assert percent(1, [1, 2], p1=101.5) == 50.0
    assert percent(1, [1, 2], p1=101.5, p2=0.1) == 10.0
    # The number of a dead process, with less time than it had: another process.
    assert percent(1, [1, 2], p1=0.2, p2=0.1) == 20.0
    assert percent(1, []) == 0.0
    assert sampler.take({"web": [999_999]})[0].processes == 0


def test_watching_ten_processes_costs_next_to_nothing(start: Callable[[str], Identity]) -> None:
    """The census four times a second and a sample each second: the bound is 2 % of a core, half of it is left free."""
    code = "import os, time\nfor _ in range(9):\n    if os.fork() == 0:\n        time.sleep(60)\n"
    main = start(code + READY + "time.sleep(60)")
    until(lambda: len(procs.tree(main.pid)) == 10)
    sampler = Sampler()
    rounds = 25

    def second() -> None:
        for _ in range(4):
            census = procs.read_census({"web": main})
        assert sampler.take(trees(census))[0].processes == 10

    second()
    began = time.process_time()
    for _ in range(rounds):
        second()
    share = (time.process_time() - began) / rounds
    print(f"watching 10 processes: {share * 100:.2f} % of one core")
    assert share < 0.02
