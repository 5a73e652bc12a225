"""What a fault costs and how exact it is: time to apply and to heal, what a neighbour notices, asked against got.

Faults are carried out by their injectors on processes of ours, with records kept in memory; what a round adds is
measured in `steady.py`. `python benchmarks/faults.py --write` puts the table and the plot into the documentation.
"""

from __future__ import annotations

import mmap
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import proxy
from panel import Panel, picture
from row import Row, median, percentile

from croupier.built_in import injector
from croupier.model.fault import Fault, Kill, Suspend
from croupier.model.faults.cpu import StarveCpu
from croupier.model.faults.database import LockDatabase
from croupier.model.faults.disk import Corrupt, FillDisk
from croupier.model.faults.limits import ExhaustFds, ForkStorm, Limit
from croupier.model.faults.memory import StarveMemory
from croupier.model.faults.ports import OccupyPort
from croupier.model.units import Ms
from croupier.system import mounts, procs, quota
from croupier.testing import RecordingAct, Target, a_permit, a_process

TIMES = 15
SHARES = (10, 30, 50, 80)
ASKED_MS = (50, 100, 200, 400)
BLOCK_S = 0.25
BLOCKS = 24
"""Of each kind; they take turns, so that what else goes on here meets both alike."""
LONG = Ms(60_000)
DOCS = Path(__file__).resolve().parent.parent / "docs" / "explanation"
MARKS = "<!-- faults -->", "<!-- /faults -->"

SPINS = """
import mmap, os, sys
if sys.argv[2] != "any":
    os.sched_setaffinity(0, {int(sys.argv[2])})
with open(sys.argv[1], "r+b") as file:
    area = mmap.mmap(file.fileno(), 8)
count = 0
print("ready", flush=True)
while True:
    for _ in range(1_000):
        pass
    count += 1
    area[:8] = count.to_bytes(8, "little")
"""


def measure() -> Iterator[Row]:
    """Times, the neighbour, exactness."""
    yield from _times()
    yield from _neighbour()
    yield from _exactness()


# --- time to apply and to heal ---------------------------------------------------------------------------------------


def _times() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="croupier-bench-") as place, ExitStack() as stack:
        for fault, limit_ms in _faults(Path(place), stack):
            if injector(fault.kind).lacking(fault):
                continue
            applied, healed = _applied_and_healed(fault, place)
            for word, took in (("applied", applied), ("healed", healed)):
                if took:
                    yield Row(
                        name=f"{_named(fault)}: {word}, median (p95 {percentile(took, 95):.1f} ms)", unit="ms",
                        ours=median(took), peer=None, peer_is="", target=f"< {limit_ms} ms",
                        met=median(took) < limit_ms,
                    )  # fmt: skip


def _faults(place: Path, stack: ExitStack) -> Iterator[tuple[Fault, int]]:
    """Each with the time that it may take."""
    yield Kill(), 20
    yield Suspend(for_ms=LONG), 20
    yield Suspend(for_ms=LONG, how="freezer"), 40
    yield StarveCpu(for_ms=LONG, how="quota"), 40
    yield StarveCpu(for_ms=LONG, load=50), 500
    yield StarveCpu(for_ms=LONG, cores=1), 20
    yield StarveMemory(for_ms=LONG, percent=400), 100
    yield Limit(for_ms=LONG, nofile=16), 20
    yield ExhaustFds(for_ms=LONG), 20
    yield ForkStorm(for_ms=LONG, processes=16), 500
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    yield OccupyPort(for_ms=LONG, port=port), 500
    (place / "data").write_bytes(os.urandom(1 << 20))
    yield Corrupt(for_ms=LONG, path=str(place / "data"), bits=9), 100
    with sqlite3.connect(place / "app.db") as base:
        base.execute("CREATE TABLE t (n)")
    yield LockDatabase(for_ms=LONG, sqlite=str(place / "app.db")), 500
    if not mounts.lacking():
        volume = place / "volume"
        volume.mkdir()
        mounts.mount_tmpfs(str(volume), 8 << 20)
        stack.callback(mounts.detach, str(volume))
        yield FillDisk(for_ms=LONG, path=str(volume)), 40


