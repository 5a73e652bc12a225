"""The loop: one thread that waits for whatever comes next (a file descriptor, a timer, a worker) and calls for it.

Workers do what may block (probes, injections) and hand their results back here, so that everything that decides or
writes the journal runs on one thread, in one order.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import selectors
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from ..system.clock import now_us

T = TypeVar("T")
WORKERS = 8


class Timer:
    """One call in the future; `cancel` makes it never come."""

    __slots__ = ("call", "cancelled", "due_us")

    def __init__(self, due_us: int, call: Callable[[], None]) -> None:
        self.due_us = due_us
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Forget it."""
        self.cancelled = True


class Loop:
    """Waits, and calls. Not thread-safe but for `post`, which any thread and any signal handler may use."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._workers = 0
        self._idle = threading.Semaphore(0)
        # Entered again by a signal that comes while the main thread is in here.
        self._closing = threading.RLock()
        self._closed = False
        self._running = True

    @property
    def wake_fd(self) -> int:
        """Write a byte here to wake the loop; for signal.set_wakeup_fd."""
        return self._wake_write

    def watch(self, fd: int, call: Callable[[], object]) -> None:
        """Call when the descriptor is readable (or at its end)."""
        self._selector.register(fd, selectors.EVENT_READ, call)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor."""
        self._selector.unregister(fd)

    def at(self, due_us: int, call: Callable[[], None]) -> Timer:
        """Call at a moment of the monotonic clock."""
        timer = Timer(due_us, call)
        heapq.heappush(self._timers, (due_us, next(self._order), timer))
        return timer

    def after(self, ms: float, call: Callable[[], None]) -> Timer:
        """Call so many milliseconds from now."""
        return self.at(now_us() + int(ms * 1000), call)

    def post(self, call: Callable[[], None]) -> None:
        """Call on the loop's thread, soon; never, once the loop is closed."""
        self._posted.put(call)
        with self._closing:
            # A thread that was abandoned must not write to a descriptor that is somebody else's by now.
            if self._closed:
                return
            try:
                os.write(self._wake_write, b".")
            except BlockingIOError:
                pass  # The pipe is full of wake-ups already.

    def work(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run a job that may block on a worker; its result comes back to the loop. The job must not raise.

        Once the loop is closed it is not begun any more.
        """

        def run() -> None:
            result = job()
            self.post(lambda: done(result))

        with self._closing:
            if self._closed:
                return
            self._jobs.put(run)
            if not self._idle.acquire(blocking=False) and self._workers < WORKERS:
                self._workers += 1
                # Daemons, so that a probe which still blocks at the end keeps nobody from leaving.
                self.thread(self._work_on, f"croupier-probe-{self._workers}")

    def _work_on(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None or self._closed:
                return
            try:
                job()
            except Exception:
                traceback.print_exc()  # A defect of ours; the worker is needed for what comes next.
            finally:
                self._idle.release()

    def apart(self, job: Callable[[], T], done: Callable[[T], None], name: str) -> None:
        """As `work`, on a thread of its own: for what must not wait until a worker is free."""

        def run() -> None:
            result = job()
            self.post(lambda: done(result))

        self.thread(run, name)

    def thread(self, job: Callable[[], None], name: str) -> threading.Thread:
        """Run a job on a thread of its own, started at once, however busy the workers are."""
        thread = threading.Thread(target=job, name=name, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End `run` once the present call returns."""
        self._running = False

    def run(self) -> None:
        """Wait and call until `stop`."""
        while self._running:
            for key, _ in self._selector.select(self._patience()):
                key.data()
                if not self._running:
                    return
            self._run_posted()
            self._run_timers()

    def close(self) -> None:
        """Let go of everything: nothing that waits is begun, idle workers end, those that still block are abandoned."""
        self._running = False
        with self._closing:
            if self._closed:
                return
            self._closed = True
            with suppress(queue.Empty):
                while True:
                    self._jobs.get_nowait()
            for _ in range(self._workers):
                self._jobs.put(None)
            self._selector.close()
            for fd in (self._wake_read, self._wake_write):
                os.close(fd)

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, (self._timers[0][0] - now_us()) / 1e6)

    def _drain(self) -> None:
        try:
            os.read(self._wake_read, 65_536)
        except BlockingIOError:
            pass

    def _run_posted(self) -> None:
        while self._running:
            try:
                call = self._posted.get_nowait()
            except queue.Empty:
                return
            call()

    def _run_timers(self) -> None:
        now = now_us()
        while self._running and self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.call()


def guarded(job: Callable[[], T], fallback: Callable[[Exception], T]) -> Callable[[], T]:
    """A job that answers with `fallback` where it would raise: a worker's result always comes."""

    def run() -> Any:
        try:
            return job()
        except Exception as problem:
            return fallback(problem)

    return run
