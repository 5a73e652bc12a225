"""The arrangements of a round: what they stand for, set up before the first process, taken down by the guardian.

Nothing here takes them down: each has its undo record with the guardian, which heals what is open when it closes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from ..built_in import arranger
from ..model.errors import HarnessError, Refused, TargetError
from ..model.experiment import Experiment, bind
from ..model.target import Identity
from ..model.undo import UndoRecord, UndoStep
from ..store import RunDir
from ..system import procs
from .floor import Floor


def refuse_arrangements(experiment: Experiment) -> None:
    """Ask what this machine lacks for each arrangement. Raises Refused before anything is touched."""
    for kind, name, spec in experiment.arranged():
        lacking = arranger(kind).lacking(spec)
        if lacking:
            raise Refused(f"{kind} {name!r} cannot be set up here: {lacking}", hint="`croupier doctor` says more")


def references_to(experiment: Experiment, run: RunDir, lookup: Callable[[str], str]) -> dict[str, str]:
    """What `${KIND.NAME}` stands for in this round, for each arrangement. `lookup` fills in what it refers to."""
    return {
        f"{kind}.{name}": arranger(kind).stands_for(name, bind(spec, lookup), str(run.path))
        for kind, name, spec in experiment.arranged()
    }


class RoundHands:
    """The hands of an arranger in a round."""

    def __init__(self, floor: Floor, deadline_us: int) -> None:
        self.env: Mapping[str, str] = floor.env
        self.folder = str(floor.run.path)
        self.deadline_us = deadline_us
        self.keeper: Identity = floor.keeper.identity
        self._floor = floor

    def intend(self, record: UndoRecord) -> None:
        """Have a record on disk and held by the guardian."""
        self._floor.keeper.hold(record)

    def applied(self, key: str) -> None:
        """What was intended has been done."""
        self._floor.keeper.step(UndoStep(key=key, state="applied"))

    def start(self, name: str, argv: Sequence[str]) -> Identity:
        """Start a helper below the guardian; what it prints is kept beside the logs."""
        who = start_helper(self._floor, name, argv)
        procs.shield(who, "it is an arrangement of this round")
        return who


def start_helper(floor: Floor, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Identity:
    """Start a process of ours as the guardian's child. Raises TargetError where it cannot be started."""
    folder = floor.run.artifacts / "helpers"
    folder.mkdir(exist_ok=True)
    file = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        return floor.keeper.spawn(
            name, argv, env={**floor.env, **(env or {})}, cwd=str(floor.base), stdout=file, stderr=file
        )
    finally:
        os.close(file)


def set_up(floor: Floor, deadline_us: int) -> None:
    """Set everything up, in the order of the file. Raises HarnessError where one cannot be; the rest is taken down."""
    hands = RoundHands(floor, deadline_us)
    for kind, name, spec in floor.experiment.arranged():
        value = floor.view.bind(f"${{{kind}.{name}}}")
        try:
            arranger(kind).set_up(name, spec, value, hands)
        except (OSError, TargetError) as problem:
            said = problem.message if isinstance(problem, TargetError) else problem.strerror or str(problem)
            raise HarnessError(f"{kind} {name!r} could not be set up: {said}", at=value) from problem
        floor.note(f"{kind} {name} is set up")
