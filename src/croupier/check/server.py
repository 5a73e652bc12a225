"""One process per job: sets a state up, runs the check on it, ends whatever it left, and takes the state back.

It is the subreaper of everything that the checks start,
so nothing can daemonise away from it: after each check, and at a time-out, whoever is left is killed.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

import msgspec

from ..model.errors import CroupierError
from ..model.target import Identity
from ..system import kernel, procs, signals
from . import forker, interpreter, wire
from .words import Answer, CallCheck, Checked, CommandCheck, Order, Ready, Stage

_KEEP_BYTES = 64 * 1024
_REASON = 600
_AGREED = 8
"""So many findings on an overlay are asked again on a plain copy; if all agree, then every so many."""


class Setting(NamedTuple):
    """What a server is to do, for as long as it lives."""

    check: CommandCheck | CallCheck
    stage: Stage
    env: dict[str, str]
    cwd: str


class Ended(NamedTuple):
    """How one check ended."""

    held: bool
    reason: str
    output: str
    timed_out: bool = False


class _PoolGone(Exception):
    """Nobody waits for an answer any more."""


def main() -> None:
    """As a program, with the number of its socket as the only argument."""
    # The thread that started us lives as long as the pool does.
    kernel.set_parent_death_signal(signal.SIGTERM)
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        data = wire.receive(channel)
    except EOFError:
        return
    serve(channel, pickle.loads(data))  # from our own parent, on a socket of its own


def serve(channel: socket.socket, setting: Setting) -> None:
    """Answer orders until the pool hangs up; then leave nothing behind."""
    signal.signal(signal.SIGTERM, lambda *_: _raise(_PoolGone()))
    kernel.set_subreaper()
    runner: _Runner | None = None
    stage = setting.stage
    try:
        try:
            try:
                stage.open()
                runner = _command(setting) if isinstance(setting.check, CommandCheck) else _Call(setting, channel)
            except _Wrong as problem:
                _tell(channel, Ready(wrong=str(problem)))
                return
            except (OSError, CroupierError) as problem:
                _tell(channel, Ready(broke=str(problem)))
                return
            _tell(channel, Ready(folder=str(stage.folder), way=str(stage.way), why=stage.why))
            desk = _Desk(channel, setting, runner)
            while True:
                order = msgspec.msgpack.decode(wire.receive(channel), type=Order)
                _tell(channel, desk.answer(order))
        except (EOFError, ConnectionError, _PoolGone):
            pass
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except _PoolGone:
        # It was told to end at the moment at which it saw the pool hang up.
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if runner is not None:
            runner.close()
        end_all()
        with suppress(OSError, CroupierError):
            stage.close()


class _Runner(Protocol):
    def run(self, state: Path, acked: Path, within_ms: float) -> Ended:
        """Run the check to its end or its time-out; its children may still live."""

    def keep(self) -> set[int]:
        """Processes that belong to us and not to a check."""

    def close(self) -> None:
        """Let go."""


class _Desk:
    """Takes an order, gives an answer."""

    def __init__(self, channel: socket.socket, setting: Setting, runner: _Runner) -> None:
        self.stage = setting.stage
        self.runner = runner
        self.agreed = 0
        self.bad_news = 0

    def answer(self, order: Order) -> Answer:
        try:
            checked = self._check(order, plain=False)
            if not checked.held and self.stage.way == "overlay" and self._doubt():
                again = self._check(order, plain=True)
                if again.held:
                    self.stage.distrust(f"on an overlay the check said {checked.reason!r}, on a plain copy it held")
                else:
                    self.agreed += 1
                checked = again
            return Answer(checked=checked, why=self.stage.why)
        except (OSError, CroupierError) as problem:
            return Answer(broke=str(problem))

    def _doubt(self) -> bool:
        self.bad_news += 1
        return self.agreed < _AGREED or self.bad_news % (2 * _AGREED) == 0

    def _check(self, order: Order, *, plain: bool) -> Checked:
        state = self.stage.set_up(order.state, plain=plain)
        acked = self.stage.folder / "acked"
        left = 0
        try:
            copy_beginning(order.acks, order.acked, acked)
            began = time.perf_counter()
            ended = self.runner.run(state, acked, order.within_ms)
            took = (time.perf_counter() - began) * 1_000
        finally:
            left = end_all(self.runner.keep())
            self.stage.clear()
        return Checked(
            held=ended.held,
            reason=ended.reason,
            output=ended.output,
            took_ms=round(took, 3),
            timed_out=ended.timed_out,
            way="written" if plain else str(self.stage.way),
            left=0 if ended.timed_out else left,
        )


# --- a command --------------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """The user named something that is not there."""


def _command(setting: Setting) -> _Command:
    assert isinstance(setting.check, CommandCheck)
    argv = setting.check.argv
    if not argv:
        raise _Wrong("the command is empty")
    path = setting.env.get("PATH", os.defpath)
    found = shutil.which(argv[0] if "/" not in argv[0] else str(Path(setting.cwd, argv[0])), path=path)
    if found is None:
        raise _Wrong(f"command not found, or not a program: {argv[0]!r}")
    return _Command(interpreter.without_shim((found, *argv[1:]), env=setting.env, cwd=setting.cwd), argv, setting)


class _Command:
    """Starts a fresh process for each check."""

    def __init__(self, real: tuple[str, ...], shown: tuple[str, ...], setting: Setting) -> None:
        self.program = real[0]
        # A program looks at its name: only what a shim hid is named anew.
        self.argv = real if Path(real[0]).name != Path(shown[0]).name or real[0] != shown[0] else shown
        self.setting = setting
        self.channel = -1

    def keep(self) -> set[int]:
        return set()

    def close(self) -> None:
        pass

    def run(self, state: Path, acked: Path, within_ms: float) -> Ended:
        argv = [word.replace("{state}", str(state)).replace("{acked}", str(acked)) for word in self.argv]
        env = {**self.setting.env, "CROUPIER_STATE": str(state), "CROUPIER_ACKED": str(acked)}
        end = time.monotonic() + within_ms / 1_000
        process = subprocess.Popen(
            argv,
            executable=self.program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=self.setting.cwd,
            start_new_session=True,
        )
        assert process.stdout is not None
        with process.stdout:
            tail = _Tail(process.stdout.fileno())
            who = procs.identity(process.pid) or Identity(pid=process.pid, started=0)
            with signals.Watch(who) as watch:
                ended = tail.until(watch.fileno(), lambda: process.poll() is not None, end)
            if not ended:
                end_all({*self.keep()})
            code = process.wait()
            tail.drain()
        return judge(code, tail.text(), None if ended else within_ms)


def judge(code: int, output: str, timed_out_ms: float | None) -> Ended:
    """What the end of a process says about the state."""
    last = last_line(output)
    if timed_out_ms is not None:
        said = f"; the last it printed: {last}" if last else ""
        return Ended(False, f"it did not end within {timed_out_ms / 1_000:g} s{said}", output, timed_out=True)
    if code == 0:
        return Ended(True, "", output)
    how = f"killed by {signals.signal_name(-code)}" if code < 0 else f"exit code {code}"
    return Ended(False, last or f"{how}, and nothing printed", output)


# --- a Python function ----------------------------------------------------------------------------------------------


class _Call:
    """Has a process that imported the function fork for each check."""

    def __init__(self, setting: Setting, pool: socket.socket) -> None:
        assert isinstance(setting.check, CallCheck)
        self.setting = setting
        self.reader, writer = os.pipe()
        self.tail = _Tail(self.reader)
        self.channel, other = socket.socketpair()
        self.said = bytearray()
        if setting.check.function is not None:
            self.who = self._fork(setting.check, other, writer, pool)
        else:
            self.who = self._start(setting, other, writer)
        other.close()
        os.close(writer)
        ready = self._listen(time.monotonic() + 60)
        if ready is None or "wrong" in ready:
            said = ready["wrong"] if ready else last_line(self.tail.text())
            end_all()
            raise _Wrong(said or "its module did not come up within a minute")

    def _start(self, setting: Setting, other: socket.socket, writer: int) -> Identity:
        assert isinstance(setting.check, CallCheck)
        python = setting.check.python or interpreter.own()
        (python,) = interpreter.without_shim((python,), env=setting.env, cwd=setting.cwd)
        try:
            process = subprocess.Popen(
                [python, forker.__file__, str(other.fileno()), setting.check.target],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=setting.env,
                cwd=setting.cwd,
                pass_fds=[other.fileno()],
            )
        except OSError as problem:
            raise _Wrong(f"{python!r} could not be started: {problem.strerror}") from problem
        # It is waited for by number, with everybody else.
        process.returncode = 0
        return procs.identity(process.pid) or Identity(pid=process.pid, started=0)

    def _fork(self, check: CallCheck, other: socket.socket, writer: int, pool: socket.socket) -> Identity:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                kernel.set_parent_death_signal(signal.SIGKILL)
                if os.getppid() == parent and check.function is not None:
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    pool.close()
                    self.channel.close()
                    os.dup2(writer, 1)
                    os.dup2(writer, 2)
                    os.chdir(self.setting.cwd)
                    forker.serve(other, check.function)
            finally:
                os._exit(0)
        return procs.identity(pid) or Identity(pid=pid, started=0)

    def keep(self) -> set[int]:
        return {self.who.pid}

    def close(self) -> None:
        self.channel.close()
        os.close(self.reader)

    def run(self, state: Path, acked: Path, within_ms: float) -> Ended:
        self.tail.forget()
        env = {"CROUPIER_STATE": str(state), "CROUPIER_ACKED": str(acked)}
        order = {"state": str(state), "acked": str(acked), "cwd": self.setting.cwd, "env": env}
        self.channel.sendall(json.dumps(order).encode() + b"\n")
        answer = self._listen(time.monotonic() + within_ms / 1_000)
        if answer is None and procs.alive(self.who):
            end_all(self.keep())
            self._listen(time.monotonic() + 10)
            self.tail.drain()
            return judge(0, self.tail.text(), within_ms)
        self.tail.drain()
        output = self.tail.text()
        if answer is None:
            raise CroupierError("the process that serves the checks has ended", hint=last_line(output))
        return _read(answer, output)

    def _listen(self, end: float) -> dict[str, Any] | None:
        """Its next message; None at the end of the time, or of it."""
        while b"\n" not in self.said:
            if not self.tail.until(self.channel.fileno(), None, end):
                return None
            data = self.channel.recv(65_536)
            if not data:
                return None
            self.said += data
        line, _, rest = bytes(self.said).partition(b"\n")
        self.said = bytearray(rest)
        message: dict[str, Any] = json.loads(line)
        return message


def _read(answer: Mapping[str, Any], output: str) -> Ended:
    try:
        said = json.loads(answer["said"])
        return Ended(bool(said["held"]), _shorten(str(said["reason"])), output)
    except ValueError:
        # It ended in the middle: by a signal, or by os._exit.
        code = os.waitstatus_to_exitcode(answer["status"])
        how = f"killed by {signals.signal_name(-code)}" if code < 0 else f"ended by itself with exit code {code}"
        return Ended(False, f"{how}, before the function returned", output)


# --- what both need -------------------------------------------------------------------------------------------------


class _Tail:
    """The last part of what comes out of a pipe."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.kept = bytearray()
        self.open = True
        os.set_blocking(file, False)

    def until(self, other: int, done: Any, end: float) -> bool:
        """Read until another descriptor is ready, or `done()`; False at the end of the time."""
        while True:
            poll = select.poll()
            if self.open:
                poll.register(self.file, select.POLLIN)
            if other >= 0:
                poll.register(other, select.POLLIN)
            left = end - time.monotonic()
            ready = dict(poll.poll(max(0.0, min(left, 3_600.0 if other >= 0 else 0.01)) * 1_000))
            if self.file in ready:
                self._take()
            if other in ready or (other < 0 and done is not None and done()):
                return True
            if time.monotonic() >= end:
                return False

    def drain(self) -> None:
        """Take what is there."""
        while self.open and self._take():
            pass

    def _take(self) -> bool:
        try:
            data = os.read(self.file, 65_536)
        except BlockingIOError:
            return False
        if not data:
            self.open = False
        self.kept += data
        del self.kept[: max(0, len(self.kept) - _KEEP_BYTES)]
        return len(data) == 65_536

    def forget(self) -> None:
        self.drain()
        self.kept.clear()

    def text(self) -> str:
        return self.kept.decode(errors="replace")


