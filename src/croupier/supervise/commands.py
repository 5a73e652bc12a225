"""The commands of a round (probes, invariants), run below the guardian, so that nothing they start outlives it.

`system.commands.run_command` does the same outside of rounds. Here a command is the guardian's child and a subreaper:
whoever daemonises below it, and wipes its environment, is in its tree until it ends, and in the guardian's after that.
"""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Literal

from ..model.errors import CroupierError
from ..model.wiring import Place
from ..system.commands import Finished, drain
from ..system.signals import Watch
from .keeper import Exited, Keeper

KEEP_BYTES = 64 * 1024
_REFUSED = "the round is being ended, and its commands with it"
_TOLD_WITHIN_S = 2.0
_PACE_MS = 20.0


class Commands:
    """Runs commands from any thread, until it is told to end them all. The loop calls `Keeper.receive` meanwhile."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False
        # Its end wakes every waiter at once: nobody reads from it, and nothing is ever written.
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._waiting = 0

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        within_ms: float,
        keep_bytes: int = KEEP_BYTES,
        place: Place | None = None,
    ) -> Finished:
        """Run an argument list (never a shell) and wait for it, at most `within_ms`, or until `close`.

        Then its whole tree is killed. `place` is where it is to live. Never raises for what the
        command does, or for one that cannot be started.
        """
        began = time.monotonic()
        with self._lock:
            if self._closed:
                return Finished(failed=_REFUSED)
            self._waiting += 1
        try:
            return self._run(argv, env, cwd, began, began + within_ms / 1_000, keep_bytes, place)
        finally:
            with self._lock:
                self._waiting -= 1
                self._let_go()

    def close(self) -> None:
        """End every command that runs, and refuse others from now on. Does not wait for that. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._stop_write)
            self._let_go()

    def _let_go(self) -> None:
        # The last one out closes the door: a descriptor that somebody polls must stay what it is.
        if self._closed and not self._waiting and self._stop_read >= 0:
            os.close(self._stop_read)
            self._stop_read = -1

    def _run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        began: float,
        end: float,
        keep_bytes: int,
        place: Place | None,
    ) -> Finished:
        name = f"command-{next(self._numbers)}"
        told: list[Exited] = []
        over = threading.Event()

        def ended(message: Exited) -> None:
            told.append(message)
            over.set()

        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                who = self._keeper.spawn_command(name, argv, env=env, cwd=cwd, output=writer, ended=ended, place=place)
            except (CroupierError, ValueError) as problem:
                # ValueError: what cannot be encoded, as a lone surrogate.
                return Finished(failed=getattr(problem, "message", str(problem)), took_ms=_ms_since(began))
            finally:
                os.close(writer)
            os.set_blocking(reader, False)
            kept = bytearray()
            with Watch(who) as watch:
                how = self._listen(reader, watch, over, kept, keep_bytes, end)
            took_ms = _ms_since(began)
            if how != "ended":
                self._keeper.end_tree(name, who)
                drain(reader, kept, keep_bytes)
                return Finished(
                    signal="KILL",
                    output=kept.decode(errors="replace"),
                    timed_out=how == "late",
                    took_ms=_ms_since(began),
                    failed=_REFUSED if how == "stopped" else "",
                )
        finally:
            os.close(reader)
        if not over.wait(_TOLD_WITHIN_S):
            return Finished(failed="nobody could say how it ended: the round is being ended", took_ms=took_ms)
        return Finished(code=told[0].code, signal=told[0].signal, output=kept.decode(errors="replace"), took_ms=took_ms)

    def _listen(
        self, out: int, watch: Watch, over: threading.Event, kept: bytearray, keep_bytes: int, end: float
    ) -> Literal["ended", "late", "stopped"]:
        """Read what it prints until it has ended, its time is over, or all are to end."""
        poll = select.poll()
        poll.register(out, select.POLLIN)
        poll.register(self._stop_read, 0)
        died = watch.fileno()
        if died >= 0:
            poll.register(died, select.POLLIN)
        while True:
            left_ms = max(0.0, end - time.monotonic()) * 1_000
            # Without a pidfd (there is none, or it ended before we could have one) its end is heard of all the same.
            ready = {file for file, _ in poll.poll(left_ms if died >= 0 else min(left_ms, _PACE_MS))}
            if out in ready and not drain(out, kept, keep_bytes):
                poll.unregister(out)
            if died in ready or over.is_set():
                drain(out, kept, keep_bytes)
                return "ended"
            if self._stop_read in ready:
                return "stopped"
            if time.monotonic() >= end:
                return "late"


def _ms_since(began: float) -> float:
    return round((time.monotonic() - began) * 1_000, 3)
