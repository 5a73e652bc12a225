"""The conformance kit has teeth: it passes what keeps the rules, and names the rule that something else breaks."""

from __future__ import annotations

import importlib.util
import os
import resource
import subprocess
import sys
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from croupier.inject import Act, Healing, Outcome, kill, suspend, together
from croupier.model.errors import HarnessError
from croupier.model.fault import Duty, Fault, Kill, Suspend
from croupier.model.guard import Permit
from croupier.model.noun import Noun
from croupier.model.probe import Asked, Log, Probe, Process, Reading, Tcp
from croupier.model.target import Identity, Seen
from croupier.model.undo import UndoRecord
from croupier.model.units import Ms
from croupier.observe import READERS, View
from croupier.system import procs, signals
from croupier.system.clock import now_us
from croupier.system.commands import Finished
from croupier.testing import (
    FAULT_RULES,
    PROBE_RULES,
    FakeWorld,
    RecordingAct,
    RuleBroken,
    Target,
    a_permit,
    a_process,
    check_fault,
    check_probe,
    fingerprint,
)

# --- what keeps the rules --------------------------------------------------------------------------------------------

BUILT_INS = [
    pytest.param(kill.INJECTOR, Kill(), id="kill"),
    pytest.param(kill.INJECTOR, Kill(signal="TERM", then="KILL", grace_ms=Ms(300)), id="kill by a ladder"),
    pytest.param(suspend.INJECTOR, Suspend(for_ms=Ms(300)), id="suspend"),
    pytest.param(suspend.INJECTOR, Suspend(for_ms=Ms(300), tree=True), id="suspend a tree"),
    pytest.param(
        suspend.INJECTOR, Suspend(for_ms=Ms(3_000), duty=Duty(on_ms=Ms(20), off_ms=Ms(20))), id="suspend in pulses"
    ),
    pytest.param(suspend.INJECTOR, Suspend(for_ms=Ms(300), how="freezer"), id="suspend by the freezer"),
]


@pytest.mark.parametrize(("injector", "fault"), BUILT_INS)
def test_the_built_in_faults_keep_the_rules_that_plugins_have_to_keep(injector: Any, fault: Fault) -> None:
    tried = check_fault(injector, fault=fault)

    assert {"landed-is-seen", "misses-who-is-gone", "hits-nobody-else", "obeys-a-halt"} <= set(tried)
    if isinstance(fault, Suspend):
        assert set(tried) == set(FAULT_RULES), "a fault that is undone is held to every rule"


def test_a_process_that_ignores_the_signal_cannot_make_a_halted_kill_wait() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"

    def spawn() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-ISc", stubborn], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    fault = Kill(signal="TERM", then="KILL", grace_ms=Ms(1_500))
    assert check_fault(kill.INJECTOR, fault=fault, spawn=spawn, only=["obeys-a-halt"]) == ("obeys-a-halt",)


class Cramp(Fault, Noun, tag="cramp", tag_field="fault", frozen=True, kw_only=True):
    """Fewer open files than the program was started with: a change that needs no privilege to put back."""

    kind: ClassVar[str] = "cramp"

    files: int = 23
    for_ms: Ms = msgspec.field(name="for", default=Ms(500))

    @property
    def lasting_ms(self) -> int:
        return self.for_ms


