"""Gc_pressure: a process is told to collect all its garbage, over and over.

A JVM is asked by `jcmd`, and answers when it has collected. A CPython that was started with the hook of `collecting/`
is sent a signal, and counts its collections in a file. No more than one is ever asked for at a time. Nothing of it
stays when nobody asks any more: the record only says that there is somebody who asks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ..model.fault import Fault
from ..model.faults.collector import GcPressure
from ..model.guard import Permit
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..system import procs, signals
from ..system.clock import now_us
from . import Act, Outcome, together, too_late

SIGNAL = "RTMIN+11"
_PLACE = "CROUPIER_COLLECTIONS"
_NUMBER = "CROUPIER_COLLECT_AT"
_HOOK = str(Path(__file__).with_name("collecting"))
_ANSWERS_WITHIN_MS = 10_000
_COUNTS_WITHIN_MS = 5_000
_DONE = "Command executed successfully"


def hooked(env: Mapping[str, str], place: Path) -> dict[str, str]:
    """The environment in which a CPython hears us; it counts its collections below `place`."""
    path = os.pathsep.join(filter(None, (_HOOK, env.get("PYTHONPATH", ""))))
    return {**env, "PYTHONPATH": path, _PLACE: str(place), _NUMBER: str(signals.signal_number(SIGNAL))}


class GcPressureInjector:
    """Carries out `gc_pressure`."""

    kind = "gc_pressure"
    spec: type[Fault] = GcPressure
    summary = "Have a JVM or a CPython collect all its garbage, over and over."
    needs = "For a JVM: jcmd, of the same user. For a CPython: that croupier starts it, without -S, -E and -I."
    heals = "Nobody asks any more; what was collected was garbage."
    example = "gc_pressure: {every: 200ms, for: 3s}"

    def lacking(self, fault: GcPressure) -> str:
        """Whether there is jcmd, where a JVM is meant."""
        if fault.runtime == "jvm" and not shutil.which("jcmd"):
            return "jcmd is not installed (apt-get install default-jdk-headless)"
        return "" if procs.HAS_PROC else "there is no /proc to see what a process is"

    def inject(self, permit: Permit, fault: GcPressure, act: Act) -> Outcome:
        """Force one collection in each target; landed when it was said, or counted, to be done."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        return together([_press(one, fault, act) for one in permit.targets], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: GcPressure, act: Act) -> None:
        """One collection after the other, until it is over."""
        end_us = now_us() + int(fault.for_ms) * 1_000
        while not act.halted and now_us() < end_us:
            act.wait(min(int(fault.every_ms), max(0, end_us - now_us()) / 1_000))
            for one in permit.targets:
                if not act.halted and now_us() < end_us and procs.alive(one.identity):
                    _collect(one, _runtime(one.identity, fault), act)

    def heal(self, record: UndoRecord) -> Healing:
        """Nothing is left to be put back."""
        return Healing(verified=True, note="" if procs.alive(record.who) else f"{record.who} is gone")


def _press(target: Seen, fault: GcPressure, act: Act) -> Outcome:
    who = target.identity
    if late := too_late(target, act, "it could be told to collect"):
        return late
    runtime = _runtime(who, fault)
    if not runtime:
        what = {"jvm": "no JVM", "python": "no CPython with a hook"}.get(
            fault.runtime, "no JVM, nor a CPython with a hook"
        )
        detail = f"{target}: it is {what}, which croupier puts in as it starts a process (not under -S, -E, -I)"
        return Outcome(result="missed", detail=detail)
    record = UndoRecord(
        key=act.key(target), fault=fault.kind, who=who, data={"runtime": runtime},
        deadline_us=now_us() + int(fault.for_ms) * 1_000,
    )  # fmt: skip
    act.intend(record)
    began_us = now_us()
    trouble = _collect(target, runtime, act)
    if not procs.alive(who):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as it was told to collect")
    act.applied(record.key)
    if trouble:
        return Outcome(result="unsure", detail=f"{target}: {trouble}")
    took_ms = (now_us() - began_us) / 1_000
    return Outcome(result="landed", detail=f"{target}: its {runtime} collected all garbage, after {took_ms:.0f} ms")


def _runtime(who: Identity, fault: GcPressure) -> str:
    """What a process is, if it is what was asked for; "" for neither."""
    if fault.runtime != "python" and _is_jvm(who.pid) and shutil.which("jcmd"):
        return "JVM"
    hears = procs.disposition(who, signals.signal_number(SIGNAL)) == "caught" and _counter(who) is not None
    return "CPython" if fault.runtime != "jvm" and hears else ""


def _is_jvm(pid: int) -> bool:
    try:
        return "/libjvm.so" in Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return False


def _counter(who: Identity) -> Path | None:
    """The file in which a process that has the hook counts."""
    pairs = (one.partition("=") for one in procs.environment(who.pid))
    place = next((value for name, _, value in pairs if name == _PLACE), "")
    return Path(place) / str(who.pid) if place else None


def _collect(target: Seen, runtime: str, act: Act) -> str:
    """Have it collect, and wait until it has. What went wrong, in a few words; "" if nothing."""
    if runtime == "JVM":
        return _by_jcmd(target.pid, act)
    file = _counter(target.identity)
    before = _text(file)
    if file is None or not act.signal(target.identity, SIGNAL):
        return "it could not be told to collect"
    act.wait(_COUNTS_WITHIN_MS, lambda: _text(file) not in ("", before) or not procs.alive(target.identity))
    return "" if _text(file) not in ("", before) else "it was not seen to collect: its main thread runs no Python code"


def _text(file: Path | None) -> str:
    try:
        return file.read_text() if file else ""
    except OSError:
        return ""


def _by_jcmd(pid: int, act: Act) -> str:
    try:
        asking = subprocess.Popen(
            ["jcmd", str(pid), "GC.run"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=dict(act.env), text=True,
        )  # fmt: skip
    except OSError as problem:
        return f"jcmd could not be started: {problem.strerror}"
    with asking:
        act.wait(_ANSWERS_WITHIN_MS, lambda: asking.poll() is not None)
        if asking.poll() is None:
            asking.kill()
            return "the JVM did not answer in time, or the round was halted first"
        said = asking.stdout.read() if asking.stdout else ""
    return "" if _DONE in said else f"the JVM did not collect: {' '.join(said.split())}"


INJECTOR = GcPressureInjector()
