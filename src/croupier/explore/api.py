"""The search as a function, for Python and for tests."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from ..model.errors import ExperimentError
from ..model.search import Budget, Model, SearchResult, Setting
from ..model.units import Ms
from ..trace.levels import refuse_level
from .place import title_of, words
from .search import Progress, Search

MOST_JOBS = 64
Command = str | Sequence[str]
Level = Literal["auto", "seccomp", "ptrace", "fuse", "shim", "events", "clock"]


def explore(
    workload: Command | Callable[..., Any],
    check: Command | Callable[..., Any],
    *,
    state: str | os.PathLike[str] = "",
    setup: Command = (),
    until: Command = (),
    model: Model = "kill",
    torn: bool = False,
    depth: int = 1,
    jobs: int = 0,
    budget: Budget | str | int | None = None,
    out: str | os.PathLike[str] = "runs",
    title: str = "",
    check_timeout: str = "10s",
    timeout: str = "2m",
    stdin: str | os.PathLike[str] = "",
    level: Level = "auto",
    progress: Progress | None = None,
) -> SearchResult:
    """Record the workload once, and check recovery at every moment at which it could have died.

    A command is a string as typed, or an argument list. A function of a module is run in a process of its own: the
    workload is called with the state's path; the check with the path and the text that had been printed before the
    crash, as many of the two as it takes; an exception or False is a finding.

        result = explore("python save.py", "python check.py", state="fixture")
        assert result.verdict == "held", result.reasons
    """
    call = callable(check) and not isinstance(check, str)
    setting = setting_of(
        _calling(workload) if callable(workload) else workload,
        (_reference(check, strict=False),) if call else check,  # type: ignore[arg-type]
        check_call=call,
        setup=setup,
        until=until,
        state=state,
        model=model,
        torn=torn,
        depth=depth,
        jobs=jobs,
        budget=budget,
        title=title or (getattr(workload, "__name__", "") if callable(workload) else ""),
        check_timeout=check_timeout,
        timeout=timeout,
        stdin=stdin,
        level=level,
    )
    return Search(setting, Path(out), progress=progress, function=check if call else None).run()  # type: ignore[arg-type]


def setting_of(
    workload: Command,
    check: Command,
    *,
    check_call: bool = False,
    setup: Command = (),
    until: Command = (),
    state: str | os.PathLike[str] = "",
    model: str = "kill",
    torn: bool = False,
    depth: int = 1,
    jobs: int = 0,
    budget: Budget | str | int | None = None,
    title: str = "",
    check_timeout: str = "10s",
    timeout: str = "2m",
    stdin: str | os.PathLike[str] = "",
    level: Level = "auto",
) -> Setting:
    """What is asked for, read and made absolute. Raises ExperimentError for what cannot be."""
    run = _as_words(workload, "workload")
    if model not in _MODELS:
        raise ExperimentError(f"unknown model {model!r}", at="--model", hint=f"one of {', '.join(_MODELS)}")
    if depth not in (1, 2):
        raise ExperimentError(f"a depth is 1 or 2, got {depth}", at="--depth")
    if state and not Path(state).is_dir():
        raise ExperimentError("the state is not a directory", at=f"--state {state}")
    if stdin and not Path(stdin).is_file():
        raise ExperimentError("there is no such file", at=f"--stdin {stdin}")
    if not 0 <= jobs <= MOST_JOBS:
        raise ExperimentError(
            f"jobs are from 1 to {MOST_JOBS}, got {jobs}", at="--jobs", hint="0 takes one a processor"
        )
    refuse_level(level, model, depth=depth, torn=torn)
    return Setting(
        title=title or title_of(run),
        workload=run,
        check=_as_words(check, "check") if not check_call else (_checked_reference(check[0]),),
        check_call=check_call,
        setup=_as_words(setup, "--setup") if setup else (),
        until=_as_words(until, "--until") if until else (),
        state=str(Path(state).absolute()) if state else "",
        model=_MODELS[model],
        torn=torn,
        depth=depth,
        budget=budget if isinstance(budget, Budget) else Budget.parse(str(budget)) if budget else None,
        jobs=jobs,
        check_timeout_ms=time_of(check_timeout, "--check-timeout"),
        timeout_ms=time_of(timeout, "--timeout"),
        cwd=str(Path.cwd()),
        stdin=str(Path(stdin).absolute()) if stdin else "",
        level=level,
    )


_MODELS: dict[str, Model] = {
    "kill": "kill",
    "power": "power:ext4-ordered",
    "power:ext4-ordered": "power:ext4-ordered",
    "power:posix-strict": "power:posix-strict",
}


def time_of(text: str, at: str) -> int:
    """A duration in ms, as it was typed. Raises ExperimentError."""
    try:
        return int(Ms.parse(text))
    except ValueError as problem:
        raise ExperimentError(str(problem), at=at) from problem


def _checked_reference(reference: str) -> str:
    home, _, name = reference.rpartition(":")
    if reference.startswith("<"):
        return reference
    if not home or not name:
        raise ExperimentError(
            f"expected module:function, got {reference!r}", at="--check-call", hint="--check-call checks:recovered"
        )
    return str(Path(home).absolute()) + ":" + name if home.endswith(".py") else reference


def _as_words(command: Command | Callable[..., Any], at: str) -> tuple[str, ...]:
    if isinstance(command, str):
        return words(command, at)
    found = tuple(str(one) for one in command)  # type: ignore[union-attr]
    if not found:
        raise ExperimentError("the command is empty", at=at)
    return found


def _calling(function: Callable[..., Any]) -> tuple[str, ...]:
    return (sys.executable, "-m", "croupier.explore.calling", "workload", _reference(function))


def _reference(function: Callable[..., Any], *, strict: bool = True) -> str:
    """`FILE.py:name`, by which a process of its own finds the function again."""
    name = getattr(function, "__qualname__", "")
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    if (not file or not name or "<" in name) and not strict:
        return f"<{name or 'function'}>"
    if not file or not name or "<" in name:
        raise ExperimentError(
            f"this function cannot be found by another process: {name or function!r}",
            hint="give a function of a module, or a command",
        )
    return f"{Path(file).absolute()}:{name}"
