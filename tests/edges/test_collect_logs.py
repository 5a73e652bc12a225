"""Logs and the ledger: whatever bytes come, in whatever pieces, and whatever the disk does."""

from __future__ import annotations

import itertools
import os
import re
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.collect.ledger import AckLedger
from croupier.collect.logs import LONGEST_LINE, LogSink, read_log
from croupier.collect.redact import Redactor

PLAIN = Redactor({})
MANY = 1 << 30
fresh = itertools.count()


def lines_of(path: Path) -> list[str]:
    return [line for _, line in read_log(path)]


# Lines


@given(
    data=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"ready", b"\xff\xfe", "ß→".encode(), b"\0", b" "])).map(
        b"".join
    )
    | st.binary(max_size=400),
    cuts=st.lists(st.integers(0, 400)),
)
def test_however_the_bytes_are_split_the_lines_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "splits"
    folder.mkdir(exist_ok=True)

    def outcome(*chunks: bytes) -> tuple[object, ...]:
        sink = LogSink(folder / f"{next(fresh)}.log", PLAIN, MANY)
        heard: list[str] = []
        sink.listeners.append(lambda line, at_us: heard.append(line))
        ready = sink.watch("ready")
        for chunk in chunks:
            sink.feed(chunk, 1)
        sink.close()
        written = sink.path.read_bytes() if sink.path.exists() else b""
        return heard, sink.tail(), ready.count, sink.lines, written

    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole = outcome(data)
    assert outcome(*(data[start:end] for start, end in itertools.pairwise(edges))) == whole
    assert outcome(*(bytes([one]) for one in data)) == whole
    expected = data.split(b"\n")
    assert whole[0] == [line.removesuffix(b"\r").decode(errors="replace") for line in expected[:-1]]
    assert whole[3] == len(expected) - (not expected[-1])


def test_a_line_stands_with_the_time_it_came(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "web.out.log", PLAIN, MANY)
    sink.feed(b"starting\nrea", 12_345_678)
    sink.feed(b"dy\n", 12_500_001)
    sink.close()
    assert sink.path.read_text() == "+12.345678 starting\n+12.500001 ready\n"
    assert list(read_log(sink.path)) == [(12_345_678, "starting"), (12_500_001, "ready")]


def test_a_last_line_without_an_end_is_kept_and_not_passed_on(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "log", PLAIN, MANY)
    heard: list[str] = []
    sink.listeners.append(lambda line, at_us: heard.append(line))
    sink.feed(b"ack 17\nack 18", 1)
    sink.end(2)
    sink.feed(b"of the next start\n", 3)
    sink.close()
    assert heard == ["ack 17", "of the next start"]
    assert lines_of(sink.path) == ["ack 17", "ack 18", "of the next start"]


def test_a_line_in_the_file_is_a_line_for_every_reader(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "log", PLAIN, MANY)
    sink.feed(b"10%\r20%\r30%\ndone\n", 0)
    sink.close()
    assert sink.path.read_text().splitlines() == ["+0.000000 10%␍20%␍30%", "+0.000000 done"]


def test_a_line_without_end_is_bounded_in_memory_and_on_disk(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "log", PLAIN, MANY)
    for _ in range(64):
        sink.feed(b"x" * 65_536, 1)
    assert len(sink._held) <= LONGEST_LINE
    sink.feed(b"\nnext\n", 2)
    sink.close()
    long, after = lines_of(sink.path)
    assert len(long) < LONGEST_LINE + 100
    assert long.endswith("… (cut: the line has 4194304 bytes)")
    assert after == "next"


def test_a_secret_at_the_cut_of_a_long_line_is_not_shown_by_half(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "log", Redactor({"API_KEY": "s3cret-s3cret-s3cret"}), MANY)
    sink.feed(b"x" * (LONGEST_LINE - 10) + b"s3cret-s3cret-s3cret" + b"\n", 1)
    sink.close()
    assert "s3cret" not in sink.path.read_text()


def test_secrets_reach_neither_the_file_nor_the_tail(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "log", Redactor({"API_KEY": "s3cret-value"}), MANY)
    heard: list[str] = []
    sink.listeners.append(lambda line, at_us: heard.append(line))
    for chunk in (b"key=s3cr", b"et-value\n"):
        sink.feed(chunk, 1)
    sink.close()
    assert lines_of(sink.path) == ["key=‹redacted›"]
    assert sink.tail() == ("key=‹redacted›",)
    # Triggers and the ledger see what was printed.
    assert heard == ["key=s3cret-value"]


# Counting


def test_every_matching_line_is_counted_however_many_there_are(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "log", PLAIN, MANY)
    errors = sink.watch("^error")
    for nth in range(20_000):
        sink.feed(f"{'error' if nth % 2 else 'fine'} {nth}\n".encode(), nth)
    assert errors.count == sink.matches("^error") == 10_000
    assert len(sink.tail()) <= 1_000
    assert sink.tail()[-1] == "error 19999"
    assert sink.watch("^error") is errors


