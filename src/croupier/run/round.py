"""One round, from the first event to the verdict: ask `advance`, perform its commands, write the journal.

Whatever happens on the way (a signal, a full disk, a lost guardian, a defect of ours), the way out is the same: heal
everything, end everything that was started, say what is left, and judge what there is.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

import msgspec

from ..collect.cores import why_no_cores
from ..collect.describe import describe_environment
from ..collect.events import clean_event
from ..collect.ledger import AckLedger
from ..collect.logs import LogSink
from ..collect.redact import Redactor
from ..load import Loaded
from ..model import course as c
from ..model import journal as j
from ..model.course import Course, advance
from ..model.errors import HarnessError
from ..model.experiment import bind
from ..model.fingerprint import Fingerprint, difference
from ..model.guard import default_time_box_ms
from ..model.noun import Noun
from ..model.plan import Plan, plan_json
from ..model.probe import Probe, Reading
from ..model.verdict import Verdict, judge
from ..registry import Catalogue
from ..store import JournalWriter, RunDir, new_run_dir
from ..store.runs import slug, write_whole
from ..supervise import left_behind
from ..supervise.commands import Commands
from ..supervise.keeper import Exited, GuardianGone, HealedLate, Keeper
from ..supervise.running import registered_in, state_home
from ..system.clock import now_us
from .arrangements import refuse_arrangements, set_up
from .calls import CallWatch, refuse_calls
from .floor import Floor
from .host import LiveHost, Rehearsal
from .loop import Loop
from .preloads import Preloads, refuse_clocks
from .prepare import Options, first_line, pick_bindings, process_environment, refuse_what_cannot_be
from .processes import WORKLOAD, Processes
from .strikes import Strikes
from .view import RoundView
from .watch import Watch, world_invariants

Listener = Callable[[j.Event], None]


class Finished(Noun, frozen=True, kw_only=True):
    """A round that is over: where it is stored, and its verdict."""

    path: str
    verdict: Verdict

    @property
    def run(self) -> RunDir:
        """The run directory."""
        return RunDir(Path(self.path))


def run_round(
    loaded: Loaded,
    plan: Plan,
    catalogue: Catalogue,
    options: Options,
    *,
    began: Callable[[RunDir], None] = lambda run: None,
    listen: Listener = lambda event: None,
    tick: Callable[[], None] | None = None,
) -> Finished:
    """Run one round to its end, and judge it.

    `listen` gets every event as it is written; `tick` is called four times a second. Raises Refused or
    ExperimentError before anything was touched, HarnessError when croupier itself broke (everything that could be
    healed was healed then, and the error names the rest).
    """
    refuse_what_cannot_be(plan, catalogue)
    refuse_arrangements(loaded.experiment)
    refuse_calls(plan, loaded.experiment, options.record_calls)
    refuse_clocks(plan, loaded.experiment)
    run = new_run_dir(Path(options.out), plan.title, plan.seed)
    with _ours_to_write(run):
        run.experiment.write_bytes(loaded.source)
        write_whole(run.plan, plan_json(plan))
        began(run)
        round_ = Round(loaded, plan, catalogue, options, run, listen, tick)
    return round_.finish()


@contextmanager
def _ours_to_write(run: RunDir) -> Iterator[None]:
    """What the disk refuses us there is no verdict on the program: we broke."""
    try:
        yield
    except OSError as problem:
        where = str(problem.filename or run.path)
        raise HarnessError(f"the run cannot be stored: {problem.strerror or problem}", at=where) from problem


class Round:
    """The loop's errands: what `advance` commands is done here, and what happens is told to it."""

    def __init__(
        self,
        loaded: Loaded,
        plan: Plan,
        catalogue: Catalogue,
        options: Options,
        run: RunDir,
        listen: Listener,
        tick: Callable[[], None] | None,
    ) -> None:
        file = loaded.path or Path(loaded.name)
        self._run = run
        self._options = options
        self._tick = tick
        self._broken: HarnessError | None = None
        self._closing: c.Close | None = None
        self._before: Fingerprint | None = None
        self._telling = False
        self._woken_before: int | None = None
        self._told: list[c.Happening] = []
        self._questions: list[Probe] = []
        bindings = pick_bindings(loaded.experiment, run, plan.seed)
        experiment = bind(loaded.experiment, bindings.lookup)
        self._plain = loaded.experiment
        redactor = Redactor(os.environ, loaded.experiment.collect.redact, used=bindings.env)
        # Whoever calls us from Python goes on after an error: nothing may be left behind then, the guardian least.
        with ExitStack() as on_error:
            self._loop = Loop()
            on_error.callback(self._loop.close)
            self._journal = JournalWriter(run.journal, now_us())
            on_error.callback(self._journal.close)
            self._course = Course(
                plan=plan, steady_within_ms=experiment.steady_within_ms, settle_ms=experiment.settle_ms
            )
            first = first_line(loaded.experiment, plan, run, options, loaded.source, file, redactor)
            listen(self._journal.record(clean_event(first, redactor)))
            self._keeper = Keeper.start(run.path, run.unique, catalogue.plugins)
            on_error.callback(self._keeper.close)
            self._sinks = {
                f"{name}.{stream}": LogSink(
                    run.logs / f"{name}.{stream}.log", redactor, experiment.collect.log_bytes // 2
                )
                for name in (*experiment.processes, WORKLOAD)
                for stream in ("out", "err")
            }
            ledger = AckLedger(run.acks)
            on_error.callback(ledger.close)

            def acknowledged(line: str, at_us: int) -> None:
                ledger.take(line)

            self._sinks[f"{WORKLOAD}.out"].listeners.append(acknowledged)
            env = {**process_environment(bindings, run), **self._keeper.marker}
            view = RoundView(loaded.directory, env, run, bindings, self._sinks, Commands(self._keeper))
            on_error.callback(view.close)
            on_error.callback(view.end_commands)
            self.floor = Floor(
                experiment=experiment,
                plain=loaded.experiment,
                plan=plan,
                run=run,
                base=loaded.directory,
                catalogue=catalogue,
                host=Rehearsal() if options.rehearsal else LiveHost(catalogue),
                loop=self._loop,
                journal=self._journal,
                keeper=self._keeper,
                env=env,
                redactor=redactor,
                live=options.live,
                view=view,
                tell=self.tell,
                listen=listen,
                broke=self.broke,
            )
            self.floor.calls = self._calls = CallWatch(self.floor, options.record_calls, lambda: ledger.count)
            self.floor.preloads = self._preloads = Preloads(self.floor)
            self._watch = Watch(self.floor)
            on_error.callback(self._watch.close)
            view.look_through(self._watch, catalogue)
            view.count_from_the_start(self._watch.every_probe())
            view.listen_for_heartbeats(experiment, self._loop)
            for sink in self._sinks.values():
                sink.on_trouble = self.floor.note
            self._strikes = Strikes(self.floor, self._watch)
            self._processes = Processes(self.floor, self._watch, self._sinks, ledger)
            self._ledger = ledger
            self._warnings = [str(one) for one in loaded.warnings]
            write_whole(
                run.artifacts / "environment.json",
                msgspec.json.format(msgspec.json.encode(describe_environment(os.environ, redactor)), indent=2),
            )
            on_error.pop_all()

    def finish(self) -> Finished:
        """Run the loop to its end, put everything back whatever comes, and judge."""
        # Signals ask until the very end: one that comes while things are put back must not cut that short.
        with self._signals():
            return self._finish()

    def _finish(self) -> Finished:
        try:
            self._open()
            self._loop.run()
        except HarnessError as problem:
            self._broken = self._broken or problem
        except Exception as problem:
            self._broken = HarnessError(f"croupier has a defect: {type(problem).__name__}: {problem}")
            self._broken.__cause__ = problem
        finally:
            unhealed = self._put_everything_back()
        self._write_end(unhealed)
        if self._broken is not None:
            self._broken.unhealed = unhealed
            raise self._broken
        verdict = judge(self._run.events())
        with _ours_to_write(self._run):
            self._run.write_verdict(verdict)
        return Finished(path=str(self._run.path), verdict=verdict)

    # The loop's life.

    def _open(self) -> None:
        if self._plain.collect.cores and (why := why_no_cores()):
            self.floor.note(f"no core dumps will be kept: {why}")
        for warning in self._warnings:
            self.floor.note("; ".join(line.strip() for line in warning.splitlines()))
        if (home := registered_in(self._run.unique)) != state_home():
            where = f"in {home} instead" if home else "nowhere: `halt` and `recover` must be given the run directory"
            self.floor.note(f"{state_home()} cannot be written; this round is registered {where}")
        if self._options.live and self._plain.attach:
            self.floor.note("live: processes that croupier did not start may be disturbed")
        self._loop.watch(self._keeper.fileno(), self._heard)
        time_box_ms = default_time_box_ms(self._plain, self.floor.plan.lasts_ms)
        end_us = now_us() + time_box_ms * 1000
        self._loop.at(end_us, lambda: self.tell(c.TimeBoxOver(at_ms=self.floor.now_ms)))
        # The guardian ends what a croupier that hangs would not: a little later than croupier itself would.
        self._keeper.end_by(end_us + 15_000_000)
        if self._tick is not None:
            self._keep_ticking(self._tick)
        self._watch.attach_all()
        self._keep_fingerprint()
        set_up(self.floor, end_us + 15_000_000)
        self._preloads.set_up(end_us + 15_000_000)
        self._watch.begin()
        self.tell(c.Begun(at_ms=self.floor.now_ms))

    def _keep_fingerprint(self) -> None:
        """Before anything is disturbed: how the host is, so that it can be told what the round left behind."""
        attached = [one.main for one in self._watch.roles.values() if one.main is not None]
        self._before = left_behind.before_round(self._run.unique, self._run.path, attached)
        self._store_fingerprint(left_behind.BEFORE, self._before)

    def _store_fingerprint(self, name: str, taken: Fingerprint) -> None:
        # It is evidence for later; what the disk refuses here must not keep anything from being put back.
        with suppress(OSError):
            write_whole(self._run.path / name, msgspec.json.encode(taken) + b"\n")

    def _left_behind(self) -> tuple[str, ...]:
        if self._before is None:
            return ()
        after = left_behind.now(self._before)
        self._store_fingerprint(left_behind.AFTER, after)
        return difference(self._before, after)

    def _keep_ticking(self, tick: Callable[[], None]) -> None:
        def again() -> None:
            tick()
            self._loop.after(250, again)

        again()

    def tell(self, event: c.Happening) -> None:
        """Hand something to the course, and do what it commands; what comes up meanwhile waits its turn."""
        if isinstance(event, c.Concluded):
            self._calls.released(event.injection)
        self._told.append(event)
        if self._telling:
            return
        self._telling = True
        try:
            while self._told:
                self._course, commands = advance(self._course, self._told.pop(0))
                for command in commands:
                    self._perform(command)
        finally:
            self._telling = False
        self._set_clock()

    def _set_clock(self) -> None:
        """Wake up for the next moment that matters to the course."""
        moment = self._course.next_ms
        if moment is None or moment == getattr(self, "_clock_ms", None):
            return
        self._clock_ms = moment
        due_us = self._journal.zero_us + moment * 1000

        def reached() -> None:
            if self._clock_ms == moment:
                self._clock_ms = -1
                self.tell(c.ClockReached(at_ms=max(self.floor.now_ms, moment)))

        self._loop.at(due_us, reached)

    def _perform(self, command: c.Command) -> None:
        match command:
            case c.Enter():
                self.floor.phase = command.phase
                self.floor.record(j.PhaseEntered(phase=command.phase, why=command.why))
            case c.StartProcesses():
                self._processes.start_all()
            case c.ReadSteadyState():
                self._read_steady_state(command)
            case c.StartWorkload():
                self.floor.view.remember_baseline()
                self.floor.record(self._promise())
                self._calls.begin()
                self._processes.start_workload()
                self._watch.guard_against()
            case c.Attempt():
                self._strikes.attempt(command)
            case c.GiveUp():
                self._strikes.give_up(command.injection)
            case c.HealAll():
                self._strikes.halted = True
                self._strikes.heal_all(command.why)
            case c.StopWorkload():
                self._processes.stop_workload(lambda: self.tell(c.WorkloadOver(at_ms=self.floor.now_ms)))
            case c.ReadInvariants():
                self._read_invariants()
            case c.StopProcesses():
                if command.at_once:
                    self.floor.view.end_commands()
                self._processes.stop_all(at_once=command.at_once)
            case c.Close():
                self._closing = command
                self._loop.stop()

    def _promise(self) -> j.Promised:
        return j.Promised(
            invariants=tuple(one.label for one in self._plain.invariants),
            injections=len(self.floor.plan.injections),
            steady=bool(self._plain.steady_state),
        )

    def _read_steady_state(self, command: c.ReadSteadyState) -> None:
        def answered(held: bool, detail: str) -> None:
            if command.when == "before" or self._plain.steady_state:
                self.floor.record(j.SteadyStateRead(when=command.when, held=held, detail=detail))
            self.tell(c.SteadyRead(at_ms=self.floor.now_ms, held=held, why=detail))

        self._watch.read_steady_state(command.when, command.within_ms, answered)

    def _read_invariants(self) -> None:
        if self._ledger.trouble:
            # A ledger that lacks acknowledgements would make a loss look like nothing.
            self.floor.note(self._ledger.trouble, trouble=True)
        if said := self._ledger.said_of_repeats():
            self.floor.note(said)
        ask, _ = world_invariants(self.floor.experiment.invariants)
        plain, of_journal = world_invariants(self._plain.invariants)
        for one in of_journal:
            options = msgspec.to_builtins(one, enc_hook=str)
            self.floor.record(j.InvariantAsked(invariant=one.label, kind=one.kind, options=options))
        # The label is the file's, with its references as they were written: no secret, and the same in every run.
        questions = list(zip(ask, (one.label for one in plain), strict=True))

        def next_one() -> None:
            if not questions:
                self.tell(c.InvariantsRead(at_ms=self.floor.now_ms))
                return
            probe, label = questions.pop(0)

            def answered(reading: Reading) -> None:
                self.floor.record(
                    j.InvariantRead(
                        invariant=label,
                        kind=probe.kind,
                        held=reading.held,
                        detail=reading.detail,
                        took_ms=round(reading.took_ms, 3),
                        look_at=self._keep_output(label, str(reading.values.get("output", ""))),
                    )
                )
                next_one()

            self._watch.ask(probe, answered)

        next_one()

    def _keep_output(self, label: str, output: str) -> str:
        """Keep what a check printed, beside the logs; where, inside of the run directory."""
        if not output.strip():
            return ""
        folder = self._run.artifacts / "checks"
        try:
            folder.mkdir(exist_ok=True)
            path = folder / f"{len(list(folder.iterdir())) + 1:02}-{slug(label)}.txt"
            path.write_text(self.floor.redactor.clean(output))
        except OSError as problem:
            self.floor.note(f"what {label} printed could not be kept: {problem.strerror}")
            return ""
        return str(path.relative_to(self._run.path))

    # What comes from outside.

    def _heard(self) -> None:
        for message in self._keeper.receive():
            match message:
                case Exited():
                    self._processes.exited(message)
                case HealedLate():
                    self.floor.note(
                        f"the guardian healed {message.key}, which was overdue: {message.note}", trouble=True
                    )
                case GuardianGone():
                    self._loop.forget(self._keeper.fileno())
                    self.broke(f"the guardian of the round is gone: {message.why}")

    def broke(self, why: str) -> None:
        """We broke: leave the loop; `finish` puts everything back."""
        self._broken = HarnessError(why)
        self._loop.stop()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and SIGHUP ask for a stop; a second one, or `croupier halt`, ends the round at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        asked: list[int] = []

        def on_signal(number: int, frame: FrameType | None) -> None:
            asked.append(number)
            at_once = len(asked) > 1
            self._loop.post(lambda: self._stop_asked(signal.Signals(number).name, at_once))

        kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {kind: signal.signal(kind, on_signal) for kind in kinds}
        self._woken_before = signal.set_wakeup_fd(self._loop.wake_fd, warn_on_full_buffer=False)
        try:
            yield
        finally:
            self._wake_no_more()
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _wake_no_more(self) -> None:
        """The loop's descriptor is about to be closed: its number may be another file's soon."""
        if self._woken_before is not None:
            signal.set_wakeup_fd(self._woken_before)
            self._woken_before = None

    def _stop_asked(self, by: str, at_once: bool) -> None:
        halt = self._run.path / "halt"
        if halt.exists():
            by, at_once = "croupier halt", True
        self.floor.record(j.StopAsked(by=by))
        self.tell(c.StopAsked(at_ms=self.floor.now_ms, why=f"{by} was received", at_once=at_once))

    # The way out.

    def _put_everything_back(self) -> tuple[str, ...]:
        """Heal, end every process, and let the guardian check; what could not be put back is named."""
        self._strikes.halted = True
        left: list[str] = []
        steps: tuple[Callable[[], None], ...] = (
            self._end_who_is_watched,
            self._strikes.heal_now,
            self._watch.close,
            self._calls.close,
            lambda: left.extend(self._end_all()),
            self._calls.let_go,
        )
        for step in steps:
            try:
                step()
            except Exception as problem:  # One step that fails must not keep the next from being taken.
                left.append(f"{type(problem).__name__}: {problem}")
        self._wake_no_more()
        self._loop.close()
        return (*self._strikes.unhealed.values(), *left)

    def _end_who_is_watched(self) -> None:
        # Without a guardian its processes are being ended. A call that is let go before they are is done all the same:
        # the kernel has told the process to go on, and only then looks at the signal.
        if self._keeper.gone and self._calls.is_watching:
            self._keeper.end_orphans()

    def _end_all(self) -> list[str]:
        self._processes.close()
        self.floor.view.end_commands()
        left = self._keeper.close()
        # Commands that we ran ourselves (a request to end, a back-trace) are no children of the guardian.
        left = [*left, *(who for who in self._keeper.end_orphans() if who not in left)]
        for sink in self._sinks.values():
            sink.close()
        self._ledger.close()
        self.floor.view.close()
        return [*self._keeper.unhealed, *(f"{who} is still alive" for who in left)]

    def _write_end(self, unhealed: tuple[str, ...]) -> None:
        closing = self._closing
        outcome: j.Outcome = closing.outcome if closing and not self._broken else "aborted"
        why = str(self._broken) if self._broken else closing.why if closing else "the loop ended"
        end = j.RunEnded(outcome=outcome, why=why, unhealed=unhealed, left_behind=self._left_behind())
        try:
            # The cut between "all stopped" and here is small; a journal without this line is read as cut.
            self.floor.close_notes()
            self.floor.record(end)
        except HarnessError as problem:
            self._broken = self._broken or problem
        with suppress(OSError):
            self._journal.close()


def judge_again(run: RunDir) -> Verdict:
    """The verdict again, from the journal alone. Raises ReplayError for a record that cannot be read."""
    return judge(run.events())
