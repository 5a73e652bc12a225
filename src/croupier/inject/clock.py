"""Clock: the wall clock of a process that the round prepared for it is wrong, for a while.

The process was started with a library that reads a file (`system/clocks.py`). To be wrong is to write that file, to be
right again is to write it again: nothing else is changed, and the machine's clock is nobody's business.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from ..model.fault import Fault
from ..model.faults.clock import Clock
from ..model.guard import Permit
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..system import clocks, procs, shims
from ..system.clock import now_us
from . import Act, Outcome, together

_NEAR_NS = 20_000_000
"""How far what a clock shows may be from what it should: reading it takes its time."""


class ClockInjector:
    """Carries out `clock`."""

    kind = "clock"
    spec: type[Fault] = Clock
    summary = "Have the wall clock of a process be wrong, for a while: ahead, behind, fast or slow."
    needs = "A C compiler, or libfaketime; a target that croupier starts, and that is linked dynamically."
    heals = "The clock is set right again, and read back."
    example = "clock: {ahead: 1h, for: 5s}"

    def lacking(self, fault: Clock) -> str:
        """Whether the options belong together, and whether one of the ways works here."""
        if fault.ahead_ms and fault.behind_ms:
            return "give either ahead or behind"
        if not fault.offset_ms and not fault.drift_ppb:
            return "it changes nothing: give ahead, behind or rate"
        return "" if way(fault) is not None else _why_no_way(fault)

    def inject(self, permit: Permit, fault: Clock, act: Act) -> Outcome:
        """Set the clock of each target; landed when its file says so, it has it mapped, and date(1) shows it."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        return together([_spoil(one, fault, act) for one in permit.targets], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: Clock, act: Act) -> None:
        """With `jump_every`: right, wrong, right, until its time is over."""
        if fault.jump_every_ms is None:
            return
        found = [one for one in (_clock_of(target.identity)[0] for target in permit.targets) if one is not None]
        wrong = [clock.read() for clock in found]
        end_us, right = now_us() + int(fault.for_ms) * 1_000, False
        while True:
            act.wait(int(fault.jump_every_ms))
            if act.halted or now_us() >= end_us:
                return
            right = not right
            for clock, setting in zip(found, wrong, strict=True):
                clock.set(clocks.TRUE if right else setting)

    def heal(self, record: UndoRecord) -> Healing:
        """Set the clock right, if it is as wrong as we made it, and read it back."""
        if shared := record.data.get("shared"):
            gone = clocks.unshare(str(shared))
            return Healing(verified=gone, note="" if gone else f"{shared} is still there")
        clock = clocks.Clock(Path(str(record.data["file"])))
        made = msgspec.convert(record.data["made"], clocks.Setting)
        try:
            if clock.read() == made:
                clock.set(clocks.TRUE)
            now = clock.read()
        except FileNotFoundError:
            return Healing(verified=True, note=f"{clock.path} is gone, and with it whoever lived by it")
        if now != clocks.TRUE:
            return Healing(verified=False, note=f"{clock.path} holds what this fault did not write: {now}")
        return Healing(verified=True, note="" if procs.alive(record.who) else f"{record.who} is gone")


def way(fault: Clock) -> clocks.Way | None:
    """How this fault can be carried out here; None where it cannot."""
    ways: tuple[clocks.Way, ...] = ("shim", "libfaketime") if fault.how == "auto" else (fault.how,)
    return next((one for one in ways if not _why_not(one, fault)), None)


def _why_no_way(fault: Clock) -> str:
    if fault.how != "auto":
        return _why_not(fault.how, fault)
    return f"{_why_not('shim', fault)}; and {_why_not('libfaketime', fault)}"


def _why_not(one: clocks.Way, fault: Clock) -> str:
    lack = clocks.lacking(one)
    if not lack and one == "libfaketime" and not fault.monotonic and clocks.spoils_sleeps():
        return (
            "this libfaketime (before 0.9.11) breaks sleeps while it leaves the monotonic clock alone: say `monotonic:"
            " true`, or apt-get install gcc libc6-dev"
        )
    return lack


def _spoil(target: Seen, fault: Clock, act: Act) -> Outcome:
    who = target.identity
    if not procs.alive(who):
        return Outcome(result="missed", detail=f"{target}: gone before its clock could be set")
    if act.halted:
        return Outcome(result="missed", detail=f"{target}: the round was halted first")
    clock, why = _clock_of(who)
    if clock is None:
        return Outcome(result="missed", detail=f"{target}: {why}")
    if clock.read() != clocks.TRUE:
        return Outcome(result="missed", detail=f"{target}: its clock is wrong already")
    made = clocks.Setting(
        offset_ms=fault.offset_ms, drift_ppb=fault.drift_ppb, since_ns=time.time_ns() if fault.drift_ppb else 0,
        monotonic=fault.monotonic,
    )  # fmt: skip
    key = act.key(target)
    act.intend(
        UndoRecord(
            key=key, fault="clock", who=who, data={"file": str(clock.path), "made": msgspec.to_builtins(made)},
            deadline_us=now_us() + int(fault.for_ms) * 1_000,
        )
    )  # fmt: skip
    clock.set(made)
    act.applied(key)
    return _seen(target, clock, made, act)


def _clock_of(who: Identity) -> tuple[clocks.Clock | None, str]:
    """The clock that this process lives by, and that is its own; else why there is none."""
    path, why = shims.own_file(who, clocks.VARIABLE)
    if path is None:
        return None, why
    clock = clocks.Clock(path)
    if not clock.is_in(who.pid):
        return None, "it does not have the clock's library in its memory (a static or a setuid program has not)"
    return clock, ""


def _environment(pid: int) -> dict[str, str]:
    """What tells a process its clock, of the environment that it was started with."""
    pairs = (one.partition("=") for one in procs.environment(pid))
    return {name: text for name, _, text in pairs if name.startswith("FAKETIME") or name in (clocks.VARIABLE, *_LOADED)}


_LOADED = ("LD_PRELOAD", "NO_FAKE_STAT", "FAKE_UTIME")


def _seen(target: Seen, clock: clocks.Clock, made: clocks.Setting, act: Act) -> Outcome:
    env = {**act.env, **_environment(target.pid)}
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as its clock was set")
    if clock.read() != made:
        return Outcome(result="unsure", detail=f"{target}: its clock was set by somebody else meanwhile")
    before_ns = time.time_ns()
    shown_ns = clocks.shown_ns(env)
    earliest_ns, latest_ns = made.shown_ns(before_ns) - _NEAR_NS, made.shown_ns(time.time_ns()) + _NEAR_NS
    if shown_ns is None or not earliest_ns <= shown_ns <= latest_ns:
        says = "nothing" if shown_ns is None else f"{(shown_ns - before_ns) / 1e9:+.3f} s"
        return Outcome(result="unsure", detail=f"{target}: date(1) in its environment shows {says}")
    parts = [f"{made.offset_ms / 1000:+g} s"] * bool(made.offset_ms)
    parts += [f"running at {1 + made.drift_ppb / 10**9:g}"] * bool(made.drift_ppb)
    return Outcome(result="landed", detail=f"{target}: its clock is wrong ({', '.join(parts)}), by {clock.way}")


INJECTOR = ClockInjector()
