"""Samples: what the tree of each process uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from ..model.journal import Sampled
from ..model.target import Census
from ..system import procs
from ..system.procs import Usage

PidsByRole = Mapping[str, Iterable[int]]


class Sampler:
    """Takes samples one after another; each tells the CPU time used since the one before.

    Pids are compared, not identities: within a sampling interval the kernel does not come round to a number again, and
    one whose CPU time went down is taken for a new process. What a process used between the last sample and its end is
    not counted.
    """

    def __init__(
        self,
        usage: Callable[[Iterable[int]], Usage] = procs.usage,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._usage = usage
        self._clock = clock
        self._at: dict[str, float] = {}
        self._cpu: dict[str, dict[int, float]] = {}

    def take(self, trees: PidsByRole) -> tuple[Sampled, ...]:
        """One sample per role, in the order given. CPU is in per cent of one core; 0 in the first sample of a role."""
        return tuple(self._take(role, pids) for role, pids in trees.items())

    def _take(self, role: str, pids: Iterable[int]) -> Sampled:
        now = self._clock()
        before, since = self._cpu.get(role), now - self._at.get(role, now)
        cpu: dict[int, float] = {}
        used, rss, fds, threads = 0.0, 0, 0, 0
        for pid in pids:
            one = self._usage((pid,))
            if not one.threads:
                # It is gone.
                continue
            cpu[pid] = one.cpu_seconds
            rss, fds, threads = rss + one.rss_bytes, fds + one.fds, threads + one.threads
            if before is not None:
                earlier = before.get(pid, 0.0)
                used += one.cpu_seconds - earlier if one.cpu_seconds >= earlier else one.cpu_seconds
        self._cpu[role], self._at[role] = cpu, now
        return Sampled(
            process=role,
            cpu_percent=round(100 * used / since, 1) if since > 0 else 0.0,
            rss_bytes=rss,
            fds=fds,
            threads=threads,
            processes=len(cpu),
        )


def trees(census: Census) -> dict[str, list[int]]:
    """The pids of each role, for `Sampler.take`."""
    found: dict[str, list[int]] = {}
    for one in census:
        if one.role:
            found.setdefault(one.role, []).append(one.pid)
    return found
