"""Whatever the workload starts counts: shells, threads, daemons, static programs, sandboxes, other users."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from tracing import BACKENDS, kill_before, python, watch

import croupier
from croupier.trace import GO, Call, best, lacks, levels, table

each_backend = pytest.mark.parametrize("backend", BACKENDS)
COMPILER = shutil.which("cc")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
compiles = pytest.mark.skipif(COMPILER is None, reason="no C compiler here: programs in C are not tried")

RAW = (
    "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "def call(number, *args):\n"
    "    return libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])\n"
)


def compiled(source: str, place: Path, *flags: str) -> str:
    assert COMPILER is not None
    (place / "program.c").write_text(source)
    target = str(place / "program")
    subprocess.run([COMPILER, "-O1", *flags, "-o", target, str(place / "program.c")], check=True)
    return target


def runs_as(user: pwd.struct_passwd, interpreter: str) -> bool:
    """Whether this user can run it, and it is the same version as ours, so that it can import what we can."""
    check = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    try:
        done = subprocess.run(
            [interpreter, "-I", "-S", "-c", check], user=user.pw_uid, group=user.pw_gid, cwd="/", capture_output=True
        )
    except OSError:
        return False
    return done.returncode == 0


@each_backend
def test_a_shell_with_a_pipeline_is_seen_in_order(backend: str, tmp_path: Path) -> None:
    script = "echo one > a; cat a | cat > b; (cd /; echo three) > c; mv a d; exec rm b"
    traced, watcher = watch(["sh", "-c", script], tmp_path, backend)
    steps = [step for step in watcher.inside if step[0] != "other"]
    assert steps == [
        ("create", "a"), ("write", "a"), ("create", "b"), ("write", "b"), ("create", "c"), ("write", "c"),
        ("rename", "a"), ("unlink", "b"),
    ]  # fmt: skip
    assert traced.code == 0 and traced.blind == ()


@each_backend
def test_a_daemon_is_traced_after_its_parents_are_gone(backend: str, tmp_path: Path) -> None:
    program = python(
        "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n"
        "time.sleep(0.1)\nfor i in range(5): open(f'f{i}', 'w').write('x')"
    )
    traced, watcher = watch(program, tmp_path, backend)
    assert (traced.calls, traced.code, len(watcher.inside)) == (10, 0, 10)


@each_backend
def test_a_program_that_becomes_another_is_still_the_same_process(backend: str, tmp_path: Path) -> None:
    program = python("import os\nopen('f', 'w')\nos.execvp('sh', ['sh', '-c', 'echo x > g'])")
    traced, watcher = watch(program, tmp_path, backend)
    assert watcher.inside == [("create", "f"), ("create", "g"), ("write", "g")]
    assert traced.processes == 1


@each_backend
def test_a_thread_that_becomes_another_program_ends_its_siblings(backend: str, tmp_path: Path) -> None:
    program = python(
        "import os, threading, time\n"
        "def write():\n    while True: open('f', 'w').write('x')\n"
        "[threading.Thread(target=write, daemon=True).start() for _ in range(2)]\n"
        "time.sleep(0.05)\n"
        "threading.Thread(target=lambda: os.execvp('sh', ['sh', '-c', 'echo x > g'])).start()\n"
        "time.sleep(10)"
    )
    traced, _ = watch(program, tmp_path, backend)
    assert traced.code == 0 and (tmp_path / "g").read_text() == "x\n"
    assert traced.seconds < 5


@each_backend
def test_a_thread_killed_in_the_middle_of_a_call_is_no_trouble(backend: str, tmp_path: Path) -> None:
    """The handler takes its time, and the process is gone before the answer."""
    program = ("sh", "-c", "(while :; do echo x >> f; done) & sleep 0.1; kill -9 $!; echo done > g")

    def decide(call: Call) -> object:
        if call.path.endswith("/f"):
            time.sleep(0.001)
        return GO

    traced, _ = watch(program, tmp_path, backend, decide)  # type: ignore[arg-type]
    assert traced.code == 0 and (tmp_path / "g").exists()


@each_backend
def test_a_process_may_stop_and_go_on(backend: str, tmp_path: Path) -> None:
    program = (
        "sh", "-c",
        "(echo a > a; kill -STOP $(exec sh -c 'echo $PPID'); echo b > b) & sleep 0.2; test ! -e b || exit 9; "
        "kill -CONT $!; wait; cat b",
    )  # fmt: skip
    traced, _ = watch(program, tmp_path, backend)
    assert traced.code == 0 and (tmp_path / "b").exists()


@each_backend
def test_a_workload_with_its_own_filter_keeps_it(backend: str, tmp_path: Path) -> None:
    """What it refuses fails as it should, what it lets go is still ours to see; a listener it cannot have."""
    number = table.machine().numbers  # type: ignore[union-attr]
    program = python(
        RAW + "import os, struct\n"
        "def install(answer, flags=0):\n"
        "    lines = b''.join(struct.pack('=HBBI', *one) for one in\n"
        f"        [(32, 0, 0, 0), (21, 0, 1, {number['mkdirat']}), (6, 0, 0, answer), (6, 0, 0, 0x7fff0000)])\n"
        "    text = ctypes.create_string_buffer(lines, len(lines))\n"
        "    program = ctypes.create_string_buffer(struct.pack('=HxxxxxxQ', 4, ctypes.addressof(text)), 16)\n"
        "    libc.prctl(38, ctypes.c_ulong(1), 0, 0, 0)\n"
        f"    return call({number['seccomp']}, 1, flags, program)\n"
        "assert install(0x50000 | 13) == 0\n"
        "open('f', 'w').write('x')\n"
        f"assert call({number['mkdirat']}, -100, b'd', 0o755) == -1 and ctypes.get_errno() == 13\n"
        "assert install(0x7fc00000, 8) == -1 and ctypes.get_errno() == 16\n"
        "open('g', 'w').write('x')\n"
    )
    traced, watcher = watch(program, tmp_path, backend)
    assert traced.code == 0
    assert [path for kind, path in watcher.inside if kind == "create"] == ["f", "g"]
    assert len(traced.blind) == 1 and "EBUSY" in traced.blind[0]


@each_backend
@compiles
def test_a_static_program_is_seen_as_any_other(backend: str, tmp_path: Path) -> None:
    program = compiled(
        "#include <fcntl.h>\n#include <unistd.h>\n#include <stdio.h>\n"
        "int main(void) { int fd = open(\"f\", O_CREAT | O_WRONLY, 0644); write(fd, \"abc\", 3); fsync(fd);"
        " if (vfork() == 0) { execl(\"/bin/sh\", \"sh\", \"-c\", \"echo x > g\", (char *)0); _exit(1); }"
        " rename(\"f\", \"h\"); return 0; }",
        tmp_path, "-static", "-w",
    )  # fmt: skip
    (tmp_path / "state").mkdir()
    traced, watcher = watch([program], tmp_path / "state", backend)
    assert [step for step in watcher.inside if "g" not in step[1]] == [
        ("create", "f"), ("write", "f"), ("sync", "f"), ("rename", "f"),
    ]  # fmt: skip
    assert ("write", "g") in watcher.inside and traced.processes == 2


@each_backend
@compiles
def test_clone3_and_threads_of_c_are_seen(backend: str, tmp_path: Path) -> None:
    program = compiled(
        "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <unistd.h>\n#include <sched.h>\n#include <pthread.h>\n"
        "#include <sys/syscall.h>\n#include <sys/wait.h>\n#include <stdint.h>\n#include <string.h>\n"
        "static int fd;\n"
        "static void *work(void *_) { for (int i = 0; i < 20; i++) write(fd, \"x\", 1); return _; }\n"
        "int main(void) { fd = open(\"log\", O_CREAT | O_WRONLY | O_APPEND, 0644); pthread_t crew[3];\n"
        " for (int i = 0; i < 3; i++) pthread_create(&crew[i], 0, work, 0);\n"
        " for (int i = 0; i < 3; i++) pthread_join(crew[i], 0);\n"
        " uint64_t args[11]; memset(args, 0, sizeof args); args[4] = 17;\n"
        " long pid = syscall(435, args, 88); if (pid == 0) { work(0); _exit(0); }\n"
        " waitpid(pid, 0, 0); return pid < 0; }",
        tmp_path, "-pthread", "-w",
    )  # fmt: skip
    state = tmp_path / "state"
    state.mkdir()
    traced, _ = watch([program], state, backend)
    assert (traced.code, traced.calls, traced.processes, traced.blind) == (0, 81, 2, ())
    assert (state / "log").stat().st_size == 80
    (state / "log").unlink()
    watch([program], state, backend, kill_before(42))
    assert (state / "log").stat().st_size == 40


@each_backend
@compiles
def test_calls_of_another_architecture_are_said_to_be_unseen(backend: str, tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("x86-64 alone takes calls of two architectures from one program")
    program = compiled(
        'int main(void) { int r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20)); return r <= 0; }', tmp_path
    )
    traced, _ = watch([program], tmp_path, backend)
    if traced.code != 0:
        pytest.skip("this kernel takes no 32-bit calls")
    assert len(traced.blind) == 1 and "another architecture" in traced.blind[0]


@each_backend
@as_root
def test_an_ordinary_user_may_trace(backend: str, tmp_path: Path) -> None:
    """Seen, killed exactly, torn; and it is said that a setuid program got no more rights than its caller."""
    open_to_all = tmp_path
    while open_to_all != open_to_all.parent:
        open_to_all.chmod(open_to_all.stat().st_mode | 0o011)
        open_to_all = open_to_all.parent
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    nobody = pwd.getpwnam("nobody")
    # Neither the checkout nor a virtual environment in it need be open to others.
    library = tmp_path / "library"
    for module in (croupier, msgspec):
        shutil.copytree(Path(module.__file__ or "").parent, library / module.__name__)
    source = [str(library)]
    script = (
        f"import os, sys\nsys.path[:0] = {source!r}\n"
        "from croupier.trace import GO, KILL, Torn, trace\n"
        f"def run(argv, decide): return trace(argv, on_call=decide, cwd={str(state)!r}, backend={backend!r})\n"
        "write = ['sh', '-c', 'for i in 1 2 3 4; do printf x >> log; done']\n"
        "assert run(write, lambda call: KILL if call.index == 6 else GO).signal == 9\n"
        f"assert os.path.getsize({str(state / 'log')!r}) == 2\n"
        "traced = run(['sh', '-c', 'printf 123456 > torn'], lambda call: Torn(length=3) if call.index == 2 else GO)\n"
        f"assert open({str(state / 'torn')!r}).read() == '123'\n"
        "assert traced.blind == ()\n"
        f"traced = run([{str(tmp_path / 'setuid')!r}, '-u'], lambda call: GO)\n"
        "assert traced.code == 0 and 'setuid' in traced.blind[0], traced\n"
        f"traced = run([{str(tmp_path / 'hidden')!r}, '-u'], lambda call: GO)\n"
        "assert traced.code == 0 and 'may not be read' in traced.blind[0], traced\n"
        "print('fine')\n"
    )
    identity = shutil.which("id")
    assert identity
    shutil.copy(identity, tmp_path / "setuid")
    (tmp_path / "setuid").chmod(0o4755)
    shutil.copy(identity, tmp_path / "hidden")
    (tmp_path / "hidden").chmod(0o711)
    interpreter = next((one for one in (sys.executable, "/usr/bin/python3") if runs_as(nobody, one)), None)
    if interpreter is None:
        pytest.skip("no Python here that another user can run")
    done = subprocess.run(
        [interpreter, "-I", "-S", "-c", script], user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], cwd="/",
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "fine"


@each_backend
def test_twenty_thousand_calls_go_through(backend: str, tmp_path: Path) -> None:
    program = python(
        "import os\nfd = os.open('f', os.O_CREAT | os.O_WRONLY)\nfor i in range(20_000): os.write(fd, b'x')"
    )
    traced, _ = watch(program, tmp_path, backend)
    assert (traced.calls, (tmp_path / "f").stat().st_size) == (20_001, 20_000)


def test_both_backends_tell_the_same_calls(tmp_path: Path) -> None:
    program = (
        "import os, sqlite3\nfor mode in ('delete', 'wal'):\n"
        "    base = sqlite3.connect(f'{mode}.db'); base.execute(f'pragma journal_mode={mode}')\n"
        "    base.execute('create table t (a)')\n"
        "    for i in range(3): base.execute('insert into t values (?)', (i,)); base.commit()\n"
        "    base.close()\n"
    )
    told = []
    for backend in BACKENDS:
        root = tmp_path / backend
        root.mkdir()
        _, watcher = watch(python(program), root, backend)
        told.append([(name, kind, path.removeprefix(str(root)), *rest) for name, kind, path, *rest in watcher.seen])
    assert told[0] == told[1] and len(told[0]) > 30


def test_the_levels_name_what_works_and_why_the_others_do_not() -> None:
    found = levels()
    assert [level.name for level in found] == ["seccomp", "ptrace", "fuse", "shim", "events", "clock"]
    for level in found[:2]:
        assert (level.here == "yes") == (lacks(level.name) == "")  # type: ignore[arg-type]
        assert level.detail and (level.here == "yes" or level.get)
    assert best() == next(level.name for level in found if level.here == "yes")


def test_a_machine_without_either_way_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under a filter that forbids both, as in a strict container."""
    number = table.machine().numbers  # type: ignore[union-attr]
    program = (
        f"import sys\nsys.path[:0] = {sys.path!r}\n" + RAW + "import struct\n"
        "def forbid(number):\n"
        "    lines = b''.join(struct.pack('=HBBI', *one) for one in\n"
        "        [(32, 0, 0, 0), (21, 0, 1, number), (6, 0, 0, 0x50000 | 1), (6, 0, 0, 0x7fff0000)])\n"
        "    text = ctypes.create_string_buffer(lines, len(lines))\n"
        "    program = ctypes.create_string_buffer(struct.pack('=HxxxxxxQ', 4, ctypes.addressof(text)), 16)\n"
        "    libc.prctl(38, ctypes.c_ulong(1), 0, 0, 0)\n"
        f"    assert call({number['seccomp']}, 1, 0, program) == 0\n"
        "from croupier.trace import GO, lacks, best, trace\n"
        "forbid(101)\n"  # ptrace
        "assert best() == 'seccomp' and 'not allowed' in lacks('ptrace'), lacks('ptrace')\n"
        f"forbid({number['seccomp']})\n"
        "lacks.cache_clear()\n"
        "from croupier.trace import launch; launch._current = None\n"
        "assert 'filtered' in lacks('seccomp'), lacks('seccomp')\n"
        "try: trace(['true'], on_call=lambda call: GO)\n"
        "except Exception as problem: print(type(problem).__name__)\n"
    )
    if os.uname().machine != "x86_64":
        pytest.skip("written with a number of x86-64")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "HarnessError"), done.stderr
