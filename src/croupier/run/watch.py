"""Watching a round: who is alive, who recovered and how soon, what the probes say, what the processes use.

Slow while nothing is the matter (four times a second), quick while somebody is recovering, so that a recovery
time is known to about 20 ms and a steady round costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from ..collect import samples
from ..collect.rows import rows
from ..inject import Outcome
from ..model import course as c
from ..model import journal as j
from ..model.experiment import FailingProbe, Limits, Readiness
from ..model.faults.combined import Sequence, Together
from ..model.guard import Permit
from ..model.plan import Injection
from ..model.probe import Invariant, Probe, Reading
from ..model.target import WHOLE_NAME, Census, Column, Identity, Seen, Selector, columns, matches
from ..system import procs
from ..system.clock import now_us
from ..system.groups import Groups
from ..system.names import Names
from .floor import Floor
from .loop import guarded

CALM_MS = 250
BUSY_MS = 20
STEADY_PAUSE_MS = 100
UNDECIDED_MS = 1_000
DYING_MS = 30_000
"""How long after it was told to end a process that dies is taken to have died of that."""
HEARD_MS = 1_000
"""So soon a death is heard of."""


@dataclass(kw_only=True)
class Disturbed:
    """A process that an injection disturbed, until it is ready again."""

    injection: int
    process: str
    children: int
    """How many it had before."""
    struck: frozenset[Identity]
    since_us: int
    """From here its recovery counts: the landing, or the healing of a fault that lasts."""
    holding: bool
    leaving: bool = False
    """It was told to end, and has not yet: its recovery counts from its end, should that come."""
    probe_ok_us: int | None = None
    """When a readiness probe that began after `since_us` held."""
    asking: bool = False
    last: str = "nothing was seen of it yet"


@dataclass(kw_only=True)
class Aim:
    """Who an injection was aimed at: whether its death is our doing is known once it was reached, or all is over."""

    injection: int
    at: Identity
    """The target itself, for those that go down with it."""
    reached: Callable[[Identity], bool]
    since_us: int
    missed: bool | None = None
    """None until the injection concluded."""
    until_us: int | None = None
    """From here on a death is the process's own."""

    @property
    def undecided(self) -> bool:
        """Whether nobody can tell yet. An injector that takes its time is not waited for: then it was our doing."""
        waits = self.missed is None and not self.reached(self.at)
        return waits and now_us() - self.since_us < UNDECIDED_MS * 1000


@dataclass(kw_only=True)
class Watched:
    """What is known of one role: a supervised process, or an attached one."""

    main: Identity | None = None
    ready: bool = False
    fatal: bool = False
    calm_children: int = 0
    """How many it had when nothing of it was recovering."""
    attached: Selector | None = None
    group: str = ""
    """The cgroup that was attached to, where it is one: everybody in it belongs to the role."""
    children: dict[int, Seen] = field(default_factory=dict)
    stopped: set[int] = field(default_factory=set)


