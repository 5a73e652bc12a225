"""Run a program with every call that changes a file standing still until we have answered for it.

`trace` runs a workload and asks a handler about each call of its whole tree, in order; the answer is an `Act`: let it
go, kill everything before it, fail it, do a part of it for real, pretend, or hold it for a while. `levels` says what
this machine can do.

    def on_call(call):
        print(call.index, call.name, call.path, call.offset, call.length)
        return KILL if call.index == 7 else GO

    traced = trace(["sh", "-c", "echo a > f; mv f g"], on_call=on_call, cwd=state)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from ..model.errors import HarnessError
from . import ptrace, seccomp
from .acts import GO, KILL, Act, Delay, Fail, Go, Kill, Lie, Short, Torn
from .book import OnCall, OnExit, OnOutput, Traced
from .call import Call
from .launch import Order
from .levels import Level, best, lacks, levels
from .output import Outlet
from .table import CONNECTING, MUTATING, READING, SENDING, SHAPES, SPAWNING, Kind, Shape, machine

__all__ = [
    "CONNECTING",
    "GO",
    "KILL",
    "MUTATING",
    "READING",
    "SENDING",
    "SHAPES",
    "SPAWNING",
    "Act",
    "Call",
    "Delay",
    "Fail",
    "Go",
    "Kill",
    "Kind",
    "Level",
    "Lie",
    "Shape",
    "Short",
    "Torn",
    "Traced",
    "best",
    "lacks",
    "levels",
    "trace",
]

Backend = Literal["auto", "seccomp", "ptrace"]


def trace(
    argv: Sequence[str],
    *,
    on_call: OnCall,
    on_exit: OnExit | None = None,
    on_output: OnOutput | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] = "",
    backend: Backend = "auto",
    calls: frozenset[str] = MUTATING,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    deadline_s: float | None = None,
    linger_s: float | None = None,
    stop_fd: int | None = None,
) -> Traced:
    """Run a workload until nobody of it is left, with each of its `calls` held until `on_call` has answered.

    - `on_exit` hears how a call ended (its result, or minus an error number): with ptrace of every call, with seccomp
      only of those that we did ourselves.
    - `on_output` gets what the workload prints, before the next call is looked at; without it the output goes to
      `stdout`. Streams that are not given: an empty standard input, our own output and error.
    - After `deadline_s` everything is ended; `linger_s` after the end of the main process, whoever is left is. When
      `stop_fd` becomes readable, too.

    An exception of a handler ends the workload and is raised here. Raises ExperimentError for a program that cannot be
    started, HarnessError where the backend does not work.
    """
    kind = machine()
    if kind is None:
        raise HarnessError("calls can be traced on x86-64 and arm64 only")
    outlet = Outlet(on_output)
    empty = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        files = (
            empty if stdin is None else stdin,
            outlet.writer if outlet.writer >= 0 else 1 if stdout is None else stdout,
            2 if stderr is None else stderr,
        )
        given = os.environ if env is None else env
        order = Order(argv, given, os.fspath(cwd), files, deadline_s, linger_s, stop_fd)
        watch = _backend(backend)(kind, calls, on_call, on_exit)
        watch.book.scene.outputs = _names(files)
        return watch.run(order, outlet)
    finally:
        os.close(empty)
        outlet.close()


def _backend(name: Backend) -> type[seccomp.Watch] | type[ptrace.Watch]:
    if name == "auto":
        name = "ptrace" if lacks("seccomp") and not lacks("ptrace") else "seccomp"
        if lacks(name):
            raise HarnessError(
                f"calls cannot be traced here: {lacks('seccomp')}; {lacks('ptrace')}",
                hint="croupier doctor says what would help",
            )
    return seccomp.Watch if name == "seccomp" else ptrace.Watch


def _names(files: tuple[int, int, int]) -> dict[str, Literal["stdout", "stderr"]]:
    """What the links of /proc call the workload's output and error."""
    found: dict[str, Literal["stdout", "stderr"]] = {}
    streams: tuple[tuple[int, Literal["stdout", "stderr"]], ...] = ((files[2], "stderr"), (files[1], "stdout"))
    for file, name in streams:
        try:
            found[str(Path(f"/proc/self/fd/{file}").readlink())] = name
        except OSError:
            continue
    # Whatever is written to the null device has been said to nobody.
    found.pop(os.devnull, None)
    return found
