"""What says on disk that a round is running: a record in its run directory, and a pointer to it in the state home.

`croupier halt` and `croupier recover` find rounds by these from anywhere, whatever became of the processes. The
guardian writes them before it is ready and removes them when everything is healed; a dead machine leaves them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from ..model.noun import Noun
from ..model.target import Identity
from ..model.undo import UndoStep

RECORD = "running.json"
UNDO = "undo.jsonl"
HALT = "halt"


class Running(Noun, frozen=True, kw_only=True):
    """A round that was begun and has not been put back yet."""

    run: str
    croupier: Identity
    guardian: Identity
    started: str
    """Wall clock, UTC, for people."""
    plugins: tuple[str, ...] = ()


def state_home() -> Path:
    """`$XDG_STATE_HOME/croupier`, by default below `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME", "")
    # The specification says to ignore a path that is not absolute.
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "croupier"


def write_running(run_dir: Path, running: Running) -> None:
    """Put the record on disk, and the pointer to it where that can be written. Raises OSError for the record."""
    _write_whole(run_dir / RECORD, msgspec.json.encode(running) + b"\n")
    try:
        pointer = _pointer(running.run)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(pointer, msgspec.json.encode({"run_dir": str(run_dir.resolve())}) + b"\n")
    except OSError:
        # A home that cannot be written (a container's) only means that `halt` and `recover` need to be told where.
        pass


def remove_running(run_dir: Path, run: str) -> None:
    """Everything is healed: take record and pointer away."""
    for path in (run_dir / RECORD, _pointer(run)):
        try:
            path.unlink(missing_ok=True)
        except OSError:
            # What cannot be removed is looked at again by `recover`, which then finds nothing to heal.
            continue


def read_running(run_dir: Path) -> Running | None:
    """The record of a run directory; None where there is none, or it cannot be read."""
    try:
        return msgspec.json.decode((run_dir / RECORD).read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None


def active_runs(home: Path | None = None) -> list[Path]:
    """The run directories that the state home points to, oldest first. Pointers to nothing are taken away."""
    found: list[tuple[float, Path]] = []
    try:
        pointers = sorted(((home or state_home()) / "active").glob("*.json"))
    except OSError:
        return []
    for pointer in pointers:
        try:
            run_dir = Path(msgspec.json.decode(pointer.read_bytes(), type=dict[str, str])["run_dir"])
            if run_dir.is_dir():
                found.append((pointer.stat().st_mtime, run_dir))
            else:
                pointer.unlink(missing_ok=True)
        except (OSError, KeyError, msgspec.MsgspecError):
            continue
    return [run_dir for _, run_dir in sorted(found)]


def read_steps(run_dir: Path) -> list[UndoStep]:
    """The undo log so far; a last line that was cut, and any that cannot be read, are left out."""
    try:
        lines: Sequence[bytes] = (run_dir / UNDO).read_bytes().splitlines()
    except OSError:
        return []
    steps = []
    for line in lines:
        try:
            steps.append(msgspec.json.decode(line, type=UndoStep))
        except msgspec.MsgspecError:
            continue
    return steps


class UndoLog:
    """Writes the undo log: each line is on the disk before `write` returns."""

    def __init__(self, run_dir: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(run_dir / UNDO, flags, 0o644)
        self._encode = msgspec.json.Encoder().encode
        self._mend()

    def write(self, step: UndoStep) -> None:
        """Append one step. Raises OSError where it cannot be kept, and then leaves no part of it behind."""
        before = os.lseek(self._file, 0, os.SEEK_END)
        line = self._encode(step) + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(28, os.strerror(28))
            os.fdatasync(self._file)
        except OSError:
            try:
                os.ftruncate(self._file, before)
            except OSError:
                pass
            raise

    def close(self) -> None:
        """Let go."""
        os.close(self._file)

    def _mend(self) -> None:
        # After a cut line, the next must not be glued to it.
        try:
            if os.lseek(self._file, 0, os.SEEK_END) and not _ends_line(self._file):
                os.write(self._file, b"\n")
        except OSError:
            pass


def _ends_line(file: int) -> bool:
    with open(f"/proc/self/fd/{file}", "rb") as reader:  # noqa: PTH123 - a descriptor, not a path
        reader.seek(-1, os.SEEK_END)
        return reader.read(1) == b"\n"


def _pointer(run: str) -> Path:
    return state_home() / "active" / f"{quote(run, safe='')}.json"


def _write_whole(path: Path, data: bytes) -> None:
    """All of it or nothing, whoever dies meanwhile."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)
    beside.replace(path)