class Watch:
    """The eyes of a round."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self.roles: dict[str, Watched] = {}
        self._disturbed: list[Disturbed] = []
        self._before: dict[str, int] = {}
        self._sampler = samples.Sampler()
        self._closed = False
        self._census: Census = ()
        self._names = Names()
        self._groups = Groups()
        self._aims: dict[Identity, Aim] = {}
        self._starving: dict[Identity, int] = {}
        self._on_decided: list[Callable[[], None]] = []
        self._at_work: set[int] = set()
        self._on_quiet: Callable[[], None] | None = None
        self._failing_since: dict[int, int] = {}
        self._steady_last: dict[str, bool | None] = {}
        self._slow_told: set[int] = set()
        self._steady_when = ""
        self._steady_end_us = 0
        self._steady_over: Callable[[], None] = lambda: None

    # Who is alive.

    def follow(self, process: str, main: Identity | None, *, ready: bool, fatal: bool = False) -> None:
        """The supervisor says which process is the main one of a role now, whether it is ready, or given up."""
        watched = self.roles.setdefault(process, Watched())
        watched.main, watched.ready, watched.fatal = main, ready, fatal

    def attach_all(self) -> None:
        """Find the processes under `attach`; those that are not there are looked for again at every census."""
        for name, selector in self._floor.experiment.attach.items():
            self.roles[name] = Watched(attached=selector)
        self._find_attached()

    def _find_attached(self) -> None:
        lost = [one for one in self.roles.values() if one.attached and (one.main is None or not procs.alive(one.main))]
        if not lost:
            return
        for watched in lost:
            assert watched.attached is not None
            selector = self._resolved(watched.attached)
            census = procs.find(selector, names=self._names)
            found = sorted(matches(selector, census), key=lambda one: one.order)
            watched.main = found[0].identity if found else None
            watched.ready = bool(found)
            watched.group = selector.group

    def _roots(self) -> tuple[dict[str, Identity], dict[str, Identity]]:
        ours = {name: one.main for name, one in self.roles.items() if one.main and not one.attached}
        theirs = {name: one.main for name, one in self.roles.items() if one.main and one.attached}
        return ours, theirs

    @property
    def groups(self) -> dict[str, str]:
        """The cgroup of each role that was attached to as one."""
        return {name: one.group for name, one in self.roles.items() if one.group}

    def census(self, wanted: frozenset[str] = frozenset(), *, whole: bool = False) -> Census:
        """Who is alive now, in the trees of the round, or on the whole machine."""
        ours, theirs = self._roots()
        return procs.read_census(ours, columns=wanted, whole=whole, attached=theirs, groups=self.groups)  # type: ignore[arg-type]

    def census_for(self, target: Selector) -> Census | None:
        """The census that a choice of this target needs; None where the machine could not be read."""
        try:
            self._find_attached()
            target = self._resolved(self._floor.view.bind(target))
            ours, theirs = self._roots()
            # With the ancestors of everybody, our own trees included: a deny list may forbid what is below them.
            return procs.find(
                target, roots=ours, attached=theirs, groups=self.groups, wanted=self.wanted(), names=self._names
            )
        except OSError as problem:
            self._floor.note(f"the processes could not be read: {problem}", trouble=True)
            return None

    def wanted(self) -> frozenset[Column]:
        """The columns that the lists of the limits need of a census."""
        limits = self._floor.experiment.limits
        deny = columns([one for one in limits.deny if isinstance(one, Selector)], doubtful=True)
        by_name = WHOLE_NAME if any(isinstance(one, str) for one in (*limits.allow, *limits.deny)) else frozenset()
        return columns([one for one in limits.allow if isinstance(one, Selector)]) | deny | by_name

    def limits(self) -> Limits:
        """The limits, with each pid file of their lists turned into the pid that it holds now."""
        limits = self._floor.experiment.limits
        allow, deny = (
            tuple(self._resolved(one) if isinstance(one, Selector) else one for one in entries)
            for entries in (limits.allow, limits.deny)
        )
        return msgspec.structs.replace(limits, allow=allow, deny=deny)

    def bound(self, injection: Injection) -> Injection:
        """An injection with its references filled in, and each pid file turned into the pid that it holds now."""
        bound = self._floor.view.bind(injection)
        fault = bound.fault
        if isinstance(fault, Together | Sequence):
            targets = (one.target and self._resolved(one.target) for one in fault.of)
            parts = (msgspec.structs.replace(one, target=to) for one, to in zip(fault.of, targets, strict=True))
            fault = msgspec.structs.replace(fault, of=tuple(parts))
        return msgspec.structs.replace(bound, target=self._resolved(bound.target), fault=fault)

    def _resolved(self, selector: Selector) -> Selector:
        """With pid files turned into pids, and units and containers into cgroups, in what it excludes as well.

        One that cannot be read stays as it is, which means nobody; for whoever forbids, anybody.
        """
        selector = msgspec.structs.replace(selector, exclude=tuple(self._resolved(one) for one in selector.exclude))
        selector = self._groups.resolved(selector)
        if selector.pid_file is None:
            return selector
        path = self._floor.base / selector.pid_file
        try:
            pid = int(path.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return selector
        if selector.pid not in (None, pid):
            pid = -1  # Asked for by number as well, and that is another: nobody is both.
        return msgspec.structs.replace(selector, pid_file=None, pid=pid)

    def begin(self) -> None:
        """Look at the trees from now on until `close`."""
        self._look_again()
        self._floor.loop.after(self._floor.experiment.collect.sample_every_ms, self._sample)

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._names.close()

    def _look_again(self) -> None:
        if self._closed:
            return
        self.look()
        busy = bool(self._disturbed)
        self._floor.loop.after(BUSY_MS if busy else CALM_MS, self._look_again)

    def look(self) -> None:
        """Take a census, and write down who came, who went and who stands still."""
        self._find_attached()
        self._census = self.census()
        by_role: dict[str, dict[int, Seen]] = {name: {} for name in self.roles}
        for one in self._census:
            if one.role and not one.main and one.state not in ("Z", "X"):
                by_role.setdefault(one.role, {})[one.pid] = one
            if one.role:
                self._look_at_state(one)
        for name, now in by_role.items():
            self._compare(name, now)
        self._judge_recoveries()

    def _compare(self, name: str, now: dict[int, Seen]) -> None:
        watched = self.roles[name]
        before, watched.children = watched.children, now
        for pid, one in now.items():
            if pid not in before or before[pid].identity != one.identity:
                self._floor.record(j.ChildAppeared(process=name, who=one.identity, parent=one.parent, name=one.name))
        for pid, one in before.items():
            if pid not in now or now[pid].identity != one.identity:
                if self.undecided(one.identity):
                    now.setdefault(pid, one)  # Told at the next look: who caused it is known by then.
                    continue
                number = self.injury(one.identity)
                stopping = self._floor.phase in ("stopping", "done")
                cause: j.Cause = "injected" if number else "asked" if stopping else "own"
                watched.stopped.discard(pid)
                self._floor.record(j.ChildGone(process=name, who=one.identity, cause=cause, injection=number))
        if watched.ready and not any(one.process == name for one in self._disturbed):
            watched.calm_children = len(now)

    def _look_at_state(self, one: Seen) -> None:
        watched = self.roles.get(one.role)
        if watched is None:
            return
        stopped = one.state in ("T", "t")
        if stopped != (one.pid in watched.stopped):
            (watched.stopped.add if stopped else watched.stopped.discard)(one.pid)
            self._floor.record(j.StateSeen(process=one.role, who=one.identity, state=one.state))

    def census_taken(self, injection: int, when: str) -> None:
        """Write down who is alive around an injection."""
        if self._closed:
            return
        self.look()
        self._floor.record(
            j.CensusTaken(
                injection=injection, when="before" if when == "before" else "after", processes=rows(self._census)
            )
        )

    # Who caused it.

    def injury(self, who: Identity) -> int:
        """The injection that ended this process, 0 for none."""
        aim = self._aims.get(who)
        if aim is None or aim.missed or (aim.until_us is not None and now_us() > aim.until_us):
            return 0
        return aim.injection

    def starved(self, who: Identity) -> int:
        """The injection that lets this process run out of memory now, 0 for none."""
        return self._starving.get(who, 0)

    def _feed(self, number: int) -> None:
        self._starving = {who: one for who, one in self._starving.items() if one != number}

    def undecided(self, who: Identity) -> bool:
        """Whether an injection is at work on this process, and has not reached it yet: it may go by itself."""
        aim = self._aims.get(who)
        return aim is not None and aim.undecided

    def when_decided(self, call: Callable[[], None]) -> None:
        """Call once the injection at work has concluded, or takes too long."""
        self._on_decided.append(call)
        self._floor.loop.after(UNDECIDED_MS, self._decided)

    def _decided(self) -> None:
        calls, self._on_decided = self._on_decided, []
        for call in calls:
            call()

    def about_to_strike(
        self, number: int, permit: Permit, *, lasting: bool, reached: Callable[[Identity], bool]
    ) -> None:
        """Remember whom the injection is aimed at, before it is: the death may be heard of before the outcome."""
        self._at_work.add(number)
        for part in permit.parts or (permit,):
            if part.injection.fault.runs_out:
                self._starving |= {one.identity: number for one in part.targets}
        for one in permit.targets:
            self._before[one.role] = self._expected_children(one.role)
            if lasting:
                continue
            aim = Aim(injection=number, at=one.identity, reached=reached, since_us=now_us())
            self._aims[one.identity] = aim
            if one.main:
                # What a main process takes down with it was taken down by us.
                for child in self.roles.get(one.role, Watched()).children.values():
                    self._aims.setdefault(child.identity, aim)

    def _expected_children(self, role: str) -> int:
        """How many there are to be again: as many as there were in calm, but not those that are missing already.

        Neither alone will do: a start has helpers that come and go, and one that never comes back from an earlier
        injection must not be counted against the next.
        """
        watched = self.roles.get(role, Watched())
        return min(watched.calm_children, len(watched.children))

    # Who recovered.

    def struck(self, permit: Permit, outcome: Outcome, *, holds: bool) -> None:
        """An injection was carried out: from now on its targets are watched until they are ready again."""
        self._at_work.discard(permit.injection.number)
        for aim in self._aims.values():
            if aim.injection == permit.injection.number and aim.missed is None:
                aim.missed = outcome.result == "missed" and not aim.reached(aim.at)
                # Whoever lives through what is not meant to end him dies of his own later.
                lives_on = procs.alive(aim.at) and not permit.injection.fault.ends
                aim.until_us = now_us() + (0 if lives_on else DYING_MS * 1000)
        self._decided()
        if outcome.result == "missed":
            self._feed(permit.injection.number)
            return
        for role in sorted({one.role for one in permit.targets if one.role}):
            targets = [one for one in permit.targets if one.role == role]
            alive = all(procs.alive(one.identity) for one in targets)
            if not holds and alive and not permit.injection.fault.ends:
                continue  # Nobody is down: a signal was delivered, and lived through.
            if self._stays_down(role, targets):
                continue
            disturbed = Disturbed(
                injection=permit.injection.number,
                process=role,
                children=self._before.get(role, 0),
                struck=frozenset(one.identity for one in targets),
                since_us=now_us(),
                holding=holds,
                leaving=alive and not holds,
            )
            self._disturbed.append(disturbed)
            if not disturbed.leaving:
                self._tell_disturbed(disturbed)
        self.look()

    def _stays_down(self, role: str, targets: list[Seen]) -> bool:
        """A main process that is never brought back, as the experiment has it, is not waited for."""
        spec = self._floor.experiment.processes.get(role)
        return spec is not None and spec.restart.when == "never" and any(one.main for one in targets)

    def _tell_disturbed(self, one: Disturbed) -> None:
        self._floor.record(j.Disturbed(injection=one.injection, process=one.process))

    def healed(self, number: int) -> None:
        """A fault that lasted was undone: the time of its recovery counts from here."""
        # A death just before may be heard of only now.
        self._floor.loop.after(HEARD_MS, lambda: self._feed(number))
        for one in self._disturbed:
            if one.injection == number:
                one.holding, one.since_us, one.probe_ok_us = False, now_us(), None
        self.look()

    @property
    def quiet(self) -> bool:
        """Nobody is recovering, and nobody is being disturbed; who was only told to end may take his time."""
        return all(one.leaving for one in self._disturbed) and not self._at_work

    def slow(self, process: str, longer_than_ms: int) -> Disturbed | None:
        """Somebody of that role who has been recovering for longer than this."""
        now = now_us()
        for one in self._disturbed:
            down = one.process == process and not one.holding and not one.leaving
            if down and now - one.since_us > longer_than_ms * 1000:
                return one
        return None

    def _judge_recoveries(self) -> None:
        for one in list(self._disturbed):
            if one.leaving and any(not procs.alive(who) for who in one.struck):
                one.leaving, one.since_us = False, now_us()
                self._tell_disturbed(one)
            if one.holding or one.leaving or not self._is_back(one):
                continue
            self._disturbed.remove(one)
            took_ms = round((max(now_us(), one.probe_ok_us or 0) - one.since_us) / 1000, 3)
            how = f"{one.children} children are there" if one.children else "the process is there"
            if one.probe_ok_us is not None:
                how += ", and ready"
            self._floor.record(j.Recovered(injection=one.injection, process=one.process, took_ms=took_ms, how=how))

    def _is_back(self, one: Disturbed) -> bool:
        watched = self.roles[one.process]
        if watched.main is None or not procs.alive(watched.main):
            one.last = "its main process is not there"
            return False
        if not watched.ready:
            one.last = "its main process is not ready"
            return False
        standing = [child for child in watched.children.values() if child.state not in ("T", "t")]
        if len(standing) < one.children:
            one.last = f"{len(standing)} of {one.children} children are there"
            return False
        readiness = self._readiness(one.process)
        if readiness is None or one.probe_ok_us is not None:
            return True
        self._ask_ready(one, readiness)
        return False

    def _readiness(self, process: str) -> Readiness | None:
        spec = self._floor.experiment.processes.get(process)
        return spec.ready if spec else None

    def _ask_ready(self, one: Disturbed, readiness: Readiness) -> None:
        if one.asking:
            return
        one.asking = True
        began = now_us()

        def answered(reading: Reading) -> None:
            one.asking = False
            if reading.held and began >= one.since_us and one in self._disturbed:
                one.probe_ok_us = now_us()
                self._judge_recoveries()
            elif not reading.held:
                one.last = reading.detail

        self.ask(readiness.probe, answered, process=one.process)

    def give_up_recoveries(self) -> None:
        """The time for recovery is over: write down who is not back."""
        for one in self._disturbed:
            if one.leaving:
                continue  # It never went, so there was nothing to come back from.
            waited_ms = round((now_us() - one.since_us) / 1000, 1)
            self._floor.record(
                j.NotRecovered(
                    injection=one.injection,
                    process=one.process,
                    waited_ms=waited_ms,
                    detail=one.last,
                    final=self.roles[one.process].fatal,
                )
            )
        self._disturbed.clear()

    # What the probes say.

    def ask(self, probe: Probe, answered: Callable[[Reading], None], *, process: str = "", apart: bool = False) -> None:
        """Read a probe on a worker; the answer comes back on the loop, redacted.

        `apart` gives it a thread of its own: what guards the round must not queue behind slow probes.
        """
        floor = self._floor
        read = guarded(
            lambda: floor.view.read(probe, process),
            lambda problem: Reading(held=None, detail=f"the probe itself failed: {problem}"),
        )

        def clean(reading: Reading) -> None:
            if not self._closed:
                answered(msgspec.structs.replace(reading, detail=floor.redactor.clean(reading.detail)))

        if apart:
            floor.loop.apart(read, clean, "croupier-guard")
        else:
            floor.loop.work(read, clean)

    def read_steady_state(self, when: str, within_ms: int, answered: Callable[[bool, str], None]) -> None:
        """Ask the steady-state probes over and over until all hold, or the time is over.

        Afterwards, the recoveries must be over as well, and who is not back by the end is written down. Called again
        while it is at work, it only gets less time.
        """
        probes = self._floor.experiment.steady_state
        labels = [one.label for one in self._floor.plain.steady_state]
        end_us = now_us() + within_ms * 1000
        if when == self._steady_when:
            if end_us < self._steady_end_us:
                self._steady_end_us = end_us
                self._floor.loop.at(end_us, self._steady_over)
            return
        self._steady_when, self._steady_end_us = when, end_us
        last: dict[int, Reading] = {}
        told = False

        def answer(held: bool, detail: str) -> None:
            nonlocal told
            told = True
            answered(held, detail)

        def over() -> None:
            """The time is over, whoever still thinks: what has not answered did not hold."""
            if told or now_us() < self._steady_end_us:
                return
            slow = (index for index in range(len(probes)) if index not in last)
            last.update((index, Reading(held=None, detail="it did not answer in time")) for index in slow)
            decide()

        self._steady_over = over
        self._floor.loop.at(end_us, over)

        def ask_all() -> None:
            last.clear()
            if not probes:
                decide()
            for index, probe in enumerate(probes):
                self.ask(probe, lambda reading, index=index: heard(index, reading))  # type: ignore[misc]

        def heard(index: int, reading: Reading) -> None:
            if told:
                return
            last[index] = reading
            self._steady_changed(labels[index], reading)
            if len(last) == len(probes):
                decide()

        def decide() -> None:
            if told:
                return
            if when == "after" and self._floor.phase != "settling":
                return  # Everything is being ended by now: what a probe sees is our own doing.
            broken = [f"{labels[index]}: {one.detail}" for index, one in sorted(last.items()) if not one.held]
            settled = when == "before" or self.quiet
            if not broken and settled:
                answer(True, "")
            elif now_us() >= self._steady_end_us or (when == "before" and self._floor.phase != "steadying"):
                if when == "after":
                    self.give_up_recoveries()
                answer(not broken, "; ".join(broken))
            else:
                self._floor.loop.after(STEADY_PAUSE_MS, ask_all)

        ask_all()

    def _steady_changed(self, label: str, reading: Reading) -> None:
        if label in self._steady_last and self._steady_last[label] == reading.held:
            return
        self._steady_last[label] = reading.held
        self._floor.record(
            j.ProbeRead(
                probe=label,
                role="steady",
                held=reading.held,
                detail=reading.detail,
                took_ms=round(reading.took_ms, 3),
            )
        )

    def every_probe(self) -> Iterator[Probe]:
        """Every probe of the experiment, wherever it stands."""
        experiment = self._floor.experiment
        yield from experiment.steady_state
        yield from experiment.invariants
        yield from (one.failing.probe for one in experiment.abort_when if one.failing)
        for spec in experiment.processes.values():
            yield from (one.probe for one in (spec.ready, spec.alive) if one)

    # What must not happen.

    def guard_against(self) -> None:
        """Watch the abort conditions from now on, all the time."""
        for index, condition in enumerate(self._floor.experiment.abort_when):
            if condition.failing is not None:
                self._watch_failing(index, condition.failing)
        if any(one.recovery for one in self._floor.experiment.abort_when):
            self._watch_slow()

    def _guarding(self) -> bool:
        return not self._closed and self._floor.phase in ("round", "settling")

    def _watch_failing(self, index: int, failing: FailingProbe) -> None:
        held_before: list[bool | None] = []
        named = self._floor.plain.abort_when[index].failing or failing
        asked_us = 0
        tripped = False

        def trip(detail: str) -> None:
            nonlocal tripped
            if not tripped and self._guarding():
                tripped = True
                label = named.probe.label
                self.abort(label, f"{label} failed for {failing.failing_for_ms}: {detail}")

        def answered(reading: Reading) -> None:
            if tripped or not self._guarding():
                return
            if not held_before or held_before[-1] != reading.held:
                held_before[:] = [reading.held]
                self._floor.record(
                    j.ProbeRead(
                        probe=named.probe.label,
                        role="abort",
                        held=reading.held,
                        detail=reading.detail,
                        took_ms=round(reading.took_ms, 3),
                    )
                )
            if reading.held:
                self._failing_since.pop(index, None)
            else:
                # A probe that cannot tell is no reassurance: the guard fails closed. It failed from when it was asked.
                since = self._failing_since.setdefault(index, asked_us)
                over_us = since + failing.failing_for_ms * 1000
                if now_us() >= over_us:
                    trip(reading.detail)
                    return
                # The next answer may be long in coming; the limit is not.
                self._floor.loop.at(over_us, lambda: overdue(since, reading.detail))
            self._floor.loop.after(failing.every_ms, ask)

        def overdue(since: int, detail: str) -> None:
            if self._failing_since.get(index) == since:
                trip(detail)

        def ask() -> None:
            nonlocal asked_us
            if self._guarding():
                asked_us = now_us()
                self.ask(failing.probe, answered, apart=True)

        ask()

    def _watch_slow(self) -> None:
        if not self._guarding():
            return
        for condition in self._floor.experiment.abort_when:
            if condition.recovery is not None:
                slow = self.slow(condition.recovery.of, condition.recovery.longer_than_ms)
                if slow is not None and slow.injection not in self._slow_told:
                    self._slow_told.add(slow.injection)
                    limit = condition.recovery.longer_than_ms
                    self.abort(
                        "recovery", f"{slow.process} is not back {limit} after injection {slow.injection}: {slow.last}"
                    )
        self._floor.loop.after(100, self._watch_slow)

    def crashed(self, process: str, moments_us: list[int]) -> None:
        """A process died of its own; the conditions on crash rates look at the moments of all such deaths."""
        for condition in self._floor.experiment.abort_when:
            crashes = condition.crashes
            if crashes is None or crashes.of != process or not self._guarding():
                continue
            since = moments_us[-1] - crashes.more_than.per_ms * 1000
            if sum(moment > since for moment in moments_us) > crashes.more_than.count:
                self.abort("crashes", f"{process} died of its own more than {crashes.more_than}")

    def abort(self, guard: str, reason: str) -> None:
        """A guard was tripped."""
        self._floor.record(j.GuardTripped(guard=guard, reason=reason))
        self._floor.tell(c.AbortSeen(at_ms=self._floor.now_ms, why=reason))

    # What they use.

    def _sample(self) -> None:
        if self._closed:
            return
        trees: dict[str, list[int]] = {}
        for one in self._census:
            if one.role:
                trees.setdefault(one.role, []).append(one.pid)
        for sampled in self._sampler.take(trees):
            self._floor.record(sampled)
        self._floor.loop.after(self._floor.experiment.collect.sample_every_ms, self._sample)


def world_invariants(invariants: tuple[Probe, ...]) -> tuple[list[Probe], list[Probe]]:
    """Split invariants into those that ask the world and those that `judge` answers from the journal."""
    of_journal: list[Probe] = [
        one for one in invariants if isinstance(one, Invariant) and not getattr(one, "found", ())
    ]
    return [one for one in invariants if one not in of_journal], of_journal
