"""Run a command to its end, or to its time-out; a time-out ends everything that it started.

Used from worker threads. Output is read while it runs, so a command that prints much is not held up, and only its
last part is kept. A descendant that outlives the command and holds its output open is not waited for.
"""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from ..model.noun import Noun
from ..model.target import Identity
from . import procs, signals

MARKER = "CROUPIER_COMMAND"
_KEEP_BYTES = 64 * 1024
_PASSES = 40
_numbers = itertools.count(1)
_running: set[int] = set()


class Finished(Noun, frozen=True, kw_only=True):
    """How a command ended: by `code`, by `signal` (a name without SIG), at its time-out, or not started at all."""

    code: int | None = None
    signal: str = ""
    output: str = ""
    """The last part of stdout and stderr, in the order they came."""
    timed_out: bool = False
    took_ms: float = 0.0
    failed: str = ""
    """Why it could not be started; "" if it was."""


def run_command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "",
    within_ms: float,
    input: bytes | None = None,
    keep_bytes: int = _KEEP_BYTES,
    stop: Callable[[], bool] | None = None,
) -> Finished:
    """Run an argument list (never a shell) and wait for it, at most `within_ms`, and no longer than until `stop`.

    At the time-out its whole tree is killed, daemonised grandchildren included: they are known by a mark in the
    environment that they were started with. Never raises for what the command does, or for a command that is not
    there.
    """
    began = time.monotonic()
    mark = f"{os.getpid()}.{began:.6f}.{next(_numbers)}"
    if not argv:
        return Finished(failed="the command is empty")
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**(os.environ if env is None else env), MARKER: mark},
            cwd=cwd or None,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Finished(failed=_why_not(error, argv, cwd), took_ms=_ms_since(began))
    who = procs.identity(process.pid) or Identity(pid=process.pid, started=0)
    _running.add(process.pid)
    try:
        with process:
            output, ended = _listen(process, who, input or b"", began + within_ms / 1_000, keep_bytes, stop)
            if not ended:
                _end_all(who, mark)
            code = process.wait()
    finally:
        _running.discard(process.pid)
    return Finished(
        code=code if code >= 0 else None,
        signal=signals.signal_name(-code) if code < 0 else "",
        output=output.decode(errors="replace"),
        timed_out=not ended,
        took_ms=_ms_since(began),
    )


def is_ours(pid: int) -> bool:
    """Whether it is a command of this module's that somebody waits for."""
    return pid in _running


def _listen(
    process: subprocess.Popen[bytes],
    who: Identity,
    feed: bytes,
    end: float,
    keep_bytes: int,
    stop: Callable[[], bool] | None,
) -> tuple[bytes, bool]:
    """Read what it prints until it has ended (True) or the time is over (False)."""
    assert process.stdout is not None
    kept = bytearray()
    poll = select.poll()
    out = process.stdout.fileno()
    os.set_blocking(out, False)
    poll.register(out, select.POLLIN)
    if process.stdin is not None:
        os.set_blocking(process.stdin.fileno(), False)
        poll.register(process.stdin, select.POLLOUT)
    with signals.Watch(who) as watch:
        if watch.fileno() >= 0:
            poll.register(watch.fileno(), select.POLLIN)
        while True:
            # Without a pidfd its end is looked for at a steady pace, and so is the wish to stop.
            pace = 3_600.0 if watch.fileno() >= 0 and stop is None else 0.02
            left = end - time.monotonic()
            ready = dict(poll.poll(max(0.0, min(left, pace)) * 1_000))
            if out in ready and not drain(out, kept, keep_bytes):
                poll.unregister(out)
            if process.stdin is not None and not process.stdin.closed and process.stdin.fileno() in ready:
                feed = _feed(process, poll, feed)
            if process.poll() is not None:
                drain(out, kept, keep_bytes)
                return bytes(kept), True
            if time.monotonic() >= end or (stop is not None and stop()):
                return bytes(kept), False


def drain(out: int, kept: bytearray, keep_bytes: int) -> bool:
    """Take what is there in a pipe that does not block, and keep its last part; False once nothing can come."""
    while True:
        try:
            data = os.read(out, 65_536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        kept += data
        del kept[: max(0, len(kept) - keep_bytes)]
        # One that prints without end must not keep us from looking at the clock.
        if len(data) < 65_536:
            return True


def _feed(process: subprocess.Popen[bytes], poll: select.poll, feed: bytes) -> bytes:
    assert process.stdin is not None
    try:
        feed = feed[os.write(process.stdin.fileno(), feed) :] if feed else b""
    except BlockingIOError:
        return feed
    except OSError:
        feed = b""
    if not feed:
        poll.unregister(process.stdin)
        try:
            process.stdin.close()
        except OSError:
            pass
    return feed


def _end_all(who: Identity, mark: str) -> None:
    """Kill the command, its descendants, and whoever carries its mark or shares a session with one of them."""
    sessions: set[int] = {who.pid}
    wanted = f"{MARKER}={mark}".encode()
    for _ in range(_PASSES):
        found = {who, *procs.family(who.pid)}
        for pid in procs.all_pids():
            stat = procs.read_stat(pid)
            if stat and stat.started >= who.started and (stat.session in sessions or procs.has_marker(pid, wanted)):
                found.add(Identity(pid=pid, started=stat.started, boot=procs.boot_id()))
        living = [one for one in found if procs.alive(one)]
        if not living:
            return
        for one in living:
            stat = procs.read_stat(one.pid)
            if stat and stat.session != os.getsid(0):
                sessions.add(stat.session)
            try:
                signals.send(one, "KILL")
            except PermissionError:
                # Set-uid programs are not ours to end.
                continue
        with signals.Watch(living[0]) as watch:
            watch.gone(within_ms=20)


def _why_not(error: Exception, argv: Sequence[str], cwd: str) -> str:
    program = argv[0] if argv else ""
    if isinstance(error, FileNotFoundError):
        if cwd and error.filename == cwd:
            return f"the working directory {cwd!r} does not exist"
        return f"command not found: {program!r}"
    if isinstance(error, PermissionError):
        return f"no permission to run {program!r}"
    return f"{program!r} could not be started: {error}"


def _ms_since(began: float) -> float:
    return round((time.monotonic() - began) * 1_000, 3)
