"""From the decision to the signal delivered, and how late a scheduled injection comes.

Ours is a whole round: guard, intent on disk, act on a thread of its own. The peer is the loop that people write with
psutil: list the processes, choose one by name, signal it, sleep.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import psutil
from row import Row, median, percentile

from croupier.load import load_text
from croupier.model import journal as j
from croupier.model.plan import draw_plan
from croupier.registry import catalogue
from croupier.run import Options, run_round

EVERY_MS = 100
INJECTIONS = 100
APP = "import signal, time; signal.signal(signal.SIGUSR1, lambda *_: None); print('up', flush=True); time.sleep(600)"
EXPERIMENT = f"""
version: 1
title: signals
hypothesis: A signal is delivered within a millisecond of the decision.
processes:
  app:
    command: [{sys.executable}, -c, "{APP}"]
    ready: {{log: {{process: app, match: up}}}}
steady_state: [{{process: {{of: app, at_least: 1}}}}]
faults: [{{kill: {{signal: USR1}}, target: {{process: app}}}}]
schedule: {{every: {EVERY_MS}ms, for: {EVERY_MS * (INJECTIONS + 1)}ms}}
limits: {{rate: 100000 per 1m, concurrent: 10}}
invariants: [{{process: {{of: app, at_least: 1}}}}]
"""


def measure() -> Iterator[Row]:
    """Two rows: the median from decision to delivery, and the 99th percentile of lateness."""
    took_ms, late_ms = _ours()
    peer_took_ms, peer_late_ms = _peer()
    yield Row(
        name="decision to signal delivered, median",
        unit="ms",
        ours=median(took_ms),
        peer=median(peer_took_ms),
        peer_is="psutil loop: list processes by name, choose, signal",
        target="<= 1 ms",
        met=median(took_ms) <= 1,
    )
    yield Row(
        name="lateness of a scheduled injection, p99",
        unit="ms",
        ours=percentile(late_ms, 99),
        peer=percentile(peer_late_ms, 99),
        peer_is="psutil loop that sleeps its interval: it drifts with every turn",
        target="below the peer",
        met=percentile(late_ms, 99) < percentile(peer_late_ms, 99),
    )


def _ours() -> tuple[list[float], list[float]]:
    known = catalogue()
    with tempfile.TemporaryDirectory() as out:
        loaded = load_text(EXPERIMENT.encode(), "signals.yaml", known)
        finished = run_round(loaded, draw_plan(loaded.experiment, 0), known, Options(out=out))
        events = list(finished.run.events())
    late = {one.injection: one.late_us for one in events if isinstance(one, j.Due)}
    done = [one for one in events if isinstance(one, j.Concluded) and one.result == "landed"]
    assert len(done) >= INJECTIONS * 0.9, f"only {len(done)} of {INJECTIONS} landed"
    return [one.took_us / 1000 for one in done], [late[one.injection] / 1000 for one in done]


def _peer() -> tuple[list[float], list[float]]:
    child = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGUSR1, lambda *_: None); time.sleep(600)"]
    )
    try:
        time.sleep(0.5)
        name = psutil.Process(child.pid).name()
        took, late = [], []
        began = time.monotonic()
        for turn in range(INJECTIONS):
            time.sleep(EVERY_MS / 1000)
            decided = time.monotonic()
            late.append((decided - began) * 1000 - EVERY_MS * (turn + 1))
            found = [
                one
                for one in psutil.process_iter(["name", "ppid"])
                if one.info["name"] == name and one.pid == child.pid
            ]
            random.choice(found).send_signal(signal.SIGUSR1)
            took.append((time.monotonic() - decided) * 1000)
        return took, late
    finally:
        child.kill()
        child.wait()
