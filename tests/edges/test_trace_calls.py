"""Every call that changes a file is seen, with the file it changes, by whatever way the program names it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from tracing import BACKENDS, python, watch

from croupier.trace import GO, SENDING, SHAPES, SPAWNING, Call, table, trace

CALLS = [
    # What a program does, and what is seen of it: call, kind, path, offset, length.
    ("os.open('new', os.O_CREAT)", [("openat", "create", "new", None, None)]),
    ("os.open('f', os.O_CREAT | os.O_WRONLY)", [("openat", "other", "f", None, None)]),
    ("os.open('f', os.O_TRUNC | os.O_WRONLY)", [("openat", "open-trunc", "f", None, None)]),
    ("os.open('f', os.O_RDWR)", []),
    ("os.open('.', os.O_TMPFILE | os.O_RDWR)", [("openat", "create", "", None, None)]),
    ("os.write(fd, b'abc')", [("write", "write", "f", 4, 3)]),
    ("os.pwrite(fd, b'abc', 2)", [("pwrite64", "write", "f", 2, 3)]),
    ("os.writev(fd, [b'ab', b'cde'])", [("writev", "write", "f", 4, 5)]),
    ("os.pwritev(fd, [b'ab', b'cde'], 1)", [("pwritev|pwritev2", "write", "f", 1, 5)]),
    ("os.pwritev(fd, [b'ab'], 1, os.RWF_DSYNC)", [("pwritev2", "write", "f", 1, 2)]),
    ("os.write(os.open('f', os.O_WRONLY | os.O_APPEND), b'xy')", [("write", "write", "f", 10, 2)]),
    ("os.write(os.dup(fd), b'xy')", [("write", "write", "f", 4, 2)]),
    ("os.ftruncate(fd, 3)", [("ftruncate", "truncate", "f", None, 3)]),
    ("os.truncate('f', 3)", [("truncate", "truncate", "f", None, 3)]),
    ("os.truncate('to-f', 3)", [("truncate", "truncate", "f", None, 3)]),
    ("os.posix_fallocate(fd, 0, 100)", [("fallocate", "allocate", "f", 0, 100)]),
    ("os.copy_file_range(fd, g, 4, 2, 1)", [("copy_file_range", "copy", "d/g", 1, 4)]),
    ("os.sendfile(g, fd, 0, 4)", [("sendfile", "copy", "d/g", 0, 4)]),
    ("r, w = os.pipe(); os.write(w, b'abc'); os.splice(r, fd, 3)",
     [("write", "write", "", None, 3), ("splice", "splice", "f", 4, 3)]),
    ("os.rename('f', 'h')", [("rename", "rename", "f", None, None)]),
    ("os.rename('f', 'h', src_dir_fd=here, dst_dir_fd=there)", [("renameat", "rename", "f", None, None)]),
    ("os.link('f', 'h')", [("link", "link", "f", None, None)]),
    ("os.symlink('f', 'h')", [("symlink", "symlink", "", None, None)]),
    ("os.unlink('f')", [("unlink", "unlink", "f", None, None)]),
    ("os.unlink('g', dir_fd=there)", [("unlinkat", "unlink", "d/g", None, None)]),
    ("os.unlink('to-f')", [("unlink", "unlink", "to-f", None, None)]),
    ("os.mkdir('e')", [("mkdir", "mkdir", "e", None, None)]),
    ("os.rmdir('empty')", [("rmdir", "rmdir", "empty", None, None)]),
    ("os.rmdir('empty', dir_fd=here)", [("unlinkat", "rmdir", "empty", None, None)]),
    ("os.mkfifo('e')", [("mknod|mknodat", "create", "e", None, None)]),
    ("os.mkfifo('e', dir_fd=there)", [("mknodat", "create", "d/e", None, None)]),
    ("os.chmod('to-f', 0o600)", [("chmod", "attr", "f", None, None)]),
    ("os.fchmod(fd, 0o600)", [("fchmod", "attr", "f", None, None)]),
    ("os.chown('f', -1, -1)", [("chown", "attr", "f", None, None)]),
    ("os.utime('f')", [("utimensat", "attr", "f", None, None)]),
    ("os.utime(fd)", [("utimensat", "attr", "f", None, None)]),
    ("os.setxattr('f', 'user.a', b'1')", [("setxattr", "xattr", "f", None, None)]),
    ("os.fsync(fd)", [("fsync", "sync", "f", None, None)]),
    ("os.fsync(there)", [("fsync", "sync", "d", None, None)]),
    ("os.fdatasync(fd)", [("fdatasync", "sync", "f", None, None)]),
    ("os.write(os.open(f'/proc/self/fd/{fd}', os.O_WRONLY | os.O_TRUNC), b'x')",
     [("openat", "open-trunc", "f", None, None), ("write", "write", "f", 0, 1)]),
    ("os.chdir('d'); os.write(os.open('../f', os.O_WRONLY | os.O_CREAT), b'x')",
     [("openat", "other", "f", None, None), ("write", "write", "f", 0, 1)]),
    ("os.unlink('f'); os.write(fd, b'x')", [("unlink", "unlink", "f", None, None), ("write", "write", "f", 4, 1)]),
    ("import mmap; m = mmap.mmap(fd, 10); m[0] = 65; m.flush()",
     [("mmap", "mmap", "f", 0, 10), ("msync", "msync", "f", None, 10)]),
    ("import mmap; m = mmap.mmap(fd, 10, prot=mmap.PROT_READ)", []),
    ("import mmap; m = mmap.mmap(fd, 10); m.madvise(mmap.MADV_NORMAL); m.madvise(mmap.MADV_REMOVE)",
     [("mmap", "mmap", "f", 0, 10), ("madvise", "allocate", "f", None, 10)]),
    ("import mmap; m = mmap.mmap(fd, 10, flags=mmap.MAP_PRIVATE); m[0] = 65", []),
    ("import socket; socket.socket(socket.AF_UNIX).bind('s')", [("bind", "create", "s", None, None)]),
    # A name that no other test, at the same time, has.
    ("import os, socket; socket.socket(socket.AF_UNIX).bind(f'\\0{os.getpid()}')", [("bind", "other", "", None, None)]),
]  # fmt: skip

PREPARE = (
    "import os\nfd = os.open('f', os.O_RDWR); os.lseek(fd, 4, 0)\n"
    "here = os.open('.', 0); there = os.open('d', 0); g = os.open('d/g', os.O_RDWR)\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "f").write_bytes(b"0123456789")
    (tmp_path / "to-f").symlink_to("f")
    for name in ("d", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "d" / "g").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("program", "expected"), CALLS, ids=[program for program, _ in CALLS])
def test_a_call_is_seen_with_its_file(
    program: str, expected: list[tuple[str, str, str, int | None, int | None]], backend: str, root: Path
) -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("the names of calls are those of x86-64")
    traced, watcher = watch(python(PREPARE + program), root, backend)
    assert traced.code == 0
    seen = [(name, kind, "" if path == str(root) else path, offset, length)
            for name, kind, path, offset, length in watcher.seen]  # fmt: skip
    # Which of two calls a library makes is its own business.
    assert [rest for _, *rest in seen] == [rest for _, *rest in expected]
    assert all(one[0] in other[0].split("|") for one, other in zip(seen, expected, strict=True))
    assert traced.blind == ()


RAW = (
    "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "def call(number, *args):\n"
    "    return libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])\n"
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_calls_that_only_a_library_makes_are_seen(backend: str, root: Path) -> None:
    number = table.machine().numbers  # type: ignore[union-attr]
    program = python(
        PREPARE
        + RAW
        + f"call({number['renameat2']}, -100, b'f', -100, b'd/g', 2)\n"
        + f"call({number['sync_file_range']}, fd, 4096, 8192, 7)\n"
        + f"call({number['fchmodat2']}, -100, b'd/g', 0o600, 0)\n"
        + "how = (ctypes.c_uint64 * 3)(0o101, 0o644, 0)\n"
        + f"call({number['openat2']}, -100, b'by-openat2', how, 24)\n"
        + "how = (ctypes.c_uint64 * 3)(0, 0, 0)\n"
        + f"call({number['openat2']}, -100, b'f', how, 24)\n"
        + f"call({number['syncfs']}, fd); os.sync()\n"
        + "temporary = os.open('.', os.O_TMPFILE | os.O_RDWR)\n"
        + "os.write(temporary, b'x')\n"
        + "os.link(f'/proc/self/fd/{temporary}', 'named', src_dir_fd=here, follow_symlinks=True)\n"
    )
    second, deleted = [], []

    def decide(call: Call) -> object:
        second.append(call.path2.removeprefix(f"{root}/"))
        deleted.append(call.deleted)
        return GO

    traced, watcher = watch(program, root, backend, decide)  # type: ignore[arg-type]
    assert traced.code == 0 and (root / "named").read_bytes() == b"x"
    assert [(call.name, watcher.below(call.path)) for call in watcher.calls][:5] == [
        ("renameat2", "f"), ("sync_file_range", "d/g"), ("fchmodat2", "d/g"), ("openat2", "by-openat2"),
        ("syncfs", "d/g"),
    ]  # fmt: skip
    exchange, ranged, *_ = watcher.calls
    assert (second[0], exchange.flags) == ("d/g", 2)
    assert (ranged.kind, ranged.offset, ranged.length) == ("sync-range", 4096, 8192)
    *_, open_temporary, write, link = watcher.calls
    assert (open_temporary.kind, open_temporary.path) == ("create", str(root))
    assert (write.kind, link.kind, second[-1]) == ("write", "link", "named")
    assert deleted[-2] and not any(deleted[:-2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_write_is_told_with_its_bytes_and_whether_it_is_on_the_disk_at_once(backend: str, root: Path) -> None:
    program = python(
        "import os\n"
        "plain, dsync, sync = (os.open('f', os.O_WRONLY | flag) for flag in (0, os.O_DSYNC, os.O_SYNC))\n"
        "os.write(plain, b'one'); os.writev(dsync, [b't', b'wo']); os.pwrite(sync, b'three', 1)\n"
        "os.pwritev(plain, [b'four'], 0, os.RWF_SYNC)\n"
    )
    found = []

    def decide(call: Call) -> object:
        found.append((call.read_data(), call.sync, call.read_data(2)))
        return GO

    watch(program, root, backend, decide)  # type: ignore[arg-type]
    assert found == [(b"one", False, b"on"), (b"two", True, b"tw"), (b"three", True, b"th"), (b"four", True, b"fo")]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_descriptor_that_was_open_from_the_start_is_traced_like_any_other(backend: str, root: Path) -> None:
    with (root / "log").open("wb") as log:
        seen = []

        def on_call(call: Call) -> object:
            seen.append((call.kind, call.stream, call.path, call.read_data()))
            return GO

        trace(["sh", "-c", "echo told; echo wrong >&2"], on_call=on_call, cwd=root, stdout=log.fileno(), stderr=2,  # type: ignore
              backend=backend)  # type: ignore # fmt: skip
    assert seen[0] == ("output", "stdout", str(root / "log"), b"told\n")
    assert [kind for kind, *_ in seen] == ["output", "output"] and seen[1][1] == "stderr"


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_printed_before_a_call_is_known_when_the_call_is_looked_at(backend: str, root: Path) -> None:
    program = python("import os\nfor i in range(40):\n    os.write(1, b'ack %d\\n' % i)\n    os.write(3, b'x')\n")
    heard = bytearray()
    known = []

    def on_call(call: Call) -> object:
        if call.file_kind == "file":
            known.append(bytes(heard).count(b"\n"))
        return GO

    workload = ("sh", "-c", 'exec "$@" 3>> log', "sh", *program)
    trace(workload, on_call=on_call, on_output=heard.extend, cwd=root, backend=backend)  # type: ignore[arg-type]
    # The first is the shell's own, which opens the log.
    assert [one for one in known if one] == list(range(1, 41))
    assert heard.count(b"\n") == 40


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_workload_that_prints_a_lot_is_not_held_up(backend: str, root: Path) -> None:
    heard = bytearray()
    program = python("import os\nfor i in range(50): os.write(1, b'x' * 200_000)")
    traced = trace(program, on_call=lambda call: GO, on_output=heard.extend, backend=backend, deadline_s=60)  # type: ignore[arg-type]
    assert (traced.ended, len(heard)) == ("by itself", 10_000_000)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mapping_made_writable_later_is_seen(backend: str, root: Path) -> None:
    program = python(
        PREPARE + RAW + "libc.mmap.restype = ctypes.c_void_p\n"
        "there = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, fd, ctypes.c_long(0))\n"
        "libc.mprotect(ctypes.c_void_p(there), ctypes.c_size_t(4096), 3)\n"
        "ctypes.memset(there, 65, 3)\n"
    )
    traced, watcher = watch(program, root, backend)
    assert traced.code == 0
    assert [(name, kind, path) for name, kind, path, *_ in watcher.seen] == [("mprotect", "mmap", "f")]


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_calls_that_were_asked_for_are_told(backend: str, root: Path) -> None:
    seen = []

    def on_call(call: Call) -> object:
        seen.append((call.name, call.argv if call.kind == "spawn" else call.path))
        return GO

    calls = frozenset({"fsync"}) | SPAWNING
    trace(["sh", "-c", "echo a > x; true; sync x; cat f"], on_call=on_call, cwd=root, calls=calls, stdout=1,  # type: ignore
          backend=backend)  # type: ignore # fmt: skip
    assert seen[0] == ("execve", ("sh", "-c", "echo a > x; true; sync x; cat f"))
    assert [name for name, _ in seen] == ["execve", "execve", "fsync", "execve"]
    assert seen[2][1] == str(root / "x")


@pytest.mark.parametrize("backend", BACKENDS)
def test_calls_that_send_on_a_socket_are_told_when_asked_for(backend: str, root: Path) -> None:
    program = python(
        "import socket\na, b = socket.socketpair()\na.send(b'one'); a.sendmsg([b'two'])\n"
        "assert b.recv(6, socket.MSG_WAITALL) == b'onetwo'"
    )
    seen = []

    def on_call(call: Call) -> object:
        seen.append((call.name, call.kind, call.file_kind))
        return GO

    a, b = socket.socketpair()
    traced = trace(program, on_call=on_call, calls=SENDING, backend=backend)  # type: ignore[arg-type]
    a.close()
    b.close()
    assert traced.code == 0
    assert seen == [("sendto", "output", "socket"), ("sendmsg", "output", "socket")]


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_pointers_and_descriptors_are_the_kernels_to_refuse(backend: str, root: Path) -> None:
    number = table.machine().numbers  # type: ignore[union-attr]
    program = python(
        PREPARE + RAW + f"assert call({number['write']}, 777, 0, 5) == -1\n"
        f"assert call({number['pwritev']}, fd, 1, 99999999, 0) == -1\n"
        f"assert call({number['openat']}, -100, 1, 0o101) == -1\n"
        f"assert call({number['renameat2']}, 500, b'a', 600, b'b', 0) == -1\n"
        f"assert call({number['openat2']}, -100, b'q', 1, 24) == -1\n"
        f"assert call({number['bind']}, fd, 1, 2) == -1\n"
    )

    def decide(call: Call) -> object:
        for name in dir(call):
            if not name.startswith("_"):
                getattr(call, name)
        call.read_data()
        return GO

    traced, _ = watch(program, root, backend, decide)  # type: ignore[arg-type]
    assert traced.code == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_io_uring_is_refused_and_said(backend: str, root: Path) -> None:
    number = table.machine().numbers  # type: ignore[union-attr]
    program = python(
        RAW + "room = ctypes.create_string_buffer(256)\n"
        f"got = call({number['io_uring_setup']}, 8, room)\n"
        "assert (got, ctypes.get_errno()) == (-1, 38)"
    )
    traced, _ = watch(program, root, backend)
    assert traced.code == 0 and traced.calls == 0
    assert len(traced.blind) == 1 and "io_uring" in traced.blind[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_signal_during_a_call_neither_loses_nor_doubles_it(backend: str, root: Path) -> None:
    program = python(
        "import os, signal\n"
        "signal.signal(signal.SIGALRM, lambda *a: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)\n"
        "fd = os.open('log', os.O_CREAT | os.O_WRONLY | os.O_APPEND)\n"
        "for i in range(1500): os.write(fd, b'%d\\n' % i)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    traced, _ = watch(program, root, backend)
    assert traced.code == 0 and traced.signal is None
    assert (root / "log").read_text().split() == [str(i) for i in range(1500)]
    assert traced.calls == 1501


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_call_that_waits_does_not_hold_up_the_others(backend: str, root: Path) -> None:
    """The child's write fills the pipe and waits for its parent, which makes calls of its own before it reads."""
    program = python(
        "import os\nr, w = os.pipe()\n"
        "if os.fork() == 0: os.close(r); os.write(w, b'x' * 1_000_000); os._exit(0)\n"
        "os.close(w)\n"
        "for i in range(20): open(f'file{i}', 'w').write('x')\n"
        "n = 0\nwhile data := os.read(r, 65536): n += len(data)\n"
        "os.wait(); open(f'got-{n}', 'w')\n"
    )
    traced, _ = watch(program, root, backend)
    assert (root / "got-1000000").exists()
    assert traced.blind == () and traced.seconds < 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_threads_that_write_the_same_again_and_again_are_told_apart(backend: str, root: Path) -> None:
    """The next call of a thread looks exactly like the one that it made before."""
    program = python(
        "import os, threading\nfd = os.open('log', os.O_CREAT | os.O_WRONLY | os.O_APPEND)\n"
        "def work(data=b'x' * 10):\n    for i in range(200): os.write(fd, data)\n"
        "crew = [threading.Thread(target=work) for _ in range(3)]\n"
        "[one.start() for one in crew]; [one.join() for one in crew]\n"
    )
    traced, watcher = watch(program, root, backend)
    assert (traced.calls, traced.processes, traced.blind) == (601, 1, ())
    assert len({call.thread for call in watcher.calls}) == 4
    assert traced.seconds < 10


def test_the_tables_of_both_machines_know_every_call() -> None:
    old = {"open", "creat", "rename", "link", "symlink", "unlink", "rmdir", "mkdir", "mknod", "chmod", "chown",
           "lchown", "utime", "utimes", "futimesat"}  # fmt: skip
    assert set(SHAPES) <= set(table.X86_64.numbers)
    assert set(SHAPES) - old <= set(table.ARM64.numbers)
    for machine in (table.X86_64, table.ARM64):
        assert len(set(machine.numbers.values())) == len(machine.numbers)


@pytest.mark.parametrize(
    "header", ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h"]
)
def test_the_numbers_are_those_of_the_kernels_headers(header: str) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here to compare with")
    mine = table.ARM64 if "generic" in header else table.X86_64
    for line in Path(header).read_text().splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "#define" and words[2].isdigit():
            name = words[1].removeprefix("__NR3264_").removeprefix("__NR_")
            assert mine.numbers.get(name, int(words[2])) == int(words[2]), name
