"""Each command of the command line, on real rounds: what it prints, what it ends with, and what it leaves alone."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from croupier.model import journal as j
from croupier.system import procs

from .house import (
    APPS,
    CROUPIER,
    House,
    Playing,
    Stored,
    a_kill,
    a_process,
    a_suspension,
    an_experiment,
    app,
    eventually,
    is_stopped,
    python,
)

WHEEL = {
    "faults": [
        {"kill": {"signal": "TERM", "then": "KILL", "grace": "300ms"}, "target": {"process": "app"}, "weight": 3},
        {"suspend": {"for": "100ms"}, "target": {"process": "app"}},
    ],
    "schedule": {"every": "300ms", "jitter": "100ms", "for": "1500ms"},
}


# --- from nothing to a verdict --------------------------------------------------------------------------------------


def test_a_file_from_init_validates_and_runs(house: House) -> None:
    done = house.croupier(
        "init", "mine.yaml", "--yes",
        "--command", f"{sys.executable} -S {APPS / 'notes.py'} ${{port.app}} ${{state}}/notes",
        "--ready-url", "http://127.0.0.1:${port.app}/health",
        "--workload", f"{sys.executable} -S {APPS / 'post.py'} ${{port.app}}",
        "--check", f"{sys.executable} -S -c pass",
    )  # fmt: skip
    assert done.code == 0, done
    file = house.path / "mine.yaml"
    assert house.croupier("validate", file).code == 0
    schema = house.croupier("schema").json
    from ruamel.yaml import YAML

    jsonschema.validate(json.loads(json.dumps(YAML(typ="safe").load(file.read_text()))), schema)

    text = file.read_text()
    # As it is it takes a minute; nothing else is changed.
    short = re.sub(r"every: 10s, jitter: 3s, for: 60s", "every: 500ms, jitter: 100ms, for: 2s", text)
    assert short != text
    file.write_text(short.replace("suspend: {for: 2s}", "suspend: {for: 200ms}"))
    played = house.play(file)
    assert played.code == 0, played.done
    assert played.verdict.acks > 10
    assert played.verdict.landed >= 2


def test_init_does_not_write_over_a_file(house: House) -> None:
    file = house.write("precious")
    done = house.croupier("init", file, "--yes", "--command", "sleep 9")
    assert done.code == 2
    assert file.read_text() == "precious"
    assert house.croupier("init", file, "--yes", "--command", "sleep 9", "--force").code == 0


def test_validate_says_everything_that_is_wrong_at_once(house: House) -> None:
    whole = an_experiment(injections=[a_kill()], colour="red")
    whole["processes"]["app"]["restart"]["when"] = "sometimes"
    whole["injections"][0]["target"]["process"] = "ap"
    file = house.write(whole)
    done = house.croupier("validate", file)
    assert done.code == 2
    for word in ("colour", "sometimes", "'ap'"):
        assert word in done.err, done.err
    assert len(re.findall(r"experiment\.yaml:\d+", done.err)) >= 3
    problems = house.croupier("validate", file, "--json")
    assert problems.code == 2
    assert problems.json["valid"] is False and len(problems.json["problems"]) >= 3


# --- plan -----------------------------------------------------------------------------------------------------------


def test_a_plan_has_the_same_bytes_for_the_same_seed_anywhere(house: House) -> None:
    file = house.write(an_experiment(**WHEEL))
    plans = {
        house.croupier("plan", file, "--seed", "7", "--json", env={"PYTHONHASHSEED": hash_seed}).out
        for hash_seed in ("0", "1", "12345")
    }
    assert len(plans) == 1
    assert house.croupier("plan", file, "--seed", "8", "--json").out not in plans
    played = house.play(file, seed=7)
    assert {played.stored.run.plan.read_text()} == plans
    shown = house.croupier("plan", file, "--seed", "7")
    assert shown.code == 0 and "seed 7" in shown.out and "kill" in shown.out


def test_the_same_seed_hits_the_same_ranks_twice_running(house: House) -> None:
    workers = a_process(
        python("import os,time\nfor _ in range(4):\n  if not os.fork(): time.sleep(99)\nos.wait(); time.sleep(99)")
    )
    one = [a_kill(f"{at}ms", pick="children") for at in (200, 400)]
    experiment = an_experiment(processes={"app": workers}, injections=one, settle="100ms")
    runs = [house.play(experiment, seed=5) for _ in range(2)]
    ranks = [[(who.rank, who.of) for one in run.events(j.Intended) for who in one.targets] for run in runs]
    assert ranks[0] == ranks[1]
    assert [of for _, of in ranks[0]] == [4, 3]


# --- run ------------------------------------------------------------------------------------------------------------


def test_a_dry_run_decides_everything_and_touches_nobody(house: House) -> None:
    guest = house.guest(["sleep", "300"])
    file = house.write(
        an_experiment(
            attach={"guest": {"pid": guest.pid}},
            processes={"app": a_process(["sleep", "300"])},
            injections=[a_kill(), a_suspension("200ms", lasts="50ms"), a_kill("300ms", process="guest")],
            limits={"allow": ["app", "guest"], "injections": 9},
        )
    )
    played = house.play(file, "--dry-run")
    assert played.code == 4
    assert played.results() == ["rehearsed"] * 3
    assert played.verdict.restarts == {}
    assert [one.cause for one in played.events(j.ProcessExited)] == ["asked"]
    assert procs.alive(guest) and not is_stopped(guest)
    assert "rehearsal" in played.done.out


def test_json_is_one_object_on_standard_output_and_nothing_else(house: House) -> None:
    playing = house.begin(an_experiment(injections=[a_kill()]), "--json", quiet=False)
    played = playing.played()
    said = json.loads(played.done.out)
    assert played.done.out.count("\n") == 1
    assert said["verdict"]["verdict"] == "held" and Path(said["report"]).is_file()
    assert played.done.err == ""


def test_json_of_a_round_that_broke_is_no_half_object(house: House) -> None:
    playing = house.begin(an_experiment(injections=[a_kill("60s")]), "--json")
    playing.until(j.PhaseEntered, lambda one: one.phase == "round")
    os.kill(playing.stored.running.guardian.pid, signal.SIGKILL)
    done = playing.wait()
    assert done.code == 5
    assert done.out == ""
    assert "guardian" in done.err


def test_a_round_without_a_terminal_is_told_in_plain_lines(house: House) -> None:
    played = house.begin(an_experiment(injections=[a_kill()]), quiet=False).played()
    assert played.code == 0
    assert "\x1b" not in played.done.said
    for said in ("phase round", "injection 1: kill", "landed", "phase judging", "the round is over: completed"):
        assert said in played.done.err, played.done.err
    assert played.done.out.rstrip().endswith("verdict: held")


def test_the_last_lines_say_the_verdict_and_where_the_page_is(house: House) -> None:
    played = house.play(an_experiment(injections=[a_kill()]))
    lines = played.done.out.splitlines()
    assert lines[-1] == "verdict: held"
    assert any(line.strip().startswith("page") and line.endswith("report.html") for line in lines[-3:])
    page = played.stored.run.report.read_text()
    assert "<svg" in page and "http://" not in re.sub(r"http://(www\.w3\.org|127\.0\.0\.1)", "", page)
    assert (played.stored.path.parent / "latest").resolve() == played.stored.path


def test_a_run_without_a_seed_draws_one_and_says_it(house: House) -> None:
    done = house.croupier("run", house.write(an_experiment(injections=[a_kill()])), "--no-progress")
    assert done.code == 0, done
    seed = re.search(r"seed (\d+)", done.out)
    assert seed
    assert [path.name.endswith(f"-{seed[1]}") for path in house.out.glob("tiny/20*")] == [True]


# --- terminals ------------------------------------------------------------------------------------------------------


class Screen:
    """A terminal on which croupier runs, with what it has shown so far."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._master = master
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                select.select([self._master], [], [])
                piece = os.read(self._master, 65_536)
            except (OSError, ValueError):
                return
            if not piece:
                return
            self._shown += piece

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)