def end_all(keep: set[int] | None = None, within_s: float = 5.0) -> int:
    """Kill everything below this process but `keep`, and wait until it is gone. How many there were."""
    keep = keep or set()
    own = os.getpid()
    met: set[tuple[int, int]] = set()
    end = time.monotonic() + within_s
    while True:
        living = []
        for pid in (*procs.children(own), *(child for one in keep for child in procs.children(one))):
            if pid in keep:
                continue
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    continue
            living += [pid, *(one.pid for one in procs.family(pid))]
        if not living:
            return len(met)
        for pid in living:
            stat = procs.read_stat(pid)
            if stat is None or stat.state in "ZX":
                continue
            met.add((pid, stat.started))
            with suppress(PermissionError):
                # Set-uid programs are not ours to end.
                signals.send(Identity(pid=pid, started=stat.started, boot=procs.boot_id()), "KILL")
        if time.monotonic() > end:
            return len(met)
        time.sleep(0.0005)


def copy_beginning(source: str, length: int, into: Path) -> None:
    """Write the first bytes of a file to another."""
    data = b""
    if source and length:
        with Path(source).open("rb") as file:
            data = file.read(length)
    with suppress(FileNotFoundError):
        into.unlink()
    into.write_bytes(data)


def last_line(output: str) -> str:
    """The last line that says something."""
    return _shorten(next((line.strip() for line in reversed(output.splitlines()) if line.strip()), ""))


def _shorten(text: str) -> str:
    plain = "".join(one if one.isprintable() else " " for one in text).strip()
    return plain if len(plain) <= _REASON else plain[:_REASON] + "…"


def _tell(channel: socket.socket, message: Ready | Answer) -> None:
    wire.send(channel, msgspec.msgpack.encode(message))


def _raise(error: Exception) -> NoReturn:
    raise error
