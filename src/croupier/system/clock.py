"""The one clock of a round: monotonic, in whole microseconds, the same for every process of this machine.

Wall clocks jump; deadlines that cross a process border (croupier to guardian) are told on this one.
"""

from __future__ import annotations

import time


def now_us() -> int:
    """CLOCK_MONOTONIC in microseconds since an arbitrary moment that all processes of this boot share."""
    return time.monotonic_ns() // 1_000
