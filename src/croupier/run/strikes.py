"""Strikes: a due injection becomes a question to the guard, an intent on disk, an act, and in time a heal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from ..inject import Healing, Outcome
from ..model import course as c
from ..model import journal as j
from ..model.errors import HarnessError
from ..model.guard import Absent, Permit, Refusal, Standing, consider, joined
from ..model.plan import Injection
from ..model.target import Census, Identity, Selector
from ..model.undo import UndoRecord
from ..system import procs
from ..system.clock import now_us
from .floor import Floor
from .loop import guarded
from .strike import Strike, heal_records
from .watch import Watch


class Strikes:
    """Everything that was, is, or is about to be done to a process in this round."""

    def __init__(self, floor: Floor, watch: Watch) -> None:
        self._floor = floor
        self._watch = watch
        self._acted_ms: list[int] = []
        self._active: dict[int, Strike] = {}
        self._made: dict[int, int] = {}
        self.unhealed: dict[str, str] = {}
        self.halted = False

    @property
    def idle(self) -> bool:
        """Nobody is disturbed by us now."""
        return not self._active

    def attempt(self, command: c.Attempt) -> None:
        """A trigger came: ask the guard, write the intent down, act on a thread of its own."""
        floor = self._floor
        injection = floor.plan.injections[command.injection - 1]
        decided_us = now_us()
        late_us = 0 if command.due_ms is None else max(0, decided_us - floor.journal.zero_us - command.due_ms * 1000)
        floor.record(j.Due(injection=injection.number, late_us=late_us))
        if injection.number in self._active:
            self._refuse(injection, Refusal(limit="concurrent", reason="this injection is still at work"))
            return
        decision = self._decide(self._bound(injection))
        match decision:
            case Refusal():
                self._refuse(injection, decision)
            case Absent():
                self._conclude_unstruck(injection, Outcome(result="missed", detail=decision.reason))
            case Permit():
                self._strike(decision, decided_us, late_us)

    def _decide(self, injection: Injection) -> Permit | Refusal | Absent:
        """Ask the guard; for a combination, about every part of it: it goes ahead whole or not at all."""
        limits, standing = self._watch.limits(), self._standing()
        if injection.target.pick == "caller":
            caller = self._floor.calls.caller(injection.number) if self._floor.calls else None
            injection = msgspec.structs.replace(
                injection, target=msgspec.structs.replace(injection.target, pid=-1 if caller is None else caller)
            )
        if not injection.fault.parts:
            return consider(injection, self._watch.census_for(injection.target), limits, standing)
        permits = []
        for part in injection.fault.parts:
            # The same lot for all: two parts with one selector hit the same process.
            one = msgspec.structs.replace(injection, fault=part.fault, target=part.target or injection.target)
            decision = consider(one, self._watch.census_for(one.target), limits, standing)
            if not isinstance(decision, Permit):
                return decision
            permits.append(decision)
        return joined(injection, permits)

    def _bound(self, injection: Injection) -> Injection:
        """The injection of the plan, with references filled in; what it draws by is untouched."""
        return self._watch.bound(injection)

    def _strike(self, permit: Permit, decided_us: int, late_us: int) -> None:
        floor, number = self._floor, permit.injection.number
        strike = Strike(floor, permit, decided_us, self._look_below(), self._intended)
        self._acted_ms.append(floor.now_ms)
        self._active[number] = strike
        self._watch.census_taken(number, "before")
        struck = tuple(
            j.Struck(who=one.identity, role=one.role, name=one.name, main=one.main, rank=rank, of=of)
            for one, (rank, of) in zip(permit.targets, permit.ranks, strict=True)
        )
        plain = floor.plan.injections[number - 1].fault
        floor.record(j.Intended(injection=number, fault=plain.kind, detail=plain.said, targets=struck))
        self._watch.about_to_strike(
            number, permit, lasting=plain.lasting_ms > 0 and not plain.ends, reached=strike.reached.__contains__
        )
        strike.decided_us = decided_us = now_us()

        def act() -> None:
            outcome = guarded(
                lambda: floor.host.inject(permit, strike),
                lambda problem: Outcome(result="unsure", detail=f"the injector failed: {problem}"),
            )()
            took_us = outcome.us or now_us() - decided_us
            floor.loop.post(lambda: self._struck(strike, outcome, took_us))
            if strike.records and outcome.result == "landed" and not strike.halted:
                hold = guarded(lambda: floor.host.hold(permit, strike), lambda problem: None)
                hold()

        strike.thread = floor.loop.thread(act, f"croupier-injection-{number}")

    def _look_below(self) -> Callable[[Identity], Census]:
        """A reader of trees for a strike's own thread; the roles are those of now."""
        roles = self._watch.roles.items()
        ours = {name: one.main for name, one in roles if one.main and not one.attached}
        theirs = {name: one.main for name, one in roles if one.main and one.attached}
        groups, wanted = self._watch.groups, self._watch.wanted()
        whole = {theirs[name]: Selector(process=name, pick="tree") for name in groups if name in theirs}
        return lambda top: procs.find(
            whole.get(top) or Selector(tree=top.pid), roots=ours, attached=theirs, groups=groups, wanted=wanted
        )

    def _intended(self, strike: Strike) -> None:
        """A strike has something to undo: from now on its end is set. Called on the strike's thread."""
        if not strike.permit.parts:
            # A combination heals each part in its own time, and ends with the last.
            self._floor.loop.post(lambda: self._set_end(strike, min(one.deadline_us for one in strike.records)))

    def _set_end(self, strike: Strike, due_us: int) -> None:
        """Heal at this moment, unless it is to be earlier: all that a strike holds is let go together."""
        if strike.healing or self._active.get(strike.number) is not strike:
            return
        if strike.timer is not None:
            if strike.timer.due_us <= due_us:
                return
            strike.timer.cancel()
        strike.timer = self._floor.loop.at(due_us, lambda: self.heal(strike.number, "its time is over"))

    def _struck(self, strike: Strike, outcome: Outcome, took_us: int) -> None:
        floor, number = self._floor, strike.number
        rehearsed = floor.host.rehearsed
        floor.record(
            j.Concluded(
                injection=number,
                result=outcome.result,
                detail=floor.redactor.clean(outcome.detail),
                took_us=took_us,
                rehearsed=rehearsed,
            )
        )
        holds = strike.concluded = bool(strike.records)
        self._watch.struck(strike.permit, outcome, holds=holds)
        if holds:
            self._set_end(strike, _end_us(strike) if outcome.result == "landed" else now_us())
        else:
            self._active.pop(number, None)
            self._after_census(number)
        floor.tell(
            c.Concluded(
                at_ms=floor.now_ms, injection=number, holds=holds, again_in_ms=self._again(strike.permit.injection)
            )
        )

    def _again(self, injection: Injection) -> int | None:
        made = self._made[injection.number] = self._made.get(injection.number, 0) + 1
        times, every_ms = injection.fault.rounds
        return every_ms if made < times else None

    def _after_census(self, number: int) -> None:
        self._floor.loop.after(50, lambda: self._watch.census_taken(number, "after"))

    def _refuse(self, injection: Injection, refusal: Refusal) -> None:
        self._floor.record(
            j.InjectionRefused(
                injection=injection.number, limit=refusal.limit, reason=refusal.reason, hint=refusal.hint
            )
        )
        self._floor.tell(c.Concluded(at_ms=self._floor.now_ms, injection=injection.number))

    def _conclude_unstruck(self, injection: Injection, outcome: Outcome) -> None:
        floor = self._floor
        floor.record(
            j.Concluded(
                injection=injection.number, result="missed", detail=outcome.detail, rehearsed=floor.host.rehearsed
            )
        )
        floor.tell(c.Concluded(at_ms=floor.now_ms, injection=injection.number, again_in_ms=self._again(injection)))

    def give_up(self, number: int) -> None:
        """The trigger of an injection never came."""
        trigger = self._floor.plan.injections[number - 1].trigger
        self._floor.record(j.Concluded(injection=number, result="missed", detail=f"its trigger never came: {trigger}"))

    # Healing.

    def heal(self, number: int, why: str) -> None:
        """Undo one injection, off the loop; a second call while it is at work does nothing."""
        strike = self._active.get(number)
        if strike is None or strike.healing:
            return
        strike.halt()
        if strike.timer is not None:
            strike.timer.cancel()
        if not strike.records and not strike.concluded:
            # It has not changed anything that needs undoing yet; when it concludes we shall know.
            return
        strike.healing = True
        self._floor.record(j.HealIntended(injection=number, why=why))

        def undo() -> list[tuple[UndoRecord, Healing]]:
            # Else the guardian is gone, and the round ends by itself.
            with suppress(HarnessError):
                self._floor.keeper.heal_begun([one.key for one in strike.records])
            if strike.thread is not None:
                # No upkeep may run beside the undo: it would stop again what was just let go.
                strike.thread.join(timeout=5)
            return heal_records(self._floor, strike.records)

        self._floor.loop.thread(lambda: self._undo_and_report(strike, undo), f"croupier-heal-{number}")

    def _undo_and_report(self, strike: Strike, undo: Callable[[], list[tuple[UndoRecord, Healing]]]) -> None:
        results = undo()
        self._floor.loop.post(lambda: self._healed(strike, results))

    def _healed(self, strike: Strike, results: list[tuple[UndoRecord, Healing]]) -> None:
        floor, number = self._floor, strike.number
        verified = all(healing.verified for _, healing in results)
        note = "; ".join(dict.fromkeys(healing.note for _, healing in results if healing.note))
        floor.record(j.Healed(injection=number, verified=verified, note=note))
        for record, healing in results:
            if healing.verified:
                self.unhealed.pop(record.key, None)
            else:
                self.unhealed[record.key] = f"injection {number}, {record.fault} on {record.who}: {healing.note}"
        self._active.pop(number, None)
        self._watch.healed(number)
        self._after_census(number)
        floor.tell(c.Healed(at_ms=floor.now_ms, injection=number))

    def heal_all(self, why: str) -> None:
        """Undo everything; those that are still being carried out are told to stop, and healed when they have."""
        for number in sorted(self._active, reverse=True):
            self.heal(number, why)

    def heal_now(self) -> None:
        """Undo everything before returning: for a way out on which no loop runs any more."""
        strikes = sorted(self._active.values(), key=lambda one: one.number, reverse=True)
        for strike in strikes:
            strike.halt()
        for strike in strikes:
            if strike.thread is not None:
                # One that is stuck is left behind: its hands do nothing any more.
                strike.thread.join(timeout=2)
            for record, healing in heal_records(self._floor, strike.records):
                if not healing.verified:
                    self.unhealed[record.key] = f"{record.fault} on {record.who}: {healing.note}"
        self._active.clear()

    def _standing(self) -> Standing:
        floor = self._floor
        window = floor.experiment.limits.window
        weekday = minute = None
        if window is not None:
            try:
                here = datetime.now(ZoneInfo(window.zone))
                weekday, minute = here.weekday(), here.hour * 60 + here.minute
            except (KeyError, ValueError, OSError):
                pass  # The guard refuses when it does not know the time.
        return Standing(
            now_ms=floor.now_ms,
            acted_ms=tuple(self._acted_ms),
            active=len(self._active),
            weekday=weekday,
            minute=minute,
            # A rehearsal touches nobody, so it may go as far as a live run would.
            live=floor.live or floor.host.rehearsed,
            halted=self.halted,
        )


def _end_us(strike: Strike) -> int:
    """When a strike that landed is to be healed, on the monotonic clock.

    The deadline of the first record counts as well, however long the others took: after it the guardian heals.
    """
    if strike.permit.parts:
        return strike.end_us
    return now_us() + strike.permit.injection.fault.lasting_ms * 1000
