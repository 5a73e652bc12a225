"""What a core dump says of itself: whose memory it is, and which program ran.

Only the notes of 64-bit little-endian dumps are read (x86-64, arm64 and most others); see elf(5) and the structures
`elf_prpsinfo` and NT_FILE in the kernel's include/linux/elfcore.h and fs/binfmt_elf.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..model.noun import Noun

_CORE = 4
_NOTE_SEGMENT = 4
_PSINFO, _AUXV, _FILES = 3, 6, 0x46494C45
_AT_ENTRY = 9
_MOST_NOTES = 64 << 20
_MOST_SEGMENTS = 65_535


class CoreNotes(Noun, frozen=True, kw_only=True):
    """`pid` is the process's (not the thread's); `program` the path of its executable, "" where it cannot be told."""

    pid: int = 0
    program: str = ""


def read_notes(path: Path) -> CoreNotes | None:
    """What a dump says of itself; None for a file that is none. A dump of another kind says nothing (pid 0)."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:4] != b"\x7fELF":
                return None
            if head[4] != 2 or head[5] != 1:
                return CoreNotes()
            if struct.unpack_from("<H", head, 16)[0] != _CORE:
                return None
            return _understand(file, head)
    except (OSError, struct.error, ValueError):
        return None


def _understand(file: BinaryIO, head: bytes) -> CoreNotes:
    pid, entry, mapped = 0, 0, b""
    for kind, body in _notes(file, head):
        if kind == _PSINFO:
            (pid,) = struct.unpack_from("<i", body, 24)
        elif kind == _AUXV:
            pairs = struct.iter_unpack("<QQ", body[: len(body) // 16 * 16])
            entry = next((value for key, value in pairs if key == _AT_ENTRY), 0)
        elif kind == _FILES:
            mapped = body
    return CoreNotes(pid=pid, program=_program(mapped, entry))


def _notes(file: BinaryIO, head: bytes) -> Iterator[tuple[int, bytes]]:
    (table,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
    if size < 56:
        return
    file.seek(table)
    segments = file.read(size * min(count, _MOST_SEGMENTS))
    for at in range(0, len(segments) - size + 1, size):
        (kind,) = struct.unpack_from("<I", segments, at)
        offset, length = struct.unpack_from("<Q", segments, at + 8)[0], struct.unpack_from("<Q", segments, at + 32)[0]
        if kind == _NOTE_SEGMENT:
            file.seek(offset)
            yield from _split(file.read(min(length, _MOST_NOTES)))


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 12 <= len(data):
        name_size, body_size, kind = struct.unpack_from("<III", data, at)
        start = at + 12 + (name_size + 3) // 4 * 4
        yield kind, data[start : start + body_size]
        at = start + (body_size + 3) // 4 * 4


def _program(mapped: bytes, entry: int) -> str:
    """The file that was mapped where the program begins."""
    if len(mapped) < 16 or not entry:
        return ""
    count = struct.unpack_from("<Q", mapped)[0]
    names = mapped[16 + 24 * count :].split(b"\0")
    for nth in range(min(count, len(names))):
        start, end, _ = struct.unpack_from("<QQQ", mapped, 16 + 24 * nth)
        if start <= entry < end:
            return names[nth].decode(errors="surrogateescape")
    return ""
