"""The second backend: ptrace(2), stopped by the same filter (SECCOMP_RET_TRACE), so that other calls cost nothing.

It tells the result of every call, and nothing outlives us (PTRACE_O_EXITKILL). It needs the right to trace one's own
descendants, which some containers and `kernel.yama.ptrace_scope` take away; and a debugger cannot be attached to the
workload at the same time.
"""

from __future__ import annotations

import ctypes
import errno
import heapq
import os
import signal
import struct
import threading
import time
from collections import deque
from typing import Final

from ..model.errors import HarnessError
from . import filter as filters
from . import launch, perform
from .acts import Act, Delay, Fail, Go, Kill, Lie, Short, Torn
from .attend import Attendance
from .book import Book, OnCall, OnExit, Traced
from .call import Call
from .output import Outlet
from .settle import BLOCKING, State, settle
from .stops import libc
from .table import ARM64, REFUSED, Machine

_POKE_USER: Final = 6
_CONT: Final = 7
_SYSCALL: Final = 24
_GET_EVENT_MESSAGE: Final = 0x4201
_GET_REGISTERS: Final = 0x4204
_SET_REGISTERS: Final = 0x4205
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_LISTEN: Final = 0x4208
_GET_SYSCALL_INFO: Final = 0x420E

# SYSGOOD, FORK, VFORK, CLONE, EXEC, SECCOMP, EXITKILL.
_OPTIONS: Final = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x80 | 0x10_0000
_EVENT_CLONES: Final = frozenset({1, 2, 3})
_EVENT_EXEC: Final = 4
_EVENT_SECCOMP: Final = 7
_EVENT_STOP: Final = 128
_SYSCALL_STOP: Final = signal.SIGTRAP | 0x80
_STOPPING: Final = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

_WALL: Final = 0x4000_0000
_OF_THIS_THREAD: Final = 0x2000_0000

_ENTRY: Final = struct.Struct("=BxxxIQQQ6Q")
_EXIT: Final = struct.Struct("=BxxxIQQq")
_INFO_SIZE: Final = 96
# ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK: the kernel will begin the call again.
_AGAIN: Final = frozenset({-512, -513, -514, -516})
# Offsets in struct user of x86-64.
_ORIG_RAX: Final = 15 * 8
_RAX: Final = 10 * 8
_NT_PRSTATUS: Final = 1
_NT_ARM_SYSCALL: Final = 0x404
_PACE_S: Final = 0.0005
_LOOK_AGAIN_S: Final = 0.005
_LONG_S: Final = 2.0


