"""The guardian: everything it starts stays below it, and whoever dies, everything is put back within two seconds."""

from __future__ import annotations

import json
import os
import random
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from a_croupier import MANY, WIPES_ITS_ENVIRONMENT
from hands import DAEMONISES, IGNORES_TERM, SLEEPS, eventually, identity, lines, python, started

from croupier.model.errors import HarnessError, TargetError
from croupier.model.target import Identity
from croupier.model.undo import UndoRecord, UndoStep, unfinished
from croupier.supervise import keeper as k
from croupier.supervise.keeper import Exited, GuardianGone, HealedLate, Keeper
from croupier.supervise.running import UndoLog, active_runs, read_running, read_steps
from croupier.system import kernel, procs, signals
from croupier.system.clock import now_us

HERE = Path(__file__).parent
GONE_WITHIN_S = 2.0


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test leaves a pointer in the home of whoever runs it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "croupier"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """The directory of a round."""
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def keeper(run_dir: Path) -> Iterator[Keeper]:
    """A guardian at work."""
    keeper = Keeper.start(run_dir, f"test-{run_dir}")
    yield keeper
    assert keeper.close() == []


@pytest.fixture
def orphans_fall_to_us() -> Iterator[None]:
    """Whatever escapes a round becomes a child of this test, where it is seen."""
    before = kernel.is_subreaper()
    assert kernel.set_subreaper()
    yield
    kernel.set_subreaper(before)


def spawn(keeper: Keeper, *argv: str, name: str = "app", core_limit: bool = False, **env: str) -> Identity:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        return keeper.spawn(
            name, argv, env={**os.environ, **env}, cwd="/", stdout=nowhere, stderr=nowhere, core_limit=core_limit
        )
    finally:
        os.close(nowhere)


def output_of(keeper: Keeper, *argv: str, core_limit: bool = False) -> str:
    reader, writer = os.pipe()
    keeper.spawn("app", argv, env=dict(os.environ), cwd="/", stdout=writer, stderr=writer, core_limit=core_limit)
    os.close(writer)
    with os.fdopen(reader) as out:
        return out.read()


def next_messages(keeper: Keeper, within_s: float = 5.0) -> Sequence[k.KeeperMessage]:
    assert select.select([keeper.fileno()], [], [], within_s)[0], "the guardian told nothing"
    return keeper.receive()


def exit_of(keeper: Keeper, who: Identity) -> Exited:
    while True:
        for message in next_messages(keeper):
            if isinstance(message, Exited) and message.who == who:
                return message


def a_record(who: Identity, *, key: str = "1.1", lasts_ms: int = 60_000) -> UndoRecord:
    data = {"how": "stop", "members": [[who.pid, who.started]]}
    return UndoRecord(key=key, fault="suspend", who=who, data=data, deadline_us=now_us() + lasts_ms * 1_000)


def stop(keeper: Keeper, who: Identity, *, key: str = "1.1", lasts_ms: int = 60_000) -> None:
    keeper.hold(a_record(who, key=key, lasts_ms=lasts_ms))
    signals.send(who, "STOP")
    assert eventually(lambda: procs.state_of(who) == "T")
    keeper.step(UndoStep(key=key, state="applied"))


# --- starting --------------------------------------------------------------------------------------------------------

CLEAN_SLATE = """
import json, os, resource, signal
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
    "files": sorted(int(f) for f in os.listdir("/proc/self/fd")),
    "ignored": int(status["SigIgn"], 16),
    "blocked": int(status["SigBlk"], 16),
    "stdin": os.read(0, 1).decode(),
    "env": {k: v for k, v in os.environ.items() if k.startswith("CROUPIER_")},
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0] == resource.getrlimit(resource.RLIMIT_CORE)[1],
    "parent": os.getppid(),
}))
"""


