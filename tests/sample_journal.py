"""Believable journals for tests: whole rounds as lists of events, made up without starting a process.

Each story is a function without arguments that returns events in the order of time; `STORIES` names them all.
`logs_of(events)` makes the log lines that the processes of such a round would have printed, and `experiment()` and
`plan()` what the round would have come from. Numbers are drawn from fixed seeds, so each call gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from croupier.model import experiment as x
from croupier.model import journal as j
from croupier.model.choice import ChoiceStream
from croupier.model.fault import Kill, Suspend
from croupier.model.plan import At, Injection, Plan
from croupier.model.probe import Acks, Command, Http, Recovery
from croupier.model.target import Identity, Selector
from croupier.model.units import Ms, Rate, Under

HEALTH = "http http://127.0.0.1:41873/health"
KEPT = "no acknowledged note is lost or doubled"
SECOND = 1_000_000
LogLine = tuple[int, str, str]


class Tape:
    """A round being made up: processes come and go, and every event lands on the tape."""

    def __init__(self, seed: int, *, title: str, hypothesis: str = "", rehearsal: bool = False) -> None:
        self.choices = ChoiceStream(seed).fork("sample journal")
        self.events: list[j.AnyEvent] = []
        self.next_pid = 4100
        self.mains: dict[str, Identity] = {}
        self.workers: dict[str, list[Identity]] = {}
        self.attempts: dict[str, int] = {}
        self.acks = 0
        self.end_us = 0
        self.add(
            j.RunStarted(
                at_us=0, journal=1, run=f"notes/20260314T092653Z-{seed}", title=title,
                hypothesis=hypothesis or "No acknowledged note is lost or doubled, and the service answers within 5 s.",
                seed=seed, blast_radius="local", live=False, rehearsal=rehearsal, croupier="0.1.0", python="3.11.7",
                os="Linux 6.1.0-18-amd64 x86_64", host="builder", boot="0c5e9b9e-4a6e-4a53-9d2a-1f1c6f0b7c11",
                user="anna", pid=4090, argv=("croupier", "run", "examples/notes/experiment.yaml", "--seed", str(seed)),
                experiment_file="examples/notes/experiment.yaml", experiment_digest="1f0b7c1190aa34de",
                plan_digest="9d2a1f1c6f0b7c11", environment_digest="4a534a6e9b9e0c5e",
                wall_utc="2026-03-14T09:26:53Z",
            )
        )  # fmt: skip

    def add(self, event: j.AnyEvent) -> None:
        """Put an event on the tape."""
        self.events.append(event)
        self.end_us = max(self.end_us, event.at_us)

    def identity(self) -> Identity:
        """A new process."""
        self.next_pid += self.choices.between(1, 3)
        return Identity(pid=self.next_pid, started=880_000 + self.next_pid, boot="0c5e9b9e")

    def spread(self, low: int, high: int) -> int:
        """A number of microseconds."""
        return self.choices.between(low, high)

    def phase(self, at: int, phase: j.Phase, why: str = "") -> None:
        """The course moves on."""
        self.add(j.PhaseEntered(at_us=at, phase=phase, why=why))

    def start(self, at: int, process: str, *, workers: int = 0, ready_after: int | None = 600_000) -> int:
        """Start a process with its workers; returns when it is ready."""
        who = self.identity()
        self.mains[process] = who
        self.attempts[process] = self.attempts.get(process, 0) + 1
        attempt = self.attempts[process]
        self.add(j.ProcessStarted(at_us=at, process=process, who=who, attempt=attempt))
        self.add(j.ProcessMoved(at_us=at, process=process, state="starting", why=f"attempt {attempt}"))
        self.workers[process] = []
        for nth in range(workers):
            self.fork(at + 180_000 + nth * 24_000, process)
        if ready_after is None:
            return at
        ready = at + ready_after + self.spread(0, 60_000)
        self.add(j.ProbeRead(at_us=ready - 900, probe=HEALTH, role="ready", held=True, process=process, took_ms=3.1))
        self.add(j.ProcessReady(at_us=ready, process=process, who=who, took_ms=(ready - at) / 1000))
        self.add(j.ProcessMoved(at_us=ready, process=process, state="ready"))
        return ready

    def fork(self, at: int, process: str, name: str = "gunicorn") -> Identity:
        """A main process makes a worker."""
        who = self.identity()
        self.workers[process].append(who)
        self.add(j.ChildAppeared(at_us=at, process=process, who=who, parent=self.mains[process].pid, name=name))
        return who

    def struck(self, process: str, who: Identity, rank: int, of: int, *, main: bool = False) -> j.Struck:
        """A target, as the journal names it."""
        return j.Struck(who=who, role=process, name="gunicorn", main=main, rank=rank, of=of)

    def intend(self, at: int, number: int, fault: str, detail: str, targets: tuple[j.Struck, ...]) -> None:
        """An injection is due and about to be made."""
        late = self.spread(60, 480)
        self.add(j.Due(at_us=at, injection=number, late_us=late))
        self.add(
            j.CensusTaken(
                at_us=at + 300, injection=number, when="before",
                processes=tuple({"pid": one.who.pid, "role": one.role, "state": "S"} for one in targets),
            )
        )  # fmt: skip
        self.add(j.Intended(at_us=at + 500, injection=number, fault=fault, detail=detail, targets=targets))

    def kill_workers(self, at: int, number: int, process: str = "web", *, count: int = 1, slow: int = 0) -> int:
        """Kill some of the workers; the main process makes new ones. Returns when all is well again."""
        alive = list(self.workers[process])
        chosen = sorted(self.choices.sample(range(len(alive)), count))
        targets = tuple(self.struck(process, alive[rank], rank, len(alive)) for rank in chosen)
        self.intend(at, number, "kill", "KILL" if count > 1 else "TERM, then KILL after 500ms", targets)
        took = self.spread(310, 820)
        detail = f"{count} gone by SIG{'TERM' if count == 1 else 'KILL'}"
        self.add(j.Concluded(at_us=at + 500 + took, injection=number, result="landed", took_us=took, detail=detail))
        for one in targets:
            self.workers[process].remove(one.who)
            self.add(j.ChildGone(at_us=at + 3_000 + took, process=process, who=one.who, cause="injected",
                                 injection=number))  # fmt: skip
        for nth in range(len(targets)):
            self.fork(at + 40_000 + nth * 20_000, process)
        back = at + 240_000 + slow + self.spread(0, 520_000)
        self.recovered(back, number, process, (back - at - 500) / 1000)
        return back

    def recovered(self, at: int, number: int, process: str, took_ms: float) -> None:
        """A process is ready again."""
        self.add(j.Recovered(at_us=at, injection=number, process=process, took_ms=took_ms, how="ready, 3 children"))

    def suspend_worker(self, at: int, number: int, process: str = "web", *, lasts: int = 2 * SECOND) -> int:
        """Stop a worker for a while. Returns when all is well again."""
        alive = self.workers[process]
        rank = self.choices.below(len(alive))
        who = alive[rank]
        self.intend(at, number, "suspend", "for 2s", (self.struck(process, who, rank, len(alive)),))
        took = self.spread(240, 610)
        self.add(j.Concluded(at_us=at + 500 + took, injection=number, result="landed", took_us=took, detail="stopped"))
        self.add(j.StateSeen(at_us=at + 4_000, process=process, who=who, state="T"))
        self.add(j.HealIntended(at_us=at + lasts, injection=number, why="its time is over"))
        self.add(j.StateSeen(at_us=at + lasts + 2_000, process=process, who=who, state="S"))
        self.add(j.Healed(at_us=at + lasts + 2_600, injection=number, verified=True))
        back = at + lasts + 20_000 + self.spread(0, 90_000)
        self.recovered(back, number, process, (back - at - lasts) / 1000)
        return back

    def kill_main(self, at: int, number: int, process: str = "web", *, workers: int = 3, delay_ms: int = 500) -> int:
        """Kill the main process; it is started again. Returns when all is well again."""
        who = self.mains[process]
        self.intend(at, number, "kill", "KILL", (self.struck(process, who, 0, 1, main=True),))
        took = self.spread(310, 820)
        self.add(j.Concluded(at_us=at + 500 + took, injection=number, result="landed", took_us=took, detail="gone"))
        self.die(at + 4_000, process, cause="injected", signal="KILL", injection=number, delay_ms=delay_ms)
        back = self.start(at + delay_ms * 1000 + 6_000, process, workers=workers)
        self.recovered(back + 40_000, number, process, (back + 40_000 - at) / 1000)
        return back + 40_000

    def die(self, at: int, process: str, *, cause: j.Cause = "own", code: int | None = None, signal: str = "",
            injection: int = 0, delay_ms: int = 500) -> None:  # fmt: skip
        """A main process ends, its workers after it, and it waits for its restart."""
        self.add(j.ProcessExited(at_us=at, process=process, who=self.mains[process], cause=cause, code=code,
                                 signal=signal, injection=injection))  # fmt: skip
        for worker in self.workers[process]:
            self.add(j.ChildGone(at_us=at + 90_000, process=process, who=worker, cause=cause, injection=injection))
        self.workers[process] = []
        self.add(j.ProcessMoved(at_us=at + 400, process=process, state="backoff", why="unexpected end",
                                delay_ms=delay_ms))  # fmt: skip

    def refuse(self, at: int, number: int) -> None:
        """A guard says no."""
        self.add(j.Due(at_us=at, injection=number, late_us=90))
        self.add(
            j.InjectionRefused(at_us=at + 400, injection=number, limit="rate", reason="more than 10 per 1m",
                               hint="raise limits.rate")
        )  # fmt: skip

    def miss(self, at: int, number: int, process: str = "web") -> None:
        """The target was gone before the act."""
        alive = self.workers[process]
        self.intend(at, number, "kill", "KILL", (self.struck(process, alive[0], 0, len(alive)),))
        self.add(j.Concluded(at_us=at + 900, injection=number, result="missed", detail="it had ended by itself"))

    def breach(self, start: int, end: int, *, role: Any = "abort") -> None:
        """A probe fails for a while."""
        self.add(
            j.ProbeRead(at_us=start, probe=HEALTH, role=role, held=False, detail="connection refused", took_ms=0.7)
        )
        self.add(j.ProbeRead(at_us=end, probe=HEALTH, role=role, held=True, detail="200", took_ms=4.2))

    def steady(self, at: int, when: Any, *, held: bool = True, detail: str = "") -> None:
        """The steady state is read."""
        self.add(j.ProbeRead(at_us=at - 5_000, probe=HEALTH, role="steady", held=held, detail=detail, took_ms=4.0))
        self.add(j.SteadyStateRead(at_us=at, when=when, held=held, detail=detail))

    def load(self, start: int, end: int, *, rate: int = 38, dips: tuple[tuple[int, int], ...] = ()) -> None:
        """The workload runs and acknowledges, less so during the dips."""
        self.add(j.WorkloadStarted(at_us=start, who=self.identity()))
        for at in range(start + SECOND, end, SECOND):
            slow = any(low <= at <= high + SECOND for low, high in dips)
            self.acks += self.spread(0, rate // 3) if slow else rate + self.spread(-6, 6)
            self.add(j.Acknowledged(at_us=at, count=self.acks))

    def load_ends(self, at: int) -> None:
        """The workload is told to end."""
        self.add(j.WorkloadEnded(at_us=at, asked=True, code=0, acks=self.acks))

    def sample(self, start: int, end: int, processes: dict[str, int]) -> None:
        """Resources, once a second, for processes with this many MB each."""
        for at in range(start, end, SECOND):
            for process, megabytes in processes.items():
                grown = megabytes * (1 + (at - start) / (end - start) * 0.12)
                self.add(
                    j.Sampled(
                        at_us=at + 700, process=process, cpu_percent=8 + self.spread(0, 1600) / 100,
                        rss_bytes=int(grown * 2**20) + self.spread(0, 2**20), fds=31 + self.choices.below(4),
                        threads=4, processes=4,
                    )
                )  # fmt: skip

    def ask(self, at: int) -> None:
        """The question to the journal that every story here has."""
        options = {"probe": "recovery", "of": "web", "every": "< 5s", "p95": "< 2s"}
        self.add(j.InvariantAsked(at_us=at, invariant="recovery of web (every < 5s, p95 < 2s)", kind="recovery",
                                  options=options))  # fmt: skip

    def kept(self, at: int, held: bool | None, detail: str) -> None:
        """The check's answer."""
        look_at = "artifacts/checks/01-kept.txt"
        self.add(
            j.InvariantRead(
                at_us=at, invariant=KEPT, kind="command", held=held, detail=detail, took_ms=212.0, look_at=look_at
            )
        )

    def end(self, at: int, outcome: j.Outcome = "completed", why: str = "", unhealed: tuple[str, ...] = ()) -> None:
        """The last line."""
        self.phase(at - 2_000, "done")
        self.add(j.RunEnded(at_us=at, outcome=outcome, why=why, unhealed=unhealed))

    def ordered(self) -> list[j.AnyEvent]:
        """Everything in the order of time, as a journal has it."""
        return sorted(self.events, key=lambda event: event.at_us)


