"""What the tests at the edges share: small programs to start, an `Act` without a round, permits from the guard."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from croupier.model.experiment import Limits
from croupier.model.fault import Fault, Kill
from croupier.model.guard import Below, Permit, Standing, consider
from croupier.model.plan import At, Injection
from croupier.model.target import Identity, Seen, Selector
from croupier.model.undo import UndoRecord
from croupier.system import procs, signals


def eventually(condition: Callable[[], object], within_s: float = 5.0) -> bool:
    """Wait for a condition; whether it came."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.002)
    return True


def identity(pid: int) -> Identity:
    """Who carries this number; somebody must."""
    who = procs.identity(pid)
    assert who is not None
    return who


@contextmanager
def started(*argv: str, ready: bytes = b"", env: Mapping[str, str] | None = None) -> Iterator[Identity]:
    """A process of the test's own, killed at the end; with `ready`, once it has printed that."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=None if env is None else {**os.environ, **env})
    try:
        assert process.stdout is not None
        if ready:
            assert process.stdout.readline().strip() == ready
        yield identity(process.pid)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def python(program: str) -> tuple[str, ...]:
    """The command line that runs a few lines of Python."""
    return (sys.executable, "-S", "-c", program)


SLEEPS = ("sleep", "300")
IGNORES_TERM = python(
    "import signal,time\nsignal.signal(15, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(300)"
)
HANDLES_ALL = python(
    "import signal,time\n"
    "for one in (1, 2, 10, 12, 15): signal.signal(one, lambda *a: None)\n"
    "print('ready', flush=True)\n"
    "while True: time.sleep(300)"
)
DAEMONISES = python(
    "import os,sys,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(300)"
)
"""Double fork and setsid, as daemons do."""


def a_permit(fault: Fault, *who: Identity, number: int = 1, limits: Limits | None = None) -> Permit:
    """Leave from the guard to do this to these processes of ours."""
    census = procs.read_census({f"p{nth}": one for nth, one in enumerate(who)})
    return a_permit_for(fault, *(one for one in census if one.identity in who), number=number, limits=limits)


def a_permit_for(fault: Fault, *seen: Seen, number: int = 1, limits: Limits | None = None) -> Permit:
    """The same for rows of a census, however they came about."""
    injection = Injection(number=number, trigger=At(at_ms=0), fault=fault, target=Selector(count="all"), lot=0)
    permit = consider(injection, seen, limits or Limits(), Standing(now_ms=0))
    assert isinstance(permit, Permit), permit
    return permit


class Hands:
    """An `Act` that keeps its records in memory."""

    def __init__(self, refuses: bool = False, permit: Permit | None = None) -> None:
        self.permit = permit
        self.env: Mapping[str, str] = dict(os.environ)
        self.cwd = tempfile.gettempdir()
        self.halted = False
        self.records: list[UndoRecord] = []
        self.steps: list[str] = []
        self.signals: list[tuple[int, str]] = []
        self.refuses = refuses

    def intend(self, record: UndoRecord) -> None:
        if self.refuses:
            raise OSError("no space left on device")
        self.records.append(record)
        self.steps.append(f"intent {record.key}")

    def applied(self, key: str) -> None:
        self.steps.append(f"applied {key}")

    def signal(self, who: Identity, name: str) -> bool:
        self.steps.append(f"{name} {who.pid}")
        return signals.send(who, name)

    def below(self, target: Seen) -> Below:
        census = procs.find(Selector(tree=target.pid), roots={"target": target.identity})
        permit = self.permit or a_permit(Kill(), target.identity)
        return permit.below(target.identity, census)

    def wait(self, ms: float, until: Callable[[], bool] | None = None) -> bool:
        end = time.monotonic() + ms / 1_000
        while not self.halted:
            if until is not None and until():
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.001)
        return False

    def key(self, target: Seen) -> str:
        return f"1.{target.pid}"


def lines(path: Path) -> Sequence[str]:
    """The lines of a file; none while it is not there."""
    return path.read_text().splitlines() if path.exists() else []
