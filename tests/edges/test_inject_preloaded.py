"""Calls that go wrong by a library in front of the C library: as the program sees them, and as always afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from hands import SLEEPS, a_permit, eventually, identity, started

from croupier.inject.syscall import INJECTOR
from croupier.model.faults.syscall import Syscall
from croupier.model.units import Ms
from croupier.system import call_shim, procs, shims
from croupier.testing import RecordingAct, check_fault

LONG = Ms(60_000)
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="preloading works otherwise there"),
    pytest.mark.needs("gcc"),
]
# Does over and over what its argument names, and says how it went and how long it took, in ms.
DOES = """
import os, socket, sys, time
file = os.open('a.db', os.O_RDWR | os.O_CREAT)
os.pwrite(file, b'x' * 100, 0)
one, two = socket.socketpair()
server = socket.create_server(('127.0.0.1', 0))
def renames(): open('b.tmp', 'w').close(); os.rename('b.tmp', 'b'); return 'ok'
def unlinks(): open('c', 'w').close(); os.unlink('c'); return 'ok'
def sends(): done = one.send(b'x' * 50); two.recv(50); return done
def receives(): one.send(b'x' * 50); done = len(two.recv(50)); done < 50 and two.recv(50); return done
def opens(): os.close(os.open('a.db', os.O_RDONLY)); return 'ok'
def connects(): socket.create_connection(server.getsockname()).close(); server.accept()[0].close(); return 'ok'
what = {
    'openat': opens, 'pread64': lambda: len(os.pread(file, 100, 0)), 'pwrite64': lambda: os.pwrite(file, b'y' * 100, 0),
    'write': lambda: os.write(file, b'z'), 'fsync': lambda: os.fsync(file), 'rename': renames, 'unlink': unlinks,
    'sendto': sends, 'recvfrom': receives, 'connect': connects,
}[sys.argv[1]]
for _ in sys.stdin:
    began = time.perf_counter()
    try: said = what()
    except OSError as problem: said = problem.strerror.replace(' ', '_')
    print(said, int((time.perf_counter() - began) * 1000), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("calls")
    shims.build(call_shim.SHIM, made)
    return made


_numbers = count(1)


def an_environment(folder):
    file = folder / f"app-{next(_numbers)}.calls"
    call_shim.make(file)
    return shims.preloading({**os.environ, call_shim.VARIABLE: str(file)}, shims.library(call_shim.SHIM, folder))


@contextmanager
def doing(folder, tmp_path, call):
    """A process that does something when it is asked to; what it says of it, and who it is."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", DOES, call], env=an_environment(folder), cwd=tmp_path, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip

        def ask():
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().split()

        ask()
        yield ask, identity(process.pid)
        process.kill()


def wrong(call, **options):
    return Syscall(for_ms=LONG, how="preload", call=call, **options)


def in_force(who, fault, ask=lambda: None):
    """The fault on this process; asked while the injector waits for a call that goes wrong."""
    act = RecordingAct(permit := a_permit(fault, who))
    waits, said = act.wait, []

    def wait(ms, until=None):
        said.append(ask())
        return waits(ms if until is None else 0, until)

    act.wait = wait
    return INJECTOR.inject(permit, fault, act), act, said


def test_it_keeps_every_rule_of_a_fault(folder, tmp_path):
    syncs = "import os\nfile = os.open('a', os.O_CREAT | os.O_RDWR)\nwhile True: os.fsync(file)"

    def spawn():
        one = subprocess.Popen([sys.executable, "-S", "-c", syncs], env=an_environment(folder), cwd=tmp_path)
        assert eventually(lambda: shims.maps(one.pid, ".calls"))
        return one

    def is_wrong(pid):
        mark = f"{call_shim.VARIABLE}="
        (file,) = (one.removeprefix(mark) for one in procs.environment(pid) if one.startswith(mark))
        return call_shim.is_in_force(Path(file))

    fault = Syscall(for_ms=Ms(2_000), how="preload", call="fsync", do="delay", delay_ms=Ms(1))
    check_fault(INJECTOR, fault=fault, spawn=spawn, observe=is_wrong, moments=8)


@pytest.mark.parametrize(
    ("call", "usually"),
    [("openat", "ok"), ("pread64", "100"), ("pwrite64", "100"), ("write", "1"), ("fsync", "None"), ("rename", "ok"),
     ("unlink", "ok"), ("sendto", "50"), ("recvfrom", "50"), ("connect", "ok")],
)  # fmt: skip
def test_a_call_fails_and_goes_on_as_always_afterwards(folder, tmp_path, call, usually):
    with doing(folder, tmp_path, call) as (ask, who):
        outcome, act, said = in_force(who, wrong(call, do="fail", errno="EDQUOT", every=0), ask)
        assert (outcome.result, said[0][0]) == ("landed", "Disk_quota_exceeded"), outcome
        healing = INJECTOR.heal(act.records[0])
        assert healing.verified
        assert healing.note.startswith("1 of ")
        assert ask()[0] == usually


@pytest.mark.parametrize(("call", "usually"), [("pread64", "100"), ("pwrite64", "100"), ("sendto", "50")])
def test_a_part_is_done(folder, tmp_path, call, usually):
    with doing(folder, tmp_path, call) as (ask, who):
        outcome, act, said = in_force(who, wrong(call, do="short", bytes=7), ask)
        assert (outcome.result, said[0][0]) == ("landed", "7"), outcome
        assert INJECTOR.heal(act.records[0]).verified
        assert ask()[0] == usually


def test_a_call_is_held_no_longer_than_the_fault(folder, tmp_path):
    with doing(folder, tmp_path, "fsync") as (ask, who):
        outcome, act, said = in_force(who, wrong("fsync", do="delay", delay_ms=Ms(80), every=0), ask)
        assert outcome.result == "landed", outcome
        assert int(said[0][1]) >= 80
        assert INJECTOR.heal(act.records[0]).verified


@pytest.mark.parametrize(
    ("options", "hit"),
    [({"path": "*.db"}, True), ({"path": "*/a.db"}, True), ({"path": "*.tmp"}, False), ({"on": "file"}, True),
     ({"on": "socket"}, False), ({"nth": 2}, False)],
)  # fmt: skip
def test_only_what_matches_goes_wrong(folder, tmp_path, options, hit):
    with doing(folder, tmp_path, "fsync") as (ask, who):
        outcome, act, said = in_force(who, wrong("fsync", do="fail", **options), ask)
        assert outcome.result == ("landed" if hit else "missed"), outcome
        assert said[0][0] == ("Input/output_error" if hit else "None")
        assert INJECTOR.heal(act.records[0]).verified


def test_who_has_no_shim_is_missed():
    with started(*SLEEPS) as who:
        outcome, act, _ = in_force(who, wrong("fsync", do="fail"))
        assert (outcome.result, act.records) == ("missed", ())
        assert "not started for this" in outcome.detail


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"call": "fsync", "do": "lie"}, "needs `how: seccomp`"),
        ({"call": "any", "do": "fail"}, "no call 'any' to fail"),
        ({"call": "fsync", "do": "short"}, "no call 'fsync' to short"),
        ({"call": "fsync", "do": "fail", "path": "x" * 600}, "too long"),
    ],
)
def test_what_a_shim_cannot_do_is_refused_beforehand(options, says):
    assert says in INJECTOR.lacking(Syscall(for_ms=LONG, how="preload", **options))
