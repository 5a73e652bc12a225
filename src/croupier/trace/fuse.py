"""The third way: the state directory is a file system of ours (FUSE), which asks before it changes anything.

Where neither seccomp nor ptrace is allowed. Sees what reaches the files, the write-back of mappings included, and not
who asked for it. Needs /dev/fuse, libfuse and the extra `fuse` (mfusepy).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path
from typing import Any, Final

import msgspec

from ..model.errors import HarnessError
from .book import Traced
from .fuse_server import take_away
from .launch import Order
from .output import Outlet
from .seen import OnSeen, Seen, Workload
from .shim import KINDS

_MOUNTED_WITHIN_S: Final = 10.0
_PACE_S: Final = 0.005


def lacking() -> str:
    """What this machine lacks for it, in a sentence; "" if nothing. Nothing is mounted for it."""
    if sys.platform != "linux" or not Path("/dev/fuse").exists():
        return "there is no /dev/fuse here"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) and not shutil.which("fusermount3"):
        return "this user may not open /dev/fuse, and there is no fusermount3"
    if importlib.util.find_spec("mfusepy") is None:
        return "mfusepy is not installed (pip install 'croupier[fuse]')"
    if not (find_library("fuse3") or find_library("fuse")):
        return "libfuse is not installed (apt-get install libfuse3-3 fuse3)"
    return ""


@contextmanager
def shown(state: Path, below: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have what is in `state` live in `below`, and be shown at `state` through FUSE; back again at the end."""
    state.rename(below)
    state.mkdir()
    server = None
    try:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "croupier.trace.fuse_server", str(below), str(state), address],
            # It takes its mount away when this closes, however we end.
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        end = time.monotonic() + _MOUNTED_WITHIN_S
        while not os.path.ismount(state):
            if server.poll() is not None or time.monotonic() > end:
                assert server.stderr is not None
                said = server.stderr.read().decode(errors="replace").strip().splitlines() if server.poll() else ["late"]
                raise HarnessError(f"the directory could not be shown through FUSE: {said[-1] if said else ''}")
            time.sleep(_PACE_S)
        yield server
    finally:
        take_away(str(state))
        if server is not None:
            server.kill()
            server.communicate()
        state.rmdir()
        below.rename(state)


class Watch:
    """One workload on a state directory that is shown through FUSE."""

    def __init__(self, root: Path, below: Path, on_call: OnSeen, moved: Callable[[Path], None]) -> None:
        self._moved = moved
        self._root = root
        self._below = below
        self._on_call = on_call
        self._index = 0

    def run(self, order: Order, outlet: Outlet) -> Traced:
        """Start the workload and answer until it has ended. Raises what the handler raises."""
        with tempfile.TemporaryDirectory(prefix="croupier-fuse-") as place:
            address = str(Path(place) / "line")
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(address)
            listening.listen(1)
            workload = Workload(order, outlet)
            serving = threading.Thread(target=self._serve, args=(listening, workload), daemon=True)
            serving.start()
            try:
                with listening, shown(self._root, self._below, address) as server:
                    # Whoever waits for an answer of ours dies only when nobody is left who could give it.
                    workload.let_die = server.kill
                    self._moved(self._below)
                    workload.start()
                    while workload.wait():
                        time.sleep(_PACE_S)
                    traced = workload.finish("fuse", self._index, ())
            finally:
                self._moved(self._root)
        if workload.problem is not None:
            raise workload.problem
        return traced

    def _serve(self, listening: socket.socket, workload: Workload) -> None:
        try:
            line, _ = listening.accept()
        except OSError:
            return
        with line, line.makefile("rwb", buffering=0) as told:
            while raw := told.readline():
                answer = self._answer(msgspec.json.decode(raw), workload)
                if answer is None:
                    # Never answered: the request stands still until the mount is gone.
                    threading.Event().wait(60)
                    return
                told.write(answer)

    def _answer(self, said: dict[str, Any], workload: Workload) -> bytes | None:
        if workload.ended:
            return None
        self._index += 1
        seen = Seen(
            index=self._index, name=said["call"], kind=KINDS.get(said["call"], "other"),
            path=str(self._root) + said["path"], path2=str(self._root) + said["path2"] if said.get("path2") else "",
            offset=said.get("offset"), length=said.get("length"), data=bytes.fromhex(said.get("data", "")),
            at_us=workload.at_us,
        )  # fmt: skip
        return workload.answer(seen, self._on_call, self._below / said["path"].lstrip("/"))
