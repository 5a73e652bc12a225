"""From an operation of the trace to the hint that a recorder wants; and where a write may be torn."""

from __future__ import annotations

from collections.abc import Iterator

from ..model.search import Operation
from .content import CHUNK
from .record import Touched

_RENAME_EXCHANGE = 2
_COLLAPSE_RANGE = 0x08
_INSERT_RANGE = 0x20


def touched(operation: Operation) -> tuple[Touched, ...]:
    """What an operation may have changed, rather too much than too little. Empty for what changes no state."""
    path, path2 = operation.path, operation.path2
    if operation.kind in ("sync", "sync-range", "spawn", "output"):
        return ()
    if operation.outside or path.startswith("/") or not path:
        # One end of a rename or link may be in the state nevertheless; and an attribute may be the directory's own.
        if operation.kind in ("rename", "link"):
            return tuple(Touched(path=one) for one in (path, path2) if one and not one.startswith("/"))
        return (Touched(path="", length=0),) if operation.kind in ("attr", "xattr") and not operation.outside else ()
    match operation.kind:
        case "rename" | "link" if path2.startswith("/"):
            return (Touched(path=path),)
        case "rename" if operation.flags & _RENAME_EXCHANGE:
            return Touched(path=path), Touched(path=path2)
        case "rename":
            return Touched(path=path, length=0), Touched(path=path2, source=path), Touched(path=path2, length=0)
        case "link":
            return Touched(path=path, length=0), Touched(path=path2, source=path)
        case "unlink" | "rmdir" | "attr" | "xattr":
            return (Touched(path=path, length=0),)
        case "write" | "msync" | "splice" | "copy" if operation.offset is not None and operation.length is not None:
            return (Touched(path=path, offset=operation.offset, length=max(1, operation.length)),)
        case "allocate" if operation.offset is not None and operation.length is not None:
            moves = operation.flags & (_COLLAPSE_RANGE | _INSERT_RANGE)
            return (Touched(path=path, offset=operation.offset, length=None if moves else operation.length),)
        case "truncate" if operation.length is not None and operation.offset is None:
            return (Touched(path=path, offset=operation.length),)
        case "create":
            # Whatever is there may have been opened only: its bytes are as they were, unless it is new.
            return (Touched(path=path, length=0),)
        case _:
            return (Touched(path=path),)


def cuts(offset: int, length: int) -> Iterator[int]:
    """After how many of its bytes a write may be cut: one, and wherever it comes to a new page of 4 KiB."""
    if length > 1:
        yield 1
    first = CHUNK - offset % CHUNK
    yield from (at for at in range(first, length, CHUNK) if at > 1)
