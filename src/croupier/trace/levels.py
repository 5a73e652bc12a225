"""Which ways of watching a workload work on this machine, best first, found by trying each on a program that is safe.

The ways below the first two are known from measurement, and not built: they are named so that nobody takes the silence
for an answer.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

from ..model.errors import CroupierError
from ..model.noun import Noun
from . import launch, ptrace, seccomp
from .acts import GO, Act
from .call import Call
from .output import Outlet
from .table import MUTATING, machine

_TRIAL = ("/bin/sh", "-c", ": > tried; : > again")
_PATIENCE_S = 5.0


class Level(Noun, frozen=True, kw_only=True):
    """One way of watching, and whether it works here."""

    name: str
    here: Literal["yes", "no", "not built"]
    detail: str
    """What it gives, or why it does not work here."""
    get: str = ""
    """What would make it work."""


def levels() -> tuple[Level, ...]:
    """Every way, best first. The first with `yes` is what `trace(backend="auto")` takes."""
    notify, traced = lacks("seccomp"), lacks("ptrace")
    return (
        Level(
            name="seccomp",
            here="no" if notify else "yes",
            detail=notify or f"calls of the whole tree stand still before they are done{_untested()}",
            get="Linux 5.9 or later, in a container whose profile allows seccomp(2)" if notify else "",
        ),
        Level(
            name="ptrace",
            here="no" if traced else "yes",
            detail=traced or f"the same, and the result of each call; no debugger beside it{_untested()}",
            get="docker run --cap-add SYS_PTRACE, or sysctl kernel.yama.ptrace_scope=1" if traced else "",
        ),
        Level(name="fuse", here="not built", detail="a file system that sees what reaches the files, not who asked"),
        Level(name="shim", here="not built", detail="inside a Python program; blind to libraries in C"),
        Level(name="events", here="not built", detail="a kill at the N-th change of a file; replays half the time"),
        Level(name="clock", here="not built", detail="a kill at a drawn time, as in a round; replays one time in ten"),
    )


def best() -> str:
    """The name of the level that `auto` takes; "" if none works."""
    return next((level.name for level in levels() if level.here == "yes"), "")


@cache
def lacks(backend: Literal["seccomp", "ptrace"]) -> str:
    """Why a backend does not work here, in a sentence; "" if it does. Tried once, in a few milliseconds."""
    kind = machine()
    if sys.platform != "linux":
        return "only Linux has it"
    if kind is None:
        return f"there is no table of calls for {os.uname().machine}, only for x86-64 and arm64"
    seen: list[str] = []

    def on_call(call: Call) -> Act:
        seen.append(Path(call.path).name)
        return GO

    maker = seccomp.Watch if backend == "seccomp" else ptrace.Watch
    watch = maker(kind, MUTATING, on_call, None)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        with tempfile.TemporaryDirectory(prefix="croupier-") as place:
            order = launch.Order(_TRIAL, os.environ, place, (null, null, null), _PATIENCE_S, None, None)
            traced = watch.run(order, Outlet(None))
            done = sorted(one.name for one in Path(place).iterdir())
    except (CroupierError, OSError) as problem:
        return getattr(problem, "message", "") or str(problem)
    finally:
        os.close(null)
    if traced.ended == "deadline":
        return f"a small program did not end within {_PATIENCE_S:.0f} s under it"
    if done != ["again", "tried"]:
        return "a small program came to other results under it"
    if [name for name in seen if name in ("tried", "again")] != ["tried", "again"]:
        return "the files that calls are about cannot be read (is /proc mounted, and may we look at our children?)"
    return ""


def _untested() -> str:
    kind = machine()
    return "" if kind is None or kind.tested else f" (on {kind.name} by the tables of the kernel, untested)"
