"""The search beside what people would do instead: a loop of strace, a loop of our own tracer, a killer by the clock.

Each peer does the same work on the same workload and check. The slow ones are measured on a sample of the crash
points, spread over the whole, and scaled; the rows say so.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from row import Row, median

from croupier.explore.api import setting_of
from croupier.explore.search import Search
from croupier.model.search import SearchResult
from croupier.trace import GO, KILL, Act, Call, trace

KEYVALUE = Path(__file__).resolve().parent.parent / "tests/quality/programs/keyvalue.py"
SAMPLE = 16
CLOCK_S = 25.0
WRITES = 20_000


def measure() -> Iterator[Row]:
    """Every row of the search."""
    with tempfile.TemporaryDirectory(prefix="croupier-bench-") as place:
        os.environ["STORE"] = "sqlite-delete"
        result, took_s = _search("sqlite-delete", Path(place))
        yield from _against_loops(result, took_s, Path(place))
        yield _against_the_clock(Path(place))
        yield _tracing(Path(place))
        yield _checking(result)
        yield from _snapshots(Path(place))


def _search(store: str, place: Path) -> tuple[SearchResult, float]:
    """A whole search, the confirming kills included, and how long it took."""
    os.environ["STORE"] = store
    setting = setting_of([sys.executable, str(KEYVALUE), "run", store], (f"{KEYVALUE}:checked",), check_call=True)
    began = time.monotonic()
    return Search(setting, place / "runs").run(), time.monotonic() - began


# --- the loops -------------------------------------------------------------------------------------------------------


def _against_loops(result: SearchResult, took_s: float, place: Path) -> Iterator[Row]:
    calls = _calls(place)
    inside = range(0, len(calls), max(1, len(calls) // SAMPLE))
    scaled = f"{len(inside)} of {len(calls)} calls, scaled; a fresh process checks each"
    name = f"all {result.crash_points} crash points of sqlite (DELETE), checked"
    if shutil.which("strace"):
        loop_s = sum(_by_strace(place, calls, nth) for nth in inside) / len(inside) * len(calls)
        yield Row(
            name=name, unit="s", ours=took_s, peer=loop_s, peer_is=f"strace -f with inject from scratch: {scaled}",
            target="at least 20x", met=loop_s >= 20 * took_s,
        )  # fmt: skip
    else:
        print("        strace is not here: apt-get install strace, for the row against it")
    again_s = sum(_by_own_tracer(place, nth + 1) for nth in inside) / len(inside) * len(calls)
    yield Row(
        name=name, unit="s", ours=took_s, peer=again_s, peer_is=f"our own tracer, executing again: {scaled}",
        target="at least 10x", met=again_s >= 10 * took_s,
    )  # fmt: skip


def _calls(place: Path) -> list[str]:
    """The mutating calls of one run, in their order."""
    found: list[str] = []

    def on_call(call: Call) -> Act:
        found.append(call.name)
        return GO

    state = _fresh(place)
    trace([sys.executable, str(KEYVALUE), "run", "sqlite-delete"], on_call=on_call, env=_env(state), cwd=state,
          on_output=lambda data: None)  # fmt: skip
    return found


def _by_strace(place: Path, calls: list[str], nth: int) -> float:
    """Kill before the n-th call, which strace counts by the call's name, and check what is left."""
    state, name = _fresh(place), calls[nth]
    number = Counter(calls[: nth + 1])[name]
    began = time.monotonic()
    with (place / "printed").open("wb") as printed:
        subprocess.run(
            ["strace", "-f", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}",
             sys.executable, str(KEYVALUE), "run", "sqlite-delete"],
            env=_env(state), cwd=state, stdout=printed, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    _check_afresh(state, place / "printed")
    return time.monotonic() - began


def _by_own_tracer(place: Path, index: int) -> float:
    state = _fresh(place)
    began = time.monotonic()
    printed = bytearray()
    trace(
        [sys.executable, str(KEYVALUE), "run", "sqlite-delete"],
        on_call=lambda call: KILL if call.index == index else GO,
        on_output=printed.extend,
        env=_env(state),
        cwd=state,
    )
    (place / "printed").write_bytes(printed)
    _check_afresh(state, place / "printed")
    return time.monotonic() - began


