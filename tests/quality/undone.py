"""Is every fault undone, whoever dies, at every step of applying and healing it? `make undone` prints the table.

For each fault, once: which changes it makes (its boundaries). Then for each boundary and each misfortune a whole round
in which croupier stands still there, the misfortune happens, and the fingerprint of the host is compared with that of
before: within 2 s where the guardian lived, within 5 s of `croupier recover` otherwise.

    python tests/quality/undone.py                       everything; about an hour of a small machine
    python tests/quality/undone.py --only suspend,limit  some faults
    python tests/quality/undone.py --most 4              at most so many boundaries of each, spread evenly
    python tests/quality/undone.py --brief               for every fault: both killed, in the middle of each half
    python tests/quality/undone.py --write               put the table into docs/reference/undone.md

What each fault is tried on is in undone_fixtures.py. Exit code 1 if anything was not clean.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from paused_croupier import BEGIN, Request  # noqa: E402
from undone_fixtures import ELSEWHERE, FIXTURES, Fixture  # noqa: E402

from croupier.built_in import injector  # noqa: E402
from croupier.guardian import LATE_US  # noqa: E402
from croupier.load import load_text  # noqa: E402
from croupier.model.faults import FAULTS  # noqa: E402
from croupier.model.fingerprint import Fingerprint, Scope, difference  # noqa: E402
from croupier.model.target import Identity  # noqa: E402
from croupier.model.undo import UndoStep, unfinished  # noqa: E402
from croupier.recover import recover  # noqa: E402
from croupier.registry import built_in  # noqa: E402
from croupier.store import RunDir  # noqa: E402
from croupier.supervise import left_behind  # noqa: E402
from croupier.supervise.running import read_running, read_steps  # noqa: E402
from croupier.system import fingerprint, mounts, procs, signals  # noqa: E402
from croupier.system.clock import now_us  # noqa: E402

PAGE = HERE.parent.parent / "docs" / "reference" / "undone.md"
MARKS = "<!-- measured -->", "<!-- /measured -->"
GUARDED_S, RECOVERED_S = 2.0, 5.0
ENDS_WITHIN_S = 60.0
"""How long a round may take to come to its own end, with a guardian that does not answer for 10 s."""
DISK_BYTES = 2 << 20
APART = "CROUPIER_UNDONE_APART"


class Missed(Exception):
    """The trial did not come to its boundary: nothing was tried."""


class Result(NamedTuple):
    """What came of one trial."""

    kind: str
    fixture: str
    boundary: str
    misfortune: str
    reached: bool
    took_s: float = 0.0
    recovered: bool = False
    """Whether `croupier recover` was asked: the guardian had not lived."""
    left: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether everything was as before, in time."""
        return self.reached and not self.left

    def __str__(self) -> str:
        said = f"{'clean' if self.clean else 'not reached' if not self.reached else 'NOT CLEAN'} {self.took_s:.2f} s"
        return " | ".join([self.fixture, self.boundary, self.misfortune, said, *self.left])


class Starter:
    """Starts croupiers that can be paused; a context manager."""

    def __enter__(self) -> Starter:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = [sys.executable, str(HERE / "paused_croupier.py"), str(theirs.fileno())]
        self._process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),), start_new_session=True)
        theirs.close()
        self._line = ours
        self._lock = threading.Lock()
        return self

    def start(self, asked: Request, files: Sequence[int]) -> Identity:
        """One more; `files` are the descriptors to tell, to wait on, and to print to."""
        with self._lock:
            socket.send_fds(self._line, [msgspec.json.encode(asked)], files)
            who = procs.identity(int(self._line.recv(20)))
        assert who is not None
        return who

    def __exit__(self, *problem: object) -> None:
        self._line.close()
        self._process.wait()


