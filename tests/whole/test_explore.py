"""A whole search: from a command line to findings with addresses that replay, and never a silent "nothing found"."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import jsonschema
import msgspec
import pytest

from croupier.cli import main
from croupier.explore import explore
from croupier.model.errors import ExperimentError
from croupier.model.search import SearchResult
from croupier.store.searches import SearchDir, find_point, find_search

SAVE_NAIVE = """
import json, os, sys
from pathlib import Path
file = Path(os.environ["CROUPIER_STATE"]) / "notes.json"
for count in range(1, 4):
    with file.open("w") as out:
        json.dump(list(range(count)), out)
    print("ack", count, flush=True)
"""
SAVE_SAFE = SAVE_NAIVE.replace(
    'with file.open("w") as out:', 'with file.with_suffix(".tmp").open("w") as out:'
).replace("    print", '    file.with_suffix(".tmp").replace(file)\n    print')
CHECK = """
import json, os, sys
from pathlib import Path
file = Path(os.environ["CROUPIER_STATE"]) / "notes.json"
acked = len(Path(os.environ["CROUPIER_ACKED"]).read_text().splitlines())
notes = json.loads(file.read_text()) if file.exists() else []
if len(notes) < acked:
    sys.exit(f"{acked} acknowledged, {len(notes)} there")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory to work in, with the programs beside."""
    (tmp_path / "naive.py").write_text(SAVE_NAIVE)
    (tmp_path / "safe.py").write_text(SAVE_SAFE)
    (tmp_path / "check.py").write_text(CHECK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(text):
    """A command that runs this text."""
    return [sys.executable, "-c", textwrap.dedent(text)]


def search(workload, check="python check.py", **more):
    return explore(workload, check, **more)


def test_a_file_emptied_before_it_is_written_is_found_named_and_confirmed(here):
    result = search("python naive.py")
    assert (result.verdict, result.exit_code) == ("violated", 1)
    assert {one.id for one in result.findings} == {"k0001", "k0007", "k0013"}
    assert all(group.confirmed for group in result.groups)
    assert "`notes.json` is emptied before it is written again" in " ".join(result.reasons)
    second = next(one for one in result.findings if one.id == "k0007")
    assert (second.after.operation, second.after.path, second.before.operation) == ("openat", "notes.json", "write")
    assert second.acked == 1
    assert "JSONDecodeError" in second.reason


def test_write_aside_and_rename_holds_at_every_crash_point_and_says_what_it_asked_of_itself(here):
    result = search("python safe.py")
    assert (result.verdict, result.exit_code, result.findings) == ("held", 0, ())
    assert result.checked == result.distinct_states >= 10
    held = {one.name: one.held for one in result.self_checks}
    assert held["every change was seen"] and held["the check can fail"] and held["a kill lands where it is aimed"]


def test_a_torn_write_is_a_crash_point_of_its_own(here):
    whole, torn = search("python naive.py"), search("python naive.py", torn=True)
    assert torn.crash_points > whole.crash_points
    assert any(one.cut == 1 for one in torn.findings)


def test_every_finding_replays_from_its_state_and_by_a_real_kill(here, capsys):
    result = search("python naive.py", torn=True)
    name = Path(result.run).relative_to(here / "runs")
    for one in result.findings:
        assert main(["replay", f"{name}/{one.id}"]) == 1, one.id
        assert main(["replay", f"{name}/{one.id}", "--live"]) == 1, one.id
    assert main(["replay", f"{name}/k0000"]) == 0
    assert main(["replay", f"{name}/k0006", "--live"]) == 0
    said = capsys.readouterr().out
    assert "the check fails again" in said and "killed there for real; the state is the recorded one" in said


def test_the_state_of_a_replay_is_left_as_the_crash_left_it(here, capsys):
    result = search("python naive.py")
    assert main(["replay", f"{result.run}/k0007", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (Path(said["state"]) / "notes.json").read_bytes() == b""


def test_a_crash_point_that_does_not_exist_is_refused(here):
    result = search("python naive.py")
    assert main(["replay", f"{result.run}/k9999"]) == 2


def test_the_same_search_gives_the_same_points(here):
    def points():
        return SearchDir(Path(search("python naive.py", torn=True).run)).read_points()

    assert [(one.id, one.acked) for one in points()] == [(one.id, one.acked) for one in points()]


def test_a_check_in_python_is_called_with_the_state_and_what_was_printed(here):
    (here / "recovered.py").write_text(
        "import json\n"
        "def notes(state, acked):\n"
        "    file = state / 'notes.json'\n"
        "    found = json.loads(file.read_text()) if file.exists() else []\n"
        "    assert len(found) >= len(acked.splitlines()), 'lost'\n"
    )
    code = main(["explore", "--check-call", "recovered:notes", "--", "python", "naive.py"])
    assert code == 1


def a_workload(state):
    """Saves in place, by two writes."""
    for number in range(2):
        with (state / "pair").open("r+b" if number else "wb") as file:
            file.write(b"%d" % number)
            file.flush()
            file.write(b"%d" % number)
        print(number, flush=True)


def a_pair(state):
    """Both halves are alike."""
    text = (state / "pair").read_text() if (state / "pair").exists() else ""
    return text in ("", "00", "11")


def test_functions_of_a_test_are_searched_like_programs(here):
    result = explore(a_workload, a_pair)
    assert result.verdict == "violated"
    assert all(one.reason == "a_pair returned False" for one in result.findings)
    assert any("changed in place" in one.cause for one in result.groups)


def test_children_shells_and_threads_count(here):
    result = search(["sh", "-c", 'cd "$CROUPIER_STATE"; (echo a > one); sh -c "echo b > two"; mv one three; echo ok'],
                    ["sh", "-c", "! test -e one || ! test -e two"])  # fmt: skip
    assert result.verdict == "violated"
    assert {one.before.operation.partition("at")[0] for one in result.findings} == {"rename"} or result.findings
    operations = SearchDir(Path(result.run)).read_operations()
    assert len({one.process for one in operations}) >= 2


def test_the_workload_starts_from_a_copy_and_what_was_given_stays(here):
    (here / "fixture").mkdir()
    (here / "fixture" / "notes.json").write_text("[]")
    result = search("python naive.py", state="fixture")
    assert result.verdict == "violated"
    assert (here / "fixture" / "notes.json").read_text() == "[]"


def test_a_setup_prepares_the_state_unwatched(here):
    result = search("python naive.py", setup=["sh", "-c", 'echo "[]" > "$CROUPIER_STATE/notes.json"'])
    assert find_point(f"{result.run}/k0000", Path("runs"))[1].after == 0
    assert all(one.call != "x" for one in SearchDir(Path(result.run)).read_operations())
    with pytest.raises(ExperimentError, match="the setup did not work"):
        search("python naive.py", setup="false")


# -- never a silent "nothing found" ------------------------------------------------------------------------------------


def test_a_check_that_always_passes_proves_nothing(here):
    result = search("python naive.py", "true")
    assert (result.verdict, result.exit_code) == ("unknown", 4)
    assert "the check is vacuous" in result.reasons[0]


def test_a_check_that_always_fails_proves_nothing(here):
    result = search("python naive.py", "sh -c 'echo never; exit 3'")
    assert (result.verdict, result.exit_code) == ("unknown", 4)
    assert "fails on every state" in result.reasons[0]


def test_a_workload_that_writes_nothing_proves_nothing(here):
    result = search("true")
    assert result.exit_code == 4
    assert "no call changed anything" in result.reasons[0]


def test_a_workload_that_writes_elsewhere_is_said_to_with_the_paths(here):
    result = search(["sh", "-c", f"echo x > {here}/elsewhere; echo ok"])
    assert result.exit_code == 4
    assert str(here / "elsewhere") in result.reasons[0]


def test_a_workload_that_prints_nothing_is_checked_and_said_to(here):
    result = search(["sh", "-c", 'echo "[]" > "$CROUPIER_STATE/notes.json"'])
    said = {one.name: one for one in result.self_checks}["the workload acknowledged something"]
    assert said.held is False and "nothing is known of durability" in said.detail


def test_a_workload_that_hangs_is_ended_and_proves_nothing(here):
    result = search(["sh", "-c", 'echo "[]" > "$CROUPIER_STATE/notes.json"; sleep 60'], "sh -c 'true'", timeout="1s")
    assert result.exit_code == 4
    assert any("deadline" in reason for reason in result.reasons)


def test_a_check_that_hangs_is_a_finding_and_leaves_nobody(here):
    result = search("python naive.py", ["sh", "-c", 'test -s "$CROUPIER_STATE/notes.json" || sleep 60'],
                    check_timeout="300ms")  # fmt: skip
    assert result.verdict == "violated"
    assert "did not end within 0.3 s" in result.findings[0].reason


def test_a_check_that_writes_into_its_state_changes_no_other_check(here):
    once = f"test ! -e mark && touch mark && python {here / 'check.py'}"
    result = search("python safe.py", ["sh", "-c", once])
    assert result.verdict == "held"


def test_a_budget_spent_before_the_first_acknowledgement_proves_nothing(here):
    result = search("python safe.py", budget=1)
    assert result.exit_code == 4
    assert any("before the first acknowledgement" in reason for reason in result.reasons)


def test_a_workload_that_is_not_there_is_the_users_mistake(here):
    assert main(["explore", "--check", "true", "--", "no-such-program"]) == 2
    assert main(["explore", "--check", "true"]) == 2
    assert main(["explore", "--", "true"]) == 2


def test_a_check_that_is_not_there_is_the_users_mistake(here):
    assert main(["explore", "--check", "no-such-check", "--", "python", "naive.py"]) == 2
    assert main(["explore", "--check-call", "nosuch:thing", "--", "python", "naive.py"]) == 2


# -- power, depth 2, json, page ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["power:ext4-ordered", "power:posix-strict"])
def test_a_rename_without_a_sync_loses_the_last_save_in_a_power_cut(here, model):
    result = search("python safe.py", model=model)
    assert result.verdict == "violated" and result.model == model
    assert all(one.confirmed is None and one.lost for one in result.findings)
    assert any("the directory was not synced" in one.cause for one in result.groups)
    assert {one.name: one.held for one in result.self_checks}["the model understood the operations"]


def test_recovery_that_does_not_survive_a_crash_is_found_at_depth_2(here):
    # It moves the only copy aside, and writes the new one by two calls: a second crash between finds neither.
    recover = """
        import os, sys
        from pathlib import Path
        state = Path(os.environ["CROUPIER_STATE"])
        file, old = state / "f", state / "old"
        if not file.exists():
            sys.exit(1 if old.exists() else 0)
        text = file.read_text()
        file.rename(old)
        file.write_text(text)
        old.unlink()
    """
    save = ["sh", "-c", 'echo a > "$CROUPIER_STATE/f"; echo ok']
    assert search(save, python(recover)).exit_code in (0, 4)
    result = search(save, python(recover), depth=2)
    assert result.verdict == "violated"
    assert all("r" in one.id for one in result.findings)
    assert "recovery itself does not survive a crash" in result.groups[0].cause


def test_json_is_one_object_that_its_schema_describes(here, capfd):
    assert main(["explore", "--json", "--check", "python check.py", "--", "python", "naive.py"]) == 1
    said = json.loads(capfd.readouterr().out)
    jsonschema.validate(said, msgspec.json.schema(SearchResult))
    assert {"run", "level", "model", "crash_points", "distinct_states", "checked", "findings", "groups", "seconds",
            "self_checks"} <= said.keys()  # fmt: skip
    finding = said["findings"][0]
    assert {"id", "after", "before", "acked", "reason", "confirmed", "group"} <= finding.keys()
    assert {"operation", "path", "offset", "length", "process"} <= finding["after"].keys()
    assert said["level"].startswith("seccomp") or said["level"].startswith("ptrace")


def test_the_page_names_the_cause_and_how_to_replay_and_stands_alone(here):
    assert main(["explore", "--name", "notes", "--check", "python check.py", "--", "python", "naive.py"]) == 1
    found = find_search("notes", Path("runs"))
    page = found.report.read_text()
    assert "is emptied before it is written again" in page
    assert f"croupier replay {found.path}/k" in page
    assert "<script" not in page and 'src="http' not in page
    assert (here / "runs" / "notes" / "latest").resolve() == found.path


def test_what_a_check_prints_cannot_act_on_the_page_or_the_terminal(here, capsys):
    evil = python("""
        import os, sys
        if not os.path.getsize(os.environ["CROUPIER_STATE"] + "/notes.json"):
            sys.exit("<script>alert(1)</script>\\x1b[31m")
    """)  # fmt: skip
    result = search("python naive.py", evil, setup=["sh", "-c", 'echo "[]" > "$CROUPIER_STATE/notes.json"'])
    from croupier.cli.explore import write_search_page

    page = write_search_page(SearchDir(Path(result.run)), result).read_text()
    assert "<script>" not in page and "\x1b" not in page


def test_the_journal_of_a_search_reads_back(here):
    result = search("python naive.py")
    events = [type(one).__name__ for one in SearchDir(Path(result.run)).events()]
    assert events[0] == "SearchStarted" and events[-1] == "SearchEnded"
    assert events.count("StateChecked") == result.checked


def test_nothing_is_left_in_the_temporary_directory(here, monkeypatch, tmp_path_factory):
    place = tmp_path_factory.mktemp("tmp")
    monkeypatch.setenv("TMPDIR", str(place))
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    search("python naive.py")
    assert list(place.glob("croupier*")) == []


# -- shrink, servers ---------------------------------------------------------------------------------------------------

REPLAYER = """
import os, sys
from pathlib import Path
state = Path(os.environ["CROUPIER_STATE"])
for line in sys.stdin if len(sys.argv) < 2 else open(sys.argv[1]):
    key, _, way = line.strip().partition(" ")
    if way == "bad":
        (state / key).write_text("")
        (state / key).unlink()
    (state / f"{key}.tmp").write_text("whole")
    (state / f"{key}.tmp").rename(state / key)
    print(key, flush=True)
