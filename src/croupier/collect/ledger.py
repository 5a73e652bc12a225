"""The ledger of acknowledgements: what the workload printed as `ack ID`, in the file that checks read."""

from __future__ import annotations

import errno
import os
from array import array
from bisect import bisect_left
from pathlib import Path

EXAMPLES = 5
_SHELVES = 4096


class AckLedger:
    """Appends `ack ID` lines, each by one write, so that whoever opens the file sees every one taken so far.

    The id is the first word after `ack`. Only whole lines may be handed in: a line that was cut would promise an id
    that nobody gave.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, and make it if need be. Raises OSError where the disk says no."""
        self.path = path
        self.count = 0
        """How many acknowledgements were taken, repeated ones included."""
        self.repeats = 0
        """How many of them were of an id that had been acknowledged before: a finding about the workload."""
        self.repeated: dict[str, int] = {}
        """The first few of these ids, with how often more."""
        self.trouble = ""
        """Why the ledger is no longer whole, in a sentence; "" while it is. Then nothing more is written to it."""
        self._seen = _Seen()
        self._fd: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def take(self, line: str) -> bool:
        """Take a line of the workload's output; whether it was an acknowledgement. Never raises for the disk."""
        if not line.startswith("ack ") or not (words := line.split(maxsplit=2)[1:2]):
            return False
        ack = words[0]
        self.count += 1
        if not self._seen.add(ack):
            self.repeats += 1
            if ack in self.repeated or len(self.repeated) < EXAMPLES:
                self.repeated[ack] = self.repeated.get(ack, 0) + 1
        self._append(f"ack {ack}\n".encode(errors="replace"))
        return True

    def said_of_repeats(self) -> str:
        """The finding in a sentence; "" where every id came once."""
        if not self.repeats:
            return ""
        came = "1 acknowledgement was" if self.repeats == 1 else f"{self.repeats} acknowledgements were"
        more = ", …" if sum(self.repeated.values()) < self.repeats else ""
        return f"{came} of an id that had been acknowledged before ({', '.join(self.repeated)}{more})"

    def close(self) -> None:
        """Close the file. Twice is once."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _append(self, line: bytes) -> None:
        if self._fd is None:
            return
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                # Half an id is the id of somebody else.
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
                raise OSError(errno.ENOSPC, "there was only room for a part of a line")
        except OSError as problem:
            self.trouble = (
                f"the ledger could not be written after {self.count - 1} acknowledgements: {problem.strerror}"
            )
            self.close()


class _Seen:
    """Which ids came before, in about nine bytes each: 64 bits of each one's hash, sorted on many small shelves.

    Two of a million different ids have the same 64 bits in one of thirty million rounds.
    """

    def __init__(self) -> None:
        self._shelves = [array("Q") for _ in range(_SHELVES)]

    def add(self, ack: str) -> bool:
        """Put it on its shelf; whether it was not there yet."""
        mark = hash(ack) & 0xFFFF_FFFF_FFFF_FFFF
        shelf = self._shelves[mark % _SHELVES]
        at = bisect_left(shelf, mark)
        if at < len(shelf) and shelf[at] == mark:
            return False
        shelf.insert(at, mark)
        return True
