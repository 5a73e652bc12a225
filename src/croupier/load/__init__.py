"""The verb *load*: from the file that people write to an `Experiment`, or to every problem it has, each with its line.

`document` reads YAML into nodes, `reading` turns nodes into nouns by the types of the model, `checks` asks what types
cannot say, `schema` describes the same shapes for editors, and `init` writes a first file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

import msgspec

from ..model.errors import ExperimentError
from ..model.experiment import Experiment
from ..model.units import write_quantity
from ..model.wire import Vocabulary, dec_hook
from .checks import check_one, check_whole, warnings
from .document import MOST_BYTES, Node, compose, text_of, too_large
from .init import Answers, template
from .problems import Path, Problems, path_text
from .reading import BAD, Reading
from .schema import schema


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that will work, and perhaps not as meant."""

    message: str
    at: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.at}: {self.message}" + (f"\n  hint: {self.hint}" if self.hint else "")


class Places:
    """Where the pieces of a document stand: from a path in it (`faults[0].kill`) to line and column, both from 1."""

    def __init__(self, name: str, root: Node) -> None:
        self.name = name
        self._root = root

    def __call__(self, path: str) -> tuple[int, int]:
        """Line and column of what stands there; of the nearest piece around it, where it is not written out."""
        node = self._root
        for step in _steps(path):
            entry = node.entries.get(step) if isinstance(step, str) else None
            inner = node.child(step)
            if inner is None:
                break
            node = inner
            if entry is not None and node.kind == "null":
                node = entry[0]
        return node.line, node.column

    def at(self, path: str) -> str:
        """`file:line: path`, as problems say it."""
        where = f"{self.name}:{self(path)[0]}"
        return f"{where}: {path}" if path else where

    def located(self, problem: ExperimentError) -> ExperimentError:
        """The same problem, its path in the document made into file:line: path."""
        return ExperimentError(problem.message, at=self.at(problem.at), hint=problem.hint, others=problem.others)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An experiment that was read without a problem."""

    experiment: Experiment
    source: bytes
    """The file as it was given."""
    name: str
    where: Places
    warnings: tuple[Warned, ...] = ()
    path: FilePath | None = None

    @property
    def directory(self) -> FilePath:
        """Where the experiment's commands run by default."""
        return self.path.parent if self.path else FilePath.cwd()


def load_experiment(path: FilePath, catalogue: Vocabulary, *, environment: Mapping[str, str] | None = None) -> Loaded:
    """Read an experiment file. Raises ExperimentError with all problems that were found (`others`)."""
    source = _read(path)
    loaded = load_text(source, str(path), catalogue, environment=environment)
    return Loaded(loaded.experiment, source, loaded.name, loaded.where, loaded.warnings, path.absolute())


def load_text(
    source: bytes, name: str, catalogue: Vocabulary, *, environment: Mapping[str, str] | None = None
) -> Loaded:
    """Read an experiment from bytes; `name` stands for the file in messages.

    `environment` is what `${env.NAME}` may name: this process's own by default. Its values are not read.
    """
    problems = Problems(name)
    root = compose(text_of(source, problems), problems)
    reading = Reading(catalogue, problems, check_one)
    entries = reading.entries(root, (), Experiment)
    if entries is BAD:
        raise problems.gathered()
    values = reading.fields(root, Experiment, entries, ())
    experiment = reading.build(Experiment, values, root, ())
    check_whole(reading, values, root, os.environ if environment is None else environment)
    if problems:
        raise problems.gathered()
    _last_word(experiment, catalogue, problems)
    where = Places(name, root)
    warned: list[Warned] = []
    warnings(experiment, lambda at, message, hint: warned.append(Warned(message, where.at(path_text(at)), hint)))
    return Loaded(experiment, source, name, where, tuple(warned))


def _last_word(experiment: Experiment, catalogue: Vocabulary, problems: Problems) -> None:
    """msgspec reads the value once more, strictly: whatever our reading let slip is caught, and all can be written."""
    try:
        written = msgspec.json.encode(experiment, enc_hook=write_quantity)
        msgspec.json.decode(written, type=Experiment, dec_hook=dec_hook(catalogue))
    except (msgspec.MsgspecError, NotImplementedError, TypeError, ValueError) as problem:
        raise problems.fatal(str(problem)) from problem


def _read(path: FilePath) -> bytes:
    name = str(path)
    try:
        status = path.stat()
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            inside = sorted(one.name for one in path.glob("*.y*ml"))[:5]
            hint = f"name the file in it: {', '.join(inside)}" if inside else "name the experiment file"
            raise ExperimentError("this is a directory", at=name, hint=hint)
        # A pipe or a device may never end.
        if not stat.S_ISREG(mode):
            raise ExperimentError("this is not a regular file", at=name, hint="save the experiment in a file first")
        if status.st_size > MOST_BYTES:
            raise too_large(status.st_size, Problems(name))
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ExperimentError("there is no such file", at=name, hint="`croupier init` writes a first one") from None
    except (OSError, ValueError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise ExperimentError(f"the file cannot be read: {said}", at=name) from problem


def _steps(path: str) -> Path:
    steps: list[str | int] = []
    for part in path.replace("[", ".[").split("."):
        if part.startswith("[") and part.endswith("]") and part[1:-1].isdigit():
            steps.append(int(part[1:-1]))
        elif part:
            steps.append(part.strip("[]'"))
    return tuple(steps)


__all__ = [
    "Answers",
    "ExperimentError",
    "Loaded",
    "Places",
    "Warned",
    "load_experiment",
    "load_text",
    "schema",
    "template",
]
