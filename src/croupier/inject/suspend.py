"""Suspend: stop a process where it stands, and let it go on after a while.

Two ways. `stop` is SIGSTOP: the parent may be told, as by a shell's job control. `freezer` puts the targets in a
cgroup of their own below the one they live in, and freezes that: nobody is told, and nobody else stands still.

A process that is stopped already is *missed*: who stopped it, and when it may go on, is not ours to say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from ..model.errors import HarnessError
from ..model.fault import Fault, Suspend
from ..model.guard import Permit, Refusal
from ..model.target import Identity, Seen
from ..model.undo import UndoRecord
from ..system import freezer, procs, signals
from ..system.clock import now_us
from . import Act, Healing, Outcome, together

_SEEN_WITHIN_MS = 1_000
_GOES_ON_WITHIN_S = 0.5
_STOPPED = frozenset("Tt")
# How often a tree is walked again for children that were made while it was being stopped.
_WALKS = 8
# How many of those that the guard did not let us have are named in an outcome.
_SPARED_SAID = 5


class SuspendInjector:
    """Carries out `suspend`."""

    kind = "suspend"
    spec: type[Fault] = Suspend
    summary = "Stop a process where it stands, and let it go on after a while."
    needs = "With `how: freezer`: a cgroup freezer (v1 or v2) that this user may write to."
    heals = "SIGCONT; or thawed and moved back to its cgroup. Seen to run again."
    example = "suspend: {for: 2s}"

    def __init__(self) -> None:
        self._pulsing: dict[str, UndoRecord] = {}

    def lacking(self, fault: Suspend) -> str:
        """Whether the freezer is missing."""
        if fault.how == "freezer":
            return freezer.lacking()
        return ""

    def inject(self, permit: Permit, fault: Suspend, act: Act) -> Outcome:
        """Stop every target; landed when all threads of it were seen to stand still."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        holds = [_Hold(one, fault, act) for one in permit.targets]
        for hold in holds:
            if not act.halted:
                hold.take()
        delivered_us = now_us()
        for hold in holds:
            hold.see()
            if fault.duty is not None and hold.taken and hold.record is not None:
                self._pulsing[hold.record.key] = hold.record
        return together((hold.outcome for hold in holds), us=delivered_us - decided_us)

    def hold(self, permit: Permit, fault: Suspend, act: Act) -> None:
        """With a duty cycle: let go for `off`, stop again for `on`, over and over until the fault's time is over."""
        records = [self._pulsing.pop(key, None) for key in map(act.key, permit.targets)]
        if fault.duty is None:
            return
        pulsing = [record for record in records if record is not None]
        on_ms, off_ms = int(fault.duty.on_ms), int(fault.duty.off_ms)
        # The records stay open all the while, so that whoever dies in between, everybody goes on in the end.
        while _rest(act, on_ms, pulsing):
            for record in pulsing:
                _way(record).let_go(record)
            if not _rest(act, off_ms, pulsing):
                return
            for record in pulsing:
                _way(record).stop_again(record, act)

    def heal(self, record: UndoRecord) -> Healing:
        """Let everybody in the record go on, and see that they do."""
        return _way(record).heal(record)