@contextmanager
def a_terminal(house: House, file: Path, *flags: str) -> Iterator[Screen]:
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))

    def take_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [CROUPIER, "run", str(file), "--seed", "1", *flags],
        cwd=house.path,
        env={**house.env, "TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=take_the_terminal,
    )
    os.close(slave)
    screen = Screen(master, process)
    try:
        yield screen
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_terminal_shows_the_round_while_it_runs(house: House) -> None:
    file = house.write(an_experiment(title="tiny", injections=[a_kill("500ms"), a_suspension("1s", lasts="300ms")]))
    with a_terminal(house, file) as screen:
        assert screen.process.wait(15) == 0
        eventually(lambda: "verdict: held" in screen.shown)
        assert "\x1b[" in screen.shown
        for said in ("tiny", "app", "ready", "injections", "guards", "verdict: held"):
            assert said in screen.shown, screen.shown
        # What was taken away is given back: the cursor.
        assert screen.shown.rfind("\x1b[?25h") > screen.shown.rfind("\x1b[?25l")


def test_control_c_on_a_terminal_stops_heals_and_judges(house: House) -> None:
    file = house.write(
        an_experiment(
            processes={"app": a_process(app("family"), ready={"log": {"process": "app", "match": "ready"}})},
            injections=[a_suspension(lasts="60s", tree=True)],
            settle="1s",
        )
    )
    with a_terminal(house, file) as screen:
        assert eventually(lambda: list(house.out.glob("tiny/20*/journal.jsonl")))
        stored = Stored(next(iter(house.out.glob("tiny/20*"))))
        assert eventually(lambda: stored.events(j.Concluded))
        screen.type(b"\x03")
        assert screen.process.wait(10) in (0, 4)
        eventually(lambda: "verdict:" in screen.shown)
        assert "verdict:" in screen.shown
    stored.sees_everybody_gone()
    assert stored.verdict.outcome == "stopped"
    assert [one.verified for one in stored.events(j.Healed)] == [True]


