"""The story: what a page shows of a journal, gathered in one pass and in bounded memory.

The verdict is not made here. What there is too much of is merged (samples) or counted and left out (children, notes),
so that the page of a long round stays a page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from croupier.model import journal as j
from croupier.model.target import Identity
from croupier.model.units import Under

MOST_POINTS = 2_048
MOST_LIVES = 50_000
MOST_MOMENTS = 400
RECOVERY_BOUNDS = ("every", "mean", "p95")


@dataclass(slots=True)
class Stretch:
    """A state, from when to when. `end_us` is None while it lasts."""

    state: str
    start_us: int
    end_us: int | None = None
    why: str = ""


@dataclass(slots=True)
class Life:
    """A child process, from its appearance to its end, with the times in which it stood still."""

    who: Identity
    name: str
    start_us: int
    end_us: int | None = None
    cause: str = ""
    injection: int = 0
    stops: list[Stretch] = field(default_factory=list)


@dataclass(slots=True)
class Death:
    """The end of a main process."""

    at_us: int
    process: str
    pid: int
    how: str
    cause: str
    injection: int


@dataclass(slots=True)
class Lane:
    """Everything about one process over time."""

    process: str
    who: Identity | None = None
    stretches: list[Stretch] = field(default_factory=list)
    stops: list[Stretch] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)


@dataclass(slots=True)
class Recovery:
    """How long a process took after an injection; `back` is False where it never was ready again."""

    injection: int
    process: str
    at_us: int
    took_ms: float
    back: bool


@dataclass(slots=True)
class Strike:
    """An injection's act: when, and on whom."""

    injection: int
    at_us: int
    fault: str
    detail: str
    targets: tuple[j.Struck, ...]


@dataclass(slots=True)
class Moment:
    """Something that happened, in words."""

    at_us: int
    text: str
    trouble: bool = False
    injection: int = 0


class Curve:
    """A line over time of at most `MOST_POINTS` points: when it gets full, every two become one, the larger."""

    __slots__ = ("_stride", "_taken", "points")

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self._stride = 1
        self._taken = 0

    def add(self, at_us: int, value: float) -> None:
        """Put the next point on the curve."""
        if self._taken % self._stride and self.points:
            self.points[-1] = (at_us, max(value, self.points[-1][1]))
        else:
            self.points.append((at_us, value))
        self._taken += 1
        if len(self.points) >= MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=False)
            self.points = [(late[0], max(early[1], late[1])) for early, late in pairs]
            self._stride *= 2


@dataclass(slots=True)
class Usage:
    """The resources of one process and its tree."""

    cpu: Curve = field(default_factory=Curve)
    rss: Curve = field(default_factory=Curve)
    count: int = 0
    cpu_sum: float = 0.0
    most_fds: int = 0
    most_threads: int = 0
    most_processes: int = 0


@dataclass(slots=True)
class Bound:
    """A limit on recovery times that an invariant sets."""

    process: str
    word: str
    under: Under


class Some:
    """A list of moments that keeps its first and its last ones, and counts those between."""

    def __init__(self, most: int) -> None:
        self.most = most // 2
        self.first: list[Moment] = []
        self.last: list[Moment] = []
        self.left_out = 0

    def add(self, moment: Moment) -> None:
        """Take note of a moment."""
        if len(self.first) < self.most:
            self.first.append(moment)
            return
        self.last.append(moment)
        if len(self.last) > self.most:
            self.last.pop(0)
            self.left_out += 1