def _opening(tape: Tape, *, workers: int = 3) -> int:
    """Start, steady state; returns when the round begins."""
    tape.phase(1_000, "starting")
    ready = tape.start(20_000, "web", workers=workers)
    tape.phase(ready + 1_000, "steadying")
    begin = ready + 420_000
    tape.steady(begin - 1_000, "before")
    tape.phase(begin, "round", "the steady state holds")
    return begin


def held() -> list[j.AnyEvent]:
    """Eight injections on three workers, one of them on the main process; everything promised held."""
    tape = Tape(42, title="Notes survive killed and suspended workers")
    begin = _opening(tape)
    at = begin + 3 * SECOND
    for number in range(1, 8):
        back = tape.suspend_worker(at, number) if number in (3, 6) else tape.kill_workers(at, number)
        at = max(at + 3 * SECOND + tape.spread(-400_000, 900_000), back + 300_000)
    dips = [(at, at + 1_400_000)]
    back = tape.kill_main(at, 8)
    tape.breach(at + 200_000, back - 60_000)
    tape.phase(back + 2 * SECOND, "settling", "the schedule is over")
    close = back + 4 * SECOND
    tape.load(begin + 30_000, close, dips=tuple(dips))
    tape.sample(begin, close, {"web": 61})
    tape.steady(close, "after")
    tape.phase(close + 10_000, "judging")
    tape.load_ends(close + 60_000)
    tape.kept(close + 300_000, True, f"each of {tape.acks} acknowledged notes is kept exactly once")
    tape.ask(close + 310_000)
    tape.add(j.Noted(at_us=close + 320_000, text="core dumps were not kept: `ulimit -c` is 0"))
    tape.end(close + 400_000)
    return tape.ordered()


