"""Check many states: a server for each job, nothing asked twice, and no server's death taken for a finding."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from ..model.errors import ExperimentError, HarnessError
from ..model.noun import Noun
from ..model.target import Identity
from ..system import procs, signals
from . import server, wire
from .words import DEFAULT_WITHIN_MS, Answer, CallCheck, Check, Checked, Order, Ready, Stage

MARKER = "CROUPIER_CHECKER"
_GRACE_S = 60.0
_AHEAD = 4
_START = "import sys; sys.path.append(sys.argv.pop(1)); from croupier.check.server import main; main()"


class Ask(Noun, frozen=True, kw_only=True):
    """A state to check, with how much the workload had printed by then: the first `acked` bytes of the file `acks`."""

    state: str
    acks: str = ""
    acked: int = 0


def key(ask: Ask) -> bytes:
    """Asks with one key have one answer: the same state, after the same output."""
    return blake2b(f"{ask.state}\0{ask.acked}\0{ask.acks if ask.acked else ''}".encode(), digest_size=16).digest()


class Checkers:
    """Runs a check on states, `jobs` at a time. Use as a context manager: on the way out everything ends.

    Raises ExperimentError at the start where the check cannot be found. `stage` is sent to each server.
    """

    def __init__(
        self,
        check: Check,
        stage: Stage,
        *,
        jobs: int = 2,
        within_ms: float = DEFAULT_WITHIN_MS,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.ways: dict[str, str] = {}
        """The ways in which states were set up, each with the reason where it was not the first choice."""
        self.within_ms = within_ms
        self.jobs = max(1, jobs)
        self._setting = server.Setting(check, stage, dict(os.environ if env is None else env), cwd or str(Path.cwd()))
        self._work: queue.Queue[tuple[Ask, Future[Checked]] | None] = queue.Queue()
        self._known: dict[bytes, Future[Checked]] = {}
        self._lock = threading.Lock()
        self._closing = False
        # All are started from here, before there are threads: those of a function in hand are forked from us.
        self._servers = [_Server(self._setting) for _ in range(self.jobs)]
        try:
            for one in self._servers:
                self._note(one.ready())
        except BaseException:
            self._end_servers()
            raise
        self._threads = [
            threading.Thread(target=self._drive, args=(one,), daemon=True, name="croupier-check")
            for one in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, ask: Ask) -> Future[Checked]:
        """The answer to come. The same ask gets the same answer, without another run."""
        with self._lock:
            known = self._known.get(key(ask))
            if known is not None:
                return known
            if self._closing:
                raise HarnessError("the checkers are closed")
            future: Future[Checked] = Future()
            self._known[key(ask)] = future
        self._work.put((ask, future))
        return future

    def check(self, ask: Ask) -> Checked:
        """Check one state and wait for it."""
        return self.submit(ask).result()

    def check_all(self, asks: Iterable[Ask]) -> Iterator[tuple[Ask, Checked]]:
        """Check many, and give the answers in the order of the asks. Only a few are taken ahead."""
        waiting: list[tuple[Ask, Future[Checked]]] = []
        for ask in asks:
            waiting.append((ask, self.submit(ask)))
            while len(waiting) >= _AHEAD * self.jobs:
                first, future = waiting.pop(0)
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()

    def close(self) -> None:
        """End all servers and what they run. What was not asked yet is cancelled."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        with suppress(queue.Empty):
            while True:
                task = self._work.get_nowait()
                if task is not None:
                    task[1].cancel()
        for _ in self._threads:
            self._work.put(None)
        for one in self._servers:
            one.hang_up()
        for thread in self._threads:
            thread.join()
        self._end_servers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- one thread per server ------------------------------------------------------------------------------------

    def _drive(self, one: _Server) -> None:
        while (task := self._work.get()) is not None:
            ask, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                checked, why = self._ask(one, ask)
            except BaseException as problem:
                future.set_exception(problem)
                continue
            self.ways[checked.way] = why
            future.set_result(checked)

    def _ask(self, one: _Server, ask: Ask) -> tuple[Checked, str]:
        order = Order(state=ask.state, acks=ask.acks, acked=ask.acked, within_ms=self.within_ms)
        for attempt in (1, 2):
            try:
                answer = one.ask(order)
            except (EOFError, OSError) as problem:
                if self._closing:
                    raise HarnessError("the checkers were closed before this check had ended") from None
                if attempt == 2:
                    raise HarnessError(
                        "the process that runs the checks ended twice on one state", at=ask.state, hint=str(problem)
                    ) from problem
                one.end()
                one.start()
                one.ready()
                continue
            if answer.checked is None:
                raise HarnessError(f"a state could not be checked: {answer.broke}", at=ask.state)
            return answer.checked, answer.why
        raise AssertionError

    def _note(self, ready: Ready) -> None:
        if ready.wrong:
            where = "--check-call" if isinstance(self._setting.check, CallCheck) else "--check"
            raise ExperimentError(ready.wrong, at=where)
        if ready.broke:
            raise HarnessError(f"checks cannot be run here: {ready.broke}")
        self.ways[ready.way] = ready.why

    def _end_servers(self) -> None:
        for one in self._servers:
            one.end()


