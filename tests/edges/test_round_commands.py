"""The commands of a round: below the guardian, so that nothing they start outlives their time, or the round."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hands import eventually, identity, python

from croupier.model.target import Identity
from croupier.run.loop import WORKERS, Loop
from croupier.supervise.commands import Commands
from croupier.supervise.keeper import Keeper
from croupier.system import procs, signals
from croupier.system.commands import Finished

LEAVES_A_STRANGER = python(
    "import os,sys,time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork(): os._exit(0)\n"
    "    os.execve('/bin/sh', ['sh', '-c', 'echo $$ > \"$0\"; exec sleep 300', sys.argv[1]], {})\n"
    "os.wait()\n"
    "while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read().strip(): time.sleep(0.005)\n"
    "print('left', flush=True)\n"
    "time.sleep(float(sys.argv[2]))"
)
"""Double fork, setsid, an environment that was wiped, and another program: nothing tells whose it is."""


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """A guardian at work, and somebody who listens to it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()
    keeper = Keeper.start(tmp_path / "run", f"test-{tmp_path}")
    over = threading.Event()

    def listen() -> None:
        while not over.wait(0.002) and keeper.fileno() >= 0:
            with suppress(ValueError):  # Closed in this very moment.
                keeper.receive()

    listener = threading.Thread(target=listen)
    listener.start()
    yield keeper
    over.set()
    listener.join()
    assert keeper.close() == []


@pytest.fixture
def run(keeper: Keeper) -> Iterator[Callable[..., Finished]]:
    """Run a command below the guardian."""
    commands = Commands(keeper)

    def run(*argv: str, within_ms: float = 10_000, keep_bytes: int = 65_536, cwd: str = "/", **env: str) -> Finished:
        return commands.run(argv, env={**os.environ, **env}, cwd=cwd, within_ms=within_ms, keep_bytes=keep_bytes)

    yield run
    commands.close()


def who_left(pid_file: Path) -> Identity:
    return identity(int(pid_file.read_text()))


def test_it_tells_the_code_the_signal_and_what_was_printed(run: Callable[..., Finished]) -> None:
    done = run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.code, done.signal, done.timed_out, done.failed) == (3, "", False, "")
    assert sorted(done.output.split()) == ["err", "out"]
    killed = run("sh", "-c", "kill -9 $$")
    assert (killed.code, killed.signal) == (None, "KILL")


@pytest.mark.parametrize(
    ("argv", "cwd", "why"),
    [
        (("/nope/nothing",), "/", "command not found: '/nope/nothing'"),
        (("true",), "/nope", "'/nope'"),
        ((), "/", "the command is empty"),
        (("a\0b",), "/", "could not be started"),
    ],
)
def test_what_cannot_be_started_says_why(
    run: Callable[..., Finished], argv: tuple[str, ...], cwd: str, why: str
) -> None:
    done = run(*argv, cwd=cwd)
    assert done.failed and why in done.failed
    assert run("true").code == 0


def test_words_and_variables_of_any_bytes_arrive_as_they_are(run: Callable[..., Finished]) -> None:
    done = run("sh", "-c", 'printf %s "$1$ODD" | od -An -tx1', "sh", "\udcff", ODD="\udcfe")
    assert done.output.split() == ["ff", "fe"]


def test_only_the_last_part_of_much_output_is_kept(run: Callable[..., Finished]) -> None:
    done = run(*python("print('x' * 1_000_000)\nprint('the end')"), keep_bytes=1_000)
    assert (len(done.output), done.output[-10:]) == (1_000, "x\nthe end\n")


def test_a_time_out_ends_even_strangers_that_wiped_every_mark(run: Callable[..., Finished], tmp_path: Path) -> None:
    done = run(*LEAVES_A_STRANGER, str(tmp_path / "pid"), "300", within_ms=1_500)
    assert (done.timed_out, done.output) == (True, "left\n")
    assert done.took_ms < 3_000
    assert eventually(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists())


def test_whoever_a_command_leaves_behind_ends_with_the_round(
    run: Callable[..., Finished], keeper: Keeper, tmp_path: Path
) -> None:
    assert run(*LEAVES_A_STRANGER, str(tmp_path / "pid"), "0").code == 0
    stranger = who_left(tmp_path / "pid")
    assert keeper.close() == []
    assert not procs.alive(stranger)


def test_closing_ends_what_runs_at_once_and_refuses_the_next(keeper: Keeper) -> None:
    commands = Commands(keeper)
    done: list[Finished] = []

    def work() -> None:
        done.append(commands.run(("sleep", "300"), env=os.environ, cwd="/", within_ms=300_000))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for one in workers:
        one.start()
    assert eventually(lambda: len(keeper.remaining()) == 3)
    began = time.monotonic()
    commands.close()
    for one in workers:
        one.join(5)
    assert time.monotonic() - began < 2
    assert ["being ended" in one.failed for one in done] == [True] * 3
    assert keeper.remaining() == []
    assert "being ended" in commands.run(("true",), env=os.environ, cwd="/", within_ms=1_000).failed


def test_when_the_guardian_is_killed_strangers_without_a_mark_are_ended_too(
    run: Callable[..., Finished], keeper: Keeper, tmp_path: Path
) -> None:
    assert run(*LEAVES_A_STRANGER, str(tmp_path / "pid"), "0").code == 0
    stranger = who_left(tmp_path / "pid")
    signals.send(keeper.identity, "KILL")
    assert keeper.close() == []
    assert not procs.alive(stranger)


# --- the loop that asks for them -------------------------------------------------------------------------------------


def test_a_closed_loop_begins_nothing_that_waited_and_keeps_no_thread() -> None:
    before = threading.active_count()
    loop, go, begun = Loop(), threading.Event(), []

    def job() -> None:
        begun.append(1)
        go.wait(10)

    for _ in range(WORKERS + 5):
        loop.work(job, lambda _: None)
    assert eventually(lambda: len(begun) == WORKERS)
    loop.close()
    go.set()
    assert eventually(lambda: threading.active_count() <= before)
    assert len(begun) == WORKERS
    loop.work(job, lambda _: None)
    loop.close()
    assert threading.active_count() <= before
