"""Ask the check about states, with what the workload had printed by then: the checkers, as a search uses them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..check import Ask, CallCheck, Check, Checkers, CommandCheck
from ..check.interpreter import without_shim
from ..model.errors import ExperimentError
from ..snapshot import Store
from ..snapshot.stage import stage_for
from .place import Place

Function = Callable[..., Any]


class Job(NamedTuple):
    """A question: does this state recover, and is everything there that was acknowledged by then?"""

    number: int
    state: str
    acked: int
    """How many bytes of the workload's output there were."""


class Answer(NamedTuple):
    """The answer to the question of that number."""

    number: int
    held: bool
    reason: str
    took_ms: float


class Asker(Protocol):
    """Whoever answers."""

    def ask(self, jobs: Iterable[Job]) -> Iterator[Answer]:
        """Answers in the order of the jobs."""

    def ask_with(self, state: str, output: bytes) -> Answer:
        """One answer, for a run that printed something of its own."""

    def close(self) -> None:
        """Let go of what was needed for it."""


class Pool:
    """The check, run by servers of its own: as a command in fresh processes, or as a Python function by fork."""

    def __init__(self, place: Place, store: Store, output: Path, like: str, function: Function | None = None) -> None:
        """`output` is the file with all that the workload printed; `like` is a state like the others."""
        self._store = store
        self._output = output
        self._place = place
        self._numbers = count(1)
        setting = place.setting
        store.flush()
        self._checkers = Checkers(
            check_of(place, function),
            stage_for(store, like, place.root / "stage"),
            jobs=setting.jobs or os.cpu_count() or 1,
            within_ms=setting.check_timeout_ms,
            cwd=setting.cwd or str(Path.cwd()),
            env=place.environment(),
        )

    def ask(self, jobs: Iterable[Job]) -> Iterator[Answer]:
        """Answers in the order of the jobs."""
        waiting: list[Job] = []

        def asks() -> Iterator[Ask]:
            for job in jobs:
                waiting.append(job)
                yield Ask(state=job.state, acks=str(self._output), acked=job.acked)

        self._store.flush()
        for nth, (_, checked) in enumerate(self._checkers.check_all(asks())):
            yield Answer(waiting[nth].number, checked.held, self._plain(checked.reason), checked.took_ms)

    def ask_with(self, state: str, output: bytes) -> Answer:
        """One answer, for a run that printed something of its own."""
        self._store.flush()
        file = self._place.root / f"printed-{next(self._numbers)}"
        file.write_bytes(output)
        checked = self._checkers.check(Ask(state=state, acks=str(file), acked=len(output)))
        return Answer(0, checked.held, self._plain(checked.reason), checked.took_ms)

    def close(self) -> None:
        """End the servers."""
        self._checkers.close()

    def _plain(self, reason: str) -> str:
        """The reason in one line, the same wherever the state was set up."""
        reason = " ".join(reason.split())[:600]
        for server in self._checkers._servers:
            if server.folder:
                reason = reason.replace(f"{server.folder}/state", "{state}").replace(server.folder, "…")
        return reason


def check_of(place: Place, function: Function | None) -> Check:
    """The check as the checkers take it."""
    setting = place.setting
    if function is not None:
        return CallCheck(function=function)
    if setting.check_call:
        return CallCheck(target=setting.check[0])
    env = place.environment()
    first = place.command(setting.check, "{state}")[0]
    if "{state}" not in first and shutil.which(first, path=env.get("PATH")) is None:
        raise ExperimentError(f"command not found, or not a program: {first!r}", at="--check")
    argv = without_shim(tuple(place.command(setting.check, "{state}")), env=env, cwd=setting.cwd or str(Path.cwd()))
    # It runs in its copy of the state, so that what it leaves in its working directory is nobody's.
    return CommandCheck(argv=("sh", "-c", 'cd -- "$CROUPIER_STATE" && exec "$@"', "sh", *argv))


def check_command(place: Place, state: Path) -> list[str]:
    """The check as a command that can be watched."""
    setting = place.setting
    if not setting.check_call:
        return place.command(setting.check, str(state))
    if "<" in setting.check[0]:
        raise ExperimentError(
            f"this check cannot be found by another process: {setting.check[0]}",
            hint="a crash during recovery needs a check that is a function of a module, or a command",
        )
    return [sys.executable, "-m", "croupier.explore.calling", "check", setting.check[0]]
