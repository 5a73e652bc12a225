"""Permits for tests, and a world without processes: for unit tests that are done in a millisecond."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..model.experiment import Limits
from ..model.fault import Fault
from ..model.guard import Permit, Standing, consider
from ..model.plan import At, Injection
from ..model.target import Census, Identity, Seen, Selector
from ..observe.view import KEEP_BYTES
from ..system import procs
from ..system.commands import Finished
from .act import RecordingAct

_NO_REAL_PID = 2**22
"""Linux hands out no number above this one, so nobody real is ever meant by those of a FakeWorld."""


def a_permit(fault: Fault, *targets: Seen | Identity | int, number: int = 1, limits: Limits | None = None) -> Permit:
    """A permit for these targets, in this order: seen processes, identities, or the numbers of live processes.

    It comes from the guard, as every permit does, with the plainest of experiments. `number` is the injection's;
    `limits` is the blast radius, where a fault needs one to be named (a cluster). Raises ValueError for a number that
    nobody carries, and AssertionError where the guard refuses.
    """
    census = tuple(_seen(one, order) for order, one in enumerate(targets))
    selector = Selector(process="target", pick="tree", order="oldest", count="all")
    injection = Injection(number=number, trigger=At(at_ms=0), fault=fault, target=selector, lot=0)
    decision = consider(injection, census, limits or Limits(), Standing(now_ms=0, live=limits is not None))
    assert isinstance(decision, Permit), f"the guard gave no permit: {decision.reason}"
    return decision


def _seen(target: Seen | Identity | int, order: int) -> Seen:
    if isinstance(target, Seen):
        return msgspec.structs.replace(target, role="target", order=order)
    who = procs.identity(target) if isinstance(target, int) else target
    if who is None:
        raise ValueError(f"there is no process {target}")
    stat = procs.read_stat(who.pid) if procs.HAS_PROC else None
    return Seen(
        identity=who,
        parent=stat.parent if stat else 0,
        name=stat.name if stat else "target",
        state=stat.state if stat else "",
        order=order,
        role="target",
        main=order == 0,
        ours=True,
    )


class FakeWorld:
    """Processes, logs, files and commands that exist in memory only (files: in `cwd`).

    For injectors, `start` processes, take `permit` and `act`, and look at `state` afterwards: signals sent through
    the act stop, continue and end the fakes. For probers, the world is itself the `View`: `start` processes, `log`
    lines, `acknowledge` ids, and put what commands answer into `commands`.

        world = FakeWorld(tmp_path)
        web = world.start("web")
        world.log("web", "listening")
        assert read(Log(process="web", match="listen"), world).held
    """

    def __init__(self, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.cwd = cwd or Path.cwd()
        self.env: Mapping[str, str] = env or {}
        self.baseline: dict[str, int] = {}
        self.commands: dict[tuple[str, ...], Finished | Callable[[], Finished]] = {}
        """What each command answers; those that are not listed cannot be found."""
        self.heartbeats_ms: dict[Path, float] = {}
        self._processes: dict[Identity, Seen] = {}
        self._logs: dict[str, list[str]] = {}
        self._numbers = itertools.count(_NO_REAL_PID + 1)

    # Processes.

    def start(self, role: str = "web", *, main: bool | None = None, **more: Any) -> Seen:
        """A process comes up. The first of a role is its main process; `more` are further fields of `Seen`."""
        pid = next(self._numbers)
        mains = [one for one in self._processes.values() if one.role == role and one.main]
        known = {
            "identity": Identity(pid=pid, started=pid, boot="fake"),
            "parent": mains[0].pid if mains else 1,
            "name": role,
            "state": "S",
            "order": pid,
            "role": role,
            "main": not mains if main is None else main,
            "ours": True,
        }
        seen = Seen(**{**known, **more})
        self._processes[seen.identity] = seen
        self._logs.setdefault(role, [])
        return seen

    def end(self, one: Seen | Identity) -> None:
        """A process is gone."""
        self._processes.pop(one.identity if isinstance(one, Seen) else one, None)

    def state(self, one: Seen | Identity) -> str:
        """Its letter of proc(5); "" if it is gone."""
        seen = self._processes.get(one.identity if isinstance(one, Seen) else one)
        return seen.state if seen else ""

    def signal(self, who: Identity, name: str) -> bool:
        """STOP stops, CONT continues, what a program ends by ends, other signals only arrive."""
        seen = self._processes.get(who)
        if seen is None:
            return False
        plain = name.removeprefix("SIG")
        state = {"STOP": "T", "TSTP": "T", "CONT": "S"}.get(plain)
        if state:
            self._processes[who] = msgspec.structs.replace(seen, state=state)
        elif plain in ("KILL", "TERM", "INT", "QUIT", "HUP", "ABRT", "SEGV"):
            self.end(who)
        return True

    def permit(self, fault: Fault, *targets: Seen) -> Permit:
        """The guard's permit for these."""
        return a_permit(fault, *targets)

    def act(self, permit: Permit) -> RecordingAct:
        """An act whose signals stay in this world."""
        return RecordingAct(
            permit, send=self.signal, look_below=lambda top: self.census(), env=self.env, cwd=str(self.cwd)
        )

    # The view of a prober.

    def census(self) -> Census:
        """Everybody alive."""
        return tuple(self._processes.values())

    def log(self, process: str, *lines: str) -> None:
        """A process prints lines."""
        self._logs.setdefault(process, []).extend(lines)

    def log_matches(self, process: str, regex: str) -> int:
        """How many lines match."""
        return sum(re.search(regex, line) is not None for line in self._logs[process])

    def log_lines(self, process: str) -> Iterable[str]:
        """The lines."""
        return tuple(self._logs[process])

    def acknowledge(self, *ids: str) -> None:
        """The workload prints `ack ID` lines."""
        with self.acks().open("a", encoding="utf-8") as ledger:
            ledger.writelines(f"ack {one}\n" for one in ids)

    def acks(self) -> Path:
        """The ledger."""
        return self.cwd / "acks.txt"

    def heartbeat_path(self, process: str) -> Path:
        """Where a process puts its heartbeat."""
        return self.cwd / f".heartbeat-{process}"

    def heartbeat_seen_ms(self, path: Path) -> float | None:
        """From `heartbeats_ms`."""
        return self.heartbeats_ms.get(path)

    def run_command(
        self,
        argv: tuple[str, ...],
        within_ms: int,
        env: Mapping[str, str],
        keep_bytes: int = KEEP_BYTES,
        network: str = "",
    ) -> Finished:
        """From `commands`; nothing is run."""
        answer = self.commands.get(tuple(argv), Finished(failed=f"command not found: {argv[0] if argv else ''!r}"))
        return answer if isinstance(answer, Finished) else answer()
