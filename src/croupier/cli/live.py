"""A round while it runs: a view that fills a terminal, and plain lines for everything else.

Both are fed with the events of the journal, know the plan and the experiment, and decide nothing. They write to
standard error, so that standard output stays for results. A terminal that goes away silences a view; it never ends a
round.

    with LiveView(plan, experiment) as view:
        view.feed(event)        # each event, as it is written
        view.tick()             # several times a second
"""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..model import journal as j
from ..model.experiment import Experiment
from ..model.guard import default_time_box_ms
from ..model.plan import AfterInjection, At, Injection, Plan
from ..model.target import Identity
from ..report.text import clock, many, one_line, size, span

LEAST_BETWEEN_S = 0.25
"""Between two refreshes when something happened."""
IDLE_BETWEEN_S = 1.0
"""Between two when only time passed, or only numbers moved."""
PLAIN_SILENCE_S = 30.0
KEPT_INJECTIONS = 40

_STATE_STYLES = {
    "ready": "green", "starting": "cyan", "stopping": "cyan", "backoff": "yellow", "fatal": "bold red", "exited": "dim",
    "waiting": "dim", "stopped": "magenta",
}  # fmt: skip
_RESULT_STYLES = {"landed": "bold", "missed": "yellow", "unsure": "yellow", "refused": "yellow", "under way": "cyan"}
_RESULT_SIGNS = {"landed": "●", "missed": "○", "unsure": "◇", "refused": "□", "rehearsed": "◌", "under way": "…"}
_ASCII_SIGNS = {"landed": "*", "missed": "o", "unsure": "?", "refused": "#", "rehearsed": "~", "under way": "."}


@dataclass(slots=True)
class ProcessRow:
    """What is known of one process."""

    name: str
    state: str = "waiting"
    who: Identity | None = None
    restarts: int = 0
    children: set[Identity] = field(default_factory=set)
    stopped: set[Identity] = field(default_factory=set)
    cpu_percent: float | None = None
    rss_bytes: int = 0
    last_exit: str = ""
    last_exit_short: str = ""
    wakes_us: int = 0
    """In backoff: when it starts again."""


@dataclass(slots=True)
class InjectionLine:
    """What is known of one injection that came due."""

    number: int
    at_us: int
    fault: str = ""
    whom: str = ""
    result: str = "under way"
    detail: str = ""
    recovered: str = ""


@dataclass(slots=True)
class ProbeLine:
    """A probe, and since when it fails."""

    label: str
    held: bool | None = None
    since_us: int = 0
    limit_ms: int = 0
    """How long it may fail before the round ends; 0 where it ends nothing."""
    detail: str = ""


