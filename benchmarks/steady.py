"""What watching costs: a steady round of ten processes, against supervisord watching the same ten.

Supervisord only waits for deaths; croupier also asks a readiness probe's worth of questions, takes a census four
times a second and a sample of resources every second. The figures are of croupier and its guardian together.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from row import Row

PROCESSES = 10
WATCHED_S = 20
SLEEP = [sys.executable, "-S", "-c", "import signal; signal.pause()"]


def measure() -> Iterator[Row]:
    """CPU in per cent of one core, and memory (PSS: shared pages shared out)."""
    with tempfile.TemporaryDirectory() as folder:
        cpu, memory = _ours(Path(folder))
        peer_cpu, peer_memory = _supervisord(Path(folder))
    yield Row(
        name="watching a steady round of 10 processes, CPU",
        unit="%",
        ours=cpu,
        peer=peer_cpu,
        peer_is="supervisord with the same ten, which asks nothing of them",
        target="< 2 % of one core",
        met=cpu < 2,
    )
    yield Row(
        name="watching a steady round of 10 processes, memory",
        unit="MB",
        ours=memory,
        peer=peer_memory,
        peer_is="supervisord",
        target="< 60 MB",
        met=memory < 60,
    )


def _ours(folder: Path) -> tuple[float, float]:
    command = ", ".join(f'"{word}"' for word in SLEEP)
    lines = [
        "version: 1",
        "title: steady",
        "hypothesis: Watching costs little.",
        "processes:",
        *(f"  p{number}: {{command: [{command}], start_grace: 100ms}}" for number in range(PROCESSES)),
        "steady_state: [{process: {of: p0, at_least: 1}}]",
        "injections: [{at: 300s, kill: {}, target: {process: p0}}]",
        "invariants: [{process: {of: p0, at_least: 1}}]",
    ]
    file = folder / "steady.yaml"
    file.write_text("\n".join(lines) + "\n")
    croupier = subprocess.Popen(
        [sys.executable, "-m", "croupier.cli", "run", str(file), "--no-progress", "--out", str(folder / "runs")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _until(lambda: any("round" in path.read_text() for path in folder.glob("runs/*/*/journal.jsonl")))
        mine = psutil.Process(croupier.pid)
        guardian = next(one for one in mine.children() if "croupier.guardian" in " ".join(one.cmdline()))
        return _cost([mine, guardian])
    finally:
        croupier.terminate()
        croupier.wait()


def _supervisord(folder: Path) -> tuple[float, float]:
    programs = "\n".join(
        f"[program:p{number}]\ncommand={sys.executable} -S -c 'import signal; signal.pause()'"
        for number in range(PROCESSES)
    )
    conf = folder / "supervisord.conf"
    conf.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/s.log\npidfile={folder}/s.pid\n"
        f"[unix_http_server]\nfile={folder}/s.sock\n"
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        f"{programs}\n"
    )
    peer = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        watcher = psutil.Process(peer.pid)
        _until(lambda: len(watcher.children()) == PROCESSES)
        return _cost([watcher])
    finally:
        peer.terminate()
        peer.wait()


def _cost(watchers: list[psutil.Process]) -> tuple[float, float]:
    time.sleep(2)
    before = sum(_cpu_s(one.pid) for one in watchers)
    began = time.monotonic()
    time.sleep(WATCHED_S)
    used = sum(_cpu_s(one.pid) for one in watchers) - before
    memory = sum(one.memory_full_info().pss for one in watchers) / 1e6
    return 100 * used / (time.monotonic() - began), memory


def _cpu_s(pid: int) -> float:
    # schedstat counts nanoseconds; stat only ticks of 10 ms.
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def _until(true: object) -> None:
    end = time.monotonic() + 30
    while not true():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError("it did not come up")
        time.sleep(0.05)