class _Hold:
    """One target, and with `tree` its descendants, on the way to standing still."""

    def __init__(self, target: Seen, fault: Suspend, act: Act) -> None:
        self.target = target
        self.record: UndoRecord | None = None
        self.outcome = Outcome(result="missed", detail=f"{target}: the round was halted first")
        self._fault = fault
        self._act = act
        self._way: _Way = _WAYS[fault.how]
        self._members: list[Identity] = []
        self._barred: tuple[tuple[Identity, Refusal], ...] = ()
        self.taken = False

    def take(self) -> None:
        """Write the intent down, then stop it. Says why in `outcome` if it does not come to that."""
        who = self.target.identity
        state = procs.state_of(who)
        if state in ("", "Z", "X"):
            return self._missed("gone before it could be stopped")
        if state in _STOPPED or self._way.stands_still(who, None):
            return self._missed("somebody else has stopped it already")
        try:
            self._grow([who, *self._kin()])
            # Whoever was made while we were at it is taken as well, until nobody new is there.
            for _ in range(_WALKS):
                fresh = self._kin()
                if not fresh:
                    break
                self._grow(fresh)
        except OSError as error:
            return self._missed(f"it could not be stopped: {error}")
        except HarnessError:
            if self._act.halted:
                return self._missed("the round was halted first")
            raise
        self.taken = True
        return None

    def _kin(self) -> list[Identity]:
        """Who below it is to stop as well: those whom the guard lets us have, and nobody else has stopped."""
        who = self.target.identity
        known = {*self._members, *(one for one, _ in self._barred)}
        if not self._fault.tree or known.issuperset(procs.family(who.pid)):
            return []
        below = self._act.below(self.target)
        self._barred = below.barred
        if self.record is not None:
            self._way.let_out(self.record, [one for one, _ in below.barred])
        return [
            one.identity
            for one in below.free
            if one.identity not in known
            and not _is_stopped(one.identity)
            and not self._way.stands_still(one.identity, self.record)
        ]

    def _grow(self, fresh: list[Identity]) -> None:
        self._members += fresh
        data = self._way.data(self.target.identity, self._act.key(self.target), self._members, self.record)
        self.record = UndoRecord(
            key=self._act.key(self.target),
            fault="suspend",
            who=self.target.identity,
            data=data,
            deadline_us=now_us() + int(self._fault.for_ms) * 1_000 if self.record is None else self.record.deadline_us,
        )
        self._act.intend(self.record)
        self._way.stop(self.record, fresh, self._act)

    def see(self) -> None:
        """Landed once every thread of everybody alive was seen to stand still."""
        if not self.taken or self.record is None:
            return None
        record, way = self.record, self._way
        self._act.applied(record.key)
        self._act.wait(_SEEN_WITHIN_MS, lambda: way.is_held(record) or not procs.alive(record.who))
        if not procs.alive(record.who):
            return self._missed("it ended by itself as it was stopped")
        if not way.is_held(record):
            when = "when the round was halted" if self._act.halted else "within a second"
            self.outcome = Outcome(
                result="unsure", detail=f"{self.target}: not all of it was seen to stand still {when}"
            )
            return None
        below = f" with {len(self._members) - 1} below it" if len(self._members) > 1 else ""
        self.outcome = Outcome(result="landed", detail=f"{self.target}: {way.word}{below}{self._spared()}")
        return None

    def _spared(self) -> str:
        if not self._barred:
            return ""
        reasons = [refusal.reason for _, refusal in self._barred]
        more = f", and {len(reasons) - _SPARED_SAID} more" if len(reasons) > _SPARED_SAID else ""
        return f" (left alone: {'; '.join(reasons[:_SPARED_SAID])}{more})"

    def _missed(self, why: str) -> None:
        self.outcome = Outcome(result="missed", detail=f"{self.target}: {why}")


class _Way(Protocol):
    """One way of stopping and letting go; everything it needs later is in the record."""

    word: str

    def stands_still(self, who: Identity, record: UndoRecord | None) -> bool:
        """Whether somebody else holds it; `record` tells what is our own doing."""

    def data(
        self, who: Identity, key: str, members: Sequence[Identity], before: UndoRecord | None
    ) -> dict[str, Any]: ...
    def stop(self, record: UndoRecord, fresh: Sequence[Identity], act: Act) -> None: ...
    def let_out(self, record: UndoRecord, strangers: Sequence[Identity]) -> None:
        """See to it that these do not stand still along with the rest."""

    def is_held(self, record: UndoRecord) -> bool: ...
    def let_go(self, record: UndoRecord) -> None: ...
    def stop_again(self, record: UndoRecord, act: Act) -> None: ...
    def heal(self, record: UndoRecord) -> Healing: ...


class _Stop:
    """SIGSTOP and SIGCONT."""

    word = "stopped"

    def stands_still(self, who: Identity, record: UndoRecord | None) -> bool:
        return False

    def data(self, who: Identity, key: str, members: Sequence[Identity], before: UndoRecord | None) -> dict[str, Any]:
        return {"how": "stop", "members": [[one.pid, one.started] for one in members]}

    def stop(self, record: UndoRecord, fresh: Sequence[Identity], act: Act) -> None:
        for one in fresh:
            # Gone is no trouble: whether the target itself was, is looked at afterwards.
            act.signal(one, "STOP")

    def let_out(self, record: UndoRecord, strangers: Sequence[Identity]) -> None:
        """Nobody is stopped here but by a signal of its own."""

    def is_held(self, record: UndoRecord) -> bool:
        return all(set(procs.thread_states(one)) <= _STOPPED for one in _members(record))

    def let_go(self, record: UndoRecord) -> None:
        _send_all(reversed(_members(record)), "CONT")

    def stop_again(self, record: UndoRecord, act: Act) -> None:
        for one in _members(record):
            try:
                act.signal(one, "STOP")
            except OSError:
                continue

    def heal(self, record: UndoRecord) -> Healing:
        members = _members(record)
        alive = [one for one in members if procs.alive(one)]
        troubles = _send_all(reversed(alive), "CONT")
        stuck = _wait_out(alive)
        if not alive:
            return Healing(verified=True, note=f"nothing to let go on: {record.who} is gone")
        if stuck:
            return Healing(verified=False, note="; ".join([*(f"{one} is still stopped" for one in stuck), *troubles]))
        gone = len(members) - len(alive)
        return Healing(verified=True, note=f"{gone} of {len(members)} were gone" if gone else "")


