"""A kill lands exactly where it was aimed, on everything at once, and nothing outlives the tracer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hands import eventually
from tracing import BACKENDS, PATIENCE_S, kill_before, python, watch

import croupier
from croupier.model.errors import ExperimentError, HarnessError
from croupier.system import procs
from croupier.trace import GO, KILL, Call, trace

WRITES = "import os\nfd = os.open('log', os.O_CREAT | os.O_WRONLY | os.O_APPEND)\n"
TEN = python(WRITES + "for i in range(10): os.write(fd, b'x')")
TWO_WRITERS = (
    "sh",
    "-c",
    "(for i in 1 2 3 4 5; do printf x >> log; done) & (for i in 1 2 3 4 5; do printf x >> log; done) & wait",
)
FOUR_THREADS = python(
    WRITES + "import threading\n"
    "def work():\n    for i in range(8): os.write(fd, b'x')\n"
    "crew = [threading.Thread(target=work) for _ in range(4)]\n"
    "[one.start() for one in crew]; [one.join() for one in crew]\n"
)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_before_call_n_a_program_has_done_exactly_the_calls_before_it(backend: str, tmp_path: Path) -> None:
    for aim in range(1, 13):
        root = tmp_path / str(aim)
        root.mkdir()
        traced, _ = watch(TEN, root, backend, kill_before(aim))
        # The first call opens the file.
        assert size(root / "log") == max(0, aim - 2)
        assert traced.killed_at == (aim if aim < 12 else None)
        assert (traced.ended, traced.signal) == (("killed", signal.SIGKILL) if aim < 12 else ("by itself", None))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("workload", [TWO_WRITERS, FOUR_THREADS], ids=["processes", "threads"])
def test_of_several_at_once_exactly_the_calls_before_the_kill_are_done(
    workload: tuple[str, ...], backend: str, tmp_path: Path
) -> None:
    for aim in range(1, 34, 3):
        root = tmp_path / str(aim)
        root.mkdir()
        written = 0

        def decide(call: Call, aim: int = aim) -> object:
            nonlocal written
            if call.index >= aim:
                return KILL
            written += call.kind == "write"
            return GO

        traced, _ = watch(workload, root, backend, decide)  # type: ignore[arg-type]
        assert size(root / "log") == written
        assert traced.blind == ()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_stands_in_the_file_at_each_call_is_exactly_what_was_called_before(backend: str, tmp_path: Path) -> None:
    written, found = 0, []

    def decide(call: Call) -> object:
        nonlocal written
        if call.kind == "write":
            found.append((written, size(tmp_path / "log")))
            written += 1
        return GO

    traced, _ = watch(FOUR_THREADS, tmp_path, backend, decide)  # type: ignore[arg-type]
    assert (written, traced.blind) == (32, ())
    assert [there for there, _ in found] == [there for _, there in found]


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_a_kill_nobody_of_the_tree_is_left(backend: str, tmp_path: Path) -> None:
    daemon = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(300)"
    workload = ("sh", "-c", f"'{sys.executable}' -I -S -c '{daemon}'; sleep 300 & echo x > f; sleep 300")
    tree: list[int] = []

    def decide(call: Call) -> object:
        tree.extend(procs.tree(call.pid))
        return KILL

    traced, _ = watch(workload, tmp_path, backend, decide)  # type: ignore[arg-type]
    assert traced.signal == signal.SIGKILL
    assert tree and not any(Path(f"/proc/{pid}").exists() for pid in tree)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fork_bomb_ends_with_its_kill(backend: str, tmp_path: Path) -> None:
    forks = python("import os,time\nfor i in range(60):\n    if os.fork() == 0 and i % 9: time.sleep(9); os._exit(0)\n"
                   "    open('log','a').write('x')")  # fmt: skip
    begun = time.monotonic()
    traced, _ = watch(forks, tmp_path, backend, kill_before(40))
    assert traced.ended == "killed"
    assert size(tmp_path / "log") <= 40
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_workload_dies_with_its_tracer(backend: str, tmp_path: Path) -> None:
    """Also what had slipped into a session of its own, and nobody writes on with calls that fail."""
    program = python(
        "import os,time\n"
        "for i in range(3):\n"
        "    if os.fork() == 0: os.setsid()\n"
        "fd = os.open(f'log{os.getpid()}', os.O_CREAT | os.O_WRONLY)\n"
        "while True:\n"
        "    try: os.write(fd, b'x')\n"
        "    except OSError as problem: os.open(f'wrong{problem.errno}', os.O_CREAT); os.mkdir('wrong')\n"
    )
    tracer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom croupier.trace import GO, trace\n"
            f"trace(sys.argv[1:], on_call=lambda call: GO, backend={backend!r})",
            *program,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(croupier.__file__).parent.parent)},
    )
    try:
        assert eventually(lambda: len(list(tmp_path.glob("log*"))) == 8, within_s=20)
        workers = [int(one.name[3:]) for one in tmp_path.glob("log*")]
    finally:
        tracer.kill()
        tracer.wait()
    assert eventually(lambda: not any(procs.alive(who) for pid in workers if (who := procs.identity(pid))))
    assert not list(tmp_path.glob("wrong*"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_workload_ends_when_its_nanny_is_killed(backend: str, tmp_path: Path) -> None:
    program = python("import os\nif os.fork() == 0: os.setsid()\nwhile True: open(f'log{os.getpid()}', 'a').write('x')")
    seen: set[int] = set()

    def decide(call: Call) -> object:
        seen.add(call.pid)
        if call.index == 30:
            main = min(seen)
            parent = procs.read_stat(main)
            assert parent
            os.kill(parent.parent, signal.SIGKILL)
        return GO

    with pytest.raises(HarnessError, match="nanny"):
        watch(program, tmp_path, backend, decide)  # type: ignore[arg-type]
    assert eventually(lambda: not any(procs.alive(who) for pid in seen if (who := procs.identity(pid))))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_handler_that_raises_ends_the_workload(backend: str, tmp_path: Path) -> None:
    pids: list[int] = []

    def on_call(call: Call) -> object:
        pids.append(call.pid)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trace(TEN, on_call=on_call, cwd=tmp_path, backend=backend)  # type: ignore[arg-type]
    assert not Path(f"/proc/{pids[0]}").exists() and size(tmp_path / "log") == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_workload_ends_at_its_deadline_however_it_hangs(backend: str, tmp_path: Path) -> None:
    hangs = python("import signal,time\nsignal.pthread_sigmask(0, range(1, 64))\nopen('f', 'w')\ntime.sleep(300)")
    traced = trace(hangs, on_call=lambda call: GO, cwd=tmp_path, backend=backend, deadline_s=0.3)  # type: ignore[arg-type]
    assert (traced.ended, traced.signal) == ("deadline", signal.SIGKILL)
    assert traced.seconds < 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_outlives_the_main_process_is_waited_for_as_long_as_was_said(backend: str, tmp_path: Path) -> None:
    leaves = ("sh", "-c", "(sleep 0.2; echo late > late; sleep 300) & exit 3")
    traced = trace(leaves, on_call=lambda call: GO, cwd=tmp_path, backend=backend, linger_s=1.0)  # type: ignore[arg-type]
    assert (traced.ended, traced.code) == ("lingering", 3)
    assert (tmp_path / "late").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_caller_may_stop_the_workload(backend: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    workload = python("while True: open('f', 'a').write('x')")

    def on_call(call: Call) -> object:
        if call.index == 50:
            os.write(writer, b"!")
        return GO

    try:
        traced = trace(
            workload,
            on_call=on_call,  # type: ignore[arg-type]
            cwd=tmp_path,
            backend=backend,  # type: ignore[arg-type]
            stop_fd=reader,
            deadline_s=PATIENCE_S,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert (traced.ended, traced.killed_at) == ("stopped", None)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_program_that_is_not_there_is_said_to_be_so(backend: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "odd").write_text("hello")
    (tmp_path / "odd").chmod(0o755)
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "lost").chmod(0o755)
    for name, says in (("no-such-program", "not found"), ("./text", "no permission"), ("./odd", "not a program"),
                       ("./lost", "first line")):  # fmt: skip
        with pytest.raises(ExperimentError, match=says):
            watch([name], tmp_path, backend)
    with pytest.raises(ExperimentError, match="directory"):
        watch(["true"], tmp_path / "nowhere", backend)
    with pytest.raises(ExperimentError, match="no workload"):
        watch([], tmp_path, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_traces_leave_nothing_behind(backend: str, tmp_path: Path) -> None:
    watch(["true"], tmp_path, backend)
    files, children = len(list(Path("/proc/self/fd").iterdir())), len(procs.tree(os.getpid()))
    for _ in range(15):
        watch(TEN, tmp_path, backend, kill_before(4))
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    # The last nanny may still be on its way out.
    assert eventually(lambda: len(procs.tree(os.getpid())) <= children)
