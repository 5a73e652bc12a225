"""Where a search works: a directory of its own for the state, and the commands as they are run there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..model.errors import ExperimentError
from ..model.search import Setting
from ..model.target import Identity
from ..system import procs
from ..trace.levels import best

_PREFIX = "croupier-search-"
_OWNER = "owner"
_SHELL = re.compile(r"[|&;<>()$`*?\n]|^\s*(!|\{|if |for |while )")
_INTERPRETERS = re.compile(r"(python|pypy|perl|ruby|node|bash|sh|dash|zsh|env|java)[\d.]*$")


def words(command: str, at: str) -> tuple[str, ...]:
    """A command as people type it, as an argument list; by `sh -c` where only a shell understands it."""
    if _SHELL.search(command):
        return ("sh", "-c", command)
    try:
        found = tuple(shlex.split(command))
    except ValueError as problem:
        raise ExperimentError(f"this command cannot be read: {problem}", at=at) from problem
    if not found:
        raise ExperimentError("the command is empty", at=at)
    return found


def title_of(workload: Sequence[str]) -> str:
    """What a search is called when nobody said: the script, or the program, that is searched."""
    for word in workload:
        name = Path(word).name
        if word.startswith("-") or _INTERPRETERS.fullmatch(name) or "=" in word or " " in word:
            continue
        return Path(name).stem or name
    return Path(workload[0]).name if workload else "search"


class Place:
    """A temporary directory with the state in it, always under the same path, and the commands that know of it."""

    def __init__(self, setting: Setting, folder: Path | None = None) -> None:
        self.setting = setting
        self._own = folder is None
        self.root = _made() if folder is None else folder
        self.state = self.root / "state"
        self.acked = self.root / "acked"

    @property
    def level(self) -> str:
        """How workloads are watched here: what was asked for, or the best that works for this one."""
        return self.setting.level if self.setting.level != "auto" else best(self.setting.workload)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            remove(self.root)

    def empty_state(self) -> Path:
        """The state directory, emptied."""
        remove(self.state)
        self.state.mkdir()
        return self.state

    def copy_given(self) -> None:
        """Fill the state directory with a copy of what the user gave."""
        remove(self.state)
        if not self.setting.state:
            self.state.mkdir()
            return
        given = Path(self.setting.state)
        if not given.is_dir():
            raise ExperimentError("the state is not a directory", at=f"--state {self.setting.state}")
        try:
            shutil.copytree(given, self.state, symlinks=True)
        except (OSError, shutil.Error) as problem:
            raise ExperimentError(f"the state cannot be copied: {problem}", at=f"--state {given}") from problem

    def workload(self) -> list[str]:
        """What is run and watched. With a client, a shell starts the server, then the client, and ends both."""
        mine = self.command(self.setting.workload)
        if not self.setting.until:
            return mine
        client = shlex.join(self.command(self.setting.until))
        return ["sh", "-c", f"{shlex.join(mine)} >&2 & server=$!; {client}; code=$?; kill -9 $server; exit $code"]

    def command(self, argv: Sequence[str], state: str = "") -> list[str]:
        """An argument list with `{state}` filled in, and files of the user's directory named from the root."""
        where = state or str(self.state)
        said = [word.replace("{state}", where) for word in argv]
        if said[:2] == ["sh", "-c"]:
            return said
        return [self._from_root(word, program=nth == 0) for nth, word in enumerate(said)]

    def _from_root(self, word: str, *, program: bool) -> str:
        if word.startswith(("-", "/")) or not word or (program and "/" not in word):
            return word
        there = Path(self.setting.cwd or ".") / word
        return str(there.absolute()) if there.exists() and word not in (".", "..") else word

    def environment(self, state: Path | None = None, acked: Path | None = None) -> dict[str, str]:
        """The environment of whatever a search starts."""
        env = dict(os.environ)
        own = str(Path(sys.executable).parent)
        path = env.get("PATH", os.defpath).split(os.pathsep)
        env["PATH"] = os.pathsep.join([own, *(one for one in path if one != own)])
        env["CROUPIER_STATE"] = str(state or self.state)
        if acked is not None:
            env["CROUPIER_ACKED"] = str(acked)
        # Our own buffering of a child's output would hide acknowledgements that were made.
        env.setdefault("PYTHONUNBUFFERED", "1")
        asked = (*self.setting.workload, *self.setting.check, *self.setting.setup, *self.setting.until)
        if self.setting.cwd and "-m" in asked:
            # It runs in the state; `python -m app` is still meant as it was typed.
            env["PYTHONPATH"] = os.pathsep.join([*filter(None, [env.get("PYTHONPATH")]), self.setting.cwd])
        return env


def _made() -> Path:
    """A directory of our own; what searches that were killed left beside it is taken away first."""
    _sweep(Path(tempfile.gettempdir()))
    root = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    own = procs.identity(os.getpid())
    assert own is not None
    (root / _OWNER).write_text(f"{own.pid} {own.started} {own.boot}")
    return root


def _sweep(home: Path) -> None:
    """Take away the directories of this user's searches whose process is no more."""
    for left in home.glob(f"{_PREFIX}*"):
        try:
            pid, started, boot = (left / _OWNER).read_text().split()
            owner = Identity(pid=int(pid), started=int(started), boot=boot)
            if left.stat().st_uid == os.getuid() and not procs.alive(owner):
                remove(left)
        except (OSError, ValueError):
            # Another's, or one that is being made at this moment.
            continue


def remove(path: Path) -> None:
    """Take away a directory and everything in it, whatever its permissions became. Nothing happens where none is."""
    if not path.exists():
        return

    def insist(function: object, name: str, _: object) -> None:
        try:
            Path(name).parent.chmod(0o700)
            if Path(name).is_dir() and not Path(name).is_symlink():
                Path(name).chmod(0o700)
                shutil.rmtree(name, ignore_errors=True)
            else:
                Path(name).unlink(missing_ok=True)
        except OSError:
            pass

    shutil.rmtree(path, onerror=insist)