class CrampInjector:
    """Keeps every rule. Each of the classes below breaks one."""

    kind = "cramp"
    spec: type[Fault] = Cramp
    summary = "Lower the limit of open files."
    needs = ""
    heals = "The limit that there was before."
    example = "cramp: {files: 23, for: 2s}"

    def lacking(self, fault: Any) -> str:
        return ""

    def inject(self, permit: Permit, fault: Any, act: Act) -> Outcome:
        began_us = now_us()
        parts = [self.one(target, fault, act) for target in permit.targets]
        return together(parts, us=now_us() - began_us)

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        if not procs.alive(target.identity):
            return Outcome(result="missed", detail="gone before")
        record = self.record(target, fault, act)
        act.intend(record)
        self.set(record, fault.files)
        act.applied(record.key)
        return self.seen(target, fault)

    def record(self, target: Seen, fault: Cramp, act: Act) -> UndoRecord:
        soft, hard = limits(target.pid)
        return UndoRecord(
            key=act.key(target),
            fault="cramp",
            who=target.identity,
            data={"soft": soft, "hard": hard},
            deadline_us=now_us() + fault.lasting_ms * 1_000,
        )

    def set(self, record: UndoRecord, soft: int) -> None:
        set_limits(record.who.pid, soft, record.data["hard"])

    def seen(self, target: Seen, fault: Cramp) -> Outcome:
        held = limits(target.pid)[0] == fault.files and procs.alive(target.identity)
        return Outcome(result="landed") if held else Outcome(result="missed", detail="gone meanwhile")

    def hold(self, permit: Permit, fault: Any, act: Act) -> None:
        pass

    def heal(self, record: UndoRecord) -> Healing:
        if not procs.alive(record.who):
            return Healing(verified=True, note="the target is gone")
        self.set(record, record.data["soft"])
        return Healing(verified=limits(record.who.pid)[0] == record.data["soft"])


def limits(pid: int) -> tuple[int, int]:
    try:
        return resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except OSError:
        return (-1, -1)


def set_limits(pid: int, soft: int, hard: int) -> None:
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    except OSError:
        pass


def of_the_same_name(pid: int) -> list[int]:
    """How not to find a process: everybody with this command line."""
    wanted = Path(f"/proc/{pid}/cmdline").read_bytes()
    return [one for one in procs.children(os.getpid()) if Path(f"/proc/{one}/cmdline").read_bytes() == wanted]


def test_an_injector_that_keeps_the_rules_is_told_so() -> None:
    assert check_fault(CrampInjector(), fault=Cramp()) == tuple(FAULT_RULES)


# --- what breaks them ------------------------------------------------------------------------------------------------


class ActsFirst(CrampInjector):
    rule = "writes-before-it-acts"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        if not procs.alive(target.identity):
            return Outcome(result="missed", detail="gone before")
        record = self.record(target, fault, act)
        self.set(record, fault.files)
        act.intend(record)
        act.applied(record.key)
        return self.seen(target, fault)


class ActsFirstAndCatchesAll(ActsFirst):
    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        try:
            return super().one(target, fault, act)
        except Exception as problem:
            return Outcome(result="unsure", detail=str(problem))


class WritesNothing(CrampInjector):
    rule = "writes-before-it-acts"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        if not procs.alive(target.identity):
            return Outcome(result="missed", detail="gone before")
        self.set(self.record(target, fault, act), fault.files)
        return self.seen(target, fault)


class HealsOnlyTheLiving(CrampInjector):
    rule = "heals-when-gone"

    def heal(self, record: UndoRecord) -> Healing:
        if not procs.alive(record.who):
            raise ProcessLookupError(f"there is no process {record.who.pid}")
        return super().heal(record)


class CannotHealTheGone(CrampInjector):
    rule = "heals-when-gone"

    def heal(self, record: UndoRecord) -> Healing:
        healing = super().heal(record)
        return healing if procs.alive(record.who) else Healing(verified=False, note="it is gone")


class HealsByName(CrampInjector):
    rule = "heals-nobody-else"

    def heal(self, record: UndoRecord) -> Healing:
        for pid in of_the_same_name(record.who.pid) if procs.alive(record.who) else ():
            set_limits(pid, record.data["soft"], record.data["hard"])
        return super().heal(record)


class HealsByNumber(CrampInjector):
    rule = "heals-nobody-else"

    def heal(self, record: UndoRecord) -> Healing:
        set_limits(record.who.pid, record.data["soft"], record.data["hard"])
        return super().heal(record)


class LandsBlindly(CrampInjector):
    rule = "misses-who-is-gone"

    def seen(self, target: Seen, fault: Cramp) -> Outcome:
        return Outcome(result="landed")


class DoesNothing(CrampInjector):
    rule = "landed-is-seen"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        return Outcome(result="landed")


class NeverLands(CrampInjector):
    rule = "landed-is-seen"

    def seen(self, target: Seen, fault: Cramp) -> Outcome:
        return Outcome(result="unsure", detail="who knows")


