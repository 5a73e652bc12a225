"""Shims: small C sources of ours that the machine's own compiler makes into libraries, to be preloaded (ld.so(8)).

A process is started with one by two variables of its environment: `LD_PRELOAD`, and one that names the file by which
the shim is told what to do. What it starts inherits both.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..model.target import Identity
from . import procs

_WITHIN_S = 20.0


@functools.cache
def lacking(name: str) -> str:
    """What this machine lacks for the shim of this name, in a sentence; "" if nothing. Tried once, aside."""
    if sys.platform != "linux":
        return f"{sys.platform} has no LD_PRELOAD as Linux has it"
    if _compiler() is None:
        return "there is no C compiler (apt-get install gcc libc6-dev)"
    with tempfile.TemporaryDirectory(prefix="croupier-shim-") as folder:
        try:
            build(name, Path(folder))
        except OSError as problem:
            return f"a shim cannot be compiled: {problem}"
    return ""


def build(name: str, folder: Path) -> Path:
    """Compile `NAME_shim.c` into a directory, unless that was done. Raises OSError with what the compiler said."""
    made, compiler = library(name, folder), _compiler()
    if made.exists():
        return made
    if compiler is None:
        raise OSError("there is no C compiler")
    source = Path(__file__).with_name(f"{name}_shim.c")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl", "-lpthread"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, check=False)
    except subprocess.SubprocessError as problem:
        raise OSError(str(problem)) from problem
    if done.returncode:
        raise OSError(next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200]))
    return made


def library(name: str, folder: Path) -> Path:
    """Where `build` puts it."""
    return folder / f"{name}-shim.so"


def preloading(env: Mapping[str, str], which: Path | str) -> dict[str, str]:
    """An environment in which a library is preloaded, before those that are already."""
    return {**env, "LD_PRELOAD": ":".join(filter(None, (str(which), env.get("LD_PRELOAD", ""))))}


def is_told(who: Identity, variable: str) -> bool:
    """Whether a process was started with a file by which it is told what to do, its own or that of who started it."""
    return bool(_file_of(who.pid, variable))


def own_file(who: Identity, variable: str) -> tuple[Path | None, str]:
    """The file by which a process is told what to do, where it is its own; else why there is none."""
    path = _file_of(who.pid, variable)
    if not path:
        return None, "it was not started for this; only main processes that croupier starts are"
    stat = procs.read_stat(who.pid)
    if stat is not None and _file_of(stat.parent, variable) == path:
        return None, f"it is prepared together with process {stat.parent}, which started it: aim at that one"
    return (Path(path), "") if Path(path).exists() else (None, f"{path} is gone")


def maps(pid: int, text: str) -> bool:
    """Whether a process has a file of that name in its memory: a static or a setuid program has no library of ours."""
    try:
        return text in Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return False


def _file_of(pid: int, variable: str) -> str:
    mark = f"{variable}="
    return next((one.removeprefix(mark) for one in procs.environment(pid) if one.startswith(mark)), "")


def _compiler() -> str | None:
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
