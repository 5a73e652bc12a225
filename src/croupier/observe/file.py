"""The probe *file*: a file exists (or not), holds a text, keeps to a size, grows, or was written lately.

`matches` is tried on each line by itself, as grep does; `contains` may run over lines.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ..model.probe import File, Reading
from .answer import Deadline, answering, in_time, no, size, span, unknown, yes
from .view import View

_PART = 1 << 20
_LONGEST_LINE = 64 * 1024


@answering
def read(probe: File, view: View) -> Reading:
    """Look at the file, on a thread that can be left behind: a dead file system holds up whoever asks it."""
    path = view.cwd / probe.path
    deadline = Deadline(probe.within_ms)
    try:
        return in_time(f"file {path}", lambda: _look(probe, path, view, deadline), probe.within_ms)
    except TimeoutError as problem:
        return unknown(f"it could not be read within {probe.within_ms}{f': {problem}' if str(problem) else ''}")
    except OSError as problem:
        return unknown(f"it cannot be read: {problem.strerror or problem}")


def _look(probe: File, path: Path, view: View, deadline: Deadline) -> Reading:
    try:
        about = path.stat()
    except OSError as problem:
        if problem.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return no("it does not exist") if probe.exists else yes("it does not exist")
    if not probe.exists:
        return no(f"it exists, with {size(about.st_size)}")
    wrong = _wrong_size(probe, view, about.st_size) or _wrong_age(probe, about.st_mtime)
    if wrong is not None:
        return wrong
    if probe.contains or probe.matches:
        if not stat.S_ISREG(about.st_mode):
            return unknown("it is no regular file, so its content cannot be asked for")
        return _look_inside(probe, path, deadline)
    return yes(f"it exists, with {size(about.st_size)}", bytes=about.st_size)


def _wrong_size(probe: File, view: View, count: int) -> Reading | None:
    if probe.at_least is not None and count < probe.at_least:
        return no(f"it has {size(count)}, which is less than {probe.at_least}", bytes=count)
    if probe.at_most is not None and count > probe.at_most:
        return no(f"it has {size(count)}, which is more than {probe.at_most}", bytes=count)
    if probe.grows_by is None:
        return None
    before = view.baseline.get(probe.path)
    if before is None:
        return unknown("its size was not taken when the round began, so nobody knows whether it grew")
    if count - before < probe.grows_by:
        grew = f"grew by {size(count - before)}" if count >= before else f"shrank by {size(before - count)}"
        return no(f"it {grew} since the round began, and {probe.grows_by} were asked for", bytes=count, before=before)
    return None


def _wrong_age(probe: File, modified: float) -> Reading | None:
    if probe.fresh_ms is None:
        return None
    age_ms = max(0, round((time.time() - modified) * 1_000))
    if age_ms <= probe.fresh_ms:
        return None
    return no(f"it was last written {span(age_ms)} ago, which is more than {probe.fresh_ms}", age_ms=age_ms)


def _look_inside(probe: File, path: Path, deadline: Deadline) -> Reading:
    if probe.contains and not _contains(path, probe.contains.encode(), deadline):
        return no(f"{probe.contains!r} is not in it")
    if probe.matches:
        try:
            pattern = re.compile(probe.matches)
        except re.error as problem:
            return unknown(f"/{probe.matches}/ is no regular expression: {problem}")
        if not any(pattern.search(line) for line in _lines(path, deadline)):
            return no(f"no line of it matches /{probe.matches}/")
    return yes("it holds what it should")


def _contains(path: Path, wanted: bytes, deadline: Deadline) -> bool:
    kept = b""
    for part in _parts(path, deadline):
        if wanted in kept + part:
            return True
        # What is looked for may lie over the border of two parts.
        kept = (kept + part)[-(len(wanted) - 1) :] if len(wanted) > 1 else b""
    return False


def _lines(path: Path, deadline: Deadline) -> Iterator[str]:
    kept = b""
    for part in _parts(path, deadline):
        *whole, kept = (kept + part).split(b"\n")
        for line in whole:
            yield line[:_LONGEST_LINE].decode(errors="replace")
        kept = kept[:_LONGEST_LINE]
    if kept:
        yield kept.decode(errors="replace")


def _parts(path: Path, deadline: Deadline) -> Iterator[bytes]:
    # Without O_NONBLOCK, a pipe that took the file's place meanwhile would hold us.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while part := os.read(file, _PART):
            deadline.left()
            yield part
    finally:
        os.close(file)
