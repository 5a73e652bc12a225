"""The levels below seccomp and ptrace, by one door: a workload watched from within, or by what becomes of its files.

    observe("fuse", argv, root=state, on_seen=on_seen, …)

The handler is asked as `trace` asks it, with a `Seen` in place of a `Call`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from . import events, fuse, shim
from .book import OnOutput, Traced
from .launch import Order
from .output import Outlet
from .seen import OnSeen

OutsideLevel = Literal["fuse", "shim", "events"]


def observe(
    level: OutsideLevel,
    argv: Sequence[str],
    *,
    root: Path,
    on_seen: OnSeen,
    on_output: OnOutput | None,
    after: Callable[[], None] = lambda: None,
    moved: Callable[[Path], None] = lambda path: None,
    env: Mapping[str, str],
    cwd: str,
    stdin: int | None,
    stderr: int,
    deadline_s: float | None = None,
    linger_s: float | None = None,
) -> Traced:
    """Run a workload whose files are below `root`, with each of its changes told to `on_seen`, until nobody is left.

    `after` is called when a change that is told afterwards (`events`) can be looked at. `moved` hears where the files
    of `root` are to be looked at meanwhile: through FUSE, they would be looked at by way of ourselves.
    """
    outlet = Outlet(on_output)
    empty = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        files = (empty if stdin is None else stdin, outlet.writer if outlet.writer >= 0 else stderr, stderr)
        order = Order(argv, env, cwd, files, deadline_s, linger_s, None)
        if level == "shim":
            return shim.Watch(on_seen).run(order, outlet)
        if level == "events":
            return events.Watch(root, on_seen, after).run(order, outlet)
        return fuse.Watch(root, root.with_name("below"), on_seen, moved).run(order, outlet)
    finally:
        os.close(empty)
        outlet.close()