class Trial:
    """One round that is paused at a boundary; a context manager that leaves nothing."""

    def __init__(
        self, starter: Starter, fixture: Fixture, boundary: str, *, small_disk: bool = False, patience: float = 1
    ) -> None:
        self._starter = starter
        self._fixture = fixture
        self._boundary = boundary
        self._small_disk = small_disk
        self._patience = patience

    def __enter__(self) -> Trial:
        # A short path, as it holds those of sockets.
        self.place = Path(tempfile.mkdtemp(prefix="cu-"))
        self._runs = self.place / "runs"
        self._runs.mkdir()
        if self._small_disk:
            mounts.mount_tmpfs(str(self._runs), DISK_BYTES)
        with sqlite3.connect(self.place / "app.db") as base:
            base.execute("CREATE TABLE t (n)")
        base.close()
        asks = [str(self.place)] if self._fixture.asks else []
        self._guest = subprocess.Popen(
            [sys.executable, "-S", str(HERE / "undone_subject.py"), *asks],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._guest.stdout is not None
        self._guest.stdout.readline()
        guest = procs.identity(self._guest.pid)
        assert guest is not None
        self.guest = guest
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        file = self.place / "experiment.yaml"
        file.write_text(self._filled(json.dumps(_experiment(self._fixture, self.guest.pid))))
        told_read, told = os.pipe()
        go, go_write = os.pipe()
        self._told, self._go = os.fdopen(told_read), go_write
        argv = ["run", str(file), "--seed", "1", "--no-progress", "--live", "--out", str(self._runs)]
        with (self.place / "said").open("wb") as said:
            asked = Request(self._boundary, argv, str(self.place))
            self.who = self._starter.start(asked, [told, go, said.fileno()])
        os.close(told)
        os.close(go)
        if self._next() != BEGIN:
            raise Missed(self.said)
        (journal,) = [one for one in self._runs.glob("*/*/journal.jsonl") if not one.parent.is_symlink()]
        self.run = RunDir(journal.parent.resolve())
        running = read_running(self.run.path)
        assert running is not None
        self.guardian = running.guardian
        self.before = self._fingerprint()

    def _filled(self, text: str) -> str:
        return text.replace("HERE", str(self.place)).replace("RUNS", str(self._runs))

    def _fingerprint(self) -> Fingerprint:
        files = tuple(self._filled(one).replace("STATE", str(self.run.state)) for one in self._fixture.files)
        scope = Scope(run=self.run.unique, run_dir=str(self.run.path), processes=(self.guest,), files=files)
        # What is set up for the round must be gone in the end.
        return msgspec.structs.replace(fingerprint.take(scope), alive=(), cells=(), mounts=(), aside=())

    # --- what a misfortune may do ------------------------------------------------------------------------------------

    def come_to_the_boundary(self) -> None:
        """Raises Missed where the round ends before."""
        if self._boundary != BEGIN:
            self.go_on()
            if self._next() != self._boundary:
                raise Missed(self.said)

    def go_on(self) -> None:
        """Whoever stands at a boundary goes on."""
        try:
            os.write(self._go, b"x")
        except BrokenPipeError:
            pass

    def listen(self) -> list[str]:
        """Go on to the end, and tell every boundary."""
        self.go_on()
        found = [BEGIN]
        while name := self._next():
            found.append(name)
        self.wait()
        return found

    @property
    def target(self) -> Identity:
        """Whom the fault is about. Raises Missed where it has gone by itself, or is just being started again."""
        if self._fixture.target == "guest":
            return self.guest
        ours = procs.marked(f"CROUPIER_PROCESS={self._fixture.target}")
        mark = f"CROUPIER_RUN={self.run.unique}".encode()
        found = [one for one in ours if procs.has_marker(one.pid, mark)]
        if not found:
            raise Missed(f"nobody is {self._fixture.target} now")
        return found[0]

    def send(self, who: Identity, name: str) -> None:
        """A signal, to one of the three."""
        signals.send(who, name)
        if name == "KILL":
            _gone(who, 10)

    def kill_both(self) -> None:
        """At once: the guardian gets no time to see that croupier is gone."""
        self.send(self.guardian, "STOP")
        self.send(self.who, "KILL")
        self.send(self.guardian, "KILL")

    def wait(self) -> None:
        """Until croupier has come to its end. Raises TimeoutError."""
        if not _gone(self.who, ENDS_WITHIN_S):
            raise TimeoutError(f"croupier had not ended after {ENDS_WITHIN_S:g} s: {self.said}")

    def fill(self) -> None:
        """Fill the disk that the run is stored on."""
        with (self._runs / "filling").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4_096)):
                    pass
            except OSError:
                return

    def is_as_before(self, within_s: float, *, only_the_target: bool = False) -> tuple[float, tuple[str, ...]]:
        """Look until nothing differs, or the time is over: how long that took, and what differs still."""
        began = time.monotonic()
        while True:
            took_s = time.monotonic() - began
            found = left_behind.now(self.before)
            if only_the_target:
                found = msgspec.structs.replace(found, alive=(), cells=(), mounts=(), aside=(), pointer="")
            left = difference(self.before, found)
            if not left or took_s > within_s * self._patience:
                return took_s, left
            time.sleep(0.02)

    @property
    def open_until_us(self) -> int:
        """The last deadline of what is not undone yet; of faults, not of what lasts as long as the round."""
        return max((one.deadline_us for one in unfinished(self.steps) if one.fault in FIXTURES), default=0)

    @property
    def steps(self) -> list[UndoStep]:
        """The undo log so far."""
        return read_steps(self.run.path)

    @property
    def said(self) -> str:
        """What croupier printed."""
        return " / ".join((self.place / "said").read_text(errors="replace").split("\n"))[-600:].strip()

    def _next(self) -> str:
        return self._told.readline().strip()

    def __exit__(self, *problem: object) -> None:
        self._guest.kill()
        self._guest.wait()
        if hasattr(self, "who"):
            self.send(self.who, "KILL")
        for stream in (self._guest.stdin, self._guest.stdout, self._told):
            if stream is not None:
                stream.close()
        os.close(self._go)
        if hasattr(self, "before"):
            signals.send(self.guardian, "KILL")
            recover(self.run.path)
            for cell in left_behind.now(self.before).cells:
                Path(cell).rmdir()
        if self._small_disk:
            mounts.detach(str(self._runs))
        shutil.rmtree(self.place, ignore_errors=True)


