"""`check_probe`: whether a reader answers what it sees, in time, with a reason, and never raises."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

import msgspec

from ..model.errors import CroupierError
from ..model.probe import Invariant, Probe, Reading
from ..model.target import Census
from ..model.units import Ms
from ..observe import Reader, View
from ..observe.view import KEEP_BYTES
from ..system.commands import Finished
from .examples import load_probe
from .faults import check_spec, check_words
from .rules import PROBE_RULES, RuleBroken
from .world import FakeWorld

LATE_MS = 250
"""How much later than `within` a reading may come: threads have to be woken."""
_SHORT_MS = 400
_LONGEST_DETAIL = 500


class Prober(Protocol):
    """What a plugin brings for one kind of probe."""

    kind: str
    spec: type[Probe]
    summary: str
    example: str

    def read(self, probe: Any, view: Any) -> Reading:
        """Look at the world once."""


World = View | Callable[[], AbstractContextManager[View]]
"""A view to read, or a function that sets a world up and tears it down again (a context manager)."""


def check_probe(
    reader: Prober | Reader,
    probe: Probe,
    *,
    true_world: World,
    false_world: World,
    blind_world: World | None = None,
    hanging_world: World | None = None,
    only: Iterable[str] = (),
) -> tuple[str, ...]:
    """Try every rule for probers on this one, and answer the names of the rules that applied.

        check_probe(PROBER, Niceness(of="web", at_most=5), true_world=polite, false_world=rude)

    - `reader`: a prober, or only its `read` function (then the words of the catalogue are not looked at).
    - `true_world`, `false_world`: worlds in which the probe holds, and does not. A `FakeWorld` is one; a function
      that returns a context manager sets up real processes or files and yields the view.
    - `blind_world`: one in which it cannot tell (None).
    - `hanging_world`: one that does not answer. By default the true world, in which commands take for ever. The probe
      is asked with a `within` of 400 ms then.
    - `only`: names of PROBE_RULES to try; all of them by default.

    Raises RuleBroken (an AssertionError) for the first rule that is broken.
    """
    wanted = tuple(only)
    unknown = set(wanted) - set(PROBE_RULES)
    if unknown:
        raise ValueError(f"there are no rules {', '.join(sorted(unknown))}; known are {', '.join(PROBE_RULES)}")
    trial = _Trial(reader, probe)
    worlds: list[tuple[str, World, bool | None]] = [("true", true_world, True), ("false", false_world, False)]
    if blind_world is not None:
        worlds.append(("blind", blind_world, None))
    checks: dict[str, Callable[[], bool | None]] = {
        "says-what-it-is": trial.says_what_it_is,
        "example-loads": trial.example_loads,
        "answers-what-it-sees": lambda: trial.answers_what_it_sees(worlds),
        "gives-a-reason": lambda: trial.gives_a_reason(worlds),
        "never-raises": lambda: trial.never_raises(true_world),
        "ends-in-time": lambda: trial.ends_in_time(hanging_world, true_world),
    }
    applied = []
    for name, check in checks.items():
        if wanted and name not in wanted:
            continue
        trial.rule = name
        if check() is not False:
            applied.append(name)
    return tuple(applied)


class _Trial:
    """One prober on trial."""

    def __init__(self, reader: Prober | Reader, probe: Probe) -> None:
        self.prober: Any = reader if hasattr(reader, "read") else None
        self.probe = probe
        self.rule = ""
        self._read: Reader = self.prober.read if self.prober is not None else cast(Reader, reader)

    def broken(self, seen: str, rule: str = "") -> NoReturn:
        raise RuleBroken(PROBE_RULES[rule or self.rule], f"probe {self.probe.kind!r}", seen)

    # The rules.

    def says_what_it_is(self) -> bool:
        if self.prober is None:
            return False
        check_words(self.broken, self.prober, ("summary", "example"))
        check_spec(self.broken, self.prober, self.probe, Probe, "probe")
        if issubclass(self.prober.spec, Invariant):
            self.broken(f"{self.prober.spec.__name__} is an Invariant: those ask the journal and have no reader")
        missing = {"name", "within_ms"} - set(self.prober.spec.__struct_fields__)
        if missing:
            self.broken(f"{self.prober.spec.__name__} lacks {', '.join(sorted(missing))}: derive it from Asked as well")
        return True

    def example_loads(self) -> bool:
        if self.prober is None:
            return False
        try:
            loaded = load_probe(self.prober.example, self.prober.spec)
        except CroupierError as problem:
            self.broken(f"{self.prober.example!r} does not load: {problem}")
        if not isinstance(loaded, self.prober.spec):
            self.broken(f"{self.prober.example!r} is an example of {type(loaded).__name__}")
        return True

    def answers_what_it_sees(self, worlds: list[tuple[str, World, bool | None]]) -> None:
        for name, world, wanted in worlds:
            with _entered(world) as view:
                reading = self.ask(view, f"in the {name} world")
            if reading.held is not wanted:
                self.broken(f"in the {name} world it answered {reading.held}, and not {wanted} ({reading.detail})")

    def gives_a_reason(self, worlds: list[tuple[str, World, bool | None]]) -> None:
        for name, world, _ in worlds:
            with _entered(world) as view:
                detail = self.ask(view, f"in the {name} world").detail
            if not detail.strip():
                self.broken(f"in the {name} world it gave no reason")
            if "\n" in detail or len(detail) > _LONGEST_DETAIL:
                self.broken(
                    f"in the {name} world its detail has {len(detail)} characters in {detail.count(chr(10)) + 1} lines"
                )

    def never_raises(self, world: World) -> None:
        for problem in (OSError("input/output error"), KeyError("nobody"), RuntimeError("the view broke")):
            with _entered(world) as view:
                broken = _Broken(view, problem)
                reading = self.ask(broken, f"where every question to the view raises {type(problem).__name__}")
            if broken.asked and reading.held is True:
                self.broken(f"every question to the view raised {type(problem).__name__}, and it answered True")

    def ends_in_time(self, hanging: World | None, world: World) -> None:
        probe = msgspec.structs.replace(cast(Any, self.probe), within_ms=Ms(_SHORT_MS))
        with _entered(hanging or world) as view:
            over = threading.Event()
            began = time.monotonic()
            answers: list[Reading] = []
            asked = _Hanging(view, over) if hanging is None else view

            def ask() -> None:
                try:
                    answers.append(self._read(probe, asked))
                except Exception as problem:  # noqa: F841 - that is another rule
                    return

            thread = threading.Thread(target=ask, daemon=True)
            thread.start()
            thread.join((_SHORT_MS + LATE_MS) / 1_000)
            late = thread.is_alive()
            took_ms = (time.monotonic() - began) * 1_000
            over.set()
        if late:
            self.broken(f"its `within` was {_SHORT_MS} ms, and it was still at work after {took_ms:.0f} ms")
        if hanging is not None and answers and answers[0].held is True:
            self.broken("in a world that hangs it answered True", "answers-what-it-sees")

    def ask(self, view: View, where: str) -> Reading:
        """One reading, and nothing else, whatever the world does."""
        try:
            reading = self._read(self.probe, view)
        except Exception as problem:
            self.broken(f"{where} it raised {type(problem).__name__}: {problem}", "never-raises")
        if not isinstance(reading, Reading) or reading.held not in (True, False, None):
            self.broken(f"{where} it returned {reading!r}, and not a Reading", "never-raises")
        return reading


@contextmanager
def _entered(world: World) -> Iterator[View]:
    if callable(world):
        with world() as view:
            yield view
    else:
        yield world


class _Broken:
    """A view in which every question raises."""

    def __init__(self, view: View, problem: Exception) -> None:
        self.cwd = view.cwd
        self.env = view.env
        self.asked = False
        self._problem = problem

    def _raise(self) -> NoReturn:
        self.asked = True
        raise self._problem

    @property
    def baseline(self) -> Mapping[str, int]:
        self._raise()

    def log_matches(self, process: str, regex: str) -> int:
        self._raise()

    def log_lines(self, process: str) -> Iterable[str]:
        self._raise()

    def census(self) -> Census:
        self._raise()

    def acks(self) -> Path:
        self._raise()

    def heartbeat_path(self, process: str) -> Path:
        self._raise()

    def heartbeat_seen_ms(self, path: Path) -> float | None:
        self._raise()

    def run_command(
        self,
        argv: tuple[str, ...],
        within_ms: int,
        env: Mapping[str, str],
        keep_bytes: int = KEEP_BYTES,
        network: str = "",
    ) -> Finished:
        self._raise()


class _Hanging:
    """A view in which commands take for ever, or until their time is over; all else is as in the world around."""

    def __init__(self, view: View, over: threading.Event) -> None:
        self._view = view
        self._over = over

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def run_command(
        self,
        argv: tuple[str, ...],
        within_ms: int,
        env: Mapping[str, str],
        keep_bytes: int = KEEP_BYTES,
        network: str = "",
    ) -> Finished:
        self._over.wait(within_ms / 1_000)
        return Finished(timed_out=True, took_ms=float(within_ms))


__all__ = ["FakeWorld", "Prober", "World", "check_probe"]