def violated() -> list[j.AnyEvent]:
    """A store that rewrites its file in place loses notes when all workers die at once."""
    tape = Tape(7, title="Notes in one JSON file do not survive killed workers")
    begin = _opening(tape)
    at, dips = begin + 2 * SECOND, []
    for number in range(1, 10):
        back = tape.kill_workers(at, number, count=3, slow=2_600_000 if number == 6 else 0)
        if number in (4, 6, 7):
            tape.breach(at + 20_000, back - 40_000)
            dips.append((at, back))
        at = max(at + 2 * SECOND + tape.spread(-300_000, 300_000), back + 200_000)
    tape.refuse(at, 10)
    close = at + 3 * SECOND
    tape.phase(at + SECOND, "settling", "the schedule is over")
    tape.load(begin + 30_000, close, dips=tuple(dips))
    tape.sample(begin, close, {"web": 58})
    tape.steady(close, "after")
    tape.phase(close + 10_000, "judging")
    tape.load_ends(close + 60_000)
    tape.kept(close + 300_000, False, f"{tape.acks} notes were acknowledged, but notes.json cannot be read: "
              "Expecting ',' delimiter: line 1 column 48129 (char 48128)")  # fmt: skip
    tape.ask(close + 310_000)
    tape.end(close + 400_000)
    return tape.ordered()