def test_a_process_starts_as_a_clean_slate(keeper: Keeper, run_dir: Path) -> None:
    # Without Python's own start-up, which ignores SIGPIPE: asked through a shell that only execs cat.
    status = output_of(keeper, "cat", "/proc/self/status")
    masks = dict(line.split(":\t", 1) for line in status.splitlines() if line.startswith("Sig"))
    # glibc keeps 32 and 33 for itself, and its posix_spawn (make uses it) leaves 32 ignored in whatever it starts.
    of_the_library = 0b11 << 31
    assert {int(masks[key].strip(), 16) & ~of_the_library for key in ("SigIgn", "SigBlk", "SigCgt")} == {0}
    seen = json.loads(output_of(keeper, *python(CLEAN_SLATE)))
    assert seen["leads"]
    # The fourth is the directory that it lists.
    assert len(seen["files"]) == 4
    assert seen["files"][:3] == [0, 1, 2]
    assert seen["stdin"] == ""
    assert seen["env"] == {"CROUPIER_RUN": f"test-{run_dir}", "CROUPIER_PROCESS": "app"}
    assert seen["parent"] == keeper.identity.pid


def test_the_core_limit_is_raised_when_it_is_asked_for(keeper: Keeper) -> None:
    assert json.loads(output_of(keeper, *python(CLEAN_SLATE), core_limit=True))["core"]


def test_the_callers_own_environment_is_not_added(keeper: Keeper) -> None:
    reader, writer = os.pipe()
    keeper.spawn("app", ["/usr/bin/env"], env={"ONLY": "this"}, cwd="/", stdout=writer, stderr=writer)
    os.close(writer)
    with os.fdopen(reader) as out:
        assert {line.split("=")[0] for line in out} == {"ONLY", "CROUPIER_RUN", "CROUPIER_PROCESS"}


@pytest.mark.parametrize(
    ("argv", "cwd", "why"),
    [
        (["/nope/nothing"], "/", "command not found: '/nope/nothing'"),
        (["no-such-command"], "/", "command not found: 'no-such-command'"),
        (["/etc"], "/", "no permission to run '/etc'"),
        (["true"], "/nope", "the working directory '/nope' cannot be entered"),
        ([], "/", "the command is empty"),
    ],
)
def test_what_cannot_be_started_says_why(keeper: Keeper, argv: list[str], cwd: str, why: str) -> None:
    with pytest.raises(TargetError, match=why):
        keeper.spawn("app", argv, env=dict(os.environ), cwd=cwd, stdout=1, stderr=2)
    assert keeper.remaining() == []
    # Nobody hears of the end of what never ran.
    ended = spawn(keeper, "true")
    assert exit_of(keeper, ended).code == 0


