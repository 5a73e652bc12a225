"""The first backend: seccomp user notification. A filtered call stands still until we answer.

No root and no compiler; static programs, threads and children alike; works where ptrace is forbidden. Linux 5.9.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import Final

from ..model.errors import HarnessError
from ..system import procs
from . import filter as filters
from . import launch
from .attend import Attendance
from .book import Book, OnCall, OnExit, Traced
from .call import Call
from .listener import Listener
from .output import Outlet
from .table import REFUSED, Machine

_LONG_S: Final = 5.0
_PACE_S: Final = 0.002


class Watch:
    """One traced workload, from its start to the end of its whole tree.

    The handler is called in the caller's thread, which does nothing but wait for calls: a second thread attends to the
    rest (looking at more than the listener would cost a tenth of the time of each call).
    """

    def __init__(self, machine: Machine, calls: frozenset[str], on_call: OnCall, on_exit: OnExit | None) -> None:
        self.book = Book(machine, calls)
        self._on_call = on_call
        self._on_exit = on_exit
        self._file = -1
        self._listener: Listener | None = None
        self._killed_at: int | None = None
        self._ended = ""
        self._problem: BaseException | None = None

    def run(self, order: launch.Order, outlet: Outlet) -> Traced:
        """Start the workload and answer its calls until nobody of it is left. Raises what the handler raises."""
        book = self.book
        lines = filters.program(book.machine, book.filtered, REFUSED, filters.NOTIFY, launch.control_number())
        tree = launch.start(order, "notify", lines)
        outlet.started()
        attendant = threading.Thread(target=self._attend, args=(tree, order, outlet), name="croupier-attendant")
        try:
            self._await_listener(tree, order)
            self._listener = Listener(
                book,
                self._file,
                self._on_call,
                self._on_exit,
                on_kill=lambda call: self._kill(tree, call),
                before=outlet.glance,
            )
            attendant.start()
            self._listener.serve()
        finally:
            # The listener is closed last: while the nanny ends the tree, its calls must stand still.
            tree.say("kill")
            if attendant.ident is not None:
                attendant.join()
            tree.end()
            if tree.lost:
                self._end_without_nanny(tree)
            if self._file >= 0:
                os.close(self._file)
            tree.close()
            book.scene.lender.close()
        if self._problem is not None:
            raise self._problem
        if tree.lost:
            raise HarnessError("the nanny of a traced workload was killed")
        return book.result("seccomp", tree.status, self._ended, self._killed_at)

    def _await_listener(self, tree: launch.Tree, order: launch.Order) -> None:
        while self._file < 0 and not tree.empty:
            said, got = tree.hear()
            word, _, rest = said.partition(" ")
            if word == "failed":
                raise launch.failure(rest, order.argv)
            if word == "listener" and got is not None:
                self._file = got
                self.book.no_new_privileges = rest == "1"
        if self._file < 0:
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
            self._end(tree, "killed")
            self._end_without_nanny(tree)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _kill(self, tree: launch.Tree, call: Call) -> bool:
        self._killed_at = call.index
        self._end(tree, "killed")
        return True

    def _end(self, tree: launch.Tree, why: str) -> None:
        """Nobody is answered from here on; the nanny ends them where they stand."""
        if not self._ended:
            self._ended = why
            if self._listener is not None:
                self._listener.closed = True
            tree.say("kill")

    def _end_without_nanny(self, tree: launch.Tree) -> None:
        """The nanny was killed; the warden ends the orphans. Their calls stand still until nobody is left."""
        end = time.monotonic() + _LONG_S
        while time.monotonic() < end:
            for pid in {tree.pid, *self.book.living} - {0}:
                _kill_below_us(pid)
            if self._file < 0 or _is_over(self._file):
                return
            time.sleep(_PACE_S)


def _is_over(file: int) -> bool:
    """Whether nobody is left behind a listener."""
    look = select.poll()
    look.register(file, select.POLLIN)
    return any(event & select.POLLHUP for _, event in look.poll(0))


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
