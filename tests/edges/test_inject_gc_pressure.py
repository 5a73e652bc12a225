"""Forced collections: seen to be made, over and over, and asked of nobody who would die of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading

import pytest
from hands import SLEEPS, a_permit, eventually, started

from croupier.inject import gc_pressure
from croupier.inject.gc_pressure import INJECTOR
from croupier.model.faults.collector import GcPressure
from croupier.model.units import Ms
from croupier.system import procs
from croupier.testing import RecordingAct, check_fault

KEEPS = """
import gc, sys
gc.disable()
class Round: pass
def make():
    one = Round()
    one.own = one
    return one
make()
print("ready", flush=True)
for line in sys.stdin:
    print(sum(isinstance(one, Round) for one in gc.get_objects()), flush=True)
"""
"""Leaves garbage that only a full collection finds, and says how much of it is there."""


def spawn(place, program=KEEPS, flags=()):
    env = gc_pressure.hooked(dict(os.environ), place)
    child = subprocess.Popen(
        [sys.executable, *flags, "-c", program], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline().strip() == "ready"
    return child


def count(place, pid):
    file = place / str(pid)
    return int((file.read_text().split() or [0])[0]) if file.exists() else 0


def inject(who, lasts=60_000, **options):
    fault = GcPressure(for_ms=Ms(lasts), **options)
    act = RecordingAct(permit := a_permit(fault, who))
    return INJECTOR.inject(permit, fault, act), act, permit, fault


def test_it_keeps_every_rule_of_a_fault_that_puts_nothing_back(tmp_path):
    check_fault(
        INJECTOR, fault=GcPressure(for_ms=Ms(2_000)), spawn=lambda: spawn(tmp_path),
        observe=lambda pid: count(tmp_path, pid),
        only=["says-what-it-is", "example-loads", "survives-a-plan", "says-what-is-lacking", "imports-little",
              "landed-is-seen", "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
              "misses-who-is-gone", "hits-nobody-else", "no-record-no-act", "heals-quickly", "heals-when-gone"],
    )  # fmt: skip


def test_a_python_with_the_hook_collects_what_only_a_full_collection_finds(tmp_path):
    with spawn(tmp_path) as child:

        def garbage():
            child.stdin.write("how much?\n")
            child.stdin.flush()
            return child.stdout.readline().strip()

        assert garbage() == "1"
        outcome, *_ = inject(procs.identity(child.pid))
        assert outcome.result == "landed", outcome
        assert "its CPython collected all garbage" in outcome.detail
        assert garbage() == "0"
        child.stdin.close()


def test_it_is_kept_at_it_until_the_round_is_halted(tmp_path):
    with spawn(tmp_path) as child:
        outcome, act, permit, fault = inject(procs.identity(child.pid), every_ms=Ms(10))
        assert outcome.result == "landed", outcome
        holding = threading.Thread(target=INJECTOR.hold, args=(permit, fault, act))
        holding.start()
        assert eventually(lambda: count(tmp_path, child.pid) > 4, within_s=20)
        act.halt()
        holding.join(10)
        assert not holding.is_alive()
        assert INJECTOR.heal(act.records[0]).verified
        child.stdin.close()


@pytest.mark.parametrize("flags", [["-S"], ["-E"], ["-I"]])
def test_a_python_that_does_not_load_the_hook_is_missed_and_lives(tmp_path, flags):
    with spawn(tmp_path, flags=flags) as child:
        outcome, act, *_ = inject(who := procs.identity(child.pid))
        assert (outcome.result, act.records) == ("missed", ())
        assert "not under -S, -E, -I" in outcome.detail
        assert procs.alive(who)
        child.stdin.close()


def test_who_is_no_python_is_missed_and_lives():
    with started(*SLEEPS) as who:
        outcome, act, *_ = inject(who)
        assert (outcome.result, act.records) == ("missed", ())
        assert procs.alive(who)


def test_a_program_keeps_the_sitecustomize_that_it_had(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('its own')")
    env = gc_pressure.hooked({**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path)
    said = subprocess.run([sys.executable, "-c", "pass"], env=env, capture_output=True, text=True, check=True)
    assert said.stdout == "its own\n"


def test_where_there_is_no_jcmd_that_is_said(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install default-jdk-headless" in INJECTOR.lacking(GcPressure(for_ms=Ms(1), runtime="jvm"))


# A JDK is some 300 MB: not installed for one test, and used where it is.
@pytest.mark.skipif(not shutil.which("jcmd"), reason="no JDK is here (apt-get install default-jdk-headless)")
def test_a_jvm_collects_when_jcmd_tells_it_to(tmp_path):
    log, source = tmp_path / "gc.log", tmp_path / "Waits.java"
    source.write_text(
        "class Waits { public static void main(String[] a) throws Exception {"
        ' System.out.println("ready"); Thread.sleep(300000); } }'
    )
    with started("java", "-Xmx64m", f"-Xlog:gc:file={log}", str(source), ready=b"ready") as who:
        outcome, act, *_ = inject(who)
        assert outcome.result == "landed", outcome
        assert "its JVM collected all garbage" in outcome.detail
        assert eventually(lambda: "Diagnostic Command" in log.read_text())
        assert INJECTOR.heal(act.records[0]).verified
