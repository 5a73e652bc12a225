"""One listener of seccomp user notifications: calls come in, stand still, and are answered.

Whose calls they are, and who ends the processes, is the business of whoever made the filter: the search for a whole
workload, a round for one process of several.
"""

from __future__ import annotations

import errno
import heapq
import os
import re
import select
import struct
import time
from collections import deque
from collections.abc import Callable
from fcntl import ioctl
from typing import Final

from . import perform
from .acts import GO, Act, Delay, Fail, Go, Kill, Lie, Short, Torn
from .book import Book, OnCall, OnExit
from .call import Call
from .settle import settle

_RECEIVE: Final = 0xC050_2100
_SEND: Final = 0xC018_2101
_SET_FLAGS: Final = 0x4008_2104
_SYNC_WAKE_UP: Final = 1
_IS_VALID: Final = 0x4008_2102
_LOOK_AGAIN_S: Final = 0.005
_COOKIE: Final = struct.Struct("=Q")
_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")
_ANSWER: Final = struct.Struct("=QqiI")
_CONTINUE: Final = 1
# Linux 6.11: waiting for a call ends when nobody is left who could make one. Before, we must look first.
_RECEIVE_ENDS: Final = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]) >= (6, 11)
_pack = _ANSWER.pack
_unpack = _NOTIFICATION.unpack
_EMPTY: Final = bytes(_NOTIFICATION.size)

# Cookie, thread, flags, number, architecture, instruction pointer, and the six arguments.
_Stop = tuple[int, ...]