class ForgetsToRestore(CrampInjector):
    rule = "heals-what-it-did"

    def heal(self, record: UndoRecord) -> Healing:
        return Healing(verified=True)


class RestoresADefault(CrampInjector):
    rule = "heals-what-it-did"

    def heal(self, record: UndoRecord) -> Healing:
        if not procs.alive(record.who):
            return Healing(verified=True, note="the target is gone")
        self.set(record, 77)
        return Healing(verified=True)


class HoldsOn(CrampInjector):
    rule = "obeys-a-halt"

    def hold(self, permit: Permit, fault: Any, act: Act) -> None:
        time.sleep(3)


class SettlesDown(CrampInjector):
    rule = "obeys-a-halt"
    only = ("landed-is-seen", "obeys-a-halt")  # Each injection takes its time.

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        outcome = super().one(target, fault, act)
        if outcome.result == "landed":
            time.sleep(1.2)
        return outcome


class RaisesAtTheDead(CrampInjector):
    rule = "misses-who-is-gone"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        if not procs.alive(target.identity):
            raise ProcessLookupError(target.pid)
        return super().one(target, fault, act)


class TrustsTheNumber(CrampInjector):
    rule = "hits-nobody-else"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        now = procs.identity(target.pid)
        if now is None or not procs.alive(now):
            return Outcome(result="missed", detail="gone before")
        # Whoever carries the number is taken for the target.
        return super().one(msgspec.structs.replace(target, identity=now), fault, _Rekeyed(act, target))


class _Rekeyed:
    def __init__(self, act: Act, target: Seen) -> None:
        self._act, self._target = act, target

    def key(self, target: Seen) -> str:
        return self._act.key(self._target)

    def intend(self, record: UndoRecord) -> None:
        self._act.intend(msgspec.structs.replace(record, who=self._target.identity))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._act, name)


class FindsByName(CrampInjector):
    rule = "hits-nobody-else"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        outcome = super().one(target, fault, act)
        for pid in of_the_same_name(target.pid) if outcome.result == "landed" else ():
            set_limits(pid, fault.files, limits(pid)[1])
        return outcome


class KeepsASet(CrampInjector):
    rule = "record-is-data"

    def record(self, target: Seen, fault: Cramp, act: Act) -> UndoRecord:
        record = super().record(target, fault, act)
        return msgspec.structs.replace(record, data={**record.data, "lock": object()})


class NamesAnotherFault(CrampInjector):
    rule = "record-is-data"

    def record(self, target: Seen, fault: Cramp, act: Act) -> UndoRecord:
        return msgspec.structs.replace(super().record(target, fault, act), fault="cramps")


class LastsForEver(CrampInjector):
    rule = "has-a-deadline"

    def record(self, target: Seen, fault: Cramp, act: Act) -> UndoRecord:
        return msgspec.structs.replace(super().record(target, fault, act), deadline_us=2**62)


class IsLateAlready(CrampInjector):
    rule = "has-a-deadline"

    def record(self, target: Seen, fault: Cramp, act: Act) -> UndoRecord:
        return msgspec.structs.replace(super().record(target, fault, act), deadline_us=fault.lasting_ms * 1_000)


class NeverSaysDone(CrampInjector):
    rule = "says-when-it-is-done"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        if not procs.alive(target.identity):
            return Outcome(result="missed", detail="gone before")
        record = self.record(target, fault, act)
        act.intend(record)
        self.set(record, fault.files)
        return self.seen(target, fault)


class ActsAllTheSame(CrampInjector):
    rule = "no-record-no-act"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        try:
            return super().one(target, fault, act)
        except HarnessError:
            self.set(self.record(target, fault, act), fault.files)
            return Outcome(result="unsure", detail="not written down")


