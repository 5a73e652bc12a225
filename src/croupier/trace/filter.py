"""The filter that a workload runs under: which of its calls stop, as a classic BPF program for seccomp(2).

A call that changes nothing costs nothing: the kernel remembers which numbers are always let through. For the few whose
arguments decide (`open`, `mmap`, `mprotect`, `ioctl`), the filter looks at the arguments.
"""

from __future__ import annotations

import struct
from typing import Final

from .table import (
    CHANGING_IOCTLS,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_SHARED,
    O_CREAT,
    O_TMPFILE,
    O_TRUNC,
    PROT_WRITE,
    Machine,
)

ALLOW: Final = 0x7FFF_0000
NOTIFY: Final = 0x7FC0_0000
TRACE: Final = 0x7FF0_0000
_ERRNO: Final = 0x0005_0000
_ENOSYS: Final = 38

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JEQ: Final = 0x15
_JGE: Final = 0x35
_JSET: Final = 0x45
_RETURN: Final = 0x06

_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_X32_BIT: Final = 0x4000_0000
_NEW_LISTENER: Final = 8

_OPEN_FLAGS: Final = {"open": 1, "openat": 2, "open_by_handle_at": 2}

Line = tuple[int, int, int, int]


def program(machine: Machine, names: frozenset[str], refused: frozenset[str], stop: int, control: int = -1) -> bytes:
    """The filter as `struct sock_filter[]`. `stop` is what to answer for a call that must stop: NOTIFY or TRACE.

    Calls of `names` stop when they may change something, those of `refused` always; so does every call of another
    architecture, of which we then only say that it was there. `control` is a descriptor that sends freely, for the one
    that hands the listener over.
    """
    lines: list[Line] = [
        (_LOAD, 0, 0, _ARCH),
        (_JEQ, 1, 0, machine.audit),
        (_RETURN, 0, 0, stop),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine.x32:
        # Nobody has x32 programs, and a number with the bit would pass under the table.
        lines += [(_JGE, 0, 1, _X32_BIT), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    for name in sorted((names | refused) & machine.numbers.keys()):
        rule = _rule(name, stop, control)
        # Each rule ends in a return, so the number is still loaded for the next comparison.
        lines += [(_JEQ, 0, len(rule), machine.numbers[name]), *rule]
    # A tree has one listener, ours. A workload that wants its own is told EBUSY by the kernel, and we say so.
    own = _if_any(1, _NEW_LISTENER, stop)
    lines += [(_JEQ, 0, len(own), machine.numbers["seccomp"]), *own, (_RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _rule(name: str, stop: int, control: int) -> list[Line]:
    if name in _OPEN_FLAGS:
        return _if_any(_OPEN_FLAGS[name], O_CREAT | O_TRUNC | O_TMPFILE, stop)
    if name == "mprotect":
        return _if_any(2, PROT_WRITE, stop)
    if name == "madvise":
        return [
            (_LOAD, 0, 0, _argument(2)),
            (_JEQ, 0, 1, MADV_REMOVE),
            (_RETURN, 0, 0, stop),
            (_RETURN, 0, 0, ALLOW),
        ]
    if name == "mmap":
        return [
            (_LOAD, 0, 0, _argument(3)),
            (_JSET, 0, 2, MAP_SHARED),
            (_JSET, 1, 0, MAP_ANONYMOUS),
            (_RETURN, 0, 0, stop),
            (_RETURN, 0, 0, ALLOW),
        ]
    if name == "ioctl":
        requests = sorted(CHANGING_IOCTLS)
        return [
            (_LOAD, 0, 0, _argument(1)),
            *((_JEQ, len(requests) - place, 0, request) for place, request in enumerate(requests)),
            (_RETURN, 0, 0, ALLOW),
            (_RETURN, 0, 0, stop),
        ]
    if name in ("sendto", "sendmsg", "sendmmsg") and control >= 0:
        return [
            (_LOAD, 0, 0, _argument(0)),
            (_JEQ, 1, 0, control),
            (_RETURN, 0, 0, stop),
            (_RETURN, 0, 0, ALLOW),
        ]
    return [(_RETURN, 0, 0, stop)]


def _if_any(argument: int, bits: int, stop: int) -> list[Line]:
    return [
        (_LOAD, 0, 0, _argument(argument)),
        (_JSET, 0, 1, bits),
        (_RETURN, 0, 0, stop),
        (_RETURN, 0, 0, ALLOW),
    ]


def _argument(index: int) -> int:
    """Where the lower half of an argument is; both of our machines are little-endian."""
    return _ARGUMENTS + 8 * index
