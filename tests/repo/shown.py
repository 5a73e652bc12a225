"""What README and docs show: their blocks, and a shell in which the shown commands are run as a reader would.

A block marked `console` is a session: lines with `$ ` are commands, and the lines after each are what it prints, where
`…` stands for anything within a line, and a line that is `…` alone for any number of lines. A command must end with 0
unless the next one is `echo $?`, whose printed number then says how. A `yaml`, `ini` or `python` block whose first line
is `# name` is the file of that name. Blocks marked `text` are not run.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^# ([\w./-]+\.(?:ya?ml|conf|ini|py))(?::.*)?\n")


class Block(NamedTuple):
    """A fenced block of a page."""

    kind: str
    text: str
    line: int

    @property
    def file(self) -> str:
        """The file that this block is, "" for none."""
        found = _FILE.match(self.text)
        return found[1] if found else ""

    def commands(self) -> Iterator[Shown]:
        """The commands of a session, each with what is shown after it."""
        command, expected, line = "", [], self.line
        for nth, text in enumerate(self.text.splitlines(), start=self.line + 1):
            if text.startswith("$ "):
                if command:
                    yield Shown(command, tuple(expected), line)
                command, expected, line = text.removeprefix("$ "), [], nth
            else:
                expected.append(text)
        if command:
            yield Shown(command, tuple(expected), line)


class Shown(NamedTuple):
    """A command, and what a page says that it prints."""

    command: str
    expected: tuple[str, ...]
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    return [Block(one[1], one[2], text.count("\n", 0, one.start()) + 1) for one in _BLOCK.finditer(text)]


def pages(repository: Path) -> list[Path]:
    """Everything that is written for readers."""
    tops = list(repository.glob("*.md"))
    below = [one for folder in ("docs", "examples") for one in (repository / folder).rglob("*.md")]
    return sorted([*tops, *below])


def matches(expected: tuple[str, ...], printed: str) -> bool:
    """Whether what was printed is what is shown."""
    parts = []
    for line in expected:
        if line == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*?".join(re.escape(piece.rstrip()) for piece in line.split("…")) + r"[ \t]*\n")
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in printed.splitlines())) is not None


def tracked(repository: Path) -> list[Path]:
    """The files of the repository: what git knows or would take; where there is no git, what nobody has made."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [Path(one) for one in listed.stdout.decode().split("\0") if one]
    else:
        made = {".venv", ".git", "runs", "dist", "build", "__pycache__", ".hypothesis", ".coverage"}
        paths = (one.relative_to(repository) for one in repository.rglob("*") if one.is_file())
        names = [one for one in paths if not made & set(one.parts) and not one.parts[0].endswith("_cache")]
    return [repository / one for one in sorted(names) if (repository / one).is_file()]


def copy_of(repository: Path, to: Path) -> Path:
    """A copy of the repository as a fresh clone would be, with nothing in it that was made."""
    for file in tracked(repository):
        copy = to / file.relative_to(repository)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    return to


class Shell:
    """One bash that reads commands as they come, as an interactive one would, without its prompts."""

    MARK = "--ended-with--"

    def __init__(self, cwd: Path, env: Mapping[str, str]) -> None:
        # Commands come by a pipe of their own, so that nothing which reads its standard input swallows them.
        script, self._script = os.pipe()
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile", f"/dev/fd/{script}"],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[script],
            start_new_session=True,
        )
        os.close(script)
        # Job control, so that `%1` means what it means to a reader.
        self._write("set -m")

    def run(self, command: str, within_s: float) -> tuple[int, str]:
        """Run one line; its exit code, and all that was printed. Raises TimeoutError."""
        # What comes in the background may end in `&`, which takes no `;` after it.
        self._write(f"{command}\n_code=$?; printf '\\n%s %s\\n' {self.MARK} $_code; (exit $_code)")
        assert self._bash.stdout is not None
        printed, end = b"", time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._bash.stdout, selectors.EVENT_READ)
            while (found := re.search(rb"\n--ended-with-- (\d+)\n", printed)) is None:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError(f"{command!r} did not end within {within_s} s; it printed\n{printed.decode()}")
                chunk = os.read(self._bash.stdout.fileno(), 65_536)
                if not chunk:
                    raise EOFError(f"the shell ended in {command!r}:\n{printed.decode()}")
                printed += chunk
        said = printed[: found.start()].decode(errors="replace")
        # What bash says of its jobs is not what the command prints.
        job = re.compile(r"\[\d+\]|\S+: line \d+: +\d+ (Killed|Terminated)")
        lines = [line for line in said.splitlines() if not job.match(line)]
        return int(found[1]), "".join(f"{line}\n" for line in lines)

    def close(self) -> None:
        """End the shell, and whatever jobs it still has."""
        self._write("kill -KILL $(jobs -p) 2>/dev/null; exit 0")
        os.close(self._script)
        try:
            self._bash.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._bash.pid, signal.SIGKILL)
            self._bash.wait()

    def _write(self, text: str) -> None:
        os.write(self._script, text.encode() + b"\n")