def test_a_script_without_an_interpreter_is_no_program(keeper: Keeper, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("just words\n")
    script.chmod(0o755)
    with pytest.raises(TargetError, match="is not a program"):
        spawn(keeper, str(script))


def test_a_large_environment_arrives_whole(keeper: Keeper) -> None:
    big = {f"BIG_{n}": "x" * 100_000 for n in range(8)}
    reader, writer = os.pipe()
    keeper.spawn("app", ["sh", "-c", "env | wc -c"], env={**os.environ, **big}, cwd="/", stdout=writer, stderr=writer)
    os.close(writer)
    with os.fdopen(reader) as out:
        assert int(out.read()) > 800_000


# --- ending ----------------------------------------------------------------------------------------------------------


def test_an_exit_code_is_told(keeper: Keeper) -> None:
    who = spawn(keeper, "sh", "-c", "exit 7", name="seven")
    message = exit_of(keeper, who)
    assert (message.code, message.signal, message.name, message.direct, message.oom) == (7, "", "seven", True, False)


def test_a_death_by_signal_is_told(keeper: Keeper) -> None:
    who = spawn(keeper, *SLEEPS)
    signals.send(who, "TERM")
    message = exit_of(keeper, who)
    assert (message.code, message.signal, message.core) == (None, "TERM", False)


def test_an_orphan_that_ends_is_told_as_one(keeper: Keeper) -> None:
    main = spawn(keeper, *python("import os,time\nif os.fork(): os._exit(0)\nos.setsid()\ntime.sleep(300)"))
    assert exit_of(keeper, main).code == 0
    (orphan,) = keeper.adopted("app")
    signals.send(orphan, "KILL")
    message = exit_of(keeper, orphan)
    assert (message.direct, message.name, message.signal) == (False, "app", "KILL")


def test_an_exit_is_told_within_milliseconds(keeper: Keeper) -> None:
    late_ms = []
    for _ in range(20):
        who = spawn(keeper, *SLEEPS)
        with signals.Watch(who) as watch:
            signals.send(who, "KILL")
            assert watch.gone(2_000)
            gone_us = now_us()
        late_ms.append((exit_of(keeper, who).at_us - gone_us) / 1_000)
    print(f"exit told after {statistics.median(late_ms):.3f} ms (median), {max(late_ms):.3f} ms (worst)")
    assert statistics.median(late_ms) < 5


def test_a_guardian_with_nothing_to_do_uses_no_processor(keeper: Keeper) -> None:
    for _ in range(3):
        spawn(keeper, *SLEEPS)
    keeper.hold(a_record(identity(os.getpid())))
    before = procs.usage([keeper.identity.pid]).cpu_seconds
    # Nothing happening is what is measured, so there is no condition to wait for.
    time.sleep(0.5)
    assert procs.usage([keeper.identity.pid]).cpu_seconds == before
    keeper.step(UndoStep(key="1.1", state="verified"))


def test_a_croupier_that_does_not_listen_holds_nobody_up(keeper: Keeper) -> None:
    """Far more is told than a socket holds, and every request is answered all the same."""
    children = "import os\nfor _ in range(4000):\n if not os.fork(): os._exit(0)\nos._exit(0)"
    whos = [spawn(keeper, *python(children)) for _ in range(2)]
    assert eventually(lambda: not any(procs.alive(who) for who in whos), within_s=20)
    assert eventually(lambda: keeper.remaining() == [], within_s=20)
    told: set[Identity] = set()
    while len(told) <= 2_000 or not told >= set(whos):
        told |= {message.who for message in next_messages(keeper) if isinstance(message, Exited)}


def test_a_line_that_nobody_reads_keeps_what_it_has_to_say() -> None:
    ours, theirs = socket.socketpair()
    sender, receiver = k.Wire(ours), k.Wire(theirs)
    decoder = msgspec.msgpack.Decoder(k.KeeperMessage)
    sent = [Exited(who=Identity(pid=n, started=n), name="x" * 100) for n in range(1, 20_001)]
    for message in sent:
        sender.post(message)
    assert sender.backlog
    heard: list[k.KeeperMessage] = []
    while len(heard) < len(sent):
        heard += receiver.receive(decoder, wait_s=1.0)
        sender.flush()
    assert heard == sent
    sender.close()
    receiver.close()


def test_a_tree_is_ended_with_its_children_daemons_and_those_without_an_environment(keeper: Keeper) -> None:
    others = spawn(keeper, *SLEEPS, name="other")
    mains = [spawn(keeper, *argv, name="app") for argv in (MANY, DAEMONISES, WIPES_ITS_ENVIRONMENT, IGNORES_TERM)]
    assert eventually(lambda: len(keeper.remaining("app")) >= 7)
    assert eventually(lambda: not procs.alive(mains[2]))
    everybody = keeper.remaining("app")
    assert keeper.end_tree("app", mains[0]) == []
    assert keeper.remaining("app") == []
    assert not any(procs.alive(one) for one in everybody)
    assert procs.alive(others)
    assert keeper.remaining() == [others]


def test_what_was_seen_below_a_process_is_known_after_it_lost_every_mark(keeper: Keeper, tmp_path: Path) -> None:
    """It wipes its environment and leads a session, but was seen once while its parent lived."""
    go = tmp_path / "go"
    wipe, _, _ = WIPES_ITS_ENVIRONMENT[-1].partition("if os.fork()")
    leave = f"while not os.path.exists({str(go)!r}): time.sleep(0.005)"
    main = spawn(keeper, *python(f"{wipe}if os.fork():\n  {leave}\n  os._exit(0)\nos.setsid()\ntime.sleep(300)"))
    spawn(keeper, *python("import time\ntime.sleep(300)"), name="of the same program")
    assert eventually(lambda: len(keeper.remaining("app")) >= 2)
    go.touch()
    exit_of(keeper, main)
    assert len(keeper.remaining("app")) == 1
    keeper.end_tree("app", main)
    assert len(keeper.remaining()) == 1


def test_a_daemon_without_any_mark_is_known_by_its_program_where_only_one_name_has_it(keeper: Keeper) -> None:
    """As redis does with `daemonize yes`: its title is written over the environment."""
    main = spawn(keeper, *WIPES_ITS_ENVIRONMENT)
    spawn(keeper, *SLEEPS, name="other")
    assert exit_of(keeper, main).code == 0
    assert eventually(lambda: len(keeper.adopted("app")) == 1)
    assert keeper.adopted("other") == []


def test_a_stopped_tree_is_ended(keeper: Keeper) -> None:
    who = spawn(keeper, *SLEEPS)
    signals.send(who, "STOP")
    assert eventually(lambda: procs.state_of(who) == "T")
    assert keeper.end_tree("app", who) == []
    assert not procs.alive(who)


def test_ending_what_is_gone_is_no_trouble(keeper: Keeper) -> None:
    assert keeper.end_tree("never-was") == []


def test_a_daemon_is_found_by_the_name_it_was_started_under(keeper: Keeper) -> None:
    spawn(keeper, *DAEMONISES, name="one")
    spawn(keeper, *DAEMONISES, name="two")
    assert eventually(lambda: len(keeper.adopted("one")) == 1 and len(keeper.adopted("two")) == 1)
    assert eventually(lambda: len(keeper.remaining()) == 2)
    keeper.end_tree("one")
    assert (keeper.adopted("one"), len(keeper.adopted("two"))) == ([], 1)


def test_close_leaves_nobody_and_no_trace(keeper: Keeper, run_dir: Path) -> None:
    who = spawn(keeper, *SLEEPS)
    stop(keeper, who)
    for argv in (MANY, DAEMONISES, WIPES_ITS_ENVIRONMENT, IGNORES_TERM):
        spawn(keeper, *argv)
    assert eventually(lambda: len(keeper.remaining()) >= 8)
    everybody = keeper.remaining()
    assert read_running(run_dir) is not None
    assert active_runs() == [run_dir.resolve()]
    began = time.monotonic()
    assert keeper.close() == []
    assert time.monotonic() - began < GONE_WITHIN_S
    assert not any(procs.alive(one) for one in (*everybody, keeper.identity))
    assert keeper.unhealed == ()
    assert (read_running(run_dir), active_runs()) == (None, [])
    assert unfinished(read_steps(run_dir)) == ()


def test_one_that_forks_and_forks_does_not_outrun_the_end(keeper: Keeper) -> None:
    """A chain: each forks the next and ends, so that whoever is looked at is gone already."""
    chain = "import os,time\nwhile True:\n if os.fork(): os._exit(0)\n time.sleep(0.0002)"
    spawn(keeper, *python(chain))
    assert eventually(lambda: len(keeper.receive()) > 0)
    assert keeper.close() == []


def test_an_out_of_memory_kill_is_told_from_others(keeper: Keeper, tmp_path: Path) -> None:
    group = next(
        (
            path / f"croupier-test-{os.getpid()}"
            for path in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
            if any((path / limit).exists() for limit in ("memory.limit_in_bytes", "cgroup.subtree_control"))
            and os.access(path, os.W_OK)
        ),
        None,
    )
    if group is None:
        pytest.skip("no memory cgroup may be made here (run as root)")
    group.mkdir()
    try:
        limit = next((one for one in ("memory.limit_in_bytes", "memory.max") if (group / one).exists()), None)
        if limit is None:
            pytest.skip("this machine's cgroups do not limit memory")
        (group / limit).write_text(str(32 << 20))
        enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')"
        killed = spawn(keeper, *python(f"{enter}\nx = bytearray(1 << 28)\nimport time\ntime.sleep(300)"))
        message = exit_of(keeper, killed)
        assert (message.signal, message.oom) == ("KILL", True)
        other = spawn(keeper, *SLEEPS)
        signals.send(other, "KILL")
        assert not exit_of(keeper, other).oom
    finally:
        assert eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


# --- undo ------------------------------------------------------------------------------------------------------------


def test_a_record_is_on_disk_before_hold_returns(keeper: Keeper, run_dir: Path) -> None:
    with started(*SLEEPS) as who:
        record = a_record(who)
        keeper.hold(record)
        assert unfinished(read_steps(run_dir)) == (record,)
        keeper.step(UndoStep(key="1.1", state="applied"))
        assert unfinished(read_steps(run_dir)) == (record,)
        keeper.step(UndoStep(key="1.1", state="verified"))
        assert unfinished(read_steps(run_dir)) == ()


def test_a_full_disk_refuses_the_record_so_that_nothing_is_disturbed(run_dir: Path) -> None:
    (run_dir / "undo.jsonl").symlink_to("/dev/full")
    keeper = Keeper.start(run_dir, "full")
    with started(*SLEEPS) as who:
        with pytest.raises(HarnessError, match="undo log cannot be written"):
            keeper.hold(a_record(who, lasts_ms=0))
        # And it is not held either: nothing comes of it at its deadline.
        assert not select.select([keeper.fileno()], [], [], 0.4)[0]
    assert keeper.close() == []


def test_a_directory_that_cannot_be_written_refuses_the_round(tmp_path: Path) -> None:
    with pytest.raises(HarnessError):
        Keeper.start(tmp_path / "not-there", "nowhere")


def test_the_guardian_heals_what_nobody_healed_by_the_deadline(keeper: Keeper) -> None:
    with started(*SLEEPS) as who:
        due = time.monotonic() + 0.2
        stop(keeper, who, lasts_ms=200)
        assert eventually(lambda: procs.state_of(who) != "T")
        # A quarter of a second is left to croupier.
        assert 0.2 <= time.monotonic() - due < 1.0
        assert list(next_messages(keeper)) == [HealedLate(key="1.1", verified=True)]


def test_the_guardian_is_patient_while_croupier_heals_and_not_for_ever(keeper: Keeper) -> None:
    with started(*SLEEPS) as who:
        due = time.monotonic() + 0.1
        stop(keeper, who, lasts_ms=100)
        keeper.heal_begun(["1.1", "of nobody"])
        assert eventually(lambda: procs.state_of(who) != "T")
        assert 0.6 <= time.monotonic() - due < 2.5, "a second from when croupier began, and not from the deadline on"
        assert list(next_messages(keeper)) == [HealedLate(key="1.1", verified=True)]


def test_steps_are_kept_together_or_not_at_all(keeper: Keeper, run_dir: Path) -> None:
    with started(*SLEEPS) as who:
        keys = [f"1.{nth}" for nth in range(1, 1_200)]
        for key in keys[:3]:
            keeper.hold(a_record(who, key=key))
        keeper.step(*(UndoStep(key=key, state="verified") for key in keys))
        assert [one.key for one in read_steps(run_dir) if one.state == "verified"] == keys
        assert unfinished(read_steps(run_dir)) == ()


def test_what_was_healed_in_time_is_left_alone(keeper: Keeper) -> None:
    with started(*SLEEPS) as who:
        stop(keeper, who, lasts_ms=50)
        signals.send(who, "CONT")
        keeper.step(UndoStep(key="1.1", state="verified"))
        # From now on it is somebody else's stop.
        signals.send(who, "STOP")
        assert not select.select([keeper.fileno()], [], [], 0.5)[0]
        assert procs.state_of(who) == "T"


def test_a_record_that_does_not_heal_is_tried_again_and_told(keeper: Keeper) -> None:
    with started(*SLEEPS) as who:
        record = msgspec.structs.replace(a_record(who, lasts_ms=0), fault="no-such-fault")
        keeper.hold(record)
        told = [*next_messages(keeper), *next_messages(keeper)]
        assert all(isinstance(one, HealedLate) and not one.verified for one in told)
        assert len(told) == 2
        keeper.step(UndoStep(key="1.1", state="verified"))


def test_healing_goes_on_past_a_record_that_fails(keeper: Keeper, run_dir: Path) -> None:
    with started(*SLEEPS) as first, started(*SLEEPS) as last:
        stop(keeper, first, key="1.1")
        keeper.hold(msgspec.structs.replace(a_record(first, key="2.1"), fault="no-such-fault"))
        stop(keeper, last, key="3.1")
        keeper.close()
        assert "T" not in (procs.state_of(first), procs.state_of(last))
        assert len(keeper.unhealed) == 1
        assert "no-such-fault" in keeper.unhealed[0]
        # Whoever comes later finds it.
        assert read_running(run_dir) is not None
        assert [one.key for one in unfinished(read_steps(run_dir))] == ["2.1"]


def test_a_plugins_fault_is_healed_by_the_plugin(run_dir: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "a_plugin.py"
    plugin.write_text(
        "from typing import ClassVar\nfrom pathlib import Path\n"
        "from croupier.inject import Healing, Outcome\nfrom croupier.model.fault import Fault\n"
        "from croupier.model.noun import Noun\n"
        "class Mark(Fault, Noun, tag='mark', tag_field='fault', frozen=True, kw_only=True):\n"
        "    '''Leave a mark.'''\n    kind: ClassVar[str] = 'mark'\n    path: str\n"
        "class Marker:\n"
        "    kind = 'mark'\n    spec = Mark\n    summary = 'Leave a mark.'\n    needs = ''\n    heals = 'Wipes it.'\n"
        "    example = 'mark: {path: /tmp/x}'\n"
        "    def lacking(self, fault): return ''\n"
        "    def inject(self, permit, fault, act): return Outcome(result='missed')\n"
        "    def hold(self, permit, fault, act): pass\n"
        "    def heal(self, record):\n"
        "        Path(record.data['path']).unlink()\n        return Healing(verified=True)\n"
        "FAULTS = (Marker(),)\n"
    )
    mark = tmp_path / "mark"
    mark.touch()
    keeper = Keeper.start(run_dir, "plugged", (str(plugin),))
    with started(*SLEEPS) as who:
        keeper.hold(msgspec.structs.replace(a_record(who, lasts_ms=0), fault="mark", data={"path": str(mark)}))
        assert eventually(lambda: not mark.exists())
    assert keeper.close() == []


def test_a_cut_line_of_the_log_is_not_glued_to_the_next(run_dir: Path) -> None:
    (run_dir / "undo.jsonl").write_bytes(b'{"key":"1.1","state":"int')
    log = UndoLog(run_dir)
    log.write(UndoStep(key="2.1", state="applied"))
    log.close()
    assert [step.key for step in read_steps(run_dir)] == ["2.1"]


def test_the_cost_of_holding_a_record_is_small(keeper: Keeper) -> None:
    took_ms = []
    with started(*SLEEPS) as who:
        for n in range(50):
            began = time.perf_counter()
            keeper.hold(a_record(who, key=f"1.{n}"))
            took_ms.append((time.perf_counter() - began) * 1_000)
            keeper.step(UndoStep(key=f"1.{n}", state="verified"))
    print(f"hold: {statistics.median(took_ms):.3f} ms (median), {max(took_ms):.3f} ms (worst)")
    assert statistics.median(took_ms) < 20


# --- whoever dies ----------------------------------------------------------------------------------------------------


@contextmanager
def a_croupier(run_dir: Path, mode: str, *words: str, ready: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "a_croupier.py"), str(run_dir), f"test-{run_dir}", mode, *words],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        if ready:
            assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def below_us(*but: Identity) -> list[Identity]:
    """Everybody below this test, who is not one of these."""
    for pid in procs.children(os.getpid()):
        who = procs.identity(pid)
        if who and who not in but and not procs.alive(who):
            # Fallen to us as orphans; ours to bury. Those that subprocess made are in `but`, or waited for.
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
    wardens = [who for who in procs.family(os.getpid()) if _is_warden(who.pid)]
    kept = {*but, *wardens, *(one for who in wardens for one in procs.family(who.pid))}
    return [who for who in procs.family(os.getpid()) if who not in kept]


def _is_warden(pid: int) -> bool:
    """That of traced workloads, which another test of this process has started; it ends with the process."""
    try:
        return b"warden.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def wait_until_all_is_back(*but: Identity) -> float:
    """How long it takes from here, in seconds, until nobody of the round is left."""
    began = time.monotonic()
    assert eventually(lambda: not below_us(*but), within_s=5), [procs.read_stat(w.pid) for w in below_us(*but)]
    return time.monotonic() - began


def test_whenever_croupier_is_killed_everything_is_put_back_within_two_seconds(
    tmp_path: Path, orphans_fall_to_us: None
) -> None:
    """Thirty moments: before the first process, while one starts, between intent and act, while healing."""
    moments = random.Random(7)
    took: list[float] = []
    with started(*SLEEPS) as foreign:
        for nth in range(30):
            run_dir = tmp_path / f"run-{nth}"
            run_dir.mkdir()
            with a_croupier(run_dir, "busy", str(foreign.pid), ready=nth % 3 != 0) as croupier:
                # A drawn moment is the point of this test.
                time.sleep(moments.uniform(0, 0.5 if nth % 3 == 0 else 0.08))
                croupier.kill()
                croupier.wait()
                took.append(wait_until_all_is_back(foreign))
            assert procs.state_of(foreign) in ("S", "R"), f"still stopped after kill {nth}"
            assert unfinished(read_steps(run_dir)) == ()
            assert read_running(run_dir) is None
    assert active_runs() == []
    print(f"all back after {max(took):.3f} s (worst of {len(took)}), {statistics.median(took):.3f} s (median)")
    assert max(took) < GONE_WITHIN_S


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM", "QUIT"])
def test_what_reaches_croupiers_whole_group_does_not_reach_the_guardian(
    run_dir: Path, orphans_fall_to_us: None, name: str
) -> None:
    with started(*SLEEPS) as foreign, a_croupier(run_dir, "hold-long", str(foreign.pid)) as croupier:
        assert procs.state_of(foreign) == "T"
        os.killpg(croupier.pid, signals.signal_number(name))
        croupier.wait(5)
        assert wait_until_all_is_back(foreign) < GONE_WITHIN_S
        assert procs.state_of(foreign) != "T"


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM", "QUIT", "USR1", "TSTP", "PIPE"])
def test_the_guardian_ignores_what_is_meant_for_others(keeper: Keeper, name: str) -> None:
    assert signals.send(keeper.identity, name)
    assert keeper.remaining() == []
    assert procs.alive(keeper.identity)


HUNG_UP_BEFORE_ITS_END = """
import os, sys, time
from pathlib import Path
from croupier.model.undo import UndoRecord
from croupier.supervise.keeper import Keeper
from croupier.system import procs
from croupier.system.clock import now_us
keeper, us = Keeper.start(Path(sys.argv[1]), "hung-up"), procs.identity(os.getpid())
who, data = procs.identity(int(sys.argv[2])), {"holder": [us.pid, us.started]}
keeper.hold(UndoRecord(key="1.1", fault="syscall", who=who, data=data, deadline_us=now_us() + 60_000_000))
for name in os.listdir("/proc/self/fd"):
    if int(name) > 2: os.closerange(int(name), int(name) + 1)
time.sleep(0.2)
os._exit(0)
"""


def test_what_ends_with_croupier_is_healed_when_it_has_ended_and_not_a_moment_before(run_dir: Path) -> None:
    """A process that dies closes its files first, and may still be seen to live."""
    with started(*SLEEPS) as who:
        subprocess.run([sys.executable, "-c", HUNG_UP_BEFORE_ITS_END, str(run_dir), str(who.pid)], check=True)
        assert eventually(lambda: read_running(run_dir) is None)
        assert unfinished(read_steps(run_dir)) == ()


def test_a_croupier_that_is_stopped_does_not_stop_the_deadline(run_dir: Path, orphans_fall_to_us: None) -> None:
    with started(*SLEEPS) as foreign, a_croupier(run_dir, "hold", str(foreign.pid)) as croupier:
        who = identity(croupier.pid)
        signals.send(who, "STOP")
        assert eventually(lambda: procs.state_of(who) == "T")
        (record,) = unfinished(read_steps(run_dir))
        assert eventually(lambda: procs.state_of(foreign) != "T")
        assert (now_us() - record.deadline_us) / 1_000 == pytest.approx(250, abs=249)
        croupier.kill()
        croupier.wait()
        wait_until_all_is_back(foreign)


def test_an_act_that_was_stopped_in_the_middle_and_lands_after_its_deadline_is_undone(
    run_dir: Path, orphans_fall_to_us: None
) -> None:
    """Croupier is stopped between intent and signal, goes on when all is healed, signals, and dies at once."""
    keeper = Keeper.start(run_dir, "late")
    with started(*SLEEPS) as foreign:
        keeper.hold(a_record(foreign, lasts_ms=0))
        assert list(next_messages(keeper)) == [HealedLate(key="1.1", verified=True)]
        signals.send(foreign, "STOP")
        assert eventually(lambda: procs.state_of(foreign) == "T")
        keeper.close()
        assert procs.state_of(foreign) != "T"


def test_a_round_whose_time_is_over_ends_even_if_croupier_hangs(keeper: Keeper, run_dir: Path) -> None:
    with started(*SLEEPS) as foreign:
        stop(keeper, foreign)
        who = spawn(keeper, *SLEEPS)
        keeper.end_by(now_us() + 100_000)
        assert eventually(lambda: not procs.alive(keeper.identity))
        assert not procs.alive(who)
        assert procs.state_of(foreign) != "T"
        told = next_messages(keeper)
        while not isinstance(told[-1], GuardianGone):
            told = next_messages(keeper)
        assert read_running(run_dir) is None


def test_a_guardian_that_is_killed_is_noticed_and_its_processes_are_ended(run_dir: Path) -> None:
    keeper = Keeper.start(run_dir, f"killed-{run_dir}")
    mains = [spawn(keeper, *argv) for argv in (SLEEPS, IGNORES_TERM, MANY, DAEMONISES)]
    assert eventually(lambda: len(keeper.remaining()) >= 7)
    everybody = keeper.remaining()
    signals.send(keeper.identity, "KILL")
    told = next_messages(keeper)
    while not isinstance(told[-1], GuardianGone):
        told = next_messages(keeper)
    assert told[-1].why == "it was ended by KILL"
    assert keeper.receive() == []
    # What it had started directly dies with it.
    assert eventually(lambda: not any(procs.alive(who) for who in mains))
    with pytest.raises(HarnessError, match="guardian of this round is gone"):
        spawn(keeper, *SLEEPS)
    with pytest.raises(HarnessError):
        keeper.hold(a_record(identity(os.getpid())))
    assert keeper.close() == []
    assert eventually(lambda: not any(procs.alive(who) for who in everybody))


def test_open_records_are_named_when_the_guardian_is_dead(run_dir: Path) -> None:
    keeper = Keeper.start(run_dir, "open")
    with started(*SLEEPS) as foreign:
        stop(keeper, foreign)
        signals.send(keeper.identity, "KILL")
        keeper.close()
        assert len(keeper.unhealed) == 1
        assert read_running(run_dir) is not None
        signals.send(foreign, "CONT")


def test_what_was_started_directly_dies_with_croupier_and_guardian_together(
    run_dir: Path, orphans_fall_to_us: None
) -> None:
    with a_croupier(run_dir, "idle") as croupier:
        running = read_running(run_dir)
        assert running is not None
        children = [identity(pid) for pid in procs.children(running.guardian.pid)]
        # A session of its own number: made by the guardian, and no daemon that was handed to it.
        direct = [who for who in children if (stat := procs.read_stat(who.pid)) and stat.session == who.pid]
        assert len(direct) >= 4
        signals.send(running.guardian, "STOP")
        croupier.kill()
        signals.send(running.guardian, "KILL")
        croupier.wait()
        assert eventually(lambda: not any(procs.alive(who) for who in direct))
        # The daemons among them are for `recover`; here the test ends them.
        assert eventually(lambda: not [signals.send(who, "KILL") for who in below_us()])


def test_two_rounds_at_once_do_not_touch_each_other(tmp_path: Path) -> None:
    dirs = [tmp_path / "one", tmp_path / "two"]
    for path in dirs:
        path.mkdir()
    one, two = (Keeper.start(path, path.name) for path in dirs)
    first, second = spawn(one, *SLEEPS), spawn(two, *SLEEPS)
    assert (one.remaining(), two.remaining()) == ([first], [second])
    assert one.close() == []
    assert not procs.alive(first)
    assert procs.alive(second)
    assert kernel.is_subreaper()
    assert two.close() == []
    assert not procs.alive(second)


def test_croupier_is_a_subreaper_for_as_long_as_a_round_runs(run_dir: Path) -> None:
    before = kernel.is_subreaper()
    keeper = Keeper.start(run_dir, "reaper")
    assert kernel.is_subreaper()
    keeper.close()
    assert kernel.is_subreaper() == before
    assert keeper.close() == []


def test_a_file_named_like_a_module_of_ours_is_not_imported(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("msgspec.py", "select.py", "socket.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the working directory')\n")
    monkeypatch.chdir(tmp_path)
    keeper = Keeper.start(run_dir, "shadow")
    assert keeper.close() == []
    assert lines(run_dir / "guardian.log") == []


def test_the_guardian_itself_is_protected(keeper: Keeper) -> None:
    assert procs.protected_pids()[keeper.identity.pid] == "it is the guardian of this round"
