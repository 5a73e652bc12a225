"""What becomes of calls that go wrong, as the program sees it, and what becomes of everybody else's."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from croupier.model import journal as j
from croupier.system import signals
from croupier.trace import lacks

from .house import CROUPIER, House, Played, a_process, an_experiment, app, python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or bool(lacks("seccomp")), reason=lacks("seccomp") or "not Linux"),
]
READY = {"log": {"process": "app", "match": "^up"}, "every": "20ms"}


def play(house: House, *injections: dict[str, Any], command: list[str] | None = None, **more: Any) -> Played:
    """A round around one program, which saves a list over and over if nothing else is said."""
    processes = {"app": a_process(command or app("saver", "${state}"), ready=READY)}
    return house.play(an_experiment(**{"processes": processes, "injections": list(injections), **more}))


def wrong(lasts: str = "300ms", at: str = "50ms", of: str = "app", **options: Any) -> dict[str, Any]:
    return {"at": at, "syscall": {"for": lasts, **options}, "target": {"process": of}}


def at_call(fault: dict[str, Any], **trigger: Any) -> dict[str, Any]:
    return {"on": {"syscall": {"process": "app", **trigger}}, "target": {"process": "app"}, **fault}


def said(played: Played, word: str) -> list[str]:
    return [line for line in played.stored.log.splitlines() if f" {word}" in line]


def test_the_very_call_that_the_injection_waits_for_goes_wrong(house: House) -> None:
    one = {"do": "fail", "call": "fsync", "errno": "ENOSPC", "every": 0, "for": "600ms"}
    played = play(house, at_call({"syscall": one}, call="fsync", nth=2))
    assert played.results() == ["landed"], played.done.said
    assert len(said(played, "error No space left on device")) == 1
    (released,) = played.events(j.CallReleased)
    assert released.why == "its rule is in force"


def test_an_injection_that_is_refused_does_not_hold_the_call_up(house: House) -> None:
    played = play(house, at_call({"kill": {}}, call="fsync"), limits={"deny": [{"process": "app"}]})
    assert played.events(j.InjectionRefused)
    (released,) = played.events(j.CallReleased)
    assert released.held_us < 2_000_000, "it need not wait for the time that a call is held at the most"


def test_a_part_is_done_only_of_calls_that_have_parts(house: House) -> None:
    played = play(house, wrong(do="short", call="any", bytes=2))
    assert played.results() == ["landed"], played.done.said
    assert played.verdict.outcome == "completed"
    assert not said(played, "error"), "an fsync or a rename has no first bytes, and went as always"


def test_a_write_that_is_lied_about_never_comes_to_the_file(house: House) -> None:
    played = play(house, wrong("30s", do="lie", call="write", path="*.tmp"), limits={"time_box": "2s"})
    assert played.results() == ["landed"], played.done.said
    assert (played.stored.run.state / "numbers.json").read_bytes() == b""
    assert not said(played, "error"), "the program was told that all went well"


def test_a_rename_that_is_lied_about_is_not_done(house: House) -> None:
    once = wrong("900ms", do="lie", call="rename", every=0)
    writer = python(
        "import os, time\n"
        "print('up', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.005)\n"
        "open('a', 'w').close(); time.sleep(0.3)\n"
        "os.rename('a', 'b'); print('renamed', os.path.exists('b'), flush=True)\n"
        "time.sleep(60)\n"
    )
    played = play(house, once, processes={"app": a_process(writer, cwd="${state}", ready=READY)},
                  workload={"command": python("open('go', 'w').close()"), "cwd": "${state}"})  # fmt: skip
    assert played.results() == ["landed"], played.done.said
    assert said(played, "renamed False")


def test_a_process_is_ended_right_before_the_call(house: House) -> None:
    played = play(house, wrong(do="kill", call="rename", every=0))
    assert played.results() == ["landed"], played.done.said
    assert played.events(j.ProcessExited)[0].cause == "injected"
    assert len(said(played, "up")) == 2


def test_calls_that_stand_still_for_one_fault_do_not_go_on_with_the_end_of_another(house: House) -> None:
    apps = {
        name: a_process(app("saver", f"${{state}}/{name}"), ready={"log": {"process": name, "match": "^up"}})
        for name in ("app", "other")
    }
    for name, process in apps.items():
        process["command"][-1] = "${state}"
        process["command"].append(f"{name}.json")
    short, long = wrong("200ms", do="freeze"), wrong("900ms", do="freeze", of="other")
    played = play(house, short, long, processes=apps, limits={"concurrent": 2})
    assert played.results() == ["landed", "landed"], played.done.said
    waits = {name: max(float(line.split()[-1]) for line in _log(played, name) if " saved" in line) for name in apps}
    assert waits["app"] < waits["other"]
    assert waits["other"] > 0.7


def _log(played: Played, process: str) -> list[str]:
    return (played.stored.run.logs / f"{process}.out.log").read_text(errors="replace").splitlines()


# Each line is one string, so that none is cut when the program is ended.
READER = python(
    "import os, socket, threading, time\n"
    "os.makedirs('d', exist_ok=True); open('d/full', 'w').write('x' * 100)\n"
    "print('up', flush=True)\n"
    "while True:\n"
    "    file = os.open('d/full', os.O_RDONLY); print(f'file {len(os.read(file, 100))}', flush=True); os.close(file)\n"
    "    a, b = os.pipe()\n"
    "    late = threading.Timer(0.03, os.write, (b, b'y' * 50)); late.start()\n"
    "    print(f'pipe {len(os.read(a, 50))}', flush=True); late.join(); os.close(a); os.close(b)\n"
    "    c, d = socket.socketpair(); c.send(b'z' * 50)\n"
    "    print(f'socket {len(d.recv(50))}', flush=True); c.close(); d.close()\n"
)


@pytest.mark.parametrize("call", [("read", "file", "pipe"), ("recvfrom", "socket")])
def test_a_short_read_brings_the_first_bytes_and_waits_for_them_as_always(house: House, call: tuple[str, ...]) -> None:
    name, *kinds = call
    played = play(house, wrong("400ms", do="short", call=name, bytes=3), workload={"command": ["sleep", "0.8"]},
                  processes={"app": a_process(READER, cwd="${state}", ready=READY)})  # fmt: skip
    assert played.results() == ["landed"], played.done.said
    whole = {"file": "100", "pipe": "50", "socket": "50"}
    for kind, size in whole.items():
        counts = {line.split()[-1] for line in said(played, kind)}
        assert counts == ({size, "3"} if kind in kinds else {size}), kind


@pytest.mark.parametrize(
    ("options", "sees"),
    [
        ({"call": "read", "errno": "EIO", "path": "*/full", "every": 0}, "Input/output error"),
        ({"call": ["sendto", "sendmsg"], "errno": "EPIPE", "file_kind": "socket", "every": 0}, "Broken pipe"),
        ({"call": "connect", "errno": "ECONNREFUSED", "every": 0}, "Connection refused"),
    ],
    ids=["read", "send", "connect"],
)
def test_reads_sends_and_connects_go_wrong_where_they_are_named(house: House, options: Any, sees: str) -> None:
    client = python(
        "import os, socket\n"
        "open('full', 'w').write('x')\n"
        "print('up', flush=True)\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "while True:\n"
        "    try:\n"
        "        one = socket.create_connection(server.getsockname()); two, _ = server.accept()\n"
        "        one.sendall(b'hello'); one.sendmsg([b'you']); two.recv(100); one.close(); two.close()\n"
        "        file = os.open('full', os.O_RDONLY); os.read(file, 1); os.close(file)\n"
        "    except OSError as problem: print('error', problem.strerror, flush=True)\n"
    )
    played = play(house, wrong("500ms", do="fail", **options),
                  processes={"app": a_process(client, cwd="${state}", ready=READY)})  # fmt: skip
    assert played.results() == ["landed"], played.done.said
    assert len(said(played, f"error {sees}")) == 1


def test_only_the_watched_process_runs_under_a_filter(house: House) -> None:
    says = python(
        "import time\n"
        "print([line for line in open('/proc/self/status') if line.startswith('Seccomp_filters')][0], flush=True)\n"
        "print('up', flush=True); time.sleep(60)\n"
    )
    processes = {name: a_process(says, ready={"log": {"process": name, "match": "^up"}}) for name in ("app", "other")}
    played = play(house, wrong("50ms", do="fail"), processes=processes)
    assert played.stored.log.count("Seccomp_filters") == 2
    assert _filters(played, "app") == _filters(played, "other") + 1


def _filters(played: Played, process: str) -> int:
    """Under how many filters a process said that it runs."""
    return next(int(line.split()[-1]) for line in _log(played, process) if "Seccomp_filters" in line)


@pytest.mark.parametrize("turn", range(4))
def test_when_the_guardian_is_killed_a_held_call_is_never_done(house: House, turn: int) -> None:
    """More than once, as it is a matter of who comes first."""
    playing = house.begin(an_experiment(
        processes={"app": a_process(app("saver", "${state}"), ready=READY)},
        injections=[wrong("60s", do="freeze", call="rename")],
    ))  # fmt: skip
    playing.until(j.Concluded)
    stored = playing.stored
    before = (stored.run.state / "numbers.json").read_bytes()
    signals.send(stored.running.guardian, "KILL")
    stored.sees_everybody_gone()
    assert (stored.run.state / "numbers.json").read_bytes() == before
    assert "Function not implemented" not in stored.log


def test_what_is_different_because_it_is_watched_is_noted(house: House) -> None:
    # Root is no ordinary user, unless it lacks the right to administrate.
    ordinary = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", CROUPIER] * (os.geteuid() == 0)
    experiment = an_experiment(
        processes={"app": a_process(app("saver", "${state}"), ready=READY)}, injections=[wrong("100ms", do="lie")]
    )
    played = house.play(experiment, command=ordinary)
    assert played.results() == ["landed"], played.done.said
    assert [one for one in played.events(j.Noted) if one.text.startswith("app: it gave up privileges to be watched")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"do": "short", "call": "fsync"}, "do: short is nothing that the call 'fsync' can do"),
        ({"do": "lie", "call": "openat"}, "do: lie is nothing that the call 'openat' can do"),
        ({"do": "torn", "call": ["write", "recvmsg"]}, "do: torn is nothing that the call 'recvmsg' can do"),
    ],
)
def test_what_a_call_cannot_do_is_refused_before_anything_starts(house: House, options: Any, says: str) -> None:
    assert says in house.refused(an_experiment(
        processes={"app": a_process(app("saver", "${state}"), ready=READY)}, injections=[wrong(**options)]
    )).said  # fmt: skip


@pytest.mark.searches
def test_twenty_rounds_kill_sqlite_before_the_same_sync_and_leave_the_same_bytes(house: House) -> None:
    writer = python(
        "import os, sqlite3, time\n"
        "base = sqlite3.connect('a.db'); base.execute('create table t (n)')\n"
        "print('up', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.005)\n"
        "for n in range(20):\n"
        "    base.execute('insert into t values (?)', (n,)); base.commit()\n"
        "time.sleep(60)\n"
    )
    processes = {"app": a_process(writer, cwd="${state}", ready=READY, restart={"when": "never"})}
    workload = {"command": python("open('go', 'w').close()"), "cwd": "${state}"}
    states, addresses = set(), set()
    for _ in range(20):
        played = play(house, at_call({"kill": {}}, call="fdatasync", nth=5, path="a.db"), processes=processes,
                      workload=workload, invariants=[{"file": {"path": "${state}/a.db"}}])  # fmt: skip
        assert played.results() == ["landed"], played.done.said
        addresses.add(played.events(j.CallReached)[0].nth)
        state = played.stored.run.state
        # The journal of SQLite begins with a number that it draws.
        states.add(((state / "a.db").read_bytes(), (state / "a.db-journal").stat().st_size))
    assert (len(states), len(addresses)) == (1, 1), addresses


@pytest.mark.needs("gcc", "libc6-dev")
def test_a_call_goes_wrong_by_a_preloaded_shim_where_that_is_asked_for(house: House) -> None:
    refused = house.refused(an_experiment(injections=[wrong(do="freeze", call="fsync", how="preload")]))
    assert refused.code == 3
    assert "needs `how: seccomp`" in refused.said
    played = play(house, wrong("600ms", do="fail", call="fsync", errno="ENOSPC", how="preload", path="*.tmp"))
    assert played.results() == ["landed"], played.done.said
    assert said(played, "error No space left on device")
    (healed,) = played.events(j.Healed)
    assert healed.verified
