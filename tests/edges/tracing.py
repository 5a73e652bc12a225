"""What the tests of the tracer share: small workloads, and a handler that writes down what it saw."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from croupier.trace import GO, KILL, Act, Call, Traced, trace

BACKENDS = ("seccomp", "ptrace")
PATIENCE_S = 60.0


def python(program: str, *args: str) -> tuple[str, ...]:
    """The command line that runs a few lines of Python, without site packages."""
    return (os.path.realpath(sys.executable), "-I", "-S", "-c", program, *args)


class Watcher:
    """Lets everything go, and remembers it as words: name, kind, path below the directory, offset, length."""

    def __init__(self, root: Path, decide: Callable[[Call], Act] = lambda call: GO) -> None:
        self.root = root
        self.seen: list[tuple[str, str, str, int | None, int | None]] = []
        self.calls: list[Call] = []
        self._decide = decide

    def __call__(self, call: Call) -> Act:
        self.seen.append((call.name, call.kind, self.below(call.path), call.offset, call.length))
        self.calls.append(call)
        return self._decide(call)

    def below(self, path: str) -> str:
        """The path as seen from the directory, if it is in it."""
        return path.removeprefix(f"{self.root}/")

    @property
    def inside(self) -> list[tuple[str, str]]:
        """Kind and path of what happened in the directory."""
        return [(kind, path) for _, kind, path, _, _ in self.seen if path and not path.startswith("/")]


def watch(
    argv: Sequence[str], root: Path, backend: str, decide: Callable[[Call], Act] = lambda call: GO
) -> tuple[Traced, Watcher]:
    """Run a workload in a directory under a watcher."""
    watcher = Watcher(root, decide)
    traced = trace(argv, on_call=watcher, cwd=root, backend=backend, deadline_s=PATIENCE_S)  # type: ignore[arg-type]
    assert traced.ended != "deadline"
    return traced, watcher


def kill_before(index: int) -> Callable[[Call], Act]:
    """Kill before the call of this number."""
    return lambda call: KILL if call.index >= index else GO