def _gone(who: Identity, within_s: float) -> bool:
    with signals.Watch(who) as watch:
        return bool(watch.gone(within_s * 1_000)) or not procs.alive(who)


def _experiment(fixture: Fixture, guest: int) -> dict[str, Any]:
    """A round with nothing in it but the fault."""
    return {
        "version": 1,
        "title": "undone",
        "hypothesis": "It is undone.",
        "attach": {"guest": {"pid": guest}},
        "injections": [{"at": "10ms", **fixture.fault, "target": {"process": fixture.target}}],
        "limits": {"allow": ["guest", *fixture.more.get("processes", {})], "concurrent": 5},
        "invariants": [{"command": {"run": ["true"], "name": "it is over"}}],
        "settle": "100ms",
        **fixture.more,
    }


# --- misfortunes -----------------------------------------------------------------------------------------------------

Left = tuple[float, bool, tuple[str, ...]]


def _guarded(trial: Trial) -> Left:
    took_s, left = trial.is_as_before(GUARDED_S)
    return took_s, False, left


def recovered(trial: Trial) -> Left:
    began = time.monotonic()
    told = recover(trial.run.path)[0]
    _, left = trial.is_as_before(RECOVERED_S)
    if told.running:
        left = (*left, "recover says that the round is still running")
    return time.monotonic() - began, True, (*left, *told.left)


def kill_croupier(trial: Trial) -> Left:
    """The guardian lives, and undoes it."""
    trial.send(trial.who, "KILL")
    return _guarded(trial)


def kill_guardian(trial: Trial) -> Left:
    """Croupier sees it, undoes it, and ends."""
    trial.send(trial.guardian, "KILL")
    trial.go_on()
    trial.wait()
    return recovered(trial)


def kill_both(trial: Trial) -> Left:
    """Nobody is left but the undo log."""
    trial.kill_both()
    return recovered(trial)


