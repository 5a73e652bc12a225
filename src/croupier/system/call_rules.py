"""What is to become of the system calls of watched processes, at this moment, in this process.

A rule is made by the fault that wants it, and read by whoever serves the calls. Rules live in the memory of the
process that watches, and end with it: nothing of them is on the machine that could outlive it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..model.target import Identity
from . import procs
from .clock import now_us


@dataclass(eq=False)
class Rule:
    """One rule in force, with what it has met so far."""

    key: str
    top: Identity
    """Calls of this process, and of all below it."""
    fault: Any
    """What is to be done, as data (`Syscall` or `SlowIo` of `model.faults.syscall`)."""
    kill: Callable[[Identity], bool]
    """Ends a process that the rule covers, within the permit of its injection. False where it may not, or is gone."""
    seen: int = 0
    """Calls that matched."""
    hits: int = 0
    """Calls that went wrong."""
    free_us: int = 0
    """With a `SlowIo`: when whatever came so far has had its turn."""
    lifted: bool = False
    _ours: dict[Identity, bool] = field(default_factory=dict)

    def covers(self, who: Identity) -> bool:
        """Whether a process is the rule's, or below it. Asked at every call, so each is looked up once."""
        known = self._ours.get(who)
        if known is None:
            known = self._ours[who] = who == self.top or self.top.pid in procs.ancestors(who.pid)
        return known

    def strikes(self) -> bool:
        """Count a call that matches; whether it is one of those that go wrong."""
        self.seen += 1
        past = self.seen - self.fault.nth
        hit = bool(past == 0 or (past > 0 and self.fault.every > 0 and past % self.fault.every == 0))
        self.hits += hit
        return hit

    def waits_ms(self, length: int) -> int:
        """With a `SlowIo`: how long a call of so many bytes that begins now is to be held, in ms. It is counted.

        More than 0 where it hangs. A wait of less than a millisecond is owed, and a later call pays it.
        """
        now = now_us()
        self.free_us = max(now, self.free_us) + self.fault.cost_us(length)
        waits = (self.free_us - now) // 1_000 + int(self.fault.delay_ms) + self.fault.hang
        self.seen += 1
        self.hits += waits > 0
        return int(waits)


_lock = threading.Lock()
_rules: dict[str, Rule] = {}
_watched: set[Identity] = set()
_on_lift: list[Callable[[], None]] = []


def watch(who: Identity) -> None:
    """The calls of this process, and of all that it starts, are served from now on."""
    with _lock:
        _watched.add(who)


def is_watched(who: Identity) -> bool:
    """Whether somebody serves the calls of this process."""
    with _lock:
        tops = {one.pid for one in _watched if procs.alive(one)}
    return not tops.isdisjoint((who.pid, *procs.ancestors(who.pid)))


def add(rule: Rule) -> None:
    """From the next call on. One of the same key is replaced."""
    with _lock:
        _rules[rule.key] = rule


def lift(key: str) -> Rule | None:
    """From now on calls go on as before, those that are held as well. The rule, if there was one."""
    with _lock:
        rule = _rules.pop(key, None)
        told = list(_on_lift)
    if rule is not None:
        rule.lifted = True
        for tell in told:
            tell()
    return rule


def is_in_force(key: str) -> bool:
    """Whether there is a rule of this key."""
    with _lock:
        return key in _rules


def in_force() -> tuple[Rule, ...]:
    """All of them, the oldest first."""
    return tuple(_rules.values())


def when_lifted(tell: Callable[[], None]) -> Callable[[], None]:
    """Be told when a rule is lifted; call what is returned to hear no more."""
    with _lock:
        _on_lift.append(tell)

    def forget() -> None:
        with _lock:
            _on_lift.remove(tell)

    return forget