"""
ALL_WHOLE = """
import os, sys
from pathlib import Path
state = Path(os.environ["CROUPIER_STATE"])
for key in Path(os.environ["CROUPIER_ACKED"]).read_text().split():
    if not (state / key).exists() or (state / key).read_text() != "whole":
        sys.exit(f"{key} is lost")
"""


@pytest.mark.parametrize("how", ["stdin", pytest.param("file", marks=pytest.mark.searches)])
def test_a_workload_that_reads_its_operations_is_shrunk_to_those_that_fail(here, capsys, how):
    (here / "replayer.py").write_text(REPLAYER)
    (here / "whole.py").write_text(ALL_WHOLE)
    lines = [f"k{nth % 4} good" for nth in range(6)]
    lines[4] = "k0 bad"
    (here / "operations.txt").write_text("\n".join(lines) + "\n")
    more = {"stdin": "operations.txt"} if how == "stdin" else {}
    workload = ["python", "replayer.py", *(["operations.txt"] if how == "file" else [])]
    result = search(workload, "python whole.py", **more)
    assert result.verdict == "violated"
    assert main(["shrink", f"{result.run}/{result.findings[0].id}", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["lines_before"], said["lines_after"], said["whole"]) == (6, 2, True)
    assert Path(said["file"]).read_text() == "k0 good\nk0 bad\n"
    assert said["operations_after"] < said["operations_before"]


def test_a_workload_that_reads_nothing_is_shrunk_to_its_earliest_crash_point(here, capsys):
    result = search("python naive.py")
    assert main(["shrink", f"{result.run}/k0013"]) == 1
    assert "(k0007)" in capsys.readouterr().out
    assert main(["shrink", f"{result.run}/k0002"]) == 2


SERVER = """
import os, socket
from pathlib import Path
state = Path(os.environ["CROUPIER_STATE"])
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("\\0" + str(state))
    listener.listen()
    while True:
        peer, _ = listener.accept()
        with peer:
            key = peer.recv(100).decode()
            with (state / "log").open("a") as log:
                log.write(key[:1])
                log.flush()
                log.write(key[1:])
            peer.sendall(b"ok")
