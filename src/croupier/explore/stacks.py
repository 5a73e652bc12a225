"""Where in a Python program a call is made, read from its memory while the call stands still: by py-spy, if there.

Nothing is stopped for it and nothing is loaded into the program (`--nonblocking`): it stands still already. Programs
that are not Python's have no stack here: whoever could read one (gdb, eu-stack) must stop the process by ptrace, which
does not work on a process that stands still in a filtered call.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

WITHIN_S = 3.0
MOST = 40
_INSTALLED = ("site-packages", "dist-packages", f"python{sys.version_info.major}.")


@cache
def tool() -> str:
    """The path of py-spy; "" where it is not installed (`pip install 'croupier[stacks]'`)."""
    own = str(Path(sys.executable).parent)
    return shutil.which("py-spy", path=os.pathsep.join((own, os.environ.get("PATH", os.defpath)))) or ""


def stack_of(pid: int, tid: int) -> tuple[str, ...]:
    """The frames of a thread, the innermost first: `file:line function`. () where there are none to be had.

    Frames of installed libraries in a row are folded into one line, those of the program are told in full.
    """
    if pid <= 0 or not tool():
        return ()
    try:
        said = subprocess.run(
            [tool(), "dump", "--pid", str(pid), "--nonblocking", "--json"],
            capture_output=True, timeout=WITHIN_S, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        threads = json.loads(said.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()
    mine = [one for one in threads if one.get("os_thread_id") == tid] or threads[:1]
    frames = mine[0].get("frames", []) if mine else []
    return folded(
        [(str(one.get("filename", "")), int(one.get("line") or 0), str(one.get("name", ""))) for one in frames]
    )


def folded(frames: list[tuple[str, int, str]]) -> tuple[str, ...]:
    """The frames in words, with those of libraries in a row as one line."""
    told: list[str] = []
    library = 0
    for file, line, name in frames:
        if any(part in file for part in _INSTALLED) or file.startswith("<"):
            library += 1
            continue
        if library:
            told.append(f"… {library} frame{'s' if library > 1 else ''} of libraries")
            library = 0
        told.append(f"{file}:{line} {name}")
    if library:
        told.append(f"… {library} frame{'s' if library > 1 else ''} of libraries")
    return tuple(told[:MOST])
