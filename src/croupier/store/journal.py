"""The journal on disk: one JSON object a line, appended, with the kernel before the act that it announces.

A line is handed to the kernel by one `write`, so that it survives the death of croupier at any moment; `sync` also
puts it on the disk. A journal that was cut at any byte still reads: the torn last line is left out.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..model import journal as j
from ..model.errors import HarnessError, ReplayError
from ..model.units import read_quantity, write_quantity
from ..system.clock import now_us

_encoder = msgspec.json.Encoder(enc_hook=write_quantity)
_decoder: msgspec.json.Decoder[j.AnyEvent] = msgspec.json.Decoder(j.AnyEvent, dec_hook=read_quantity)


class JournalWriter:
    """Appends events; thread-safe. `zero_us` is the moment from which their `at_us` counts."""

    def __init__(self, path: Path, zero_us: int) -> None:
        """Create the file; it must not be there yet. Raises HarnessError where the disk says no."""
        self.zero_us = zero_us
        self.path = path
        self._lock = threading.Lock()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as problem:
            raise HarnessError(f"the journal cannot be created: {problem.strerror}", at=str(path)) from problem

    def record(self, event: j.Event) -> j.Event:
        """Stamp the event with the time, append it, and give it back as it was written.

        Raises HarnessError when it cannot be written: what is not on disk must not be done.
        """
        with self._lock:
            stamped = msgspec.structs.replace(event, at_us=now_us() - self.zero_us)
            line = _encoder.encode(stamped) + b"\n"
            try:
                written = os.write(self._fd, line)
                if written != len(line):
                    # The disk is nearly full: take the torn line back, so that the next one is not glued to it.
                    os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
                    raise HarnessError("the journal cannot be written: no space left", at=str(self.path))
            except OSError as problem:
                raise HarnessError(f"the journal cannot be written: {problem.strerror}", at=str(self.path)) from problem
        return stamped

    def sync(self) -> None:
        """Put what was written on the disk itself."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Sync, and close."""
        try:
            self.sync()
        finally:
            os.close(self._fd)


def read_journal(path: Path) -> Iterator[j.AnyEvent]:
    """The events of a journal, in order, one at a time. A torn last line is left out.

    Raises ReplayError for a file that cannot be read, or a line in the middle that is no event.
    """
    try:
        file = path.open("rb")
    except OSError as problem:
        raise ReplayError(
            f"the journal cannot be read: {problem.strerror}",
            at=str(path),
            hint="see `croupier runs` for what there is",
        ) from problem
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip(b"\n"):
                continue
            try:
                event = _decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as problem:
                if not line.endswith(b"\n") or not file.peek(1):
                    return
                raise ReplayError(
                    f"this line is no event of a journal: {problem}",
                    at=f"{path}:{number}",
                    hint="the file was changed, or written by another version of croupier",
                ) from problem
            if isinstance(event, j.RunStarted) and event.journal != j.JOURNAL_VERSION:
                raise ReplayError(
                    f"this journal has version {event.journal}, and version {j.JOURNAL_VERSION} is read here",
                    at=f"{path}:{number}",
                    hint=f"it was written by croupier {event.croupier}",
                )
            yield event
