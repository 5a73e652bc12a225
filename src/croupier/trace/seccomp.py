"""The first backend: seccomp user notification. A filtered call stands still until we answer.

No root and no compiler; static programs, threads and children alike; works where ptrace is forbidden. Linux 5.9.
"""

from __future__ import annotations

import errno
import heapq
import os
import re
import select
import signal
import struct
import threading
import time
from collections import deque
from fcntl import ioctl
from typing import Final

from ..model.errors import HarnessError
from ..system import procs
from . import filter as filters
from . import launch, perform
from .acts import Act, Delay, Fail, Go, Kill, Lie, Short, Torn
from .attend import Attendance
from .book import Book, OnCall, OnExit, Traced
from .call import Call
from .output import Outlet
from .settle import settle
from .table import REFUSED, Machine

_RECEIVE: Final = 0xC050_2100
_SEND: Final = 0xC018_2101
_SET_FLAGS: Final = 0x4008_2104
_SYNC_WAKE_UP: Final = 1
_IS_VALID: Final = 0x4008_2102
_COOKIE: Final = struct.Struct("=Q")
_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")
_ANSWER: Final = struct.Struct("=QqiI")
_CONTINUE: Final = 1
# Linux 6.11: waiting for a call ends when nobody is left who could make one. Before, we must look first.
_RECEIVE_ENDS: Final = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]) >= (6, 11)
_pack = _ANSWER.pack
_unpack = _NOTIFICATION.unpack
_EMPTY: Final = bytes(_NOTIFICATION.size)
_LONG_S: Final = 5.0
_PACE_S: Final = 0.002

# Cookie, thread, flags, number, architecture, instruction pointer, and the six arguments.
_Stop = tuple[int, ...]