"""
CLIENT = """
import os, socket, time
from pathlib import Path
place = "\\0" + os.environ["CROUPIER_STATE"]
for key in ("aa", "bb"):
    for _ in range(500):
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(place)
                peer.sendall(key.encode())
                assert peer.recv(10) == b"ok"
                break
        except OSError:
            time.sleep(0.01)
    print(key, flush=True)
"""


def test_a_server_is_killed_at_each_point_with_its_client_which_acknowledges(here):
    (here / "server.py").write_text(SERVER)
    (here / "client.py").write_text(CLIENT)
    check = python("""
        import os, sys
        from pathlib import Path
        log = Path(os.environ["CROUPIER_STATE"]) / "log"
        text = log.read_text() if log.exists() else ""
        acked = Path(os.environ["CROUPIER_ACKED"]).read_text().replace("\\n", "")
        sys.exit(0 if text.startswith(acked) and len(text) % 2 == 0 else f"{text!r} after {acked!r}")
    """)
    result = search("python server.py", check, until="python client.py")
    assert result.verdict == "violated", result.reasons
    assert result.acked == 2
    assert {one.reason for one in result.findings} == {"'a' after ''", "'aab' after 'aa'"}


def test_a_finding_says_where_in_the_program_the_call_is_made(tmp_path, monkeypatch):
    from croupier.explore.stacks import tool

    if not tool():
        pytest.skip("not installed: py-spy (pip install 'croupier[stacks]')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep.py").write_text(
        "import json, os, sys\n"
        "def save(n):\n"
        "    with open(os.environ['CROUPIER_STATE'] + '/notes.json', 'w') as out:\n"
        "        json.dump(list(range(n)), out)\n"
        "def main():\n"
        "    for n in range(1, 4):\n"
        "        save(n)\n"
        "        print(n, flush=True)\n"
        "main()\n"
    )
    check = "import json, os; json.load(open(os.environ['CROUPIER_STATE'] + '/notes.json'))"
    result = explore([sys.executable, str(tmp_path / "deep.py")], [sys.executable, "-c", check])
    stacks = {one.id: one.before.stack for one in result.findings if one.before is not None}
    found = stacks[next(one.first for one in result.groups if "emptied" in one.cause)]
    assert [frame.rpartition(" ")[2] for frame in found if not frame.startswith("…")] == ["save", "main", "<module>"]
    assert found[-1].startswith(f"{tmp_path}/deep.py:9")


def test_frames_of_libraries_are_folded():
    from croupier.explore.stacks import folded

    frames = [("/x/site-packages/a.py", 1, "one"), ("/x/site-packages/b.py", 2, "two"), ("/app/save.py", 7, "save")]
    assert folded(frames) == ("… 2 frames of libraries", "/app/save.py:7 save")
