"""What says on disk that a round is running: a record in its run directory, and a pointer to it in the state home.

`croupier halt` and `croupier recover` find rounds by these from anywhere, whatever became of the processes. The
guardian writes them before it is ready and removes them when everything is healed; a dead machine leaves them.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
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
    """`$XDG_STATE_HOME/croupier`, by default below `~/.local/state`; where nobody has a home, `spare_home`."""
    home = os.environ.get("XDG_STATE_HOME", "")
    # The specification says to ignore a path that is not absolute.
    if home.startswith("/"):
        return Path(home) / "croupier"
    try:
        return Path.home() / ".local" / "state" / "croupier"
    except RuntimeError:  # No HOME, and a user whom the machine does not know: a container's.
        return spare_home()


def spare_home() -> Path:
    """Where rounds are registered when the state home cannot be written: a directory of this user's own."""
    return Path(tempfile.gettempdir()) / f"croupier-{os.getuid()}"


def write_running(run_dir: Path, running: Running) -> None:
    """Put the record on disk, and the pointer to it where that can be written. Raises OSError for the record."""
    _write_whole(run_dir / RECORD, msgspec.json.encode(running) + b"\n")
    for home in _homes():
        try:
            _make_home(home)
            pointer = _pointer(home, running.run)
            pointer.parent.mkdir(exist_ok=True)
            _write_whole(pointer, msgspec.json.encode({"run_dir": str(run_dir.resolve())}) + b"\n")
            return
        except OSError:
            # With none at all, `halt` and `recover` need to be told where the run is; the journal says so.
            continue


def registered_in(run: str) -> Path | None:
    """The home in which a running round can be found; None where there is no pointer to it at all."""
    return next((home for home in _readable_homes() if _pointer(home, run).exists()), None)


def remove_running(run_dir: Path, run: str) -> None:
    """Everything is healed: take record and pointer away."""
    for path in (run_dir / RECORD, *(_pointer(home, run) for home in _readable_homes())):
        try:
            path.unlink(missing_ok=True)
        except OSError:
            # What cannot be removed is looked at again by `recover`, which then finds nothing to heal.
            continue


def remove_pointers(run_dir: Path) -> None:
    """Take away whatever points to a run directory that holds no record: its guardian died between the two."""
    for pointer in _pointers(_readable_homes()):
        if _pointed_to(pointer) == run_dir.resolve():
            with suppress(OSError):
                pointer.unlink()


def read_running(run_dir: Path) -> Running | None:
    """The record of a run directory; None where there is none, or it cannot be read."""
    try:
        return msgspec.json.decode((run_dir / RECORD).read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None


def active_runs(home: Path | None = None) -> list[Path]:
    """The run directories that are pointed to, oldest first, in the state home and in the one that stands in for it.

    Pointers to nothing are taken away.
    """
    found: list[tuple[float, Path]] = []
    for pointer in _pointers([home] if home else _readable_homes()):
        run_dir = _pointed_to(pointer)
        with suppress(OSError):
            if run_dir is not None and run_dir.is_dir():
                found.append((pointer.stat().st_mtime, run_dir))
            elif run_dir is not None:
                pointer.unlink(missing_ok=True)
    return [run_dir for _, run_dir in sorted(found)]


def _pointers(homes: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for home in homes:
        with suppress(OSError):
            found += sorted((home / "active").glob("*.json"))
    return found


def _pointed_to(pointer: Path) -> Path | None:
    try:
        return Path(msgspec.json.decode(pointer.read_bytes(), type=dict[str, str])["run_dir"])
    except (OSError, KeyError, msgspec.MsgspecError):
        return None


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
    """Writes the undo log: what must be is on the disk before `write` returns."""

    def __init__(self, run_dir: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(run_dir / UNDO, flags, 0o644)
        self._encode = msgspec.json.Encoder().encode
        self._mend()

    def write(self, *steps: UndoStep) -> None:
        """Append some steps, all or none. Raises OSError where they cannot be kept; no part of them is left then."""
        before = os.lseek(self._file, 0, os.SEEK_END)
        lines = b"".join(self._encode(one) + b"\n" for one in steps)
        try:
            written = os.write(self._file, lines)
            if written < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # What was only intended is undone all the same: `applied` may be lost with the power.
            if any(one.state != "applied" for one in steps):
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


def _pointer(home: Path, run: str) -> Path:
    return home / "active" / f"{quote(run, safe='')}.json"


def _homes() -> list[Path]:
    return list(dict.fromkeys((state_home(), spare_home())))


def _readable_homes() -> list[Path]:
    """Those whose word may be taken: in a directory that all may write, somebody else may have been first."""
    return [home for home in _homes() if home != spare_home() or _is_own(home)]


def _make_home(home: Path) -> None:
    """Raises OSError where it cannot be made, or is not ours alone."""
    if home != spare_home():
        home.mkdir(parents=True, exist_ok=True)
        return
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    if not _is_own(home):
        raise PermissionError(errno.EACCES, "it is not this user's alone", str(home))


def _is_own(home: Path) -> bool:
    try:
        seen = home.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid() and not stat.S_IMODE(seen.st_mode) & 0o077


def _write_whole(path: Path, data: bytes) -> None:
    """All of it or nothing, whoever dies meanwhile."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        if os.write(file, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
