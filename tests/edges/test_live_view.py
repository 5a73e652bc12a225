"""The views of a running round: that they fit, say what matters, cost little, and never get in its way."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

import sample_journal as sample
from croupier.cli.live import PLAIN_SILENCE_S, Board, LiveView, PlainView, Terminal
from croupier.model import experiment as x
from croupier.model import journal as j
from croupier.model.plan import AfterInjection, At, Injection, OnLog, Plan
from croupier.model.target import Identity, Selector

HOSTILE = "[bold]<b>\x1b[2J\x00\u202e\r\nboo"


class Clock:
    """A clock that stands still until it is told to go."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


class Screen:
    """A live view on a terminal of our own making."""

    def __init__(self, width: int = 80, height: int = 24, plan: Plan | None = None) -> None:
        self.clock = Clock()
        self.out = io.StringIO()
        self.console = Console(file=self.out, force_terminal=True, width=width, height=height, color_system=None)
        self.view = LiveView(plan or sample.plan(), sample.experiment(), console=self.console, now=self.clock)
        self.draws = 0
        draw = self.view._draw

        def counted() -> None:
            self.draws += 1
            draw()

        self.view._draw = counted  # type: ignore[method-assign]

    def play(self, events: list[j.AnyEvent]) -> Screen:
        for event in events:
            self.clock.at = max(self.clock.at, 100 + event.at_us / 1e6)
            self.view.feed(event)
        return self

    def lines(self) -> list[str]:
        with self.console.capture() as capture:
            self.console.print(self.view.render())
        return capture.get().rstrip("\n").split("\n")

    def text(self) -> str:
        return "\n".join(self.lines())


def upto(events: list[j.AnyEvent], kind: type, injection: int) -> list[j.AnyEvent]:
    last = next(nth for nth, one in enumerate(events) if isinstance(one, kind) and one.injection == injection)
    return events[: last + 1]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40), (60, 12)])
@pytest.mark.parametrize("story", [name for name in sample.STORIES if name != "many"])
def test_a_view_fits_its_terminal_at_every_moment(story: str, width: int, height: int) -> None:
    events = sample.STORIES[story]()
    screen = Screen(width, height, sample.plan(events))
    for nth, event in enumerate(events):
        screen.play([event])
        if nth % 9 == 0:
            lines = screen.lines()
            assert len(lines) < height
            assert all(len(line) <= width for line in lines)
            assert any(line.startswith("guards") for line in lines)
            assert not screen.view.board.processes or re.search("^(web|store)", "\n".join(lines), re.MULTILINE)


def test_a_view_says_how_the_round_stands() -> None:
    screen = Screen().play(upto(sample.held(), j.Recovered, 2))
    said = screen.text()
    assert "Notes survive killed and suspended workers" in said and "seed 42" in said
    assert re.search(r"round +0:08 +0:2\d left", said)
    assert re.search(r"web +ready +4102 +0 +3", said)
    assert re.search(r"next +in \d\.\d s +3 suspend", said)
    assert re.search(r"0:07 +● +2 landed +web/gunicorn 4104: .*back in 360 ms", said)
    assert "2 landed of 8 planned" in said
    assert "injections 2/12" in said and "rate 2/30 per 1m" in said and "at work 0/1" in said
    assert re.search(r"probe +ok +http http://127.0.0.1:41873/health", said)
    assert re.search(r"acks +\d+ +\d+ per second", said)


def test_a_suspended_child_and_a_fault_at_work_are_seen() -> None:
    said = Screen().play(upto(sample.held(), j.HealIntended, 3)).text()
    assert "3 (1 T)" in said
    assert "at work 1/1" in said


def test_a_process_in_backoff_and_one_that_is_fatal_are_seen_with_their_last_exit() -> None:
    events = sample.held()
    backoff = next(nth for nth, one in enumerate(events) if isinstance(one, j.ProcessMoved) and one.state == "backoff")
    said = Screen().play(events[: backoff + 1]).text()
    assert re.search(r"web +backoff 0\.5 s +- .*KILL #8", said)
    said = Screen(120).play(sample.fatal()).text()
    assert re.search(r"consumer +fatal +- +4 .*code 1, own", said)


