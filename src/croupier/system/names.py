"""Names: who on the whole machine is called so, asked again and again.

Reading a name costs three calls into the kernel (open, read, close), which is most of what finding by name costs. An
open file is bound to its process and not to the number: once that process has ended, reading it fails, whoever carries
the number by then. So files are kept open, and from the second question on a name costs one read.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from fnmatch import translate
from typing import Self

_LONGEST = 64
# The rest stays for what the program itself opens.
_SHARE_OF_FILES = 4


class Names:
    """The short names of all processes. Holds up to a quarter of the descriptors that this process may open."""

    def __init__(self, most: int | None = None) -> None:
        """`most` is how many files are kept open; the names of further processes are read the long way."""
        self._files: dict[str, int] = {}
        self._most = _file_limit() // _SHARE_OF_FILES if most is None else most
        self._lock = threading.Lock()

    def matching(self, pattern: str) -> list[int]:
        """The numbers of all processes whose name matches a glob."""
        holds = _question(pattern)
        with self._lock:
            numbers = [name for name in os.listdir("/proc") if name[0] in "123456789"]  # noqa: PTH208 - names only
            self._forget(self._files.keys() - set(numbers))
            return [int(number) for number in numbers if holds(self._read(number))]

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            self._forget(set(self._files))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _read(self, number: str) -> bytes:
        file = self._files.get(number)
        if file is not None:
            try:
                return os.pread(file, _LONGEST, 0)
            except OSError:
                # It has ended, and the number is somebody else's by now.
                self._forget({number})
        try:
            file = os.open("/proc/" + number + "/comm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            name = os.read(file, _LONGEST)
        except OSError:
            name = b""
        if name and len(self._files) < self._most:
            self._files[number] = file
        else:
            os.close(file)
        return name

    def _forget(self, numbers: set[str]) -> None:
        for number in numbers:
            os.close(self._files.pop(number))


def _question(pattern: str) -> Callable[[bytes], object]:
    # Names may hold anything but the newline at the end; compared as bytes, decoded only for a glob.
    if not any(mark in pattern for mark in "*?["):
        return (os.fsencode(pattern) + b"\n").__eq__
    expression = re.compile(translate(pattern))
    return lambda name: bool(name) and expression.match(os.fsdecode(name[:-1]))


def _file_limit() -> int:
    import resource  # not there on Windows, and neither is /proc

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_024 if soft == resource.RLIM_INFINITY else soft
