"""What needs no process: drawing a long plan, and judging a long journal at bounded memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from row import Row

from croupier.model import journal as j
from croupier.model.experiment import Experiment, Schedule, WheelEntry
from croupier.model.fault import Kill, Suspend
from croupier.model.plan import draw_plan, plan_json
from croupier.model.target import Identity, Selector
from croupier.model.units import Ms, write_quantity

INJECTIONS = 100_000
EVENTS = 1_000_000


def measure() -> Iterator[Row]:
    """The plan against Python's own generator making the same number of draws; the journal against `json.loads`."""
    began = time.perf_counter()
    plan = draw_plan(_experiment(), 42)
    plan_json(plan)
    ours = time.perf_counter() - began
    assert len(plan.injections) == INJECTIONS
    yield Row(
        name=f"a plan of {INJECTIONS:,} injections, drawn and encoded",
        unit="s",
        ours=ours,
        peer=_draws(),
        peer_is="random.Random: three draws and a dict each, json.dumps",
        target="< 2 s",
        met=ours < 2,
    )
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.jsonl", Path(folder) / "large.jsonl"
        _write(small, EVENTS // 10)
        _write(large, EVENTS)
        _, little_mb = _judged(small)
        seconds, much_mb = _judged(large)
        began = time.perf_counter()
        with large.open("rb") as file:
            for line in file:
                json.loads(line)
        peer = time.perf_counter() - began
    yield Row(
        name=f"judging a journal of {EVENTS:,} events",
        unit="s",
        ours=seconds,
        peer=peer,
        peer_is="json.loads of each line, and nothing more",
        target="< 20 s",
        met=seconds < 20,
    )
    yield Row(
        name="its memory, against a tenth of the events",
        unit="MB",
        ours=much_mb,
        peer=little_mb,
        peer_is=f"the same for {EVENTS // 10:,} events",
        target="bounded: < 1.5 times",
        met=much_mb < 1.5 * little_mb,
    )


def _experiment() -> Experiment:
    web = Selector(process="web", pick="children")
    return Experiment(
        version=1,
        title="long",
        hypothesis="h",
        faults=(
            WheelEntry(fault=Kill(), target=web, weight=3),
            WheelEntry(fault=Suspend(for_ms=Ms(2_000)), target=web),
        ),
        schedule=Schedule(every_ms=Ms(10), jitter_ms=Ms(5), for_ms=Ms(10 * (INJECTIONS + 1))),
    )


def _draws() -> float:
    began = time.perf_counter()
    chance = random.Random(42)
    drawn = [
        {
            "number": number,
            "at": 10 * number + chance.randint(-5, 5),
            "fault": chance.choices(("kill", "suspend"), (3, 1))[0],
            "target": {"process": "web", "pick": "children"},
            "lot": chance.getrandbits(64),
        }
        for number in range(INJECTIONS)
    ]
    json.dumps(drawn)
    return time.perf_counter() - began


def _write(path: Path, count: int) -> None:
    """A journal as a long round writes it: mostly samples and probes, an injection now and then."""
    encode = msgspec.json.Encoder(enc_hook=write_quantity).encode
    who = Identity(pid=1234, started=5678, boot="b")
    struck = j.Struck(who=who, role="web", name="web", main=False, rank=0, of=3)
    injected = [
        j.Due(injection=1),
        j.Intended(injection=1, fault="kill", detail="signal TERM", targets=(struck,)),
        j.Concluded(injection=1, result="landed", took_us=300),
        j.Recovered(injection=1, process="web", took_ms=12.5),
    ]
    usual = [
        j.Sampled(process="web", cpu_percent=3.5, rss_bytes=50_000_000, fds=40, threads=9, processes=4),
        j.Acknowledged(count=1000),
        j.ProbeRead(probe="http", role="steady", held=True, took_ms=1.5),
        j.ChildAppeared(process="web", who=who, parent=1, name="gunicorn"),
    ]
    with path.open("wb") as file:
        for number in range(count):
            event: j.Event = usual[number % 4]
            if number % 1000 < 4:
                event = msgspec.structs.replace(injected[number % 1000], injection=number // 1000 + 1)
            file.write(encode(msgspec.structs.replace(event, at_us=number * 100)) + b"\n")
        file.write(encode(j.RunEnded(outcome="completed", at_us=count * 100)) + b"\n")


_JUDGE = """
import sys, time
from pathlib import Path
from croupier.model.verdict import judge
from croupier.store import read_journal
began = time.perf_counter()
verdict = judge(read_journal(Path(sys.argv[1])))
took = time.perf_counter() - began
assert verdict.landed
# Not ru_maxrss: that remembers the size of the parent from before the exec.
status = Path("/proc/self/status").read_text()
print(took, int(status.split("VmHWM:")[1].split()[0]) / 1000)
"""


def _judged(path: Path) -> tuple[float, float]:
    """Seconds, and the largest resident size in MB, of a fresh process."""
    said = subprocess.run([sys.executable, "-c", _JUDGE, str(path)], capture_output=True, text=True, check=True).stdout
    seconds, megabytes = said.split()
    return float(seconds), float(megabytes)
