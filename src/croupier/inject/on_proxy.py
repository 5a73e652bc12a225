"""What the faults on a proxied connection share: a rule is written down, put into force, seen to act, and lifted.

Each rule ends by itself in the proxy when its time is over, and the guardian lifts it as well: neither needs croupier.
Landed is a rule that did something to bytes, or to a connection, of the target.
"""

from __future__ import annotations

from ..model.faults.network import OnProxy
from ..model.guard import Permit
from ..model.link import RuleState
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import procs, relay
from ..system.clock import now_us
from . import Act, Outcome, together
from .hits import wait_for

_GRACE_US = 1_000_000
"""How long after its time the proxy lifts a rule by itself: whoever is alive to heal, and to say so, comes first."""
_PATIENT_S = 0.8
"""On a busy machine an answer may take its time; a halt leaves us a second."""
_SEEDS = 2**63


class InForce:
    """The rule for one target."""

    def __init__(self, target: Seen, fault: OnProxy, act: Act, seed: int) -> None:
        self.target = target
        self.outcome: Outcome | None = None
        """Set where it did not come to a rule."""
        self.state: RuleState | None = None
        self.key = act.key(target)
        self._where = relay.control(act.env, fault.proxy)
        self._fault = fault
        self._act = act
        self._seed = seed

    def begin(self) -> None:
        """Write it down, and put it into force."""
        who, fault = self.target.identity, self._fault
        if not procs.alive(who):
            return self._missed("gone before its connections could be hurt")
        if self._act.halted:
            return self._missed("the round was halted first")
        try:
            there = relay.ask(self._where, within_s=_PATIENT_S)
        except TimeoutError:
            return self._missed(f"the proxy {fault.proxy} does not answer")
        if there is None:
            return self._missed(f"there is no proxy {fault.proxy} that answers")
        until_us = now_us() + int(fault.for_ms) * 1_000
        self._act.intend(
            UndoRecord(
                key=self.key,
                fault=fault.kind,
                who=who,
                data={"proxy": fault.proxy, "control": self._where},
                deadline_us=until_us,
            )
        )
        rule = fault.rule(self.key, (who.pid, who.started), until_us + _GRACE_US, self._seed)
        try:
            added = relay.add(self._where, rule, within_s=_PATIENT_S)
        except TimeoutError:
            self.outcome = Outcome(
                result="unsure", detail=f"{self.target}: the proxy {fault.proxy} did not say that it has the rule"
            )
            return None
        if added is None:
            return self._missed(f"the proxy {fault.proxy} has ended")
        self._act.applied(self.key)
        return None

    def look(self) -> bool:
        """Ask how far it has come; whether there is nothing more to wait for."""
        if self.outcome is not None:
            return True
        try:
            there = relay.ask(self._where)
        except TimeoutError:
            return False
        found = there.rule(self.key) if there else None
        self.state = found or self.state
        return found is None or bool(found.hits)

    def conclude(self) -> Outcome:
        """What was seen."""
        if self.outcome is not None:
            return self.outcome
        proxy, hits = self._fault.proxy, self.state.hits if self.state else 0
        if hits:
            return Outcome(result="landed", detail=f"{self.target}: its connections by {proxy} are hurt")
        if not procs.alive(self.target.identity):
            self._missed("it ended by itself")
        elif self.state is not None and self.state.links:
            self._missed(f"nothing went over its connections by {proxy} that the fault could hurt")
        else:
            self._missed(f"it had no connection by {proxy} meanwhile")
        assert self.outcome is not None
        return self.outcome

    def _missed(self, why: str) -> None:
        self.outcome = Outcome(result="missed", detail=f"{self.target}: {why}")


def put_into_force(permit: Permit, fault: OnProxy, act: Act) -> tuple[list[InForce], int]:
    """A rule for each target, and how long that took in microseconds; then wait until each was seen to act."""
    decided_us = now_us()
    rules = [InForce(one, fault, act, (permit.injection.lot + nth) % _SEEDS) for nth, one in enumerate(permit.targets)]
    for one in rules:
        one.begin()
    took_us = now_us() - decided_us
    wait_for(rules, int(fault.for_ms), act)
    return rules, took_us


def concluded(rules: list[InForce], took_us: int) -> Outcome:
    """One outcome for all."""
    return together((one.conclude() for one in rules), us=took_us)


def heal(record: UndoRecord) -> Healing:
    """Lift the rule, and see that it is lifted."""
    where = str(record.data["control"])
    try:
        there = relay.lift(where, record.key)
    except TimeoutError as problem:
        return Healing(
            verified=False, note=f"{record.data['proxy']}: {problem}, so its rule cannot be seen to be lifted"
        )
    gone = "" if procs.alive(record.who) else f"{record.who} is gone"
    if there is None:
        return Healing(verified=True, note="; ".join(filter(None, ("the proxy is gone, and its rules with it", gone))))
    if there.rule(record.key):
        return Healing(verified=False, note="the rule is still in force")
    did = f"it did something {there.lifted.hits} times" if there.lifted else "no such rule is in force"
    return Healing(verified=True, note="; ".join(filter(None, (did, gone))))
