"""A process that the guardian starts under a filter: its calls stand still, whoever dies that should answer them."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hands import eventually, identity, python

from croupier.model.errors import TargetError
from croupier.model.target import Identity
from croupier.supervise.keeper import Exited, Keeper
from croupier.system import procs
from croupier.trace import GO, MUTATING, SENDING, Act, Call, lacks
from croupier.trace import filter as filters
from croupier.trace.book import Book
from croupier.trace.launch import control_number
from croupier.trace.listener import Listener
from croupier.trace.table import REFUSED, machine

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or bool(lacks("seccomp")), reason=lacks("seccomp") or "not Linux"
)
GONE_WITHIN_S = 2.0


@pytest.fixture(autouse=True)
def _state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A guardian at work."""
    (tmp_path / "run").mkdir()
    keeper = Keeper.start(tmp_path / "run", f"watched-{tmp_path}")
    yield keeper
    assert keeper.close() == []


def a_filter(calls: frozenset[str] = MUTATING) -> bytes:
    kind = machine()
    assert kind is not None
    return filters.program(kind, calls, REFUSED, filters.NOTIFY, control_number())


def spawn(keeper: Keeper, *argv: str, calls: frozenset[str] = MUTATING) -> tuple[Identity, int]:
    """Start a process under a filter; who it is, and its listener."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        who = keeper.spawn("app", argv, env=dict(os.environ), cwd="/", stdout=nowhere, stderr=nowhere,
                           filter=a_filter(calls), report_at=control_number())  # fmt: skip
    finally:
        os.close(nowhere)
    given = keeper.take_listener(who)
    assert given is not None
    return who, given[0]


@contextmanager
def answering(
    listener: int, calls: frozenset[str] = MUTATING, before: Callable[[Call], None] = lambda call: None
) -> Iterator[list[str]]:
    """Let every call go on, once `before` is done with it; the paths that they were about."""
    kind, seen = machine(), list[str]()
    assert kind is not None

    def on_call(call: Call) -> Act:
        before(call)
        seen.append(call.path)
        return GO

    serving = Listener(Book(kind, calls), listener, on_call, on_kill=lambda call: False)
    thread = threading.Thread(target=serving.serve)
    thread.start()
    yield seen
    thread.join(10)
    assert not thread.is_alive(), "it serves as long as somebody could call, and no longer"
    serving.book.scene.lender.close()
    os.close(listener)


def makes(path: Path) -> tuple[str, ...]:
    return python(f"import os; os.mkdir({str(path)!r})")


def test_a_call_that_changes_something_stands_still_until_it_is_answered(keeper: Keeper, tmp_path: Path) -> None:
    who, listener = spawn(keeper, *makes(tmp_path / "made"))
    assert select.select([listener], [], [], 5)[0], "it is about to call"
    assert not (tmp_path / "made").exists()
    with answering(listener) as seen:
        assert eventually((tmp_path / "made").exists)
    assert str(tmp_path / "made") in seen
    assert eventually(lambda: any(isinstance(one, Exited) and one.who == who for one in keeper.receive()))


def test_a_program_that_is_not_there_is_told_as_always_whatever_the_filter_stops(keeper: Keeper) -> None:
    with pytest.raises(TargetError, match="command not found: 'no-such-program'"):
        spawn(keeper, "no-such-program", calls=MUTATING | SENDING)


def test_the_line_to_the_guardian_is_not_the_programs(keeper: Keeper, tmp_path: Path) -> None:
    """What may send freely while it starts is closed when it is the program."""
    program = f"import os; print(open('{tmp_path}/files', 'w').write(' '.join(sorted(os.listdir('/proc/self/fd')))))"
    _, listener = spawn(keeper, *python(program), calls=MUTATING | SENDING)
    with answering(listener, MUTATING | SENDING):
        pass
    assert {int(one) for one in (tmp_path / "files").read_text().split()} <= {0, 1, 2, 3, 4}


CROUPIER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from test_watched_processes import answering, spawn
from croupier.supervise.keeper import Keeper

def hold(call):
    if call.name.startswith("mkdir"):
        print(call.pid, flush=True)
        time.sleep(60)

keeper = Keeper.start(Path({run!r}), "watched-and-killed")
_, listener = spawn(keeper, *{argv!r})
with answering(listener, before=hold):
    pass
"""
"""Starts a process, and is to be killed while a call of that stands still."""


def test_when_croupier_is_killed_a_call_that_stands_still_is_never_done(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.bind(str(tmp_path / "ear"))
    ear.setblocking(False)
    # It says by a call that nobody stops whether it got beyond the one that stands still.
    goes_on = python(
        "import os, socket\n"
        "ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "try:\n"
        f"    os.mkdir({str(tmp_path / 'made')!r})\n"
        f"finally: ear.sendto(b'went on', {str(tmp_path / 'ear')!r})\n"
    )
    program = CROUPIER.format(here=str(Path(__file__).parent), run=str(tmp_path / "run"), argv=goes_on)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as croupier:
        assert croupier.stdout is not None
        who = identity(int(croupier.stdout.readline()))
        croupier.kill()
    assert eventually(lambda: not procs.alive(who), GONE_WITHIN_S)
    assert not (tmp_path / "made").exists()
    with pytest.raises(BlockingIOError):
        ear.recv(100)
    ear.close()
