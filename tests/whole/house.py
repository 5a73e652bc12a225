"""What the tests of the whole share: a house in which rounds are played by the real command, and seen to leave nothing.

Whatever a test starts goes through here, so that it is ended by identity when the test is over, however it went.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from croupier.model import journal as j
from croupier.model.errors import ReplayError
from croupier.model.target import Identity
from croupier.model.verdict import Verdict
from croupier.store import RunDir
from croupier.store.journal import read_journal
from croupier.supervise.running import Running, read_running
from croupier.system import procs, signals

APPS = Path(__file__).resolve().parent / "apps"
CROUPIER = str(Path(sys.executable).with_name("croupier"))
RUN_MARKER = "CROUPIER_RUN"
GONE_WITHIN_S = 2.0
"""The promise: so soon after croupier is gone, everything that was started is gone, and nobody stands still."""

Event = TypeVar("Event", bound=j.Event)


def app(name: str, *arguments: str) -> list[str]:
    """The command of one of the tiny programs of `apps/`. Without site packages, which halves its start."""
    return [sys.executable, "-S", str(APPS / f"{name}.py"), *arguments]


def python(program: str, *arguments: str) -> list[str]:
    """The command that runs a few lines of Python."""
    return [sys.executable, "-S", "-c", program, *arguments]


def an_experiment(**parts: Any) -> dict[str, Any]:
    """An experiment with what every one needs; `app` is the one process unless `processes` says otherwise."""
    whole: dict[str, Any] = {"version": 1, "title": "tiny", "hypothesis": "It comes back."}
    if "attach" not in parts:
        whole["processes"] = {"app": a_process(["sleep", "300"])}
    whole |= parts
    if "invariants" not in whole:
        one = next(iter({**whole.get("processes", {}), **whole.get("attach", {})}))
        whole["invariants"] = [{"process": {"of": one, "at_least": 1}}]
    return whole


def a_process(command: Sequence[str], **more: Any) -> dict[str, Any]:
    """A supervised process that comes back at once, and gets little time to stop."""
    restart = {"when": "always", "delay": "50ms", "backoff": 1, "limit": "50 per 1m"}
    return {"command": list(command), "restart": restart, "stop": {"grace": "500ms"}, **more}


def a_kill(at: str = "100ms", *, process: str = "app", pick: str = "main", **options: Any) -> dict[str, Any]:
    """One exact kill."""
    return {"at": at, "kill": options, "target": {"process": process, "pick": pick}}


def a_suspension(
    at: str = "100ms", *, lasts: str = "300ms", process: str = "app", pick: str = "main", **options: Any
) -> dict[str, Any]:
    """One exact suspension."""
    return {"at": at, "suspend": {"for": lasts, **options}, "target": {"process": process, "pick": pick}}


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Everything that it printed."""
        return self.out + self.err

    @property
    def json(self) -> Any:
        """Its standard output, which is one JSON document."""
        return json.loads(self.out)


class Stored:
    """A run directory, read while it is written or afterwards."""

    def __init__(self, path: Path) -> None:
        self.run = RunDir(path.resolve())

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.run.path

    def events(self, kind: type[Event]) -> list[Event]:
        """The events of a kind, so far."""
        return [one for one in self.all() if isinstance(one, kind)]

    def all(self) -> list[j.AnyEvent]:
        """Every event so far."""
        try:
            return list(self.run.events())
        except ReplayError:
            return []

    @property
    def verdict(self) -> Verdict:
        """The stored verdict."""
        verdict = self.run.read_verdict()
        assert verdict is not None, f"no verdict in {self.path}"
        return verdict

    @property
    def running(self) -> Running:
        """Croupier and its guardian, while they run."""
        found = eventually(lambda: read_running(self.path))
        assert found is not None, f"nothing runs in {self.path}"
        return found

    def known(self) -> list[Identity]:
        """Everybody whom the journal says was started or seen, and whom the apps themselves wrote down."""
        started = [one for one in self.all() if isinstance(one, j.ProcessStarted | j.ProcessReady | j.WorkloadStarted)]
        # Children of attached processes are seen as well, and are nobody of the round's.
        ours = {getattr(one, "process", "") for one in started}
        below = [one for one in self.events(j.ChildAppeared) if one.process in ours]
        return [*{one.who for one in (*started, *below)}, *self.own_pids()]

    def own_pids(self) -> list[Identity]:
        """Whom the programs of `apps/` wrote down: themselves, their children, and their daemons."""
        path = self.run.state / "pids"
        rows = [row.split() for row in path.read_text().splitlines()] if path.exists() else []
        return [Identity(pid=int(pid), started=int(start), boot=procs.boot_id()) for pid, start in rows]

    def alive(self) -> list[Identity]:
        """Everybody of this round who lives, however it is known: by its mark, by the journal, by its own word."""
        marked = procs.marked(f"{RUN_MARKER}={self.run.unique}")
        return [who for who in dict.fromkeys([*marked, *self.known()]) if procs.alive(who)]

    def sees_everybody_gone(self, within_s: float = GONE_WITHIN_S) -> None:
        """Nothing of the round is left alive, so soon."""
        eventually(lambda: not self.alive(), within_s)
        assert self.alive() == [], [(who, cmdline(who.pid)) for who in self.alive()]

    @property
    def log(self) -> str:
        """What all of its processes printed."""
        return "".join(one.read_text(errors="replace") for one in sorted(self.run.logs.glob("*.log*")))


