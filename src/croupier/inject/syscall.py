"""Syscall: have system calls of a process go wrong, for a while.

The round watches the calls of its own processes (seccomp user notification) and serves them; a rule says what becomes
of those that match. The rule lives in croupier's memory alone: when croupier is gone, no call goes wrong any more, and
what is held stands still until its process has been ended.
"""

from __future__ import annotations

import errno
import os

from ..model.fault import Fault
from ..model.faults.syscall import SlowIo, Syscall
from ..model.guard import Permit
from ..model.target import Identity, Seen
from ..model.undo import UndoRecord
from ..system import call_rules, call_shim, procs, shims
from ..system.clock import now_us
from . import Act, Healing, Outcome, preloaded, together


class SyscallInjector:
    """Carries out `syscall`."""

    kind = "syscall"
    spec: type[Fault] = Syscall
    summary = "Have system calls of a process go wrong, for a while: fail, take their time, do a part, or lie."
    needs = "Linux 5.9 or later with seccomp user notification; a target that croupier starts."
    heals = "The rule is lifted, and seen to be; calls that stand still go on."
    example = "syscall: {call: fsync, do: fail, errno: EIO, for: 3s}"

    def lacking(self, fault: Syscall) -> str:
        """Whether there is such an error; whether calls can be watched is asked by the round that watches them."""
        if fault.do == "fail" and not hasattr(errno, fault.errno):
            return f"this system has no error {fault.errno}"
        return preloaded.lacking(fault) if fault.how == "preload" else ""

    def inject(self, permit: Permit, fault: Syscall, act: Act) -> Outcome:
        """Put the rule into force for each target; landed when a call went wrong."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        rules = [_begun(one, fault, act) for one in permit.targets]
        in_force = [one for one in rules if not isinstance(one, Outcome)]
        took_us = now_us() - decided_us
        act.wait(int(fault.for_ms), lambda: bool(in_force) and all(one.hits for one in in_force))
        parts = [one if isinstance(one, Outcome) else _seen(one) for one in rules]
        return together(parts, us=took_us)

    def hold(self, permit: Permit, fault: Syscall, act: Act) -> None:
        """A rule stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Lift the rule, where it is; elsewhere see whether whoever holds it still lives."""
        if "file" in record.data:
            return preloaded.heal(record)
        pid, started = record.data["holder"]
        holder = Identity(pid=pid, started=started, boot=record.who.boot)
        if holder != procs.identity(os.getpid()):
            if procs.alive(holder):
                return Healing(verified=False, note=f"croupier ({holder}) still lives, and holds the rule")
            return Healing(verified=True, note="the rule ended with the process that held it")
        rule = call_rules.lift(record.key)
        if call_rules.is_in_force(record.key):
            return Healing(verified=False, note="the rule is still in force")
        if rule is None:
            return Healing(verified=True, note="no such rule is in force")
        gone = "" if procs.alive(record.who) else f"; {record.who} is gone"
        return Healing(verified=True, note=f"{rule.hits} of {rule.seen} calls went wrong{gone}")


def _begun(target: Seen, fault: Syscall | SlowIo, act: Act) -> call_rules.Rule | preloaded.Shimmed | Outcome:
    who = target.identity
    if not procs.alive(who):
        return Outcome(result="missed", detail=f"{target}: gone before its calls could go wrong")
    if act.halted:
        return Outcome(result="missed", detail=f"{target}: the round was halted first")
    if isinstance(fault, Syscall) and _goes_by_a_shim(fault, who):
        return preloaded.begin(target, fault, act)
    if not call_rules.is_watched(who):
        return Outcome(
            result="missed",
            detail=f"{target}: its calls are not watched; only those of processes that croupier starts are",
        )
    own = procs.identity(os.getpid())
    assert own is not None
    key = act.key(target)
    act.intend(
        UndoRecord(
            key=key,
            fault=fault.kind,
            who=who,
            data={"holder": [own.pid, own.started]},
            deadline_us=now_us() + int(fault.for_ms) * 1_000,
        )
    )

    def kill(caller: Identity) -> bool:
        # Looked at first, so that the hands reach whoever was started below the target meanwhile.
        act.below(target)
        try:
            return act.signal(caller, "KILL")
        except OSError:
            return False

    rule = call_rules.Rule(key=key, top=who, fault=fault, kill=kill)
    call_rules.add(rule)
    act.applied(key)
    return rule


def _goes_by_a_shim(fault: Syscall, who: Identity) -> bool:
    if fault.how != "auto":
        return fault.how == "preload"
    return not call_rules.is_watched(who) and shims.is_told(who, call_shim.VARIABLE)


def _seen(rule: call_rules.Rule | preloaded.Shimmed) -> Outcome:
    fault, who = rule.fault, rule.top
    names, said = " or ".join(fault.calls).replace("any", "call that changes a file"), "was held"
    if isinstance(fault, SlowIo):
        names = " or ".join((fault.of,) if isinstance(fault.of, str) else fault.of)
    else:
        said = _SAID[fault.do].format(fault.errno)
    if rule.hits:
        return Outcome(result="landed", detail=f"{who}: {names} {said}")
    if not procs.alive(who):
        return Outcome(result="missed", detail=f"{who}: it ended by itself, and made no such call")
    return Outcome(result="missed", detail=f"{who}: it made no {names} that matches ({rule.seen} seen)")


_SAID = {
    "fail": "failed with {}",
    "delay": "was held",
    "short": "wrote a part",
    "torn": "wrote a part, and ended it",
    "lie": "was said to be done, and was not",
    "freeze": "stands still",
    "kill": "was its end",
}

INJECTOR = SyscallInjector()
