"""The levels below seccomp and ptrace: each finds what it can see, and none claims what it did not see."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from croupier.explore import explore
from croupier.model.errors import ExperimentError
from croupier.store.searches import SearchDir
from croupier.trace import fuse
from croupier.trace.levels import best, levels, refuse_level

no_fuse = pytest.mark.skipif(bool(fuse.lacking()), reason=fuse.lacking() or "FUSE works")
SAVES = """
import json, os, sys, time
from pathlib import Path
file = Path(os.environ["CROUPIER_STATE"]) / "notes.json"
for count in range(1, 4):
    if "--safe" in sys.argv:
        file.with_suffix(".tmp").write_text(json.dumps(list(range(count))))
        file.with_suffix(".tmp").replace(file)
    else:
        with file.open("w") as out:
            json.dump(list(range(count)), out)
            out.flush()
            time.sleep(0.01)
    print(count, flush=True)
"""
CHECKS = """
import json, os, sys
from pathlib import Path
file = Path(os.environ["CROUPIER_STATE"]) / "notes.json"
acked = len(Path(os.environ["CROUPIER_ACKED"]).read_text().splitlines())
notes = json.loads(file.read_text()) if file.exists() else []
sys.exit(f"{acked} were acknowledged, {len(notes)} are there" if len(notes) < acked else 0)
"""
SQLITE = """
import os, sqlite3
base = sqlite3.connect(os.environ["CROUPIER_STATE"] + "/notes.db", isolation_level=None)
base.execute("CREATE TABLE notes (n)")
base.execute("INSERT INTO notes VALUES (1)")
print(1, flush=True)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("save.py", SAVES), ("check.py", CHECKS), ("lite.py", SQLITE)):
        (tmp_path / name).write_text(text)


def searched(level, *flags, **more):
    check = more.pop("check", [sys.executable, "-S", "check.py"])
    return explore([sys.executable, "-S" if level != "shim" else "-B", "save.py", *flags], check, level=level, **more)


@pytest.mark.parametrize("level", [pytest.param("fuse", marks=no_fuse), "shim"])
def test_what_is_emptied_before_it_is_written_is_found_and_confirmed(level):
    result = searched(level)
    assert result.verdict == "violated", result
    assert level in result.level
    assert any("`notes.json` is emptied before it is written again" in one.cause for one in result.groups)
    assert all(one.confirmed for one in result.groups)


@pytest.mark.parametrize("level", [pytest.param("fuse", marks=no_fuse), "shim"])
def test_what_is_written_aside_is_accused_of_nothing(level):
    result = searched(level, "--safe")
    assert (result.verdict, result.findings) == ("held", ()), result.reasons
    assert {one.call for one in SearchDir(Path(result.run)).read_operations()} >= {"create", "write", "rename"}


def test_a_library_in_c_under_the_shim_is_seen_afterwards_and_proves_nothing():
    result = explore([sys.executable, "lite.py"], ["true"], level="shim")
    assert result.verdict == "unknown"
    assert "notes.db changed unseen" in " ".join(result.reasons)


@pytest.mark.parametrize("level", ["events", "clock"])
def test_what_is_not_seen_moment_by_moment_never_proves(level):
    result = searched(level, "--safe", budget=6 if level == "clock" else None)
    assert (result.verdict, result.findings) == ("unknown", ())
    assert "not seen" in " ".join(result.reasons)


def test_a_look_at_each_change_finds_a_file_that_stays_empty_for_a_while():
    # Empty for ten milliseconds: long enough for a look, and short enough that a killer by the clock would miss it.
    (Path.cwd() / "save.py").write_text(SAVES.replace("json.dump(", "time.sleep(0.05); json.dump("))
    result = searched("events")
    assert result.verdict == "violated", result
    assert all(one.confirmed is not False for one in result.groups)


def test_kills_by_the_clock_keep_the_state_of_each_and_say_when():
    (Path.cwd() / "save.py").write_text(SAVES.replace("json.dump(", "time.sleep(0.3); json.dump("))
    result = searched("clock", budget=8)
    assert result.verdict == "violated", result
    assert {one.call[:10] for one in SearchDir(Path(result.run)).read_operations()} == {"kill after"}


@no_fuse
def test_a_mount_is_gone_when_whoever_searched_was_killed(tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text("import os, time\nopen(os.environ['CROUPIER_STATE'] + '/f', 'w').close()\ntime.sleep(60)\n")
    script = (
        "import sys; from croupier.explore import explore; explore([sys.executable, 'slow.py'], ['true'], level='fuse')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as one:
        try:
            assert eventually(lambda: mounts_below(tmp_path))
        finally:
            one.kill()
    assert eventually(lambda: not mounts_below(tmp_path))


def mounts_below(path):
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(str(path))]


def eventually(holds, within_s=20):
    end = time.monotonic() + within_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def test_every_level_says_whether_it_works_here_and_how_to_get_it():
    found = levels()
    assert [one.name for one in found] == ["seccomp", "ptrace", "fuse", "shim", "events", "clock"]
    assert all(one.detail and (one.here == "yes" or one.get) for one in found)


def test_auto_takes_the_shim_for_python_only(monkeypatch):
    known = levels()
    # The package has a function of the module's name.
    monkeypatch.setattr(sys.modules["croupier.trace.levels"], "levels", lambda: known[3:])
    assert (best([sys.executable, "x.py"]), best(["sh", "x.sh"])) == ("shim", "events")


@pytest.mark.parametrize(("level", "more"), [("events", {"model": "power:ext4-ordered"}), ("clock", {"depth": 2})])
def test_what_a_level_cannot_give_is_refused(level, more):
    with pytest.raises(ExperimentError, match="sees no single call"):
        refuse_level(level, more.pop("model", "kill"), **more)


CONFINED = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
load, equal, back = 0x20, 0x15, 0x06
lines = [(load, 0, 0, 0), (equal, 2, 0, 317), (equal, 1, 0, 101), (back, 0, 0, 0x7FFF0000), (back, 0, 0, 0x00050001)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in lines))
program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter of this test has the numbers of x86-64")
def test_where_neither_seccomp_nor_ptrace_is_allowed_the_next_level_is_taken_and_named(tmp_path):
    croupier = Path(sys.executable).with_name("croupier")
    asked = [str(croupier), "explore", "--check", f"{sys.executable} check.py", "--", sys.executable, "save.py"]
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, *asked], capture_output=True, text=True, cwd=tmp_path, timeout=100
    )
    assert done.returncode == 1, done.stdout + done.stderr
    level = next(line for line in done.stdout.splitlines() if "level:" in line)
    assert ("fuse:" in level or "shim:" in level) and "seccomp does not work here" in level
