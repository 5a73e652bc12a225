"""States of a directory: the quick way and the slow way see the same, and what is written back is what was there."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from croupier.model import power
from croupier.model.errors import HarnessError, ReplayError
from croupier.model.search import Operation
from croupier.snapshot import (
    Recorder,
    Store,
    Touched,
    assemble,
    cut_file,
    cuts,
    derive,
    entries_of,
    materialise,
    torn,
    touched,
    weigh,
)
from croupier.snapshot.materialise import patch, restore

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small file system")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store")
    yield store
    store.close()


def fresh(state: Path, store: Store) -> str:
    """The digest by a recorder that knows nothing yet."""
    return Recorder(state, store).full()


# --- the quick way and the slow way agree -----------------------------------------------------------------------------

NAMES = ["a", "b", "d", "d/x", "d/e", "d/e/y", "new\nline", "\udcff\udc80"]
Move = tuple[str, str, str, int, bytes]
MOVES = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "truncate", "append", "rename", "exchange", "link", "unlink", "mkdir", "symlink", "chmod",
             "sparse", "replace", "rmtree", "fifo", "xattr", "write-rename", "link-write-unlink", "chmod-dir"]
        ),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.sampled_from([0, 1, 5, 4095, 4096, 4097, 12_000, 270_000]),
        st.binary(min_size=1, max_size=12),
    ),
    max_size=30,
)  # fmt: skip


def play(root: Path, move: Move) -> list[Touched]:
    """Do one thing to a directory, if it can be done, and say what was touched."""
    what, name, other, at, data = move
    path, second = root / name, root / other
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    match what:
        case "write":
            file = os.open(path, flags, 0o644)
            os.pwrite(file, data, at)
            os.close(file)
            return [Touched(path=name, offset=at, length=len(data))]
        case "append":
            file = os.open(path, flags | os.O_APPEND, 0o600)
            size = os.fstat(file).st_size
            os.write(file, data * 100)
            os.close(file)
            return [Touched(path=name, offset=size, length=len(data) * 100)]
        case "truncate":
            os.truncate(path, at)
            return [Touched(path=name, offset=at)]
        case "rename":
            path.rename(second)
            return [*touched(operation("rename", name, other))]
        case "exchange":
            exchange(path, second)
            return [*touched(operation("rename", name, other, flags=2))]
        case "write-rename":
            # Two calls in one hint.
            return [*play(root, ("write", name, other, at, data)), *play(root, ("rename", name, other, at, data))]
        case "link":
            second.hardlink_to(path)
            return [*touched(operation("link", name, other))]
        case "link-write-unlink":
            return [
                *play(root, ("link", name, other, at, data)),
                *play(root, ("write", name, other, at, data)),
                *play(root, ("unlink", name, other, at, data)),
            ]
        case "unlink":
            path.unlink()
            return [*touched(operation("unlink", name))]
        case "mkdir":
            path.mkdir()
            return [*touched(operation("mkdir", name))]
        case "symlink":
            path.symlink_to(other)
            return [*touched(operation("symlink", name))]
        case "chmod":
            path.chmod(0o600 + at % 64, follow_symlinks=True) if path.is_file() else None
            return [*touched(operation("attr", os.path.relpath(os.path.realpath(path), os.path.realpath(root))))]
        case "chmod-dir":
            root.chmod(0o700 + at % 64)
            return [*touched(operation("attr", ""))]
        case "sparse":
            file = os.open(path, flags, 0o644)
            os.ftruncate(file, at * 1_000)
            os.pwrite(file, data, at * 500)
            os.close(file)
            return [Touched(path=name)]
        case "replace":
            (root / "aside").write_bytes(data * at)
            (root / "aside").replace(path)
            return [Touched(path="aside"), *touched(operation("rename", "aside", name))]
        case "rmtree":
            # Python 3.11 waits for a writer when this is a pipe.
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            return [Touched(path=name)]
        case "fifo":
            os.mkfifo(path)
            return [*touched(operation("mknod", name))]
        case "xattr":
            os.setxattr(path, "user.note", data, follow_symlinks=False)
            return [*touched(operation("xattr", name))]
    raise AssertionError(what)


def operation(kind: str, path: str, path2: str = "", **more: object) -> Operation:
    return Operation(index=1, call=kind, kind=kind, path=path, path2=path2, **more)  # type: ignore[arg-type]


def exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2):
        raise OSError(ctypes.get_errno(), "renameat2")


def play_all(root: Path, moves: list[Move]) -> Iterator[list[Touched]]:
    for move in moves:
        hint: list[Touched] = []
        try:
            hint = play(root, move)
        except (OSError, shutil.Error):
            # Half of it may have been done: a hint may be too wide.
            hint = [Touched(path=move[1]), Touched(path=move[2]), Touched(path="aside")]
        yield hint


def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Thousands of small files: in memory where there is some.
    return Path(tempfile.mkdtemp(dir=SCRATCH or tmp_path_factory.mktemp("s"), prefix="croupier-test-"))


@QUICK
@given(moves=MOVES, together=st.integers(1, 3))
def test_whatever_is_done_the_hinted_way_gives_the_digest_of_a_full_scan(
    moves: list[Move], together: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = scratch(tmp_path_factory)
    root = base / "state"
    root.mkdir()
    store = Store(base / "store")
    recorder = Recorder(root, store)
    recorder.snapshot()
    gathered: list[Touched] = []
    for nth, hint in enumerate(play_all(root, moves)):
        gathered += hint
        if nth % together == 0:
            assert recorder.snapshot(gathered) == fresh(root, store), moves[: nth + 1]
            gathered = []
    assert recorder.snapshot(gathered) == fresh(root, store)
    assert recorder.unannounced() == ()
    store.close()
    shutil.rmtree(base)


@QUICK
@given(first=MOVES, second=MOVES)
def test_a_state_written_out_or_patched_to_is_the_state_that_was_recorded(
    first: list[Move], second: list[Move], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = scratch(tmp_path_factory)
    root, copy = base / "state", base / "copy"
    root.mkdir()
    store = Store(base / "store")
    recorder = Recorder(root, store)
    list(play_all(root, first))
    before = recorder.full()
    list(play_all(root, second))
    after = recorder.full()
    materialise(store, before, copy)
    assert fresh(copy, store) == before
    patch(store, before, after, copy)
    assert fresh(copy, store) == after
    patch(store, after, before, copy)
    assert fresh(copy, store) == before
    list(play_all(copy, second))
    known = Recorder(copy, store)
    known.full()
    # Whatever a check did to the copy is undone where it is named.
    from croupier.snapshot.tree import changed, open_tree

    paths = [path for path, _, _ in changed(store, open_tree(store, before).top, open_tree(store, known.digest).top)]
    restore(store, before, copy, [*paths, b"", *(path for group in linked(store, known, before) for path in group)])
    assert fresh(copy, store) == before
    store.close()
    shutil.rmtree(base)


def linked(store: Store, recorder: Recorder, digest: str) -> list[list[bytes]]:
    from croupier.snapshot.tree import links_of, open_tree

    return [*links_of(store, recorder.tree), *links_of(store, open_tree(store, digest))]


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_everything_that_a_directory_can_hold_comes_back(state: Path, store: Store, tmp_path: Path) -> None:
    (state / "text").write_text("hello")
    (state / "text").chmod(0o640)
    os.utime(state / "text", ns=(10**18, 10**18 + 7))
    (state / "empty").touch()
    (state / "shut").mkdir(mode=0o500)
    (state / "link").symlink_to("text")
    (state / "dangling").symlink_to(b"\xff nowhere\n".decode(errors="surrogateescape"))
    (state / "second").hardlink_to(state / "text")
    os.mkfifo(state / "pipe", 0o620)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(state / "socket"))
    (state / os.fsdecode(b"\xff\xfe\n")).write_bytes(b"odd")
    os.setxattr(state / "empty", "user.note", b"\0\1")
    with (state / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"middle")
    recorder = Recorder(state, store)
    digest = recorder.snapshot()
    materialise(store, digest, tmp_path / "copy")
    copy = tmp_path / "copy"
    assert fresh(copy, store) == digest
    assert {one.name for one in copy.iterdir()} == {one.name for one in state.iterdir()}
    assert (copy / "text").stat().st_mtime_ns == 10**18 + 7
    assert (copy / "text").samefile(copy / "second")
    assert (copy / "sparse").stat().st_blocks * 512 < 1 << 20
    assert stat.S_ISSOCK((copy / "socket").lstat().st_mode)
    assert os.getxattr(copy / "empty", "user.note") == b"\0\1"
    assert weigh(store, digest).names == 10


def test_a_file_whose_bytes_are_written_again_is_the_same_state(state: Path, store: Store) -> None:
    (state / "a").write_text("one")
    recorder = Recorder(state, store)
    first = recorder.snapshot()
    time.sleep(0.01)
    (state / "a").write_text("one")
    assert recorder.snapshot([Touched(path="a")]) == first


def test_the_order_in_which_files_were_made_does_not_matter(tmp_path: Path, store: Store) -> None:
    names = [f"f{number}" for number in range(300)]
    digests = set()
    for nth in range(3):
        root = tmp_path / f"state{nth}"
        root.mkdir()
        recorder = Recorder(root, store)
        recorder.snapshot()
        random.Random(nth).shuffle(names)
        for name in names:
            (root / name).write_text(name)
            recorder.snapshot([Touched(path=name)])
        digests.add(recorder.digest)
    assert len(digests) == 1


def test_a_link_out_of_the_state_is_never_followed(state: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("secret")
    recorder = Recorder(state, store)
    recorder.snapshot()
    (state / "d").symlink_to(tmp_path / "elsewhere")
    assert recorder.snapshot([Touched(path="d/secret")]) == fresh(state, store)


def test_an_operation_outside_touches_nothing_and_one_across_the_border_what_is_inside() -> None:
    assert touched(operation("write", "/etc/x", offset=0, length=1, outside=True)) == ()
    assert touched(operation("write", "", offset=0, length=1)) == ()
    assert touched(operation("rename", "/tmp/x", "in", outside=True)) == (Touched(path="in"),)
    assert touched(operation("rename", "out", "/tmp/x", outside=True)) == (Touched(path="out"),)
    assert touched(operation("attr", "")) == (Touched(path="", length=0),)
    assert touched(operation("sync", "a")) == ()
    assert touched(operation("allocate", "a", offset=5, length=7)) == (Touched(path="a", offset=5, length=7),)
    assert touched(operation("allocate", "a", offset=5, length=7, flags=8)) == (Touched(path="a", offset=5),)


# --- a recorder that is blind is found out --------------------------------------------------------------------------


def test_a_change_that_no_hint_announced_is_found_by_name(state: Path, store: Store) -> None:
    for name in ("a", "b", "c"):
        (state / name).write_text(name)
    recorder = Recorder(state, store)
    recorder.snapshot()
    (state / "b").write_text("other")
    (state / "new").write_text("new")
    (state / "c").unlink()
    recorder.snapshot([Touched(path="a")])
    assert recorder.sweep() == ("b", "c", "new")
    assert sorted(recorder.unannounced()) == ["b", "c", "new"]
    assert recorder.unannounced() == ()
    assert recorder.sweep() == ()


def test_a_hint_that_is_too_narrow_is_found(state: Path, store: Store) -> None:
    (state / "f").write_bytes(b"x" * 100_000)
    recorder = Recorder(state, store)
    recorder.snapshot()
    with (state / "f").open("r+b") as file:
        file.seek(50_000)
        file.write(b"here too")
        file.seek(0)
        file.write(b"here")
    recorder.snapshot([Touched(path="f", offset=0, length=4)])
    assert recorder.unannounced() == ("f",)


def test_a_store_through_a_mapping_is_seen_where_the_file_is_named_as_mapped(state: Path, store: Store) -> None:
    import mmap

    (state / "m").write_bytes(bytes(8_192))
    recorder = Recorder(state, store)
    before = recorder.snapshot()
    with (state / "m").open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[5_000] = 7
        assert recorder.snapshot([]) == before
        assert recorder.snapshot([], mapped=["m"]) == fresh(state, store) != before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said(state: Path, store: Store) -> None:
    (state / "shut").write_text("x")
    (state / "shut").chmod(0)
    recorder = Recorder(state, store)
    recorder.full()
    assert recorder.blind == {"shut": "no permission to read it"}


# --- states that nobody recorded --------------------------------------------------------------------------------------


@QUICK
@given(before=st.binary(max_size=9_000), data=st.binary(min_size=1, max_size=9_000), offset=st.integers(0, 9_000))
def test_a_torn_write_leaves_what_a_shorter_write_would(
    before: bytes, data: bytes, offset: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = scratch(tmp_path_factory)
    root = base / "state"
    root.mkdir()
    store = Store(base / "store")
    (root / "f").write_bytes(before)
    (root / "g").hardlink_to(root / "f")
    digest = fresh(root, store)
    write = operation("write", "f", offset=offset, length=len(data), data=store.put(data))
    for cut in cuts(offset, len(data)):
        assert 0 < cut < len(data)
        with (root / "f").open("r+b") as file:
            file.seek(0)
            file.truncate()
            file.write(before)
            if cut:
                file.seek(offset)
                file.write(data[:cut])
        assert derive(store, digest, write, cut) == fresh(root, store)
    store.close()
    shutil.rmtree(base)


def test_a_write_is_cut_at_one_byte_and_at_every_page() -> None:
    assert list(cuts(0, 1)) == []
    assert list(cuts(0, 100)) == [1]
    assert list(cuts(0, 4_096)) == [1]
    assert list(cuts(4_000, 9_000)) == [1, 96, 4_192, 8_288]
    assert list(cuts(4_095, 10)) == [1]


def test_a_file_can_be_cut_for_the_positive_control(state: Path, store: Store) -> None:
    (state / "f").write_bytes(b"x" * 10_000)
    digest = cut_file(store, fresh(state, store), "f", 5_000)
    os.truncate(state / "f", 5_000)
    assert digest == fresh(state, store)
    assert torn(store, digest, "nowhere", 0, b"x") == digest


def test_what_a_power_model_describes_becomes_a_state(state: Path, store: Store, tmp_path: Path) -> None:
    (state / "d").mkdir()
    (state / "d" / "old").write_bytes(b"abc" * 5_000)
    (state / "same").write_text("same")
    (state / "twin").hardlink_to(state / "same")
    (state / "link").symlink_to("same")
    initial = fresh(state, store)
    entries = entries_of(store, initial)
    assert assemble(store, initial, entries) == initial
    entries["d/old"] = power.Entry(
        kind="file",
        size=12_000,
        pieces=(
            power.Piece(offset=0, length=5_000, data="base:d/old"),
            power.Piece(offset=5_000, length=3, data=store.put(b"NEW")),
            power.Piece(offset=6_000, length=6_000, data="base:d/old", start=6_000),
        ),
        mode=0o644,
    )
    piece = power.Piece(offset=1, length=1, data=store.put(b"x"))
    entries["fresh"] = power.Entry(kind="file", size=4, pieces=(piece,))
    del entries["link"]
    materialise(store, assemble(store, initial, entries), tmp_path / "copy")
    old = (b"abc" * 5_000)[:12_000]
    assert (tmp_path / "copy/d/old").read_bytes() == old[:5_000] + b"NEW" + bytes(997) + old[6_000:]
    assert (tmp_path / "copy/fresh").read_bytes() == b"\0x\0\0"
    assert (tmp_path / "copy/same").samefile(tmp_path / "copy/twin")
    assert not (tmp_path / "copy/link").exists()


# --- the store --------------------------------------------------------------------------------------------------------


def test_bytes_of_any_length_are_kept_once_and_found_again(store: Store) -> None:
    for length in (0, 1, 65_536, 65_537, 6_000_000):
        data = random.Random(length).randbytes(length)
        address = store.put(data)
        before = len(store)
        assert store.put(data) == address
        assert len(store) == before
        assert store.get(address) == data
    with pytest.raises(ReplayError, match="no object"):
        store.get("00" * 16)
    with pytest.raises(ReplayError, match="no address"):
        store.get("nonsense")


def test_a_store_is_opened_again_and_read_while_it_grows(tmp_path: Path) -> None:
    writer = Store(tmp_path / "s")
    first = writer.put(b"one")
    writer.flush()
    reader = Store(tmp_path / "s", writable=False)
    second = writer.put(b"two")
    writer.flush()
    assert (reader.get(first), reader.get(second)) == (b"one", b"two")
    writer.close()
    reader.close()
    again = Store(tmp_path / "s")
    assert again.put(b"one") == first
    assert len(again) == 2
    again.close()
    assert sorted(one.name for one in (tmp_path / "s").iterdir()) == ["objects.idx", "objects.pack"]


def test_a_store_cut_anywhere_reads_up_to_the_last_whole_object(tmp_path: Path) -> None:
    writer = Store(tmp_path / "s")
    addresses = [writer.put(bytes([number]) * 50) for number in range(20)]
    writer.close()
    os.truncate(tmp_path / "s" / "objects.idx", 24 * 7 + 5)
    reader = Store(tmp_path / "s", writable=False)
    assert [reader.get(one)[0] for one in addresses[:7]] == list(range(7))
    with pytest.raises(ReplayError):
        reader.get(addresses[7])
    reader.close()
    again = Store(tmp_path / "s")
    assert [again.put(bytes([number]) * 50) for number in range(20)] == addresses
    assert again.get(addresses[-1]) == bytes([19]) * 50
    again.close()


def test_a_store_that_is_not_there_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="no store"):
        Store(tmp_path / "nowhere", writable=False)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "objects.pack").write_bytes(b"something else")
    (tmp_path / "s" / "objects.idx").touch()
    with pytest.raises(ReplayError, match="no store of states"):
        Store(tmp_path / "s")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@needs_root
def test_a_full_disk_is_said_and_what_was_stored_stays_good(small_disk: Path, state: Path) -> None:
    store = Store(small_disk / "s")
    (state / "f").write_bytes(os.urandom(100_000))
    recorder = Recorder(state, store)
    good = recorder.snapshot()
    (state / "f").write_bytes(os.urandom(3_000_000))
    with pytest.raises(HarnessError, match="the disk is full"):
        recorder.snapshot([Touched(path="f")])
    reader = Store(small_disk / "s", writable=False)
    materialise(reader, good, state.parent / "copy")
    assert (state.parent / "copy" / "f").stat().st_size == 100_000
    # Once there is room again, nothing was lost.
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    digest = recorder.snapshot([])
    materialise(reader, digest, state.parent / "copy2")
    assert (state.parent / "copy2" / "f").read_bytes() == (state / "f").read_bytes()
    reader.close()
    store.close()


@needs_root
def test_no_room_for_a_copy_is_our_trouble_and_no_finding(small_disk: Path, state: Path, store: Store) -> None:
    (state / "f").write_bytes(os.urandom(2_000_000))
    with pytest.raises(HarnessError, match="no room"):
        materialise(store, fresh(state, store), small_disk / "copy")


# --- cost: with room for a machine that is busy -----------------------------------------------------------------------


def test_a_small_write_in_ten_thousand_files_costs_what_it_changed(state: Path, store: Store) -> None:
    for number in range(10_000):
        (state / f"f{number}").write_bytes(b"%d" % number)
    recorder = Recorder(state, store)
    recorder.snapshot()
    before = store.disk_bytes
    for number in range(300):
        name = f"f{number * 31}"
        with (state / name).open("ab") as file:
            file.write(b"more")
        recorder.snapshot([Touched(path=name, offset=len(f"{number * 31}"), length=4)])
    assert (store.disk_bytes - before) / 300 < 8_000
    assert recorder.unannounced() == ()


def test_a_small_write_in_a_large_file_costs_the_page(tmp_path: Path, store: Store) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with (state / "f").open("wb") as file:
        for _ in range(50):
            file.write(random.randbytes(1 << 20))
    recorder = Recorder(state, store)
    recorder.snapshot()
    before = store.disk_bytes
    with (state / "f").open("r+b", buffering=0) as file:
        for number in range(300):
            at = number * 170_003
            os.pwrite(file.fileno(), b"page", at)
            recorder.snapshot([Touched(path="f", offset=at, length=4)])
    assert (store.disk_bytes - before) / 300 < 14_000


def test_many_snapshots_take_little_memory(tmp_path: Path) -> None:
    """A tenth of the promised hundred thousand, in a process of its own."""
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom croupier.snapshot import *\n"
        "root = Path(sys.argv[1], 'state'); root.mkdir()\n"
        "(root / 'f').write_bytes(os.urandom(20 << 20))\n"
        "recorder = Recorder(root, Store(Path(sys.argv[1], 's')))\nrecorder.snapshot()\n"
        "file = os.open(root / 'f', os.O_WRONLY)\nseen = []\n"
        "for n in range(10_000):\n"
        "    at = n * 1_999 % (20 << 20)\n    os.pwrite(file, b'%d' % n, at)\n"
        "    seen.append(recorder.snapshot([Touched(path='f', offset=at, length=5)]))\n"
        "assert len(set(seen)) == 10_000\n"
        # Not ru_maxrss: that remembers the size of the parent from before the exec.
        "print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150


def test_fifty_thousand_files_are_followed(tmp_path: Path) -> None:
    base = Path(SCRATCH or tmp_path, f"croupier-test-{os.getpid()}")
    state = base / "state"
    try:
        state.mkdir(parents=True)
        for folder in range(50):
            (state / f"d{folder}").mkdir()
            for number in range(1_000):
                (state / f"d{folder}" / f"{number}").touch()
        store = Store(base / "s")
        recorder = Recorder(state, store)
        recorder.snapshot()
        assert weigh(store, recorder.digest).names == 50_050
        (state / "d7").rename(state / "e7")
        recorder.snapshot(touched(operation("rename", "d7", "e7")))
        assert recorder.unannounced() == ()
        store.close()
    finally:
        shutil.rmtree(base)


# --- a stage for checks -----------------------------------------------------------------------------------------------

STAGED = """
import json, os, sys
from pathlib import Path
from croupier.snapshot.stage import Stage
from croupier.snapshot import Recorder, Store
store, place, way, digests = json.loads(sys.argv[1])
stage = Stage(Path(store), Path(place), way=way)
stage.open()
seen = []
own = Store(Path(place) / "own")
for number, digest in enumerate(digests):
    folder = stage.set_up(digest)
    seen.append(Recorder(folder, own).full())
    for path in sorted(folder.rglob("*"), reverse=True):
        if number % 4 == 0 and path.is_file():
            path.write_bytes(b"spoilt")
        elif number % 4 == 1 and path.is_file():
            path.unlink()
        elif number % 4 == 2:
            path.rename(path.with_name(path.name + ".moved")) if path.is_file() else None
    (folder / "new").mkdir(exist_ok=True)
    (folder / "new" / "deep").write_text("new")
    if number % 4 == 3:
        folder.chmod(0o711)
    stage.clear()