def unknown() -> list[j.AnyEvent]:
    """Every injection was refused or missed: nothing landed, so nothing was proven."""
    tape = Tape(3, title="Notes survive killed and suspended workers")
    begin = _opening(tape)
    tape.miss(begin + 3 * SECOND, 1)
    for number in range(2, 6):
        tape.refuse(begin + number * 3 * SECOND, number)
    close = begin + 20 * SECOND
    tape.phase(close - SECOND, "settling")
    tape.load(begin, close)
    tape.sample(begin, close, {"web": 60})
    tape.steady(close, "after")
    tape.phase(close + 10_000, "judging")
    tape.load_ends(close + 60_000)
    tape.kept(close + 300_000, True, f"each of {tape.acks} acknowledged notes is kept exactly once")
    tape.ask(close + 310_000)
    tape.add(j.Noted(at_us=close + 320_000, text="the disk was full: 214 log lines of web are missing", trouble=True))
    tape.end(close + 400_000)
    return tape.ordered()


def aborted() -> list[j.AnyEvent]:
    """The service does not come back after the second injection, and a guard ends the round."""
    tape = Tape(11, title="Notes survive killed and suspended workers")
    begin = _opening(tape)
    tape.kill_workers(begin + 3 * SECOND, 1)
    at = begin + 6 * SECOND
    who = tape.mains["web"]
    tape.intend(at, 2, "kill", "KILL", (tape.struck("web", who, 0, 1, main=True),))
    tape.add(j.Concluded(at_us=at + 900, injection=2, result="landed", took_us=402, detail="gone"))
    tape.die(at + 4_000, "web", cause="injected", signal="KILL", injection=2)
    tape.add(j.ProbeRead(at_us=at + 300_000, probe=HEALTH, role="abort", held=False, detail="connection refused"))
    tape.start(at + 510_000, "web", workers=0, ready_after=None)
    trip = at + 15 * SECOND + 300_000
    tape.add(j.GuardTripped(at_us=trip, guard="abort_when", reason=f"{HEALTH} has been failing for 15 s"))
    tape.phase(trip + 1_000, "settling", "aborted")
    tape.add(
        j.NotRecovered(at_us=trip + 2_000, injection=2, process="web", waited_ms=15_301.0, detail="still starting")
    )
    tape.load(begin, trip, dips=((at, trip),))
    tape.sample(begin, trip, {"web": 60})
    tape.steady(trip + SECOND, "after", held=False, detail="connection refused")
    tape.phase(trip + SECOND + 2_000, "judging")
    tape.load_ends(trip + SECOND + 10_000)
    tape.kept(trip + 1_400_000, True, f"each of {tape.acks} acknowledged notes is kept exactly once")
    tape.ask(trip + 1_410_000)
    tape.phase(trip + 1_500_000, "stopping")
    tape.end(trip + 2_000_000, "aborted", "a guard tripped")
    return tape.ordered()


