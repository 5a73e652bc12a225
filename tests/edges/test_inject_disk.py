"""Disks that are full and files that are damaged: only those of the round, and what was there comes back."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from hands import SLEEPS, a_permit, eventually, started

from croupier.inject import corrupt, corrupt_cache, fill_disk
from croupier.model.faults.disk import Corrupt, CorruptCache, FillDisk
from croupier.model.units import Bytes, Ms
from croupier.system import mounts, procs
from croupier.testing import RecordingAct, check_fault

LONG = Ms(60_000)
SHORT = Ms(2_000)
may_mount = pytest.mark.skipif(bool(mounts.lacking()), reason=mounts.lacking() or "mounts work")


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    path.mkdir()
    mounts.mount_tmpfs(str(path), 1 << 20)
    yield path
    mounts.detach(str(path))


@pytest.fixture
def state(tmp_path):
    path = tmp_path / "state"
    path.mkdir()
    (path / "notes.db").write_bytes(bytes(range(256)) * 40)
    (path / "other.db").write_bytes(b"another")
    (path / "notes.db").chmod(0o640)
    os.utime(path / "notes.db", ns=(1_000_000_000, 2_000_000_000))
    return path


def injected(injector, fault, who, state):
    permit = a_permit(fault, who)
    act = RecordingAct(permit, env={"CROUPIER_STATE": str(state)}, cwd=str(state.parent))
    return injector.inject(permit, fault, act), act


def look(path):
    seen = path.stat()
    return path.read_bytes(), seen.st_mode, seen.st_mtime_ns


@may_mount
def test_filling_keeps_every_rule_of_a_fault(volume):
    observe = lambda pid: tuple(sorted(one.name.rpartition(".")[0] for one in volume.iterdir()))  # noqa: E731
    check_fault(
        fill_disk.INJECTOR, fault=FillDisk(path=str(volume), for_ms=SHORT), observe=observe,
        only=["says-what-it-is", "example-loads", "survives-a-plan", "imports-little", "landed-is-seen",
              "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done", "misses-who-is-gone",
              "no-record-no-act", "heals-what-it-did", "heals-quickly", "heals-twice", "heals-when-gone",
              "obeys-a-halt", "heals-after-a-crash"],
    )  # fmt: skip


@may_mount
@pytest.mark.parametrize("leave", [0, 100_000])
def test_a_volume_is_filled_up_to_the_reserve_and_emptied_again(volume, state, leave):
    with started(*SLEEPS) as who:
        fault = FillDisk(path=str(volume), for_ms=LONG, leave_bytes=Bytes(leave))
        outcome, act = injected(fill_disk.INJECTOR, fault, who, state)
        assert outcome.result == "landed", outcome
        free = os.statvfs(volume).f_bavail * os.statvfs(volume).f_frsize
        assert leave - 4096 <= free <= leave + 4096
        if not leave:
            with pytest.raises(OSError, match="No space left"):
                (volume / "more").write_bytes(b"x" * 4096)
        assert fill_disk.INJECTOR.heal(act.records[0]).verified
        assert [one.name for one in volume.iterdir() if one.name != "more"] == []


@may_mount
def test_who_ends_of_the_full_disk_at_once_was_hit(volume):
    with started(*SLEEPS) as who:
        fault = FillDisk(path=str(volume), for_ms=LONG)
        permit = a_permit(fault, who)

        def ends(moment, step):
            if (moment, step.what) == ("before", "applied"):
                os.kill(who.pid, signal.SIGKILL)
                assert eventually(lambda: not procs.alive(who))

        outcome = fill_disk.INJECTOR.inject(permit, fault, RecordingAct(permit, on_step=ends))
    assert outcome.result == "landed", outcome
    assert "it has ended since" in outcome.detail


def test_the_disk_of_the_machine_is_never_filled(state):
    with started(*SLEEPS) as who:
        outcome, act = injected(fill_disk.INJECTOR, FillDisk(path=str(state), for_ms=LONG), who, state)
    assert (outcome.result, act.records) == ("missed", ())
    assert "is on no volume of this round" in outcome.detail


def test_damage_keeps_every_rule_of_a_fault(state, monkeypatch):
    monkeypatch.setenv("CROUPIER_STATE", str(state))
    file = state / "notes.db"
    for injector, fault in (
        (corrupt.INJECTOR, Corrupt(path=str(file), for_ms=SHORT, do="truncate")),
        (corrupt_cache.INJECTOR, CorruptCache(path=str(file), for_ms=SHORT)),
    ):
        check_fault(
            injector, fault=fault, observe=lambda pid: look(file),
            only=["says-what-it-is", "example-loads", "survives-a-plan", "imports-little", "landed-is-seen",
                  "writes-before-it-acts", "record-is-data", "has-a-deadline", "says-when-it-is-done",
                  "misses-who-is-gone", "no-record-no-act", "heals-what-it-did", "heals-quickly", "heals-twice",
                  "obeys-a-halt", "heals-after-a-crash"],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"do": "flip", "bits": 3}, lambda was, now: len(now) == len(was) and 1 <= differing(was, now) <= 3),
        ({"do": "truncate", "bytes": 100}, lambda was, now: now == was[:-100]),
        ({"do": "tear"}, lambda was, now: len(now) == len(was) and now[:8192] == was[:8192] and now[-1] == 0),
        ({"do": "zero"}, lambda was, now: len(now) == len(was) and bytes(2048) in now),
        ({"do": "swap", "other": "state/other.db"}, lambda was, now: now == b"another"),
        ({"do": "lose"}, lambda was, now: now is None),
    ],
)
def test_each_damage_is_done_and_undone(state, options, seen):
    file = state / "notes.db"
    before = look(file), look(state / "other.db")
    with started(*SLEEPS) as who:
        outcome, act = injected(corrupt.INJECTOR, Corrupt(path="state/notes.*", for_ms=LONG, **options), who, state)
        assert outcome.result == "landed", outcome
        assert seen(before[0][0], file.read_bytes() if file.exists() else None)
        healing = corrupt.INJECTOR.heal(act.records[0])
    assert healing.verified, healing
    assert (look(file), look(state / "other.db")) == before
    assert list((state.parent / "set-aside").iterdir()) == []


def differing(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_old_content_comes_back_when_it_is_stale(state):
    file = state / "notes.db"
    with started(*SLEEPS) as who:
        threading.Timer(0.1, lambda: file.write_bytes(b"newer")).start()
        stale = Corrupt(path=str(file), for_ms=LONG, do="stale", age_ms=Ms(500))
        outcome, act = injected(corrupt.INJECTOR, stale, who, state)
        assert outcome.result == "landed", outcome
        assert file.read_bytes() == bytes(range(256)) * 40
        assert corrupt.INJECTOR.heal(act.records[0]).verified
    assert file.read_bytes() == b"newer"


def test_the_same_seed_damages_the_same_place(state):
    file, found = state / "notes.db", []
    for _ in range(2):
        with started(*SLEEPS) as who:
            _, act = injected(corrupt.INJECTOR, Corrupt(path=str(file), for_ms=LONG, bits=4), who, state)
            found.append(file.read_bytes())
            assert corrupt.INJECTOR.heal(act.records[0]).verified
    assert found[0] == found[1]


def test_what_the_program_wrote_meanwhile_stays(state):
    file = state / "notes.db"
    with started(*SLEEPS) as who:
        _, act = injected(corrupt.INJECTOR, Corrupt(path=str(file), for_ms=LONG), who, state)
        file.write_bytes(b"the program's own")
        healing = corrupt.INJECTOR.heal(act.records[0])
    assert healing.verified
    assert "written by the program since" in healing.note
    assert file.read_bytes() == b"the program's own"


@pytest.mark.parametrize("cut", [0, 1, 5_000, 10_000])
def test_a_write_of_ours_that_was_cut_in_the_middle_is_undone(state, cut):
    file = state / "notes.db"
    was = file.read_bytes()
    with started(*SLEEPS) as who:
        _, act = injected(corrupt.INJECTOR, Corrupt(path=str(file), for_ms=LONG, do="zero"), who, state)
        made = file.read_bytes()
        file.write_bytes(made[:cut] + was[cut:])
        assert corrupt.INJECTOR.heal(act.records[0]).verified
    assert file.read_bytes() == was


def test_files_of_nobody_else_are_touched(state, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"somebody's")
    (state / "link").symlink_to(foreign)
    with started(*SLEEPS) as who:
        for path in (str(foreign), "state/link", "state/nothing", "state/../foreign"):
            outcome, act = injected(corrupt.INJECTOR, Corrupt(path=path, for_ms=LONG), who, state)
            assert (outcome.result, act.records) == ("missed", ()), path
    assert foreign.read_bytes() == b"somebody's"


def test_options_that_do_not_belong_together_are_refused_beforehand():
    assert "swap needs `other`" in corrupt.INJECTOR.lacking(Corrupt(path="x", for_ms=LONG, do="swap"))


# --- when we die, or stand still, in the middle ---------------------------------------------------------------------


def test_nothing_of_ours_stays_where_we_die_before_anything_was_set_aside(state):
    def die(moment, step):
        if (moment, step.what) == ("after", "intend"):
            raise InterruptedError

    fault = Corrupt(path=str(state / "notes.db"), for_ms=LONG)
    before = look(state / "notes.db")
    with started(*SLEEPS) as who:
        permit = a_permit(fault, who)
        act = RecordingAct(permit, env={"CROUPIER_STATE": str(state)}, cwd=str(state.parent), on_step=die)
        with pytest.raises(InterruptedError):
            corrupt.INJECTOR.inject(permit, fault, act)
        (state.parent / "set-aside" / f"{act.records[0].key}.0.made.part").write_bytes(b"half of")
        assert corrupt.INJECTOR.heal(act.records[0]).verified
    assert look(state / "notes.db") == before
    assert list((state.parent / "set-aside").iterdir()) == []


def test_a_lost_file_that_was_brought_back_by_half_is_brought_back_whole(state):
    file = state / "notes.db"
    before = look(file)
    with started(*SLEEPS) as who:
        outcome, act = injected(corrupt.INJECTOR, Corrupt(path=str(file), for_ms=LONG, do="lose"), who, state)
        assert (outcome.result, file.exists()) == ("landed", False)
        (record,) = act.records
        (state / f".notes.db.croupier-{record.key}.0.1").write_bytes(before[0][:100])
        assert corrupt.INJECTOR.heal(record).verified
    assert look(file) == before
    assert sorted(one.name for one in state.iterdir()) == ["notes.db", "other.db"]


@may_mount
def test_a_lost_file_comes_back_though_the_disk_is_full(volume):
    file = volume / "state" / "notes.db"
    file.parent.mkdir()
    file.write_bytes(b"x" * 9_000)
    before = look(file)
    with started(*SLEEPS) as who:
        fault = Corrupt(path=str(file), for_ms=LONG, do="lose")
        outcome, act = injected(corrupt.INJECTOR, fault, who, file.parent)
        assert outcome.result == "landed"
        with pytest.raises(OSError, match="No space left"):
            (volume / "more").write_bytes(bytes(1 << 20))
        assert corrupt.INJECTOR.heal(act.records[0]).verified
    assert look(file) == before


def test_a_file_that_was_healed_by_half_is_still_ours_to_heal(state):
    file = state / "notes.db"
    before = look(file)
    with started(*SLEEPS) as who:
        _, act = injected(corrupt.INJECTOR, Corrupt(path=str(file), for_ms=LONG, bits=4_000), who, state)
        made = file.read_bytes()
        half = len(made) // 2
        with file.open("r+b") as writer:
            writer.write(before[0][:half])
        assert corrupt.INJECTOR.heal(act.records[0]).verified
    assert look(file) == before


def test_who_stood_still_until_the_fault_was_healed_does_no_damage_afterwards(state, monkeypatch):
    file = state / "notes.db"
    before, put = look(file), corrupt._put
    with started(*SLEEPS) as who:
        fault = Corrupt(path=str(file), for_ms=LONG)
        permit = a_permit(fault, who)
        act = RecordingAct(permit, env={"CROUPIER_STATE": str(state)}, cwd=str(state.parent))

        def late(path, data):
            monkeypatch.setattr(corrupt, "_put", put)
            assert corrupt.INJECTOR.heal(act.records[0]).verified
            put(path, data)

        monkeypatch.setattr(corrupt, "_put", late)
        outcome = corrupt.INJECTOR.inject(permit, fault, act)
    assert (outcome.result, "its time was over" in outcome.detail) == ("missed", True)
    assert look(file) == before