class RemembersInstead(CrampInjector):
    rule = "heals-after-a-crash"

    def __init__(self) -> None:
        self.memory: dict[str, int] = {}

    def record(self, target: Seen, fault: Cramp, act: Act) -> UndoRecord:
        record = super().record(target, fault, act)
        self.memory[f"{record.who.pid}"] = record.data["soft"]
        return msgspec.structs.replace(record, data={"hard": record.data["hard"]})

    def heal(self, record: UndoRecord) -> Healing:
        if not procs.alive(record.who):
            return Healing(verified=True, note="the target is gone")
        self.set(record, self.memory[f"{record.who.pid}"])
        return Healing(verified=True)


class WritesTheRestLater(CrampInjector):
    rule = "heals-after-a-crash"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        if not procs.alive(target.identity):
            return Outcome(result="missed", detail="gone before")
        whole = self.record(target, fault, act)
        act.intend(msgspec.structs.replace(whole, data={}))
        self.set(whole, fault.files)
        act.intend(whole)
        act.applied(whole.key)
        return self.seen(target, fault)

    def heal(self, record: UndoRecord) -> Healing:
        return super().heal(record) if record.data else Healing(verified=True, note="nothing was done")


class UndoesOnlyWhatWasApplied(CrampInjector):
    """Puts nothing back unless it finds what `inject` left last of all."""

    rule = "heals-after-a-crash"

    def one(self, target: Seen, fault: Cramp, act: Act) -> Outcome:
        outcome = super().one(target, fault, act)
        if outcome.result == "landed":
            os.sched_setaffinity(target.pid, {min(os.sched_getaffinity(target.pid))})
        return outcome

    def heal(self, record: UndoRecord) -> Healing:
        if not procs.alive(record.who):
            return Healing(verified=True, note="the target is gone")
        mine, theirs = os.sched_getaffinity(0), os.sched_getaffinity(record.who.pid)
        if theirs == mine:
            return Healing(verified=True, note="nothing to undo")
        os.sched_setaffinity(record.who.pid, mine)
        return super().heal(record)


class HealsSlowly(CrampInjector):
    rule = "heals-quickly"

    def heal(self, record: UndoRecord) -> Healing:
        healing = super().heal(record)
        time.sleep(2.2)
        return healing


class HealsOnce(CrampInjector):
    rule = "heals-twice"

    def heal(self, record: UndoRecord) -> Healing:
        if procs.alive(record.who) and limits(record.who.pid)[0] == record.data["soft"]:
            return Healing(verified=False, note="this was healed already")
        return super().heal(record)


class SaysNothing(CrampInjector):
    rule = "says-what-it-is"
    summary = ""


class HasABadName(CrampInjector):
    rule = "says-what-it-is"
    kind = "Cramp It"


class Loose(Fault, msgspec.Struct, tag="cramp", frozen=True):
    kind: ClassVar[str] = "cramp"


class IsNotTagged(CrampInjector):
    rule = "says-what-it-is"
    spec = Loose


class ShowsAnOldExample(CrampInjector):
    rule = "example-loads"
    example = "cramp: {files: 23, fore: 2s}"


class LacksWords(CrampInjector):
    rule = "says-what-is-lacking"

    def lacking(self, fault: Any) -> Any:
        return None


class LacksLoudly(CrampInjector):
    rule = "says-what-is-lacking"

    def lacking(self, fault: Any) -> str:
        raise OSError("no such device")


BROKEN: list[Any] = [
    ActsFirst,
    ActsFirstAndCatchesAll,
    WritesNothing,
    HealsOnlyTheLiving,
    CannotHealTheGone,
    HealsByName,
    HealsByNumber,
    LandsBlindly,
    DoesNothing,
    NeverLands,
    ForgetsToRestore,
    RestoresADefault,
    HoldsOn,
    SettlesDown,
    RaisesAtTheDead,
    TrustsTheNumber,
    FindsByName,
    KeepsASet,
    NamesAnotherFault,
    LastsForEver,
    IsLateAlready,
    NeverSaysDone,
    ActsAllTheSame,
    RemembersInstead,
    WritesTheRestLater,
    pytest.param(
        UndoesOnlyWhatWasApplied,
        marks=pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only"),
    ),
    HealsSlowly,
    HealsOnce,
    SaysNothing,
    HasABadName,
    IsNotTagged,
    ShowsAnOldExample,
    LacksWords,
    LacksLoudly,
]