class Board:
    """How a round stands, by the events so far."""

    def __init__(self, plan: Plan, experiment: Experiment) -> None:
        self.plan = plan
        self.experiment = experiment
        names = [*experiment.processes, *experiment.attach]
        self.processes = {name: ProcessRow(name) for name in names}
        self.injections: deque[InjectionLine] = deque(maxlen=KEPT_INJECTIONS)
        self.probes: dict[str, ProbeLine] = {}
        self.phase = "starting"
        self.phase_why = ""
        self.round_us: int | None = None
        self.permitted = 0
        self.permitted_us: deque[int] = deque(maxlen=10_000)
        self.concluded_us: dict[int, int] = {}
        self.due: set[int] = set()
        self.active: set[int] = set()
        self.counts = dict.fromkeys(("landed", "missed", "unsure", "refused", "rehearsed"), 0)
        self.acks = 0
        self.acks_before = (0, 0)
        self.ack_rate = 0.0
        self.last_us = 0
        self.message = ""
        self.ended = False
        self._by_number: dict[int, InjectionLine] = {}
        timed = [one for one in plan.injections if isinstance(one.trigger, At)]
        self._timed = deque(sorted(timed, key=lambda one: (self._moment(one) or 0, one.number)))
        self._others = [one for one in plan.injections if not isinstance(one.trigger, At)]
        self._lasting = {one.number: one.fault.lasting_ms for one in plan.injections}

    def take(self, event: j.Event) -> bool:
        """Take in an event. Whether it is news that should be seen at once."""
        self.last_us = max(self.last_us, event.at_us)
        match event:
            case j.Sampled():
                row = self.row(event.process)
                row.cpu_percent, row.rss_bytes = event.cpu_percent, event.rss_bytes
                return False
            case j.Acknowledged():
                at, count = self.acks_before
                if event.at_us > at:
                    self.ack_rate = max(0, event.count - count) / ((event.at_us - at) / 1e6)
                self.acks, self.acks_before = event.count, (event.at_us, event.count)
                return False
            case j.CensusTaken() | j.InvariantAsked():
                return False
            case j.PhaseEntered():
                self.phase, self.phase_why = event.phase, event.why
                if event.phase == "round":
                    self.round_us = event.at_us
            case j.ProbeRead():
                return self._probe(event)
            case j.GuardTripped():
                self.message = f"guard {event.guard}: {event.reason}"
            case j.StopAsked():
                self.message = f"stopping: {event.by}"
            case j.Noted() if event.trouble:
                self.message = event.text
            case j.RunEnded():
                self.ended = True
            case _:
                self._process(event)
                self._injection(event)
        return True

    def row(self, name: str) -> ProcessRow:
        """The row of a process."""
        if name not in self.processes:
            self.processes[name] = ProcessRow(name)
        return self.processes[name]

    def _probe(self, event: j.ProbeRead) -> bool:
        line = self.probes.get(event.probe)
        if line is None:
            line = self.probes[event.probe] = ProbeLine(event.probe, limit_ms=self._limit_ms(event.probe))
        if event.held is line.held:
            return False
        line.held, line.since_us, line.detail = event.held, event.at_us, event.detail
        return True

    def _limit_ms(self, label: str) -> int:
        for one in self.experiment.abort_when:
            if one.failing is not None and _is_label_of(one.failing.probe.label, label):
                return int(one.failing.failing_for_ms)
        return 0

    def _process(self, event: j.Event) -> None:
        match event:
            case j.ProcessStarted():
                row = self.row(event.process)
                row.who, row.state, row.restarts = event.who, "starting", event.attempt - 1
                row.stopped.clear()
            case j.ProcessMoved():
                row = self.row(event.process)
                row.state = event.state
                row.wakes_us = event.at_us + event.delay_ms * 1000
            case j.ProcessReady():
                self.row(event.process).state = "ready"
            case j.ProcessExited():
                row = self.row(event.process)
                how = f"signal {event.signal}" if event.signal else f"code {event.code}"
                by = f"injection {event.injection}" if event.injection else event.cause
                row.who, row.cpu_percent, row.last_exit = None, None, f"{how}, {by}"
                short = f"#{event.injection}" if event.injection else event.cause
                row.last_exit_short = f"{event.signal or event.code} {short}"
            case j.ChildAppeared():
                self.row(event.process).children.add(event.who)
            case j.ChildGone():
                row = self.row(event.process)
                row.children.discard(event.who)
                row.stopped.discard(event.who)
            case j.StateSeen():
                stopped = self.row(event.process).stopped
                (stopped.add if event.state in ("T", "t") else stopped.discard)(event.who)
            case _:
                pass

    def _injection(self, event: j.Event) -> None:
        match event:
            case j.Due():
                self.due.add(event.injection)
                self._line(event.injection, event.at_us)
            case j.InjectionRefused():
                self._conclude(event.injection, event.at_us, "refused", f"{event.limit}: {event.reason}")
            case j.Intended():
                line = self._line(event.injection, event.at_us)
                line.fault = f"{event.fault} {event.detail}".strip()
                line.whom = ", ".join(_whom(one) for one in event.targets[:3])
                if len(event.targets) > 3:
                    line.whom += f" and {len(event.targets) - 3} more"
                self.permitted += 1
                self.permitted_us.append(event.at_us)
                if self._lasting.get(event.injection):
                    self.active.add(event.injection)
            case j.Concluded():
                result = "rehearsed" if event.rehearsed else event.result
                if result != "landed":
                    self.active.discard(event.injection)
                self._conclude(event.injection, event.at_us, result, event.detail)
            case j.Healed():
                self.active.discard(event.injection)
            case j.Recovered() if event.injection in self._by_number:
                self._by_number[event.injection].recovered = f"back in {span(event.took_ms * 1000)}"
            case j.NotRecovered() if event.injection in self._by_number:
                self._by_number[event.injection].recovered = "not back"
            case _:
                pass

    def _line(self, number: int, at_us: int) -> InjectionLine:
        line = self._by_number.get(number)
        if line is None:
            if len(self.injections) == KEPT_INJECTIONS:
                self._by_number.pop(self.injections[0].number, None)
            line = self._by_number[number] = InjectionLine(number, at_us)
            self.injections.append(line)
        return line

    def _conclude(self, number: int, at_us: int, result: str, detail: str) -> None:
        line = self._line(number, at_us)
        if line.result == "under way":
            self.counts[result] += 1
        line.result, line.detail = result, detail
        self.concluded_us[number] = at_us
        self.due.add(number)

    def upcoming(self, now_us: int) -> tuple[Injection, int | None] | None:
        """The next injection, and in how many microseconds; None for the time where it waits for a log line."""
        while self._timed and self._timed[0].number in self.due:
            self._timed.popleft()
        self._others = [one for one in self._others if one.number not in self.due]
        moments = [(at_us, one) for one in self._others if (at_us := self._moment(one)) is not None]
        if self._timed:
            moments.append((self._moment(self._timed[0]) or 0, self._timed[0]))
        if moments and self.round_us is not None:
            at_us, first = min(moments, key=lambda pair: (pair[0], pair[1].number))
            return first, max(0, at_us - now_us)
        waiting = self._timed or self._others
        return (waiting[0], None) if waiting else None

    def _moment(self, injection: Injection) -> int | None:
        match injection.trigger:
            case At(at_ms=at_ms):
                return (self.round_us or 0) + at_ms * 1000
            case AfterInjection(injection=number, plus_ms=plus_ms) if number in self.concluded_us:
                return self.concluded_us[number] + plus_ms * 1000
            case _:
                return None

    def rate_used(self, now_us: int) -> int:
        """How many injections were permitted within the window of the rate limit."""
        since = now_us - self.experiment.limits.rate.per_ms * 1000
        return sum(at > since for at in self.permitted_us)


