"""The journal: the closed set of events that a round can write, and the outcomes they speak of.

One event a line, JSON, tagged by `event`; `at_us` is monotonic time in microseconds since the first event. Wall
clock is written once, in the first. Everything after a round (verdict, report, replay, dashboards, scores) reads
these and nothing else. `store/` writes and reads the lines; what they may say is fixed here.
"""

from __future__ import annotations

from typing import Any, Literal

from .noun import Noun
from .target import Identity

JOURNAL_VERSION = 1

Phase = Literal["starting", "steadying", "round", "settling", "judging", "stopping", "done"]
Outcome = Literal["completed", "stopped", "aborted"]
Result = Literal["landed", "missed", "unsure"]
ProcessState = Literal["waiting", "starting", "ready", "stopping", "backoff", "exited", "fatal"]
Cause = Literal["injected", "asked", "oom", "own"]


class Event(Noun, tag_field="event", frozen=True, kw_only=True):
    """The base of every line of a journal."""

    at_us: int = 0


class RunStarted(Event, tag="run-started", frozen=True, kw_only=True):
    """The first line: who ran what, where, with which seed."""

    journal: int
    run: str
    title: str
    hypothesis: str
    seed: int
    blast_radius: str
    live: bool
    rehearsal: bool
    croupier: str
    python: str
    os: str
    host: str
    boot: str
    user: str
    pid: int
    argv: tuple[str, ...]
    experiment_file: str
    experiment_digest: str
    plan_digest: str
    environment_digest: str
    wall_utc: str
    replay_of: str = ""


class PhaseEntered(Event, tag="phase", frozen=True, kw_only=True):
    """The course moved on."""

    phase: Phase
    why: str = ""


class ProcessStarted(Event, tag="process-started", frozen=True, kw_only=True):
    """A supervised process was started for the `attempt`-th time (1 is the first)."""

    process: str
    who: Identity
    attempt: int


class ProcessMoved(Event, tag="process-state", frozen=True, kw_only=True):
    """A supervised process changed its state."""

    process: str
    state: ProcessState
    why: str = ""
    delay_ms: int = 0
    """In `backoff`: how long until the next start."""


class ProcessReady(Event, tag="process-ready", frozen=True, kw_only=True):
    """A supervised process is ready, so long after its start."""

    process: str
    who: Identity
    took_ms: float


class ProcessExited(Event, tag="process-exited", frozen=True, kw_only=True):
    """A supervised process ended. `code` or `signal` (a name without SIG) says how, `cause` why."""

    process: str
    who: Identity
    cause: Cause
    code: int | None = None
    signal: str = ""
    core: bool = False
    injection: int = 0
    """The injection that caused it, 0 for none."""
    oom: bool = False
    """The kernel killed it for want of memory, as that injection had it; `cause` is `oom` where none had."""


class ChildAppeared(Event, tag="child-appeared", frozen=True, kw_only=True):
    """A descendant of a supervised or attached process was seen for the first time."""

    process: str
    who: Identity
    parent: int
    name: str


class ChildGone(Event, tag="child-gone", frozen=True, kw_only=True):
    """A descendant is no longer there."""

    process: str
    who: Identity
    cause: Cause
    injection: int = 0


class StateSeen(Event, tag="state-seen", frozen=True, kw_only=True):
    """A process of the tree was seen stopped (`T`) or going on again, outside of its supervision states."""

    process: str
    who: Identity
    state: str


class WorkloadStarted(Event, tag="workload-started", frozen=True, kw_only=True):
    """The workload runs."""

    who: Identity


class WorkloadEnded(Event, tag="workload-ended", frozen=True, kw_only=True):
    """The workload ended; `asked` when we had told it to."""

    asked: bool
    code: int | None = None
    signal: str = ""
    acks: int = 0


class Acknowledged(Event, tag="acknowledged", frozen=True, kw_only=True):
    """How many acknowledgements there were by now; written with the others, at most once a second."""

    count: int


class ProbeRead(Event, tag="probe-read", frozen=True, kw_only=True):
    """A probe gave another answer than before (the first answer included)."""

    probe: str
    role: Literal["steady", "ready", "alive", "abort"]
    held: bool | None
    detail: str = ""
    took_ms: float = 0.0
    process: str = ""


class SteadyStateRead(Event, tag="steady-state", frozen=True, kw_only=True):
    """All steady-state probes together, before the round or after it."""

    when: Literal["before", "after"]
    held: bool
    detail: str = ""


class Due(Event, tag="due", frozen=True, kw_only=True):
    """The trigger of an injection came."""

    injection: int
    late_us: int = 0
    """How long after its moment; 0 where no moment was fixed."""


class InjectionRefused(Event, tag="refused", frozen=True, kw_only=True):
    """A guard said no; `limit` names which, `hint` how to widen it."""

    injection: int
    limit: str
    reason: str
    hint: str = ""


class Struck(Noun, frozen=True, kw_only=True):
    """One process that an injection was aimed at, and its place in the order it was chosen from."""

    who: Identity
    role: str
    name: str
    main: bool
    rank: int
    of: int
    """How many candidates there were."""


