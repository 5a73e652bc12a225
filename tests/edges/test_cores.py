"""Core dumps of processes that crash here, and of machines that keep them elsewhere."""

from __future__ import annotations

import os
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from croupier.collect import cores
from croupier.collect.elf import read_notes
from croupier.collect.redact import Redactor

PATTERN = Path("/proc/sys/kernel/core_pattern").read_text().strip()
DUMPS_HERE = (
    not PATTERN.startswith(("|", "@", "/")) and PATTERN != "" and resource.getrlimit(resource.RLIMIT_CORE)[1] != 0
)
dumping = pytest.mark.skipif(not DUMPS_HERE, reason=f"this machine keeps dumps elsewhere, or none: {PATTERN!r}")


def crash(cwd: Path, code: str = "import os; os.abort()") -> int:
    """Let a process of this Python dump core in `cwd`; its pid."""

    def allow() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    with subprocess.Popen([sys.executable, "-c", code], cwd=cwd, preexec_fn=allow, stderr=subprocess.DEVNULL) as one:
        assert one.wait() == -6
    return one.pid


@pytest.fixture
def nothing_changed() -> Iterator[None]:
    yield
    assert Path("/proc/sys/kernel/core_pattern").read_text().strip() == PATTERN


@pytest.mark.needs("gdb")
@dumping
def test_a_dump_is_kept_with_its_back_trace(tmp_path: Path, nothing_changed: None) -> None:
    work, into = tmp_path / "work", tmp_path / "artifacts" / "cores"
    work.mkdir()
    pid = crash(work)
    said = cores.keep_core(pid=pid, exe=sys.executable, cwd=work, into=into)
    assert said == f"core dump kept: cores/{pid}.core; back-trace: cores/{pid}.bt.txt"
    assert list(work.iterdir()) == []
    assert sorted(path.name for path in into.iterdir()) == [f"{pid}.bt.txt", f"{pid}.core"]
    assert (into / f"{pid}.core").stat().st_mode & 0o077 == 0
    assert "abort" in (into / f"{pid}.bt.txt").read_text()


@dumping
def test_a_dump_tells_whose_it_is_and_what_ran(tmp_path: Path) -> None:
    pid = crash(tmp_path)
    (dump,) = tmp_path.iterdir()
    notes = read_notes(dump)
    assert notes is not None
    assert notes.pid == pid
    assert Path(notes.program).samefile(sys.executable)


@dumping
def test_the_dump_of_another_process_is_left_where_it_is(tmp_path: Path) -> None:
    pid = crash(tmp_path)
    (dump,) = tmp_path.iterdir()
    said = cores.keep_core(pid=pid + 1, exe=sys.executable, cwd=tmp_path, into=tmp_path / "cores", pattern=dump.name)
    assert "there is no such dump" in said
    assert dump.exists()
    assert not (tmp_path / "cores").exists()


@pytest.mark.needs("gdb")
@dumping
def test_a_dump_is_found_by_a_pattern_with_specifiers(tmp_path: Path) -> None:
    pid = crash(tmp_path)
    (dump,) = tmp_path.iterdir()
    (tmp_path / "dumps of x").mkdir()
    name = f"core-python3.{pid}.{int(time.time())}.100%"
    dump.rename(tmp_path / "dumps of x" / name)
    (tmp_path / "dumps of x" / f"core-{pid}").symlink_to(name)
    redactor = Redactor({}, ["abort"])
    said = cores.keep_core(
        pid=pid,
        exe="python3",
        cwd=Path("/nowhere"),
        into=tmp_path / "cores",
        pattern=f"{tmp_path}/dumps of x/core-%e.%p.%t.100%%",
        redactor=redactor,
    )
    assert "back-trace" in said
    assert "abort" not in (tmp_path / "cores" / f"{pid}.bt.txt").read_text()


@dumping
def test_gdb_gets_no_more_time_than_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = crash(tmp_path)
    slow = tmp_path / "bin" / "gdb"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\necho looking\nsleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    began = time.monotonic()
    said = cores.keep_core(pid=pid, exe=sys.executable, cwd=tmp_path, into=tmp_path / "cores", gdb_within_ms=300)
    assert time.monotonic() - began < 5
    assert "gdb was ended after 300 ms" in said
    assert (tmp_path / "cores" / f"{pid}.bt.txt").read_text() == "looking\n"


@dumping
def test_without_gdb_the_dump_is_kept_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = crash(tmp_path)
    monkeypatch.setattr(cores.shutil, "which", lambda *_, **__: None)
    said = cores.keep_core(pid=pid, exe=sys.executable, cwd=tmp_path, into=tmp_path / "cores")
    assert said == f"core dump kept: cores/{pid}.core; no back-trace, since gdb is not installed"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("|/usr/lib/systemd/systemd-coredump %P %u", "`coredumpctl info 7` shows it"),
        ("|/usr/share/apport/apport -p%p", "hands core dumps to /usr/share/apport/apport"),
        ("@/run/coredump.socket", "to a socket (/run/coredump.socket)"),
        ("", "keeps no core dumps"),
        ("core.%p", "there is no such dump at"),
    ],
)
def test_a_machine_that_keeps_dumps_elsewhere_is_said_so(pattern: str, said: str, tmp_path: Path) -> None:
    told = cores.keep_core(pid=7, exe="x", cwd=tmp_path, into=tmp_path / "cores", pattern=pattern)
    assert said in told
    assert list(tmp_path.iterdir()) == []


def test_limits_that_forbid_dumps_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores.resource, "getrlimit", lambda _: (0, 0))
    assert "hard limit is 0" in cores.why_no_cores()
    monkeypatch.setattr(cores.resource, "getrlimit", lambda _: (0, -1))
    monkeypatch.setattr(cores, "_machine_pattern", lambda: "core")
    assert cores.why_no_cores() == ""
    monkeypatch.setattr(cores, "_machine_pattern", lambda: "|/bin/handler")
    assert "/bin/handler" in cores.why_no_cores()


def test_a_dump_is_copied_with_its_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.write(b"head")
        file.seek(50 << 20)
        file.write(b"middle" * 300_000)
        file.truncate(100 << 20)
    cores._copy(source, target)
    assert target.stat().st_size == 100 << 20
    assert target.stat().st_blocks * 512 < 10 << 20
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o077 == 0


def test_files_that_are_no_dumps_are_not_taken_for_some(tmp_path: Path) -> None:
    assert read_notes(Path(sys.executable)) is None
    assert read_notes(tmp_path / "none") is None
    assert read_notes(tmp_path) is None
    for name, content in {
        "text": b"core business" * 10,
        "short": b"\x7fELF\x02\x01",
        "torn": b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<H", 4) + b"\xff" * 46,
    }.items():
        (tmp_path / name).write_bytes(content)
        notes = read_notes(tmp_path / name)
        assert notes is None or notes.pid == 0
    assert shutil.which("python3")
