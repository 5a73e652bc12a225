"""Everything about a running workload that is not a call: its output, its end, the clock, the caller's wish to stop."""

from __future__ import annotations

from collections.abc import Callable

from . import launch
from .clock import Clock
from .output import Outlet


class Attendance:
    """Waits on a tree until nobody of it is left."""

    def __init__(
        self,
        tree: launch.Tree,
        order: launch.Order,
        outlet: Outlet,
        *,
        end: Callable[[str], None],
        hear: Callable[[str, str], None] = lambda word, rest: None,
    ) -> None:
        self._tree = tree
        self._order = order
        self._outlet = outlet
        self._end = end
        self._hear = hear

    def run(self) -> None:
        """Return once the tree is empty. Raises what the handler of output raises, and for a program that is none."""
        tree, outlet = self._tree, self._outlet
        clock = Clock(self._order)
        stop_fd, printed = self._order.stop_fd, outlet.fileno()
        while not tree.empty:
            poll = launch.poll(tree.fileno(), printed, stop_fd)
            for file, _ in poll.poll(clock.until()):
                if file == printed:
                    printed = printed if outlet.drain() else -1
                elif file == stop_fd:
                    stop_fd = None
                    self._end("stopped")
                else:
                    self._listen(clock)
            if (why := clock.struck()) is not None:
                self._end(why)
        outlet.drain()

    def _listen(self, clock: Clock) -> None:
        said, _ = self._tree.hear()
        word, _, rest = said.partition(" ")
        if word == "failed":
            raise launch.failure(rest, self._order.argv)
        if word == "exited":
            clock.main_ended()
        self._hear(word, rest)