def _applied_and_healed(fault: Fault, place: str) -> tuple[list[float], list[float]]:
    """Milliseconds of each, as often as there was something to be healed."""
    one = injector(fault.kind)
    applied, healed = [], []
    for number in range(1, TIMES + 1):
        with Target(a_process) as target:
            permit = a_permit(fault, target.who, number=number)
            act = RecordingAct(permit, env={**os.environ, "CROUPIER_STATE": place}, cwd=place)
            began = time.perf_counter()
            outcome = one.inject(permit, fault, act)
            if outcome.result != "landed":
                raise RuntimeError(outcome.detail)
            applied.append((time.perf_counter() - began) * 1e3)
            for record in act.records:
                began = time.perf_counter()
                healing = one.heal(record)
                if not healing.verified:
                    raise RuntimeError(healing.note)
                healed.append((time.perf_counter() - began) * 1e3)
    return applied, healed


def _named(fault: Any) -> str:
    ways = {"how": "", "load": "a neighbour", "cores": "processors"}
    said = [way or getattr(fault, key) for key, way in ways.items() if getattr(fault, key, None)]
    return f"{fault.kind} ({said[-1]})" if said else fault.kind


# --- a neighbour -----------------------------------------------------------------------------------------------------


def _neighbour() -> Iterator[Row]:
    for how in _ways():
        free, starved, lost, upkeep = _neighbour_rates(how)
        yield Row(
            name=f"starve_cpu ({how}): what a neighbour gets done meanwhile", unit="k/s", ours=starved / 1e3,
            peer=free / 1e3, peer_is=f"while nobody is starved; from block to block {lost:+.1%} lost",
            target="< 3 % lost", met=lost < 0.03, more_is_better=True,
        )  # fmt: skip
        yield Row(
            name=f"starve_cpu ({how}): what keeping it up takes of a processor", unit="%", ours=upkeep * 100,
            peer=None, peer_is="", target="< 3 %", met=upkeep < 0.03,
        )  # fmt: skip


def _ways() -> list[str]:
    return ["duty"] if quota.lacking() else ["quota", "duty"]


def _neighbour_rates(how: str) -> tuple[float, float, float, float]:
    """Turns in a second of a process beside the target, on a processor of its own: free, and while it is starved; what
    is lost, the median over pairs of blocks; and how much of a processor we took ourselves meanwhile."""
    first, *others = sorted(os.sched_getaffinity(0))
    free, starved, upkeep = [], [], []
    with _spinning(str(first)) as neighbour, _spinning(str(others[0] if others else first)) as target:
        for nth in range(BLOCKS):
            # In the order a b b a, so that what grows or shrinks all the while meets both alike.
            if nth % 2 == 0:
                free.append(_rate(neighbour))
            with _starved(target, StarveCpu(for_ms=LONG, percent=30, how=how)):  # type: ignore[arg-type]
                used = time.process_time()
                starved.append(_rate(neighbour))
                upkeep.append((time.process_time() - used) / BLOCK_S)
            if nth % 2:
                free.append(_rate(neighbour))
    lost = median([1 - one / other for one, other in zip(starved, free, strict=True)])
    return median(free), median(starved), lost, median(upkeep)


def _rate(one: Spinning) -> float:
    before, began = one.turns, time.perf_counter()
    time.sleep(BLOCK_S)
    return (one.turns - before) / (time.perf_counter() - began)


class Spinning:
    """A process that does nothing but count."""

    def __init__(self, process: subprocess.Popen[bytes], area: mmap.mmap) -> None:
        who = procs.identity(process.pid)
        assert who is not None
        self.who = who
        self._area = area

    @property
    def turns(self) -> int:
        """How far it has come."""
        return int.from_bytes(self._area[:8], "little")

    @property
    def cpu_s(self) -> float:
        """How much of a processor it has had."""
        return procs.usage([self.who.pid]).cpu_seconds


@contextmanager
def _spinning(processor: str) -> Iterator[Spinning]:
    with tempfile.NamedTemporaryFile(prefix="croupier-bench-") as file:
        file.write(bytes(8))
        file.flush()
        argv = [sys.executable, "-S", "-c", SPINS, file.name, processor]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process, mmap.mmap(file.fileno(), 8) as area:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                yield Spinning(process, area)
            finally:
                process.kill()


