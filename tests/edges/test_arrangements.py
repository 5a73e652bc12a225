"""Arrangements: what a round sets up around its processes is there, and gone afterwards, whoever died."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hands import eventually

from croupier.arrange.volume import ARRANGER
from croupier.built_in import arranger, healer, injector
from croupier.inject import helpers
from croupier.model.arrangement import ARRANGEMENTS, Volume
from croupier.model.faults import FAULTS
from croupier.model.target import Identity
from croupier.model.undo import UndoRecord
from croupier.model.units import Bytes
from croupier.system import mounts, procs
from croupier.system.clock import now_us

may_mount = pytest.mark.skipif(bool(mounts.lacking()), reason=mounts.lacking() or "mounts work")
SMALL = Volume(size_bytes=Bytes(1 << 20))


class SomeHands:
    """Hands that keep records in memory."""

    def __init__(self, folder: Path) -> None:
        self.env = dict(os.environ)
        self.folder = str(folder)
        self.deadline_us = now_us() + 60_000_000
        self.keeper = procs.identity(os.getpid())
        self.records: list[UndoRecord] = []
        self.done: list[str] = []

    def intend(self, record: UndoRecord) -> None:
        assert not mounts.is_mounted(record.data["path"])
        self.records.append(record)

    def applied(self, key: str) -> None:
        self.done.append(key)

    def start(self, name: str, argv: list[str]) -> Identity:
        raise AssertionError("a volume needs no helper")


def test_everything_that_is_built_in_can_be_found_by_its_name():
    for fault in FAULTS:
        assert injector(fault.kind).kind == fault.kind
        assert healer(fault.kind) is injector(fault.kind)
    for arrangement in ARRANGEMENTS:
        assert arranger(arrangement.kind).kind == arrangement.kind
        assert healer(arrangement.kind) is arranger(arrangement.kind)
    assert healer("os") is None


@may_mount
def test_a_volume_holds_what_fits_and_no_more(tmp_path):
    hands = SomeHands(tmp_path)
    path = ARRANGER.stands_for("data", SMALL, hands.folder)
    ARRANGER.set_up("data", SMALL, path, hands)
    try:
        Path(path, "fits").write_bytes(bytes(500_000))
        with pytest.raises(OSError, match="No space left"):
            Path(path, "too much").write_bytes(bytes(1_000_000))
        assert hands.done == ["volume.data"]
    finally:
        healing = ARRANGER.heal(hands.records[0])
    assert healing.verified
    assert not mounts.is_mounted(path)
    assert list(Path(path).iterdir()) == []


@may_mount
def test_a_volume_that_is_still_used_is_taken_away_all_the_same(tmp_path):
    hands = SomeHands(tmp_path)
    path = ARRANGER.stands_for("data", SMALL, hands.folder)
    ARRANGER.set_up("data", SMALL, path, hands)
    with Path(path, "open").open("wb") as file:
        assert ARRANGER.heal(hands.records[0]).verified
        assert not mounts.is_mounted(path)
        file.write(b"whoever has it open keeps it")
    again = ARRANGER.heal(hands.records[0])
    assert again.verified
    assert "nothing is mounted" in again.note


@may_mount
def test_a_foreign_mount_is_never_taken_for_ours(tmp_path):
    script = (
        "import os, subprocess, sys; from croupier.arrange.volume import ARRANGER\n"
        "from croupier.model.undo import UndoRecord; from croupier.system import procs\n"
        "subprocess.run(['mount', '-t', 'tmpfs', 'somebody', sys.argv[1]], check=True)\n"
        "record = UndoRecord(key='volume.x', fault='volume', who=procs.identity(os.getpid()),"
        " data={'path': sys.argv[1]}, deadline_us=0)\n"
        "print(ARRANGER.heal(record).note, os.path.ismount(sys.argv[1]))\n"
    )
    # In a mount namespace of its own: what is mounted there is gone with it.
    said = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert said.stdout.strip() == f"nothing is mounted on {tmp_path} True", said.stderr


def a_record(**data):
    own = procs.identity(os.getpid())
    return UndoRecord(key="1.1", fault="kill", who=own, data=data, deadline_us=0)


def test_a_helper_is_found_by_its_mark_before_the_record_names_it():
    env = {"CROUPIER_RUN": f"a-run-of-{os.getpid()}"}
    marked = {**os.environ, helpers.VARIABLE: helpers.mark(env["CROUPIER_RUN"], "1.1")}
    with subprocess.Popen(["sleep", "60"], env=marked) as helper, subprocess.Popen(["sleep", "60"]) as other:
        try:
            record = a_record(**helpers.marked(env, "1.1"))
            who = procs.identity(helper.pid)
            # A program that has just begun to run has no environment to read for a moment.
            assert eventually(lambda: helpers.of(record) == [who])
            named = helpers.naming(record, who)
            assert named.data["helpers"] == [[who.pid, who.started]]
            assert helpers.of(named) == [who]
            assert helpers.end(record) == []
            assert helper.wait(5) == -9
            assert helpers.end(record) == []
            assert other.poll() is None
        finally:
            helper.kill()
            other.kill()
