"""Kills by the kernel for want of memory, told from other SIGKILLs by what the kernel counts.

The machine's count (`/proc/vmstat`) having grown since it was last looked at says that somebody was killed so. Where
the dead process's own cgroup counts as well (v2, `memory.events`), that says whether it was one of its own: certain.
Without it the answer is a strong hint, no more: on a machine of many tenants somebody else may have been meant.
"""

from __future__ import annotations

from pathlib import Path


class Counter:
    """Remembers the counts, and says whether they grew."""

    def __init__(self) -> None:
        self._machine = _count("/proc/vmstat")
        self._root = _unified_root()
        path = self._events_of("self")
        self._cgroups = {path: _count(path)} if path else {}

    def counted(self, pid: int) -> bool:
        """Whether a kill for want of memory was counted since the last call, for this process as far as we can tell.

        `pid` may be a zombie. False on a kernel that does not count (before 4.13).
        """
        before, self._machine = self._machine, _count("/proc/vmstat")
        grew = self._machine > before >= 0
        path = self._events_of(str(pid))
        if not path:
            return grew
        known, now = self._cgroups.get(path, -1), _count(path)
        self._cgroups[path] = now
        return now > known if now >= 0 and known >= 0 else grew

    def _events_of(self, pid: str) -> str:
        for line in _text(f"/proc/{pid}/cgroup").splitlines():
            number, _, path = line.split(":", 2)
            if number == "0" and self._root:
                return f"{self._root}{path.rstrip('/')}/memory.events"
        return ""


def _unified_root() -> str:
    for line in _text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return before.split()[4]
    return ""


def _count(path: str) -> int:
    """The number after `oom_kill`; -1 where nobody counts."""
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return -1


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
