"""Whose socket, or named pipe, is it: which process made, or takes, a connection of this machine.

Inodes of sockets are in /proc/PID/fd, and the ports that belong to them in /proc/net/tcp (proc(5)). For a Unix socket
the kernel itself says who is at the other end (unix(7), SO_PEERCRED).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from . import procs

_ESTABLISHED = "01"
_LISTEN = "0A"


def members(tops: Iterable[tuple[int, int]]) -> set[int]:
    """The pids of everybody at or below these, given as pid and start time; of those that still live."""
    found: set[int] = set()
    for pid, started in tops:
        stat = procs.read_stat(pid)
        if stat is not None and stat.started == started:
            found.update(procs.tree(pid), (pid,))
    return found


def inodes(pids: Iterable[int]) -> set[str]:
    """The inodes of the sockets that these hold open."""
    found: set[str] = set()
    for file in _open_files(pids):
        with suppress(OSError):
            link = os.readlink(file)  # noqa: PTH115 - thousands of times
            if link.startswith("socket:["):
                found.add(link[8:-1])
    return found


def have_open(pids: Iterable[int], paths: Iterable[str]) -> bool:
    """Whether one of these has one of these files open."""
    wanted = set()
    for path in paths:
        with suppress(OSError):
            wanted.add(_same(path))
    for file in _open_files(pids):
        with suppress(OSError):
            if _same(file) in wanted:
                return True
    return False


def _open_files(pids: Iterable[int]) -> Iterator[str]:
    """The path below /proc of everything that these have open."""
    for pid in pids:
        try:
            files = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - names only, and fast
        except OSError:
            continue
        yield from (f"/proc/{pid}/fd/{file}" for file in files)


def _same(path: str) -> tuple[int, int]:
    seen = os.stat(path)  # noqa: PTH116 - thousands of times
    return seen.st_dev, seen.st_ino


def tcp_inodes() -> tuple[dict[tuple[int, int], str], dict[int, set[str]]]:
    """Every TCP socket: local and remote port to the inode where it is connected, port to the inodes that listen."""
    connected: dict[tuple[int, int], str] = {}
    listening: dict[int, set[str]] = {}
    for part in _table("tcp"):
        local, remote = map(_number, part[1:3])
        if part[3] == _LISTEN:
            listening.setdefault(local, set()).add(part[9])
        elif part[3] == _ESTABLISHED:
            connected[local, remote] = part[9]
    return connected, listening


def holders(protocol: str, port: int) -> set[str]:
    """The inodes of the sockets that have a port of ours: those that listen on it, or with UDP are bound to it."""
    if protocol == "tcp":
        return tcp_inodes()[1].get(port, set())
    return {part[9] for part in _table("udp") if _number(part[1]) == port}


def _table(protocol: str) -> Iterator[list[str]]:
    """The lines of /proc/net for a protocol, of both versions of IP, as words."""
    for table in (protocol, f"{protocol}6"):
        try:
            yield from (line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        except OSError:
            continue


def _number(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def peer(one: socket.socket) -> tuple[int, int]:
    """Pid and user of whoever is at the other end of a Unix socket; of a listener's, who called listen(2)."""
    pid, uid, _ = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return pid, uid
