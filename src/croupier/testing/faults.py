"""`check_fault`: whether an injector keeps the rules, tried on real processes that are started for it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

import msgspec

from ..inject import Healing, Injector, Outcome
from ..model.errors import CroupierError, HarnessError
from ..model.experiment import Limits
from ..model.fault import Fault
from ..model.guard import Permit
from ..model.target import Identity
from ..model.undo import UndoRecord, unfinished
from ..system import procs, signals
from ..system.clock import now_us
from .act import GONE, Observe, RecordingAct, Step, difference, observed, stored
from .crash import THE_END, die_at, spread
from .examples import load_fault, through_a_plan
from .rules import FAULT_RULES, RuleBroken
from .targets import Spawn, Target, fingerprint, spawn_of
from .world import a_permit

T = TypeVar("T")

_HEAL_WITHIN_S = 2.0
_HALT_WITHIN_S = 1.0
_SEEN_WITHIN_S = 1.0
_DEADLINE_LATE_S = 60
_IMPORT_WITHIN_MS = 500


def check_fault(
    injector: Injector,
    *,
    fault: Fault,
    spawn: Spawn | Sequence[str] | None = None,
    observe: Observe = fingerprint,
    only: Iterable[str] = (),
    moments: int = 32,
    patience_s: float = 15.0,
    limits: Limits | None = None,
) -> tuple[str, ...]:
    """Try every rule for injectors on this one, and answer the names of the rules that applied.

    Call it from a test of your own:

        from croupier.testing import check_fault

        def test_renice_keeps_the_rules():
            check_fault(INJECTOR, fault=Renice(by=5, for_ms=Ms(500)))

    - `fault`: options with which the injection lands on a target of `spawn`. Give faults that hold a short time.
    - `spawn`: an argument list, or a function that starts a target and returns its `Popen` when it is ready; by
      default a quiet Python process with three threads. Several are started, one after the other and in pairs.
    - `observe(pid)`: what your fault changes and must put back, as a hashable value. By default `fingerprint`: the
      state, scheduling, CPUs, limits, cgroup. Observe more closely if you can.
    - `only`: names of FAULT_RULES to try; all of them by default.
    - `moments`: at how many moments of the injection, spread evenly, croupier is killed (`heals-after-a-crash`).
    - `patience_s`: how long one injection may take before it counts as hanging.
    - `limits`: those of the experiment, where the guard lets nobody do it without (a cluster).

    Raises RuleBroken (an AssertionError) for the first rule that is broken, and unittest.SkipTest, which pytest
    takes for a skip, where `lacking` says that this machine cannot do it; the rules that need no act were kept then.
    """
    wanted = tuple(only)
    unknown = set(wanted) - set(FAULT_RULES)
    if unknown:
        raise ValueError(f"there are no rules {', '.join(sorted(unknown))}; known are {', '.join(FAULT_RULES)}")
    trial = _Trial(injector, fault, spawn_of(spawn), observe, moments, patience_s, limits)
    applied = []
    for name, check in _CHECKS.items():
        if wanted and name not in wanted:
            continue
        trial.rule = name
        if name not in _WITHOUT_AN_ACT and (lack := injector.lacking(fault)):
            raise unittest.SkipTest(f"{trial.kind} was not tried, because this machine lacks something: {lack}")
        if check(trial) is not False:
            applied.append(name)
    return tuple(applied)


class _Done:
    """One injection that was tried."""

    def __init__(self, act: RecordingAct, outcome: Outcome | None, raised: Exception | None, took_s: float) -> None:
        self.act = act
        self.outcome = outcome
        self.raised = raised
        self.took_s = took_s

    @property
    def result(self) -> str:
        return self.outcome.result if self.outcome else ""

    def __str__(self) -> str:
        if self.raised is not None:
            return f"it raised {type(self.raised).__name__}: {self.raised}"
        assert self.outcome is not None
        return f"it answered {self.outcome.result!r}" + (f" ({self.outcome.detail})" if self.outcome.detail else "")


class _Trial:
    """One injector on trial: how it is called, and what is said when a rule is broken."""

    def __init__(
        self,
        injector: Injector,
        fault: Fault,
        spawn: Spawn,
        observe: Observe,
        moments: int,
        patience_s: float,
        limits: Limits | None,
    ) -> None:
        self.injector = injector
        self.fault = fault
        self.observe = observe
        self.moments = moments
        self.patience_s = patience_s
        self._limits = limits
        self.rule = ""
        self.undoes: bool | None = None
        """Whether an injection that lands leaves records and its target alive: something to heal."""
        self._spawn = spawn

    @property
    def kind(self) -> str:
        return str(getattr(self.injector, "kind", type(self.injector).__name__))

    def broken(self, seen: str, rule: str = "") -> NoReturn:
        raise RuleBroken(FAULT_RULES[rule or self.rule], f"fault {self.kind!r}", seen)

    @contextmanager
    def target(self) -> Iterator[Target]:
        with Target(self._spawn) as target:
            yield target

    def permit(self, *targets: Identity, number: int = 1) -> Permit:
        return a_permit(self.fault, *targets, number=number, limits=self._limits)

    def look(self, who: Identity) -> Any:
        return observed(self.observe, who)

    def inject(
        self, *targets: Target | Identity, number: int = 1, halt_after_s: float | None = None, **options: Any
    ) -> _Done:
        """One injection on a thread of its own, as in a round; what it raises is kept."""
        permit = self.permit(*(one.who if isinstance(one, Target) else one for one in targets), number=number)
        act = RecordingAct(permit, **options)
        if halt_after_s == 0:
            act.halt()
        done = self.call(lambda: self.injector.inject(permit, self.fault, act), act, halt_after_s)
        if act.broken:
            raise act.broken[0]
        if done.outcome is not None and not isinstance(done.outcome, Outcome):
            self.broken(f"`inject` returned {done.outcome!r}, and not an Outcome", "landed-is-seen")
        return done

    def call(self, work: Callable[[], Any], act: RecordingAct, halt_after_s: float | None = None) -> _Done:
        answers: list[Any] = []
        raised: list[Exception] = []

        def run() -> None:
            try:
                answers.append(work())
            except Exception as problem:
                raised.append(problem)

        began = time.monotonic()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        if halt_after_s is not None:
            thread.join(halt_after_s)
            act.halt()
            thread.join(_HALT_WITHIN_S)
            if thread.is_alive():
                self.broken(f"it was still at work {_HALT_WITHIN_S:g} s after the halt", "obeys-a-halt")
        thread.join(self.patience_s)
        if thread.is_alive():
            act.halt()
            self.broken(
                f"it had not returned after {self.patience_s:g} s (a fault that rightly takes longer: give patience_s)",
                "obeys-a-halt",
            )
        return _Done(act, answers[0] if answers else None, raised[0] if raised else None, time.monotonic() - began)

    def land(self, target: Target, number: int = 1, **options: Any) -> _Done:
        """An injection that has to land."""
        done = self.inject(target, number=number, **options)
        if done.result != "landed":
            self.broken(f"on a live process that nobody else touched, {done}", "landed-is-seen")
        return done

    def heal(self, record: UndoRecord, when: str) -> Healing:
        """Heal one record as it comes back from disk."""
        answers: list[Any] = []
        raised: list[Exception] = []

        def run() -> None:
            try:
                answers.append(self.injector.heal(stored(record)))
            except Exception as problem:
                raised.append(problem)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(_HEAL_WITHIN_S)
        if thread.is_alive():
            self.broken(f"{when}, healing had not ended after {_HEAL_WITHIN_S:g} s", "heals-quickly")
        # Cleaning up after another rule, it may be a rule of healing that is broken.
        lives = "heals-what-it-did" if procs.alive(record.who) else "heals-when-gone"
        rule = self.rule if self.rule.startswith("heals-") else lives
        if raised:
            self.broken(f"{when}, healing raised {type(raised[0]).__name__}: {raised[0]}", rule)
        if not isinstance(answers[0], Healing):
            self.broken(f"{when}, healing returned {answers[0]!r}, and not a Healing", rule)
        healing: Healing = answers[0]
        return healing

    def heal_verified(self, records: Iterable[UndoRecord], when: str) -> list[Healing]:
        """Heal records, the last first; each has to be verified."""
        healings = []
        for record in reversed(tuple(records)):
            healing = self.heal(record, when)
            if not healing.verified:
                rule = self.rule if self.rule.startswith("heals-") else "heals-what-it-did"
                self.broken(f"{when}, healing was not verified: {healing.note or 'no note'}", rule)
            healings.append(healing)
        return healings

    def must_be_back(self, target: Target, before: object, when: str) -> None:
        """What is observed is again what it was."""
        now = self._once(lambda: self.look(target.who), before)
        if now != before:
            self.broken(f"{when}, the target is not as it was before: {difference(before, now)}")

    def changed(self, target: Target, before: object) -> Any:
        """What is observed once it differs from before; `before` if it does not, within a second."""
        end = time.monotonic() + _SEEN_WITHIN_S
        while (now := self.look(target.who)) == before and time.monotonic() < end:
            time.sleep(0.002)
        return now

    def _once(self, look: Callable[[], T], wanted: object) -> T:
        end = time.monotonic() + _SEEN_WITHIN_S
        while (now := look()) != wanted and time.monotonic() < end:
            time.sleep(0.002)
        return now

    def has_something_to_heal(self) -> bool:
        """Whether the rules of healing apply; found out by one injection."""
        if self.undoes is None:
            with self.target() as target:
                done = self.land(target)
                self.undoes = bool(done.act.records) and procs.alive(target.who)
                for record in done.act.records:
                    self.heal(record, "after landing")
        return self.undoes


# --- what it says of itself ------------------------------------------------------------------------------------------


def _says_what_it_is(trial: _Trial) -> None:
    check_words(trial.broken, trial.injector, ("summary", "heals", "example"))
    if not isinstance(getattr(trial.injector, "needs", None), str):
        trial.broken("`needs` is no text (an empty one says: nothing special)")
    check_spec(trial.broken, trial.injector, trial.fault, Fault, "fault")
    for name in ("lacking", "inject", "hold", "heal"):
        if not callable(getattr(trial.injector, name, None)):
            trial.broken(f"there is no method `{name}`")
    if not isinstance(trial.fault.lasting_ms, int) or trial.fault.lasting_ms < 0:
        trial.broken(f"`lasting_ms` is {trial.fault.lasting_ms!r}, and not a number of milliseconds")


def check_words(broken: Callable[[str], NoReturn], one: Any, words: Sequence[str]) -> None:
    """The words of the catalogue are there."""
    kind = getattr(one, "kind", None)
    if not isinstance(kind, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", kind):
        broken(f"`kind` is {kind!r}, and not a short name in lower case (letters, digits, _)")
    for word in words:
        value = getattr(one, word, None)
        if not isinstance(value, str) or not value.strip():
            broken(f"`{word}` says nothing")
    if "\n" in one.summary.strip():
        broken("`summary` has more than one line")


def check_spec(broken: Callable[[str], NoReturn], one: Any, given: Any, base: type[Any], tag: str) -> None:
    """The class of the options is a frozen noun, tagged with the kind."""
    spec = getattr(one, "spec", None)
    if not (isinstance(spec, type) and issubclass(spec, base) and issubclass(spec, msgspec.Struct)):
        broken(f"`spec` is {spec!r}, and not a class of {base.__name__} and Noun")
    config = spec.__struct_config__
    if config.tag != one.kind or config.tag_field != tag or getattr(spec, "kind", "") != one.kind:
        said = f"its tag is {config.tag!r} in {config.tag_field!r} and its kind {getattr(spec, 'kind', '')!r}"
        broken(f"{spec.__name__} is not tagged with {one.kind!r}: {said}")
    if not config.frozen or not config.forbid_unknown_fields:
        broken(f"{spec.__name__} is not frozen, or takes unknown keys: derive it from Noun, frozen=True")
    if not isinstance(given, spec):
        broken(f"`spec` is {spec.__name__}, and the {tag} on trial a {type(given).__name__}")


def _example_loads(trial: _Trial) -> None:
    try:
        loaded = load_fault(trial.injector.example, trial.injector.spec)
    except CroupierError as problem:
        trial.broken(f"{trial.injector.example!r} does not load: {problem}")
    if not isinstance(loaded, trial.injector.spec):
        trial.broken(f"{trial.injector.example!r} is an example of {type(loaded).__name__}")


def _survives_a_plan(trial: _Trial) -> None:
    try:
        again = through_a_plan(trial.fault)
    except (msgspec.MsgspecError, NotImplementedError, TypeError, ValueError) as problem:
        trial.broken(f"{trial.fault!r} cannot be written and read back: {problem}")
    if again != trial.fault:
        trial.broken(f"{trial.fault!r} comes back as {again!r}")


def _says_what_is_lacking(trial: _Trial) -> None:
    with trial.target() as target:
        before = trial.look(target.who)
        try:
            lack = trial.injector.lacking(trial.fault)
        except Exception as problem:
            trial.broken(f"`lacking` raised {type(problem).__name__}: {problem}")
        if not isinstance(lack, str):
            trial.broken(f"`lacking` answered {lack!r}")
        trial.must_be_back(target, before, "after `lacking`")
        if lack:
            # Asked to all the same, it may not land, raise, or leave anything.
            done = trial.inject(target)
            if done.raised is not None or done.result == "landed":
                trial.broken(f"`lacking` says {lack!r}, and asked to inject all the same {done}")


_IMPORT = """
import importlib, importlib.util, json, sys, time
import croupier.inject, croupier.model.fault, croupier.model.probe, croupier.system.clock, croupier.system.procs
import croupier.system.signals, importlib.metadata, json, threading, ctypes
how, name, path = sys.argv[1:4]
def spent():
    # Seconds so far, without those that a busy machine had us wait for a processor (proc_pid_schedstat(5)).
    try:
        with open("/proc/self/schedstat") as file:
            waited = int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        waited = 0
    return time.perf_counter() - waited
