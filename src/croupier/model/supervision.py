"""Supervision: every rule for one supervised process, as a table of states × events. Nothing here starts or ends one.

    unit, commands = step(unit, spec, event, now_ms, choices)

`supervise/` and the run loop perform the commands and feed back what the world answered. `TABLE` holds the rule for
every state × every event; `print_table()` writes it as Markdown for the documentation. In short:

    waiting   nothing was started yet
    starting  start was asked for; ends in ready, or as a failed start
    ready     it works, as far as its readiness says
    stopping  it is being ended, with everything that it started: because we were asked, or to start it anew
    backoff   it died, or did not start, and comes back after the delay
    exited    it ended and stays so
    fatal     it could not be kept alive; it is not started again

What holds in every order of events: after a stop was asked for, and in `exited` and `fatal`, nothing is started. Two
starts never come without an end between them. Restarts never exceed the limit in any window of its length.

What a dead process leaves behind is left alone by a restart, as most programs meet it in the field: if orphans keep a
port taken, that is a finding. A start that takes too long, a process that no longer answers, and every stop end the
whole tree first.

Timers carry the number of the attempt that they were set for, and deaths their process, so that an answer which comes
late is known for what it is, and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from .choice import ChoiceStream
from .experiment import ProcessSpec, Restart
from .journal import Cause, ProcessState
from .noun import Noun
from .target import Identity

FORK_WITHIN_MS: Final = 30_000
"""How long a command that forks away may take to leave its daemon behind, where no `ready` says how long."""

FIRST_STARTS: Final = 3
"""How often a process that was never ready is started, whatever its restart limit is."""

TimerKind = Literal["start", "start_grace", "delay", "stop"]


class Unit(Noun, frozen=True, kw_only=True):
    """One supervised process, as far as its supervision goes. Moments are in ms, on the clock of `now_ms`."""

    name: str
    state: ProcessState = "waiting"
    attempt: int = 0
    """How many starts were asked for; 1 is the first."""
    who: Identity | None = None
    """The main process, while it lives."""
    last: Identity | None = None
    """The newest main process, dead or alive: by it what it left behind is found."""
    started_ms: int | None = None
    ready_ms: int | None = None
    """When this attempt became ready; None while it has not."""
    restarts_ms: tuple[int, ...] = ()
    """When it was restarted, as far back as the window of the restart limit goes."""
    streak: int = 0
    """Restarts in a row, for the backoff; forgotten once it was ready for as long as the longest delay."""
    restarts: int = 0
    """All of them."""
    proven: bool = False
    """It was ready once: until then a failed start says more about the experiment than about recovery."""
    asked: bool = False
    """Somebody wants it ended: it will not come back."""
    due_ms: int = 0
    """In `backoff`: when it is started again."""
    forked: bool = False
    """`forks_away`: the command is not waited for any more; it ended well, or its daemon is known."""
    swept: bool = True
    """Nothing that was started is left, main process and descendants alike."""
    ending: bool = False
    """While `stopping`: `EndTree` was asked for, and is not answered yet."""
    trouble: str = ""
    """While `stopping` without being asked: why it has to go."""


# What happens to a process, told by whoever performs the commands.


class StartAsked(Noun, frozen=True, kw_only=True):
    """The round begins, and what this process needs is ready."""


class Spawned(Noun, frozen=True, kw_only=True):
    """The answer to `Spawn`: it runs."""

    who: Identity


class SpawnFailed(Noun, frozen=True, kw_only=True):
    """The answer to `Spawn`: it could not be started (not found, no permission, …)."""

    reason: str


class Adopted(Noun, frozen=True, kw_only=True):
    """A command that forks away left this daemon behind: from now on it is the main process."""

    who: Identity


class ReadySeen(Noun, frozen=True, kw_only=True):
    """The readiness probe held. `attempt` is that of `ArmReady`; None stands for the current one."""

    attempt: int | None = None


class AliveFailed(Noun, frozen=True, kw_only=True):
    """The liveness probe failed for longer than it may. `attempt` is that of `ArmAlive`; None: the current one."""

    reason: str
    attempt: int | None = None


class Died(Noun, frozen=True, kw_only=True):
    """A main process ended. `code` or `signal` (without SIG) says how; neither: nobody could tell.

    Give `who`: a death that is told late then never counts against the process that was started since.
    """

    cause: Cause
    code: int | None = None
    signal: str = ""
    who: Identity | None = None


class TreeGone(Noun, frozen=True, kw_only=True):
    """The answer to `EndTree`: seen to be gone, all of it."""


class StopAsked(Noun, frozen=True, kw_only=True):
    """The process has to end, and stay away."""


class StartTimeOut(Noun, frozen=True, kw_only=True):
    """The timer `start` rang: it should have been ready by now."""

    attempt: int


class StartGraceOver(Noun, frozen=True, kw_only=True):
    """The timer `start_grace` rang: it stayed up for as long as it had to."""

    attempt: int


class DelayOver(Noun, frozen=True, kw_only=True):
    """The timer `delay` rang: time to start it again."""

    attempt: int


class GraceOver(Noun, frozen=True, kw_only=True):
    """The timer `stop` rang: it was asked to go, and had its time."""

    attempt: int


UnitEvent = (
    StartAsked | Spawned | SpawnFailed | Adopted | ReadySeen | StartTimeOut | StartGraceOver | AliveFailed | Died
    | DelayOver | StopAsked | GraceOver | TreeGone
)  # fmt: skip


# What is to be done, in this order. `Announce` comes first: written down, then done.


class Announce(Noun, frozen=True, kw_only=True):
    """The state changed: write it into the journal."""

    state: ProcessState
    why: str = ""
    delay_ms: int = 0
    """In `backoff`: how long until the next start."""


class Spawn(Noun, frozen=True, kw_only=True):
    """Start it. Answer with `Spawned` or `SpawnFailed`."""

    attempt: int


class ArmReady(Noun, frozen=True, kw_only=True):
    """Begin to ask the readiness probe, until it holds (`ReadySeen`) or is disarmed."""

    attempt: int


class ArmAlive(Noun, frozen=True, kw_only=True):
    """Begin to ask the liveness probe, until it failed for too long (`AliveFailed`) or is disarmed."""

    attempt: int


class Disarm(Noun, frozen=True, kw_only=True):
    """Stop asking either probe. Harmless when none is asked."""


class Timer(Noun, frozen=True, kw_only=True):
    """Set a timer, and feed back `rung()` when it rings. Nobody needs to cancel one: a stale one is ignored."""

    kind: TimerKind
    after_ms: int
    attempt: int

    def rung(self) -> UnitEvent:
        """The event that says that this timer rang."""
        return _RUNG[self.kind](attempt=self.attempt)  # type: ignore[no-any-return]


class Signal(Noun, frozen=True, kw_only=True):
    """Send the signal to the main process."""

    name: str
    who: Identity


class EndTree(Noun, frozen=True, kw_only=True):
    """End everything that was started under this name, at once. Answer with `TreeGone` when it is seen to be gone.

    `who` is the newest main process, dead or alive. Meant are its descendants as well, those that ran away from it,
    and what earlier attempts left behind; but nothing that is started after this was asked for.
    """

    who: Identity


UnitCommand = Announce | Spawn | ArmReady | ArmAlive | Disarm | Timer | Signal | EndTree
Step = tuple[Unit, tuple[UnitCommand, ...]]

_RUNG: Final[dict[TimerKind, Any]] = {
    "start": StartTimeOut,
    "start_grace": StartGraceOver,
    "delay": DelayOver,
    "stop": GraceOver,
}


def step(unit: Unit, spec: ProcessSpec, event: UnitEvent, now_ms: int, choices: ChoiceStream) -> Step:
    """What one event does to one process: its next state, and what is to be done now. Defined for every event in
    every state, raises nothing. `now_ms` never runs backwards (monotonic); `choices` is the stream of all restarts."""
    rule = TABLE[unit.state][type(event)]
    return rule.act(_Scene(unit, spec, now_ms, choices), event)


def restart_delay_ms(restart: Restart, streak: int, choices: ChoiceStream) -> int:
    """How long to wait before a restart that follows on `streak` others in a row, jitter included."""
    grown, longest = float(restart.delay_ms), int(restart.max_delay_ms)
    # Multiplied out rather than raised to a power: products of floats are the same on every platform, powers are
    # not, and this one cannot overflow.
    for _ in range(streak):
        if grown >= longest or grown == 0 or restart.backoff == 1:
            break
        grown *= restart.backoff
    delay = min(round(grown), longest)
    return delay + choices.below(delay * restart.jitter_percent // 100 + 1)


def print_table() -> str:
    """The table of states × events as Markdown; what is ignored is left blank."""
    states = get_args(ProcessState)
    lines = [["", *states], ["---"] * (len(states) + 1)]
    for event in EVENTS:
        says = (TABLE[state][event] for state in states)
        lines.append([f"`{event.__name__}`", *("" if rule is IGNORED else rule.says for rule in says)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


class _Scene(NamedTuple):
    """What a rule may look at besides the event."""

    unit: Unit
    spec: ProcessSpec
    now_ms: int
    choices: ChoiceStream

    def becomes(self, **changes: Any) -> Unit:
        return msgspec.structs.replace(self.unit, **changes)

    def stays(self) -> Step:
        return self.unit, ()

    @property
    def is_main_known(self) -> bool:
        """Whether the main process runs: of a command that forks away, the daemon and not the command."""
        return self.unit.who is not None and (self.unit.forked or not self.spec.forks_away)

    def is_current(self, attempt: int | None) -> bool:
        return attempt is None or attempt == self.unit.attempt


# The rules, in the order of a life.


def _first_start(scene: _Scene, event: StartAsked) -> Step:
    return _spawn(scene)


def _spawn(scene: _Scene, **changes: Any) -> Step:
    attempt = scene.unit.attempt + 1
    unit = scene.becomes(
        state="starting", attempt=attempt, who=None, started_ms=None, ready_ms=None, forked=False, **changes
    )
    why = f"attempt {attempt}" if attempt > 1 else ""
    return unit, (Announce(state="starting", why=why), Spawn(attempt=attempt))


def _spawned(scene: _Scene, event: Spawned) -> Step:
    unit, spec = scene.unit, scene.spec
    if unit.who is not None or unit.forked:
        return _stray(scene, event)
    unit = scene.becomes(who=event.who, last=event.who, started_ms=scene.now_ms, swept=False)
    if not spec.forks_away:
        return _main_is_known(scene._replace(unit=unit), limit=True)
    limit_ms = int(spec.ready.within_ms) if spec.ready else max(FORK_WITHIN_MS, int(spec.start_grace_ms))
    return unit, (Timer(kind="start", after_ms=limit_ms, attempt=unit.attempt),)


def _adopted(scene: _Scene, event: Adopted) -> Step:
    unit = scene.unit
    # A daemon takes over once: from then on it is the main process like any other.
    if not scene.spec.forks_away or unit.started_ms is None or scene.is_main_known:
        return scene.stays()
    unit = scene.becomes(who=event.who, last=event.who, forked=True)
    return _main_is_known(scene._replace(unit=unit), limit=False)


def _main_is_known(scene: _Scene, *, limit: bool) -> Step:
    """The main process runs: ask whether it is ready, or wait, or call it ready where nothing was asked for."""
    unit, spec = scene.unit, scene.spec
    if spec.ready is not None:
        timer = Timer(kind="start", after_ms=int(spec.ready.within_ms), attempt=unit.attempt)
        return unit, (ArmReady(attempt=unit.attempt), *((timer,) if limit else ()))
    if spec.start_grace_ms > 0:
        return unit, (Timer(kind="start_grace", after_ms=int(spec.start_grace_ms), attempt=unit.attempt),)
    return _ready(scene, "")


def _ready_seen(scene: _Scene, event: ReadySeen) -> Step:
    if scene.spec.ready is None or not scene.is_main_known or not scene.is_current(event.attempt):
        return scene.stays()
    return _ready(scene, "")


def _start_grace_over(scene: _Scene, event: StartGraceOver) -> Step:
    spec = scene.spec
    if spec.ready is not None or not scene.is_main_known or not scene.is_current(event.attempt):
        return scene.stays()
    return _ready(scene, f"up for {spec.start_grace_ms}")


def _ready(scene: _Scene, why: str) -> Step:
    unit = scene.becomes(state="ready", ready_ms=scene.now_ms, proven=True)
    alive = (ArmAlive(attempt=unit.attempt),) if scene.spec.alive is not None else ()
    return unit, (Announce(state="ready", why=why), *alive)


def _start_time_out(scene: _Scene, event: StartTimeOut) -> Step:
    ready = scene.spec.ready
    if scene.unit.started_ms is None or not scene.is_current(event.attempt):
        return scene.stays()
    if not scene.is_main_known:
        return _put_away(scene, "it did not leave a process behind in time")
    if ready is None:
        # Without `ready` only a command that forks away has a limit, and only until its daemon is known.
        return scene.stays()
    return _put_away(scene, f"it was not ready within {ready.within_ms}")


def _alive_failed(scene: _Scene, event: AliveFailed) -> Step:
    if scene.spec.alive is None or not scene.is_current(event.attempt):
        return scene.stays()
    return _put_away(scene, f"it no longer answered: {event.reason}")


def _spawn_failed(scene: _Scene, event: SpawnFailed) -> Step:
    if scene.unit.started_ms is not None:
        return scene.stays()
    if not scene.unit.proven:
        # A program that was not found will not be found the next time.
        return _end(scene, "fatal", event.reason)
    return _bring_back(scene, event.reason)


def _died_starting(scene: _Scene, event: Died) -> Step:
    unit = scene.unit
    if not _is_ours(unit, event):
        return scene.stays()
    if scene.spec.forks_away and not unit.forked and event.code == 0 and not event.signal:
        return scene.becomes(who=None, forked=True), ()
    gone = scene._replace(unit=scene.becomes(who=None))
    if event.cause == "asked":
        return _end(gone, "exited", how(event), Disarm())
    return _bring_back(gone, f"{how(event)} before it was ready", Disarm())


def _died_ready(scene: _Scene, event: Died) -> Step:
    if not _is_ours(scene.unit, event):
        return scene.stays()
    restart = scene.spec.restart
    gone = scene._replace(unit=scene.becomes(who=None))
    is_expected = not event.signal and event.code in restart.exit_codes
    if event.cause == "asked" or restart.when == "never" or (restart.when == "unexpected" and is_expected):
        return _end(gone, "exited", how(event), Disarm())
    return _bring_back(gone, how(event), Disarm())


def _died_stopping(scene: _Scene, event: Died) -> Step:
    if not _is_ours(scene.unit, event):
        return scene.stays()
    # The grace was for the main process. Whatever it leaves behind is of no more use to anybody.
    return _end_tree(scene._replace(unit=scene.becomes(who=None)))


def _is_ours(unit: Unit, event: Died) -> bool:
    return unit.who is not None and (event.who is None or event.who == unit.who)


def how(event: Died) -> str:
    """How a process died, in a few words."""
    what = f"signal {event.signal}" if event.signal else "end unknown" if event.code is None else f"code {event.code}"
    why = {"injected": ", injected", "asked": ", asked to", "oom": ", out of memory", "own": ""}[event.cause]
    return what + why


def _put_away(scene: _Scene, trouble: str) -> Step:
    """It lives, but is no good: end all of it. Whether it comes back is asked when it is gone."""
    stopping = scene._replace(unit=scene.becomes(trouble=trouble))
    return _stop(stopping, trouble)


def _bring_back(scene: _Scene, why: str, *first: UnitCommand) -> Step:
    """It is down, and nobody asked for that: again after a delay, or never where the policy or the limit says so."""
    unit, restart = scene.unit, scene.spec.restart
    if restart.when == "never":
        return _end(scene, "exited" if unit.ready_ms is not None else "fatal", why, *first)
    if not unit.proven and unit.attempt >= FIRST_STARTS:
        return _end(scene, "fatal", f"{why}; it was never ready in {unit.attempt} starts", *first)
    is_calm = unit.ready_ms is not None and scene.now_ms - unit.ready_ms >= restart.max_delay_ms
    streak = 0 if is_calm else unit.streak
    delay_ms = restart_delay_ms(restart, streak, scene.choices.fork(unit.name).fork(unit.attempt))
    due_ms = scene.now_ms + delay_ms
    # The window is the one that the restart would fall into, so that restarts slower than the limit go on for ever.
    recent = tuple(moment for moment in unit.restarts_ms if moment > due_ms - restart.limit.per_ms)
    if len(recent) >= restart.limit.count:
        return _end(scene, "fatal", f"{why}; restarts are limited to {restart.limit}", *first)
    waiting = scene.becomes(state="backoff", who=None, streak=streak, restarts_ms=recent, due_ms=due_ms)
    timer = Timer(kind="delay", after_ms=delay_ms, attempt=unit.attempt)
    return waiting, (Announce(state="backoff", why=why, delay_ms=delay_ms), *first, timer)


def _delay_over(scene: _Scene, event: DelayOver) -> Step:
    unit = scene.unit
    if not scene.is_current(event.attempt):
        return scene.stays()
    early_ms = unit.due_ms - scene.now_ms
    if early_ms > 0:
        # Starting early could break the limit; dropping the timer would wait for ever.
        return unit, (Timer(kind="delay", after_ms=early_ms, attempt=unit.attempt),)
    return _spawn(
        scene, streak=unit.streak + 1, restarts=unit.restarts + 1, restarts_ms=(*unit.restarts_ms, scene.now_ms)
    )


def _stop_before_start(scene: _Scene, event: StopAsked) -> Step:
    return _end(scene._replace(unit=scene.becomes(asked=True)), "exited", "never started")


def _stop_asked(scene: _Scene, event: StopAsked) -> Step:
    asked = scene._replace(unit=scene.becomes(asked=True))
    return _stop(asked, "asked to stop")


def _stop_while_down(scene: _Scene, event: StopAsked) -> Step:
    """In backoff, exited or fatal the main process is gone, but what it started may live on."""
    unit = scene.unit
    asked = scene.becomes(asked=True)
    if unit.swept or unit.last is None:
        if unit.state == "exited":
            return asked, ()
        return _end(scene._replace(unit=asked), "exited", "asked to stop")
    stopping = msgspec.structs.replace(asked, state="stopping", ending=True)
    return stopping, (Announce(state="stopping", why="asked to stop"), EndTree(who=unit.last))


def _stop_while_stopping(scene: _Scene, event: StopAsked) -> Step:
    return scene.becomes(asked=True), ()


def _stop(scene: _Scene, why: str) -> Step:
    """The signal and a grace for the main process; where there is none any more, the end of the tree at once."""
    unit, stop = scene.unit, scene.spec.stop
    stopping = scene.becomes(state="stopping")
    said = (Announce(state="stopping", why=why), Disarm())
    timer = Timer(kind="stop", after_ms=int(stop.grace_ms), attempt=unit.attempt)
    if unit.who is not None:
        return stopping, (*said, Signal(name=stop.signal.removeprefix("SIG"), who=unit.who), timer)
    if unit.forked and unit.last is not None:
        return msgspec.structs.replace(stopping, ending=True), (*said, EndTree(who=unit.last))
    return stopping, (*said, timer)  # The answer to `Spawn` is still on its way.


def _grace_over(scene: _Scene, event: GraceOver) -> Step:
    return _end_tree(scene) if scene.is_current(event.attempt) else scene.stays()


def _end_tree(scene: _Scene) -> Step:
    """Once: a second order could be carried out late, and hit what was started since."""
    unit = scene.unit
    if unit.ending:
        return scene.stays()
    if unit.last is None:
        return _gone(scene, TreeGone())
    return scene.becomes(ending=True), (EndTree(who=unit.last),)


def _spawned_too_late(scene: _Scene, event: Spawned) -> Step:
    """Somebody asked for the end while the start was under way: nothing of it has been used yet."""
    if scene.unit.who is not None:
        return _stray(scene, event)
    unit = scene.becomes(who=event.who, last=event.who, started_ms=scene.now_ms, swept=False, ending=True)
    return unit, (EndTree(who=event.who),)


def _failed_too_late(scene: _Scene, event: SpawnFailed) -> Step:
    return scene.stays() if scene.unit.started_ms is not None else _end_tree(scene)


def _adopted_too_late(scene: _Scene, event: Adopted) -> Step:
    if not scene.spec.forks_away or scene.is_main_known:
        return scene.stays()
    unit = scene.becomes(who=event.who, last=event.who, forked=True, swept=False, ending=True)
    return unit, (EndTree(who=event.who),)


def _gone(scene: _Scene, event: TreeGone) -> Step:
    unit = scene.unit
    gone = scene._replace(unit=scene.becomes(who=None, swept=True, ending=False, trouble=""))
    if unit.asked or not unit.trouble:
        return _end(gone, "exited", "nothing of it is left")
    return _bring_back(gone, unit.trouble)


def _gone_while_down(scene: _Scene, event: TreeGone) -> Step:
    return scene.becomes(swept=True), ()


def _stray(scene: _Scene, event: Spawned | Adopted) -> Step:
    """A process that nobody waits for does not get to live; one that is told of twice does."""
    if event.who == scene.unit.who:
        return scene.stays()
    return scene.unit, (EndTree(who=event.who),)


def _end(scene: _Scene, state: ProcessState, why: str, *then: UnitCommand) -> Step:
    return scene.becomes(state=state, who=None), (Announce(state=state, why=why), *then)


def _ignore(scene: _Scene, event: UnitEvent) -> Step:
    return scene.stays()


class Rule(NamedTuple):
    """One cell of the table: what the rule says, and the function that does it."""

    says: str
    act: Callable[[_Scene, Any], Step]


IGNORED: Final = Rule("ignored", _ignore)
EVENTS: Final[tuple[type[UnitEvent], ...]] = get_args(UnitEvent)
_STRAY: Final = Rule("end it: nobody asked for it", _stray)
_SWEEP: Final = Rule("→ stopping, end what it left behind; → exited where nothing is left", _stop_while_down)
_SWEPT: Final = Rule("remember that nothing is left", _gone_while_down)

_RULES: Final[dict[ProcessState, dict[type[UnitEvent], Rule]]] = {
    "waiting": {
        StartAsked: Rule("→ starting, spawn", _first_start),
        StopAsked: Rule("→ exited", _stop_before_start),
        Spawned: _STRAY,
    },
    "starting": {
        Spawned: Rule("ask whether it is ready, or wait for the start grace, or → ready", _spawned),
        SpawnFailed: Rule("a failed start: → backoff or fatal", _spawn_failed),
        Adopted: Rule("the daemon is the main process; then as `Spawned`", _adopted),
        ReadySeen: Rule("→ ready", _ready_seen),
        StartTimeOut: Rule("a failed start: → stopping, then backoff or fatal", _start_time_out),
        StartGraceOver: Rule("→ ready, where there is no `ready`", _start_grace_over),
        Died: Rule(
            "a failed start: → backoff or fatal; exited if asked; wait for the daemon if it forks away and ended"
            " with code 0",
            _died_starting,
        ),
        StopAsked: Rule("→ stopping: signal, grace", _stop_asked),
    },
    "ready": {
        Spawned: _STRAY,
        AliveFailed: Rule("→ stopping, then backoff or fatal", _alive_failed),
        Died: Rule("→ backoff or fatal; exited if expected, asked, or never to be restarted", _died_ready),
        StopAsked: Rule("→ stopping: signal, grace", _stop_asked),
    },
    "stopping": {
        Spawned: Rule("end the tree", _spawned_too_late),
        SpawnFailed: Rule("end what is left of earlier attempts; → exited where there is none", _failed_too_late),
        Adopted: Rule("end the tree", _adopted_too_late),
        Died: Rule("end what it left behind, unless that is under way", _died_stopping),
        StopAsked: Rule("it will not come back", _stop_while_stopping),
        GraceOver: Rule("end the tree, unless that is under way", _grace_over),
        TreeGone: Rule("→ exited if asked, else backoff or fatal", _gone),
    },
    "backoff": {
        Spawned: _STRAY,
        Adopted: _STRAY,
        DelayOver: Rule("→ starting, spawn", _delay_over),
        StopAsked: _SWEEP,
        TreeGone: _SWEPT,
    },
    "exited": {Spawned: _STRAY, Adopted: _STRAY, StopAsked: _SWEEP, TreeGone: _SWEPT},
    "fatal": {Spawned: _STRAY, Adopted: _STRAY, StopAsked: _SWEEP, TreeGone: _SWEPT},
}


def _whole() -> Iterator[tuple[ProcessState, dict[type[UnitEvent], Rule]]]:
    for state, rules in _RULES.items():
        yield state, {event: rules.get(event, IGNORED) for event in EVENTS}


TABLE: Final[dict[ProcessState, dict[type[UnitEvent], Rule]]] = dict(_whole())
"""The rule for every state × every event. What a cell leaves out is ignored, and says so."""