def test_a_failing_probe_says_for_how_long_and_how_long_it_may() -> None:
    events = sample.aborted()
    screen = Screen().play([one for one in events if one.at_us < 12_000_000])
    screen.clock.at = 100 + 12.361
    assert re.search(r"probe +failing for 5\.0 s of 15 s", screen.text()), "matched although the file says ${port.web}"


def test_the_countdown_runs_between_events() -> None:
    screen = Screen().play(upto(sample.held(), j.Recovered, 1))
    waits = []
    for _ in range(3):
        waits.append(float(re.findall(r"in (\d+\.\d) s", screen.text())[0]))
        screen.clock.at += 0.5
    assert waits[0] - waits[1] == pytest.approx(0.5, abs=0.11)
    assert waits[1] - waits[2] == pytest.approx(0.5, abs=0.11)


def test_what_comes_next_may_wait_for_another_injection_or_for_a_log_line() -> None:
    fault, target = sample.plan().injections[0].fault, Selector(process="web")

    def injection(number: int, trigger: At | AfterInjection | OnLog) -> Injection:
        return Injection(number=number, trigger=trigger, fault=fault, target=target, lot=1)

    plan = Plan(
        version=1, title="t", seed=1, blast_radius="local", lasts_ms=60_000,
        injections=(
            injection(1, AfterInjection(injection=2, plus_ms=2_000)),
            injection(2, At(at_ms=5_000)),
            injection(3, OnLog(process="web", match="flush", nth=1, plus_ms=0)),
        ),
    )  # fmt: skip
    board = Board(plan, sample.experiment())
    assert board.upcoming(0) is not None
    board.take(j.PhaseEntered(at_us=1_000_000, phase="round"))
    assert board.upcoming(2_000_000) == (plan.injections[1], 4_000_000)
    board.take(j.Due(at_us=6_000_000, injection=2))
    board.take(j.Concluded(at_us=6_001_000, injection=2, result="landed"))
    assert board.upcoming(7_001_000) == (plan.injections[0], 1_000_000)
    board.take(j.Due(at_us=8_001_000, injection=1))
    assert board.upcoming(9_000_000) == (plan.injections[2], None)
    board.take(j.Due(at_us=9_000_000, injection=3))
    assert board.upcoming(9_000_000) is None


def test_a_view_draws_at_most_four_times_a_second_and_once_a_second_when_nothing_happens() -> None:
    screen = Screen()
    with screen.view:
        screen.view.tick()
        for nth in range(1_000):
            screen.clock.at = 100 + nth / 100
            screen.view.feed(j.Noted(at_us=nth * 10_000, text="news"))
            screen.view.tick()
        assert 35 <= screen.draws <= 41
        screen.draws = 0
        for nth in range(1_000):
            screen.clock.at = 110 + nth / 100
            screen.view.feed(j.Acknowledged(at_us=10_000_000 + nth * 10_000, count=nth))
            screen.view.tick()
        assert 9 <= screen.draws <= 11


def test_a_view_of_a_hundred_thousand_injections_still_draws_quickly() -> None:
    fault, target = sample.plan().injections[0].fault, Selector(process="web")
    plan = Plan(
        version=1, title="t", seed=1, blast_radius="local", lasts_ms=10**8,
        injections=tuple(
            Injection(number=number, trigger=At(at_ms=number * 10), fault=fault, target=target, lot=1)
            for number in range(1, 100_001)
        ),
    )  # fmt: skip
    board = Board(plan, sample.experiment())
    board.take(j.PhaseEntered(at_us=0, phase="round"))
    for number in range(1, 50_001):
        board.take(j.Due(at_us=number * 10_000, injection=number))
        coming = board.upcoming(number * 10_000)
        assert coming is not None and coming[0].number == number + 1
    assert len(board.injections) <= 40


def test_hostile_text_moves_no_cursor_and_is_no_markup() -> None:
    screen = Screen(plan=sample.plan())
    who = Identity(pid=1, started=1)
    struck = j.Struck(who=who, role=HOSTILE, name=HOSTILE, main=False, rank=0, of=1)
    screen.play(
        [
            j.PhaseEntered(at_us=0, phase="round", why=HOSTILE),
            j.ProcessStarted(at_us=1, process=HOSTILE, who=who, attempt=1),
            j.ProcessMoved(at_us=2, process=HOSTILE, state="ready"),
            j.Intended(at_us=3, injection=1, fault=HOSTILE, detail=HOSTILE, targets=(struck,)),
            j.ProbeRead(at_us=4, probe=HOSTILE, role="abort", held=False, detail=HOSTILE),
            j.GuardTripped(at_us=5, guard=HOSTILE, reason=HOSTILE),
        ]
    )
    said = screen.text()
    assert "[bold]<b>" in said, "shown as it is, not as markup"
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)