def kill_all(trial: Trial) -> Left:
    """Both, and then the target."""
    target = trial.target
    trial.kill_both()
    trial.send(target, "KILL")
    return recovered(trial)


def kill_target(trial: Trial) -> Left:
    """There is nobody any more to undo it on."""
    trial.send(trial.target, "KILL")
    trial.go_on()
    trial.wait()
    return _guarded(trial)


def stop_croupier(trial: Trial) -> Left:
    """The guardian undoes it when its time is over; then croupier goes on, and must not do it again."""
    trial.send(trial.who, "STOP")
    trial.go_on()
    # Not before the guardian has lost its patience.
    time.sleep(max(0.0, (trial.open_until_us + LATE_US - now_us()) / 1e6 + 0.1 if trial.open_until_us else 0.0))
    took_s, left = trial.is_as_before(GUARDED_S, only_the_target=True)
    trial.send(trial.who, "CONT")
    trial.wait()
    _, later = trial.is_as_before(GUARDED_S)
    return took_s, False, (*left, *later)


def stop_guardian(trial: Trial) -> Left:
    """It holds the records and does not answer: croupier gives it up, and ends."""
    trial.send(trial.guardian, "STOP")
    trial.go_on()
    trial.wait()
    return recovered(trial)


def stop_target(trial: Trial) -> Left:
    """Somebody else stops it meanwhile, and lets it go on in the end."""
    target = trial.target
    trial.send(target, "STOP")
    trial.go_on()
    trial.wait()
    trial.send(target, "CONT")
    return _guarded(trial)


def fill_the_disk(trial: Trial) -> Left:
    """Nothing can be written down any more, neither by croupier nor by its guardian."""
    trial.fill()
    trial.go_on()
    trial.wait()
    return recovered(trial)


MISFORTUNES: dict[str, Callable[[Trial], Left]] = {
    "SIGKILL croupier": kill_croupier,
    "SIGKILL the guardian": kill_guardian,
    "SIGKILL both": kill_both,
    "SIGKILL both, then the target": kill_all,
    "SIGKILL the target": kill_target,
    "SIGSTOP croupier, then SIGCONT": stop_croupier,
    "SIGSTOP the guardian": stop_guardian,
    "SIGSTOP the target, then SIGCONT": stop_target,
    "disk full": fill_the_disk,
}


# --- trying ----------------------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """Which trials."""

    kinds: tuple[str, ...]
    misfortunes: tuple[str, ...]
    most: int
    jobs: int
    patience: float
    at: str = ""
    again: frozenset[tuple[str, str, str]] = frozenset()
    """Only these: a fixture, a boundary, a misfortune."""


def lacking_fixtures() -> list[str]:
    """Faults of FAULTS that nobody has said how to try."""
    return [one.kind for one in FAULTS if one.kind not in FIXTURES and one.kind not in ELSEWHERE]


def named(kind: str, fixture: Fixture) -> str:
    """A fixture in words."""
    return f"{kind} {json.dumps(fixture.fault[kind])}"


def boundaries_of(starter: Starter, fixture: Fixture) -> list[str]:
    """Every boundary of one fault, in the order in which they are come to. Raises Missed where there are none."""
    with Trial(starter, fixture, "") as trial:
        return trial.listen()


def tried(starter: Starter, kind: str, fixture: Fixture, boundary: str, misfortune: str, *, patience: float) -> Result:
    """One trial."""
    told = Result(kind, named(kind, fixture), boundary, misfortune, reached=True)
    try:
        with Trial(starter, fixture, boundary, small_disk=misfortune == "disk full", patience=patience) as trial:
            trial.come_to_the_boundary()
            took_s, recovered, left = MISFORTUNES[misfortune](trial)
            if not left and took_s > (RECOVERED_S if recovered else GUARDED_S) * patience:
                left = (f"as before, and seen to be only after {took_s:.1f} s",)
            return told._replace(took_s=took_s, recovered=recovered, left=left)
    except Missed as missed:
        return told._replace(reached=False, left=(str(missed),) if str(missed) else ())
    except (OSError, ValueError, AssertionError) as problem:
        return told._replace(left=(f"{type(problem).__name__}: {problem}",))


