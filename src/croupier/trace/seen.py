"""Calls as the levels below the kernel's own see them: what was done to which file, as far as that is known.

They have what a reader of `Call` asks for, filled in at once: nobody stands still in the kernel, so there is nothing
to be read later.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic_ns
from typing import Final

from ..model.errors import ExperimentError
from ..model.target import Identity
from ..system import procs, signals
from . import launch
from .acts import Act, Fail, Kill, Torn
from .book import Traced
from .launch import Order
from .output import Outlet
from .table import Kind

OnSeen = Callable[["Seen"], Act]
_PACE_S: Final = 0.01


@dataclass(slots=True, kw_only=True)
class Seen:
    """One change, in the shape of a `Call`."""

    index: int
    name: str
    kind: Kind
    path: str = ""
    path2: str = ""
    offset: int | None = None
    length: int | None = None
    data: bytes = b""
    text: str = ""
    flags: int = 0
    sync: bool = False
    pid: int = 0
    process: int = 1
    thread: int = 1
    at_us: int = 0
    tid: int = 0
    args: tuple[int, ...] = ()
    file_kind: str = "file"
    stream: str = ""
    maps_for_writing: bool = False

    def read_data(self, limit: int = 1 << 30) -> bytes:
        """The bytes that are written."""
        return self.data[:limit]


@dataclass(slots=True)
class Workload:
    """A workload that runs without the kernel's watching: started in a session of its own, ended by its whole tree."""

    order: Order
    outlet: Outlet
    process: subprocess.Popen[bytes] = field(init=False)
    ended: str = ""
    killed_at: int | None = None
    problem: BaseException | None = None
    """What the handler raised: it ends the workload, and is for whoever watches to raise."""
    began_ns: int = field(default_factory=monotonic_ns)
    let_die: Callable[[], None] = lambda: None
    """What must be let go of before a process that was sent SIGKILL can end: a request to a file system of ours."""
    _printed: threading.Thread = field(init=False)

    def start(self, env: dict[str, str] | None = None) -> None:
        """Start it. Raises ExperimentError for a program that is not there."""
        program = launch.find(self.order.argv, self.order.env, self.order.cwd)
        try:
            self.process = subprocess.Popen(
                list(self.order.argv), executable=program, env={**self.order.env, **(env or {})},
                cwd=self.order.cwd or None, stdin=self.order.files[0], stdout=self.order.files[1],
                stderr=self.order.files[2], start_new_session=True,
            )  # fmt: skip
        except OSError as problem:
            raise ExperimentError(f"{self.order.argv[0]!r} could not be started: {problem.strerror}") from problem
        self.outlet.started()
        self._printed = threading.Thread(target=self._take_output, name="croupier-output", daemon=True)
        self._printed.start()

    @property
    def at_us(self) -> int:
        """Since it was started."""
        return (monotonic_ns() - self.began_ns) // 1000

    def answer(self, seen: Seen, on_call: OnSeen, file: Path) -> bytes | None:
        """Ask the handler about a change, and do what it says to `file`: `go`, `fail ERRNO`, or None for a workload
        that was ended instead."""
        if seen.name == "symlink":
            # For a reader of calls the link that is made is the second path.
            seen.path, seen.path2 = "", seen.path
        self.outlet.glance()
        try:
            act = on_call(seen)
        except BaseException as problem:
            self.problem = problem
            act = Kill()
        if isinstance(act, Fail):
            return b"fail %d\n" % act.errno
        if isinstance(act, Torn) and seen.kind == "write":
            with file.open("r+b") as torn:
                os.pwrite(torn.fileno(), seen.data[: act.length], seen.offset or 0)
        if isinstance(act, Kill | Torn):
            self.kill(at=seen.index)
            return None
        return b"go\n"

    def kill(self, why: str = "killed", at: int | None = None) -> None:
        """End its whole tree, and whoever left the tree but not its session."""
        self.ended, self.killed_at = self.ended or why, self.killed_at if at is None else at
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            below = [procs.identity(self.process.pid), *procs.family(self.process.pid), *self._session()]
            alive = [one for one in below if one is not None and procs.alive(one)]
            if not alive:
                return
            for one in alive:
                try:
                    signals.send(one, "KILL")
                except PermissionError:
                    continue
            self.let_die()
            time.sleep(_PACE_S / 5)

    def stop(self, still: bool) -> None:
        """Have everybody of it stand still, or go on."""
        for one in (procs.identity(self.process.pid), *procs.family(self.process.pid)):
            if one is not None:
                signals.send(one, "STOP" if still else "CONT")

    def wait(self) -> bool:
        """One turn of waiting. True while it runs; its deadline, and the caller's wish to stop, end it."""
        if self.process.poll() is not None:
            return False
        if self.order.deadline_s is not None and self.at_us > self.order.deadline_s * 1e6:
            self.kill("deadline")
        return True

    def finish(self, level: str, calls: int, blind: tuple[str, ...]) -> Traced:
        """What there is to tell in the end; whoever outlives the main process is ended."""
        code = self.process.wait()
        lingering = self._session()
        if lingering and self.order.linger_s:
            end = time.monotonic() + self.order.linger_s
            while time.monotonic() < end and self._session():
                time.sleep(_PACE_S)
        if self._session():
            self.kill("lingering")
        self._printed.join(timeout=5)
        return Traced(
            level=level,
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            calls=calls,
            processes=1,
            killed_at=self.killed_at,
            ended=self.ended or "by itself",
            seconds=self.at_us / 1e6,
            blind=blind,
        )

    def _session(self) -> list[Identity]:
        found = []
        for pid in procs.all_pids():
            stat = procs.read_stat(pid)
            if stat and stat.session == self.process.pid and stat.state not in "ZX":
                found.append(Identity(pid=pid, started=stat.started, boot=procs.boot_id()))
        return found

    def _take_output(self) -> None:
        while self.outlet.fileno() >= 0:
            try:
                if not launch.poll(self.outlet.fileno()).poll(100) and self.process.poll() is not None:
                    break
                if not self.outlet.drain():
                    break
            except OSError:
                break
