"""Loaded by every Python of a process that an experiment forces to collect: a signal has it collect all its garbage.

Found by PYTHONPATH, before any module of the program. It imports nothing of croupier, and does nothing until the signal
comes. How often it has collected, and how long that took, stands in a file that is named by the number of the process.
"""

# mypy: ignore-errors
# ruff: noqa: PTH100, PTH118, PTH120 - loaded before the program: as little as can be

import gc
import os
import signal
import sys
import time

_PLACE = os.environ.get("CROUPIER_COLLECTIONS", "")
_done = {}


def _collect(number, frame):
    began = time.perf_counter()
    gc.collect()
    took_us = int((time.perf_counter() - began) * 1e6)
    # By number, so that a child that was forked counts for itself.
    count, total_us = _done.get(os.getpid(), (0, 0))
    _done[os.getpid()] = count, total_us = count + 1, total_us + took_us
    try:
        # Of one length, so that it is whole whenever it is read.
        file = os.open(os.path.join(_PLACE, str(os.getpid())), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.write(file, b"%10d %16d\n" % (count, total_us))
        os.close(file)
    except OSError:
        pass


if _PLACE:
    try:
        signal.signal(int(os.environ["CROUPIER_COLLECT_AT"]), _collect)
    except (KeyError, OSError, ValueError):
        pass

# Whoever had a sitecustomize of their own still has it.
_own = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [one for one in sys.path if os.path.abspath(one or ".") != _own]
_this = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # noqa: F401
except ImportError:
    if _this is not None:
        sys.modules["sitecustomize"] = _this
