"""Core dumps: find what a dying process left, keep it among the artifacts, and ask gdb where it died.

The machine decides where dumps go (/proc/sys/kernel/core_pattern, see core(5)); that is read and never changed. A dump
holds the memory of the process, so whatever it knew: it is readable for its owner only.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..system.commands import run_command
from .elf import CoreNotes, read_notes
from .redact import Redactor

_PATTERN = Path("/proc/sys/kernel/core_pattern")
_USES_PID = Path("/proc/sys/kernel/core_uses_pid")
_MOST_COPIED = 1 << 30
_BACKTRACE_BYTES = 1 << 20
GDB_WITHIN_MS = 30_000


def keep_core(
    *,
    pid: int,
    exe: str,
    cwd: Path,
    into: Path,
    redactor: Redactor | None = None,
    pattern: str | None = None,
    gdb_within_ms: int = GDB_WITHIN_MS,
    env: Mapping[str, str] | None = None,
) -> str:
    """Move the dump of `pid`, which has ended, to `into/<pid>.core`, with `<pid>.bt.txt` beside it.

    `cwd` is where the process ran and `exe` what it was started as. Blocks while gdb works. Never raises: the answer
    is a sentence for the journal. `pattern` stands in for the machine's own, in tests.
    """
    try:
        return _keep(
            pid, exe, cwd, into, redactor, _machine_pattern() if pattern is None else pattern, gdb_within_ms, env
        )
    except OSError as problem:
        return f"the core dump of pid {pid} could not be kept: {problem.strerror or problem}"


def _keep(
    pid: int,
    exe: str,
    cwd: Path,
    into: Path,
    redactor: Redactor | None,
    pattern: str,
    gdb_within_ms: int,
    env: Mapping[str, str] | None,
) -> str:
    if (elsewhere := _handed_over(pattern, pid)) or not pattern:
        return elsewhere or "this machine keeps no core dumps: its core_pattern is empty"
    found = _find(pattern, pid, cwd)
    if found is None:
        return f"pid {pid} dumped core, but there is no such dump at {_absolute(pattern, cwd)}"
    dump, notes = found
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = into / f"{pid}.core"
    problem = _move(dump, kept)
    if problem:
        return f"the core dump of pid {pid} was left at {dump}: {problem}"
    program = (
        notes.program if Path(notes.program).is_file() else shutil.which(exe, path=(env or os.environ).get("PATH"))
    )
    said = f"core dump kept: cores/{kept.name}"
    return f"{said}; {_backtrace(kept, program or '', into / f'{pid}.bt.txt', redactor, gdb_within_ms)}"


def why_no_cores() -> str:
    """Why a process that crashes would leave no dump that can be kept here; "" if nothing is in the way."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        return "core dumps are forbidden here: the hard limit is 0 (ulimit -Hc)"
    pattern = _machine_pattern()
    return _handed_over(pattern, 0) or (
        "" if pattern else "this machine keeps no core dumps: its core_pattern is empty"
    )


def _machine_pattern() -> str:
    try:
        pattern = _PATTERN.read_text(errors="surrogateescape").rstrip("\n")
        uses_pid = _USES_PID.read_text().strip() not in ("", "0")
    except OSError:
        return ""
    if pattern[:1] in ("|", "@") or not uses_pid or "%p" in pattern:
        return pattern
    return f"{pattern}.%p"


def _handed_over(pattern: str, pid: int) -> str:
    if pattern.startswith("|"):
        handler = pattern[1:].split(maxsplit=1)[0] if pattern[1:].strip() else ""
        where = f"; `coredumpctl info {pid or 'PID'}` shows it" if "systemd-coredump" in handler else ""
        return f"this machine hands core dumps to {handler or 'a program'}, so none is kept here{where}"
    if pattern.startswith("@"):
        return f"this machine hands core dumps to a socket ({pattern[1:]}), so none is kept here"
    return ""


