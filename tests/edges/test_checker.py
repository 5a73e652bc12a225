"""The checker: each check on a copy of its own, answers that can be trusted, and nobody left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hands import eventually

from croupier.check import Ask, CallCheck, Check, Checked, Checkers, CommandCheck, key
from croupier.check.interpreter import without_shim
from croupier.model.errors import ExperimentError, HarnessError
from croupier.snapshot import Recorder, Store
from croupier.snapshot.stage import Way, stage_for
from croupier.system import procs


class House:
    """A state with a number in a file, a store, and checkers on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.store = Store(folder / "store")
        self.recorder = Recorder(self.state, self.store)
        self.program = folder / "checks.py"
        self.way: Way | None = None

    def holding(self, number: int) -> str:
        (self.state / "n").write_text(str(number))
        return self.recorder.full()

    def checkers(self, check: Check, **more: Any) -> Checkers:
        digest = self.recorder.digest or self.holding(0)
        stage = stage_for(self.store, digest, self.folder / "place", way=self.way)
        return Checkers(check, stage, cwd=str(self.folder), **{"jobs": 1, **more})

    def call(self, body: str, **more: Any) -> Checkers:
        """Checkers on a function with this body."""
        lines = "\n    ".join(body.splitlines())
        self.program.write_text(f"import os, sys, time\n\ndef check(state, acked):\n    {lines}\n")
        return self.checkers(CallCheck(target="checks:check"), **more)

    def command(self, *argv: str, **more: Any) -> Checkers:
        return self.checkers(CommandCheck(argv=argv), **more)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.store.close()


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program, "{state}")


# --- what a check may say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "held", "reason"),
    [
        ("return None", True, ""),
        ("return True", True, ""),
        ("assert (state / 'n').read_text() == '7'", True, ""),
        ("sys.exit(0)", True, ""),
        ("return False", False, "check returned False"),
        ("assert 1 == 2, 'lost row 5'", False, "AssertionError: lost row 5"),
        ("raise KeyError('gone')", False, "KeyError: 'gone'"),
        ("sys.exit('no luck')", False, "no luck"),
        ("os._exit(3)", False, "ended by itself with exit code 3, before the function returned"),
        ("os._exit(0)", False, "ended by itself with exit code 0, before the function returned"),
        ("os.kill(os.getpid(), 11)", False, "killed by SEGV, before the function returned"),
        ("raise ValueError('one\\ntwo\\x1b[31m')", False, "ValueError: one two [31m"),
    ],
)
def test_a_function_says_by_exception_or_false_that_the_state_did_not_recover(
    house: House, body: str, held: bool, reason: str
) -> None:
    digest = house.holding(7)
    with house.call(body) as checkers:
        checked = checkers.check(Ask(state=digest))
    assert (checked.held, checked.reason) == (held, reason)


@pytest.mark.parametrize(
    ("argv", "held", "reason"),
    [
        (("true",), True, ""),
        (("sh", "-c", 'test "$(cat "$CROUPIER_STATE/n")" = 7'), True, ""),
        (("grep", "-q", "7", "{state}/n"), True, ""),
        (("false",), False, "exit code 1, and nothing printed"),
        (("sh", "-c", "echo fine; echo; echo row 5 is lost >&2; exit 2"), False, "row 5 is lost"),
        (("sh", "-c", "kill -SEGV $$"), False, "killed by SEGV, and nothing printed"),
    ],
)
def test_a_command_says_by_its_exit_code_whether_the_state_recovered(
    house: House, argv: tuple[str, ...], held: bool, reason: str
) -> None:
    digest = house.holding(7)
    with house.command(*argv) as checkers:
        checked = checkers.check(Ask(state=digest))
    assert (checked.held, checked.reason) == (held, reason)


def test_a_check_reads_what_was_acknowledged_before_the_crash(house: House) -> None:
    acks = house.folder / "acks"
    acks.write_bytes(b"ack 1\nack 2\nack 3\n")
    ask = Ask(state=house.holding(1), acks=str(acks), acked=12)
    with house.call("assert acked == 'ack 1\\nack 2\\n', acked") as checkers:
        assert checkers.check(ask).held
    with house.command("sh", "-c", 'cat "$CROUPIER_ACKED"; cmp "$CROUPIER_ACKED" "$1"; exit 1', "-", str(acks)) as some:
        assert some.check(ask).output.startswith("ack 1\nack 2\n")
        assert "ack 3" not in some.check(ask).output