@pytest.mark.parametrize("kind", BROKEN)
def test_what_breaks_a_rule_is_caught_with_that_rule(kind: type[Any]) -> None:
    # All of this file is what would be imported, pytest included: that rule has a test of its own.
    with pytest.raises(RuleBroken) as caught:
        check_fault(kind(), fault=Cramp(), only=getattr(kind, "only", set(FAULT_RULES) - {"imports-little"}))

    assert caught.value.rule == kind.rule
    said = str(caught.value)
    assert kind.rule in said and FAULT_RULES[kind.rule].do in said, "it says which rule, and what to do"


def test_a_suspend_that_trusts_its_signals_is_caught() -> None:
    class Trusting(suspend.SuspendInjector):
        def inject(self, permit: Permit, fault: Any, act: Act) -> Outcome:
            outcome = super().inject(permit, fault, act)
            return Outcome(result="landed") if outcome.result == "unsure" else outcome

    with pytest.raises(RuleBroken, match=r"landed-is-seen.*signals had no effect"):
        check_fault(Trusting(), fault=Suspend(for_ms=Ms(300)))


def test_an_injector_that_is_slow_to_import_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "heavy_plugin.py"
    path.write_text(f"import sys, time\nsys.path.insert(0, {str(Path(__file__).parent)!r})\ntime.sleep(0.6)\n")
    spec = importlib.util.spec_from_file_location("heavy_plugin", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["heavy_plugin"] = module
    try:
        module.__file__ = str(path)
        heavy = type("Heavy", (CrampInjector,), {"__module__": "heavy_plugin"})
        with pytest.raises(RuleBroken, match="imports-little"):
            check_fault(heavy(), fault=Cramp())
    finally:
        del sys.modules["heavy_plugin"]


def test_a_machine_that_lacks_something_skips_and_says_what() -> None:
    class Lacking(CrampInjector):
        def lacking(self, fault: Any) -> str:
            return "there is no flux capacitor"

        def inject(self, permit: Permit, fault: Any, act: Act) -> Outcome:
            return Outcome(result="missed", detail=self.lacking(fault))

    with pytest.raises(unittest.SkipTest, match="flux capacitor"):
        check_fault(Lacking(), fault=Cramp())


def test_a_rule_that_nobody_knows_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="known are says-what-it-is"):
        check_fault(CrampInjector(), fault=Cramp(), only=["heals-everything"])


def test_nothing_is_left_of_a_check() -> None:
    before = set(procs.children(os.getpid()))
    check_fault(CrampInjector(), fault=Cramp())
    with pytest.raises(RuleBroken):
        check_fault(ForgetsToRestore(), fault=Cramp())
    assert set(procs.children(os.getpid())) == before


def test_the_manual_names_every_rule() -> None:
    manual = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "write-a-plugin.md"
    told = manual.read_text(encoding="utf-8")
    assert [name for name in FAULT_RULES if f"`{name}`" not in told] == []


# --- probers ---------------------------------------------------------------------------------------------------------


def test_the_built_in_probes_keep_the_rules(tmp_path: Path) -> None:
    chatty, quiet = FakeWorld(tmp_path), FakeWorld(tmp_path)
    for world in (chatty, quiet):
        world.start("web")
    chatty.log("web", "listening on 8080")
    tried = check_probe(READERS["log"], Log(process="web", match="listening"), true_world=chatty, false_world=quiet)
    assert set(tried) == set(PROBE_RULES) - {"says-what-it-is", "example-loads"}, "a reader alone has no catalogue"

    check_probe(READERS["process"], Process(of="web", count=1), true_world=chatty, false_world=FakeWorld(tmp_path))
    nowhere = Tcp(port="nowhere")
    check_probe(
        READERS["log"],
        Log(process="web", match="listening"),
        true_world=chatty,
        false_world=quiet,
        blind_world=FakeWorld(tmp_path),
    )
    assert READERS["tcp"](nowhere, quiet).held is None


class Roll(Probe, Asked, tag="roll", tag_field="probe", frozen=True, kw_only=True):
    """A command says who is there."""

    kind: ClassVar[str] = "roll"

    of: str = "web"


