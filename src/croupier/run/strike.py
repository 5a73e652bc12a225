"""One strike: an injection at work, with the hands that its injector is lent, whole or for one part of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from ..inject import Healing, Outcome, helpers
from ..model.errors import HarnessError
from ..model.guard import Below, Permit
from ..model.target import Census, Identity, Seen
from ..model.undo import UndoRecord, UndoStep
from ..supervise.keeper import RUN_MARKER
from ..system import procs, signals
from ..system.clock import now_us
from .arrangements import start_helper
from .floor import Floor
from .loop import Timer, guarded


class Strike:
    """One injection at work, seen by its injector as the `Act`: its hands, and its brake.

    The hands reach whom the permit covers and nobody else, and let go once the strike is halted: when `halt` has
    returned, no signal of ours is sent any more and no record is begun.
    """

    def __init__(
        self,
        floor: Floor,
        permit: Permit,
        decided_us: int,
        look_below: Callable[[Identity], Census],
        intended: Callable[[Strike], None],
    ) -> None:
        """`look_below` reads who lives below a process now; `intended` hears of each record, on the caller's thread."""
        self.permit = permit
        self.decided_us = decided_us
        self.thread: threading.Thread | None = None
        self.timer: Timer | None = None
        self.reached: set[Identity] = set()
        """Whom a signal of ours was delivered to."""
        self.reachable_below: set[Identity] = set()
        """Who was found below a target, and may be disturbed with it."""
        self.healing = False
        self.concluded = False
        """It has been carried out; what it holds may be over before."""
        self.env: Mapping[str, str] = floor.env
        self.cwd = str(floor.base)
        self._floor = floor
        self._halt = threading.Event()
        self._look_below = look_below
        self._intended = intended
        self._records: dict[str, UndoRecord] = {}
        self._covered = {one.identity for one in permit.targets}
        # Entered again by a signal handler that comes while the main thread is in `halt`.
        self._hands = threading.RLock()
        self._parts = tuple(PartOfStrike(self, floor, one, nth) for nth, one in enumerate(permit.parts))

    @property
    def number(self) -> int:
        """The injection's number."""
        return self.permit.injection.number

    @property
    def halted(self) -> bool:
        """Whether the injector should stop now: the fault is to be healed, or the round is over."""
        return self._halt.is_set()

    def halt(self) -> None:
        """Tell the injector to stop; its waits end at once, and what is on its way has been sent."""
        with self._hands:
            self._halt.set()

    @property
    def records(self) -> tuple[UndoRecord, ...]:
        """What has to be undone, the oldest first; the last of each key."""
        with self._hands:
            return tuple(self._records.values())

    def key(self, target: Seen) -> str:
        """The key of a target's undo record."""
        return f"{self.number}.{self.permit.targets.index(target) + 1}.{self.decided_us}"

    def intend(self, record: UndoRecord) -> None:
        """Have the guardian hold the record, on disk, before anything is changed.

        Raises HarnessError if it cannot, or the strike is halted, and PermissionError beyond the permit.
        """
        self._must_cover(record.who)
        if not self.halted:
            self._floor.keeper.hold(record)
            with self._hands:
                self._records[record.key] = record
            self._intended(self)
        if self.halted:
            raise HarnessError("the injection is halted, so nothing more is begun")

    def applied(self, key: str) -> None:
        """The change of that record was made."""
        self._floor.keeper.step(UndoStep(key=key, state="applied"))
        if self._floor.calls and (record := self._records.get(key)) and record.fault in ("syscall", "slow_io"):
            # The call that stands still may be the very one that is to go wrong.
            self._floor.calls.released(self.number, "its rule is in force")

    def signal(self, who: Identity, name: str) -> bool:
        """Send a signal to exactly this process; False where it is gone, or the strike is halted.

        Raises PermissionError beyond the permit.
        """
        self._must_cover(who)
        with self._hands:
            if self.halted:
                return False
            before = who in self.reached
            # Said first: the death may be heard of before the call returns.
            self.reached.add(who)
            sent = False
            try:
                sent = signals.send(who, name)
                if sent and name != "KILL" and self._floor.calls:
                    # A call that stands still hears no signal but that one.
                    self._floor.calls.released(self.number, f"{name} was sent")
            finally:
                if not sent and not before:
                    self.reached.discard(who)
            return sent

    def start(self, key: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Identity:
        """Start a helper below the guardian, marked with the key of a record; nobody may be aimed at it."""
        with self._hands:
            if self.halted or key not in self._records:
                raise HarnessError("the injection is halted, or wrote nothing down, so no helper is started")
            marked = {**(env or {}), helpers.VARIABLE: helpers.mark(self.env[RUN_MARKER], key)}
            who = start_helper(self._floor, f"fault-{key}", argv, marked)
        procs.shield(who, "it carries out a fault of this round")
        return who

    def part(self, nth: int) -> PartOfStrike:
        """The nth part of a combination, from 0."""
        return self._parts[nth]

    @property
    def end_us(self) -> int:
        """When the last part of a combination is over."""
        return max(one.end_us for one in self._parts)

    def let_go(self, key: str) -> None:
        """A record was undone before the strike is over."""
        with self._hands:
            self._records.pop(key, None)

    def below(self, target: Seen) -> Below:
        """Who lives below a target now, and may be disturbed with it; the hands reach those from then on."""
        below = self.permit.below(target.identity, self._look_below(target.identity))
        self.reachable_below |= {one.identity for one in below.free}
        return below

    def _must_cover(self, who: Identity) -> None:
        if who not in self._covered and who not in self.reachable_below:
            raise PermissionError(f"{who} is not in the permit of injection {self.number}")

    def wait(self, ms: float, until: Callable[[], bool] | None = None) -> bool:
        """Wait until the condition holds (True), the time is over, or the strike is halted (False; ask `halted`)."""
        end_us = now_us() + int(ms * 1000)
        pause = 0.0005
        while True:
            if until is not None and until():
                return True
            left = (end_us - now_us()) / 1e6
            if left <= 0 or self._halt.is_set():
                return False
            self._halt.wait(left if until is None else min(left, pause))
            # Quick at first, for what happens at once; then gentle.
            pause = min(pause * 1.5, 0.02)


class PartOfStrike:
    """One fault of a combination at work: the hands of the strike, within the permit of this part alone."""

    def __init__(self, strike: Strike, floor: Floor, permit: Permit, nth: int) -> None:
        self.env: Mapping[str, str] = strike.env
        self.cwd = strike.cwd
        self.permit = permit
        self._strike = strike
        self._floor = floor
        self._nth = nth
        self._records: dict[str, UndoRecord] = {}
        self._done_us = 0

    @property
    def end_us(self) -> int:
        """When it is over, on the monotonic clock: it lasts from when it was carried out. 0 where it holds nothing."""
        lasting_us = self.permit.injection.fault.lasting_ms * 1_000
        latest = max((one.deadline_us for one in tuple(self._records.values())), default=0)
        return min(latest, self._done_us + lasting_us)

    @property
    def halted(self) -> bool:
        """Whether the whole strike is."""
        return self._strike.halted

    def inject(self) -> Outcome:
        """Carry it out."""
        outcome = guarded(
            lambda: self._floor.host.inject(self.permit, self),
            lambda problem: Outcome(result="unsure", detail=f"the injector failed: {problem}"),
        )()
        self._done_us = now_us()
        return outcome

    def hold(self) -> None:
        """Keep it up until its own time is over."""
        if not self._records:
            return
        guarded(lambda: self._floor.host.hold(self.permit, self), lambda problem: None)()
        self.wait(max(0, self.end_us - now_us()) / 1_000)

    def heal(self) -> list[Healing]:
        """Undo what it left."""
        results = heal_records(self._floor, tuple(self._records.values()))
        for record, healing in results:
            if healing.verified:
                self._records.pop(record.key, None)
                self._strike.let_go(record.key)
        return [healing for _, healing in results]

    def intend(self, record: UndoRecord) -> None:
        """As the strike does, for whom this part may touch."""
        self._must_cover(record.who)
        self._strike.intend(record)
        self._records[record.key] = record

    def applied(self, key: str) -> None:
        """The change of that record was made."""
        self._strike.applied(key)

    def signal(self, who: Identity, name: str) -> bool:
        """As the strike does, for whom this part may touch."""
        self._must_cover(who)
        return self._strike.signal(who, name)

    def start(self, key: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Identity:
        """Start a helper below the guardian."""
        return self._strike.start(key, argv, env)

    def below(self, target: Seen) -> Below:
        """Who lives below a target now, and may be disturbed with it."""
        return self._strike.below(target)

    def wait(self, ms: float, until: Callable[[], bool] | None = None) -> bool:
        """As the strike does."""
        return self._strike.wait(ms, until)

    def part(self, nth: int) -> PartOfStrike:
        """A part has none."""
        raise HarnessError("a combination holds no combinations")

    def key(self, target: Seen) -> str:
        """The key of a target's undo record: another for each part, since one process may be hit by several."""
        nth = self.permit.targets.index(target) + 1
        return f"{self._strike.number}.{nth}.{self._strike.decided_us}.{self._nth + 1}"

    def _must_cover(self, who: Identity) -> None:
        if who not in self._covered():
            raise PermissionError(f"{who} is not in the permit of part {self._nth + 1}")

    def _covered(self) -> set[Identity]:
        return {one.identity for one in self.permit.targets} | self._strike.reachable_below


def heal_records(floor: Floor, records: Sequence[UndoRecord]) -> list[tuple[UndoRecord, Healing]]:
    """Undo all, the newest first, and only then write it down: each line waits for the disk, and nobody who is
    still held should."""
    results = [
        (
            record,
            guarded(
                partial(floor.host.heal, record),
                lambda problem: Healing(verified=False, note=f"{type(problem).__name__}: {problem}"),
            )(),
        )
        for record in reversed(records)
    ]
    steps = [_healed(record, healing) for record, healing in results]
    # Else the guardian is gone, which ends the round by itself; what was healed stays healed.
    with suppress(HarnessError):
        floor.keeper.step(*steps)
    return results


def _healed(record: UndoRecord, healing: Healing) -> UndoStep:
    return UndoStep(key=record.key, state="verified" if healing.verified else "healed", note=healing.note)
