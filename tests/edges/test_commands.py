"""Commands run to their end or to their time-out, and a time-out leaves nobody behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hands import lines, python

from croupier.system import procs
from croupier.system.commands import run_command


def is_alive(pid: str) -> bool:
    who = procs.identity(int(pid))
    return who is not None and procs.alive(who)


def test_a_command_that_ends_tells_its_code_and_what_it_printed() -> None:
    done = run_command(["sh", "-c", "echo out; echo err >&2; exit 3"], within_ms=5_000)
    assert (done.code, done.signal, done.timed_out, done.failed) == (3, "", False, "")
    assert sorted(done.output.split()) == ["err", "out"]
    assert 0 < done.took_ms < 5_000


def test_a_command_that_is_killed_tells_the_signal() -> None:
    done = run_command(["sh", "-c", "kill -9 $$"], within_ms=5_000)
    assert (done.code, done.signal) == (None, "KILL")


@pytest.mark.parametrize(
    ("argv", "cwd", "why"),
    [
        (["/nope/nothing"], "", "command not found: '/nope/nothing'"),
        (["/etc"], "", "no permission to run"),
        (["true"], "/nope", "the working directory '/nope' does not exist"),
        ([], "", "the command is empty"),
        (["a\0b"], "", "could not be started"),
    ],
)
def test_a_command_that_cannot_be_started_says_why(argv: list[str], cwd: str, why: str) -> None:
    assert why in run_command(argv, cwd=cwd, within_ms=1_000).failed


def test_only_the_last_part_of_much_output_is_kept() -> None:
    done = run_command(python("print('x' * 1_000_000)\nprint('the end')"), within_ms=10_000, keep_bytes=1_000)
    assert len(done.output) == 1_000
    assert done.output.endswith("x\nthe end\n")


def test_a_command_reads_what_it_is_given() -> None:
    given = b"line\n" * 100_000
    done = run_command(["wc", "-l"], within_ms=10_000, input=given)
    assert done.output.strip() == "100000"


def test_a_command_that_does_not_read_its_input_is_no_trouble() -> None:
    assert run_command(["true"], within_ms=5_000, input=b"x" * 1_000_000).code == 0


def test_stdin_is_empty_when_nothing_is_given() -> None:
    assert run_command(["cat"], within_ms=5_000).code == 0


def test_a_time_out_ends_the_command_and_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    began = time.monotonic()
    done = run_command(
        ["sh", "-c", f"sleep 301 & echo $! > {note}; sleep 302 & echo $! >> {note}; wait; sleep 303"],
        within_ms=300,
    )
    assert done.timed_out
    assert done.signal == "KILL"
    assert time.monotonic() - began < 2
    assert len(lines(note)) == 2
    assert not any(is_alive(pid) for pid in lines(note))


def test_a_time_out_ends_grandchildren_that_daemonised(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = (
        "import os,time\n"
        "if os.fork(): time.sleep(300)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        f"open({str(note)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(300)"
    )
    done = run_command(python(program), within_ms=700)
    assert done.timed_out
    (pid,) = lines(note)
    assert not is_alive(pid)


def test_a_time_out_ends_one_that_prints_without_end() -> None:
    done = run_command(["yes"], within_ms=200)
    assert done.timed_out
    assert done.output.endswith("y\n")


def test_a_time_out_ends_one_that_ignores_everything() -> None:
    program = "import signal,time\nfor n in (1,2,3,15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(300)"
    assert run_command(python(program), within_ms=200).signal == "KILL"


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for() -> None:
    """And it lives on: the command did what it was for."""
    began = time.monotonic()
    done = run_command(["sh", "-c", "sleep 3 & echo $!"], within_ms=10_000)
    assert done.code == 0
    assert time.monotonic() - began < 2
    left = procs.identity(int(done.output))
    assert left is not None
    assert procs.alive(left)