@pytest.mark.parametrize("signature", ["", "state", "state, acked", "state, *, more=1", "*both", "state=None"])
def test_a_function_is_given_what_it_asks_for(house: House, signature: str) -> None:
    house.program.write_text(f"def check({signature}):\n    print('called')\n")
    with house.checkers(CallCheck(target="checks:check")) as checkers:
        checked = checkers.check(Ask(state=house.holding(1)))
    assert (checked.held, checked.output) == (True, "called\n")


def test_a_function_can_be_named_by_its_file(house: House) -> None:
    house.program.write_text("class Deep:\n    @staticmethod\n    def look(state):\n        assert False, 'seen'\n")
    with house.checkers(CallCheck(target="./checks.py:Deep.look")) as checkers:
        assert checkers.check(Ask(state=house.holding(1))).reason == "AssertionError: seen"


def test_a_function_in_hand_is_called_as_it_is(house: House) -> None:
    wanted = "7"

    def look(state: Path) -> bool:
        return (state / "n").read_text() == wanted

    good, bad = house.holding(7), house.holding(8)
    with house.checkers(CallCheck(function=look), jobs=2) as checkers:
        held = [checked.held for _, checked in checkers.check_all([Ask(state=good), Ask(state=bad), Ask(state=good)])]
    assert held == [True, False, True]


def test_a_module_is_imported_once_and_each_check_starts_from_there(house: House) -> None:
    digests = [house.holding(number) for number in range(5)]
    house.program.write_text(
        "import os\nprint('imported')\nmain = os.getpid()\ncount = 0\n"
        "def check(state):\n    global count\n    count += 1\n    assert count == 1 and os.getppid() == main\n"
    )
    with house.checkers(CallCheck(target="checks:check")) as checkers:
        assert all(checked.held for _, checked in checkers.check_all(Ask(state=one) for one in digests))


@pytest.mark.parametrize(
    ("check", "why"),
    [
        (CallCheck(target="checks_that_are_not_there:check"), "No module named 'checks_that_are_not_there'"),
        (CallCheck(target="os:nothing_of_the_kind"), "nothing_of_the_kind"),
        (CallCheck(target="os:sep"), "is not a function"),
        (CallCheck(target="checks:check"), "ZeroDivisionError: division by zero (.*checks.py:1)"),
        (CallCheck(target="os:getpid", python="/nowhere/python"), "/nowhere/python"),
        (CommandCheck(argv=("no-such-program-anywhere",)), "command not found"),
        (CommandCheck(argv=("./checks.py",)), "not a program"),
        (CommandCheck(argv=()), "the command is empty"),
    ],
)
def test_a_check_that_cannot_be_found_is_the_users_to_mend(house: House, check: Check, why: str) -> None:
    house.program.write_text("1 / 0\n")
    with pytest.raises(ExperimentError, match=why) as raised:
        house.checkers(check)
    assert raised.value.at in ("--check", "--check-call")


# --- isolation --------------------------------------------------------------------------------------------------------

SPOIL = """
import os, pathlib, sys
state = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["CROUPIER_STATE"])
found = sorted((one.name, one.read_text()) for one in state.iterdir())
(state / "n").write_text("spoilt")
(state / "extra").write_text("spoilt")
print(found)
sys.exit(1)
"""


@pytest.mark.parametrize("way", ["written", "kept", "overlay"])
@pytest.mark.parametrize("call", [True, False])
def test_what_a_check_writes_is_seen_by_no_other_and_never_reaches_the_store(
    house: House, way: Way, call: bool
) -> None:
    digests = [house.holding(number) for number in (1, 2, 1, 3, 1)]
    house.way = way
    house.program.write_text("def check(state):\n    import sys\n    sys.argv[1:] = [str(state)]\n    exec(SPOIL)\n")
    house.program.write_text(f"SPOIL = {SPOIL!r}\n" + house.program.read_text())
    check: Check = CallCheck(target="checks:check") if call else CommandCheck(argv=python(SPOIL))
    with house.checkers(check) as checkers:
        shown = [checkers.check(Ask(state=one, acked=nth)).output for nth, one in enumerate(digests)]
        ways = {*checkers.ways}
    assert shown == [f"[('n', '{number}')]\n" for number in (1, 2, 1, 3, 1)]
    assert ways <= {way, "kept", "written"}
    assert house.recorder.full() == digests[4]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("way", ["written", "kept", "overlay"])