def _check_afresh(state: Path, printed: Path) -> None:
    subprocess.run(
        [sys.executable, str(KEYVALUE), "check", "sqlite-delete"],
        env={**_env(state), "CROUPIER_ACKED": str(printed)}, stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def _env(state: Path) -> dict[str, str]:
    return {**os.environ, "CROUPIER_STATE": str(state)}


def _fresh(place: Path) -> Path:
    state = place / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    return state


# --- the clock -------------------------------------------------------------------------------------------------------


def _against_the_clock(place: Path) -> Row:
    result, took_s = _search("sqlite-memory", place)
    ours = len(result.findings) / took_s
    sys.path.insert(0, str(KEYVALUE.parent))
    import keyvalue

    draws, tries, found = random.Random(42), 0, 0
    whole_s = median([_killed_after(place, None) for _ in range(3)])
    began = time.monotonic()
    while time.monotonic() - began < CLOCK_S:
        tries += 1
        _killed_after(place, draws.uniform(0, whole_s))
        acked = (place / "printed").read_bytes().count(b"\n")
        # As cheap a check as there can be: in this very process.
        found += bool(keyvalue.check("sqlite-memory", place / "state", acked))
    peer = max(found, 1) / (time.monotonic() - began)
    bound = "" if found else " (none was found: as if one had been)"
    return Row(
        name="failures found per second, sqlite journal=MEMORY", unit="/s", ours=ours, peer=peer,
        peer_is=f"a seeded killer by the clock: {found} in {tries} kills{bound}", target="at least 300x",
        met=ours >= 300 * peer, more_is_better=True,
    )  # fmt: skip


def _killed_after(place: Path, after_s: float | None) -> float:
    """Start the workload, kill it after a while; how long it took."""
    state = _fresh(place)
    began = time.monotonic()
    with (place / "printed").open("wb") as printed:
        child = subprocess.Popen(
            [sys.executable, str(KEYVALUE), "run", "sqlite-memory"], env=_env(state), cwd=state, stdout=printed
        )
        try:
            child.wait(after_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    return time.monotonic() - began


# --- parts -----------------------------------------------------------------------------------------------------------


def _tracing(place: Path) -> Row:
    state = _fresh(place)
    program = f"import os\nfd = os.open('f', os.O_CREAT | os.O_WRONLY)\nfor _ in range({WRITES}): os.write(fd, b'x')"
    argv = [sys.executable, "-S", "-c", program]
    ours = median([_timed(lambda: trace(argv, on_call=lambda call: GO, cwd=state)) for _ in range(3)])
    peer = None
    if shutil.which("strace"):
        strace = ["strace", "-f", "-o", str(place / "strace.out"), *argv]
        peer = median([_timed(lambda: subprocess.run(strace, cwd=state, check=True)) for _ in range(3)])
    return Row(
        name=f"a traced workload of {WRITES:,} writes, no snapshot", unit="s", ours=ours, peer=peer,
        peer_is="strace -f", target="at least 2x", met=peer is None or peer >= 2 * ours,
    )  # fmt: skip


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _checking(result: SearchResult) -> Row:
    """How many states were checked in a second, by one worker a processor."""
    rate = result.checked / result.seconds["check"]
    return Row(
        name=f"checks of a sqlite state in Python, {os.cpu_count()} workers", unit="/s", ours=rate, peer=None,
        peer_is="", target="at least 300 /s", met=rate >= 300, more_is_better=True,
    )  # fmt: skip


def _snapshots(place: Path) -> Iterator[Row]:
    """What a snapshot costs where little changes in much."""
    many = _fresh(place)
    for nth in range(10_000):
        (many / f"{nth:05}").write_bytes(b"x" * 100)
    yield _snapshot_row("a snapshot beside 10,000 files", many)
    large = _fresh(place)
    with (large / "f").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(1 << 20))
    yield _snapshot_row("a snapshot of a change in a file of 200 MB", large)


def _snapshot_row(name: str, state: Path) -> Row:
    # Two hundred writes of a page each, into the file that is there or a new one.
    program = (
        "import os\nfd = os.open('f', os.O_CREAT | os.O_RDWR)\n"
        "for n in range(200): os.pwrite(fd, bytes([n]) * 4096, n * 4096)\n"
    )
    argv = [sys.executable, "-S", "-c", program]
    check = ["true"]
    bare_s = median([_timed(lambda: trace(argv, on_call=lambda call: GO, cwd=state)) for _ in range(3)])
    setting = setting_of(argv, check, state=state, budget=1)
    with tempfile.TemporaryDirectory(prefix="croupier-bench-") as runs:
        search = Search(setting, Path(runs))
        search.run()
        operations = len(search.recording.operations)
        traced = search.recording.traced
        assert traced is not None
        ms = (traced.seconds - bare_s) * 1000 / operations
    return Row(
        name=name, unit="ms/call", ours=ms, peer=None, peer_is="", target="under 2 ms", met=ms < 2,
    )  # fmt: skip