class RollProber:
    """Keeps every rule."""

    kind = "roll"
    spec: type[Probe] = Roll
    summary = "A command says who is there."
    example = "roll: {of: web}"

    def read(self, probe: Any, view: View) -> Reading:
        try:
            done = view.run_command(("roll", probe.of), probe.within_ms, {})
        except Exception as problem:
            return Reading(held=None, detail=f"the roll could not be called: {problem}")
        if done.code is None:
            return Reading(held=None, detail="the roll was not called to its end")
        return Reading(held=done.code == 0, detail=f"the roll ended with {done.code}")


class Raises(RollProber):
    rule = "never-raises"

    def read(self, probe: Any, view: View) -> Reading:
        done = view.run_command(("roll", probe.of), probe.within_ms, {})
        return Reading(held=None if done.code is None else done.code == 0, detail="called")


class SaysTrueWhenBlind(RollProber):
    rule = "never-raises"

    def read(self, probe: Any, view: View) -> Reading:
        reading = super().read(probe, view)
        return msgspec.structs.replace(reading, held=reading.held is not False)


class Dawdles(RollProber):
    rule = "ends-in-time"

    def read(self, probe: Any, view: View) -> Reading:
        return super().read(msgspec.structs.replace(probe, within_ms=Ms(5_000)), view)


class SeesNoFault(RollProber):
    rule = "answers-what-it-sees"

    def read(self, probe: Any, view: View) -> Reading:
        return msgspec.structs.replace(super().read(probe, view), held=True)


class TakesBlindnessForAFinding(RollProber):
    rule = "answers-what-it-sees"

    def read(self, probe: Any, view: View) -> Reading:
        reading = super().read(probe, view)
        return msgspec.structs.replace(reading, held=bool(reading.held))


class GivesNoReason(RollProber):
    rule = "gives-a-reason"

    def read(self, probe: Any, view: View) -> Reading:
        return msgspec.structs.replace(super().read(probe, view), detail="")


class Rambles(RollProber):
    rule = "gives-a-reason"

    def read(self, probe: Any, view: View) -> Reading:
        return msgspec.structs.replace(super().read(probe, view), detail="so it goes\n" * 100)


class ProbesWithoutWords(RollProber):
    rule = "says-what-it-is"
    example = ""


class ProbesWithAnOldExample(RollProber):
    rule = "example-loads"
    example = "roll: {off: web}"


def roll_call(tmp_path: Path, prober: Any) -> tuple[str, ...]:
    worlds: dict[str, Any] = {}
    for name, code in (("true_world", 0), ("false_world", 1), ("blind_world", None)):
        worlds[name] = FakeWorld(tmp_path)
        worlds[name].commands[("roll", "web")] = Finished(code=code, timed_out=code is None)
    return check_probe(prober, Roll(), **worlds)


def test_a_prober_that_keeps_the_rules_is_told_so(tmp_path: Path) -> None:
    assert roll_call(tmp_path, RollProber()) == tuple(PROBE_RULES)


@pytest.mark.parametrize(
    "kind",
    [
        Raises,
        SaysTrueWhenBlind,
        Dawdles,
        SeesNoFault,
        TakesBlindnessForAFinding,
        GivesNoReason,
        Rambles,
        ProbesWithoutWords,
        ProbesWithAnOldExample,
    ],
)
def test_a_prober_that_breaks_a_rule_is_caught_with_that_rule(tmp_path: Path, kind: type[Any]) -> None:
    with pytest.raises(RuleBroken) as caught:
        roll_call(tmp_path, kind())
    # A reader that is blind and says so wrongly may be found out by either.
    assert caught.value.rule in {kind.rule, "answers-what-it-sees" if kind is SaysTrueWhenBlind else kind.rule}