before, began = set(sys.modules), spent()
if how == "name":
    importlib.import_module(name)
else:
    spec = importlib.util.spec_from_file_location("plugin_on_trial", path)
    module = sys.modules["plugin_on_trial"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
took = (spent() - began) * 1000
print(json.dumps([took, sorted({name.split(".")[0] for name in set(sys.modules) - before})]))
"""


def _imports_little(trial: _Trial) -> bool:
    module = sys.modules.get(type(trial.injector).__module__)
    path = getattr(module, "__file__", None)
    if module is None or not path:
        return False
    by_name = module.__name__ != "__main__" and _is_found(module)
    argv = [sys.executable, "-c", _IMPORT, "name" if by_name else "path", module.__name__, path]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    took_ms, news = float("inf"), [""]
    for _ in range(3):
        try:
            said = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            trial.broken(f"{path} had not been imported after a minute")
        if said.returncode:
            trial.broken(f"{path} cannot be imported by itself: {' '.join(said.stderr.strip().splitlines()[-1:])}")
        took_ms, news = json.loads(said.stdout.splitlines()[-1])
        # Asked again, since a busy machine is no fault of the plugin's.
        if took_ms <= _IMPORT_WITHIN_MS:
            break
    else:
        others = ", ".join(name for name in news if name not in sys.stdlib_module_names)
        trial.broken(
            f"importing {module.__name__} takes {took_ms:.0f} ms, and {_IMPORT_WITHIN_MS} ms is the most"
            + (f"; it brings in {others}" if others else "")
        )
    return True


def _is_found(module: ModuleType) -> bool:
    try:
        spec = importlib.util.find_spec(module.__name__)
    except (ImportError, ValueError):
        return False
    # One that was loaded from a file by croupier's registry is in sys.modules only.
    return spec is not None and any(
        Path(one, *module.__name__.split(".")).with_suffix(".py").exists()
        or Path(one, *module.__name__.split("."), "__init__.py").exists()
        for one in sys.path
        if one
    )


# --- doing it --------------------------------------------------------------------------------------------------------


def _landed_is_seen(trial: _Trial) -> None:
    with trial.target() as target:
        before = trial.look(target.who)
        done = trial.land(target)
        now = trial.changed(target, before)
        if now == before:
            trial.broken("it answered 'landed', and nothing that `observe` sees has changed")
        signalled = any(step.what == "signal" for step in done.act.steps)
        trial.undoes = bool(done.act.records) and now != GONE
        trial.heal_verified(done.act.records, "after landing") if trial.undoes else None
    if trial.undoes and signalled:
        # Signals that are taken and have no effect, as with a process in an uninterruptible wait.
        with trial.target() as target:
            done = trial.inject(target, send=lambda who, name: True)
            if done.result == "landed":
                trial.broken("its signals had no effect this time, and it answered 'landed' all the same")


def _writes_before_it_acts(trial: _Trial) -> None:
    with trial.target() as target:
        before = trial.look(target.who)
        done = trial.land(target, observe=trial.observe)
        now = trial.changed(target, before)
        if now not in (before, GONE) and not done.act.records:
            trial.broken(f"the target lives and has changed, and no record was intended: {difference(before, now)}")
        for record in done.act.records:
            trial.heal(record, "after landing")


def _record_is_data(trial: _Trial) -> bool:
    with trial.target() as target:
        done = trial.land(target)
        keys = [done.act.key(one) for one in done.act.permit.targets]
        for record in done.act.records:
            if record.fault != trial.kind:
                trial.broken(
                    f"the record names the fault {record.fault!r}, so nobody would find {trial.kind!r} to heal it"
                )
            if not record.key.startswith(tuple(keys)):
                trial.broken(f"the record has the key {record.key!r}, and act.key gives {keys[0]!r}")
            if record.who != target.who:
                trial.broken(f"the record is about {record.who!r}, and the target was {target.who!r}")
            trial.heal(record, "after landing")
        return bool(done.act.records)


def _has_a_deadline(trial: _Trial) -> bool:
    with trial.target() as target:
        began_us = now_us()
        done = trial.land(target)
        latest_us = now_us() + (trial.fault.lasting_ms + _DEADLINE_LATE_S * 1_000) * 1_000
        for record in done.act.records:
            if record.deadline_us <= began_us:
                trial.broken(f"the deadline of {record.key} was over before the injection began")
            if record.deadline_us > latest_us:
                late_s = (record.deadline_us - began_us) / 1e6
                trial.broken(
                    f"the deadline of {record.key} is {late_s:.0f} s away, and the fault lasts"
                    f" {trial.fault.lasting_ms / 1_000:g} s"
                )
            trial.heal(record, "after landing")
        return bool(done.act.records)


def _says_when_it_is_done(trial: _Trial) -> bool:
    with trial.target() as target:
        done = trial.land(target)
        states = {one.key: one.state for one in done.act.undo}
        for record in done.act.records:
            if states[record.key] != "applied":
                trial.broken(f"it landed, and {record.key} was not said to be applied")
            trial.heal(record, "after landing")
        return bool(states)


def _misses_who_is_gone(trial: _Trial) -> None:
    for reap, when in ((True, "the target had ended before"), (False, "the target was a zombie (ended, not reaped)")):
        with trial.target() as target:
            target.die(reap=reap)
            done = trial.inject(target)
            if done.raised is not None or done.result != "missed":
                trial.broken(f"{when}, and {done}")
    for what in ("intend", "signal"):
        with trial.target() as target:
            # At the last instant: after all that the injector looked at, and before the step takes effect.
            def dies(moment: str, step: Step, target: Target = target, what: str = what) -> None:
                if moment == "before" and step.what == what and procs.alive(target.who):
                    target.die()

            done = trial.inject(target, on_step=dies)
            if not any(step.what == what for step in done.act.steps):
                # It takes no such step, so nobody died; what it did is put back all the same.
                for record in done.act.records:
                    trial.heal(record, "after landing")
                continue
            if done.raised is not None or done.result == "landed":
                trial.broken(f"the target ended by itself just before `act.{what}`, and {done}")
            for record in done.act.records:
                trial.heal(record, "after the target had ended at the act")


def _hits_nobody_else(trial: _Trial) -> None:
    with trial.target() as target, trial.target() as twin:
        before, twin_before = trial.look(target.who), trial.look(twin.who)
        # The number was handed out again: whom the permit means was started at another time.
        earlier = msgspec.structs.replace(target.who, started=target.who.started - 1)
        done = trial.inject(earlier)
        if done.raised is not None or done.result != "missed":
            trial.broken(f"the target's number is carried by another process now, and {done}")
        for record in done.act.records:
            trial.heal(record, "after it was missed")
        trial.must_be_back(target, before, "after an injection on the process that had its number before")
        done = trial.land(target)
        trial.changed(target, before)
        if trial.look(twin.who) != twin_before:
            changes = difference(twin_before, trial.look(twin.who))
            trial.broken(
                f"a process with the same command line, which is not in the permit, was hit as well: {changes}"
            )
        for record in done.act.records:
            trial.heal(record, "after landing")


def _no_record_no_act(trial: _Trial) -> bool:
    if not trial.has_something_to_heal():
        return False
    with trial.target() as target:
        before = trial.look(target.who)
        done = trial.inject(target, keeps=False)
        if done.raised is not None and not isinstance(done.raised, HarnessError):
            trial.broken(f"act.intend could not keep the record, and {done}")
        if done.result == "landed":
            trial.broken(f"act.intend could not keep the record, and {done}")
        trial.must_be_back(target, before, "when act.intend could not keep the record")
    return True


# --- undoing it ------------------------------------------------------------------------------------------------------


def _heals_what_it_did(trial: _Trial) -> bool:
    if not trial.has_something_to_heal():
        return False
    with trial.target() as target:
        before = trial.look(target.who)
        done = trial.land(target)
        trial.changed(target, before)
        trial.heal_verified(done.act.records, "after landing")
        trial.must_be_back(target, before, "healed and said to be verified")
    return True


def _heals_quickly(trial: _Trial) -> bool:
    if not trial.has_something_to_heal():
        return False
    with trial.target() as target:
        done = trial.land(target)
        # That it does not take long is watched at every healing; here alone, so that it can be asked for alone.
        trial.heal_verified(done.act.records, "after landing")
    return True


def _heals_twice(trial: _Trial) -> bool:
    if not trial.has_something_to_heal():
        return False
    with trial.target() as target:
        before = trial.look(target.who)
        done = trial.land(target)
        trial.heal_verified(done.act.records, "the first time")
        trial.heal_verified(done.act.records, "the second time")
        trial.must_be_back(target, before, "healed twice")
    return True


def _heals_when_gone(trial: _Trial) -> bool:
    if not trial.has_something_to_heal():
        return False
    for reap, when in ((True, "when the target has ended"), (False, "when the target is a zombie (ended, not reaped)")):
        with trial.target() as target:
            done = trial.land(target)
            target.die(reap=reap)
            healings = trial.heal_verified(done.act.records, when)
            if not all(healing.note for healing in healings):
                trial.broken(f"{when}, healing was verified without a note")
    return True


def _heals_nobody_else(trial: _Trial) -> bool:
    if not trial.has_something_to_heal():
        return False
    with trial.target() as target, trial.target() as twin:
        before = trial.look(twin.who)
        first, second = trial.land(target, number=1), trial.land(twin, number=2)
        disturbed = trial.changed(twin, before)
        trial.heal_verified(first.act.records, "with another target still disturbed")
        if trial.look(twin.who) != disturbed:
            trial.broken("healing one record let go of another process with the same command line, too")
        seen = _print_of(twin)
        for record in second.act.records:
            trial.heal(_about_another(record, twin), "for a process whose number somebody else carries now")
        if _print_of(twin) != seen:
            changes = difference(seen, _print_of(twin))
            trial.broken(
                f"the record is about a process that started at another time, and healing it changed {changes}"
            )
        trial.heal_verified(second.act.records, "after landing")
        trial.must_be_back(twin, before, "healed and said to be verified")
    return True


def _print_of(target: Target) -> object:
    return observed(fingerprint, target.who)


def _about_another(record: UndoRecord, target: Target) -> UndoRecord:
    """The record as if all its processes and threads had been started at another time, and so were others."""
    started = {stat.started for pid in procs.tree(target.pid) if (stat := procs.read_stat(pid))}
    tasks = Path(f"/proc/{target.pid}/task")
    if tasks.exists():
        started |= {int((one / "stat").read_text().rpartition(")")[2].split()[19]) for one in tasks.iterdir()}
    who = msgspec.structs.replace(record.who, started=record.who.started - 1_000)
    return msgspec.structs.replace(record, who=who, data=_moved(record.data, started))


def _moved(value: Any, started: set[int]) -> Any:
    if isinstance(value, Mapping):
        return {_moved(key, started): _moved(one, started) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_moved(one, started) for one in value]
    if isinstance(value, str):
        for one in started:
            value = value.replace(str(one), str(one - 1_000))
        return value
    return value - 1_000 if isinstance(value, int) and value in started else value


def _heals_after_a_crash(trial: _Trial) -> bool:
    if not hasattr(os, "fork") or not trial.has_something_to_heal():
        return False
    file = getattr(sys.modules.get(type(trial.injector).__module__), "__file__", None) or ""
    with trial.target() as target:
        before = trial.look(target.who)
        whole = _die(trial, target, THE_END, file, before)
        if not whole.undo:
            trial.broken("in a child process of its own, nothing was intended")
        for moment in spread(whole.moments, trial.moments):
            _die(trial, target, moment, file, before)
    return True


def _die(trial: _Trial, target: Target, moment: str, file: str, before: object) -> Any:
    permit = trial.permit(target.who)
    death = die_at(moment, trial.injector, trial.fault, permit, file=file, within_s=trial.patience_s)
    when = f"killed {_told(moment, file)}"
    if death.raised:
        trial.broken(f"in a child process of its own, it raised {death.raised}", "landed-is-seen")
    if death.stuck:
        trial.broken(f"in a child process of its own, it had not ended after {trial.patience_s:g} s", "obeys-a-halt")
    trial.heal_verified(reversed(unfinished(list(death.undo))), when)
    kept = f"{len(death.undo)} undo steps were on disk, and all records are healed"
    trial.must_be_back(target, before, f"{when} ({kept if death.undo else 'nothing was on disk'})")
    return death


def _told(moment: str, file: str) -> str:
    if moment == THE_END:
        return "at its end"
    if not moment.startswith("before line ") or not file:
        return moment
    number = int(moment.rpartition(" ")[2])
    try:
        text = Path(file).read_text(encoding="utf-8").splitlines()[number - 1].strip()
    except (OSError, IndexError):
        text = ""
    return f"{moment} of {Path(file).name} (`{text}`)"


# --- stopping it -----------------------------------------------------------------------------------------------------


def _obeys_a_halt(trial: _Trial) -> None:
    with trial.target() as target:
        before = trial.look(target.who)
        # Halted already; then halted while it waits for something that does not come.
        for halt_after_s, send in ((0.0, signals.send), (0.05, lambda who, name: True)):
            done = trial.inject(target, halt_after_s=halt_after_s, send=send)
            if done.raised is not None:
                trial.broken(f"halted, {done}")
            for record in done.act.records:
                trial.heal(record, "after a halt")
            if trial.look(target.who) == GONE:
                return
        trial.must_be_back(target, before, "halted and healed")
    with trial.target() as target:
        before = trial.look(target.who)
        done = trial.land(target)
        held = trial.call(lambda: trial.injector.hold(done.act.permit, trial.fault, done.act), done.act, 0.1)
        if held.raised is not None:
            trial.broken(f"`hold`: {held}")
        for record in done.act.records:
            trial.heal(record, "after `hold` was halted")
        if trial.look(target.who) != GONE and trial.undoes:
            trial.must_be_back(target, before, "healed after `hold` was halted")


_WITHOUT_AN_ACT = frozenset(
    ("says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little")
)
_CHECKS: dict[str, Callable[[_Trial], bool | None]] = {
    "says-what-it-is": _says_what_it_is,
    "example-loads": _example_loads,
    "survives-a-plan": _survives_a_plan,
    "says-what-is-lacking": _says_what_is_lacking,
    "imports-little": _imports_little,
    "landed-is-seen": _landed_is_seen,
    "writes-before-it-acts": _writes_before_it_acts,
    "record-is-data": _record_is_data,
    "has-a-deadline": _has_a_deadline,
    "says-when-it-is-done": _says_when_it_is_done,
    "misses-who-is-gone": _misses_who_is_gone,
    "hits-nobody-else": _hits_nobody_else,
    "no-record-no-act": _no_record_no_act,
    "heals-what-it-did": _heals_what_it_did,
    "heals-quickly": _heals_quickly,
    "heals-twice": _heals_twice,
    "heals-when-gone": _heals_when_gone,
    "heals-nobody-else": _heals_nobody_else,
    "obeys-a-halt": _obeys_a_halt,
    "heals-after-a-crash": _heals_after_a_crash,
}
