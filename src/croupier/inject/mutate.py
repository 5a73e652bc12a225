"""Mutate: change messages on a proxied connection, alone or with a kill in the middle of one."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.network import Mutate
from ..model.guard import Permit
from ..model.undo import Healing, UndoRecord
from ..system import procs, relay
from . import Act, Outcome, on_proxy, together

_SEEN_WITHIN_MS = 1_000


class MutateInjector:
    """Carries out `mutate`."""

    kind = "mutate"
    spec: type[Fault] = Mutate
    summary = "Change messages on a proxied connection or pipe, alone or with a kill in the middle of one."
    needs = "Linux; a proxy under `proxies` that the connection goes through."
    heals = "The rule is lifted, and seen to be; what was changed stays changed. A process that was killed stays so."
    example = "mutate: {proxy: db, how: [flip, cut], every: 10, for: 3s}"

    def lacking(self, fault: Mutate) -> str:
        """Whether proxies can be spoken to."""
        return relay.lacking()

    def inject(self, permit: Permit, fault: Mutate, act: Act) -> Outcome:
        """Put the rule into force; landed when a message was changed, and with `kill` the target is gone."""
        rules, took_us = on_proxy.put_into_force(permit, fault, act)
        if not fault.kill:
            return on_proxy.concluded(rules, took_us)
        return together((_killed(one, act) for one in rules), us=took_us)

    def hold(self, permit: Permit, fault: Mutate, act: Act) -> None:
        """A rule stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Lift it."""
        return on_proxy.heal(record)


def _killed(rule: on_proxy.InForce, act: Act) -> Outcome:
    changed = rule.conclude()
    if changed.result != "landed":
        return changed
    target = rule.target
    # The half of it that is passed may wait for the receiver to take it.
    act.wait(_SEEN_WITHIN_MS, lambda: rule.look() and rule.state is not None and rule.state.torn)
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself in the middle of a changed message")
    try:
        sent = act.signal(target.identity, "KILL")
    except OSError as problem:
        return Outcome(result="missed", detail=f"{target}: it could not be killed: {problem}")
    if sent:
        act.wait(_SEEN_WITHIN_MS, lambda: not procs.alive(target.identity))
    if procs.alive(target.identity):
        return Outcome(result="unsure", detail=f"{target}: it was not seen to end")
    where = "in the middle of a changed message" if rule.state and rule.state.torn else "after a changed message"
    return Outcome(result="landed", detail=f"{target}: killed {where}")


INJECTOR = MutateInjector()