def test_a_world_that_hangs_may_be_given_and_is_left_in_time(tmp_path: Path) -> None:
    entered: list[str] = []

    @contextmanager
    def hanging() -> Iterator[FakeWorld]:
        world = FakeWorld(tmp_path)

        def hang() -> Finished:
            time.sleep(2)
            return Finished(code=0)

        world.commands[("roll", "web")] = hang
        entered.append("in")
        yield world
        entered.append("out")

    world = FakeWorld(tmp_path)
    world.commands[("roll", "web")] = Finished(code=0)
    with pytest.raises(RuleBroken, match=r"ends-in-time.*still at work"):
        check_probe(
            RollProber(),
            Roll(),
            true_world=world,
            false_world=world,
            hanging_world=hanging,
            only=["ends-in-time"],
        )
    assert entered == ["in", "out"]


# --- the helpers -----------------------------------------------------------------------------------------------------


def test_a_fake_world_stops_continues_and_ends_its_processes() -> None:
    world = FakeWorld()
    web, worker = world.start("web"), world.start("web")
    assert (web.main, worker.main, worker.parent) == (True, False, web.pid)
    act = world.act(world.permit(Kill(), worker))
    assert act.signal(worker.identity, "STOP") and world.state(worker) == "T"
    assert act.signal(worker.identity, "CONT") and world.state(worker) == "S"
    assert act.signal(worker.identity, "TERM") and world.state(worker) == ""
    assert not act.signal(worker.identity, "TERM")
    assert [one.identity for one in world.census()] == [web.identity]
    assert str(act.steps[0]) == f"signal STOP to pid {worker.pid}"


def test_a_permit_for_tests_comes_from_the_guard_and_keeps_the_order() -> None:
    world = FakeWorld()
    seen = [world.start("web") for _ in range(4)]
    permit = a_permit(Kill(), *reversed(seen), number=7)
    assert [one.pid for one in permit.targets] == [one.pid for one in reversed(seen)]
    assert permit.injection.number == 7
    with pytest.raises(ValueError, match="there is no process"):
        a_permit(Kill(), 2**22 + 17)
    with pytest.raises(AssertionError, match="guard gave no permit"):
        a_permit(Kill(), msgspec.structs.replace(seen[0], protected="it is the king"))


def test_an_act_remembers_records_and_refuses_what_was_not_intended() -> None:
    world = FakeWorld()
    web = world.start("web")
    act = world.act(world.permit(Kill(), web))
    record = UndoRecord(key=act.key(web), fault="kill", who=web.identity, data={"was": [1, 2]}, deadline_us=1)
    act.intend(record)
    act.intend(msgspec.structs.replace(record, data={"was": [3]}))
    act.applied(record.key)
    assert [one.data for one in act.records] == [{"was": [3]}], "the last of each key counts"
    assert [one.state for one in act.undo] == ["intent", "intent", "applied"]
    with pytest.raises(RuleBroken, match="says-when-it-is-done"):
        act.applied("9.9")
    with pytest.raises(RuleBroken, match="record-is-data"):
        act.intend(msgspec.structs.replace(record, who=Identity(pid=1, started=1)))
    with pytest.raises(HarnessError):
        RecordingAct(world.permit(Kill(), web), keeps=False).intend(record)


def test_a_wait_ends_when_it_comes_true_when_halted_or_when_it_is_over() -> None:
    world = FakeWorld()
    act = world.act(world.permit(Kill(), world.start("web")))
    assert act.wait(10_000, lambda: True)
    assert not act.wait(5)
    act.halt()
    assert act.wait(10_000), "a halt ends every wait"
    assert act.halted


def test_a_fingerprint_shows_what_a_fault_may_change_and_nothing_else() -> None:
    with Target(a_process) as target:
        before = fingerprint(target.pid)
        assert fingerprint(target.pid) == before
        signals.send(target.who, "STOP")
        wait_until(lambda: set(procs.thread_states(target.who)) == {"T"})
        assert fingerprint(target.pid) != before
        signals.send(target.who, "CONT")
        wait_until(lambda: fingerprint(target.pid) == before)
        os.setpriority(os.PRIO_PROCESS, target.pid, 3)
        assert fingerprint(target.pid) != before


def test_the_process_of_the_kit_ends_with_whoever_started_it() -> None:
    process = a_process()
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    assert process.wait(10) == 0
    process.stdout.close()


def wait_until(came: Any) -> None:
    end = time.monotonic() + 10
    while not came():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)