class Intended(Event, tag="intended", frozen=True, kw_only=True):
    """On disk before the act: what is about to be done to whom."""

    injection: int
    fault: str
    detail: str
    targets: tuple[Struck, ...]


class Concluded(Event, tag="injected", frozen=True, kw_only=True):
    """What came of it: *landed* (seen to have taken effect), *missed*, or *unsure*."""

    injection: int
    result: Result
    detail: str = ""
    took_us: int = 0
    """From the decision to the act's completion (for a signal: delivered)."""
    rehearsed: bool = False


class HealIntended(Event, tag="heal-intended", frozen=True, kw_only=True):
    """About to undo."""

    injection: int
    why: str


class Healed(Event, tag="healed", frozen=True, kw_only=True):
    """Undone, and seen to be; or nothing was left to undo (a note says so). `verified` is never assumed."""

    injection: int
    verified: bool
    note: str = ""


class Disturbed(Event, tag="disturbed", frozen=True, kw_only=True):
    """A process is down, or not whole, by an injection: `recovered` or `not-recovered` follows."""

    injection: int
    process: str


class Recovered(Event, tag="recovered", frozen=True, kw_only=True):
    """A process that an injection disturbed is ready again, with all its children."""

    injection: int
    process: str
    took_ms: float
    how: str = ""


class NotRecovered(Event, tag="not-recovered", frozen=True, kw_only=True):
    """It was not, by the end of the time that the experiment gives it."""

    injection: int
    process: str
    waited_ms: float
    detail: str = ""
    final: bool = False
    """Its supervisor gave it up: no longer wait would have brought it back."""


class CensusTaken(Event, tag="census", frozen=True, kw_only=True):
    """The processes around an injection."""

    injection: int
    when: Literal["before", "after"]
    processes: tuple[dict[str, Any], ...]


class Sampled(Event, tag="sample", frozen=True, kw_only=True):
    """Resources of the tree of one process."""

    process: str
    cpu_percent: float
    rss_bytes: int
    fds: int
    threads: int
    processes: int


class GuardTripped(Event, tag="guard", frozen=True, kw_only=True):
    """A condition that ends the round was seen."""

    guard: str
    reason: str


class InvariantRead(Event, tag="invariant", frozen=True, kw_only=True):
    """An invariant that asks the world was answered; those that ask the journal are answered by `judge`."""

    invariant: str
    kind: str
    held: bool | None
    detail: str = ""
    took_ms: float = 0.0
    look_at: str = ""
    """A path inside of the run directory that says more."""


class Promised(Event, tag="promised", frozen=True, kw_only=True):
    """As the round begins: what will have to be answered at its end. What is not was not proven."""

    invariants: tuple[str, ...]
    injections: int = 0
    """How many are planned."""
    steady: bool = True
    """There is a steady state to come back to."""


class InvariantAsked(Event, tag="invariant-asked", frozen=True, kw_only=True):
    """An invariant for `judge` to answer from the events: its options, as the file gave them."""

    invariant: str
    kind: str
    options: dict[str, Any]


class StopAsked(Event, tag="stop-asked", frozen=True, kw_only=True):
    """Somebody (a signal, `croupier halt`) wants the round to end."""

    by: str


class CallReached(Event, tag="call-reached", frozen=True, kw_only=True):
    """A process is about to make the system call that an injection waits for. It stands still meanwhile."""

    injection: int
    process: str
    pid: int
    call: str
    nth: int
    """The how-manieth call that changes a file it is, of this process's tree, since the steady state was seen;
    0 for one that changes none."""
    path: str = ""
    path2: str = ""
    offset: int | None = None
    length: int | None = None


def call_said(event: CallReached) -> str:
    """The call in a few words, for people."""
    second = f" → {event.path2}" if event.path2 else ""
    where = f" at {event.offset}" if event.offset is not None else ""
    much = f", {event.length} bytes" if event.length is not None else ""
    return f"{event.call} {event.path}{second}{where}{much}"


class CallReleased(Event, tag="call-released", frozen=True, kw_only=True):
    """A call that stood still for an injection may go on, or its process is no more."""

    injection: int
    held_us: int
    why: str


class Noted(Event, tag="note", frozen=True, kw_only=True):
    """Something a reader should know; `trouble` marks what weakens the evidence."""

    text: str
    trouble: bool = False


class RunEnded(Event, tag="run-ended", frozen=True, kw_only=True):
    """The last line of a journal that was not cut."""

    outcome: Outcome
    why: str = ""
    unhealed: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()
    """What differs between the fingerprints of the host from before and after the round."""


AnyEvent = (
    RunStarted | PhaseEntered | Promised | ProcessStarted | ProcessMoved | ProcessReady | ProcessExited | ChildAppeared
    | ChildGone | StateSeen | WorkloadStarted | WorkloadEnded | Acknowledged | ProbeRead | SteadyStateRead | Due
    | InjectionRefused | Intended | Concluded | HealIntended | Healed | Disturbed | Recovered | NotRecovered
    | CallReached | CallReleased | CensusTaken | Sampled | GuardTripped
    | InvariantRead | InvariantAsked | StopAsked | Noted | RunEnded
)  # fmt: skip