class Played(NamedTuple):
    """A round that is over."""

    done: Done
    stored: Stored

    @property
    def code(self) -> int:
        """The exit code."""
        return self.done.code

    @property
    def verdict(self) -> Verdict:
        """The stored verdict."""
        return self.stored.verdict

    def events(self, kind: type[Event]) -> list[Event]:
        """The events of a kind."""
        return self.stored.events(kind)

    def results(self) -> list[str]:
        """What became of each injection."""
        return [row.result for row in self.verdict.injections]


class Playing:
    """A round in the background."""

    def __init__(self, process: subprocess.Popen[str], out: Path, before: set[Path]) -> None:
        self.process = process
        self._out = out
        self._before = before
        self.who = identity(process.pid)

    @cached_property
    def stored(self) -> Stored:
        """Its run directory, once it is there."""
        eventually(lambda: self._journals() or self.process.poll() is not None, 15)
        journals = self._journals()
        assert journals, f"no run under {self._out}: {self.ended_with()}"
        return Stored(journals[0].parent)

    def _journals(self) -> list[Path]:
        found = sorted({*self._out.glob("*/*/journal.jsonl")} - self._before)
        return [path for path in found if not path.parent.is_symlink() and self._is_ours(path)]

    def _is_ours(self, journal: Path) -> bool:
        try:
            first = next(read_journal(journal), None)
        except ReplayError:
            return False
        return isinstance(first, j.RunStarted) and first.pid == self.process.pid

    def ended_with(self) -> str:
        """What it said, if it has ended."""
        return str(self.wait(1)) if self.process.poll() is not None else "still running"

    def until(self, kind: type[Event], which: Callable[[Event], object] = bool, within_s: float = 20) -> Event:
        """Wait for an event, and give it back."""

        def seen() -> list[Event]:
            return [one for one in self.stored.events(kind) if which(one)]

        found = eventually(lambda: seen() or self.process.poll() is not None, within_s) and seen()
        assert found, f"no {kind.__name__} came: {self.stored.all()[-5:]}, {self.ended_with()}"
        return found[0]

    def signal(self, number: int) -> None:
        """Signal croupier itself, and no other process."""
        self.process.send_signal(number)

    def wait(self, within_s: float = 20) -> Done:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=within_s)
        return Done(self.process.returncode, out, err)

    def played(self, within_s: float = 20) -> Played:
        """Wait for its end, and look at the run."""
        return Played(self.wait(within_s), self.stored)


