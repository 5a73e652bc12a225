"""Searches that meet bad input and bad luck: a clear word and the right exit code, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from croupier.store.searches import SearchDir
from croupier.system import procs
from croupier.trace import machine

from .house import CROUPIER

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or machine() is None, reason="calls are traced on 64-bit Linux only"
)
SAVES = "for n in 1 2 3; do echo $n > tmp; mv tmp n; echo ack $n; done"
CHECK = (
    """sh -c 'have=$(cat n 2>/dev/null || echo 0); want=$(grep -c ack "$CROUPIER_ACKED"); test "$have" -ge "$want"'"""
)


class Bench:
    """A directory of its own for everything, temporary space included."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.space = path / "space"
        self.space.mkdir()
        self.env = {**os.environ, "TMPDIR": str(self.space), "BENCH": str(path)}

    def explore(self, *words: str, within_s: float = 100) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CROUPIER, "explore", *words], cwd=self.path, env=self.env, capture_output=True, text=True, timeout=within_s
        )

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [CROUPIER, "explore", *words], cwd=self.path, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def is_left(self) -> list[str]:
        """What is in the temporary space, and who carries our mark."""
        alive = [str(who) for who in procs.marked(f"BENCH={self.path}") if procs.alive(who)]
        return [*alive, *(one.name for one in self.space.iterdir())]


