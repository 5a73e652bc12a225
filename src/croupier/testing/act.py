"""An `Act` that remembers: what an injector did with its hands, and whether the record came before the change."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import count
from typing import Literal, NamedTuple

import msgspec

from ..inject import PartAct, helpers
from ..model.errors import HarnessError, TargetError
from ..model.guard import Below, Permit
from ..model.target import Census, Identity, Seen, Selector
from ..model.undo import UndoRecord, UndoStep
from ..system import procs, signals
from .rules import FAULT_RULES, Rule, RuleBroken

Observe = Callable[[int], Hashable]
"""What is to be as before once a fault is healed, read from the live process of this number."""
GONE = "gone"
_trials = count(1)


class Step(NamedTuple):
    """One use of the act: what, and about which record or process."""

    what: Literal["intend", "applied", "signal", "start", "wait"]
    about: str

    def __str__(self) -> str:
        return f"{self.what} {self.about}"


class RecordingAct:
    """The hands of an injector, in a test. Give it the permit that the injector gets.

    - `steps` is everything the injector did through it, in order; `records` the undo records it intended.
    - `observe(pid)` is compared at each target's first `intend` with what it was when the act was made: when it
      differs, the injector has changed something before it wrote that down, and RuleBroken is raised (and kept in
      `broken`, for injectors that catch everything).
    - `send` delivers signals; by default to the real process, checked by its identity. Nothing is sent once halted.
    - `look_below` reads who lives below a process now; the guard judges them, as in a round. Whoever is neither a
      target nor was named by `below` is out of reach: PermissionError.
    - `keeps=False` has `intend` raise HarnessError, as when the disk is full.
    - `on_step(moment, step)` is called "before" and "after" each step takes effect.
    """

    def __init__(
        self,
        permit: Permit,
        *,
        observe: Observe | None = None,
        send: Callable[[Identity, str], bool] = signals.send,
        look_below: Callable[[Identity], Census] | None = None,
        keeps: bool = True,
        on_step: Callable[[Literal["before", "after"], Step], None] = lambda moment, step: None,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
    ) -> None:
        self.permit = permit
        self.steps: list[Step] = []
        self.undo: list[UndoStep] = []
        """What would be in the undo log."""
        self.broken: list[RuleBroken] = []
        # As in a round, where no other has its name: by it helpers are found, and nobody else's.
        own = {"CROUPIER_RUN": f"trial-{os.getpid()}-{next(_trials)}"}
        self.env: Mapping[str, str] = {**own, **(os.environ if env is None else env)}
        self.cwd = cwd or os.getcwd()  # noqa: PTH109 - the interface asks for text
        self._send = send
        self._keeps = keeps
        self._on_step = on_step
        self._halt = threading.Event()
        self._look_below = look_below or self._read_below
        self._covered = {one.identity for one in permit.targets}
        self._observe = observe
        self._before = {one.identity: observed(observe, one.identity) for one in permit.targets}

    @property
    def records(self) -> tuple[UndoRecord, ...]:
        """The records that were intended, the last of each key, in the order of their keys' first intent."""
        kept = {one.key: one.record for one in self.undo if one.record is not None}
        return tuple(kept.values())

    @property
    def halted(self) -> bool:
        """Whether `halt` was called."""
        return self._halt.is_set()

    def halt(self) -> None:
        """Stop the injector, as the round does when the fault is to be healed; its waits end at once."""
        self._halt.set()

    def key(self, target: Seen) -> str:
        """`<injection>.<nth target>`."""
        nth = [one.identity for one in self.permit.targets].index(target.identity) + 1
        return f"{self.permit.injection.number}.{nth}"

    def intend(self, record: UndoRecord) -> None:
        """Keep a record. Raises RuleBroken where the target changed before."""
        step = Step("intend", record.key)
        self._on_step("before", step)
        self.steps.append(step)
        if not self._keeps:
            raise HarnessError("the undo record could not be written: no space left on device")
        self._check_unchanged(record)
        # Encoded at once: whatever the injector does to its data later does not change what is on disk.
        self.undo.append(UndoStep(key=record.key, state="intent", record=self._stored(record)))
        self._on_step("after", step)

    def applied(self, key: str) -> None:
        """Remember that it was done. Raises RuleBroken for a key that nobody intended."""
        step = Step("applied", key)
        self._on_step("before", step)
        self.steps.append(step)
        if key not in {one.key for one in self.undo}:
            self._break(
                FAULT_RULES["says-when-it-is-done"], f"applied({key!r}) was called, and {key!r} was not intended"
            )
        self.undo.append(UndoStep(key=key, state="applied"))
        self._on_step("after", step)

    def signal(self, who: Identity, name: str) -> bool:
        """Deliver a signal to exactly this process."""
        step = Step("signal", f"{name} to {who}")
        self._on_step("before", step)
        self.steps.append(step)
        if who not in self._covered:
            raise PermissionError(f"{who} is not in the permit")
        sent = not self.halted and self._send(who, name)
        self._on_step("after", step)
        return sent

    def start(self, key: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Identity:
        """Start a helper as a child of this process. Raises RuleBroken for a key that nobody intended."""
        step = Step("start", key)
        self._on_step("before", step)
        self.steps.append(step)
        if key not in {one.key for one in self.undo}:
            seen = f"a helper was started for {key!r}, which nobody intended"
            self._break(FAULT_RULES["writes-before-it-acts"], seen)
        if self.halted:
            raise HarnessError("the injection is halted, so no helper is started")
        marked = {**self.env, **(env or {}), helpers.VARIABLE: helpers.mark(self.env.get("CROUPIER_RUN", ""), key)}
        try:
            helper = subprocess.Popen(argv, env=marked, cwd=self.cwd, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as problem:
            raise TargetError(f"{argv[0]!r} could not be started: {problem.strerror}") from problem
        # Reaped as soon as it ends, as the guardian does.
        threading.Thread(target=helper.wait, daemon=True).start()
        self._on_step("after", step)
        return procs.identity(helper.pid) or Identity(pid=helper.pid, started=0, boot=procs.boot_id())

    def part(self, nth: int) -> PartAct:
        """Combinations are tried in whole rounds: their parts are what is tried here."""
        raise HarnessError("this act lends no parts")

    def below(self, target: Seen) -> Below:
        """Who lives below a target now, as the guard judges them."""
        below = self.permit.below(target.identity, self._look_below(target.identity))
        self._covered |= {one.identity for one in below.free}
        return below

    def _read_below(self, top: Identity) -> Census:
        roots = {f"target {nth}": one.identity for nth, one in enumerate(self.permit.targets, 1)}
        return procs.find(Selector(tree=top.pid), roots=roots)

    def wait(self, ms: float, until: Callable[[], bool] | None = None) -> bool:
        """Wait so long, or until something is true or the act is halted; True in the last two cases."""
        step = Step("wait", f"{ms} ms")
        self._on_step("before", step)
        self.steps.append(step)
        end = time.monotonic() + ms / 1_000
        while not (came := until is not None and until()) and not self._halt.is_set():
            left = end - time.monotonic()
            if left <= 0:
                break
            self._halt.wait(left if until is None else min(left, 0.002))
        self._on_step("after", step)
        return came or self._halt.is_set()

    def _stored(self, record: UndoRecord) -> UndoRecord:
        try:
            return stored(record)
        except (TypeError, msgspec.MsgspecError) as problem:
            self._break(FAULT_RULES["record-is-data"], f"the record {record.key} cannot be stored as JSON: {problem}")
            return record

    def _check_unchanged(self, record: UndoRecord) -> None:
        if record.who not in self._before:
            whom = ", ".join(str(one) for one in self._before)
            self._break(FAULT_RULES["record-is-data"], f"the record is about {record.who}, and the permit about {whom}")
        elif record.who not in {one.record.who for one in self.undo if one.record is not None}:
            before, now = self._before[record.who], observed(self._observe, record.who)
            # One that ended meanwhile did so by itself.
            if now not in (before, GONE):
                seen = f"{record.who} had changed when its first record was intended: {difference(before, now)}"
                self._break(FAULT_RULES["writes-before-it-acts"], seen)

    def _break(self, rule: Rule, seen: str) -> None:
        broken = RuleBroken(rule, f"fault {self.permit.injection.fault.kind!r}", seen)
        self.broken.append(broken)
        raise broken


def stored(record: UndoRecord) -> UndoRecord:
    """The record as it comes back from disk."""
    return msgspec.json.decode(msgspec.json.encode(record), type=UndoRecord)


def observed(observe: Observe | None, who: Identity) -> Hashable:
    """What `observe` says of a process, or `gone`."""
    if observe is None:
        return None
    try:
        seen = observe(who.pid) if procs.alive(who) else GONE
    except Exception:
        if procs.alive(who):
            raise
        return GONE
    # Asked last: if it is alive now, what was read before was its own.
    return seen if procs.alive(who) else GONE


def difference(before: Hashable, now: Hashable) -> str:
    """Two observations, shortened to where they differ."""
    if isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now):
        pairs = [(one, other) for one, other in zip(before, now, strict=True) if one != other]
        if pairs:
            before, now = (tuple(pair[side] for pair in pairs) for side in (0, 1))
            if len(pairs) == 1:
                before, now = pairs[0]
    return f"it was {_short(before)}, and is {_short(now)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-90:]}"