class Terminal(Console):
    """A console that does not end the program when whoever reads it goes away, as rich's own does."""

    def on_broken_pipe(self) -> None:
        """Let the error be seen by whoever wrote."""
        raise BrokenPipeError


class LiveView:
    """The round on a terminal, drawn at most four times a second, and once a second when nothing happens."""

    def __init__(
        self,
        plan: Plan,
        experiment: Experiment,
        *,
        console: Console | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` gives seconds of any monotonic clock; it is only compared with itself."""
        self.board = Board(plan, experiment)
        self.console = console or Terminal(stderr=True, highlight=False)
        self._now = now
        self._zero: float | None = None
        self._drawn = float("-inf")
        self._news = True
        self._size: tuple[int, int] | None = None
        self._live: Live | None = None
        self._time_box_ms = default_time_box_ms(experiment, plan.lasts_ms)
        self._signs = _RESULT_SIGNS if "utf" in self.console.encoding.lower() else _ASCII_SIGNS

    def __enter__(self) -> Self:
        self._live = Live(
            console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False,
            vertical_overflow="crop",
        )  # fmt: skip
        self._guarded(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def feed(self, event: j.Event) -> None:
        """Take in an event. Cheap; it draws only where something happened, and not too often."""
        # The latest start that any event allows is the best guess: events are written a little after they happen.
        zero = self._now() - event.at_us / 1e6
        self._zero = zero if self._zero is None else min(self._zero, zero)
        if self.board.take(event):
            self._news = True
            self.tick()

    def tick(self) -> None:
        """Draw again if it is time to."""
        if self._live is None:
            return
        waited = self._now() - self._drawn
        if waited < (LEAST_BETWEEN_S if self._news else IDLE_BETWEEN_S):
            return
        self._drawn = self._now()
        self._news = False
        self._guarded(self._draw)

    def close(self) -> None:
        """Take the view off the terminal."""
        live, self._live = self._live, None
        if live is not None:
            self._guarded(live.stop)

    def _draw(self) -> None:
        assert self._live is not None
        size_now = (self.console.width, self.console.height)
        if self._size is not None and size_now != self._size:
            # What was drawn for another size cannot be drawn over line by line.
            self.console.clear()
        self._size = size_now
        self._live.update(self.render(), refresh=True)

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (OSError, ValueError):
            # The terminal is gone. The round goes on, unseen.
            self._live = None

    @property
    def now_us(self) -> int:
        """Microseconds since the first event, now."""
        if self._zero is None:
            return 0
        return max(self.board.last_us, int((self._now() - self._zero) * 1e6))

    def render(self) -> RenderableType:
        """What stands on the terminal, at most one line less than its height."""
        width, height = self.console.width, max(self.console.height - 1, 8)
        board, now = self.board, self.now_us
        head = self._head(width, now)
        foot = self._guards(width, now)
        foot += [self._acks(width)] if board.experiment.workload is not None or board.acks else []
        foot += [Text(one_line(board.message, width), style="bold yellow", no_wrap=True)] if board.message else []
        low = height < 16
        gap = [] if low else [Text()]
        if not low:
            foot.append(Text("Ctrl-C stops, heals everything and judges what there is", style="dim", no_wrap=True))
        room = height - len(head) - len(foot) - 2 * len(gap)
        next_line = self._next(width, now)
        probes = self._probes(width, now, most=max(1, room // 5))
        wanted_rows = len(board.processes)
        rows = min(wanted_rows, max(1, room - len(probes) - (3 if low else 4)))
        processes = self._processes(width, now, rows)
        left = room - len(probes) - rows - 1 - (wanted_rows > rows) - 1
        airy = left > 6
        injections = self._injections(width, left - 2 * airy)
        air = [Text()] if airy else []
        parts: list[RenderableType] = [*head, *gap, processes]
        if wanted_rows > rows:
            parts.append(Text(f"  and {many(wanted_rows - rows, 'more process')}", style="dim"))
        return Group(*parts, *air, next_line, *injections, *air, *probes, *gap, *foot)

    def _head(self, width: int, now: int) -> list[Text]:
        board = self.board
        seed = f"seed {board.plan.seed}"
        title = one_line(board.plan.title, width - len(seed) - 3)[: width - len(seed) - 3]
        first = Text(title, style="bold", no_wrap=True)
        first.append(" " * (width - first.cell_len - len(seed)) + seed, style="dim")
        second = Text(no_wrap=True, overflow="ellipsis")
        second.append(f"{board.phase}", style="reverse bold" if board.phase == "round" else "reverse")
        second.append(f"  {clock(now)}")
        if board.phase == "round" and board.round_us is not None:
            done_us, whole_us = now - board.round_us, board.plan.lasts_ms * 1000
            second.append(f"   {clock(max(0, whole_us - done_us))} left  ")
            second.append_text(_bar(done_us / max(whole_us, 1), max(8, min(40, width - 40))))
        elif board.phase_why:
            second.append(f"  {one_line(board.phase_why, width)}", style="dim")
        return [first, second]

    def _processes(self, width: int, now: int, most: int) -> RenderableType:
        table = Table(box=None, pad_edge=False, padding=(0, 1), width=width, header_style="dim")
        wide, narrow = width >= 100, width < 76
        table.add_column("process", no_wrap=True, ratio=3, overflow="ellipsis")
        table.add_column("state", no_wrap=True, width=14 if wide else 13)
        table.add_column("pid", justify="right", no_wrap=True, width=7)
        table.add_column("restarts", justify="right", no_wrap=True, width=8)
        table.add_column("children", justify="right", no_wrap=True, width=8)
        if not narrow:
            table.add_column("CPU", justify="right", no_wrap=True, width=7)
            table.add_column("RSS", justify="right", no_wrap=True, width=9)
        table.add_column("last exit" if wide else "exit", no_wrap=True, ratio=5 if wide else 3, overflow="ellipsis")
        # Those that are not well come first where not all of them fit.
        rows = list(self.board.processes.values())
        if len(rows) > most:
            rows = sorted(rows, key=lambda row: (row.state == "ready" and not row.stopped, row.name))[:most]
        for row in rows:
            state, style = row.state, _STATE_STYLES.get(row.state, "")
            if row.who in row.stopped:
                state, style = "stopped", "magenta"
            elif row.state == "backoff":
                state = f"backoff {max(0, row.wakes_us - now) / 1e6:.1f} s"
            children = str(len(row.children)) if row.children else "-"
            halted = len(row.stopped - {row.who})
            usage = [
                "-" if row.cpu_percent is None else f"{row.cpu_percent:.1f} %",
                size(row.rss_bytes) if row.rss_bytes else "-",
            ]
            table.add_row(
                Text(one_line(row.name, 60)),
                Text(state, style=style),
                str(row.who.pid) if row.who else "-",
                Text(str(row.restarts), style="yellow" if row.restarts else ""),
                Text(f"{children} ({halted} T)" if halted else children, style="magenta" if halted else ""),
                *([] if narrow else usage),
                Text(one_line(row.last_exit if wide else row.last_exit_short, 60), style="dim"),
            )
        return table

    def _next(self, width: int, now: int) -> Text:
        board = self.board
        line = Text("next       ", style="dim", no_wrap=True, overflow="ellipsis")
        coming = board.upcoming(now) if board.phase in ("starting", "steadying", "round") else None
        if coming is None:
            line.append("nothing more is due" if board.round_us is not None else "once the steady state holds")
            return line
        injection, wait_us = coming
        if board.round_us is None:
            line.append("once the steady state holds: ", style="dim")
        elif wait_us is None:
            line.append(f"{one_line(str(injection.trigger), width)}: ", style="cyan")
        else:
            line.append(
                f"in {wait_us / 1e6:.1f} s  " if wait_us < 60e6 else f"in {clock(wait_us)}  ", style="bold cyan"
            )
        line.append(f"{injection.number} {one_line(f'{injection.fault} on {injection.target}', width)}")
        return line

    def _injections(self, width: int, most: int) -> list[Text]:
        if most <= 0:
            return []
        lines = []
        for one in list(self.board.injections)[-most:]:
            sign = self._signs.get(one.result, " ")
            line = Text(f"{clock(one.at_us):>8}   ", style="dim", no_wrap=True, overflow="ellipsis")
            line.append(f"{sign} {one.number:>3} {one.result:<9} ", style=_RESULT_STYLES.get(one.result, ""))
            said = one_line(f"{one.whom}: {one.fault}" if one.fault else one.detail, width)
            room = max(10, width - line.cell_len - len(one.recovered) - 2)
            line.append(said if len(said) <= room else said[: room - 1] + "…")
            if one.recovered:
                line.append(f"  {one.recovered}", style="bold red" if one.recovered == "not back" else "green")
            lines.append(line)
        return lines

    def _probes(self, width: int, now: int, most: int) -> list[Text]:
        lines = []
        probes = sorted(self.board.probes.values(), key=lambda one: one.held is not False)
        for one in probes[:most]:
            line = Text("probe      ", style="dim", no_wrap=True, overflow="ellipsis")
            if one.held:
                line.append("ok       ", style="green")
            else:
                failing_us = now - one.since_us
                said = "failing" if one.held is False else "unknown"
                limit = f" of {one.limit_ms / 1000:g} s" if one.limit_ms else ""
                line.append(f"{said} for {failing_us / 1e6:.1f} s{limit}  ", style="bold red")
            line.append(one_line(one.label if one.held else f"{one.label} {one.detail}", width))
            lines.append(line)
        if len(probes) > most:
            lines[-1].append(f"  (and {len(probes) - most} more)", style="dim")
        return lines

    def _guards(self, width: int, now: int) -> list[Text]:
        board, limits = self.board, self.board.experiment.limits
        used = board.permitted
        counts = ", ".join(f"{count} {word}" for word, count in board.counts.items() if count) or "none yet"
        first = Text("injections ", style="dim", no_wrap=True, overflow="ellipsis")
        first.append(f"{counts} of {len(board.plan.injections)} planned")
        second = Text("guards     ", style="dim", no_wrap=True, overflow="ellipsis")
        parts = [
            (f"injections {used}/{limits.injections}", used >= limits.injections)
            if limits.injections is not None
            else (f"injections {used}, no limit", False),
            (f"rate {(rate := board.rate_used(now))}/{limits.rate}", rate >= limits.rate.count),
            (f"at work {len(board.active)}/{limits.concurrent}", False),
            (f"time box {clock(now)}/{clock(self._time_box_ms * 1000)}", now > self._time_box_ms * 900),
        ]
        for nth, (said, full) in enumerate(parts):
            second.append("  " if nth else "")
            second.append(said, style="yellow" if full else "")
        return [first, second]

    def _acks(self, width: int) -> Text:
        line = Text("acks       ", style="dim", no_wrap=True, overflow="ellipsis")
        line.append(f"{self.board.acks:,}")
        line.append(f"  {self.board.ack_rate:.0f} per second", style="dim")
        return line


class PlainView:
    """The round as lines with a time, one for each thing worth a note: for logs and pipes. No escape sequences."""

    def __init__(
        self,
        plan: Plan,
        experiment: Experiment,
        *,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.board = Board(plan, experiment)
        self._stream = stream
        self._now = now
        self._said = now()
        self._silent = False
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def feed(self, event: j.Event) -> None:
        """Take in an event, and write its line if it has one."""
        before = self.board.probes.get(event.probe) if isinstance(event, j.ProbeRead) else None
        held_before = before.held if before is not None else None
        self.board.take(event)
        said = self._probe(event, held_before) if isinstance(event, j.ProbeRead) else _sentence(event)
        if isinstance(event, j.RunStarted):
            said = f"{event.title}: seed {event.seed}, {many(len(self.board.plan.injections), 'injection')} planned"
        if said:
            self._say(event.at_us, said)

    def tick(self) -> None:
        """After a long silence, say that the round is still going on."""
        if self._started and not self.board.ended and self._now() - self._said >= PLAIN_SILENCE_S:
            board = self.board
            counts = ", ".join(f"{count} {word}" for word, count in board.counts.items() if count) or "none made yet"
            waited_us = int((self._now() - self._said) * 1e6)
            acks = f"; {many(board.acks, 'acknowledgement')}" if board.acks else ""
            self._say(
                board.last_us if board.last_us else waited_us, f"still in {board.phase}: injections {counts}{acks}"
            )

    def close(self) -> None:
        """Nothing to take away."""

    @staticmethod
    def _probe(event: j.ProbeRead, held_before: bool | None) -> str:
        # The first yes of a probe is what everybody expects.
        if event.held is held_before or (event.held and held_before is None):
            return ""
        word = {True: "holds again", False: "fails", None: "cannot tell"}[event.held]
        return f"probe {event.probe} {word}{_because(event.detail) if not event.held else ''}"

    def _say(self, at_us: int, text: str) -> None:
        self._said = self._now()
        self._started = True
        if self._silent:
            return
        stream = self._stream if self._stream is not None else sys.stderr
        line = f"[{at_us / 1e6:10.3f}] {one_line(text, 500)}\n"
        encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            stream.write(line.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except (OSError, ValueError):
            # Whoever read this went away. The round goes on, unheard.
            self._silent = True


def _sentence(event: j.Event) -> str:
    """The line of an event, "" for those that are not worth one."""
    match event:
        case j.PhaseEntered():
            return f"phase {event.phase}{_because(event.why)}"
        case j.ProcessReady():
            return f"{event.process} is ready after {event.took_ms:.0f} ms ({event.who})"
        case j.ProcessMoved(state="backoff"):
            return f"{event.process} starts again in {event.delay_ms} ms{_because(event.why)}"
        case j.ProcessMoved(state="fatal"):
            return f"{event.process} is fatal{_because(event.why)}"
        case j.ProcessExited():
            how = f"signal {event.signal}" if event.signal else f"exit code {event.code}"
            by = f"injection {event.injection}" if event.injection else event.cause
            by += ", out of memory as was meant" if event.oom else ""
            return f"{event.process} ({event.who}) ended by {how}; cause: {by}"
        case j.ChildGone(cause="own" | "oom"):
            return f"a child of {event.process} ({event.who}) died; cause: {event.cause}"
        case j.SteadyStateRead():
            holds = "holds" if event.held else "does not hold"
            return f"the steady state {holds} {event.when} the round{_because(event.detail)}"
        case j.WorkloadEnded(asked=False):
            return f"the workload ended by itself: {event.signal or event.code}"
        case j.GuardTripped():
            return f"guard {event.guard}: {event.reason}"
        case j.InvariantRead():
            word = {True: "held", False: "broken", None: "unknown"}[event.held]
            return f"{word}: {event.invariant}{_because(event.detail)}"
        case j.StopAsked():
            return f"stop asked for by {event.by}"
        case j.Noted():
            return f"{'trouble: ' if event.trouble else ''}{event.text}"
        case j.RunEnded():
            unhealed = f"; still disturbed: {', '.join(event.unhealed)}" if event.unhealed else ""
            left = f"; left behind: {', '.join(event.left_behind)}" if event.left_behind else ""
            return f"the round is over: {event.outcome}{_because(event.why)}{unhealed}{left}"
        case _:
            return _injection_sentence(event)


def _injection_sentence(event: j.Event) -> str:
    match event:
        case j.Intended():
            whom = ", ".join(_whom(one) for one in event.targets[:6])
            more = f" and {len(event.targets) - 6} more" if len(event.targets) > 6 else ""
            return f"injection {event.injection}: {event.fault}{_because(event.detail)} on {whom}{more}"
        case j.CallReached():
            return f"injection {event.injection}: {event.process} (pid {event.pid}) is about to {j.call_said(event)}"
        case j.Concluded():
            result = "rehearsed" if event.rehearsed else event.result
            return f"injection {event.injection}: {result} in {span(event.took_us)}{_because(event.detail)}"
        case j.InjectionRefused():
            hint = f"; {event.hint}" if event.hint else ""
            return f"injection {event.injection}: refused by {event.limit}: {event.reason}{hint}"
        case j.Healed():
            word = "healed" if event.verified else "NOT seen to be healed"
            return f"injection {event.injection}: {word}{_because(event.note)}"
        case j.Recovered():
            return f"injection {event.injection}: {event.process} is back after {span(event.took_ms * 1000)}"
        case j.NotRecovered():
            waited = span(event.waited_ms * 1000)
            return f"injection {event.injection}: {event.process} is not back after {waited}{_because(event.detail)}"
        case _:
            return ""


def _whom(one: j.Struck) -> str:
    name = one.role or one.name
    return f"{name if one.main or not one.role else f'{name}/{one.name}'} {one.who.pid}"


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def _is_label_of(template: str, label: str) -> bool:
    """Whether a label may have been made from a template by filling in its `${…}`."""
    if template == label:
        return True
    pattern = ".*".join(re.escape(part) for part in re.split(r"\$\{[^}]*\}", template))
    return re.fullmatch(pattern, label, re.DOTALL) is not None


def _bar(share: float, width: int) -> Text:
    full = round(min(max(share, 0.0), 1.0) * width)
    bar = Text("━" * full, style="green")
    bar.append("━" * (width - full), style="bright_black")
    return bar