class _Server:
    """One server process, as the pool holds it."""

    def __init__(self, setting: server.Setting) -> None:
        self.setting = setting
        self.mark = f"{os.getpid()}.{id(self)}"
        self.folder = ""
        self.who: Identity | None = None
        self.channel: socket.socket | None = None
        self.start()

    def start(self) -> None:
        """Start it."""
        self.channel, other = socket.socketpair()
        function = self.setting.check.function if isinstance(self.setting.check, CallCheck) else None
        try:
            if function is not None:
                pid = self._fork(other)
            else:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _START, str(Path(__file__).parents[2]), str(other.fileno())],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, MARKER: self.mark},
                    pass_fds=[other.fileno()],
                    start_new_session=True,
                )
                # Waited for by number, in `end`.
                pid, process.returncode = process.pid, 0
                wire.send(self.channel, pickle.dumps(self.setting))
        finally:
            other.close()
        self.who = procs.identity(pid) or Identity(pid=pid, started=0)

    def _fork(self, other: socket.socket) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.set_wakeup_fd(-1)
                if self.channel is not None:
                    self.channel.close()
                empty = os.open(os.devnull, os.O_RDONLY)
                os.dup2(empty, 0)
                server.serve(other, self.setting)
            finally:
                os._exit(0)
        return pid

    def ready(self) -> Ready:
        """Wait until it can begin."""
        ready: Ready = self._receive(Ready, 120)
        self.folder = ready.folder
        return ready

    def ask(self, order: Order) -> Answer:
        """Have one state checked. Raises EOFError or OSError where the server has ended, or hangs."""
        assert self.channel is not None
        wire.send(self.channel, msgspec.msgpack.encode(order))
        answer: Answer = self._receive(Answer, 2 * order.within_ms / 1_000 + _GRACE_S)
        return answer

    def _receive(self, kind: type[Any], within_s: float) -> Any:
        assert self.channel is not None
        self.channel.settimeout(within_s)
        return msgspec.msgpack.decode(wire.receive(self.channel), type=kind)

    def hang_up(self) -> None:
        """Have it end what it is doing, now."""
        if self.channel is not None:
            with suppress(OSError):
                self.channel.shutdown(socket.SHUT_RDWR)
        if self.who is not None:
            with suppress(PermissionError):
                signals.send(self.who, "TERM")

    def end(self) -> None:
        """End it, and everything that it should have ended itself."""
        self.hang_up()
        if self.who is None:
            return
        with signals.Watch(self.who) as watch:
            if not watch.gone(within_ms=8_000):
                family = procs.family(self.who.pid)
                for one in (self.who, *family):
                    with suppress(PermissionError):
                        signals.send(one, "KILL")
                watch.gone(within_ms=2_000)
        with suppress(ChildProcessError):
            os.waitpid(self.who.pid, 0)
        for one in procs.marked(f"{MARKER}={self.mark}"):
            with suppress(PermissionError):
                signals.send(one, "KILL")
        if self.channel is not None:
            self.channel.close()
        if self.folder and Path(self.folder).exists():
            subprocess.run(["rm", "-rf", "--", self.folder], check=False)
        self.who, self.channel, self.folder = None, None, ""