def test_an_ordinary_user_gets_the_same_answers(way: str) -> None:
    """Everything in a folder of its own that `nobody` may read; an overlay only where user namespaces are allowed."""
    folder = Path(tempfile.mkdtemp(prefix="croupier-nobody-"))
    interpreter = shutil.which("python3", path="/usr/bin") or ""
    if not interpreter:
        pytest.skip("no interpreter that nobody may run")
    try:
        import msgspec

        import croupier

        # Neither the home of root nor a virtual environment in it may be entered by others.
        for package in (croupier, msgspec):
            shutil.copytree(Path(str(package.__file__)).parent, folder / "lib" / package.__name__)
        (folder / "work").mkdir()
        folder.chmod(0o755)
        os.chown(folder / "work", 65534, 65534)
        program = (
            "import sys\nfrom pathlib import Path\nfrom croupier.snapshot import *\n"
            "from croupier.snapshot.stage import stage_for\nfrom croupier.check import *\n"
            "work = Path(sys.argv[1]); state = work / 'state'; state.mkdir(); store = Store(work / 's')\n"
            "recorder = Recorder(state, store); digests = []\n"
            "for n in range(4):\n    (state / 'n').write_text(str(n)); digests.append(recorder.full())\n"
            "check = CommandCheck(argv=('sh', '-c', 'cat {state}/n; echo spoilt > {state}/n; exit 1'))\n"
            "with Checkers(check, stage_for(store, digests[0], work, way=sys.argv[2]), jobs=1) as checkers:\n"
            "    print([checked.reason for _, checked in checkers.check_all(Ask(state=d) for d in digests)])\n"
            "    print(checkers.ways)\n"
        )
        done = subprocess.run(
            [interpreter, "-c", program, str(folder / "work"), way],
            user=65534, group=65534, extra_groups=[], cwd=folder, capture_output=True, text=True, check=False,
            env={"PYTHONPATH": str(folder / "lib"), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        if "msgspec" in done.stderr or "3.1" in done.stderr:
            pytest.skip("the machine's own Python is another one")
        assert done.stdout.startswith("['0', '1', '2', '3']"), done.stderr
    finally:
        shutil.rmtree(folder)


def test_the_same_state_after_the_same_output_is_asked_once(house: House) -> None:
    note = house.folder / "runs"
    digest = house.holding(1)
    with house.command("sh", "-c", f"echo run >> {note}") as checkers:
        for acked in (0, 5, 5, 0):
            checkers.check(Ask(state=digest, acks="/dev/null", acked=acked))
    assert note.read_text().count("run") == 2
    assert key(Ask(state="a", acks="/x", acked=0)) == key(Ask(state="a", acks="/y", acked=0))
    assert key(Ask(state="a", acks="/x", acked=1)) != key(Ask(state="a", acks="/y", acked=1))


# --- nobody is left behind --------------------------------------------------------------------------------------------


def gone(note: Path) -> bool:
    pids = [int(line) for line in note.read_text().split()]
    assert pids
    return all((who := procs.identity(pid)) is None or not procs.alive(who) for pid in pids)


DAEMON = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)
    open({note!r}, "a").write(str(os.getpid()) + "\\n")
    time.sleep(300)
os.wait()
while not os.path.exists({note!r}): time.sleep(0.001)
"""


@pytest.mark.parametrize("call", [True, False])
def test_a_daemon_that_a_check_leaves_behind_is_ended(house: House, call: bool) -> None:
    note = house.folder / "pids"
    program = DAEMON.format(note=str(note))
    digest = house.holding(1)
    with house.call(program) if call else house.command(*python(program)) as checkers:
        checked = checkers.check(Ask(state=digest))
        assert checked.held
        assert checked.left == 1
        assert gone(note)
        # And the next is served as if nothing had been.
        assert checkers.check(Ask(state=house.holding(2))).held


@pytest.mark.parametrize("call", [True, False])
def test_a_check_that_hangs_is_ended_with_everything_it_started(house: House, call: bool) -> None:
    note = house.folder / "pids"
    program = (
        DAEMON.format(note=str(note))
        + f"open({str(note)!r}, 'a').write(str(os.getpid()) + '\\n')\nprint('waiting', flush=True)\ntime.sleep(300)"
    )
    digest = house.holding(1)
    with house.call(program, within_ms=700) if call else house.command(*python(program), within_ms=700) as checkers:
        began = time.monotonic()
        checked = checkers.check(Ask(state=digest))
        assert time.monotonic() - began < 5
        assert checked.timed_out
        assert not checked.held
        assert checked.reason == "it did not end within 0.7 s; the last it printed: waiting"
        assert gone(note)
        assert len(note.read_text().split()) == 2
        assert checkers.check(Ask(state=house.holding(2))).timed_out


@pytest.mark.parametrize("how", ["close", "error"])
def test_leaving_in_the_middle_of_a_check_leaves_nothing(house: House, how: str) -> None:
    note = house.folder / "pids"
    digest = house.holding(1)
    program = f"import os, time\nopen({str(note)!r}, 'a').write(str(os.getpid()))\ntime.sleep(300)"
    began = time.monotonic()
    with pytest.raises((HarnessError, ZeroDivisionError)), house.command(*python(program)) as checkers:
        future = checkers.submit(Ask(state=digest))
        assert eventually(lambda: note.exists() and note.read_text())
        folders = [Path(one.folder) for one in checkers._servers]
        assert all(folder.is_dir() for folder in folders)
        if how == "error":
            _ = 1 / 0
        checkers.close()
        future.result()
    assert time.monotonic() - began < 10
    assert gone(note)
    assert not any(folder.exists() for folder in folders)


def test_nothing_outlives_a_croupier_that_is_killed(house: House) -> None:
    note = house.folder / "pids"
    house.holding(1)
    house.store.flush()
    program = (
        "import sys, os\nfrom pathlib import Path\nfrom croupier.snapshot.stage import Stage\n"
        "from croupier.check import *\n"
        f"stage = Stage(Path({str(house.store.folder)!r}), Path('/tmp'))\n"
        f"checkers = Checkers(CommandCheck(argv=('sh', '-c', 'echo $$ > {note}; sleep 300')), stage, jobs=1)\n"
        "print(checkers._servers[0].who.pid, checkers._servers[0].folder, flush=True)\n"
        f"checkers.check(Ask(state={house.recorder.digest!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    server, folder = process.stdout.readline().split()
    assert eventually(lambda: note.exists() and note.read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert eventually(lambda: gone(note))
    assert eventually(lambda: procs.identity(int(server)) is None or not Path(folder).exists())
    assert eventually(lambda: not Path(folder).exists())


def test_a_server_that_is_killed_is_started_again_and_is_no_finding(house: House) -> None:
    note = house.folder / "once"
    digest = house.holding(1)
    # The first run kills the server that serves it; its own parent.
    program = f"test -e {note} || {{ echo > {note}; kill -9 $PPID; sleep 300; }}"
    with house.command("sh", "-c", program) as checkers:
        assert checkers.check(Ask(state=digest)).held
    with pytest.raises(HarnessError, match="ended twice"), house.command("sh", "-c", "kill -9 $PPID") as checkers:
        checkers.check(Ask(state=digest))


def test_a_state_that_is_not_in_the_store_is_our_trouble_and_no_finding(house: House) -> None:
    digest = house.holding(1)
    with house.command("true") as checkers:
        with pytest.raises(HarnessError, match="no object"):
            checkers.check(Ask(state="00" * 16))
        assert checkers.check(Ask(state=digest)).held


# --- an overlay is not quite a file system ----------------------------------------------------------------------------


def test_bad_news_from_an_overlay_is_asked_again_on_a_plain_copy(house: House) -> None:
    """The check fails on overlays only; that is no finding."""
    digest = house.holding(1)
    other = house.holding(2)
    house.way = "overlay"
    program = "import os, sys\nsys.exit(any(sys.argv[1] in line for line in open('/proc/self/mountinfo')))"
    with house.command(*python(program)) as checkers:
        if "overlay" not in checkers.ways:
            pytest.skip(f"no overlay here: {checkers.ways}")
        first, second = checkers.check(Ask(state=digest)), checkers.check(Ask(state=other))
    assert (first.held, first.way) == (True, "written")
    assert (second.held, second.way) == (True, "kept")
    assert "on an overlay the check said" in checkers.ways["kept"]


# --- the real interpreter ---------------------------------------------------------------------------------------------


def test_a_shim_of_a_version_manager_is_replaced_by_what_it_would_start(tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    shims.mkdir()
    shim = shims / "python3"
    shim.write_text(f'#!/bin/sh\necho start >> {tmp_path}/starts\nexec {sys.executable} "$@"\n')
    shim.chmod(0o755)
    env = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}"}
    assert without_shim(("python3", "x.py"), env=env, cwd="") == (sys.executable, "x.py")
    assert without_shim(("sh", "x"), env=env, cwd="") == ("sh", "x")
    assert without_shim((sys.executable, "x"), env=env, cwd="") == (sys.executable, "x")


def test_checks_do_not_pay_for_a_shim(house: House) -> None:
    shims = house.folder / "shims"
    shims.mkdir()
    (shims / "python3").write_text(f'#!/bin/sh\necho start >> {house.folder}/starts\nexec {sys.executable} "$@"\n')
    (shims / "python3").chmod(0o755)
    env = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}"}
    digests = [house.holding(number) for number in range(4)]
    with house.command("python3", "-c", "import sys; print(sys.executable); sys.exit(1)", env=env) as checkers:
        reasons = {checkers.check(Ask(state=one)).reason for one in digests}
    assert reasons == {sys.executable}
    assert (house.folder / "starts").read_text().count("start") == 1


# --- odd states, and speed --------------------------------------------------------------------------------------------


def test_a_state_with_names_that_are_no_text_is_checked(house: House) -> None:
    (house.state / os.fsdecode(b"\xff\n\xfe")).write_bytes(b"odd")
    digest = house.recorder.full()
    with house.call("assert [os.fsencode(one) for one in os.listdir(state)] == [b'\\xff\\n\\xfe']") as checkers:
        assert checkers.check(Ask(state=digest)).held


def test_a_state_of_many_files_is_set_up_by_what_differs(house: House) -> None:
    for number in range(5_000):
        (house.state / f"f{number}").write_text("x")
    digests = [house.holding(number) for number in range(20)]
    with house.call("assert len(os.listdir(state)) == 5001\n(state / 'f7').unlink()") as checkers:
        checkers.check(Ask(state=digests[0]))
        assert all(checked.held for _, checked in checkers.check_all(Ask(state=one) for one in digests[1:]))


def sqlite_states(house: House, count: int) -> list[str]:
    database = sqlite3.connect(house.state / "a.db", isolation_level=None)
    database.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text)")
    digests = []
    for number in range(count):
        database.execute("INSERT INTO notes VALUES (?, ?)", (number, "x" * 40))
        digests.append(house.recorder.full())
    database.close()
    return digests


def test_checks_of_a_database_answer_for_their_own_states(house: House) -> None:
    digests = sqlite_states(house, 200)
    body = (
        "import sqlite3\ndatabase = sqlite3.connect(state / 'a.db')\n"
        "assert database.execute('PRAGMA integrity_check').fetchone() == ('ok',)\n"
        "assert database.execute('SELECT count(*) FROM notes').fetchone()[0] > 0\ndatabase.close()"
    )
    with house.call(body, jobs=2) as checkers:
        checkers.check(Ask(state=digests[0]))
        answers = list(checkers.check_all(Ask(state=one) for one in digests))
    assert all(checked.held for _, checked in answers)
    assert [ask.state for ask, _ in answers] == digests


def test_answers_belong_to_their_states_however_many_run_at_once(house: House) -> None:
    numbers = [random.Random(1).randrange(50) for _ in range(200)]
    digests = {number: house.holding(number) for number in set(numbers)}
    with house.call("assert int((state / 'n').read_text()) % 2, (state / 'n').read_text()", jobs=3) as checkers:
        asks = [Ask(state=digests[number], acked=nth, acks="/dev/null") for nth, number in enumerate(numbers)]
        answers: list[Checked] = [checked for _, checked in checkers.check_all(asks)]
    expected: Callable[[int], str] = lambda number: "" if number % 2 else f"AssertionError: {number}"  # noqa: E731
    assert [one.reason for one in answers] == [expected(number) for number in numbers]
