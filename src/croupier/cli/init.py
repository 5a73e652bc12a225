"""`init`: an experiment for somebody's own app, from flags, by asking, or from a scenario of the library."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from pathlib import Path

from ..load import load_text
from ..load.init import Answers, template
from ..load.library import experiment_of, read_scenario
from ..model.errors import ExperimentError
from ..registry import catalogue


def init(arguments: Namespace) -> int:
    """Write the file; never over one that is there, unless --force."""
    if arguments.scenario:
        return _from_scenario(arguments)
    if arguments.set:
        raise ExperimentError("there is no scenario to set this in", at="--set", hint="give --from NAME as well")
    path = _new_file(arguments, "experiment.yaml")
    ask = sys.stdin.isatty() and not arguments.yes
    app = arguments.app or (_ask("How is the app started?", "python app.py") if ask else "")
    if not app:
        raise ExperimentError(
            "how is the app started?",
            hint='give --command, for instance --command "gunicorn -w 3 -b 127.0.0.1:${port.app} app:app"',
        )
    answers = Answers(
        title=arguments.title
        or (_ask("What should the experiment show?", "The app survives a killed process") if ask else ""),
        command=_words(app, "--command"),
        ready_url=arguments.ready_url
        or (_ask("A URL that answers 200 when it is ready (empty: none)", "") if ask else ""),
        ready_port=arguments.ready_port or "",
        workload=_words(
            arguments.workload or (_ask("A command that uses it and prints `ack ID` (empty: none)", "") if ask else ""),
            "--workload",
        ),
        check=_words(
            arguments.check
            or (_ask("A command that checks nothing acknowledged is lost (empty: none)", "") if ask else ""),
            "--check",
        ),
        sqlite=arguments.sqlite or "",
        children=arguments.workers
        or (ask and _ask("Does it have worker processes? (y/n)", "n").lower().startswith("y")),
    )
    return _write(path, template(answers))


def _from_scenario(arguments: Namespace) -> int:
    """A scenario with its settings filled in."""
    for flag in ("app", "title", "ready_url", "ready_port", "workload", "check", "sqlite", "workers"):
        if getattr(arguments, flag):
            name = "command" if flag == "app" else flag.replace("_", "-")
            hint = f"a scenario has settings of its own: --set KEY=VALUE; `croupier scenarios {arguments.scenario}`"
            raise ExperimentError("this does not go with --from", at=f"--{name}", hint=hint)
    given = {}
    for one in arguments.set:
        key, equals, value = one.partition("=")
        if not equals:
            raise ExperimentError(f"{one[:60]!r} sets nothing", at="--set", hint="write KEY=VALUE")
        given[key] = value
    text = experiment_of(arguments.scenario, read_scenario(arguments.scenario), given)
    return _write(_new_file(arguments, f"{Path(arguments.scenario).stem}.yaml"), text)


def _new_file(arguments: Namespace, otherwise: str) -> Path:
    path = Path(arguments.file or otherwise)
    if path.exists() and not arguments.force:
        raise ExperimentError("this file is there already", at=str(path), hint="name another, or give --force")
    return path


def _write(path: Path, text: str) -> int:
    load_text(text.encode(), str(path), catalogue())  # What we write must be what we read.
    try:
        path.write_text(text)
    except OSError as problem:
        raise ExperimentError(f"cannot be written: {problem.strerror}", at=str(path)) from problem
    print(f"{path}: written; next: croupier validate {path} && croupier run {path} --dry-run")
    return 0


def _ask(question: str, default: str) -> str:
    shown = f" [{default}]" if default else ""
    try:
        return input(f"{question}{shown} ").strip() or default
    except EOFError:
        return default


def _words(text: str, flag: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as problem:
        raise ExperimentError(f"cannot be split into arguments: {problem}", at=flag) from problem
