"""The fingerprint of the host shows what was done to a process, a file, a mount; and nothing that others do."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hands import SLEEPS, eventually, python, started

from croupier.model.fingerprint import Fingerprint, Scope, difference
from croupier.model.target import Identity
from croupier.system import fingerprint, freezer, mounts, procs, quota, signals

may_mount = pytest.mark.skipif(bool(mounts.lacking()), reason=mounts.lacking() or "mounts work")
may_freeze = pytest.mark.skipif(bool(freezer.lacking()), reason=freezer.lacking() or "the freezer works")


def a_scope(tmp_path: Path, *who: Identity, files: tuple[str, ...] = ()) -> Scope:
    return Scope(run=f"fingerprint-{os.getpid()}", run_dir=str(tmp_path / "run"), processes=who, files=files)


def since(before: Fingerprint, *touched: Identity) -> tuple[str, ...]:
    return difference(before, fingerprint.take(before.scope, touched))


def test_what_is_done_to_a_process_is_seen_and_that_it_was_undone_as_well(tmp_path: Path) -> None:
    with started(*SLEEPS) as who:
        before = fingerprint.take(a_scope(tmp_path, who))
        assert since(before) == ()
        soft, hard = resource.prlimit(who.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(who.pid, resource.RLIMIT_NOFILE, (17, hard))
        os.setpriority(os.PRIO_PROCESS, who.pid, 5)
        signals.send(who, "STOP")
        assert eventually(lambda: len(since(before)) == 3)
        said = " / ".join(since(before))
        assert "state was runs, and is stopped" in said
        assert f"Max open files was {soft} ({hard}), and is 17 ({hard})" in said
        assert "scheduling was 0 0 0, and is 5 0 0" in said

        signals.send(who, "CONT")
        resource.prlimit(who.pid, resource.RLIMIT_NOFILE, (soft, hard))
        os.setpriority(os.PRIO_PROCESS, who.pid, 0)
        assert eventually(lambda: since(before) == ())


@may_freeze
def test_a_cgroup_of_ours_and_who_is_in_it_are_seen(tmp_path: Path) -> None:
    with started(*SLEEPS) as who:
        before = fingerprint.take(a_scope(tmp_path, who))
        cell = freezer.cell_for(who.pid, f"{who.pid}-{who.started}-1.1")
        assert cell is not None
        home = freezer.home_of(who.pid, cell.version)
        freezer.confine(cell, [who])
        freezer.freeze(cell)
        assert eventually(lambda: any("state was runs, and is frozen" in one for one in since(before)))
        said = since(before)
        assert f"a cgroup of ours is there: {cell.path}" in said
        assert any("cgroups was" in one for one in said)
        assert freezer.dissolve(cell, {who: home}) == ""
        assert since(before) == ()


@pytest.mark.skipif(bool(quota.lacking()), reason=quota.lacking() or "quotas work")
def test_a_cgroup_that_is_named_after_somebody_else_is_not_ours(tmp_path: Path) -> None:
    with started(*SLEEPS) as who, started(*SLEEPS) as other:
        before = fingerprint.take(a_scope(tmp_path, who))
        cell = quota.cell_for(other.pid, f"{other.pid}-{other.started}-1.1-cpu")
        assert cell is not None
        freezer.confine(cell, [])
        assert since(before) == ()
        # It is, once the round has touched that process.
        assert since(before, other) == (f"a cgroup of ours is there: {cell.path}",)
        assert freezer.dissolve(cell, controller=quota.CONTROLLER) == ""


def test_files_are_compared_by_content_mode_and_time(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    (place / "a").write_bytes(b"abc")
    (place / "b").symlink_to("a")
    before = fingerprint.take(a_scope(tmp_path, files=(str(place),)))
    os.utime(place / "a", ns=(1, 1))
    (place / "b").unlink()
    (place / "c").write_bytes(b"")
    said = since(before)
    assert [one.split(" ")[0] for one in said] == [f"{place}/a:", f"{place}/b", f"{place}/c"]
    assert "mtime ns was" in said[0]
    (place / "a").write_bytes(b"abd")
    assert any("digest was" in one for one in since(before))


def test_whoever_carries_the_mark_of_the_round_is_left_behind(tmp_path: Path) -> None:
    scope = a_scope(tmp_path)
    before = fingerprint.take(scope)
    with started(*SLEEPS, env={"CROUPIER_RUN": scope.run}) as who, started(*SLEEPS, env={"CROUPIER_RUN": "another"}):
        assert since(before) == (f"a process of the round is alive: {who}",)
    assert since(before) == ()


def test_what_stands_aside_in_the_run_directory_is_left_behind(tmp_path: Path) -> None:
    before = fingerprint.take(a_scope(tmp_path))
    aside = tmp_path / "run" / "set-aside"
    aside.mkdir(parents=True)
    assert since(before) == ()
    (aside / "1.1").touch()
    assert since(before) == (f"a file of ours is there: {aside / '1.1'}",)


@may_mount
def test_a_mount_below_the_run_directory_is_left_behind(tmp_path: Path) -> None:
    before = fingerprint.take(a_scope(tmp_path))
    volume = tmp_path / "run" / "volumes" / "data"
    volume.mkdir(parents=True)
    mounts.mount_tmpfs(str(volume), 1 << 16)
    try:
        assert since(before) == (f"a mount of the round is there: {volume} (tmpfs of croupier)",)
    finally:
        mounts.detach(str(volume))


def test_where_a_process_listens_is_seen(tmp_path: Path) -> None:
    listens = python(
        "import socket, sys\none = socket.create_server(('127.0.0.1', 0))\n"
        "two = socket.socket(socket.AF_UNIX); two.bind(sys.argv[1]); two.listen()\n"
        "print(one.getsockname()[1], flush=True)\nsys.stdin.read()"
    )
    argv = [*listens, str(tmp_path / "sock")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        port = int(process.stdout.readline())
        who = procs.identity(process.pid)
        assert who is not None
        seen = fingerprint.process_seen(who)
        assert seen is not None
        assert seen.listens == (f"tcp {port}", f"unix {tmp_path / 'sock'}")
        process.stdin.close()
    assert fingerprint.process_seen(who) is None


def test_a_network_of_its_own_is_looked_at_as_well(tmp_path: Path) -> None:
    lo_up = ("unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 300")
    if os.getuid() != 0 or not shutil.which("ip") or subprocess.run(["unshare", "--net", "true"]).returncode:
        pytest.skip("this machine lets nobody make a network of its own")
    with started(*lo_up, ready=b"up") as who:
        taken = fingerprint.take(a_scope(tmp_path, who))
        (seen,) = taken.processes
        own = seen.namespaces["net"]
        assert own != str(Path("/proc/self/ns/net").readlink())
        if any(name.startswith("this host ") for name in taken.traffic):
            assert f"{own} lo" in taken.traffic
        assert since(taken) == ()


def test_a_fingerprint_is_data(tmp_path: Path) -> None:
    with started(sys.executable, "-c", "input()") as who, socket.create_server(("127.0.0.1", 0)):
        taken = fingerprint.take(a_scope(tmp_path, who))
    assert msgspec.json.decode(msgspec.json.encode(taken), type=Fingerprint) == taken
    assert taken.clock_offset_us > 0