def spread(some: Sequence[str], most: int) -> list[str]:
    """At most so many of them, evenly spread, the last among them."""
    if not most or len(some) <= most:
        return list(some)
    return [some[round(at * (len(some) - 1) / max(1, most - 1))] for at in range(most)]


def try_all(asked: Asked, told: Callable[[Result], None]) -> tuple[list[Result], dict[str, str]]:
    """Every trial that was asked for, several at once; and for each fault that cannot be tried here, why."""
    plan: list[tuple[str, Fixture, str, str]] = []
    untried = {kind: why for kind, why in ELSEWHERE.items() if kind in asked.kinds}
    with Starter() as starter, ThreadPoolExecutor(asked.jobs) as pool:
        both = [(kind, one) for kind in asked.kinds for one in FIXTURES.get(kind, ()) if not lacks(kind, one, untried)]
        every = pool.map(lambda one: boundaries_of(starter, one[1]), both)
        for (kind, fixture), names in zip(both, every, strict=True):
            chosen = [one for one in names if asked.at in one] if asked.at else spread(names, asked.most)
            plan += [(kind, fixture, name, word) for name in chosen for word in asked.misfortunes]
        if asked.again:
            plan = [row for row in plan if (named(row[0], row[1]), row[2], row[3]) in asked.again]
        lock = threading.Lock()

        def one(row: tuple[str, Fixture, str, str]) -> Result:
            result = tried(starter, *row, patience=asked.patience)
            with lock:
                told(result)
            return result

        try:
            return list(pool.map(one, plan)), untried
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise


def lacks(kind: str, fixture: Fixture, untried: dict[str, str]) -> bool:
    """Whether this machine cannot do it; why goes into `untried`."""
    text = json.dumps(_experiment(fixture, 1)).replace("HERE", "/h")
    experiment = load_text(text.encode(), kind, built_in()).experiment
    (injection,) = experiment.injections
    if why := injector(kind).lacking(injection.fault):
        untried[kind] = why
    return bool(why)


# --- the table -------------------------------------------------------------------------------------------------------


