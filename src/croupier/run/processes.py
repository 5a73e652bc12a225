"""The processes of a round: the supervisor's commands carried out, their output collected, the workload run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..collect import cores
from ..collect.ledger import AckLedger
from ..collect.logs import LogSink
from ..inject.gc_pressure import hooked
from ..model import course as c
from ..model import journal as j
from ..model import supervision as s
from ..model.choice import ChoiceStream
from ..model.errors import TargetError
from ..model.experiment import ProcessSpec, Readiness, Workload
from ..model.faults.collector import GcPressure
from ..model.plan import OnLog, processes_hit
from ..model.probe import Heartbeat, Reading
from ..model.target import Identity
from ..supervise.keeper import Exited
from ..system import networks, signals
from ..system.clock import now_us
from ..trace.launch import control_number
from .floor import Floor
from .prepare import start_order, with_env
from .watch import Watch

WORKLOAD = "workload"
ACKS_EVERY_MS = 1_000


@dataclass(kw_only=True)
class Running:
    """One supervised process, with what watches it."""

    unit: s.Unit
    spec: ProcessSpec
    asking: str = ""
    """`ready` or `alive` while that probe is asked, "" else."""
    began_us: int = 0
    failing_since_us: int | None = None
    told: list[s.UnitEvent] = field(default_factory=list)
    seen_ready: bool | None = None
    why: str = ""
    """Why it is in its state."""
    ended: Identity | None = None
    """The main process whose end was told last."""
    gone_first: Identity | None = None
    """The main process that had ended before it was asked to."""


class Processes:
    """Starts, watches, restarts and ends what the experiment lists under `processes`, and the workload."""

    def __init__(self, floor: Floor, watch: Watch, sinks: dict[str, LogSink], ledger: AckLedger) -> None:
        self._floor = floor
        self._watch = watch
        self._choices = ChoiceStream(floor.plan.seed).fork("restarts")
        self._running = {
            name: Running(unit=s.Unit(name=name), spec=floor.experiment.processes[name])
            for name in start_order(floor.experiment)
        }
        self._sinks = sinks
        self._ledger = ledger
        self._crash_moments: dict[str, list[int]] = {}
        self._workload: Identity | None = None
        self._workload_asked = False
        self._workload_over: Callable[[], None] | None = None
        self._acks_told = 0
        self._ready_told = False
        self._stopping = False
        self._ending: set[str] = set()
        self._open_logs = 0

    # Starting.

    def start_all(self) -> None:
        """Start every process whose needs are ready; the others follow when theirs are."""
        if not self._running:
            self._tell_ready()
        self._start_more()

    def _start_more(self) -> None:
        for name, one in self._running.items():
            waiting = one.unit.state == "waiting" and not self._stopping
            if waiting and all(self._running[need].unit.state == "ready" for need in one.spec.needs):
                self._step(name, s.StartAsked())

    def _tell_ready(self) -> None:
        if not self._ready_told and all(one.unit.state == "ready" for one in self._running.values()):
            self._ready_told = True
            self._floor.tell(c.AllReady(at_ms=self._floor.now_ms))

    def _step(self, name: str, event: s.UnitEvent) -> None:
        """Tell one process's table what happened; what comes up while its commands are performed waits its turn."""
        one = self._running[name]
        one.told.append(event)
        if len(one.told) > 1:
            return
        while one.told:
            before, who = one.unit.state, one.unit.who
            one.unit, commands = s.step(one.unit, one.spec, one.told[0], self._floor.now_ms, self._choices)
            for command in commands:
                self._perform(name, one, command)
            one.told.pop(0)
            if (one.unit.state, one.unit.who) != (before, who):
                state = one.unit.state
                self._watch.follow(name, one.unit.who, ready=state == "ready", fatal=state == "fatal")
            if one.unit.state != before:
                self._changed(name, one)

    def _perform(self, name: str, one: Running, command: s.UnitCommand) -> None:
        match command:
            case s.Announce():
                one.why = command.why
                self._floor.record(
                    j.ProcessMoved(process=name, state=command.state, why=command.why, delay_ms=command.delay_ms)
                )
            case s.Spawn():
                self._spawn(name, one, command.attempt)
            case s.ArmReady():
                self._ask(name, one, "ready", command.attempt)
            case s.ArmAlive():
                self._ask(name, one, "alive", command.attempt)
            case s.Disarm():
                one.asking = ""
            case s.Timer():
                self._floor.loop.after(command.after_ms, lambda: self._step(name, command.rung()))
            case s.Signal():
                if not self._signal(name, command.who, command.name):
                    one.gone_first = command.who
            case s.EndTree():
                self._end_tree(name, command.who)

    def _spawn(self, name: str, one: Running, attempt: int) -> None:
        spec, floor = one.spec, self._floor
        heartbeat = {"CROUPIER_HEARTBEAT": str(floor.view.heartbeat_path(name))} if _beats(spec) else {}
        one.began_us = now_us()
        floor.view.starting(name, spec)
        try:
            who = self._start(name, self._env(name, {**heartbeat, **spec.env}), spec)
        except TargetError as problem:
            self._step(name, s.SpawnFailed(reason=floor.redactor.clean(problem.message)))
            return
        floor.record(j.ProcessStarted(process=name, who=who, attempt=attempt))
        self._step(name, s.Spawned(who=who))

    def _env(self, name: str, own: Mapping[str, str]) -> Mapping[str, str]:
        """The environment of a process: with what it is to load first, and a hook for collections, where wanted."""
        floor = self._floor
        env: Mapping[str, str] = with_env(floor.env, own)
        if floor.preloads:
            env = floor.preloads.environment(name, env)
        if name not in processes_hit(floor.plan, GcPressure, floor.experiment.processes):
            return env
        place = floor.run.artifacts / "collections"
        place.mkdir(exist_ok=True)
        return hooked(env, place)

    def _start(self, name: str, env: Mapping[str, str], spec: ProcessSpec | Workload) -> Identity:
        floor = self._floor
        try:
            place = networks.place(floor.env, spec.network, name) if spec.network else None
        except OSError as problem:
            raise TargetError(str(problem.strerror)) from problem
        pipes = {stream: os.pipe2(os.O_CLOEXEC) for stream in ("out", "err")}
        try:
            who = floor.keeper.spawn(
                name,
                spec.command,
                env=env,
                cwd=str(floor.base / spec.cwd),
                stdout=pipes["out"][1],
                stderr=pipes["err"][1],
                core_limit=floor.experiment.collect.cores,
                filter=floor.calls.filter_for(name) if floor.calls else b"",
                report_at=control_number(),
                place=place,
            )
        except TargetError:
            for read, _ in pipes.values():
                os.close(read)
            raise
        finally:
            for _, write in pipes.values():
                os.close(write)
        if floor.calls and (given := floor.keeper.take_listener(who)):
            floor.calls.started(name, who, *given)
        for stream, (read, _) in pipes.items():
            self._drain(read, self._sinks[f"{name}.{stream}"])
        return who

    def _drain(self, fd: int, sink: LogSink) -> None:
        os.set_blocking(fd, False)
        self._open_logs += 1

        def readable() -> None:
            try:
                chunk = os.read(fd, 65_536)
            except BlockingIOError:
                return
            except OSError:
                chunk = b""
            at_us = now_us() - self._floor.journal.zero_us
            if chunk:
                sink.feed(chunk, at_us)
                return
            sink.end(at_us)
            self._floor.loop.forget(fd)
            os.close(fd)
            self._open_logs -= 1

        self._floor.loop.watch(fd, readable)

    # Ready, and alive.

    def _changed(self, name: str, one: Running) -> None:
        unit = one.unit
        if unit.state == "ready":
            assert unit.who is not None
            took_ms = round((now_us() - one.began_us) / 1000, 3)
            self._floor.record(j.ProcessReady(process=name, who=unit.who, took_ms=took_ms))
            self._start_more()
            self._tell_ready()
        if unit.state == "fatal" and self._floor.phase in ("starting", "steadying", "round"):
            self._floor.tell(
                c.CannotStart(at_ms=self._floor.now_ms, why=f"{name} is fatal, and not started again: {one.why}")
            )
        if unit.state in ("exited", "fatal"):
            self._all_stopped()

    def _ask(self, name: str, one: Running, what: str, attempt: int) -> None:
        readiness = one.spec.ready if what == "ready" else one.spec.alive
        if readiness is None:
            return
        one.asking, one.failing_since_us = what, None
        self._ask_again(name, one, what, readiness, attempt)

    def _ask_again(self, name: str, one: Running, what: str, readiness: Readiness, attempt: int) -> None:
        def is_asked() -> bool:
            return one.asking == what and one.unit.attempt == attempt

        def answered(reading: Reading) -> None:
            if not is_asked():
                return
            self._answered(name, one, what, readiness, reading)
            if is_asked():
                self._floor.loop.after(readiness.every_ms, lambda: self._ask_again(name, one, what, readiness, attempt))

        if is_asked():
            self._watch.ask(readiness.probe, answered, process=name)

    def _answered(self, name: str, one: Running, what: str, readiness: Readiness, reading: Reading) -> None:
        if one.seen_ready != reading.held:
            one.seen_ready = reading.held
            plain = self._floor.plain.processes[name]
            named = plain.ready if what == "ready" else plain.alive
            assert named is not None
            self._floor.record(
                j.ProbeRead(
                    probe=named.probe.label,
                    role="ready" if what == "ready" else "alive",
                    held=reading.held,
                    detail=reading.detail,
                    took_ms=round(reading.took_ms, 3),
                    process=name,
                )
            )
        if what == "ready":
            if reading.held:
                one.asking = ""
                self._step(name, s.ReadySeen())
            return
        if reading.held:
            one.failing_since_us = None
            return
        if one.failing_since_us is None:
            one.failing_since_us = now_us()
        if now_us() - one.failing_since_us >= readiness.within_ms * 1000:
            one.asking = ""
            self._step(name, s.AliveFailed(reason=reading.detail))

    # Dying.

    def exited(self, message: Exited) -> None:
        """The guardian saw a process of its tree end."""
        if message.who == self._workload:
            self._workload_ended(message)
            return
        for name, one in self._running.items():
            # A whole tree may be told to be gone before its main process is told to have ended.
            if message.who in (one.unit.who, one.unit.last) and one.ended != message.who:
                if not self._is_asked(one, message.who) and self._watch.undecided(message.who):
                    self._watch.when_decided(lambda: self.exited(message))
                    return
                one.ended = message.who
                self._died(name, one, message)
                return

    def _died(self, name: str, one: Running, message: Exited) -> None:
        if self._forked_away(name, one, message):
            return
        starved = self._watch.starved(message.who) if message.oom else 0
        number = self._watch.injury(message.who) or starved
        cause: j.Cause = (
            "asked" if self._is_asked(one, message.who) else "injected" if number else "oom" if message.oom else "own"
        )
        self._floor.record(
            j.ProcessExited(
                process=name,
                who=message.who,
                cause=cause,
                code=message.code,
                signal=message.signal,
                core=message.core,
                injection=number,
                oom=bool(starved),
            )
        )
        if message.core:
            self._keep_core(name, message)
        if cause in ("own", "oom"):
            moments = self._crash_moments.setdefault(name, [])
            moments.append(now_us())
            self._watch.crashed(name, moments)
        self._step(name, s.Died(code=message.code, signal=message.signal, cause=cause, who=message.who))

    @staticmethod
    def _is_asked(one: Running, who: Identity) -> bool:
        # The end of a process may be told after the stop that came too late for it.
        return (one.unit.state == "stopping" or one.unit.asked) and one.gone_first != who

    def _forked_away(self, name: str, one: Running, message: Exited) -> bool:
        """A command that daemonises ends at once; what it left behind, now the guardian's child, is the process."""
        if not one.spec.forks_away or one.unit.forked or one.unit.state != "starting" or message.code != 0:
            return False
        self._step(name, s.Died(code=0, cause="own", who=message.who))
        self._adopt(name, one, one.unit.attempt)
        return True

    def _adopt(self, name: str, one: Running, attempt: int, seen: Identity | None = None) -> None:
        """Look for the daemon until it is there; the table gives up on it when its start takes too long."""
        if one.unit.state != "starting" or one.unit.attempt != attempt:
            return
        left = self._floor.keeper.adopted(name)
        if not left or left[0] != seen:
            # Seen twice: who forks twice leaves a process in between behind for a moment.
            pause_ms = 100 if left else 20
            self._floor.loop.after(pause_ms, lambda: self._adopt(name, one, attempt, left[0] if left else None))
            return
        self._floor.note(f"{name} forked away: its daemon is {left[0]}")
        self._step(name, s.Adopted(who=left[0]))

    def _keep_core(self, name: str, message: Exited) -> None:
        floor, spec = self._floor, self._floor.experiment.processes[name]
        exe = spec.command[0]

        def told(note: str) -> None:
            floor.note(f"{name}: {note}")

        floor.loop.work(
            lambda: cores.keep_core(
                pid=message.who.pid,
                exe=exe,
                cwd=floor.base / spec.cwd,
                into=floor.run.artifacts / "cores",
                redactor=floor.redactor,
            ),
            told,
        )

    def _signal(self, name: str, who: Identity, signal: str) -> bool:
        """Send it; False where the process had ended before."""
        try:
            return signals.send(who, signal)
        except OSError as problem:
            # A program that changed its user, say. Its grace runs all the same, and the guardian ends it then.
            self._floor.note(f"{name} could not be sent {signal}: {problem.strerror}")
            return True

    def _end_tree(self, name: str, who: Identity) -> None:
        keeper = self._floor.keeper

        def end() -> None:
            keeper.end_tree(name, who)

        self._ending.add(name)

        def ended(_: object) -> None:
            self._ending.discard(name)
            self._step(name, s.TreeGone())
            self._all_stopped()

        # Not on a worker: a kill must not queue behind slow probes.
        self._floor.loop.apart(end, ended, f"croupier-end-{name}")

    def stop_all(self, *, at_once: bool) -> None:
        """Ask everything to stop, the last started first; the grace of each is its own. At once: kill the trees."""
        self._stopping = True
        for name, one in reversed(self._running.items()):
            self._step(name, s.StopAsked())
            if at_once:
                self._step(name, s.GraceOver(attempt=one.unit.attempt))
        if self._workload is not None:
            self.stop_workload(lambda: self._all_stopped(), at_once=at_once)
        self._all_stopped()

    def _all_stopped(self) -> None:
        over = all(one.unit.state in ("exited", "fatal", "waiting") for one in self._running.values())
        if self._stopping and over and not self._ending and self._workload is None:
            self._floor.tell(c.AllStopped(at_ms=self._floor.now_ms))

    # The workload.

    def start_workload(self) -> None:
        """Start what uses the program, and watch the log lines that triggers wait for."""
        self._watch_triggers()
        workload = self._floor.experiment.workload
        if workload is None:
            return
        env = with_env(self._floor.env, workload.env)
        try:
            self._workload = self._start(WORKLOAD, env, workload)
        except TargetError as problem:
            self._floor.note(f"the workload could not be started: {problem.message}", trouble=True)
            self._floor.tell(c.AbortSeen(at_ms=self._floor.now_ms, why="the workload could not be started"))
            return
        self._floor.record(j.WorkloadStarted(who=self._workload))
        self._floor.loop.after(ACKS_EVERY_MS, self._tell_acks)

    def _tell_acks(self) -> None:
        if self._ledger.count != self._acks_told:
            self._acks_told = self._ledger.count
            self._floor.record(j.Acknowledged(count=self._acks_told))
        if self._workload is not None:
            self._floor.loop.after(ACKS_EVERY_MS, self._tell_acks)

    def stop_workload(self, over: Callable[[], None], *, at_once: bool = False) -> None:
        """Tell the workload to end, and kill its tree when its grace is over; then call."""
        workload = self._floor.experiment.workload
        if self._workload is None or workload is None:
            over()
            return
        self._workload_asked, self._workload_over = True, over
        who = self._workload
        if at_once:
            self._end_workload(who)
            return
        self._signal(WORKLOAD, who, workload.stop.signal)
        self._floor.loop.after(workload.stop.grace_ms, lambda: self._workload_hangs(who, workload))

    def _workload_hangs(self, who: Identity, workload: Workload) -> None:
        if self._workload != who:
            return
        self._floor.note(
            f"the workload did not end within {workload.stop.grace_ms} of {workload.stop.signal}; it was killed"
        )
        self._end_workload(who)

    def _end_workload(self, who: Identity) -> None:
        keeper = self._floor.keeper
        self._floor.loop.apart(lambda: keeper.end_tree(WORKLOAD, who), lambda _: None, "croupier-end-workload")

    def _workload_ended(self, message: Exited) -> None:
        self._workload = None
        # What it printed last may still be in the pipe; the ledger must have it before anybody asks.
        self._floor.loop.after(20, lambda: self._workload_read(message))

    def _workload_read(self, message: Exited) -> None:
        floor, workload = self._floor, self._floor.experiment.workload
        floor.record(
            j.WorkloadEnded(
                asked=self._workload_asked, code=message.code, signal=message.signal, acks=self._ledger.count
            )
        )
        if workload is not None and not self._workload_asked and message.code not in workload.exit_codes:
            how = f"signal {message.signal}" if message.signal else f"exit code {message.code}"
            floor.note(f"the workload ended by itself with {how}: evidence is missing from then on", trouble=True)
        if not self._workload_asked:
            floor.tell(c.WorkloadEnded(at_ms=floor.now_ms))
        keeper = floor.keeper
        over, self._workload_over = self._workload_over, None
        # What the workload itself started must not go on acknowledging.
        floor.loop.apart(
            lambda: keeper.end_tree(WORKLOAD, message.who),
            lambda _: over() if over else None,
            "croupier-end-workload",
        )

    # Log lines.

    def _watch_triggers(self) -> None:
        for injection in self._floor.plan.injections:
            if isinstance(injection.trigger, OnLog):
                self._watch_trigger(injection.number, injection.trigger)

    def _watch_trigger(self, number: int, trigger: OnLog) -> None:
        pattern, seen = re.compile(self._floor.view.bind(trigger.match)), 0

        def on_line(text: str, at_us: int) -> None:
            nonlocal seen
            if pattern.search(text):
                seen += 1
                if seen == trigger.nth:
                    self._floor.tell(c.MomentSeen(at_ms=self._floor.now_ms, injection=number))

        for stream in ("out", "err"):
            sink = self._sinks.get(f"{trigger.process}.{stream}")
            if sink is not None:
                sink.listeners.append(on_line)

    def close(self) -> None:
        """Nothing more is started or asked."""
        self._stopping = True
        for one in self._running.values():
            one.asking = ""

    def states(self) -> dict[str, str]:
        """The state of each process, for whoever asks."""
        return {name: one.unit.state for name, one in self._running.items()}

    def main_of(self, process: str) -> Identity | None:
        """The main process of a role."""
        return self._running[process].unit.who


def _beats(spec: ProcessSpec) -> bool:
    return any(one is not None and isinstance(one.probe, Heartbeat) for one in (spec.ready, spec.alive))