@contextmanager
def _starved(one: Spinning, fault: StarveCpu) -> Iterator[None]:
    """Starved, and kept so, as in a round."""
    starve = injector(fault.kind)
    permit = a_permit(fault, one.who)
    act = RecordingAct(permit)
    outcome = starve.inject(permit, fault, act)
    if outcome.result != "landed":
        raise RuntimeError(outcome.detail)
    upkeep = threading.Thread(target=starve.hold, args=(permit, fault, act))
    upkeep.start()
    try:
        yield
    finally:
        act.halt()
        upkeep.join()
        for record in act.records:
            injector(record.fault).heal(record)


# --- asked and got ---------------------------------------------------------------------------------------------------


def _exactness() -> Iterator[Row]:
    for how in _ways():
        got, free = _share_got(how, 30)
        yield Row(
            name=f"starve_cpu ({how}): 30 % of a processor is", unit="%", ours=got, peer=free,
            peer_is="what it has while it is not starved: less than 100 where others want the processor too",
            target="27 to 33 %, or all that there is", met=0.9 * min(30, free) <= got <= 33,
        )  # fmt: skip
    let_go = _time_let_go(30)
    yield Row(
        name="starve_cpu (duty): of the time it is let go, 30 % asked", unit="%", ours=let_go, peer=None, peer_is="",
        target="27 to 33 %", met=27 <= let_go <= 33,
    )  # fmt: skip


def _share_got(how: str, percent: int, blocks: int = 4) -> tuple[float, float]:
    """Of one processor, per cent: what a process has that is starved, and what it has in between."""
    got, free = [], []
    with _spinning("any") as one:
        for _ in range(blocks):
            free.append(_share_of(one))
            with _starved(one, StarveCpu(for_ms=LONG, percent=percent, how=how)):  # type: ignore[arg-type]
                got.append(_share_of(one))
    return median(got), median(free)


def _share_of(one: Spinning) -> float:
    before, began = one.cpu_s, time.perf_counter()
    time.sleep(1.0)
    return (one.cpu_s - before) / (time.perf_counter() - began) * 100


def _time_let_go(percent: int, seconds: float = 3.0) -> float:
    """Per cent of the looks at it, a thousand in a second, that find it not stopped."""
    looks = []
    with _spinning("any") as one, _starved(one, StarveCpu(for_ms=LONG, percent=percent, how="duty")):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            looks.append(procs.state_of(one.who) != "T")
            time.sleep(0.001)
    return sum(looks) / len(looks) * 100


def main() -> None:
    """Measure, and with --write put the table and the plot into the documentation."""
    rows = list(measure())
    lines = ["| Measure | Found | Beside it | Target |", "|---|---|---|---|"]
    for row in rows:
        peer = f"{row.peer:,.3g} {row.unit} ({row.peer_is})" if row.peer is not None else ""
        lines.append(
            f"| {row.name} | {row.ours:,.3g} {row.unit} | {peer} | {row.target}{'' if row.met else ': missed'} |"
        )
    print("\n".join(lines))
    plot = _plot()
    if "--write" in sys.argv:
        page = DOCS / "undo.md"
        text = page.read_text()
        before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
        page.write_text("\n".join([before + MARKS[0], *lines, MARKS[1] + after]))
        (DOCS / "faults-exact.svg").write_text(plot)


def _plot() -> str:
    """Asked against got."""
    latencies = list(proxy.latencies(ASKED_MS))
    shares = {
        "quota: had" if how == "quota" else "duty: let go": [
            (percent, _share_got(how, percent)[0] if how == "quota" else _time_let_go(percent)) for percent in SHARES
        ]
        for how in _ways()
    }
    print(latencies, shares, flush=True)
    most = ASKED_MS[-1], SHARES[-1]
    return picture(
        Panel(
            name="latency of a proxied connection", series={"": latencies}, line_to=(most[0], most[0]), unit="ms",
            across="asked for, ms",
        ),
        Panel(
            name="share of a processor", series=dict(shares), line_to=(most[1], most[1]), unit="%",
            across="asked for, % of one processor",
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