def stopped() -> list[j.AnyEvent]:
    """Somebody pressed Ctrl-C while a worker was suspended; it was healed, and what there was got judged."""
    tape = Tape(0, title="Notes survive killed and suspended workers")
    begin = _opening(tape)
    for number in range(1, 4):
        tape.kill_workers(begin + number * 3 * SECOND, number)
    at = begin + 12 * SECOND
    tape.suspend_worker(at, 4, lasts=900_000)
    tape.add(j.StopAsked(at_us=at + 880_000, by="SIGINT"))
    close = at + 2 * SECOND
    tape.phase(at + 890_000, "settling", "stop was asked for")
    tape.load(begin, close)
    tape.sample(begin, close, {"web": 60})
    tape.steady(close, "after")
    tape.phase(close + 10_000, "judging")
    tape.load_ends(close + 60_000)
    tape.kept(close + 300_000, True, f"each of {tape.acks} acknowledged notes is kept exactly once")
    tape.ask(close + 310_000)
    tape.end(close + 400_000, "stopped", "SIGINT")
    return tape.ordered()


def fatal() -> list[j.AnyEvent]:
    """A queue whose worker dies over and over until the supervisor gives up on it; a store and a web server live on."""
    tape = Tape(5, title="The queue outlives its workers", hypothesis="Every task that was accepted is done once.")
    tape.phase(1_000, "starting")
    tape.start(20_000, "store", ready_after=150_000)
    ready = tape.start(200_000, "web", workers=2)
    tape.start(ready, "consumer", workers=4, ready_after=300_000)
    begin = ready + 800_000
    tape.phase(ready + 400_000, "steadying")
    tape.steady(begin - 1_000, "before")
    tape.phase(begin, "round")
    tape.kill_workers(begin + 2 * SECOND, 1, "consumer", count=2)
    at = tape.kill_main(begin + 5 * SECOND, 2, "consumer", workers=4) + SECOND
    delay = 500
    for nth in range(4):
        oom = nth == 1
        tape.die(at, "consumer", code=None if oom else 1, signal="KILL" if oom else "", cause="oom" if oom else "own",
                 delay_ms=delay)  # fmt: skip
        if nth == 3:
            break
        at = at + delay * 1000
        tape.start(at, "consumer", workers=0, ready_after=None)
        at += 700_000
        delay *= 2
    tape.add(j.ProcessMoved(at_us=at + 600, process="consumer", state="fatal", why="more than 5 per 1m restarts"))
    tape.add(j.NotRecovered(at_us=at + 9 * SECOND, injection=2, process="consumer", waited_ms=9_000.0, detail="fatal"))
    close = at + 10 * SECOND
    tape.phase(at + 8 * SECOND, "settling")
    tape.load(begin, close, dips=((at, close),))
    tape.sample(begin, close, {"web": 44, "consumer": 92, "store": 12})
    tape.steady(close, "after", held=False, detail="process consumer: expected at least 1, saw 0")
    tape.phase(close + 10_000, "judging")
    tape.load_ends(close + 60_000)
    tape.kept(close + 300_000, False, "17 of 402 accepted tasks were never done (t-00031, t-00032, t-00033, …)")
    tape.add(j.InvariantRead(at_us=close + 305_000, invariant="sqlite queue.db integrity", kind="sqlite", held=None,
                             detail="database is locked", took_ms=10_000.0))  # fmt: skip
    options = {"probe": "recovery", "of": "consumer", "every": "< 5s"}
    tape.add(j.InvariantAsked(at_us=close + 310_000, invariant="recovery of consumer (every < 5s)", kind="recovery",
                              options=options))  # fmt: skip
    tape.end(close + 400_000)
    return tape.ordered()