class Watch:
    """One traced workload, from its start to the end of its whole tree.

    A thread of ours is the tracer, since the kernel ties tracing to a thread, and so that we never take in the end of
    a process that somebody else in this program waits for. The handler is called in that thread.
    """

    def __init__(self, machine: Machine, calls: frozenset[str], on_call: OnCall, on_exit: OnExit | None) -> None:
        self.book = Book(machine, calls)
        self._on_call = on_call
        self._on_exit = on_exit
        self._info = ctypes.create_string_buffer(_INFO_SIZE)
        self._info_at = ctypes.addressof(self._info)
        self._gone: dict[int, Call] = {}
        self._again: dict[int, Call] = {}
        self._held: list[tuple[float, int, Call, Act]] = []
        self._later: deque[tuple[int, int]] = deque()
        self._crew = 1
        self._killed_at: int | None = None
        self._ended = ""
        self._problem: BaseException | None = None
        self._seized = threading.Event()
        self._filtered = threading.Event()

    def run(self, order: launch.Order, outlet: Outlet) -> Traced:
        """Start the workload and answer its calls until nobody of it is left. Raises what the handler raises."""
        book = self.book
        lines = filters.program(book.machine, book.filtered, REFUSED, filters.TRACE, launch.control_number())
        tree = launch.start(order, "trace", lines)
        outlet.started()
        tracer = threading.Thread(target=self._trace, args=(tree, outlet), name="croupier-tracer", daemon=True)
        try:
            Attendance(
                tree,
                order,
                outlet,
                end=lambda why: self._end(tree, why),
                hear=lambda word, rest: self._heard(tree, tracer, word, rest),
            ).run()
        finally:
            tree.say("kill")
            if tracer.ident is not None:
                tracer.join()
            tree.end()
            tree.close()
            book.scene.lender.close()
        if self._problem is not None:
            raise self._problem
        return book.result("ptrace", tree.status, self._ended, self._killed_at)

    # --- the thread of the caller ------------------------------------------------------------------------------------

    def _heard(self, tree: launch.Tree, tracer: threading.Thread, word: str, rest: str) -> None:
        if word == "ready":
            tracer.start()
            self._seized.wait()
            if self._problem is not None:
                raise self._problem
            tree.say("go")
        elif word == "filtered":
            self.book.no_new_privileges = rest == "1"
            self._filtered.set()
        elif tree.lost:
            raise HarnessError("the nanny of a traced workload was killed")

    def _end(self, tree: launch.Tree, why: str) -> None:
        """Nobody goes on from here; the nanny ends them where they stand."""
        if not self._ended:
            self._ended = why
            tree.say("kill")

    # --- the thread that traces --------------------------------------------------------------------------------------

    def _trace(self, tree: launch.Tree, outlet: Outlet) -> None:
        try:
            if libc is None or libc.ptrace(_SEIZE, tree.pid, None, ctypes.c_void_p(_OPTIONS)) < 0:
                code = ctypes.get_errno()
                self._problem = HarnessError(f"ptrace is not allowed here: {os.strerror(code)}", hint="croupier doctor")
                return
        finally:
            self._seized.set()
        while True:
            try:
                tid, status = self._next()
            except ChildProcessError:
                return
            try:
                if tid:
                    self._happened(tree, outlet, tid, status)
                self._release(tree)
            except BaseException as problem:
                # The caller hears of it; here the ended are still to be taken in.
                self._problem = self._problem or problem
                self._end(tree, "killed")

    def _next(self) -> tuple[int, int]:
        if self._later:
            return self._later.popleft()
        if self._held:
            found = os.waitpid(-1, _WALL | _OF_THIS_THREAD | os.WNOHANG)
            if not found[0]:
                time.sleep(_PACE_S)
        else:
            found = os.waitpid(-1, _WALL | _OF_THIS_THREAD)
        if self._crew > 1:
            self._take_turns()
        return found

    def _take_turns(self) -> None:
        """Take in everybody who stands still: the kernel would always name the first of its list, and starve others."""
        try:
            while (one := os.waitpid(-1, _WALL | _OF_THIS_THREAD | os.WNOHANG))[0]:
                self._later.append(one)
        except ChildProcessError:
            pass

    def _happened(self, tree: launch.Tree, outlet: Outlet, tid: int, status: int) -> None:
        if not os.WIFSTOPPED(status):
            self._crew -= 1
            self._gone.pop(tid, None)
            self._again.pop(tid, None)
            self.book.forget(tid)
            return
        if status >> 16 in _EVENT_CLONES:
            self._crew += 1
        if self._ended:
            # Left where it stands, for SIGKILL.
            return
        number, event = os.WSTOPSIG(status), status >> 16
        if event == _EVENT_SECCOMP:
            self._called(tree, outlet, tid)
        elif number == _SYSCALL_STOP:
            self._returned(tid)
            self._go(_CONT, tid)
        elif event == _EVENT_STOP:
            # Stopped by a signal like SIGTSTP it stays so until SIGCONT; anything else is how a new thread begins.
            self._go(_LISTEN if number in _STOPPING else _CONT, tid)
        elif event:
            if event == _EVENT_EXEC:
                self._gone.pop(tid, None)
            self._go(_CONT, tid)
        else:
            self._go(_CONT, tid, number)

    def _called(self, tree: launch.Tree, outlet: Outlet, tid: int) -> None:
        info = self._look(tid)
        if info is None:
            return
        # What was said about the filter is heard by the other thread, and comes before the first call counts.
        self._filtered.wait(_LONG_S)
        _, arch, ip, _, number, *words = _ENTRY.unpack_from(info)
        args = tuple(words)
        self._gone.pop(tid, None)
        again = self._again.pop(tid, None)
        if again is not None and (again.number, again.args, again.ip) == (number, args, ip):
            # Interrupted by a signal, and begun again by the kernel: the same call.
            self._begin(again)
            return
        what = self.book.consider(tid, number, arch, args, ip)
        if what is None:
            self._go(_CONT, tid)
            return
        if isinstance(what, Fail):
            self._skip(tid, -what.errno)
            self._go(_CONT, tid)
            return
        if self._gone:
            self._settle_others(tree, outlet)
            if self._ended:
                return
        outlet.glance()
        self._answer(tree, what, self._on_call(what))

    def _answer(self, tree: launch.Tree, call: Call, act: Act) -> None:
        if self._ended:
            # The caller's thread ended it while the handler was thinking.
            return
        match act:
            case Go():
                self._begin(call)
            case Kill():
                self._kill(tree, call)
            case Torn(length=length):
                try:
                    perform.first_part(call, length, last=True)
                finally:
                    self._kill(tree, call)
            case Short(length=length):
                try:
                    result = perform.first_part(call, length, last=False)
                except perform.NotYet:
                    # Whoever asks for bytes waits for them, and we must not wait with it.
                    self._hold(call, act, _LOOK_AGAIN_S)
                    return
                except OSError as error:
                    result = -(error.errno or errno.EIO)
                self._pretend(call, result)
            case Fail(errno=code):
                self._pretend(call, -code)
            case Lie(result=result):
                self._pretend(call, result)
            case Delay(delay_ms=delay):
                self._hold(call, act, delay / 1000)

    def _hold(self, call: Call, act: Act, for_s: float) -> None:
        heapq.heappush(self._held, (time.monotonic() + for_s, call.index, call, act))

    def _begin(self, call: Call) -> None:
        self._gone[call.tid] = call
        self._go(_SYSCALL if self._on_exit else _CONT, call.tid)

    def _pretend(self, call: Call, result: int) -> None:
        self._skip(call.tid, result)
        self._go(_CONT, call.tid)
        if self._on_exit:
            self._on_exit(call, result)

    def _returned(self, tid: int) -> None:
        call = self._gone.pop(tid, None)
        info = self._look(tid)
        if call is None or info is None:
            return
        result = _EXIT.unpack_from(info)[4]
        if result in _AGAIN:
            self._again[tid] = call
        elif self._on_exit:
            self._on_exit(call, result)

    def _release(self, tree: launch.Tree) -> None:
        due, now = [], time.monotonic()
        while self._held and self._held[0][0] <= now and not self._ended:
            due.append(heapq.heappop(self._held))
        for _, _, call, act in due:
            # A read that found nothing yet looks again; whatever else was held has been held for long enough.
            if isinstance(act, Short):
                self._answer(tree, call, act)
            else:
                self._begin(call)

    def _kill(self, tree: launch.Tree, call: Call) -> None:
        self._killed_at = call.index
        self._end(tree, "killed")

    # --- other threads' calls ----------------------------------------------------------------------------------------

    def _settle_others(self, tree: launch.Tree, outlet: Outlet) -> None:
        """See to it that every call counted so far is done, so that what the handler finds is exactly those."""
        for tid, call in list(self._gone.items()):
            if self._on_exit:
                state: State = self._await_return(tree, outlet, call)
            else:
                state = settle(call, self._came_again, self._touch)
                if state == "ended":
                    self.book.forget(tid)
            if state == "unknown":
                self.book.note(f"{call.name} of {call.path or tid} may not have been done when the next call began")
            if state != "blocked":
                self._gone.pop(tid, None)

    def _await_return(self, tree: launch.Tree, outlet: Outlet, call: Call) -> State:
        end = time.monotonic() + _LONG_S
        while call.tid in self._gone:
            if self._gone[call.tid] is not call:
                return "blocked"
            if not self._came_again(call.tid):
                status = 0
            else:
                status = next((one for tid, one in self._later if tid == call.tid), 0)
                if not os.WIFSTOPPED(status) or os.WSTOPSIG(status) != _SYSCALL_STOP:
                    return "done"
                self._later.remove((call.tid, status))
            if status:
                self._happened(tree, outlet, call.tid, status)
            elif call.file_kind in BLOCKING:
                return "blocked"
            elif time.monotonic() > end:
                return "unknown"
            else:
                os.sched_yield()
        return "done"

    def _came_again(self, tid: int) -> bool:
        """Whether a thread has come to another stop, which is kept for its turn."""
        if any(one == tid for one, _ in self._later):
            return True
        try:
            found, status = os.waitpid(tid, _WALL | os.WNOHANG)
        except ChildProcessError:
            return True
        if found:
            self._later.append((found, status))
        return bool(found)

    def _touch(self, tid: int) -> bool:
        """Stop a thread of ours for an instant; whatever stop comes, the call it was in is done."""
        if libc is None or libc.ptrace(_INTERRUPT, tid, None, None) < 0:
            return True
        try:
            found, status = os.waitpid(tid, _WALL)
        except ChildProcessError:
            return True
        self._later.append((found, status))
        return True

    # --- hands -------------------------------------------------------------------------------------------------------

    def _go(self, how: int, tid: int, number: int = 0) -> None:
        # Fails only for a thread that was killed meanwhile; its end is told next.
        if libc is not None:
            libc.ptrace(how, tid, None, number)

    def _look(self, tid: int) -> ctypes.Array[ctypes.c_char] | None:
        """What the thread is about to call, or what came back. None if it was killed meanwhile."""
        if libc is None or libc.ptrace(_GET_SYSCALL_INFO, tid, _INFO_SIZE, self._info_at) < 0:
            if ctypes.get_errno() != errno.ESRCH:
                raise HarnessError(f"PTRACE_GET_SYSCALL_INFO: {os.strerror(ctypes.get_errno())} (it needs Linux 5.3)")
            return None
        return self._info

    def _skip(self, tid: int, result: int) -> None:
        """Have the kernel leave the call out and return a result of ours."""
        if libc is None:
            return
        if self.book.machine is ARM64:
            _set_registers(tid, _NT_ARM_SYSCALL, struct.pack("=i", -1))
            registers = bytearray(_get_registers(tid))
            registers[:8] = struct.pack("=q", result)
            _set_registers(tid, _NT_PRSTATUS, bytes(registers))
            return
        libc.ptrace(_POKE_USER, tid, _ORIG_RAX, ctypes.c_void_p((1 << 64) - 1))
        libc.ptrace(_POKE_USER, tid, _RAX, ctypes.c_void_p(result & (1 << 64) - 1))


class _Span(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def _get_registers(tid: int) -> bytes:
    buffer = ctypes.create_string_buffer(34 * 8)
    span = _Span(ctypes.addressof(buffer), len(buffer))
    if libc is None or libc.ptrace(_GET_REGISTERS, tid, _NT_PRSTATUS, ctypes.addressof(span)) < 0:
        raise OSError(ctypes.get_errno(), "PTRACE_GETREGSET")
    return buffer.raw[: span.length]


def _set_registers(tid: int, kind: int, data: bytes) -> None:
    buffer = ctypes.create_string_buffer(data, len(data))
    span = _Span(ctypes.addressof(buffer), len(data))
    if libc is None or libc.ptrace(_SET_REGISTERS, tid, kind, ctypes.addressof(span)) < 0:
        raise OSError(ctypes.get_errno(), "PTRACE_SETREGSET")
