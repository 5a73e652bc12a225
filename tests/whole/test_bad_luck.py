"""Bad input and bad luck: each gets a clear message and the right exit code, and nothing is left disturbed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from croupier.inject.kill import KillInjector
from croupier.inject.suspend import SuspendInjector
from croupier.model import fault as f
from croupier.model import journal as j
from croupier.model.experiment import Limits
from croupier.model.guard import Permit, Standing, consider
from croupier.model.plan import At, Injection
from croupier.model.target import Selector
from croupier.model.units import Ms
from croupier.system import procs
from croupier.testing import RecordingAct

from .house import (
    CROUPIER,
    House,
    Stored,
    a_kill,
    a_process,
    a_suspension,
    an_experiment,
    app,
    eventually,
    is_stopped,
    python,
    states,
)

ONE_TRY = {"when": "unexpected", "delay": "50ms", "limit": "1 per 1m"}


# --- programs that do not behave ------------------------------------------------------------------------------------


def test_a_process_that_never_gets_ready_is_given_up_and_nobody_is_disturbed(house: House) -> None:
    never = {"file": {"path": "${state}/never"}, "within": "200ms", "every": "20ms"}
    app_ = a_process(app("family", "--deaf"), ready=never, restart=ONE_TRY)
    played = house.play(an_experiment(processes={"app": {**app_, "stop": {"grace": "100ms"}}}, injections=[a_kill()]))
    assert played.code == 4
    assert played.verdict.outcome == "aborted"
    assert "was not ready within 200ms" in [one.why for one in played.events(j.ProcessMoved)][-2]
    assert "app is fatal" in played.done.out and "was not ready within 200ms" in played.done.out
    assert played.events(j.Due) == []
    assert states(played.stored.all(), "app").count("starting") == 2


def test_a_command_that_is_not_found_is_named(house: House) -> None:
    played = house.play(
        an_experiment(processes={"app": a_process(["no-such-program"], restart=ONE_TRY)}, injections=[a_kill()])
    )
    assert played.code == 4
    assert "command not found: 'no-such-program'" in "".join(one.why for one in played.events(j.ProcessMoved))
    assert "no-such-program" in played.done.out


def test_a_working_directory_that_is_not_there_is_named(house: House) -> None:
    played = house.play(
        an_experiment(
            processes={"app": a_process(["sleep", "9"], cwd="nowhere", restart=ONE_TRY)}, injections=[a_kill()]
        )
    )
    assert played.code == 4
    assert "nowhere" in played.done.out


def test_a_port_that_is_taken_ends_the_round_before_it_begins(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = python(f"import socket; socket.create_server(('127.0.0.1', {port})); import time; time.sleep(300)")
        # Asking the port would tell that somebody listens; the program has to say itself that it is ready.
        ready = {"log": {"process": "app", "match": "listening"}, "every": "20ms"}
        played = house.play(
            an_experiment(processes={"app": a_process(server, ready=ready, restart=ONE_TRY)}, injections=[a_kill()])
        )
    assert played.code == 4
    assert "code 1 before it was ready" in "".join(one.why for one in played.events(j.ProcessMoved))
    assert "Address already in use" in played.stored.log


def test_a_program_that_forks_away_is_followed_when_the_experiment_says_so(house: House) -> None:
    ready = {"tcp": {"port": "${port.app}"}, "every": "20ms"}
    played = house.play(
        an_experiment(
            processes={"app": a_process(app("daemon", "${port.app}"), ready=ready, forks_away=True)},
            injections=[a_kill()],
            invariants=[{"recovery": {"of": "app", "every": "< 5s"}}],
        )
    )
    assert played.code == 0, played.done
    died = next(one for one in played.events(j.ProcessExited) if one.cause == "injected")
    assert died.who == played.events(j.Intended)[0].targets[0].who
    assert played.verdict.restarts == {"app": 1}


def test_a_program_that_forks_away_unasked_is_told_so_and_ended_with_the_round(house: House) -> None:
    played = house.play(
        an_experiment(
            processes={"app": a_process(app("daemon"), restart={"when": "unexpected"})},
            injections=[a_kill("300ms")],
        )
    )
    assert played.code == 1 or played.code == 4
    assert played.results() == ["missed"]
    pid = int((played.stored.run.state / "daemon.pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_a_workload_that_hangs_is_killed_after_its_grace_and_said_to_be(house: House) -> None:
    workload = {"command": app("family", "--deaf"), "stop": {"grace": "200ms"}}
    played = house.play(an_experiment(workload=workload, injections=[a_kill()]))
    assert played.code == 0, played.done
    assert [one.signal for one in played.events(j.WorkloadEnded)] == ["KILL"]
    assert any("did not end within 200ms" in one.text for one in played.events(j.Noted))


def test_a_workload_that_dies_by_itself_leaves_the_evidence_incomplete(house: House) -> None:
    workload = {"command": ["sh", "-c", "echo ack 1; exit 3"]}
    played = house.play(an_experiment(workload=workload, injections=[a_kill("300ms")]))
    assert played.code == 4, played.done
    assert "the workload ended by itself with exit code 3" in played.done.out
    assert played.verdict.acks == 1


def test_a_workload_that_ends_as_it_may_is_no_trouble(house: House) -> None:
    workload = {"command": ["sh", "-c", "echo ack 1; exit 3"], "exit_codes": [0, 3]}
    played = house.play(an_experiment(workload=workload, injections=[a_kill("300ms")]))
    assert played.code == 0, played.done


def test_a_workload_that_cannot_start_aborts_the_round(house: House) -> None:
    played = house.play(an_experiment(workload={"command": ["no-such-load"]}, injections=[a_kill("5s")]))
    assert played.code == 4
    assert played.verdict.outcome == "aborted"
    assert "no-such-load" in played.done.out


def test_an_invariant_that_hangs_is_ended_with_its_children_and_answers_nothing(house: House) -> None:
    hangs = {"command": {"run": app("family", "--deaf"), "within": "500ms", "name": "it is well"}}
    played = house.play(an_experiment(injections=[a_kill()], invariants=[hangs]))
    # A check that does not come to an answer has not said that all is well.
    assert played.code == 1
    assert [one.held for one in played.events(j.InvariantRead)] == [False]
    assert "did not end within 500ms" in played.done.out


def test_what_a_probe_leaves_behind_is_ended_with_the_round(house: House) -> None:
    leaves = {
        "command": {"run": ["sh", "-c", 'setsid sleep 300 & echo $! > "$0/left"', "${state}"], "name": "it is well"}
    }
    played = house.play(an_experiment(injections=[a_kill()], invariants=[leaves]))
    assert played.code == 0, played.done
    pid = int((played.stored.run.state / "left").read_text())
    assert not Path(f"/proc/{pid}").exists()


# --- at the moment of the act ---------------------------------------------------------------------------------------

DIES_FIRST = '''
"""A kill whose target goes by itself after it was chosen, and before the signal."""
import pathlib, time
from croupier.inject.kill import KillInjector
from croupier.model.fault import Kill
from croupier.system import procs

class LateKill(Kill, tag="late_kill", frozen=True, kw_only=True):
    """A kill that comes too late."""
    kind = "late_kill"

class LateKillInjector(KillInjector):
    kind, spec = "late_kill", LateKill
    example = "late_kill: {}"

    def inject(self, permit, fault, act):
        pathlib.Path(act.env["CROUPIER_STATE"], "go").touch()
        while procs.alive(permit.targets[0].identity):
            time.sleep(0.001)
        time.sleep(0.1)
        return super().inject(permit, fault, act)

FAULTS = [LateKillInjector()]
'''
GOES_WHEN_TOLD = python(
    "import os, sys, time\n"
    "go = os.environ['CROUPIER_STATE'] + '/go'\n"
    "while not os.path.exists(go): time.sleep(0.005)\n"
    "os.rename(go, go + 'ne'); sys.exit(7)"
)


def test_a_target_that_dies_by_itself_at_the_moment_of_the_act_is_missed_and_its_death_its_own(house: House) -> None:
    (house.path / "late.py").write_text(DIES_FIRST)
    injection = {"at": "100ms", "late_kill": {}, "target": {"process": "app"}}
    played = house.play(
        an_experiment(
            processes={"app": a_process(GOES_WHEN_TOLD)},
            injections=[injection],
            invariants=[{"crashes": {"of": "app", "at_most": 0}}],
        ),
        "--plugin",
        "late.py",
    )
    assert played.results() == ["missed"]
    assert "gone before the signal" in played.verdict.injections[0].why
    first = played.events(j.ProcessExited)[0]
    assert (first.code, first.cause, first.injection) == (7, "own", 0)
    assert played.verdict.crashes == {"app": 1}
    assert played.code == 1


def test_a_target_that_ends_by_itself_of_a_signal_that_it_was_sent_was_ended_by_us(house: House) -> None:
    leaves = (
        "import signal, sys, time\n"
        "signal.signal(15, lambda *a: sys.exit(3))\n"
        "print('ready', flush=True)\n"
        "time.sleep(99)"
    )
    ready = {"log": {"process": "app", "match": "ready"}, "every": "20ms"}
    played = house.play(
        an_experiment(
            processes={"app": a_process(python(leaves), ready=ready)},
            injections=[a_kill(signal="TERM", then="KILL", grace="2s")],
            invariants=[{"crashes": {"of": "app", "at_most": 0}}],
        )
    )
    assert played.code == 0, played.done
    first = played.events(j.ProcessExited)[0]
    assert (first.code, first.cause, first.injection) == (3, "injected", 1)


@pytest.mark.parametrize("fault", [f.Kill(), f.Suspend(for_ms=Ms(1_000))], ids=lambda one: one.kind)
def test_a_number_that_was_handed_to_another_process_since_the_choice_is_not_touched(
    house: House, fault: f.Fault
) -> None:
    stranger = house.guest(["sleep", "300"])
    (seen,) = [one for one in procs.read_census({"app": stranger}) if one.identity == stranger]
    dead = msgspec.structs.replace(stranger, started=stranger.started - 1)
    chosen = msgspec.structs.replace(seen, identity=dead)
    injection = Injection(number=1, trigger=At(at_ms=0), fault=fault, target=Selector(process="app"), lot=0)
    permit = consider(injection, (chosen,), Limits(), Standing(now_ms=0))
    assert isinstance(permit, Permit)

    injector: Any = KillInjector() if isinstance(fault, f.Kill) else SuspendInjector()
    outcome = injector.inject(permit, fault, RecordingAct(permit))
    assert outcome.result == "missed"
    time.sleep(0.05)
    assert procs.alive(stranger) and not is_stopped(stranger)


# --- disks, journals, clocks ----------------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk takes root")


def on_a_small_disk(house: House, size: str) -> list[str]:
    """The command that runs croupier where `runs` is a disk of this size, which nobody else sees."""
    house.out.mkdir()
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, str(house.out), CROUPIER]


def can_mount() -> bool:
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return done.returncode == 0


@needs_root
def test_a_disk_that_is_full_from_the_start_is_said_so(house: House) -> None:
    if not can_mount():
        pytest.skip("this machine lets nobody mount a small disk")
    file = house.write(an_experiment(injections=[a_kill()]))
    command = [*on_a_small_disk(house, "8k"), "run", str(file), "--no-progress", "--out", str(house.out)]
    done = subprocess.run(command, cwd=house.path, env=house.env, capture_output=True, text=True, timeout=20)
    assert done.returncode == 5, done
    assert "No space left on device" in done.stderr or "no space left" in done.stderr
    assert "Traceback" not in done.stderr


@needs_root
def test_a_disk_that_fills_up_while_somebody_is_suspended_ends_the_round_and_heals(house: House) -> None:
    if not can_mount():
        pytest.skip("this machine lets nobody mount a small disk")
    guest = house.guest(["sleep", "300"])
    fills = ["sh", "-c", "while ! test -e $CROUPIER_STATE/../undo.jsonl; do sleep 0.05; done; sleep 1;"
             " head -c 10000000 /dev/zero > $CROUPIER_STATE/big; sleep 300"]  # fmt: skip
    experiment = an_experiment(
        processes={"app": a_process(fills), "other": a_process(app("family", "--deaf"))},
        attach={"guest": {"pid": guest.pid}},
        injections=[a_suspension(lasts="60s", process="guest"), a_kill("3s", process="other")],
        limits={"allow": ["guest", "other"], "injections": 5, "concurrent": 5},
        collect={"sample_every": "100ms"},
    )
    playing = house.begin(experiment, "--live", command=on_a_small_disk(house, "1m"))
    was_stopped = eventually(lambda: is_stopped(guest))
    assert was_stopped, playing.ended_with()
    done = playing.wait()
    assert done.code == 5, done
    assert "journal cannot be written" in done.err
    assert "Traceback" not in done.err
    assert procs.alive(guest) and not is_stopped(guest)
    marked = [pid for pid in procs.all_pids() if procs.has_marker(pid, f"CROUPIER_STATE={house.out}".encode())]
    assert marked == []


def test_a_journal_reads_wherever_it_was_cut(house: House) -> None:
    played = house.play(
        an_experiment(
            # Killed while it forks away, it would be waited for with a child more than it keeps.
            processes={"app": a_process(app("family"), ready={"log": {"process": "app", "match": "ready"}})},
            workload={"command": ["sh", "-c", "echo ack 1; exec sleep 300"]},
            injections=[a_kill("50ms"), a_suspension("500ms", lasts="50ms")],
        )
    )
    assert played.code == 0, played.done
    whole = played.stored.run.journal.read_bytes()
    copy = Stored(shutil.copytree(played.stored.path, house.path / "cut" / "tiny" / "one"))
    from croupier.cli.records import write_page
    from croupier.model.verdict import judge

    first_line = whole.index(b"\n") + 1
    words = []
    for cut in range(0, len(whole) + 1, 37):
        copy.run.journal.write_bytes(whole[:cut])
        verdict = judge(copy.run.events())
        words.append(verdict.verdict)
        assert verdict.cut == (cut < len(whole) - 1)
        if cut % 740 == 0:
            assert write_page(copy.run).stat().st_size > 1_000
    assert set(words) <= {"unknown", "held"} and words.count("held") <= 1

    for cut in (0, 1, first_line - 2, first_line + 10, len(whole) // 2, len(whole) - 5):
        copy.run.journal.write_bytes(whole[:cut])
        copy.run.verdict.unlink(missing_ok=True)
        judged = house.croupier("judge", copy.path)
        assert (judged.code, "verdict: unknown" in judged.out) == (4, True), judged
        if cut not in (0, 1, first_line + 10):
            continue
        reported = house.croupier("report", copy.path, "--junit", house.path / "junit.xml")
        assert reported.code == 0, reported
        listed = house.croupier("runs", "--out", house.path / "cut", "--json")
        assert [one["verdict"] for one in listed.json] == ["-"]
        if cut:
            replayed = house.croupier("replay", copy.path, "--out", house.path / "again", "--no-progress")
            assert replayed.code == (2 if cut < first_line else 0), replayed
            assert "Traceback" not in replayed.said


def test_a_journal_with_a_line_that_is_none_is_refused_with_its_number(house: House) -> None:
    played = house.play(an_experiment(injections=[a_kill()]))
    lines = played.stored.run.journal.read_bytes().splitlines(keepends=True)
    played.stored.run.journal.write_bytes(b"".join([*lines[:3], b"{not json}\n", *lines[3:]]))
    judged = house.croupier("judge", played.stored.path)
    assert judged.code == 2
    assert "journal.jsonl:4" in judged.err


JUMPS = '''
"""Wall clocks that jump back and forth by a year, in croupier and its guardian."""
import datetime, itertools, time

_steps = itertools.cycle((0, 31_536_000, -31_536_000, 86_400, -3_600))
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + next(_steps)
time.time_ns = lambda: _time_ns() + next(_steps) * 10**9

class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

datetime.datetime = Jumping
'''


def test_a_clock_that_jumps_moves_nothing(house: House) -> None:
    jumping = house.path / "jumping"
    jumping.mkdir()
    (jumping / "sitecustomize.py").write_text(JUMPS)
    injections = [a_kill("200ms"), a_suspension("600ms", lasts="200ms"), a_kill("1100ms")]
    experiment = an_experiment(injections=injections, limits={"rate": "10 per 10s"})
    played = house.play(experiment, env={"PYTHONPATH": str(jumping)})
    assert played.code == 0, played.done
    assert played.results() == ["landed"] * 3
    moments = [one.at_us for one in played.stored.all()]
    assert moments == sorted(moments)
    zero = next(one.at_us for one in played.events(j.PhaseEntered) if one.phase == "round")
    for due, planned_ms in zip(played.events(j.Due), (200, 600, 1100), strict=True):
        # The round's time counts from a moment before the event of its beginning is written.
        assert -100_000 <= due.at_us - zero - planned_ms * 1_000 < 500_000
    healed = played.events(j.Healed)[0].at_us - played.events(j.Concluded)[1].at_us
    assert 150_000 < healed < 1_200_000


def test_no_decision_reads_the_wall_clock() -> None:
    # Wall clock is for people, for windows (hours of the day are its business), and for comparing with a file's time.
    allowed = {
        "guardian.py",
        "store/runs.py",
        "store/searches.py",
        "explore/search.py",
        "explore/round_search.py",
        "run/strikes.py",
        "run/prepare.py",
        # What they are about is the wall clock itself.
        "inject/clock.py",
        "system/clocks.py",
    }
    of_files = {"observe/file.py", "observe/heartbeat.py", "system/portable.py"}
    source = Path(sys.modules["croupier"].__file__ or "").parent
    reads = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.(now|utcnow|today)\(")
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if reads.search(path.read_text())}
    assert found - of_files <= allowed


# --- two at once ----------------------------------------------------------------------------------------------------


def test_two_rounds_at_once_do_not_touch_each_other(house: House) -> None:
    def experiment(title: str) -> dict[str, Any]:
        ready = {"tcp": {"port": "${port.app}"}, "every": "20ms"}
        return an_experiment(
            title=title,
            processes={"app": a_process(app("daemon", "${port.app}"), ready=ready, forks_away=True)},
            injections=[a_kill("300ms"), a_suspension("900ms", lasts="200ms"), a_kill("1500ms")],
            invariants=[{"recovery": {"of": "app", "every": "< 5s"}}, {"crashes": {"of": "app", "at_most": 0}}],
        )

    both = [house.begin(house.write(experiment(name), f"{name}.yaml")) for name in ("first", "second")]
    # The same directory and second: what they write, and whom they hit, must be kept apart all the same.
    played = [one.played() for one in both]
    assert [one.code for one in played] == [0, 0], [one.done for one in played]
    pids = [{who.pid for who in one.stored.known()} for one in played]
    hit = [{who.who.pid for one in each.events(j.Intended) for who in one.targets} for each in played]
    assert hit[0] <= pids[0] and hit[1] <= pids[1]
    assert hit[0].isdisjoint(hit[1])
    assert house.found_left() == []


def test_one_of_two_rounds_that_is_killed_leaves_the_other_alone(house: House) -> None:
    calm = a_process(app("family"))
    both = [
        house.begin(
            house.write(an_experiment(title=name, processes={"app": calm}, injections=[a_kill("2s")]), f"{name}.yaml")
        )
        for name in ("first", "second")
    ]
    for one in both:
        one.until(j.PhaseEntered, lambda event: event.phase == "round")
    both[0].process.kill()
    both[0].process.wait()
    both[0].stored.sees_everybody_gone()
    assert house.croupier("recover").code == 0
    second = both[1].played()
    assert second.code == 0, second.done
    assert second.verdict.crashes == {}


def test_hundreds_are_stopped_together_and_croupier_itself_lets_them_go(house: House) -> None:
    forks = "for _ in range(250):\n    if not os.fork(): time.sleep(300)\n"
    pool = python(f"import os, time\n{forks}print('up', flush=True)\ntime.sleep(300)")
    ready = {"log": {"process": "app", "match": "up"}}
    stop = {
        "at": "100ms",
        "suspend": {"for": "300ms"},
        "target": {"process": "app", "pick": "children", "count": "all"},
    }
    played = house.play(an_experiment(processes={"app": a_process(pool, ready=ready)}, injections=[stop]))
    assert played.code == 0, played.done.said[:2_000]
    (intended,) = played.events(j.Intended)
    assert len(intended.targets) == 250
    assert [one.verified for one in played.events(j.Healed)] == [True]
    assert not [one.text for one in played.events(j.Noted) if "the guardian healed" in one.text]


# --- files ----------------------------------------------------------------------------------------------------------


def within(seconds: float, house: House, *arguments: str | Path) -> Any:
    """A command that answers soon. The time is generous, as the machine may be busy; a bomb would take minutes."""
    began = time.monotonic()
    done = house.croupier(*arguments)
    assert time.monotonic() - began < seconds
    assert "Traceback" not in done.said
    return done


def test_an_experiment_of_ten_megabytes_is_refused_at_once(house: House) -> None:
    injections = "\n".join("  - {at: 1s, kill: {}, target: {process: app}}" for _ in range(230_000))
    head = "version: 1\ntitle: big\nhypothesis: big\nprocesses: {app: {command: [sleep]}}\ninjections:\n"
    text = head + injections + "\n"
    assert len(text) > 10_000_000
    file = house.write(text)
    for command in ("validate", "plan", "run"):
        done = within(8, house, command, file)
        assert done.code == 2
        assert "experiment.yaml" in done.err and "too large" in done.err and "hint" in done.err


def test_a_yaml_bomb_is_refused_at_once(house: House) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    done = within(8, house, "validate", house.write("version: 1\n" + "\n".join(rows) + "\n"))
    assert done.code == 2
    assert "experiment.yaml:" in done.err


@pytest.mark.parametrize(
    "text",
    ["", "\0", "- 1", "]", "{", "a: b: c", "&a [*a]", "!!python/object/apply:os.system [true]", "a: 1\na: 2",
     "version: 1\n" + "  " * 200 + "x", "[" * 10_000, "\t", "--- 1\n--- 2"],
    ids=range(13),
)  # fmt: skip
def test_whatever_the_file_holds_the_answer_is_a_sentence(house: House, text: str) -> None:
    done = within(8, house, "validate", house.write(text))
    assert done.code == 2
    assert done.err.strip()


def test_an_unknown_key_is_named_with_its_line_and_a_hint(house: House) -> None:
    text = "version: 1\ntitle: t\nhypothesis: h\nprocesses:\n  app:\n    comand: [sleep, '9']\n"
    done = house.refused(text)
    assert done.code == 2
    assert "experiment.yaml:6" in done.err
    assert "comand" in done.err and "command" in done.err


def test_a_number_without_a_unit_is_named_with_its_line(house: House) -> None:
    whole = an_experiment(injections=[a_kill("100ms")])
    whole["processes"]["app"]["stop"] = {"grace": 5}
    done = house.refused(whole)
    assert done.code == 2
    assert re.search(r"experiment\.yaml:\d+", done.err)
    assert "5s" in done.err or "unit" in done.err


def test_a_file_that_is_not_there_is_said_so(house: House) -> None:
    for command in ("validate", "plan", "run"):
        done = house.croupier(command, "nowhere.yaml")
        assert done.code == 2
        assert "nowhere.yaml" in done.err
    for command in ("judge", "report", "replay"):
        done = house.croupier(command, "nowhere")
        assert done.code == 2, done
        assert "nowhere" in done.err


def test_seed_zero_is_a_seed(house: House) -> None:
    played = house.play(an_experiment(injections=[a_kill()], seed=5), seed=0)
    assert played.code == 0, played.done
    assert played.events(j.RunStarted)[0].seed == 0
    assert played.verdict.seed == 0
    assert played.stored.path.name.endswith("-0")
    assert '"seed":0' in played.stored.run.plan.read_text()
    from_file = house.croupier("plan", house.write(an_experiment(injections=[a_kill()], seed=0)), "--json")
    assert from_file.json["seed"] == 0


LACKS = '''
from croupier.inject.kill import KillInjector
from croupier.model.fault import Kill

class Freeze(Kill, tag="freeze_time", frozen=True, kw_only=True):
    """Stops time."""
    kind = "freeze_time"

class FreezeInjector(KillInjector):
    kind, spec, example = "freeze_time", Freeze, "freeze_time: {}"

    def lacking(self, fault):
        return "this machine has no time machine"

FAULTS = [FreezeInjector()]
'''


def test_a_fault_that_this_machine_cannot_do_is_refused_before_anything_is_started(house: House) -> None:
    (house.path / "lacks.py").write_text(LACKS)
    injection = {"at": "100ms", "freeze_time": {}, "target": {"process": "app"}}
    done = house.refused(an_experiment(injections=[injection]), "--plugin", "lacks.py")
    assert done.code == 3
    assert "no time machine" in done.err and "doctor" in done.err


def test_a_round_whose_baseline_is_not_steady_disturbs_nobody(house: House) -> None:
    played = house.play(
        an_experiment(steady_state=[{"file": {"path": "${state}/never"}}], steady_within="300ms", injections=[a_kill()])
    )
    assert played.code == 4
    assert played.verdict.outcome == "aborted"
    assert played.events(j.Due) == []


def test_an_abort_condition_ends_a_round_in_the_middle_of_a_fault(house: House) -> None:
    web = a_process(
        python("import socket,time\ns=socket.create_server(('127.0.0.1', ${port.app}))\nwhile True: s.accept()")
    )
    web["ready"] = {"tcp": {"port": "${port.app}"}, "every": "20ms"}
    beat = {"command": {"run": ["sh", "-c", "! test -e ${state}/bad"]}}
    workload = {"command": ["sh", "-c", "sleep 0.5; touch ${state}/bad; exec sleep 300"]}
    began = time.monotonic()
    played = house.play(
        an_experiment(
            processes={"app": web},
            workload=workload,
            injections=[a_suspension(lasts="60s")],
            abort_when=[{"probe": {**beat, "failing_for": "200ms", "every": "50ms"}}],
        )
    )
    assert time.monotonic() - began < 15
    assert played.code == 4, played.done
    assert played.verdict.outcome == "aborted"
    assert [one.verified for one in played.events(j.Healed)] == [True]
    assert len(played.events(j.GuardTripped)) == 1