def cut() -> list[j.AnyEvent]:
    """The journal of `held`, torn off in the middle of the fifth injection."""
    events = held()
    last = next(at for at, event in enumerate(events) if isinstance(event, j.Intended) and event.injection == 5)
    return events[: last + 1]


def many(injections: int = 2_000) -> list[j.AnyEvent]:
    """A long round: an injection a second, some of them missed, refused, unsure or slow to recover from."""
    tape = Tape(99, title=f"Notes under {injections:,} injections")
    begin = _opening(tape)
    at, dips = begin + SECOND, []
    for number in range(1, injections + 1):
        lot = tape.choices.below(200)
        if lot < 4:
            tape.refuse(at, number)
            back = at
        elif lot < 8:
            tape.miss(at, number)
            back = at
        elif lot < 50:
            back = tape.suspend_worker(at, number, lasts=500_000)
        elif lot == 50:
            back = tape.kill_main(at, number)
            tape.breach(at + 100_000, back)
            dips.append((at, back))
        else:
            back = tape.kill_workers(at, number, slow=1_700_000 if lot > 197 else 0)
        at = max(at + SECOND + tape.spread(-200_000, 200_000), back + 50_000)
    close = at + 3 * SECOND
    tape.phase(at + SECOND, "settling")
    tape.load(begin, close, dips=tuple(dips))
    tape.sample(begin, close, {"web": 61})
    tape.steady(close, "after")
    tape.phase(close + 10_000, "judging")
    tape.load_ends(close + 60_000)
    tape.kept(close + 300_000, True, f"each of {tape.acks} acknowledged notes is kept exactly once")
    tape.ask(close + 310_000)
    tape.end(close + 400_000)
    return tape.ordered()


STORIES: dict[str, Callable[[], list[j.AnyEvent]]] = {
    "held": held,
    "violated": violated,
    "unknown": unknown,
    "aborted": aborted,
    "stopped": stopped,
    "fatal": fatal,
    "cut": cut,
    "many": many,
}


def logs_of(events: list[j.AnyEvent]) -> Callable[[str], Iterator[LogLine]]:
    """What the processes of this round would have printed: a function from a process to its lines, in order of time."""
    lines: dict[str, list[LogLine]] = {}

    def say(at_us: int, process: str, stream: str, line: str) -> None:
        lines.setdefault(process, []).append((at_us, stream, line))

    for event in events:
        at = event.at_us
        match event:
            case j.ProcessStarted():
                say(at + 90_000, event.process, "stderr", f"[{event.who.pid}] [INFO] Starting gunicorn 23.0.0")
                say(
                    at + 92_000,
                    event.process,
                    "stderr",
                    f"[{event.who.pid}] [INFO] Listening at: http://127.0.0.1:41873",
                )
            case j.ChildAppeared():
                say(at, event.process, "stderr", f"[{event.who.pid}] [INFO] Booting worker with pid: {event.who.pid}")
            case j.ChildGone():
                say(at, event.process, "stderr", f"[{event.parent if hasattr(event, 'parent') else 4101}] [ERROR]"
                    f" Worker (pid:{event.who.pid}) was sent SIGKILL! Perhaps out of memory?")  # fmt: skip
            case j.Acknowledged():
                say(at, "web", "stdout", f'127.0.0.1 - "POST /notes HTTP/1.1" 201 64 ({event.count})')
                say(at + 210_000, "web", "stdout", '127.0.0.1 - "GET /health HTTP/1.1" 200 2')
                say(at, "workload", "stdout", f"ack anna-{event.count:05}")
            case j.ProcessExited() if event.cause == "own":
                say(at - 2_000, event.process, "stderr", "Traceback (most recent call last):")
                say(at - 1_900, event.process, "stderr", '  File "consumer.py", line 41, in run')
                say(at - 1_800, event.process, "stderr", "sqlite3.OperationalError: database is locked")
            case _:
                pass
    for kept in lines.values():
        kept.sort()
    return lambda process: iter(lines.get(process, ()))