def test_a_terminal_that_goes_away_ends_the_round_and_leaves_nobody(house: House) -> None:
    file = house.write(an_experiment(injections=[a_suspension(lasts="60s")], settle="1s"))
    with a_terminal(house, file) as screen:
        assert eventually(lambda: list(house.out.glob("tiny/20*/journal.jsonl")))
        stored = Stored(next(iter(house.out.glob("tiny/20*"))))
        assert eventually(lambda: stored.events(j.Concluded))
        screen.process.send_signal(signal.SIGHUP)
        screen.process.wait(10)
    stored.sees_everybody_gone()
    assert stored.verdict.outcome == "stopped"


# --- replay ---------------------------------------------------------------------------------------------------------


def test_a_replay_of_the_same_says_that_nothing_diverged(house: House) -> None:
    first = house.play(an_experiment(injections=[a_kill(), a_suspension("300ms", lasts="50ms")]), seed=3)
    again = house.croupier("replay", first.stored.path, "--no-progress", "--out", house.out)
    assert again.code == 0, again
    assert "nothing diverged from the recorded run" in again.out
    newest = (house.out / "tiny" / "latest").resolve()
    assert newest != first.stored.path
    assert (newest / "plan.json").read_bytes() == first.stored.run.plan.read_bytes()


def test_a_replay_names_each_injection_that_landed_differently(house: House) -> None:
    program = house.path / "program.py"
    program.write_text("import time\ntime.sleep(300)\n")
    injections = [a_kill("300ms"), a_kill("600ms", signal="TERM"), a_suspension("900ms", lasts="100ms")]
    one = a_process([sys.executable, "-S", "program.py"], restart={"when": "unexpected", "delay": "50ms"})
    first = house.play(an_experiment(processes={"app": one}, injections=injections, settle="1s"))
    assert first.results() == ["landed"] * 3, first.done

    # From now on it ends by itself once it was killed, so that nobody is there for the later injections.
    program.write_text(
        "import os, sys, time\n"
        "if os.path.exists(os.environ['CROUPIER_STATE'] + '/once'): sys.exit(0)\n"
        "open(os.environ['CROUPIER_STATE'] + '/once', 'w')\ntime.sleep(300)\n"
    )
    again = house.croupier("replay", first.stored.path, "--json", "--out", house.out)
    said = again.json
    diverged = [
        (one["injection"], one["what"], one["then"].split()[0], one["now"].split()[0]) for one in said["divergences"]
    ]
    assert (2, "result", "landed", "missed") in diverged
    assert (3, "result", "landed", "missed") in diverged
    assert not [one for one in diverged if one[0] == 1]
    page = Path(said["report"]).read_text()
    assert "diverged" in page


def test_a_plan_that_was_changed_is_not_replayed(house: House) -> None:
    first = house.play(an_experiment(injections=[a_kill()]))
    plan = first.stored.run.plan
    plan.write_text(plan.read_text().replace('"at_ms":100', '"at_ms":200'))
    done = house.croupier("replay", first.stored.path, "--no-progress")
    assert done.code == 2
    assert "changed after the run" in done.err


# --- what is stored -------------------------------------------------------------------------------------------------


def test_judge_needs_the_journal_alone(house: House) -> None:
    played = house.play(an_experiment(injections=[a_kill(), a_suspension("300ms", lasts="50ms")]))
    alone = house.path / "alone"
    alone.mkdir()
    shutil.copy(played.stored.run.journal, alone)
    shutil.rmtree(played.stored.path)
    judged = house.croupier("judge", alone, "--json")
    assert judged.code == 0
    assert judged.json["verdict"] == "held"
    shown = house.croupier("judge", alone)
    assert shown.out.splitlines()[0].startswith("HELD") and shown.out.rstrip().endswith("verdict: held")


