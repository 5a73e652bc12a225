"""Real processes for the kit to disturb, and what can be seen of one from the outside."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Any, Self

from ..model.target import Identity
from ..system import procs, signals
from ..system.fingerprint import scheduling

Spawn = Callable[[], "subprocess.Popen[Any]"]

# Three threads, so that a fault that only sees the main one is found out. It ends with the kit, whatever ends that:
# its stdin is closed then.
_CODE = """
import sys, threading, time
for _ in range(2):
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


def a_process() -> subprocess.Popen[bytes]:
    """A quiet process of three threads that ends with whoever started it; its command line is always the same."""
    argv = [sys.executable, "-I", "-S", "-c", _CODE]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], 30)[0] or not process.stdout.readline():
        process.kill()
        process.wait()
        raise RuntimeError("the kit's own target did not start")
    return process


class Target:
    """One process that the kit started; a context manager that leaves nothing behind."""

    def __init__(self, spawn: Spawn) -> None:
        self._process = spawn()
        who = procs.identity(self._process.pid)
        if who is None or not procs.alive(who):
            code = self._process.wait()
            raise RuntimeError(f"the process of `spawn` ended at once with {code}: let it live for a minute")
        self.who: Identity = who

    @property
    def pid(self) -> int:
        """Its number."""
        return self.who.pid

    def die(self, *, reap: bool = True) -> None:
        """It ends by itself. Without `reap` it stays a zombie, as while its parent is busy."""
        family = procs.family(self.pid)
        for one in (self.who, *family):
            signals.send(one, "KILL")
        end = time.monotonic() + 10
        while procs.alive(self.who) and time.monotonic() < end:
            time.sleep(0.001)
        if reap:
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.die()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def fingerprint(pid: int) -> Hashable:
    """What a fault may change of a process and should put back, as far as the system shows it from the outside.

    Whether it is stopped, the niceness and scheduling of its threads, its CPUs, limits, oom score, cgroup, groups.
    """
    who = procs.identity(pid)
    states = set(procs.thread_states(who)) if who else set()
    stopped = states & set("Tt")
    seen: list[tuple[str, Hashable]] = [
        ("state", "runs" if not stopped else "stopped" if states == stopped else "partly stopped")
    ]
    if not procs.HAS_PROC:
        return tuple(seen)
    seen.append(("niceness, priority, policy", scheduling(pid)))
    seen.append(("cpus", tuple(sorted(os.sched_getaffinity(pid)))))
    for name in ("limits", "oom_score_adj", "cgroup"):
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as the others
            seen.append((name, file.read().strip()))
    return tuple(seen)


def spawn_of(spawn: Spawn | Sequence[str] | None) -> Spawn:
    """What the caller gave, as something to call."""
    if spawn is None:
        return a_process
    if callable(spawn):
        return spawn
    argv = list(spawn)
    return lambda: subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