def test_a_terminal_that_goes_away_silences_the_view_and_nothing_else() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    clock = Clock()
    console = Terminal(file=Gone(), force_terminal=True, width=80, height=24)
    with LiveView(sample.plan(), sample.experiment(), console=console, now=clock) as view:
        for event in sample.held():
            clock.at += 1
            view.feed(event)
            view.tick()
    with PlainView(sample.plan(), sample.experiment(), stream=Gone(), now=clock) as plain:
        for event in sample.held():
            plain.feed(event)


def test_a_terminal_without_unicode_gets_other_signs() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    console = Console(file=out, force_terminal=True, width=80, height=24)
    view = LiveView(sample.plan(), sample.experiment(), console=console)
    assert set("".join(view._signs.values())) <= set(map(chr, range(32, 127)))


# Plain lines.


def plain(events: list[j.AnyEvent], **options: object) -> list[str]:
    out = io.StringIO()
    with PlainView(sample.plan(events), sample.experiment(), stream=out) as view:
        for event in events:
            view.feed(event)
            view.tick()
    return out.getvalue().splitlines()


@pytest.mark.parametrize("story", [name for name in sample.STORIES if name != "many"])
def test_plain_lines_have_a_time_and_no_escape_sequences(story: str) -> None:
    lines = plain(sample.STORIES[story]())
    assert len(lines) > 5
    assert all(re.match(r"\[ *\d+\.\d{3}\] \S", line) for line in lines)
    assert not re.search("[\x00-\x1f]", "".join(lines))


def test_plain_lines_tell_the_round() -> None:
    said = "\n".join(plain(sample.violated()))
    for one in (
        "seed 7, 10 injections planned",
        "phase round",
        "injection 6: kill (KILL) on web/gunicorn",
        "injection 6: landed in",
        "injection 6: web is back after 2.92 s",
        "fails (connection refused)",
        "holds again",
        "injection 10: refused by rate",
        f"broken: {sample.KEPT}",
        "the round is over: completed",
    ):
        assert one in said
    assert "acks" not in said and "rss" not in said


def test_plain_lines_tell_an_abort_a_stop_and_a_process_given_up() -> None:
    assert "guard abort_when" in "\n".join(plain(sample.aborted()))
    assert "injection 2: web is not back after 15.3 s" in "\n".join(plain(sample.aborted()))
    assert "stop asked for by SIGINT" in "\n".join(plain(sample.stopped()))
    assert "consumer is fatal (more than 5 per 1m restarts)" in "\n".join(plain(sample.fatal()))
    assert "cause: oom" in "\n".join(plain(sample.fatal()))


def test_plain_lines_can_be_written_where_there_is_only_ascii() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    view = PlainView(sample.plan(), sample.experiment(), stream=out)
    view.feed(j.Noted(at_us=1, text="größer \x1b[31mrot\ud800"))
    assert raw.getvalue() == b"[     0.000] gr\\xf6\\xdfer rot\\ufffd\n"


def test_a_long_silence_is_broken_by_a_sign_of_life() -> None:
    clock, out = Clock(), io.StringIO()
    view = PlainView(sample.plan(), sample.experiment(), stream=out, now=clock)
    view.feed(j.PhaseEntered(at_us=0, phase="round"))
    for _ in range(int(PLAIN_SILENCE_S) * 2 + 1):
        clock.at += 1
        view.tick()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "still in round" in lines[1]


def test_an_experiment_without_a_workload_or_limits_shows_no_acks() -> None:
    bare = x.Experiment(version=1, title="t", hypothesis="h")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=24, color_system=None)
    view = LiveView(sample.plan(), bare, console=console)
    console.print(view.render())
    assert "acks" not in out.getvalue()
    assert "no limit" in out.getvalue()