def experiment() -> x.Experiment:
    """The experiment that `held` is a round of."""
    health = Http(url="http://127.0.0.1:${port.web}/health")
    children = Selector(process="web", pick="children")
    return x.Experiment(
        version=1,
        title="Notes survive killed and suspended workers",
        hypothesis="No acknowledged note is lost or doubled, and the service answers within 5 s.",
        processes={"web": x.ProcessSpec(command=("gunicorn", "notes:app"), ready=x.Readiness(probe=health))},
        workload=x.Workload(command=("python", "load.py")),
        steady_state=(health,),
        faults=(
            x.WheelEntry(fault=Kill(signal="TERM", then="KILL", grace_ms=Ms(500)), target=children, weight=3),
            x.WheelEntry(fault=Suspend(for_ms=Ms(2_000)), target=children),
        ),
        schedule=x.Schedule(every_ms=Ms(3_000), for_ms=Ms(20_000), jitter_ms=Ms(1_000)),
        limits=x.Limits(injections=12, rate=Rate(30, 60_000)),
        abort_when=(x.Abort(failing=x.FailingProbe(probe=health, failing_for_ms=Ms(15_000))),),
        invariants=(
            Command(run=("python", "check.py"), name=KEPT),
            Recovery(of="web", every=Under(5_000), p95=Under(2_000)),
            Acks(at_least=100),
        ),
    )


def plan(events: list[j.AnyEvent] | None = None) -> Plan:
    """A plan whose injections are due when those of the events (by default of `held`) were."""
    events = held() if events is None else events
    begin = next((one.at_us for one in events if isinstance(one, j.PhaseEntered) and one.phase == "round"), 0)
    kinds = {one.injection: one.fault for one in events if isinstance(one, j.Intended)}
    due = {one.injection: one.at_us for one in events if isinstance(one, j.Due)}
    children = Selector(process="web", pick="children")
    return Plan(
        version=1,
        title="Notes survive killed and suspended workers",
        seed=42,
        blast_radius="local",
        lasts_ms=(max(due.values(), default=begin) - begin) // 1000 + 3_000,
        injections=tuple(
            Injection(
                number=number,
                trigger=At(at_ms=(at - begin) // 1000),
                fault=Suspend(for_ms=Ms(2_000)) if kinds.get(number) == "suspend" else Kill(signal="KILL"),
                target=children,
                lot=number,
            )
            for number, at in sorted(due.items())
        ),
    )


EXPERIMENT_TEXT = """\
# A notes service under process roulette.
version: 1
title: Notes survive killed and suspended workers
hypothesis: No acknowledged note is lost or doubled, and the service answers again within 5 s.
processes:
  web:
    command: [gunicorn, --workers=3, "--bind=127.0.0.1:${port.web}", "notes:app"]
    ready: {http: {url: "http://127.0.0.1:${port.web}/health"}, within: 10s}
    restart: {when: unexpected, delay: 500ms, backoff: 2, max_delay: 30s, limit: 5 per 1m}
workload: {command: [python, load.py, "http://127.0.0.1:${port.web}"]}
faults:
  - kill: {signal: TERM, then: KILL, grace: 500ms}      # politely first
    target: {process: web, pick: children}
    weight: 3
  - suspend: {for: 2s}
    target: {process: web, pick: children}
schedule: {every: 3s, jitter: 1s, for: 20s}
"""