class _Freezer:
    """The cgroup freezer."""

    word = "frozen"

    def stands_still(self, who: Identity, record: UndoRecord | None) -> bool:
        cell = freezer.cell_for(who.pid, "look")
        ours = cell is not None and record is not None and cell.home == _cell(record).path
        return cell is not None and not ours and freezer.is_frozen(cell.home, cell.version)

    def data(self, who: Identity, key: str, members: Sequence[Identity], before: UndoRecord | None) -> dict[str, Any]:
        known = {} if before is None else _homes(before)
        cell = freezer.cell_for(who.pid, f"{who.pid}-{who.started}-{key}") if before is None else _cell(before)
        if cell is None:
            raise OSError("its cgroup cannot be written to from here")
        homes = [known.get(one) or freezer.home_of(one.pid, cell.version) for one in members]
        return {
            "how": "freezer",
            "cell": list(cell),
            "members": [[one.pid, one.started] for one in members],
            # Whoever was born in the cell has no home of its own: it goes where the process that made it goes.
            "homes": ["" if home == cell.path else home for home in homes],
        }

    def stop(self, record: UndoRecord, fresh: Sequence[Identity], act: Act) -> None:
        if act.halted:
            return
        cell = _cell(record)
        freezer.confine(cell, fresh)
        freezer.freeze(cell)

    def let_out(self, record: UndoRecord, strangers: Sequence[Identity]) -> None:
        for one in strangers:
            # Born in the cell before the guard had seen it.
            freezer.let_out(_cell(record), one.pid)

    def is_held(self, record: UndoRecord) -> bool:
        cell = _cell(record)
        return freezer.is_frozen(cell.path, cell.version)

    def let_go(self, record: UndoRecord) -> None:
        _quietly(freezer.thaw, record)

    def stop_again(self, record: UndoRecord, act: Act) -> None:
        if not act.halted:
            _quietly(freezer.freeze, record)

    def heal(self, record: UndoRecord) -> Healing:
        trouble = freezer.dissolve(_cell(record), _homes(record))
        if trouble:
            return Healing(verified=False, note=trouble)
        return Healing(verified=True, note="" if procs.alive(record.who) else f"{record.who} is gone")


_WAYS: dict[str, _Way] = {"stop": _Stop(), "freezer": _Freezer()}


def _way(record: UndoRecord) -> _Way:
    return _WAYS.get(str(record.data.get("how")), _WAYS["stop"])


def _cell(record: UndoRecord) -> freezer.Cell:
    version, path, home = record.data["cell"]
    return freezer.Cell(version, path, home)


def _homes(record: UndoRecord) -> dict[Identity, str]:
    """Where each member lived before; those of whom that is not known are left out."""
    homes = record.data.get("homes", [])
    return {one: home for one, home in zip(_members(record), homes, strict=False) if home}


def _members(record: UndoRecord) -> list[Identity]:
    listed = record.data.get("members", [[record.who.pid, record.who.started]])
    return [Identity(pid=pid, started=started, boot=record.who.boot) for pid, started in listed]


def _is_stopped(who: Identity) -> bool:
    return procs.state_of(who) in _STOPPED


def _send_all(members: Iterable[Identity], name: str) -> list[str]:
    """Signal everybody who lives, past every error; the errors are the answer."""
    troubles = []
    for one in members:
        try:
            signals.send(one, name)
        except OSError as error:
            troubles.append(f"{one}: {error}")
    return troubles


def _wait_out(members: Sequence[Identity]) -> list[Identity]:
    """Wait until nobody is stopped any more; whoever still is."""
    end = time.monotonic() + _GOES_ON_WITHIN_S
    while stuck := [one for one in members if _is_stopped(one)]:
        if time.monotonic() >= end:
            return stuck
        time.sleep(0.001)
    return []


def _quietly(switch: Callable[[freezer.Cell], None], record: UndoRecord) -> None:
    try:
        switch(_cell(record))
    except OSError:
        # The cell is gone, and with it everybody who was in it; or it was healed already.
        pass


def _rest(act: Act, ms: int, pulsing: Sequence[UndoRecord]) -> bool:
    """Wait for a part of the cycle; False when there is nothing more to do."""
    end_us = min((record.deadline_us for record in pulsing), default=0)
    left_ms = (end_us - now_us()) // 1_000
    if left_ms <= 0 or act.halted:
        return False
    act.wait(min(ms, left_ms))
    return not act.halted and now_us() < end_us


INJECTOR = SuspendInjector()
