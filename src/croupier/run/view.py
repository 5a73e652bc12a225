"""What a probe may look at in a running round: files, logs, the census, the ledger of acknowledgements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..collect.logs import LogSink
from ..model.arrangement import CROUPIER
from ..model.experiment import Bindings, Experiment, ProcessSpec, bind
from ..model.probe import File, Heartbeat, Log, Probe, Reading
from ..model.target import Census
from ..observe import HeartbeatSocket, addressed
from ..observe.view import KEEP_BYTES
from ..registry import Catalogue
from ..store import RunDir
from ..supervise.commands import Commands
from ..system import networks
from ..system.clock import now_us
from ..system.commands import Finished
from .loop import Loop
from .watch import Watch

T = TypeVar("T")


class Start(NamedTuple):
    """How things stood when a process was started last; what was there before says nothing about it."""

    at_us: int = 0
    process: str = ""
    lines: Mapping[str, int] = {}
    """For each pattern that its readiness asks for, how many lines matched."""
    beats: Mapping[str, int] = {}
    """When each heartbeat file was touched last."""


NO_START = Start()


class RoundView:
    """The view of one round; used by worker threads, so it only reads, but for the heartbeat sockets of the loop."""

    def __init__(
        self,
        cwd: Path,
        env: Mapping[str, str],
        run: RunDir,
        bindings: Bindings,
        sinks: Mapping[str, LogSink],
        commands: Commands,
    ) -> None:
        self.cwd = cwd
        self.env = env
        self.baseline: dict[str, int] = {}
        self._run = run
        self._bindings = bindings
        self._sinks = sinks
        self._commands = commands
        self._watch: Watch | None = None
        self._catalogue: Catalogue | None = None
        self._sockets: dict[Path, HeartbeatSocket] = {}
        self._own_paths: dict[str, Path] = {}
        self._starts: dict[str, Start] = {}
        self._since = NO_START

    def look_through(self, watch: Watch, catalogue: Catalogue) -> None:
        """The parts that are made after the view is."""
        self._watch, self._catalogue = watch, catalogue

    def bind(self, value: T) -> T:
        """A value of the plan with its references filled in."""
        return bind(value, self._bindings.lookup)

    def read(self, probe: Probe, process: str = "") -> Reading:
        """Ask one probe; `process` is whose readiness it is about."""
        assert self._catalogue is not None
        probe = addressed(probe, self, process)
        since = self._starts.get(process, NO_START)
        beat = probe.path if isinstance(probe, Heartbeat) and not probe.socket else ""
        if beat in since.beats and since.beats[beat] == _modified_ns(self.cwd / beat):
            return Reading(held=False, detail="no heartbeat yet: the last came before it was started")
        return self._catalogue.reader(probe.kind)(probe, self._as_of(since))

    def starting(self, process: str, spec: ProcessSpec) -> None:
        """A process is about to be started: what the one before it printed, and its last beat, make nobody ready."""
        probes = [addressed(one.probe, self, process) for one in (spec.ready, spec.alive) if one]
        self._starts[process] = Start(
            at_us=now_us(),
            lines={
                one.match: self.log_matches(process, one.match)
                for one in probes
                if isinstance(one, Log) and one.process == process
            },
            beats={
                one.path: modified
                for one in probes
                if isinstance(one, Heartbeat) and (modified := _modified_ns(self.cwd / one.path)) is not None
            },
            process=process,
        )

    def _as_of(self, since: Start) -> RoundView:
        view = copy(self)
        view._since = since
        return view

    def log_matches(self, process: str, regex: str) -> int:
        """How many lines that a process printed match; for its readiness, those that it printed since its start."""
        count = sum(self._sinks[f"{process}.{stream}"].matches(regex) for stream in ("out", "err"))
        return count - (self._since.lines.get(regex, 0) if process == self._since.process else 0)

    def log_lines(self, process: str) -> Iterable[str]:
        """The lines that a process printed last."""
        for stream in ("out", "err"):
            yield from self._sinks[f"{process}.{stream}"].tail()

    def census(self) -> Census:
        """Who is alive now in the trees of the round."""
        assert self._watch is not None
        return self._watch.census()

    def acks(self) -> Path:
        """The ledger of acknowledgements."""
        return self._run.acks

    def heartbeat_path(self, process: str) -> Path:
        """Where a process puts its heartbeat, when the experiment does not say."""
        return self._own_paths.get(process, self._run.state / f".heartbeat-{process}")

    def heartbeat_seen_ms(self, path: Path) -> float | None:
        """How long ago the last datagram came in on a heartbeat socket; None if none has yet."""
        listening = self._sockets.get(path)
        seen_ms = listening.seen_ms() if listening else None
        if seen_ms is not None and seen_ms > (now_us() - self._since.at_us) / 1000:
            return None  # From the one before it.
        return seen_ms

    def listen_for_heartbeats(self, experiment: Experiment, loop: Loop) -> None:
        """Open the sockets on which processes say that they live, before any is started."""
        for name, spec in experiment.processes.items():
            for probe in (one.probe for one in (spec.ready, spec.alive) if one):
                if isinstance(probe, Heartbeat) and probe.socket:
                    self._open_socket(name, probe, loop)

    def _open_socket(self, process: str, probe: Heartbeat, loop: Loop) -> None:
        path = self.cwd / probe.path if probe.path else self._own_paths.get(process)
        if path in self._sockets:
            return
        # Without a path we pick one: a socket's may have 107 bytes only, and a run directory is deeper than that.
        opened = HeartbeatSocket(path) if path else HeartbeatSocket.private(process)
        self._sockets[opened.path] = opened
        if not probe.path:
            self._own_paths[process] = opened.path
        loop.watch(opened.fileno(), opened.receive)

    def close(self) -> None:
        """Take the heartbeat sockets away."""
        for one in self._sockets.values():
            one.close()

    def run_command(
        self,
        argv: tuple[str, ...],
        within_ms: int,
        env: Mapping[str, str],
        keep_bytes: int = KEEP_BYTES,
        network: str = "",
    ) -> Finished:
        """Run a command in the experiment's directory, below the guardian; its tree ends with its time or the round."""
        try:
            place = networks.place(self.env, network, CROUPIER) if network else None
        except OSError as problem:
            return Finished(failed=str(problem.strerror))
        return self._commands.run(
            argv, env={**self.env, **env}, cwd=str(self.cwd), within_ms=within_ms, keep_bytes=keep_bytes, place=place
        )

    def end_commands(self) -> None:
        """End the commands that run now, and begin no other."""
        self._commands.close()

    def remember_baseline(self) -> None:
        """The round begins: files that must grow are measured from here."""
        assert self._watch is not None
        for probe in self._watch.every_probe():
            if isinstance(probe, File):
                path = self.cwd / probe.path
                self.baseline[probe.path] = path.stat().st_size if path.is_file() else 0

    def count_from_the_start(self, probes: Iterable[Probe]) -> None:
        """Count the lines that log probes ask for from the first one on, so that none is missed."""
        for probe in probes:
            if isinstance(probe, Log):
                for stream in ("out", "err"):
                    if sink := self._sinks.get(f"{probe.process}.{stream}"):
                        sink.watch(probe.match)


def _modified_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
