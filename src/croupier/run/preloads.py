"""What a round's processes are started with in front of the C library: a clock of their own, calls that can go wrong.

Only processes that a fault which needs it may be aimed at are started so; every other runs as always.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..inject.clock import way
from ..model.errors import ExperimentError, HarnessError
from ..model.experiment import Experiment
from ..model.faults.clock import Clock
from ..model.plan import Plan, aims
from ..model.undo import UndoRecord, UndoStep
from ..system import call_shim, clocks, shims
from .calls import is_preloaded
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


class Preloads:
    """The clocks and shims of this round."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._wanted = clocked(floor.plan, floor.experiment)
        self._shimmed = {
            name
            for fault, names in aims(floor.plan, floor.experiment.processes)
            if is_preloaded(fault)
            for name in names
        }
        self._folder = floor.run.path.resolve() / "preloaded"
        self._made: dict[str, tuple[clocks.Clock, str, bool]] = {}

    def set_up(self, deadline_us: int) -> None:
        """Make them. What may outlive the round has its record with the guardian. Raises HarnessError."""
        try:
            for name, fault in self._wanted.items():
                self._make_clock(name, fault, deadline_us)
            for name in self._shimmed:
                self._folder.mkdir(exist_ok=True)
                shims.build(call_shim.SHIM, self._folder)
                call_shim.make(self._calls(name))
        except OSError as problem:
            raise HarnessError(f"a process could not be prepared: {problem}", at=str(self._folder)) from problem

    def _make_clock(self, name: str, fault: Clock, deadline_us: int) -> None:
        chosen = way(fault)
        if chosen is None:
            return
        self._folder.mkdir(exist_ok=True)
        clock = clocks.Clock.named(self._folder, name, chosen)
        if chosen == "shim":
            shims.build(clocks.SHIM, self._folder)
        clock.make()
        shared = self._share(name, clock, deadline_us) if chosen == "libfaketime" else ""
        self._made[name] = (clock, shared, fault.monotonic)

    def _calls(self, name: str) -> Path:
        return self._folder / f"{name}.calls"

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
        if process in self._made:
            clock, shared, monotonic = self._made[process]
            env = clock.environment(env, shared=shared, monotonic=monotonic)
        if process in self._shimmed:
            env = shims.preloading(
                {**env, call_shim.VARIABLE: str(self._calls(process))}, shims.library(call_shim.SHIM, self._folder)
            )
        return env