@pytest.fixture
def bench(tmp_path):
    one = Bench(tmp_path)
    yield one
    end = time.monotonic() + 10
    while one.is_left() and time.monotonic() < end:
        time.sleep(0.02)
    left = one.is_left()
    for who in procs.marked(f"BENCH={tmp_path}"):
        os.kill(who.pid, signal.SIGKILL)
    assert not left


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--check", "true", "--", "no-such-program"], 2, "command not found: 'no-such-program'"),
        (["--check", "no-such-check", "--", "sh", "-c", SAVES], 2, "--check: command not found"),
        (["--check", "true", "--state", "nowhere", "--", "true"], 2, "the state is not a directory"),
        (["--check", "true", "--jobs", "-1", "--", "true"], 2, "jobs are from 1 to 64"),
        (["--check", "true", "--jobs", "1000", "--", "true"], 2, "jobs are from 1 to 64"),
        (["--check", "true", "--budget", "0", "--", "true"], 2, "a budget is a time or a number"),
        (["--check", "true", "--check-timeout", "soon", "--", "true"], 2, "expected a duration"),
        (["--check", "true", "--setup", "false", "--", "true"], 2, "the setup did not work"),
        (["--check", "true", "--", "true"], 4, "no call changed anything in it"),
        (["--check", "true", "--", "sh", "-c", "echo x > $BENCH/elsewhere; echo ack"], 4, "it wrote to"),
        (["--check", "true", "--", "sh", "-c", SAVES], 4, "the check is vacuous"),
        (["--check", "false", "--", "sh", "-c", SAVES], 4, "the check fails on every state"),
        (["--check", "true", "--", "sh", "-c", "rm -rf $CROUPIER_STATE; echo ack"], 2, "took its state directory away"),
        (["--check", "true", "--", "sh", "-c", "mv ../state ../other; echo ack"], 2, "took its state directory away"),
        (["--timeout", "1s", "--check", CHECK, "--", "sh", "-c", f"{SAVES}; sleep 60"], 4, "it was ended: deadline"),
        (["--check", CHECK, "--", "sh", "-c", f"{SAVES}; exit 3"], 0, "it ended with 3"),
        (["--check", CHECK, "--", "sh", "-c", f"{SAVES}; kill -ABRT $$"], 0, "signal 6 ended it"),
        (["--out", "/proc/nowhere", "--check", "true", "--", "true"], 5, "cannot be made"),
    ],
)  # fmt: skip
def test_what_cannot_be_proven_is_said(bench, words, code, says):
    done = bench.explore(*words)
    assert (done.returncode, says in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr


def test_what_prints_nothing_is_told_to_promise_nothing(bench):
    done = bench.explore("--check", "sh -c 'test ! -s bad'", "--", "sh", "-c", "echo bad > bad; rm bad; echo x > n")
    assert "nothing is known of durability" in done.stdout


def test_a_check_that_hangs_is_ended_with_all_that_it_started(bench):
    hangs = "sh -c 'sleep 60 & sleep 60'"
    done = bench.explore("--check-timeout", "200ms", "--budget", "3", "--check", hangs, "--", "sh", "-c", SAVES)
    assert (done.returncode, "did not end within 0.2 s" in done.stdout) == (4, True)


def test_a_check_that_spoils_its_state_spoils_nobody_elses(bench):
    spoils = CHECK[:-1] + "; code=$?; rm -rf -- *; exit $code'"
    done = bench.explore("--check", spoils, "--", "sh", "-c", SAVES)
    assert (done.returncode, "HELD" in done.stdout) == (0, True), done.stdout


def test_who_forks_away_is_followed(bench):
    late = "(setsid sh -c 'sleep 0.2; echo 4 > late' > /dev/null 2>&1 &); " + SAVES
    done = bench.explore("--json", "--check", CHECK, "--", "sh", "-c", late)
    result = json.loads(done.stdout)
    assert "late" in {one.path for one in SearchDir(Path(result["run"])).read_operations()}


def test_odd_names_are_kept_and_shown_harmlessly(bench):
    names = r"(b'new\nline', b'\xff', b'x' * 255, b'<b>')"
    script = f"import os\nfor name in {names}:\n    open(name, 'w').close()\nprint('ack')"
    check = "sh -c 'test ! -s $CROUPIER_ACKED || test $(ls | wc -l) -gt 3'"
    done = bench.explore("--json", "--check", check, "--", sys.executable, "-c", script)
    result = json.loads(done.stdout)
    assert result["verdict"] == "held", result
    page = (Path(result["run"]) / "report.html").read_text()
    assert "<b>" not in page


def test_a_binary_that_prints_much_is_taken_in(bench):
    prints = "import os; open('n', 'w').write('3'); [os.write(1, bytes(range(256)) * 4096) for _ in range(8)]"
    done = bench.explore("--json", "--budget", "4", "--check", "test ! -e gone", "--", sys.executable, "-c", prints)
    result = json.loads(done.stdout)
    assert (Path(result["run"]) / "output").stat().st_size == 8 << 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", ["recorded", "state-checked"])
def test_a_signal_in_any_phase_leaves_nothing(bench, number, phase):
    slow = CHECK[:-1].replace("have=", "sleep 0.5; have=") + "'"
    if phase == "recorded":
        going = bench.begin("--check", slow, "--", "sh", "-c", f"{SAVES}; sleep 60")
        assert eventually(lambda: list(bench.space.glob("croupier-search-*/state/n")))
    else:
        going = bench.begin("--check", slow, "--jobs", "1", "--", "sh", "-c", SAVES)
        assert eventually(lambda: "state-checked" in journal(bench))
    going.send_signal(number)
    out, err = going.communicate(timeout=30)
    assert going.returncode == 128 + number, out + err
    assert f"stopped by {number.name}" in err


def test_what_a_killed_search_left_is_taken_away_by_the_next(bench):
    going = bench.begin("--check", CHECK, "--", "sh", "-c", f"{SAVES}; sleep 60")
    assert eventually(lambda: list(bench.space.glob("croupier-search-*/state/n")))
    going.kill()
    going.communicate()
    assert eventually(lambda: not [who for who in procs.marked(f"BENCH={bench.path}") if procs.alive(who)])
    assert list(bench.space.iterdir())
    assert bench.explore("--check", CHECK, "--", "sh", "-c", SAVES).returncode == 0


def test_a_full_disk_for_the_states_is_told_and_nothing_is_claimed(bench):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root may mount a small file system, in a mount namespace of its own")
    script = (
        "mkdir small && mount -t tmpfs -o size=1m small small && exec "
        f"{CROUPIER} explore --out small/runs --check true -- sh -c 'head -c 6000000 /dev/urandom > f; echo ack'"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=bench.path, env=bench.env, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, "the disk is full" in done.stderr) == (5, True), done.stdout + done.stderr


def test_two_searches_at_once_keep_apart(bench):
    both = [bench.begin("--json", "--check", CHECK, "--", "sh", "-c", SAVES) for _ in range(2)]
    results = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    assert {one["verdict"] for one in results} == {"held"}
    assert results[0]["run"] != results[1]["run"]


def test_a_search_whose_states_are_gone_is_not_replayed_as_if_it_held(bench):
    broken = SAVES.replace("echo $n > tmp; mv tmp n", "echo $n > n")
    result = json.loads(bench.explore("--json", "--check", CHECK, "--", "sh", "-c", broken).stdout)
    assert result["verdict"] == "violated"
    shutil.rmtree(Path(result["run"]) / "states")
    done = subprocess.run(
        [CROUPIER, "replay", f"{result['run']}/{result['groups'][0]['first']}"], env=bench.env, cwd=bench.path,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode in (2, 5), done.stdout + done.stderr
    for left in bench.space.glob("croupier-k*"):
        shutil.rmtree(left)


def journal(bench):
    return "".join(one.read_text() for one in bench.path.glob("runs/*/*/journal.jsonl"))


def eventually(holds, within_s=20):
    end = time.monotonic() + within_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()
