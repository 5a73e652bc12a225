"""The file by which the shim of calls is told what goes wrong, and tells what it met (`call_shim.c`)."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

SHIM = "call"
"""The name of the shim."""
VARIABLE = "CROUPIER_CALLS"
"""Names the file, in the environment of a process that was started for it."""
# The order is that of the source.
CALLS = (
    "open", "openat", "creat", "read", "pread64", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat",
    "renameat2", "unlink", "unlinkat", "connect", "sendto", "recvfrom",
)  # fmt: skip
"""What can go wrong. Sends and receives of the C library are known by the system call that they make."""
CAN_BE_CUT = frozenset(("read", "pread64", "write", "pwrite64", "sendto", "recvfrom"))
DOINGS = ("fail", "delay", "short")
KINDS = ("any", "file", "dir", "socket", "pipe")
MOST_PATH = 511
_MAGIC = b"croupcal"
_RULE = struct.Struct("=8sIIiIQQQQQQQ512s")
_ACTIVE_AT = 8
_COUNTS = struct.Struct("=QQ")
_COUNTS_AT = 64


class Told(NamedTuple):
    """One rule, as numbers."""

    calls: tuple[str, ...]
    do: str
    errno: int
    kind: str
    delay_us: int
    bytes: int
    nth: int
    every: int
    path: str


def make(file: Path) -> None:
    """Make it, with no rule in force. Raises OSError."""
    file.write_bytes(_MAGIC.ljust(_RULE.size, b"\0"))
    # Whoever lives by it counts in it, under another user as well.
    file.chmod(0o666)


def put_in_force(file: Path, told: Told) -> None:
    """Have it from the next call on, counted from 0. Raises OSError."""
    wanted = sum(1 << CALLS.index(one) for one in told.calls)
    data = _RULE.pack(
        _MAGIC, 0, 1 + DOINGS.index(told.do), told.errno, KINDS.index(told.kind), wanted, told.delay_us, told.bytes,
        told.nth, told.every, 0, 0, told.path.encode(),
    )  # fmt: skip
    with file.open("r+b", buffering=0) as out:
        out.write(data)
        # Last, and in one byte: nobody sees half a rule.
        os.pwrite(out.fileno(), b"\1", _ACTIVE_AT)


def lift(file: Path) -> None:
    """From now on calls go on as before, those that are held as well. Raises OSError."""
    with file.open("r+b", buffering=0) as out:
        os.pwrite(out.fileno(), b"\0", _ACTIVE_AT)


def is_in_force(file: Path) -> bool:
    """Whether there is a rule. Raises OSError."""
    return file.read_bytes()[_ACTIVE_AT] != 0


def met(file: Path) -> tuple[int, int]:
    """How many calls matched, and how many went wrong, since the rule was put in force. Raises OSError."""
    seen, hits = _COUNTS.unpack_from(file.read_bytes(), _COUNTS_AT)
    return int(seen), int(hits)
