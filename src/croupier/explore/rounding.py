"""One round of a search, in a process of its own: `python -m croupier.explore.rounding < JOB`.

Rounds that run at the same time must not share a process: each has its guardian, and whatever falls to the process
that started it. The answer is one JSON object on standard output.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from ..load import load_experiment
from ..model.errors import CroupierError, HarnessError
from ..model.noun import Noun
from ..model.units import write_quantity
from ..model.verdict import Verdict
from ..model.wire import decode_plan
from ..registry import catalogue
from ..run import Options, run_round
from ..system import kernel


class Job(Noun, frozen=True, kw_only=True):
    """A round to be played."""

    file: str
    plan: msgspec.Raw
    out: str
    record_calls: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


class Played(Noun, frozen=True, kw_only=True):
    """What came of it."""

    path: str = ""
    verdict: Verdict | None = None
    problem: str = ""
    """Why there is no verdict."""
    exit_code: int = 0


def play(job: Job) -> Played:
    """Play a round in a process of its own, and wait for it. It stops by itself when we are gone."""
    child = subprocess.run(
        [sys.executable, "-P", "-m", __name__],
        input=msgspec.json.encode(job, enc_hook=write_quantity),
        capture_output=True,
    )
    try:
        return msgspec.json.decode(child.stdout, type=Played)
    except msgspec.MsgspecError:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = last[0] if last else f"it ended with {child.returncode}"
        raise HarnessError(f"a round of the search could not be played: {why}", at=job.file) from None


def main() -> int:
    """Play the round that standard input says."""
    kernel.set_parent_death_signal(signal.SIGTERM)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        known = catalogue(job.plugins)
        loaded = load_experiment(Path(job.file), known)
        options = Options(out=job.out, record_calls=job.record_calls, plugins=job.plugins, argv=tuple(sys.argv))
        finished = run_round(loaded, decode_plan(bytes(job.plan), known), known, options)
        told = Played(path=finished.path, verdict=finished.verdict)
    except CroupierError as problem:
        told = Played(problem=problem.message, exit_code=problem.exit_code)
    sys.stdout.buffer.write(msgspec.json.encode(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
