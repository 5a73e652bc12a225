"""Heal what is left behind, and halt what runs: the two ways in from outside of a round.

Both find rounds by what is on disk (`running.json` in the run directory, a pointer in the state home) and processes
by their identity, or by the mark in the environment that they were started with; never by name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .built_in import healer
from .inject import Healer
from .inject.healing import heal_all
from .model.errors import ReplayError
from .model.noun import Noun
from .model.target import Identity
from .model.undo import unfinished
from .supervise import left_behind
from .supervise.keeper import RUN_MARKER
from .supervise.running import (
    HALT,
    RECORD,
    Running,
    UndoLog,
    active_runs,
    read_running,
    read_steps,
    remove_pointers,
    remove_running,
)
from .system import procs, signals

HALT_WITHIN_S = 1.5
"""How long anything may stay disturbed once a halt was asked for."""
WIND_UP_WITHIN_S = 10.0
"""How long croupier may take to end its processes when nothing is disturbed any more."""
_GUARDIAN_WITHIN_S = 2.5
_END_WITHIN_S = 2.0
_PACE_S = 0.01


class Recovered(Noun, frozen=True, kw_only=True):
    """What was done about one round that nobody looks after any more."""

    run: str
    run_dir: str
    clean: bool = True
    """Nothing of it is left disturbed, and nobody of it is alive."""
    running: bool = False
    """It is not left behind at all: croupier or its guardian is at work, and it was not touched."""
    healed: tuple[str, ...] = ()
    """Each record that was healed, with its note."""
    ended: int = 0
    """How many processes were killed."""
    left: tuple[str, ...] = ()
    """What could not be healed or ended."""
    differs: tuple[str, ...] = ()
    """What is not as it was in the fingerprint from before the round."""

    def __str__(self) -> str:
        if self.running:
            return f"{self.run}: still running (croupier halt stops it)"
        done = [*self.healed, *([f"{self.ended} processes ended"] if self.ended else [])]
        said = f"{self.run}: {'; '.join(done) or 'nothing was left to heal'}"
        said += "".join(f"\n  NOT healed: {one}" for one in self.left)
        return said + "".join(f"\n  left behind: {one}" for one in self.differs)


class Halted(Noun, frozen=True, kw_only=True):
    """What came of the kill switch for one round."""

    run: str
    run_dir: str
    clean: bool
    """Everything was seen to be healed."""
    how: str
    took_ms: int = 0

    def __str__(self) -> str:
        return f"{self.run}: {'halted' if self.clean else 'NOT halted cleanly'}; {self.how} ({self.took_ms} ms)"


def recover(where: Path | str | Iterable[Path | str] | None = None) -> list[Recovered]:
    """Heal what dead rounds left behind, and end whoever of them is alive. Rounds that run are left alone.

    `where` is a run directory, several, or None for all that the state home knows. Newest disturbance first, past
    every error, and each is verified. Answers one entry per round, in the order found; [] when nothing was left.
    Raises ReplayError for a directory that holds no round.
    """
    return [_recover(run_dir) for run_dir in _run_dirs(where)]


def halt(run: Path | str | None = None, out: Path | None = None) -> list[Halted]:
    """The kill switch: stop running rounds at once, and see that everything is healed.

    Croupier is told first (a `halt` file, then SIGTERM). What is not healed within 1.5 s is healed without it: it is
    killed, and the guardian, or failing that we ourselves, put everything back. `run` is a run directory, the name of
    a round, the folder of its experiment, or `latest`; None halts every round of this user. What is stored under `out`
    is found even where no pointer to it could be written. [] when nothing runs. Raises ReplayError for a `run` unknown.
    """
    found = [(run_dir, running) for run_dir in _to_halt(run, out) if (running := read_running(run_dir))]
    for run_dir, running in found:
        _ask_to_halt(run_dir, running)
    return [_see_halted(run_dir, running) for run_dir, running in found]


# --- recover ---------------------------------------------------------------------------------------------------------


def _recover(run_dir: Path) -> Recovered:
    running = read_running(run_dir)
    steps = read_steps(run_dir)
    name = running.run if running else run_dir.name
    if running and _at_work(running):
        return Recovered(run=name, run_dir=str(run_dir), running=True)
    log = _open_log(run_dir)
    try:
        plugins = running.plugins if running else ()
        healings = heal_all(unfinished(steps), _healers(plugins), log.write if log else _nowhere)
    finally:
        if log:
            log.close()
    ended, alive = _end_marked(name)
    left = [f"{record.fault} on {record.who}: {one.note}" for record, one in healings if not one.verified]
    left += [f"{who} is still alive" for who in alive]
    if running and not left:
        remove_running(run_dir, running.run)
    elif not left:
        remove_pointers(run_dir)
    return Recovered(
        run=name,
        run_dir=str(run_dir),
        clean=not left,
        healed=tuple(
            f"{record.fault} on {record.who} healed" + (f" ({one.note})" if one.note else "")
            for record, one in healings
            if one.verified
        ),
        ended=ended,
        left=tuple(left),
        differs=left_behind.since(run_dir),
    )


def _at_work(running: Running) -> bool:
    """Whether croupier runs, or its guardian still does: then it gets the time that it needs to heal."""
    if procs.alive(running.croupier):
        # Without its guardian it ends by itself, and heals; it must not be raced.
        return True
    with signals.Watch(running.guardian) as watch:
        return not watch.gone(_GUARDIAN_WITHIN_S * 1_000) and procs.alive(running.guardian)


def _end_marked(run: str) -> tuple[int, list[Identity]]:
    """Kill whoever carries the mark of a round, with all that is below. How many, and who is left."""
    own = {os.getpid(), *procs.ancestors(os.getpid())}
    end = time.monotonic() + _END_WITHIN_S
    killed: set[Identity] = set()
    while True:
        marked = [who for who in procs.marked(f"{RUN_MARKER}={run}") if who.pid not in own]
        everybody = {who for top in marked for who in (top, *procs.family(top.pid)) if who.pid not in own}
        # Whoever was seen once stays on the list: its parent, by which we knew it, may be gone by now.
        living = [who for who in everybody | killed if procs.alive(who)]
        if not living or time.monotonic() >= end:
            return len(killed), living
        for who in living:
            try:
                signals.send(who, "KILL")
            except PermissionError:
                pass
            killed.add(who)
        time.sleep(_PACE_S / 2)


def _healers(plugins: tuple[str, ...]) -> Callable[[str], Healer]:
    def of(fault: str) -> Healer:
        from .registry import catalogue

        return healer(fault) or catalogue(plugins).injector(fault)

    return of


def _open_log(run_dir: Path) -> UndoLog | None:
    try:
        return UndoLog(run_dir)
    except OSError:
        # A disk that can only be read: healing matters more than noting it.
        return None


def _nowhere(step: object) -> None:
    return None


# --- halt ------------------------------------------------------------------------------------------------------------


def _to_halt(run: Path | str | None, out: Path | None) -> list[Path]:
    """The run directories that are meant, oldest first. What runs comes before what is stored under the same name."""
    beside = [path.parent.resolve() for path in out.glob(f"*/*/{RECORD}")] if out else []
    running = list(dict.fromkeys([*active_runs(), *beside]))
    running.sort(key=_since)
    if run is None:
        return running
    if str(run) == "latest":
        return running[-1:]
    if named := [run_dir for run_dir in running if _is_named(run_dir, run, out)]:
        return named
    stored = [path for path in (Path(run), *([out / run] if out else [])) if path.is_dir()]
    journals = ("journal.jsonl", "undo.jsonl")
    if not any((path / journal).is_file() for one in stored for path in (one, one / "latest") for journal in journals):
        raise _unknown(run)
    return []


def _since(run_dir: Path) -> tuple[float, str]:
    try:
        return (run_dir / RECORD).stat().st_mtime, str(run_dir)
    except OSError:
        return 0.0, str(run_dir)


def _is_named(run_dir: Path, asked: Path | str, out: Path | None) -> bool:
    running = read_running(run_dir)
    names = {run_dir.name, f"{run_dir.parent.name}/{run_dir.name}", run_dir.parent.name, running.run if running else ""}
    paths = {path.resolve() for path in (Path(asked), *([out / asked] if out else []))}
    return str(asked).rstrip("/") in names or not paths.isdisjoint((run_dir, run_dir.parent))


def _ask_to_halt(run_dir: Path, running: Running) -> None:
    try:
        (run_dir / HALT).write_text("asked by croupier halt\n")
    except OSError:
        pass
    _send(running.croupier, "TERM")


def _see_halted(run_dir: Path, running: Running) -> Halted:
    began = time.monotonic()
    by_itself = _stops_by_itself(run_dir, running)
    how = "croupier stopped and healed everything"
    if not by_itself:
        how = "croupier did not heal in time and was killed; its guardian healed everything"
        _send(running.croupier, "KILL")
        if not _wait(lambda: _is_over(run_dir, running), _GUARDIAN_WITHIN_S):
            _send(running.guardian, "KILL")
            _wait(lambda: not procs.alive(running.guardian), 1.0)
            how = "neither croupier nor its guardian healed in time; it was healed from the undo log"
    clean = True
    if not procs.alive(running.croupier) and not procs.alive(running.guardian) and read_running(run_dir):
        recovered = _recover(run_dir)
        clean = recovered.clean
        how += f": {recovered}"
    return Halted(
        run=running.run,
        run_dir=str(run_dir),
        clean=clean,
        how=how,
        took_ms=round((time.monotonic() - began) * 1_000),
    )


def _is_over(run_dir: Path, running: Running) -> bool:
    """Nobody of the round's own two is left, or they say that all is put back."""
    if not (run_dir / RECORD).exists():
        return True
    return not procs.alive(running.croupier) and not procs.alive(running.guardian)