class Story:
    """What happened in a round. Fill it with `read`."""

    def __init__(self) -> None:
        self.started: j.RunStarted | None = None
        self.ended: j.RunEnded | None = None
        self.end_us = 0
        self.events = 0
        self.phases: list[Stretch] = []
        self.lanes: dict[str, Lane] = {}
        self.breaches: dict[str, list[Stretch]] = {}
        self.strikes: list[Strike] = []
        self.recoveries: list[Recovery] = []
        self.bounds: list[Bound] = []
        self.acks = Curve()
        self.usage: dict[str, Usage] = {}
        self.moments = Some(MOST_MOMENTS)
        self.notes = Some(100)
        self.lives = 0
        self.lives_left_out = 0
        self._alive: dict[Identity, Life] = {}

    def lane(self, process: str) -> Lane:
        """The lane of a process, made when it is first heard of."""
        if process not in self.lanes:
            self.lanes[process] = Lane(process)
        return self.lanes[process]

    def take(self, event: j.AnyEvent) -> None:
        """Take in the next event."""
        self.events += 1
        self.end_us = max(self.end_us, event.at_us)
        match event:
            case j.Sampled():
                self._sampled(event)
            case j.Acknowledged():
                self.acks.add(event.at_us, event.count)
            case j.RunStarted():
                self.started = event
            case j.RunEnded():
                self.ended = event
                self._tell(event.at_us, f"the round ended: {event.outcome}{_because(event.why)}")
            case j.PhaseEntered():
                _close(self.phases, event.at_us)
                self.phases.append(Stretch(event.phase, event.at_us, None, event.why))
                self._tell(event.at_us, f"phase {event.phase}{_because(event.why)}")
            case j.ProbeRead():
                self._probe(event)
            case j.InvariantAsked():
                self._asked(event)
            case j.Recovered():
                self.recoveries.append(Recovery(event.injection, event.process, event.at_us, event.took_ms, True))
                self._tell(event.at_us, f"{event.process} recovered after {event.took_ms:.0f} ms", event.injection)
            case j.NotRecovered():
                self.recoveries.append(Recovery(event.injection, event.process, event.at_us, event.waited_ms, False))
                said = f"{event.process} was not ready again after {event.waited_ms / 1000:.1f} s"
                self._tell(event.at_us, said + _because(event.detail), event.injection, trouble=True)
            case j.Noted():
                self.notes.add(Moment(event.at_us, event.text, event.trouble))
            case j.GuardTripped():
                self._note(event.at_us, f"guard {event.guard}: {event.reason}")
            case j.StopAsked():
                self._note(event.at_us, f"stop asked for by {event.by}", trouble=False)
            case j.SteadyStateRead():
                said = "holds" if event.held else "does not hold"
                said = f"the steady state {said} {event.when} the round{_because(event.detail)}"
                self._tell(event.at_us, said, trouble=not event.held)
            case _:
                self._injection(event)
                self._process(event)

    def _tell(self, at_us: int, text: str, injection: int = 0, *, trouble: bool = False) -> None:
        self.moments.add(Moment(at_us, text, trouble, injection))

    def _note(self, at_us: int, text: str, *, trouble: bool = True) -> None:
        self.notes.add(Moment(at_us, text, trouble))
        self._tell(at_us, text, trouble=trouble)

    def _injection(self, event: j.AnyEvent) -> None:
        match event:
            case j.Intended():
                strike = Strike(event.injection, event.at_us, event.fault, event.detail, event.targets)
                self.strikes.append(strike)
                whom = ", ".join(f"{one.role or one.name} {one.who}" for one in event.targets[:6])
                self._tell(event.at_us, f"{event.fault} ({event.detail}) on {whom}", event.injection)
            case j.CallReached():
                whose = f"{event.process} (pid {event.pid})"
                self._tell(event.at_us, f"{whose} is about to {j.call_said(event)}", event.injection)
            case j.CallReleased():
                held = f"the call goes on after {event.held_us / 1000:.1f} ms: {event.why}"
                self._tell(event.at_us, held, event.injection)
            case j.Concluded():
                said = "rehearsed" if event.rehearsed else event.result
                self._tell(event.at_us, f"{said}{_because(event.detail)}", event.injection)
            case j.InjectionRefused():
                self._tell(event.at_us, f"refused: {event.reason}{_because(event.hint)}", event.injection)
            case j.Healed():
                seen = "healed" if event.verified else "not seen to be healed"
                self._tell(event.at_us, seen + _because(event.note), event.injection, trouble=not event.verified)
            case _:
                pass

    def _process(self, event: j.AnyEvent) -> None:
        match event:
            case j.ProcessStarted():
                self.lane(event.process).who = event.who
                self._tell(event.at_us, f"{event.process} started, {event.who}, attempt {event.attempt}")
            case j.ProcessMoved():
                lane = self.lane(event.process)
                _close(lane.stretches, event.at_us)
                lane.stretches.append(Stretch(event.state, event.at_us, None, event.why))
                if event.state in ("ready", "backoff", "fatal"):
                    delay = f" for {event.delay_ms} ms" if event.delay_ms else ""
                    said = f"{event.process} is in {event.state}{delay}" if event.state == "backoff" else ""
                    said = said or f"{event.process} is {event.state}"
                    self._tell(event.at_us, said + _because(event.why), trouble=event.state == "fatal")
            case j.ProcessExited():
                self._exited(event)
            case j.ChildAppeared():
                self._appeared(event)
            case j.ChildGone():
                life = self._alive.pop(event.who, None)
                if life is not None:
                    life.end_us, life.cause, life.injection = event.at_us, event.cause, event.injection
                    _close(life.stops, event.at_us)
                if event.cause in ("own", "oom"):
                    self._tell(event.at_us, f"a child of {event.process} ({event.who}) died: {_cause(event.cause)}")
            case j.StateSeen():
                lane = self.lane(event.process)
                seen = self._alive.get(event.who)
                stops = lane.stops if seen is None else seen.stops
                _close(stops, event.at_us)
                if event.state in ("T", "t"):
                    stops.append(Stretch("stopped", event.at_us))
            case _:
                pass

    def _exited(self, event: j.ProcessExited) -> None:
        how = f"signal {event.signal}" if event.signal else f"exit code {event.code}"
        how += ", core dumped" if event.core else ""
        lane = self.lane(event.process)
        _close(lane.stops, event.at_us)
        lane.deaths.append(Death(event.at_us, event.process, event.who.pid, how, event.cause, event.injection))
        said = f"{event.process} ({event.who}) ended by {how}: {_cause(event.cause)}"
        said += ", which had it run out of memory" if event.oom else ""
        self._tell(event.at_us, said, event.injection, trouble=event.cause in ("own", "oom"))

    def _appeared(self, event: j.ChildAppeared) -> None:
        if self.lives >= MOST_LIVES:
            self.lives_left_out += 1
            return
        self.lives += 1
        life = Life(event.who, event.name, event.at_us)
        self._alive[event.who] = life
        self.lane(event.process).lives.append(life)

    def _probe(self, event: j.ProbeRead) -> None:
        # A probe of readiness fails by nature until the process is up; its lane shows that already.
        if event.role == "ready":
            return
        stretches = self.breaches.setdefault(event.probe, [])
        if event.held is not True and (not stretches or stretches[-1].end_us is not None):
            stretches.append(Stretch("unknown" if event.held is None else "failing", event.at_us, None, event.detail))
            said = "fails" if event.held is False else "cannot tell"
            self._tell(event.at_us, f"probe {event.probe} {said}{_because(event.detail)}", trouble=True)
        elif event.held is True and stretches and stretches[-1].end_us is None:
            stretches[-1].end_us = event.at_us
            self._tell(event.at_us, f"probe {event.probe} holds again")

    def _asked(self, event: j.InvariantAsked) -> None:
        if event.kind != "recovery":
            return
        for word in RECOVERY_BOUNDS:
            try:
                under = Under.parse(event.options[word])
            except (KeyError, ValueError):
                continue
            self.bounds.append(Bound(str(event.options.get("of", "")), word, under))

    def _sampled(self, event: j.Sampled) -> None:
        usage = self.usage.setdefault(event.process, Usage())
        usage.cpu.add(event.at_us, event.cpu_percent)
        usage.rss.add(event.at_us, event.rss_bytes)
        usage.count += 1
        usage.cpu_sum += event.cpu_percent
        usage.most_fds = max(usage.most_fds, event.fds)
        usage.most_threads = max(usage.most_threads, event.threads)
        usage.most_processes = max(usage.most_processes, event.processes)


def read(events: Iterable[j.AnyEvent]) -> Story:
    """Read a journal once, in order."""
    story = Story()
    for event in events:
        story.take(event)
    return story


def _close(stretches: list[Stretch], at_us: int) -> None:
    if stretches and stretches[-1].end_us is None:
        stretches[-1].end_us = at_us


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def _cause(cause: str) -> str:
    return {
        "injected": "by the injection",
        "asked": "as asked",
        "oom": "out of memory, by the kernel",
        "own": "no injection caused it",
    }.get(cause, cause)