def test_the_stored_verdict_is_the_one_that_judge_gives_again(house: House) -> None:
    played = house.play(an_experiment(injections=[a_kill()]))
    stored = json.loads(played.stored.run.verdict.read_bytes())
    assert house.croupier("judge", played.stored.path, "--json").json == stored


def test_a_report_can_be_written_again_with_a_junit_file(house: House) -> None:
    named = {"file": {"path": "${state}/never", "name": "it is there"}}
    played = house.play(
        an_experiment(injections=[a_kill()], invariants=[named, {"recovery": {"of": "app", "every": "< 5s"}}])
    )
    assert played.code == 1
    played.stored.run.report.unlink()
    done = house.croupier("report", "latest", "--junit", "junit.xml", "--out", house.out)
    assert done.code == 0, done
    assert played.stored.run.report.is_file()
    suite = ET.parse(house.path / "junit.xml").getroot()
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert any("it is there" in (name or "") for name in failed), failed


def test_runs_lists_what_was_played_newest_first(house: House) -> None:
    assert "no runs" in house.croupier("runs", "--out", house.out).out
    house.play(an_experiment(injections=[a_kill()]), seed=4)
    broken = [{"file": {"path": "${state}/never", "name": "it is there"}}]
    house.play(an_experiment(title="other", injections=[a_kill()], invariants=broken), seed=5)
    listed = house.croupier("runs", "--out", house.out, "--json").json
    assert [(one["seed"], one["verdict"], one["broke"]) for one in listed] == [
        (5, "violated", "it is there"),
        (4, "held", ""),
    ]
    shown = house.croupier("runs", "--out", house.out).out
    assert "violated" in shown and "it is there" in shown


# --- halt and recover -----------------------------------------------------------------------------------------------


def suspended(house: House, **more: Any) -> Playing:
    playing = house.begin(an_experiment(injections=[a_suspension(lasts="60s")], settle="60s", **more))
    assert playing.until(j.Concluded).result == "landed"
    return playing


def test_halt_from_another_terminal_stops_at_once_and_heals(house: House) -> None:
    guest = house.guest(["sleep", "300"])
    playing = house.begin(
        an_experiment(
            attach={"guest": {"pid": guest.pid}},
            injections=[a_suspension(lasts="60s", process="guest")],
            limits={"allow": ["guest"]},
            settle="60s",
        ),
        "--live",
    )
    playing.until(j.Concluded)
    assert is_stopped(guest)
    halting = subprocess.Popen([CROUPIER, "halt"], env=house.env, stdout=subprocess.PIPE, text=True)
    assert eventually(lambda: not is_stopped(guest), 1.0)
    said, _ = halting.communicate(timeout=10)
    assert halting.returncode == 0 and "halted" in said
    played = playing.played(5)
    assert played.verdict.outcome == "stopped"
    assert [one.by for one in played.events(j.StopAsked)] == ["croupier halt"]
    assert procs.alive(guest)


def test_halt_takes_one_round_by_its_name_and_leaves_the_others(house: House) -> None:
    both = [suspended(house, title=title) for title in ("first", "second")]
    done = house.croupier("halt", both[0].stored.path)
    assert done.code == 0, done
    assert both[0].wait(5).code in (0, 4)
    both[0].stored.sees_everybody_gone()
    assert both[1].process.poll() is None
    assert both[1].stored.alive()
    assert house.croupier("halt").code == 0
    both[1].wait(5)
    both[1].stored.sees_everybody_gone()
    assert house.croupier("halt").out.strip() == "no round is running"


def test_halt_ends_a_croupier_that_stands_still_itself(house: House) -> None:
    playing = suspended(house)
    playing.signal(signal.SIGSTOP)
    done = house.croupier("halt")
    assert done.code == 0, done
    playing.process.wait(5)
    playing.stored.sees_everybody_gone()
    assert house.found_left() == []


def test_recover_finds_nothing_when_nothing_was_left_and_leaves_rounds_that_run(house: House) -> None:
    assert house.croupier("recover").out.strip() == "nothing was left behind"
    playing = suspended(house)
    done = house.croupier("recover")
    assert done.code == 0 and "still running" in done.out
    assert is_stopped(playing.stored.events(j.Intended)[0].targets[0].who)
    house.croupier("halt")
    playing.wait(5)


# --- the catalogue --------------------------------------------------------------------------------------------------