def _stops_by_itself(run_dir: Path, running: Running) -> bool:
    """Watch croupier stop. False once something was disturbed for too long, it is stopped itself, or takes ages."""
    began = undisturbed = time.monotonic()
    while not _is_over(run_dir, running):
        now = time.monotonic()
        if not unfinished(read_steps(run_dir)) and procs.state_of(running.croupier) not in ("T", "t"):
            # Nothing stands still because of us; its processes may take their grace to stop.
            undisturbed = now
        if now - undisturbed >= HALT_WITHIN_S or now - began >= WIND_UP_WITHIN_S:
            return False
        time.sleep(_PACE_S)
    return True


def _send(who: Identity, name: str) -> None:
    try:
        signals.send(who, name)
    except PermissionError:
        pass


def _wait(until: Callable[[], bool], within_s: float) -> bool:
    end = time.monotonic() + within_s
    while not until():
        if time.monotonic() >= end:
            return False
        time.sleep(_PACE_S)
    return True


def _run_dirs(where: Path | str | Iterable[Path | str] | None) -> list[Path]:
    if where is None:
        return active_runs()
    if not isinstance(where, Path | str):
        return [found for one in where for found in _run_dirs(one)]
    if Path(where).is_dir():
        return [Path(where).resolve()]
    named = [run_dir for run_dir in active_runs() if (running := read_running(run_dir)) and running.run == str(where)]
    if not named:
        raise _unknown(where)
    return named


def _unknown(where: Path | str) -> ReplayError:
    return ReplayError(
        f"no round {str(where)!r} is known",
        hint="give its run directory, or nothing for all; croupier runs lists them",
    )
