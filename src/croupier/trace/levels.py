"""Which ways of watching a workload work on this machine, best first; the first two are tried on a small program."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, Literal

from ..model.errors import CroupierError, ExperimentError, Refused
from ..model.noun import Noun
from . import fuse, launch, ptrace, seccomp
from .acts import GO, Act
from .call import Call
from .output import Outlet
from .table import MUTATING, machine

_TRIAL = ("/bin/sh", "-c", ": > tried; : > again")
_PATIENCE_S = 5.0


class Level(Noun, frozen=True, kw_only=True):
    """One way of watching, and whether it works here."""

    name: str
    here: Literal["yes", "no"]
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
        Level(
            name="fuse",
            here="no" if fuse.lacking() else "yes",
            detail=fuse.lacking()
            or "a file system of ours under the state: it sees what reaches the files, not who asked",
            get="apt-get install fuse3, pip install 'croupier[fuse]'; in a container: --device /dev/fuse"
            if fuse.lacking()
            else "",
        ),
        Level(
            name="shim",
            here="yes",
            detail="inside of a Python program; blind to libraries in C, and says so when there was something to see",
        ),
        Level(
            name="events",
            here="yes",
            detail="a look at each change of a file; misses what comes between two looks: finds, and never proves",
        ),
        Level(name="clock", here="yes", detail="kills at drawn moments, over and over; finds, and never proves"),
    )


SAID: Final = {
    "seccomp": "seccomp user notification: a snapshot before every call that changes something, findings confirmed by"
    " real kills",
    "ptrace": "ptrace: a snapshot before every call that changes something, findings confirmed by real kills",
    "fuse": "fuse: a snapshot before every request that changes a file, findings confirmed by real kills; who asked is"
    " not seen",
    "shim": "shim: a snapshot before every change that Python code makes, findings confirmed by real kills; libraries"
    " in C are not seen",
    "events": "events: a snapshot at each look at what has changed; not every moment is seen",
    "clock": "clock: real kills at drawn moments; not every moment is seen",
    "none": "none",
}
"""What a result says of its level."""
_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*$")


def best(workload: Sequence[str] = ()) -> str:
    """The name of the level that `auto` takes for a workload. The shim is only for what Python runs."""
    usable = [one.name for one in levels() if one.here == "yes"]
    if workload and not _is_python(workload):
        usable = [one for one in usable if one != "shim"]
    return usable[0]


def better_than(name: str) -> tuple[Level, ...]:
    """The levels above one, none of which works here."""
    found = []
    for level in levels():
        if level.name == name:
            break
        if level.here == "no":
            found.append(level)
    return tuple(found)


def refuse_level(level: str, model: str, *, depth: int = 1, torn: bool = False) -> None:
    """Raises ExperimentError where a level cannot give what is asked, Refused where it does not work here."""
    lack = next((one.detail for one in levels() if one.name == level and one.here == "no"), "")
    if lack:
        raise Refused(f"the level {level} does not work here: {lack}", hint="--level auto, or see `croupier doctor`")
    if level in ("events", "clock") and (model != "kill" or torn or depth > 1):
        raise ExperimentError(
            f"the level {level} sees no single call, so it knows neither power cuts, torn writes nor depth 2",
            at="--level",
            hint="use seccomp, ptrace, fuse or shim for these",
        )


def _is_python(workload: Sequence[str]) -> bool:
    program = Path(workload[0]).name
    if _PYTHON.match(program):
        return True
    try:
        with Path(workload[0]).open("rb") as file:
            first = file.readline(200)
    except OSError:
        return False
    return first.startswith(b"#!") and b"python" in first


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
