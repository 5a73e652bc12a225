"""Dns: wrong answers of the resolver in the target's network, for names that match, for a while.

The rule ends by itself in the resolver, a second after its time; and with the resolver, should that die.
"""

from __future__ import annotations

import ipaddress
import re

from ..model.fault import Fault
from ..model.faults.names import Dns
from ..model.guard import Permit
from ..model.naming import CODES, TIME_OUT, NameRule
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import networks, procs, resolver
from ..system.clock import now_us
from . import Act, Outcome, together

_GRACE_US = 1_000_000
_ASKED_WITHIN_S = 0.3
_TRIES = 5


class DnsInjector:
    """Carries out `dns`."""

    kind = "dns"
    spec: type[Fault] = Dns
    summary = "Have look-ups of names fail, hang, or lead astray, for a while."
    needs = "Root, iproute2; a network with `names` that the target lives in."
    heals = "The resolver lifts the rule, and says so; by itself a second after its time."
    example = 'dns: {names: "*.example.com", answer: servfail, for: 3s}'

    def lacking(self, fault: Dns) -> str:
        """Whether there can be a network, and whether the answer is one."""
        return networks.lacking()

    def inject(self, permit: Permit, fault: Dns, act: Act) -> Outcome:
        """Put the rule into force; landed when a question of ours, from the target's home, was answered by it."""
        decided_us = now_us()
        return together([_mislead(one, fault, act) for one in permit.targets], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: Dns, act: Act) -> None:
        """A rule stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Lift it."""
        try:
            there = resolver.lift(str(record.data["control"]), record.key)
        except TimeoutError as problem:
            return Healing(verified=False, note=f"{problem}, so its rule cannot be seen to be lifted")
        if there is not None and record.key in there.rules:
            return Healing(verified=False, note="the rule is still in force")
        gone = "" if procs.alive(record.who) else f"{record.who} is gone"
        ended = "the resolver is gone, and its rules with it" if there is None else ""
        return Healing(verified=True, note="; ".join(filter(None, (ended, gone))))


def _mislead(target: Seen, fault: Dns, act: Act) -> Outcome:
    def missed(why: str) -> Outcome:
        return Outcome(result="missed", detail=f"{target}: {why}")

    who, key = target.identity, act.key(target)
    found = networks.home_of(act.env, who)
    if not procs.alive(who):
        return missed("gone before its look-ups could go wrong")
    if act.halted:
        return missed("the round was halted first")
    if not _is_answer(fault.answer):
        return missed(f"{fault.answer!r} is no address")
    if found is None or not found[0].files:
        return missed("it lives in no network of this round that has `names`")
    wiring, home = found
    where = resolver.named(act.env, wiring.name)
    until_us = now_us() + int(fault.for_ms) * 1_000
    act.intend(UndoRecord(key=key, fault="dns", who=who, data={"control": where}, deadline_us=until_us))
    clients = () if fault.whose == "everybody" else (home.address,)
    rule = NameRule(
        key=key, pattern=fault.names.lower(), answer=fault.answer, clients=clients, until_us=until_us + _GRACE_US
    )
    try:
        if resolver.add(where, rule) is None:
            return missed("the resolver has ended")
        act.applied(key)
        door, said = networks.path_of(home.keeper), ""
        for _ in range(_TRIES):
            if act.halted:
                break
            said = resolver.look_up(door, wiring.hub.address, _such(fault.names), _ASKED_WITHIN_S)
            if said == fault.answer and _has_hit(where, key):
                break
    except OSError as problem:
        return Outcome(result="unsure", detail=f"{target}: {problem.strerror or problem}")
    if not procs.alive(who):
        return missed("it ended by itself as its look-ups began to go wrong")
    if said != fault.answer:
        return Outcome(result="unsure", detail=f"{target}: a question of ours was answered with {said or 'nothing'}")
    return Outcome(result="landed", detail=f"{target}: {fault.names} is answered with {said}")


def _is_answer(text: str) -> bool:
    try:
        return text == TIME_OUT or text in CODES or bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def _such(pattern: str) -> str:
    """A name that a glob means."""
    listed = re.sub(r"\[(!?)(.)[^\]]*\]", lambda found: "x" if found[1] else found[2], pattern)
    return listed.replace("*", "x").replace("?", "x")


def _has_hit(where: str, key: str) -> bool:
    there = resolver.tell(where)
    return there is not None and there.hits.get(key, 0) > 0


INJECTOR = DnsInjector()
