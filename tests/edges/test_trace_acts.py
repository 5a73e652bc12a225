"""What a handler may do with a call: fail it, do a part of it, pretend, hold it."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from tracing import BACKENDS, python, watch

from croupier.trace import GO, MUTATING, READING, Act, Call, Delay, Fail, Lie, Short, Torn, memory, trace

OPEN = "import os\nfd = os.open('f', os.O_CREAT | os.O_RDWR)\n"

each_backend = pytest.mark.parametrize("backend", BACKENDS)


def at(index: int, act: Act) -> Callable[[Call], Act]:
    """Do this at the call of this number, and let the others go."""
    return lambda call: act if call.index == index else GO


@each_backend
def test_a_call_fails_with_the_error_that_was_given(backend: str, tmp_path: Path) -> None:
    program = python(OPEN + "try: os.write(fd, b'abc')\nexcept OSError as problem: os._exit(problem.errno)")
    traced, _ = watch(program, tmp_path, backend, at(2, Fail(errno=errno.ENOSPC)))
    assert traced.code == errno.ENOSPC
    assert (tmp_path / "f").read_bytes() == b""


@each_backend
@pytest.mark.parametrize("call", [
    "os.write(fd, b'abcdef')", "os.writev(fd, [b'ab', b'cdef'])", "os.pwrite(fd, b'abcdef', 0)",
    "os.pwritev(fd, [b'abc', b'def'], 0)", "os.pwritev(fd, [b'abc', b'def'], 0, os.RWF_DSYNC)",
    "os.copy_file_range(os.open('source', 0), fd, 6)", "os.copy_file_range(os.open('source', 0), fd, 6, 0, 0)",
    "os.sendfile(fd, os.open('source', 0), 0, 6)", "os.write(os.open('f', os.O_WRONLY | os.O_APPEND), b'abcdef')",
    "os.write(os.dup(fd), b'abcdef')",
])  # fmt: skip
def test_a_short_write_is_done_for_real_and_told(call: str, backend: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abcdef")
    program = python(OPEN + f"os._exit({call})")
    traced, watcher = watch(program, tmp_path, backend, at(2, Short(length=4)))
    assert (traced.code, watcher.calls[-1].index) == (4, 2)
    assert (tmp_path / "f").read_bytes() == b"abcd"


@each_backend
def test_a_program_that_writes_on_after_a_short_write_loses_nothing(backend: str, tmp_path: Path) -> None:
    program = python(OPEN + "data = b'0123456789' * 100\nwhile data: data = data[os.write(fd, data):]")
    traced, _ = watch(program, tmp_path, backend, lambda call: Short(length=70) if call.kind == "write" else GO)
    assert traced.calls == 16
    assert (tmp_path / "f").read_bytes() == b"0123456789" * 100


@each_backend
def test_a_torn_write_leaves_its_first_bytes_and_nobody_to_write_more(backend: str, tmp_path: Path) -> None:
    program = python(OPEN + "os.write(fd, b'one'); os.write(fd, b'x' * 10_000); os.write(fd, b'end')")
    traced, _ = watch(program, tmp_path, backend, at(3, Torn(length=4096)))
    assert (traced.killed_at, traced.signal) == (3, 9)
    assert (tmp_path / "f").read_bytes() == b"one" + b"x" * 4096


@each_backend
def test_a_call_that_has_no_bytes_cannot_be_torn(backend: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fsync cannot be cut"):
        watch(python(OPEN + "os.fsync(fd)"), tmp_path, backend, at(2, Torn(length=1)))


@each_backend
def test_a_short_read_waits_for_its_bytes_and_brings_the_first_of_them(backend: str, tmp_path: Path) -> None:
    program = python(
        "import os, socket, threading\n"
        "a, b = os.pipe(); c, d = socket.socketpair()\n"
        "late = threading.Timer(0.05, lambda: (os.write(b, b'pipe'), c.send(b'line')))\n"
        "late.start(); got = os.read(a, 9), d.recv(9), open('f', 'w').write('file')\n"
        "late.join(); os.set_blocking(a, False); f = os.open('f', os.O_RDONLY)\n"
        "got += os.pread(f, 9, 1), os.read(f, 9), os.read(f, 9), os.read(a, 2)\n"
        "try: os.read(a, 9)\n"
        "except BlockingIOError: print(*got, flush=True)\n"
    )
    out = bytearray()
    trace(program, cwd=tmp_path, backend=backend, calls=MUTATING | READING,  # type: ignore[arg-type]
          on_call=lambda call: Short(length=2) if call.kind == "read" and call.length == 9 else GO,
          on_output=out.extend, deadline_s=60)  # fmt: skip
    assert out.decode().split() == ["b'pi'", "b'li'", "4", "b'il'", "b'fi'", "b'le'", "b'pe'"]


@each_backend
def test_a_lie_says_that_it_was_done(backend: str, tmp_path: Path) -> None:
    program = python(OPEN + "assert os.write(fd, b'abc') == 2; os.fsync(fd); os.unlink('f'); print(os.listdir('.'))")
    acts = {2: Lie(result=2), 3: Lie(), 4: Lie()}
    traced, _ = watch(program, tmp_path, backend, lambda call: acts.get(call.index, GO))
    assert traced.code == 0
    assert (tmp_path / "f").read_bytes() == b""


@each_backend
def test_a_delayed_call_is_done_later_and_the_others_go_on(backend: str, tmp_path: Path) -> None:
    program = ("sh", "-c", "echo slow > slow & for i in 1 2 3 4 5; do echo $i >> fast; done; wait; echo end > end")
    order: list[str] = []

    def decide(call: Call) -> Act:
        order.append(Path(call.path).name)
        return Delay(delay_ms=300) if order[-1] == "slow" else GO

    traced, _ = watch(program, tmp_path, backend, decide)
    # Two calls each; the one that opens `slow` is held, so the one that writes to it comes after the others.
    assert order[-3:] == ["slow", "end", "end"] and order.count("fast") == 10
    assert (tmp_path / "slow").read_text() == "slow\n"
    assert traced.seconds >= 0.6


@each_backend
def test_results_are_told_as_far_as_the_backend_sees_them(backend: str, tmp_path: Path) -> None:
    results: list[tuple[str, int]] = []
    program = python(OPEN + "os.write(fd, b'abc'); os.fsync(fd)\ntry: os.rmdir('f')\nexcept OSError: pass")
    trace(
        program,
        on_call=at(3, Lie(result=0)),
        on_exit=lambda call, result: results.append((call.name, result)),
        cwd=tmp_path,
        backend=backend,  # type: ignore[arg-type]
    )
    if backend == "ptrace":
        fd = results[0][1]
        assert results == [("openat", fd), ("write", 3), ("fsync", 0), ("rmdir", -errno.ENOTDIR)]
    else:
        assert results == [("fsync", 0)]


@each_backend
def test_acts_work_where_descriptors_are_not_lent(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that forbids pidfd_getfd."""

    def forbidden(process: int, fd: int) -> int:
        raise PermissionError(errno.EPERM, "forbidden")

    monkeypatch.setattr(memory, "_getfd", forbidden)
    program = python(OPEN + "os.write(fd, b'one'); os.write(fd, b'x' * 10_000)")
    traced, watcher = watch(program, tmp_path, backend, at(3, Torn(length=5000)))
    assert (tmp_path / "f").read_bytes() == b"one" + b"x" * 5000
    assert watcher.seen[-1] == ("write", "write", "f", 3, 10_000)
    # A position that we cannot move is not pretended to have moved.
    (tmp_path / "f").unlink()
    program = python(OPEN + "try: os.write(fd, b'abc')\nexcept OSError as problem: os._exit(problem.errno)")
    traced, _ = watch(program, tmp_path, backend, at(2, Short(length=2)))
    assert traced.code == errno.EPERM


@each_backend
def test_garbage_collection_in_the_handler_harms_nobody(backend: str, tmp_path: Path) -> None:
    program = python(
        "import os\nfor i in range(30):\n    if os.fork() == 0: open(f'f{i}', 'w').write('x'); os._exit(0)"
    )

    def decide(call: Call) -> Act:
        gc.collect()
        return GO

    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        traced, _ = watch(program, tmp_path, backend, decide)
    finally:
        gc.set_threshold(*before)
    assert (traced.processes, len(list(tmp_path.iterdir()))) == (30, 30)