class Listener:
    """The calls behind one listener, answered until nobody is left who could make one.

    `on_kill` ends the process that makes a call, which is not answered any more then; or it says False, and the call
    goes on.
    """

    def __init__(
        self,
        book: Book,
        file: int,
        on_call: OnCall,
        on_exit: OnExit | None = None,
        *,
        on_kill: Callable[[Call], bool],
        before: Callable[[], None] = lambda: None,
        hurried: bool = False,
    ) -> None:
        """`file` is the descriptor, which stays the caller's; `before` is called before each question to `on_call`.

        `hurried` says that `hurry` may be called.
        """
        self.book = book
        self.closed = False
        """No call is answered any more: its processes are being ended."""
        self._listener = file
        self._on_call = on_call
        self._on_exit = on_exit
        self._on_kill = on_kill
        self._before = before
        self._look = select.poll()
        self._look.register(file, select.POLLIN)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if hurried else -1
        self._either = select.poll()
        for one in (file, self._wake):
            if one >= 0:
                self._either.register(one, select.POLLIN)
        self._gone: dict[int, Call] = {}
        self._interrupted: dict[int, tuple[Call, Act]] = {}
        self._held: list[tuple[float, int, int, Call, Act]] = []
        self._waiting: deque[_Stop] = deque()
        _wake_up_at_once(file)

    def serve(self) -> None:
        """Answer until nobody is left who could call. Raises what the handler raises."""
        while True:
            # Nothing but a held call can be hurried, and only this thread holds any.
            if (self._held or not _RECEIVE_ENDS) and not self._ready():
                self._release(time.monotonic())
                continue
            stop = self._next_stop()
            if stop is None:
                if self._is_over():
                    return
                continue
            while stop is not None:
                if not self.closed:
                    self._stopped(stop)
                # Those that came while we were looking at this one. A thread may have been killed in its turn.
                stop = self._waiting.popleft() if self._waiting else None
                if stop is not None and not self._stands_still(stop[0]):
                    stop = None

    def hurry(self) -> None:
        """Whatever is held back and may go on does so now (see `Delay.over`). From any thread."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Let go of what is ours, once nobody serves any more."""
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def _ready(self) -> bool:
        """Wait for a call, or for the end of one that is held back."""
        left_ms = max(0.0, (self._held[0][0] - time.monotonic()) * 1000 + 0.5) if self._held else None
        seen = [file for file, _ in self._either.poll(left_ms)]
        if self._wake in seen:
            os.eventfd_read(self._wake)
            self._let_go(_may_go_on)
        return self._listener in seen

    def _is_over(self) -> bool:
        return any(event & select.POLLHUP for _, event in self._look.poll(0))

    def _stands_still(self, cookie: int) -> bool:
        try:
            ioctl(self._listener, _IS_VALID, _COOKIE.pack(cookie))
        except FileNotFoundError:
            return False
        return True

    def _next_stop(self) -> _Stop | None:
        buffer = bytearray(_EMPTY)
        try:
            ioctl(self._listener, _RECEIVE, buffer)
        except OSError as error:
            # Taken back by a signal, or its thread was killed, between our look and now.
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                return None
            raise
        return _unpack(buffer)

    def _stopped(self, stop: _Stop) -> None:
        cookie, tid, _, number, arch, ip = stop[:6]
        args = stop[6:]
        self._gone.pop(tid, None)
        if self._interrupted and tid in self._interrupted:
            call, act = self._interrupted.pop(tid)
            if (call.number, call.args, call.ip) == (number, args, ip):
                self._answer(cookie, call, act)
                return
        what = self.book.consider(tid, number, arch, args, ip)
        if what is None:
            self._send(cookie, 0, 0, _CONTINUE)
            return
        if isinstance(what, Fail):
            self._send(cookie, 0, -what.errno, 0)
            return
        if self._gone:
            self._settle_others()
        self._before()
        self._answer(cookie, what, self._on_call(what))

    def _answer(self, cookie: int, call: Call, act: Act) -> None:
        if self.closed:
            # The attendant ended it while the handler was thinking.
            return
        if isinstance(act, Go):
            # By far the most frequent.
            if self._send(cookie, 0, 0, _CONTINUE):
                self._gone[call.tid] = call
            else:
                self._interrupted[call.tid] = (call, act)
            return
        match act:
            case Kill():
                self._end(cookie, call)
            case Torn(length=length):
                try:
                    perform.first_part(call, length, last=True)
                finally:
                    self._end(cookie, call)
            case Short(length=length):
                try:
                    done = perform.first_part(call, length, last=False)
                except perform.NotYet:
                    # Whoever asks for bytes waits for them, and we must not wait with it.
                    self._hold(cookie, call, act, _LOOK_AGAIN_S)
                except OSError as error:
                    self._send(cookie, 0, -(error.errno or errno.EIO), 0)
                else:
                    self._done(cookie, call, done)
            case Fail(errno=code):
                self._send(cookie, 0, -code, 0)
                if self._on_exit:
                    self._on_exit(call, -code)
            case Lie(result=result):
                self._done(cookie, call, result)
            case Delay(delay_ms=delay):
                self._hold(cookie, call, act, delay / 1000)

    def _end(self, cookie: int, call: Call) -> None:
        if not self._on_kill(call):
            self._send(cookie, 0, 0, _CONTINUE)

    def _done(self, cookie: int, call: Call, result: int) -> None:
        self._send(cookie, result, 0, 0)
        if self._on_exit:
            self._on_exit(call, result)

    def _send(self, cookie: int, value: int, error: int, flags: int) -> bool:
        """Answer. False if the call stands still no more: its thread was killed, or a signal came first."""
        while True:
            try:
                ioctl(self._listener, _SEND, _pack(cookie, value, error, flags))
            except InterruptedError:
                continue
            except OSError as problem:
                if problem.errno in (errno.ENOENT, errno.EINPROGRESS):
                    return False
                raise
            return True

    def _hold(self, cookie: int, call: Call, act: Act, for_s: float) -> None:
        heapq.heappush(self._held, (time.monotonic() + for_s, call.index, cookie, call, act))

    def _release(self, now: float) -> None:
        due = []
        while self._held and self._held[0][0] <= now and not self.closed:
            due.append(heapq.heappop(self._held))
        for _, _, cookie, call, act in due:
            # A read that found nothing yet looks again; whatever else was held has been held for long enough.
            self._answer(cookie, call, act if isinstance(act, Short) and self._stands_still(cookie) else GO)

    def _let_go(self, may_go_on: Callable[[Act], bool]) -> None:
        """Let the kernel do those of the held calls that may go on before their time."""
        now = [one for one in self._held if may_go_on(one[-1])]
        self._held = [one for one in self._held if not may_go_on(one[-1])]
        heapq.heapify(self._held)
        for _, _, cookie, call, _ in now:
            self._answer(cookie, call, GO)

    def _came_again(self, tid: int) -> bool:
        """Whether a thread stands still in another call. Those that do are taken in, to be answered in their order."""
        while self._look.poll(0):
            stop = self._next_stop()
            if stop is None:
                break
            self._waiting.append(stop)
        return any(stop[1] == tid for stop in self._waiting)

    def _settle_others(self) -> None:
        """See to it that every call counted so far is done, so that what the handler finds is exactly those."""
        for tid, call in list(self._gone.items()):
            state = settle(call, self._came_again)
            if state == "ended":
                self.book.forget(tid)
            if state == "unknown":
                self.book.note(f"{call.name} of {call.path or tid} may not have been done when the next call began")
            if state != "blocked":
                del self._gone[tid]


def _may_go_on(act: Act) -> bool:
    return act.over is None or act.over() if isinstance(act, Delay | Short) else True


def _wake_up_at_once(listener: int) -> None:
    """Since Linux 6.6: hand the processor over with the answer, which halves the cost of a call."""
    try:
        ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
    except OSError:
        pass