def table(results: Iterable[Result], untried: dict[str, str]) -> list[str]:
    """Faults by misfortunes: clean of tried."""
    by: dict[str, list[Result]] = {}
    for one in results:
        if one.reached:
            by.setdefault(one.kind, []).append(one)
    words = [word for word in MISFORTUNES if any(one.misfortune == word for rows in by.values() for one in rows)]
    head = ["Fault", "Boundaries", *words, "Slowest, by the guardian", "Slowest, by `recover`"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for kind, rows in by.items():
        cells = [f"`{kind}`", str(len({(one.fixture, one.boundary) for one in rows}))]
        for word in words:
            some = [one for one in rows if one.misfortune == word]
            cells.append(f"{sum(one.clean for one in some)} of {len(some)}")
        cells += [_slowest(one.took_s for one in rows if one.recovered is asked) for asked in (False, True)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"| `{kind}` | not tried: {why} |{' |' * (len(head) - 2)}" for kind, why in untried.items()]
    return lines


def _slowest(times: Iterable[float]) -> str:
    slowest = max(times, default=None)
    return "-" if slowest is None else f"{slowest:.1f} s"


def summed(results: Sequence[Result], took_s: float) -> str:
    """One sentence."""
    reached = [one for one in results if one.reached]
    clean = sum(one.clean for one in reached)
    said = f"{len({one.kind for one in reached})} faults, {len(reached):,} trials, {clean:,} clean"
    missed = len(results) - len(reached)
    said += f"; {missed} did not come to their boundary" * bool(missed)
    return said + f"; {took_s / 60:.0f} min on {os.cpu_count()} cores"


def write_page(lines: Sequence[str], said: str) -> None:
    """Put the table between the marks of the page."""
    text = PAGE.read_text()
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    body = "\n".join([f"{said}, on {day}.", "", *lines])
    PAGE.write_text(f"{before}{MARKS[0]}\n{body}\n{MARKS[1]}{after}")


def _asked(arguments: argparse.Namespace) -> Asked:
    kinds = tuple(arguments.only.split(",")) if arguments.only else tuple(one.kind for one in FAULTS)
    words = tuple(word for word in MISFORTUNES if arguments.misfortune in word)
    if arguments.brief:
        words = ("SIGKILL both",)
    if not _may_mount():
        words = tuple(word for word in words if word != "disk full")
    most = 3 if arguments.brief else arguments.most
    again: Iterable[Result] = ()
    if arguments.again:
        before = msgspec.json.decode(arguments.json.read_bytes(), type=Kept).results
        again = [one for one in before if one.reached and not one.clean]
        kinds = tuple(one for one in kinds if one in {each.kind for each in again})
    keys = frozenset((one.fixture, one.boundary, one.misfortune) for one in again)
    return Asked(kinds, words, most, arguments.jobs, arguments.patience, arguments.at, keys)


def _may_mount() -> bool:
    return not mounts.lacking()


def main() -> int:
    """Try what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="these faults")
    parser.add_argument("--misfortune", default="", help="only misfortunes whose name holds this")
    parser.add_argument("--at", default="", help="only boundaries whose name holds this")
    parser.add_argument("--most", type=int, default=0, help="at most so many boundaries of each fault")
    parser.add_argument("--again", action="store_true", help="only what was not clean in the file of --json")
    parser.add_argument("--brief", action="store_true", help="a selection")
    parser.add_argument("--jobs", type=int, default=6, help="how many trials at once")
    parser.add_argument("--patience", type=float, default=1.0, help="times the time that is promised")
    parser.add_argument("--write", action="store_true", help="write the table into the documentation")
    parser.add_argument("--json", type=Path, help="keep every result here, with those of earlier parts")
    asked = parser.parse_args()
    if lacking := lacking_fixtures():
        print(f"no fixture for {', '.join(lacking)}: add one to {HERE / 'undone_fixtures.py'}", file=sys.stderr)
        return 2
    _go_apart()
    began = time.monotonic()

    def told(one: Result) -> None:
        print(one, flush=True)

    with tempfile.TemporaryDirectory(prefix="cu-home-") as home:
        os.environ["XDG_STATE_HOME"] = home
        results, untried = try_all(_asked(asked), told)
    kept = _kept(asked.json, results, untried, time.monotonic() - began) if asked.json else None
    found = kept or Kept(results, untried, time.monotonic() - began)
    lines, said = table(found.results, found.untried), summed(found.results, found.took_s)
    print("\n".join(["", *lines, "", said]))
    if asked.write:
        write_page(lines, said)
    return 0 if all(one.clean or not one.reached for one in results) else 1


class Kept(NamedTuple):
    """What was found by now, in one run or in several parts."""

    results: list[Result]
    untried: dict[str, str]
    took_s: float


def _kept(file: Path, results: list[Result], untried: dict[str, str], took_s: float) -> Kept:
    """These results with those of the file; what was tried again counts as it came out last."""
    before = msgspec.json.decode(file.read_bytes(), type=Kept) if file.exists() else Kept([], {}, 0)
    by = {(one.fixture, one.boundary, one.misfortune): one for one in (*before.results, *results)}
    order = {(kind, named(kind, one)): nth for nth, (kind, one) in enumerate(_every_fixture())}
    every = sorted(by.values(), key=lambda one: order.get((one.kind, one.fixture), len(order)))
    kept = Kept(every, {**before.untried, **untried}, before.took_s + took_s)
    file.write_bytes(msgspec.json.encode(kept))
    return kept


def _every_fixture() -> Iterator[tuple[str, Fixture]]:
    return ((one.kind, fixture) for one in FAULTS for fixture in FIXTURES.get(one.kind, ()))


def _go_apart() -> None:
    """Mounts of the trials are seen by nobody else, and are gone with us."""
    if os.environ.get(APART) or not _may_mount() or not shutil.which("unshare"):
        return
    os.environ[APART] = "1"
    os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])


if __name__ == "__main__":
    raise SystemExit(main())
