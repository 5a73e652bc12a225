"""Slow_io: reads, writes and syncs of files take their time, by the same watch and the same rules as `syscall`."""

from __future__ import annotations

from typing import Any

from ..model.fault import Fault
from ..model.faults.syscall import SlowIo
from .syscall import SyscallInjector


class SlowIoInjector(SyscallInjector):
    """Carries out `slow_io`."""

    kind = "slow_io"
    spec: type[Fault] = SlowIo
    summary = "Have reads, writes and syncs of files take their time, or hang: a slow disk for one process."
    heals = "The rule is lifted, and seen to be; calls that are held go on at once."
    example = 'slow_io: {of: [write, sync], path: "*.db", bandwidth: 64KiB, delay: 20ms, for: 3s}'

    def lacking(self, fault: Any) -> str:
        """Whether anything is to be slow at all; whether calls can be watched is asked by the round that watches."""
        if not (fault.bandwidth_bytes or fault.per_second or fault.delay_ms or fault.hang):
            return "it slows nothing: give one of bandwidth, per_second, delay, hang"
        return ""


INJECTOR = SlowIoInjector()