def _absolute(pattern: str, cwd: Path) -> str:
    return pattern if pattern.startswith("/") else os.fspath(cwd / pattern)


def _find(pattern: str, pid: int, cwd: Path) -> tuple[Path, CoreNotes] | None:
    """The newest file that the pattern can mean and that is the dump of this process."""
    found = []
    for name in glob.glob(_as_glob(_absolute(pattern, cwd), pid)):  # noqa: PTH207 - the pattern may be absolute
        path = Path(name)
        notes = None if path.is_symlink() or not path.is_file() else read_notes(path)
        # Where the name does not tell, only the dump itself does: `core` may be anybody's, and years old.
        if notes is not None and (notes.pid == pid or (not notes.pid and "%p" in pattern)):
            found.append((path.stat().st_mtime_ns, path, notes))
    if not found:
        return None
    _, path, notes = max(found, key=lambda one: one[0])
    return path, notes


def _as_glob(pattern: str, pid: int) -> str:
    """What of the pattern is known: its plain text and the pid. Times, names and the like may be anything."""
    made = []
    for plain, letter in re.findall(r"([^%]+)|%(.?)", pattern, re.DOTALL):
        made.append(glob.escape(plain) if plain else {"p": str(pid), "%": "%", "": ""}.get(letter, "*"))
    return "".join(made)


def _move(dump: Path, kept: Path) -> str:
    """Rename, or copy where another disk is in between. "" or why it was left."""
    try:
        dump.rename(kept)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            return problem.strerror or str(problem)
        used = dump.stat().st_blocks * 512
        if used > _MOST_COPIED:
            return (
                f"it takes {used >> 20} MiB on another file system, and more than {_MOST_COPIED >> 20} are not copied"
            )
        _copy(dump, kept)
        dump.unlink()
    kept.chmod(0o600)
    return ""


def _copy(dump: Path, kept: Path) -> None:
    """Copy only what is there: a dump is mostly holes."""
    kept.touch(mode=0o600)
    with dump.open("rb") as source, kept.open("wb") as target:
        end = os.fstat(source.fileno()).st_size
        os.ftruncate(target.fileno(), end)
        at = 0
        while at < end:
            try:
                start = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError as problem:
                if problem.errno == errno.ENXIO:
                    return
                raise
            at = os.lseek(source.fileno(), start, os.SEEK_HOLE)
            while start < at:
                part = os.pread(source.fileno(), min(1 << 20, at - start), start)
                if not part:
                    return
                os.pwrite(target.fileno(), part, start)
                start += len(part)


def _backtrace(core: Path, program: str, text: Path, redactor: Redactor | None, within_ms: int) -> str:
    gdb = shutil.which("gdb")
    if gdb is None:
        return "no back-trace, since gdb is not installed"
    # Nothing that lies beside the program or in somebody's home may be run, and nothing is fetched from the network.
    argv = [
        gdb, "-nx", "-batch", "-quiet",
        "-iex", "set auto-load off", "-iex", "set debuginfod enabled off", "-iex", "set width 0",
        "-ex", "thread apply all bt 200", *([program] if program else []), "-c", os.fspath(core),
    ]  # fmt: skip
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.fspath(core.parent),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }
    ended = run_command(argv, env=env, cwd=os.fspath(core.parent), within_ms=within_ms, keep_bytes=_BACKTRACE_BYTES)
    if ended.failed:
        return f"no back-trace: {ended.failed}"
    output = redactor.clean(ended.output) if redactor is not None else ended.output
    text.write_text(output, encoding="utf-8", errors="replace")
    text.chmod(0o600)
    if ended.timed_out:
        return f"gdb was ended after {within_ms} ms; what it found so far is in cores/{text.name}"
    if not re.search(r"^#0 ", output, re.MULTILINE):
        return f"gdb found no back-trace; what it said is in cores/{text.name}"
    return f"back-trace: cores/{text.name}"