class House:
    """A directory with experiments and runs of its own, and a register of rounds that no other test sees."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.out = path / "runs"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CROUPIER_")},
            "XDG_STATE_HOME": str(path / "xdg"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }
        self._rounds: list[Playing] = []
        self._guests: list[subprocess.Popen[bytes]] = []

    def write(self, what: Mapping[str, Any] | str, name: str = "experiment.yaml") -> Path:
        """An experiment file, from a text or a value (JSON is YAML)."""
        path = self.path / name
        path.write_text(what if isinstance(what, str) else json.dumps(what, indent=1))
        return path

    def croupier(self, *arguments: str | Path, within_s: float = 30, env: Mapping[str, str] | None = None) -> Done:
        """One command, to its end."""
        done = subprocess.run(
            [CROUPIER, *map(str, arguments)],
            cwd=self.path,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def begin(
        self,
        what: Mapping[str, Any] | str | Path,
        *flags: str,
        seed: int = 1,
        out: Path | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
        quiet: bool = True,
    ) -> Playing:
        """Begin a round; `command` runs croupier in another way than by its own name."""
        file = what if isinstance(what, Path) else self.write(what)
        out = out or self.out
        before = set(out.glob("*/*/journal.jsonl"))
        process = subprocess.Popen(
            [*(command or [CROUPIER]), "run", str(file), "--seed", str(seed), "--out", str(out), *flags]
            + ["--no-progress"] * quiet,
            cwd=self.path,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # As a shell would start it: a signal to the group of the tests is not one to croupier.
            start_new_session=True,
        )
        playing = Playing(process, out, before)
        self._rounds.append(playing)
        return playing

    def play(self, what: Mapping[str, Any] | str | Path, *flags: str, within_s: float = 30, **more: Any) -> Played:
        """A whole round. Nothing of it is alive when it is over."""
        played = self.begin(what, *flags, **more).played(within_s)
        assert played.stored.alive() == []
        return played

    def refused(self, what: Mapping[str, Any] | str | Path, *flags: str) -> Done:
        """A round that does not come to begin."""
        file = what if isinstance(what, Path) else self.write(what)
        done = self.croupier("run", file, "--seed", "1", "--no-progress", "--out", self.out, *flags)
        assert list(self.out.glob("*/*/journal.jsonl")) == []
        return done

    def guest(self, command: Sequence[str], *, ready: str = "", env: Mapping[str, str] | None = None) -> Identity:
        """A process of the test's own, which croupier did not start; once it has printed `ready`."""
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env={**self.env, **(env or {})}, cwd=self.path,
            start_new_session=True,
        )  # fmt: skip
        self._guests.append(process)
        if ready:
            assert process.stdout is not None
            assert process.stdout.readline().decode().strip() == ready
        return identity(process.pid)

    def found_left(self) -> list[dict[str, Any]]:
        """What `croupier recover` finds left behind."""
        done = self.croupier("recover", "--json")
        return list(done.json)

    def close(self) -> None:
        """End whatever a test that failed may have left."""
        for playing in self._rounds:
            if playing.process.poll() is None:
                playing.signal(signal.SIGCONT)
                playing.signal(signal.SIGKILL)
            playing.process.wait()
            for stream in (playing.process.stdout, playing.process.stderr):
                if stream is not None:
                    stream.close()
        for path in self.path.glob("**/journal.jsonl"):
            if path.parent.is_symlink():
                continue
            stored = Stored(path.parent)
            eventually(lambda stored=stored: not stored.alive(), GONE_WITHIN_S)  # type: ignore[misc]
            for who in stored.alive():
                signals.send(who, "KILL")
        for guest in self._guests:
            # Its session is its own, and it is not reaped yet: the group is still the one that it leads.
            if guest.poll() is None:
                os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()
            assert guest.stdout is not None
            guest.stdout.close()


def identity(pid: int) -> Identity:
    """Who carries this number; somebody must."""
    who = procs.identity(pid)
    assert who is not None
    return who


def cmdline(pid: int) -> str:
    """What a process runs, for a message."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "?"


Answer = TypeVar("Answer")


def eventually(condition: Callable[[], Answer], within_s: float = 10.0) -> Answer:
    """Wait for a condition; its last answer, which is false if the time was over first."""
    end = time.monotonic() + within_s
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return answer


def is_stopped(who: Identity) -> bool:
    """Whether it stands still because somebody stopped it."""
    return procs.state_of(who) in ("T", "t")


def states(events: Iterable[j.Event], process: str) -> list[str]:
    """The states that a process went through."""
    return [one.state for one in events if isinstance(one, j.ProcessMoved) and one.process == process]


def as_builtin(value: object) -> Any:
    """A value as JSON would have it."""
    return msgspec.to_builtins(value)