def test_who_comes_late_counts_what_is_still_in_memory(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "log", PLAIN, MANY)
    sink.feed(b"ready\nready\n", 1)
    assert sink.matches("ready") == 2
    sink.feed(b"ready\n", 2)
    assert sink.matches("ready") == 3
    with pytest.raises(re.error):
        sink.matches("(")


# The disk


def test_a_log_is_rotated_and_keeps_the_newest(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "log", PLAIN, 10_000)
    for nth in range(5_000):
        sink.feed(f"line {nth:05}\n".encode(), nth)
    sink.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["log", "log.1"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000
    kept = lines_of(sink.path)
    assert kept[-1] == "line 04999"
    assert kept == [f"line {nth:05}" for nth in range(5_000 - len(kept), 5_000)]


def test_a_full_disk_ends_the_writing_with_one_note_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    sink = LogSink(tmp_path / "log", PLAIN, MANY)
    notes: list[str] = []
    sink.on_trouble = notes.append
    heard: list[str] = []
    sink.listeners.append(lambda line, at_us: heard.append(line))
    ready = sink.watch("ready")
    for nth in range(100):
        sink.feed(b"ready\n", nth)
    sink.close()
    sink.close()
    assert notes == [sink.trouble] == ["the log log could not be written further: No space left on device"]
    assert ready.count == len(heard) == 100
    assert sink.tail() == ("ready",) * 100


def test_a_log_in_a_folder_that_went_away_is_a_note_as_well(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "gone" / "log", PLAIN, MANY)
    sink.feed(b"ready\n", 1)
    sink.close()
    assert "No such file" in sink.trouble


def test_half_a_line_on_a_disk_that_ran_full_is_not_read_back(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("+0.000001 whole\n+0.0000")
    (tmp_path / "log.1").write_text("+0.000000 before\n")
    assert list(read_log(tmp_path / "log")) == [(0, "before"), (1, "whole")]
    assert list(read_log(tmp_path / "none")) == []


# The ledger


def test_acknowledgements_are_in_the_file_at_once(tmp_path: Path) -> None:
    ledger = AckLedger(tmp_path / "acks.txt")
    sink = LogSink(tmp_path / "log", PLAIN, MANY)
    sink.listeners.append(lambda line, at_us: ledger.take(line))
    sink.feed(b"connecting\nack note-1\nack note-2 and more\nack\nack \nnack 3\n ack 4\nack note", 1)
    assert (tmp_path / "acks.txt").read_text() == "ack note-1\nack note-2\n"
    sink.end(2)
    ledger.close()
    ledger.close()
    assert (ledger.count, ledger.trouble) == (2, "")
    # A workload that was killed in the middle of a line promised nothing by it.
    assert (tmp_path / "acks.txt").read_text() == "ack note-1\nack note-2\n"


def test_an_id_that_was_acknowledged_twice_is_told(tmp_path: Path) -> None:
    ledger = AckLedger(tmp_path / "acks.txt")
    assert [ledger.take(f"ack {one}") for one in "abacaa"] == [True] * 6
    assert (ledger.count, ledger.repeats, ledger.repeated) == (6, 3, {"a": 3})
    assert ledger.said_of_repeats() == "3 acknowledgements were of an id that had been acknowledged before (a)"
    assert not ledger.take("done")
    ledger.close()


def test_the_ledger_stays_small_however_many_ids_come_and_come_again(tmp_path: Path) -> None:
    ledger = AckLedger(tmp_path / "acks.txt")
    tracemalloc.start()
    try:
        for nth in range(40_000):
            ledger.take(f"ack note-{nth % 20_000:08}")
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        ledger.close()
    assert used / 20_000 < 40, "bytes an id; the shelves themselves are most of it"
    assert ledger.repeats == 20_000
    assert ledger.said_of_repeats().endswith(
        "(note-00000000, note-00000001, note-00000002, note-00000003, note-00000004, …)"
    )


def test_a_ledger_on_a_full_disk_says_so_and_goes_on_counting(tmp_path: Path) -> None:
    (tmp_path / "acks.txt").symlink_to("/dev/full")
    ledger = AckLedger(tmp_path / "acks.txt")
    for nth in range(10):
        ledger.take(f"ack {nth}")
    ledger.close()
    assert ledger.count == 10
    assert ledger.trouble == "the ledger could not be written after 0 acknowledgements: No space left on device"


def test_no_half_id_is_left_where_a_disk_runs_full(tmp_path: Path) -> None:
    """In a process of its own, with a limit on the size of files as the full disk."""
    program = (
        "from pathlib import Path; from croupier.collect.ledger import AckLedger\n"
        f"ledger = AckLedger(Path({os.fspath(tmp_path / 'acks.txt')!r}))\n"
        "for nth in range(100): ledger.take(f'ack note-{nth:03}')\n"
        "print(ledger.trouble)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50)),
    )
    assert ended.stdout == (
        "the ledger could not be written after 3 acknowledgements: there was only room for a part of a line\n"
    )
    assert (tmp_path / "acks.txt").read_text() == "".join(f"ack note-{nth:03}\n" for nth in range(3))
