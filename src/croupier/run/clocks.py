"""The clocks of a round's processes: made where a fault `clock` needs one, before the first process starts.

Only processes that such a fault may be aimed at are started with one; every other runs as always.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..inject.clock import way
from ..model.errors import ExperimentError, HarnessError
from ..model.experiment import Experiment
from ..model.faults.clock import Clock
from ..model.plan import Plan, aims
from ..model.undo import UndoRecord, UndoStep
from ..system import clocks
from .floor import Floor


def clocked(plan: Plan, experiment: Experiment) -> dict[str, Clock]:
    """The processes that need a clock of their own, each with a fault that wants it."""
    found: dict[str, Clock] = {}
    for fault, processes in aims(plan, experiment.processes):
        if isinstance(fault, Clock):
            for name in sorted(processes):
                found.setdefault(name, fault)
    return found


def refuse_clocks(plan: Plan, experiment: Experiment) -> None:
    """See that the faults of a process agree on how. Raises ExperimentError before anything is touched."""
    first = clocked(plan, experiment)
    for fault, processes in aims(plan, experiment.processes):
        if not isinstance(fault, Clock):
            continue
        for name in processes:
            if _prepared_as(fault) != _prepared_as(first[name]):
                raise ExperimentError(
                    f"two faults want the clock of {name!r} prepared in different ways", at="clock",
                    hint="a process has one clock from its start on: give them the same `how`, and with libfaketime"
                    " the same `monotonic`",
                )  # fmt: skip


def _prepared_as(fault: Clock) -> tuple[str | None, bool]:
    chosen = way(fault)
    return chosen, fault.monotonic and chosen == "libfaketime"


class Clocks:
    """The clocks of this round."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._wanted = clocked(floor.plan, floor.experiment)
        self._made: dict[str, tuple[clocks.Clock, str, bool]] = {}

    def set_up(self, deadline_us: int) -> None:
        """Make them. What may outlive the round has its record with the guardian. Raises HarnessError."""
        folder = self._floor.run.path.resolve() / "clocks"
        try:
            for name, fault in self._wanted.items():
                folder.mkdir(exist_ok=True)
                chosen = way(fault)
                if chosen is None:
                    continue
                clock = clocks.Clock.named(folder, name, chosen)
                if chosen == "shim" and not self._made:
                    clocks.build(folder)
                clock.make()
                shared = self._share(name, clock, deadline_us) if chosen == "libfaketime" else ""
                self._made[name] = (clock, shared, fault.monotonic)
        except OSError as problem:
            raise HarnessError(f"the clock of a process could not be made: {problem}", at=str(folder)) from problem

    def _share(self, name: str, clock: clocks.Clock, deadline_us: int) -> str:
        keeper, key, shared = self._floor.keeper, f"clock.{name}", clocks.shared_name(clock.path)
        keeper.hold(
            UndoRecord(key=key, fault="clock", who=keeper.identity, data={"shared": shared}, deadline_us=deadline_us)
        )
        clocks.share(clock.path)
        keeper.step(UndoStep(key=key, state="applied"))
        return shared

    def environment(self, process: str, env: Mapping[str, str]) -> Mapping[str, str]:
        """The environment that a process is started with."""
        if process not in self._made:
            return env
        clock, shared, monotonic = self._made[process]
        return clock.environment(env, shared=shared, monotonic=monotonic)
