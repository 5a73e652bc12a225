"""Runs on disk: what is written is there before the act, and what was cut still reads."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from croupier.model import journal as j
from croupier.model.errors import HarnessError, ReplayError
from croupier.store import JournalWriter, find_run, list_runs, new_run_dir, read_journal
from croupier.store.runs import slug, write_whole
from croupier.system.clock import now_us

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def writer(tmp_path: Path) -> JournalWriter:
    return JournalWriter(tmp_path / "journal.jsonl", now_us())


def test_an_event_is_with_the_kernel_when_record_returns(writer):
    writer.record(j.Noted(text="before the act"))
    assert [one.text for one in read_journal(writer.path)] == ["before the act"]


def test_time_in_a_journal_never_runs_backwards_whoever_writes(writer):
    def write() -> None:
        for number in range(200):
            writer.record(j.Due(injection=number))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    moments = [one.at_us for one in read_journal(writer.path)]
    assert len(moments) == 800 and moments == sorted(moments)


def test_a_journal_cut_at_any_byte_reads_up_to_the_last_whole_line(writer, tmp_path):
    for number in range(3):
        writer.record(j.Noted(text=f"note {number}: ünïcode"))
    whole = writer.path.read_bytes()
    ends = [at for at, byte in enumerate(whole, start=1) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(whole[:cut])
        lines = sum(end <= cut for end in ends)
        # A line that lacks nothing but its newline says all it had to say.
        assert len(list(read_journal(torn))) in (lines, lines + (cut + 1 in ends))


def test_a_line_in_the_middle_that_is_no_event_is_an_error_with_its_line(writer, tmp_path):
    writer.record(j.Noted(text="one"))
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_bytes(b'{"event":"note","text":"a"}\n{"event":"nonsense"}\n' + writer.path.read_bytes())
    with pytest.raises(ReplayError) as caught:
        list(read_journal(spoilt))
    assert caught.value.at == f"{spoilt}:2" and caught.value.exit_code == 2


def test_a_journal_of_another_version_is_refused_by_its_number(writer):
    writer.path.write_bytes(
        b'{"event":"run-started","journal":99,"run":"r","title":"t","hypothesis":"h","seed":0,"blast_radius":"local",'
        b'"live":false,"rehearsal":false,"croupier":"9","python":"3","os":"o","host":"h","boot":"b","user":"u","pid":1,'
        b'"argv":[],"experiment_file":"f","experiment_digest":"d","plan_digest":"p","environment_digest":"e",'
        b'"wall_utc":"w"}\n'
    )
    with pytest.raises(ReplayError, match="version 99"):
        list(read_journal(writer.path))


def test_a_journal_on_a_full_disk_is_an_error_and_not_a_silent_gap():
    full = JournalWriter.__new__(JournalWriter)
    full.zero_us, full.path, full._lock = 0, Path("/dev/full"), threading.Lock()
    full._fd = __import__("os").open("/dev/full", __import__("os").O_WRONLY)
    with pytest.raises(HarnessError, match="cannot be written"):
        full.record(j.Noted(text="x"))


def test_two_rounds_in_the_same_second_get_directories_of_their_own(tmp_path):
    first = new_run_dir(tmp_path, "Notes survive!", 0, NOON)
    second = new_run_dir(tmp_path, "Notes survive!", 0, NOON)
    assert first.name == "notes-survive/2026-01-02T120000Z-0"
    assert first.path != second.path
    assert (tmp_path / "notes-survive" / "latest").resolve() == second.path


def test_a_run_is_found_by_path_by_name_by_experiment_and_as_the_latest(tmp_path):
    run = new_run_dir(tmp_path, "a", 7, NOON)
    JournalWriter(run.journal, now_us()).record(j.Noted(text="x"))
    for asked in (str(run.path), run.name, "a", "latest"):
        assert find_run(asked, tmp_path).path == run.path
    with pytest.raises(ReplayError, match="no run is stored"):
        find_run("b", tmp_path)


def test_runs_that_were_cut_or_spoilt_are_listed_as_such(tmp_path):
    cut = new_run_dir(tmp_path, "cut", 1, NOON)
    cut.journal.write_bytes(b"")
    spoilt = new_run_dir(tmp_path, "spoilt", 2, NOON)
    spoilt.journal.write_bytes(b"nonsense\nnonsense\n")
    listed = {one.name.split("/")[0]: one for one in list_runs(tmp_path)}
    assert listed["cut"].broke == "the journal is empty"
    assert "no event" in listed["spoilt"].broke and listed["spoilt"].verdict == "-"


@pytest.mark.parametrize(
    ("title", "name"), [("Ünï çode / ../x", "uni-code-x"), ("***", "experiment"), ("a" * 99, "a" * 48)]
)
def test_a_title_makes_a_safe_folder_name(title, name):
    assert slug(title) == name


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "verdict.json"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and [one.name for one in tmp_path.iterdir()] == ["verdict.json"]


def test_an_unwritable_place_for_runs_is_said_with_a_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError) as caught:
        new_run_dir(tmp_path / "file", "t", 0, NOON)
    assert "--out" in caught.value.hint
