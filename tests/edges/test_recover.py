"""What a dead round left behind is healed from disk, and the kill switch works on whoever does not answer."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hands import DAEMONISES, SLEEPS, eventually, identity, started

from croupier.model.errors import ReplayError
from croupier.model.target import Identity
from croupier.model.undo import UndoRecord, UndoStep, unfinished
from croupier.recover import halt, recover
from croupier.supervise.running import (
    Running,
    UndoLog,
    active_runs,
    read_running,
    read_steps,
    registered_in,
    remove_running,
    state_home,
    write_running,
)
from croupier.system import kernel, procs, signals

# Rounds of the same name would be recovered by one another's tests.
pytestmark = pytest.mark.xdist_group("recover")
HERE = Path(__file__).parent
NOBODY = Identity(pid=1, started=1, boot="another boot")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test looks into the home of whoever runs it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "croupier"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def orphans_fall_to_us() -> Iterator[None]:
    before = kernel.is_subreaper()
    assert kernel.set_subreaper()
    yield
    for pid in procs.children(os.getpid()):
        who = procs.identity(pid)
        if who and (stat := procs.read_stat(pid)) and stat.session != os.getsid(0):
            signals.send(who, "KILL")
            os.waitpid(pid, 0)
    kernel.set_subreaper(before)


def stopped(who: Identity, *, key: str = "1.1", fault: str = "suspend") -> UndoRecord:
    data = {"how": "stop", "members": [[who.pid, who.started]]}
    return UndoRecord(key=key, fault=fault, who=who, data=data, deadline_us=0)


def left_behind(run_dir: Path, *records: UndoRecord, run: str = "dead") -> None:
    """A run directory as a machine leaves it that lost croupier and guardian at once."""
    write_running(run_dir, Running(run=run, croupier=NOBODY, guardian=NOBODY, started="2026-01-01T00:00:00+00:00"))
    log = UndoLog(run_dir)
    for record in records:
        log.write(UndoStep(key=record.key, state="intent", record=record))
    log.close()


@contextmanager
def a_stopped_process() -> Iterator[Identity]:
    with started(*SLEEPS) as who:
        signals.send(who, "STOP")
        assert eventually(lambda: procs.state_of(who) == "T")
        yield who


@contextmanager
def a_croupier(run_dir: Path, mode: str, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Running]]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "a_croupier.py"), str(run_dir), f"test-{run_dir}", mode, *words],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        running = read_running(run_dir)
        assert running is not None
        yield process, running
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# --- recover ---------------------------------------------------------------------------------------------------------


def test_what_a_dead_machine_left_stopped_goes_on(run_dir: Path) -> None:
    with a_stopped_process() as who:
        left_behind(run_dir, stopped(who))
        (done,) = recover()
        assert (done.run, done.clean, len(done.healed), done.left) == ("dead", True, 1, ())
        assert procs.state_of(who) != "T"
        assert unfinished(read_steps(run_dir)) == ()
        assert (read_running(run_dir), active_runs()) == (None, [])


def test_once_healed_nothing_is_left_to_heal(run_dir: Path) -> None:
    with a_stopped_process() as who:
        left_behind(run_dir, stopped(who))
        recover()
        assert recover() == []
        # What stands still now is somebody else's.
        signals.send(who, "STOP")
        assert eventually(lambda: procs.state_of(who) == "T")
        (again,) = recover(run_dir)
        assert (again.clean, again.healed) == (True, ())
        assert procs.state_of(who) == "T"


def test_a_pointer_is_taken_away_whose_guardian_died_before_it_could(run_dir: Path) -> None:
    with started(*SLEEPS) as who:
        left_behind(run_dir, stopped(who))
        recover(run_dir)
        left_behind(run_dir)
        (run_dir / "running.json").unlink()
        assert active_runs() == [run_dir.resolve()]
        (done,) = recover()
        assert (done.clean, active_runs()) == (True, [])


def test_a_target_that_is_gone_is_healed_with_a_note(run_dir: Path) -> None:
    with started(*SLEEPS) as who:
        pass
    left_behind(run_dir, stopped(who))
    (done,) = recover(run_dir)
    assert done.clean
    assert "is gone" in done.healed[0]


def test_after_a_reboot_nobody_is_touched_under_an_old_number(run_dir: Path) -> None:
    with a_stopped_process() as who:
        left_behind(run_dir, stopped(msgspec.structs.replace(who, boot="the boot before")))
        (done,) = recover(run_dir)
        assert done.clean
        assert procs.state_of(who) == "T"


def test_healing_goes_on_past_what_fails_and_says_what_is_left(run_dir: Path) -> None:
    with a_stopped_process() as who:
        left_behind(run_dir, stopped(who, key="1.1"), stopped(who, key="2.1", fault="no-such-fault"))
        (done,) = recover()
        assert not done.clean
        assert procs.state_of(who) != "T"
        assert "no-such-fault" in done.left[0]
        assert "NOT healed" in str(done)
        # And it is found again.
        assert active_runs() == [run_dir.resolve()]


def test_an_undo_log_that_was_cut_anywhere_is_read_as_far_as_it_goes(run_dir: Path) -> None:
    with started(*SLEEPS) as who:
        left_behind(run_dir, stopped(who, key="1.1"), stopped(who, key="2.1"))
        whole = (run_dir / "undo.jsonl").read_bytes()
        first = whole.index(b"\n")
        for cut in range(len(whole)):
            (run_dir / "undo.jsonl").write_bytes(whole[:cut])
            # A line counts once it is whole; its last byte, the end of the line, carries nothing.
            expected = (cut >= first) + (cut >= len(whole) - 1)
            assert len(unfinished(read_steps(run_dir))) == expected
        (run_dir / "undo.jsonl").write_bytes(whole[:-20])
        (done,) = recover(run_dir)
        assert (done.clean, len(done.healed)) == (True, 1)


def test_a_record_that_was_intended_only_is_healed(run_dir: Path) -> None:
    with started(*SLEEPS) as who:
        left_behind(run_dir, stopped(who))
        (done,) = recover(run_dir)
        assert done.clean
        assert procs.alive(who)


def test_a_round_that_runs_is_left_alone(run_dir: Path) -> None:
    with a_stopped_process() as who:
        ourselves = identity(os.getpid())
        write_running(run_dir, Running(run="mine", croupier=ourselves, guardian=ourselves, started="now"))
        log = UndoLog(run_dir)
        log.write(UndoStep(key="1.1", state="intent", record=stopped(who)))
        log.close()
        (seen,) = recover()
        assert seen.running
        assert procs.state_of(who) == "T"
        assert read_running(run_dir) is not None


def test_who_carries_the_mark_of_a_dead_round_is_ended(run_dir: Path, orphans_fall_to_us: None) -> None:
    marked = {**os.environ, "CROUPIER_RUN": "dead"}
    others = {**os.environ, "CROUPIER_RUN": "dead-or-alive"}
    daemon = subprocess.Popen(DAEMONISES, env=marked)
    daemon.wait()
    direct = subprocess.Popen(["sh", "-c", "env -i sleep 300 & wait"], env=marked)
    spared = subprocess.Popen(SLEEPS, env=others)
    try:

        def seen() -> tuple[set[Identity], set[Identity]]:
            return set(procs.marked("CROUPIER_RUN=dead")), set(procs.family(direct.pid))

        # The daemon and the shell carry it; whom the shell starts does not, once it is that program.
        assert eventually(lambda: [len(some) for some in seen()] == [2, 1] and seen()[0].isdisjoint(seen()[1]))
        everybody = set.union(*seen())
        left_behind(run_dir)
        (done,) = recover()
        assert (done.clean, done.ended) == (True, 3)
        assert not any(procs.alive(who) for who in everybody)
        assert spared.poll() is None
    finally:
        for process in (direct, spared):
            process.kill()
            process.wait()


def test_what_croupier_and_guardian_left_when_both_were_killed_is_healed(
    run_dir: Path, orphans_fall_to_us: None
) -> None:
    with started(*SLEEPS) as foreign, a_croupier(run_dir, "hold-long", str(foreign.pid)) as (croupier, running):
        signals.send(running.guardian, "STOP")
        croupier.kill()
        signals.send(running.guardian, "KILL")
        croupier.wait()
        assert procs.state_of(foreign) == "T"
        (done,) = recover()
        assert done.clean, str(done)
        assert procs.state_of(foreign) != "T"
        assert procs.marked(f"CROUPIER_RUN={running.run}") == []


def test_a_directory_nobody_knows_is_said_to_be_unknown() -> None:
    assert recover() == []
    with pytest.raises(ReplayError, match="no round 'nowhere' is known"):
        recover("nowhere")


def test_a_round_is_found_by_its_name_and_by_its_directory(run_dir: Path) -> None:
    left_behind(run_dir, run="notes/2026-01-01T00:00:00Z-42")
    assert [one.run for one in recover("notes/2026-01-01T00:00:00Z-42")] == ["notes/2026-01-01T00:00:00Z-42"]
    left_behind(run_dir, run="again")
    assert [one.run for one in recover([run_dir])] == ["again"]


def test_a_pointer_to_a_directory_that_was_deleted_is_taken_away(run_dir: Path) -> None:
    left_behind(run_dir)
    for path in sorted(run_dir.iterdir()):
        path.unlink()
    run_dir.rmdir()
    assert active_runs() == []
    assert list((state_home() / "active").iterdir()) == []


def test_a_state_home_that_is_not_absolute_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_home() == tmp_path / ".local" / "state" / "croupier"


# --- halt ------------------------------------------------------------------------------------------------------------


def test_with_nothing_running_there_is_nothing_to_halt() -> None:
    assert halt() == []
    with pytest.raises(ReplayError):
        halt("nowhere")


def test_a_croupier_that_listens_heals_and_stops_by_itself(run_dir: Path, orphans_fall_to_us: None) -> None:
    with started(*SLEEPS) as foreign, a_croupier(run_dir, "polite", str(foreign.pid)) as (croupier, _):
        (done,) = halt()
        assert (done.clean, done.how) == (True, "croupier stopped and healed everything")
        assert procs.state_of(foreign) != "T"
        assert (run_dir / "halt").exists()
        assert croupier.wait(5) == 0
        assert done.took_ms < 1_500


@pytest.mark.parametrize("how", ["deaf", "stopped"])
def test_a_croupier_that_does_not_heal_is_killed_and_its_guardian_heals(
    run_dir: Path, orphans_fall_to_us: None, how: str
) -> None:
    with started(*SLEEPS) as foreign, a_croupier(run_dir, "deaf", str(foreign.pid)) as (croupier, running):
        if how == "stopped":
            signals.send(running.croupier, "STOP")
        assert procs.state_of(foreign) == "T"
        began = time.monotonic()
        (done,) = halt(run_dir)
        assert done.clean, str(done)
        assert "guardian healed" in done.how
        assert 1.4 < time.monotonic() - began < 4
        assert procs.state_of(foreign) != "T"
        assert procs.marked(f"CROUPIER_RUN={running.run}") == []
        assert read_running(run_dir) is None
        croupier.wait(5)


def test_with_the_guardian_stopped_as_well_it_is_healed_from_the_undo_log(
    run_dir: Path, orphans_fall_to_us: None
) -> None:
    with started(*SLEEPS) as foreign, a_croupier(run_dir, "deaf", str(foreign.pid)) as (croupier, running):
        signals.send(running.croupier, "STOP")
        signals.send(running.guardian, "STOP")
        (done,) = halt(running.run)
        assert done.clean, str(done)
        assert "undo log" in done.how
        assert procs.state_of(foreign) != "T"
        croupier.wait(5)


@pytest.mark.parametrize("by", ["name", "folder", "own name", "path", "latest"])
def test_a_round_is_halted_by_every_word_that_people_have_for_it(
    tmp_path: Path, orphans_fall_to_us: None, by: str
) -> None:
    run_dir = tmp_path / "runs" / "notes" / "2026-01-01T000000Z-1"
    run_dir.mkdir(parents=True)
    names = {
        "name": "notes/2026-01-01T000000Z-1", "folder": "notes", "own name": run_dir.name, "path": str(run_dir),
        "latest": "latest",
    }  # fmt: skip
    with started(*SLEEPS) as foreign, a_croupier(run_dir, "polite", str(foreign.pid)) as (croupier, _):
        assert [one.clean for one in halt(names[by])] == [True]
        assert procs.state_of(foreign) != "T"
        assert croupier.wait(5) == 0


def test_a_round_without_a_pointer_is_halted_by_where_it_is_stored(tmp_path: Path, orphans_fall_to_us: None) -> None:
    out = tmp_path / "runs"
    run_dir = out / "notes" / "2026-01-01T000000Z-1"
    run_dir.mkdir(parents=True)
    with started(*SLEEPS) as foreign, a_croupier(run_dir, "polite", str(foreign.pid)) as (croupier, _):
        for pointer in (state_home() / "active").iterdir():
            pointer.unlink()
        assert halt() == []
        assert [one.clean for one in halt(None, out)] == [True]
        assert croupier.wait(5) == 0


def test_halting_a_round_that_is_over_finds_nothing_to_halt(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "notes" / "2026-01-01T000000Z-1"
    run_dir.mkdir(parents=True)
    (run_dir / "journal.jsonl").touch()
    (run_dir.parent / "latest").symlink_to(run_dir.name)
    for name in ("notes/2026-01-01T000000Z-1", "notes", "latest", run_dir):
        assert halt(name, tmp_path / "runs") == []
    with pytest.raises(ReplayError):
        halt("notes", tmp_path / "elsewhere")


# Where rounds are registered when there is no state home


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The temporary directory is the test's own, and the state home cannot be made."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a-file"))
    return tmp_path / "tmp" / f"croupier-{os.getuid()}"


def a_registered_run(tmp_path: Path) -> Path:
    (run_dir := tmp_path / "run").mkdir()
    write_running(run_dir, Running(run="a/run", croupier=NOBODY, guardian=NOBODY, started="now"))
    return run_dir


def test_where_the_state_home_cannot_be_written_a_round_is_found_all_the_same(spare: Path, tmp_path: Path) -> None:
    run_dir = a_registered_run(tmp_path)
    assert (registered_in("a/run"), active_runs()) == (spare, [run_dir])
    assert stat.S_IMODE(spare.stat().st_mode) == 0o700
    remove_running(run_dir, "a/run")
    assert (registered_in("a/run"), active_runs(), list((spare / "active").iterdir())) == (None, [], [])


def test_nobody_has_to_have_a_home(spare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    run_dir = a_registered_run(tmp_path)
    assert (state_home(), active_runs()) == (spare, [run_dir])


@pytest.mark.parametrize("whose", ["open to all", "a link"])
def test_a_directory_that_somebody_else_laid_out_is_not_used(spare: Path, tmp_path: Path, whose: str) -> None:
    if whose == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        spare.symlink_to(tmp_path / "elsewhere")
    else:
        spare.mkdir()
        spare.chmod(0o777)
    a_registered_run(tmp_path)
    assert (registered_in("a/run"), active_runs()) == (None, [])
    assert not (spare / "active").exists()