class Watch:
    """One traced workload, from its start to the end of its whole tree.

    The handler is called in the caller's thread, which does nothing but wait for calls: a second thread attends to the
    rest (looking at more than the listener would cost a tenth of the time of each call).
    """

    def __init__(self, machine: Machine, calls: frozenset[str], on_call: OnCall, on_exit: OnExit | None) -> None:
        self.book = Book(machine, calls)
        self._on_call = on_call
        self._on_exit = on_exit
        self._listener = -1
        self._look = select.poll()
        self._gone: dict[int, Call] = {}
        self._interrupted: dict[int, tuple[Call, Act]] = {}
        self._held: list[tuple[float, int, int, Call]] = []
        self._waiting: deque[_Stop] = deque()
        self._killed_at: int | None = None
        self._ended = ""
        self._problem: BaseException | None = None

    def run(self, order: launch.Order, outlet: Outlet) -> Traced:
        """Start the workload and answer its calls until nobody of it is left. Raises what the handler raises."""
        book = self.book
        lines = filters.program(book.machine, book.filtered, REFUSED, filters.NOTIFY, launch.control_number())
        tree = launch.start(order, "notify", lines)
        outlet.started()
        self._outlet = outlet
        attendant = threading.Thread(target=self._attend, args=(tree, order, outlet), name="croupier-attendant")
        try:
            self._await_listener(tree, order)
            attendant.start()
            self._watch(tree)
        finally:
            # The listener is closed last: while the nanny ends the tree, its calls must stand still.
            tree.say("kill")
            if attendant.ident is not None:
                attendant.join()
            tree.end()
            if tree.lost:
                self._end_without_nanny(tree)
            if self._listener >= 0:
                os.close(self._listener)
            tree.close()
            book.scene.lender.close()
        if self._problem is not None:
            raise self._problem
        if tree.lost:
            raise HarnessError("the nanny of a traced workload was killed")
        return book.result("seccomp", tree.status, self._ended, self._killed_at)

    def _await_listener(self, tree: launch.Tree, order: launch.Order) -> None:
        while self._listener < 0 and not tree.empty:
            said, got = tree.hear()
            word, _, rest = said.partition(" ")
            if word == "failed":
                raise launch.failure(rest, order.argv)
            if word == "listener" and got is not None:
                self._listener = got
                self._look.register(got, select.POLLIN)
                self.book.no_new_privileges = rest == "1"
                _wake_up_at_once(got)
        if self._listener < 0:
            raise HarnessError("a traced workload ended before it was started", hint="croupier doctor")

    # --- the attendant's thread --------------------------------------------------------------------------------------

    def _attend(self, tree: launch.Tree, order: launch.Order, outlet: Outlet) -> None:
        try:
            Attendance(tree, order, outlet, end=lambda why: self._end(tree, why)).run()
        except BaseException as problem:
            self._problem = problem
            self._end(tree, "killed")
        if tree.lost:
            # The caller's thread waits for calls until nobody is left who could make one.
            self._ended = self._ended or "killed"
            self._end_without_nanny(tree)

    # --- the thread of the caller ------------------------------------------------------------------------------------

    def _watch(self, tree: launch.Tree) -> None:
        """Answer until nobody is left who could call."""
        while True:
            if (self._held or not _RECEIVE_ENDS) and not self._ready():
                self._release(time.monotonic())
                continue
            stop = self._next_stop()
            if stop is None:
                if self._is_over():
                    return
                continue
            while stop is not None:
                if not self._ended:
                    self._stopped(tree, stop)
                # Those that came while we were looking at this one. A thread may have been killed in its turn.
                stop = self._waiting.popleft() if self._waiting else None
                if stop is not None and not self._stands_still(stop[0]):
                    stop = None

    def _ready(self) -> bool:
        """Wait for a call, or for the end of one that is held back."""
        left_ms = max(0.0, (self._held[0][0] - time.monotonic()) * 1000 + 0.5) if self._held else None
        return bool(self._look.poll(left_ms))

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

    def _stopped(self, tree: launch.Tree, stop: _Stop) -> None:
        cookie, tid, _, number, arch, ip = stop[:6]
        args = stop[6:]
        self._gone.pop(tid, None)
        if self._interrupted and tid in self._interrupted:
            call, act = self._interrupted.pop(tid)
            if (call.number, call.args, call.ip) == (number, args, ip):
                self._answer(tree, cookie, call, act)
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
        self._outlet.glance()
        self._answer(tree, cookie, what, self._on_call(what))

    def _answer(self, tree: launch.Tree, cookie: int, call: Call, act: Act) -> None:
        if self._ended:
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
                self._kill(tree, call)
            case Torn(length=length):
                try:
                    perform.first_part(call, length, last=True)
                finally:
                    self._kill(tree, call)
            case Short(length=length):
                try:
                    done = perform.first_part(call, length, last=False)
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
                heapq.heappush(self._held, (time.monotonic() + delay / 1000, call.index, cookie, call))

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

    def _release(self, now: float) -> None:
        while self._held and self._held[0][0] <= now and not self._ended:
            _, _, cookie, call = heapq.heappop(self._held)
            if self._send(cookie, 0, 0, _CONTINUE):
                self._gone[call.tid] = call

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

    # --- the end -----------------------------------------------------------------------------------------------------

    def _kill(self, tree: launch.Tree, call: Call) -> None:
        self._killed_at = call.index
        self._end(tree, "killed")

    def _end(self, tree: launch.Tree, why: str) -> None:
        """Nobody is answered from here on; the nanny ends them where they stand."""
        if not self._ended:
            self._ended = why
            tree.say("kill")

    def _end_without_nanny(self, tree: launch.Tree) -> None:
        """The nanny was killed; the warden ends the orphans. Their calls stand still until nobody is left."""
        end = time.monotonic() + _LONG_S
        while time.monotonic() < end:
            for pid in {tree.pid, *self.book.living} - {0}:
                _kill_below_us(pid)
            if self._listener < 0 or any(event & select.POLLHUP for _, event in self._look.poll(0)):
                return
            time.sleep(_PACE_S)


def _kill_below_us(pid: int) -> None:
    """SIGKILL, if this is a descendant of ours and no stranger with its number."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if os.getpid() in procs.ancestors(pid):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(handle)


def _wake_up_at_once(listener: int) -> None:
    """Since Linux 6.6: hand the processor over with the answer, which halves the cost of a call."""
    try:
        ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
    except OSError:
        pass