print(json.dumps([stage.way, stage.why, str(stage.folder), seen]))
stage.close()
"""


def staged(store: Store, place: Path, way: str, digests: list[str], user: int | None = None) -> list[str]:
    """Set states up one after the other, with a check that spoils each; what was there to be checked."""
    store.flush()
    place.mkdir(exist_ok=True)
    import json

    done = subprocess.run(
        [sys.executable, "-c", STAGED, json.dumps([str(store.folder), str(place), way, digests])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    took, why, folder, seen = json.loads(done.stdout)
    assert took == way or "no overlay" in why
    assert not Path(folder).exists()
    assert folder not in Path("/proc/self/mountinfo").read_text()
    return list(seen)


@pytest.mark.parametrize("way", ["written", "kept", "overlay"])
def test_a_stage_shows_each_state_as_it_is_whatever_the_check_before_did(
    way: str, state: Path, store: Store, tmp_path: Path
) -> None:
    recorder = Recorder(state, store)
    digests = [recorder.snapshot()]
    for nth, hint in enumerate(
        play_all(
            state,
            [
                ("mkdir", "d", "d", 0, b""), ("write", "d/x", "", 4_097, b"x"), ("write", "a", "", 270_000, b"y"),
                ("link", "a", "d/e", 0, b""), ("append", "a", "", 0, b"z"), ("symlink", "b", "d", 0, b""),
                ("rename", "d", "d2", 0, b""), ("write", "a", "", 5, b"w"), ("unlink", "a", "", 0, b""),
                ("write", "new\nline", "", 5, b"w"), ("truncate", "new\nline", "", 1, b""),
                ("chmod-dir", "", "", 5, b""), ("replace", "\udcff\udc80", "", 4_096, b"r"),
            ],
        )
    ):  # fmt: skip
        digests.append(recorder.snapshot(hint))
        assert nth < 100
    digests = digests + digests[::-1] + random.Random(1).sample(digests, len(digests))
    assert staged(store, tmp_path / "place", way, digests) == digests
