"""The fourth way: inside of a Python program, by a module that it loads first. Any system; blind to libraries in C.

Each change that goes through `os` or an opened file stands still until it is answered. What a library in C does, as
sqlite or lmdb, is not seen; the snapshot at the end tells that it happened, and then nothing is proven.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from .book import Traced
from .launch import Order
from .output import Outlet
from .seen import OnSeen, Seen, Workload
from .table import Kind

_HOME: Final = str(Path(__file__).with_name("shimmed"))
KINDS: Final[dict[str, Kind]] = {
    "write": "write", "ftruncate": "truncate", "truncate": "truncate", "create": "create", "open-trunc": "open-trunc",
    "rename": "rename", "link": "link", "symlink": "symlink", "unlink": "unlink", "mkdir": "mkdir", "rmdir": "rmdir",
    "chmod": "attr", "chown": "attr", "utime": "attr", "fallocate": "allocate", "mkfifo": "create", "fsync": "sync",
    "fdatasync": "sync", "copy": "copy",
}  # fmt: skip
"""What the words of the shim, and of the file system of ours, mean."""
_PACE_S: Final = 0.005
BLIND: Final = "a shim inside of Python watched: what a library in C did could not be seen when it was done"


class Watch:
    """One workload, watched from within."""

    def __init__(self, on_call: OnSeen) -> None:
        self._on_call = on_call
        self._one_at_a_time = threading.Lock()
        self._index = 0
        self._pids: dict[int, int] = {}
        self._threads: dict[tuple[int, int], int] = {}

    def run(self, order: Order, outlet: Outlet) -> Traced:
        """Start the workload and answer until it has ended. Raises what the handler raises."""
        with tempfile.TemporaryDirectory(prefix="croupier-shim-") as place:
            address = str(Path(place) / "line")
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(address)
            listening.listen(64)
            workload = Workload(order, outlet)
            path = os.pathsep.join(filter(None, (_HOME, order.env.get("PYTHONPATH", ""))))
            workload.start({"CROUPIER_SHIM": address, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"})
            threading.Thread(target=self._accept, args=(listening, workload), daemon=True).start()
            while workload.wait():
                time.sleep(_PACE_S)
            traced = workload.finish("shim", self._index, () if self._index else (BLIND,))
            listening.close()
        if workload.problem is not None:
            raise workload.problem
        return traced

    def _accept(self, listening: socket.socket, workload: Workload) -> None:
        while True:
            try:
                line, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line, workload), daemon=True).start()

    def _serve(self, line: socket.socket, workload: Workload) -> None:
        with line, line.makefile("rwb", buffering=0) as told:
            while raw := told.readline():
                with self._one_at_a_time:
                    if workload.ended:
                        return
                    answer = self._answer(msgspec.json.decode(raw), workload)
                if answer is None:
                    return
                try:
                    told.write(answer)
                except OSError:
                    return

    def _answer(self, said: dict[str, Any], workload: Workload) -> bytes | None:
        """`go`, or `fail ERRNO`; None where the workload was ended instead."""
        self._index += 1
        pid = int(said["pid"])
        thread = (pid, int(said["thread"]))
        seen = Seen(
            index=self._index, name=said["call"], kind=KINDS.get(said["call"], "other"), path=said["path"],
            path2=said["path2"], offset=said["offset"], length=said["length"], data=bytes.fromhex(said["data"]),
            pid=pid, process=self._pids.setdefault(pid, len(self._pids) + 1), at_us=workload.at_us,
            thread=self._threads.setdefault(thread, sum(one == pid for one, _ in self._threads) + 1),
        )  # fmt: skip
        return workload.answer(seen, self._on_call, Path(seen.path))