def test_faults_and_probes_tell_their_options(house: House) -> None:
    for command, name, option in (("faults", "suspend", "for"), ("probes", "http", "url")):
        shown = house.croupier(command)
        assert shown.code == 0 and name in shown.out
        (row,) = house.croupier(command, name, "--json").json
        assert row["name"] == name and option in [one["name"] for one in row["options"]]
        unknown = house.croupier(command, "nothing")
        assert unknown.code == 2 and name in unknown.err
    (kill,) = house.croupier("faults", "kill", "--json").json
    assert kill["heals"] and kill["example"].startswith("kill:")


def test_doctor_says_what_this_machine_can_do(house: House) -> None:
    done = house.croupier("doctor")
    assert done.code == 0, done
    assert "a round can run here" in done.out
    rows = house.croupier("doctor", "--json").json
    assert all(row["here"] in ("yes", "partly", "no") for row in rows)
    assert all(row["get"] for row in rows if row["here"] == "no")


def test_the_schema_knows_the_experiments_of_the_examples(house: House, repository: Path) -> None:
    from ruamel.yaml import YAML

    schema = house.croupier("schema").json
    jsonschema.Draft202012Validator.check_schema(schema)
    knows = jsonschema.Draft202012Validator(schema)
    # Those of a plugin have words of its own.
    for file in sorted({*(repository / "examples").glob("*/*.yaml")} - {*(repository / "examples/plugin").iterdir()}):
        knows.validate(json.loads(json.dumps(YAML(typ="safe").load(file.read_text()))))
    assert house.croupier("validate", file).code == 0


def test_help_answers_without_loading_what_it_does_not_need(house: House) -> None:
    script = (
        "import sys\nfrom croupier.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('loaded', *sorted({one.split('.')[0] for one in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=house.env)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"msgspec", "rich", "jinja2", "ruamel", "psutil", "asyncio", "ssl"}, loaded


@pytest.mark.parametrize(
    "arguments", [(), ("nothing",), ("run",), ("run", "x.yaml", "--seed", "one"), ("run", "--lve")]
)
def test_a_wrong_command_line_is_exit_code_two(house: House, arguments: tuple[str, ...]) -> None:
    assert house.croupier(*arguments).code == 2


# --- what goes wrong with ourselves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("most_bytes", [100, 1_500, 3_000])
def test_a_disk_that_is_full_is_our_failure_and_never_a_broken_promise(house: House, most_bytes: int) -> None:
    """Whichever file is the first that cannot be written: a limit on the size of files stands for the disk."""
    file = house.write(an_experiment(injections=[a_kill()]))
    limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes},) * 2)"
    command = [sys.executable, "-c", f"{limited}; os.execv(sys.argv[1], sys.argv[1:])", CROUPIER]
    done = house.begin(file, command=command).wait()
    assert done.code == 5, done
    assert "Traceback" not in done.err
    assert re.search("File too large|no space left", done.err), done


def test_a_defect_of_ours_ends_with_five_and_shows_where_only_when_asked(house: House) -> None:
    breaks = "import croupier.cli.records as r; r.list_runs = lambda out: 1 / 0; from croupier.cli import main; "
    command = [sys.executable, "-c", f"{breaks}import sys; sys.exit(main(['runs']))"]

    def ended(**env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, env={**house.env, **env}, cwd=house.path)

    quiet, loud = ended(), ended(CROUPIER_DEBUG="1")
    assert (quiet.returncode, loud.returncode) == (5, 5)
    assert "ZeroDivisionError" in quiet.stderr and "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_a_round_is_found_by_halt_where_there_is_no_state_home(house: House) -> None:
    (house.path / "tmp").mkdir()
    nowhere = {"XDG_STATE_HOME": "/dev/null/nowhere", "TMPDIR": str(house.path / "tmp")}
    playing = house.begin(an_experiment(injections=[a_suspension("100ms", lasts="20s")]), env=nowhere)
    playing.until(j.Concluded)
    assert any("cannot be written; this round is registered in" in one.text for one in playing.stored.events(j.Noted))
    done = house.croupier("halt", env=nowhere)
    assert done.code == 0 and "halted" in done.out, done
    playing.wait()
    assert house.croupier("halt", env=nowhere).out == "no round is running\n"


def test_an_interrupted_page_changes_neither_the_verdict_nor_the_exit_code(house: House) -> None:
    interrupts = (
        "import croupier.cli.rounds as r\n"
        "def page(stored): raise KeyboardInterrupt\n"
        "r.write_page = page\n"
        "from croupier.cli import main\n"
        "sys.exit(main())"
    )
    playing = house.begin(
        an_experiment(injections=[a_kill()]), command=[sys.executable, "-c", f"import sys\n{interrupts}"]
    )
    played = playing.played()
    assert played.code == 0, played.done
    assert played.verdict.verdict == "held"
    assert "croupier report" in played.done.err
