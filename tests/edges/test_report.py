"""The page, the JUnit file and the summary: what they say, and that nothing a program prints comes alive in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as xml

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sample_journal as sample
from croupier import report
from croupier.model import journal as j
from croupier.model.verdict import Finding, Verdict, judge
from croupier.report.logs import LINES_A_WINDOW, WINDOWS, around, telling
from croupier.report.story import MOST_POINTS, Curve, read
from croupier.report.text import clean, one_line, seconds, span

HOSTILE = "<script>alert(1)</script>\x1b[31mred\x1b]0;title\x07\x00\u202eevil\u2066\ud800\x9b2J\x7f&amp;'\"]]>"
LAWLESS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c\ud800-\udfff]")
VOID = {"meta", "br", "hr", "img", "input", "link"}


def page_of(events: list[j.AnyEvent], **more: Any) -> str:
    more.setdefault("experiment_text", sample.EXPERIMENT_TEXT)
    return report.page(iter(events), judge(events), more.pop("logs", sample.logs_of(events)), **more)


class Outline(HTMLParser):
    """Reads a page strictly: every element closed in order, ids once, and what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.stack == []
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids)), "an id is given twice"
        self.ids = set(ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("story", sample.STORIES)
def test_a_page_is_whole_in_itself_and_its_markup_is_sound(story: str) -> None:
    page = page_of(sample.STORIES[story]())
    outline = Outline(page)
    page.encode("utf-8")
    assert not outline.all("script") and not outline.all("link") and not outline.all("img")
    for _, attributes in outline.elements:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
    references = [attributes["href"] for attributes in outline.all("a")]
    assert all(one.startswith(("#", "artifacts/")) for one in references)
    missing = {one for one in references if one.startswith("#") and one[1:] not in outline.ids}
    assert not missing
    assert not re.findall(r"url\((?!#)|@import|@font-face", page)
    policy = next(one["content"] for one in outline.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        xml.fromstring(drawing)


@pytest.mark.parametrize(
    ("story", "word"),
    [("held", "Held"), ("violated", "Violated"), ("unknown", "Unknown"), ("stopped", "Held"), ("cut", "Unknown")],
)
def test_the_verdict_comes_first_as_a_word_and_as_a_shape(story: str, word: str) -> None:
    page = page_of(sample.STORIES[story]())
    body = page[page.index("<body") :]
    heading = body[body.index("<h1>") : body.index("</h1>")]
    assert f">{word}<" in heading
    assert body.index(f'class="shape {word.lower()}"') < body.index("<h1>") < body.index("<section")
    assert page.index(f"<title>{word}:") < page.index("<body")


def test_what_broke_names_the_promise_the_injection_before_it_and_where_to_look() -> None:
    page = page_of(sample.violated())
    broke = page[page.index('id="broke"') : page.index('id="held"')]
    assert sample.KEPT in broke
    assert "notes.json cannot be read" in broke
    assert 'href="#injection-9"' in broke
    assert 'href="artifacts/checks/01-kept.txt"' in broke
    assert "was sent SIGKILL" in broke, "log lines stand beside the finding"


def test_a_path_that_leads_out_of_the_run_is_no_link() -> None:
    events = sample.violated()
    for path in ("javascript:alert(1)", "/etc/passwd", "../../secret", "http://evil.example/", "a\\b"):
        verdict = judge(events)
        findings = tuple(msgspec.structs.replace(one, look_at=path) for one in verdict.findings)
        verdict = msgspec.structs.replace(verdict, findings=findings)
        page = report.page(events, verdict, sample.logs_of(events), experiment_text="")
        assert all(one["href"].startswith("#") for one in Outline(page).all("a"))


@pytest.mark.parametrize(
    ("story", "said"),
    [
        ("aborted", "The round was aborted"),
        ("stopped", "The round was stopped"),
        ("cut", "The journal was cut."),
        ("aborted", "has been failing for 15 s"),
        ("aborted", "never ready again"),
        ("fatal", "consumer is fatal"),
        ("fatal", "out of memory (the kernel)"),
        ("fatal", "What could not be told"),
        ("unknown", "Nothing landed"),
        ("unknown", "214 log lines of web are missing"),
        ("held", "croupier replay notes/20260314T092653Z-42"),
        ("held", "croupier run examples/notes/experiment.yaml --seed 42"),
        ("stopped", "--seed 0"),
        ("held", "politely first"),
    ],
)
def test_a_page_says(story: str, said: str) -> None:
    assert said in Outline(page_of(sample.STORIES[story]())).words


def test_what_is_still_disturbed_is_told_at_the_top_with_the_way_to_heal_it() -> None:
    events = sample.stopped()
    events[-1] = msgspec.structs.replace(events[-1], unhealed=("injection 4: web/gunicorn pid 4104 is stopped",))
    page = page_of(events)
    assert page.index("Still disturbed.") < page.index("<section")
    assert "croupier recover" in page and "web/gunicorn pid 4104 is stopped" in page
    assert "still disturbed" in report.summary(judge(events))


def test_a_replay_says_where_the_world_diverged() -> None:
    divergence = SimpleNamespace(injection=3, what="result", then="landed", now=HOSTILE)
    words = Outline(page_of(sample.held(), divergences=(divergence,))).words
    assert "injection 3 : result was landed , now <script>" in words


def test_a_rehearsal_says_that_nothing_was_touched() -> None:
    tape = sample.Tape(1, title="Rehearsed", rehearsal=True)
    assert "nothing was touched" in page_of(tape.ordered())


@pytest.mark.parametrize("cut_at", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144])
def test_a_journal_cut_anywhere_still_makes_a_page(cut_at: int) -> None:
    Outline(page_of(sample.held()[:cut_at]))


def test_the_timeline_tells_states_apart_by_pattern_and_in_words() -> None:
    page = page_of(sample.fatal())
    for state in ("starting", "backoff", "fatal", "stopped", "failing"):
        assert f'id="p-{state}"' in page
    assert "<title>consumer fatal from" in page
    assert "consumer is in backoff for 1000 ms" in page
    plot = page[page.index('aria-labelledby="timeline-title') :]
    assert re.search(r'<a href="#injection-2"><title>injection 2, kill, at .*?: landed</title>', plot)


def test_a_probe_breach_is_a_band_over_the_lanes() -> None:
    page = page_of(sample.violated())
    assert page.count('class="breach"') == 3
    assert page.count('class="s-failing"') == 4, "three on the lane, one in the legend"


def test_recoveries_are_drawn_against_the_limits_that_were_promised() -> None:
    page = page_of(sample.violated())
    plot = page[page.index('class="plot recovery"') :]
    plot = plot[: plot.index("</svg>")]
    assert plot.count('class="dot"') == 9
    assert "every &lt; 5s" in plot and "p95 &lt; 2s" in plot and "mean 734 ms" in plot and "p95 2.92 s" in plot


def test_a_process_that_never_came_back_has_a_mark_of_its_own() -> None:
    assert 'class="dot-never"' in page_of(sample.aborted())


def test_two_thousand_injections_make_a_page_that_stays_small_and_says_what_it_leaves_out() -> None:
    page = page_of(sample.many(2_000))
    assert len(page.encode()) < 3_000_000
    outline = Outline(page)
    assert "The most telling 40 of 2,000" in outline.words
    assert "All 2,000 injections" in outline.words
    assert {f"injection-{number}" for number in range(1, 2_001)} <= outline.ids
    assert f"Lines around {WINDOWS} of 2,000 injections" in outline.words
    assert "more moments, all of them in journal.jsonl" in outline.words


def test_more_injections_than_a_page_can_carry_are_counted() -> None:
    page = page_of(sample.many(4_000))
    assert len(page.encode()) < 5_000_000
    assert "The first 2,000 of 4,000 injections" in page
    assert "2,000 more are in journal.jsonl" in page


def test_texts_of_any_length_make_a_page_of_a_bounded_one() -> None:
    flood = "x" * 1_000_000
    events = [
        msgspec.structs.replace(event, detail=flood) if hasattr(event, "detail") else event for event in sample.fatal()
    ]
    page = page_of(events, experiment_text="y" * 10_000_000, logs=lambda process: iter([(3_600_000, "out", flood)]))
    assert len(page) < 700_000
    assert "more characters" in page
    assert "9,800,000 more characters are in the run directory" in page


def hostile(events: list[j.AnyEvent]) -> list[j.AnyEvent]:
    """The same events with hostile text wherever text may come from outside."""
    poisoned = []
    for event in events:
        changes: dict[str, Any] = {}
        for name in ("why", "detail", "title", "hypothesis", "host", "user", "text", "reason", "hint", "probe", "name"):
            if hasattr(event, name):
                changes[name] = getattr(event, name) + HOSTILE
        if isinstance(event, j.RunStarted):
            changes |= {"argv": (HOSTILE,), "experiment_file": HOSTILE, "run": HOSTILE, "wall_utc": HOSTILE}
        if hasattr(event, "process") and not isinstance(event, j.ProbeRead):
            changes["process"] = event.process + HOSTILE
        if isinstance(event, j.InvariantRead):
            changes["invariant"] = HOSTILE
        poisoned.append(msgspec.structs.replace(event, **changes))
    return poisoned


def test_hostile_text_never_comes_alive_on_a_page() -> None:
    events = hostile(sample.fatal())
    page = page_of(events, experiment_text=HOSTILE, logs=lambda process: iter([(3_600_000, HOSTILE, HOSTILE * 9)]))
    outline = Outline(page)
    page.encode("utf-8")
    assert not LAWLESS.search(page)
    assert "<script" not in page
    assert "alert(1)" in page, "it is shown, though"
    assert "⟨U+202E⟩evil" in page and "␀" in page
    assert all(one["href"].startswith(("#", "artifacts/")) for one in outline.all("a"))


def test_hostile_text_never_comes_alive_in_junit_or_on_a_terminal() -> None:
    verdict = judge(hostile(sample.fatal()))
    document = report.junit(verdict)
    xml.fromstring(document)
    assert b"<script" not in document
    assert not LAWLESS.search(document.decode())
    assert not LAWLESS.search(report.summary(verdict))


@given(st.text(st.characters(), max_size=60))
def test_clean_text_is_lawful_and_stays_as_it_is_when_cleaned_again(text: str) -> None:
    once = clean(text)
    once.encode("utf-8")
    assert not LAWLESS.search(once)
    assert clean(once) == once
    xml.fromstring(f"<a>{once.replace('&', '&amp;').replace('<', '&lt;')}</a>")


@given(st.text(st.characters(), max_size=2_000), st.integers(10, 200))
def test_one_line_is_one_line_and_bounded(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert "\n" not in line and "\r" not in line
    assert len(line) <= limit + 40


def test_colours_are_taken_out_of_a_log_line_and_words_stay() -> None:
    assert clean("\x1b[1;31mERROR\x1b[0m disk\x1b[K full\x1b]8;;http://x\x1b\\link") == "ERROR disk fulllink"


def test_lines_around_an_injection_come_from_before_and_after_it_in_order() -> None:
    verdict = judge(sample.held())
    row = verdict.injections[2]
    at = row.due_us

    def logs(process: str) -> Iterator[tuple[int, str, str]]:
        # One stream after the other, as they lie on disk.
        yield from ((at + offset * 100_000, "out", f"out {offset}") for offset in range(-40, 90))
        yield from ((at + offset * 100_000 + 7, "err", f"err {offset}") for offset in range(-3, 4))

    window = around([row], ["web"], logs)[row.number]
    said = [line.text for line in window.lines]
    assert said == [line.text for line in sorted(window.lines, key=lambda line: line.at_us)]
    assert "out -8" in said and "out 15" in said and "err -3" in said and "err 3" in said
    assert "out -9" not in said and "out 16" not in said
    assert window.left_out > 0


def test_a_flood_of_lines_is_cut_and_counted() -> None:
    verdict = judge(sample.held())
    row = verdict.injections[0]
    flood = [(row.due_us + nth, "out", "x" * 100_000) for nth in range(-500, 500)]
    processes = [f"p{nth}" for nth in range(9)]
    window = around([row], processes, lambda _: iter(flood))[row.number]
    assert len(window.lines) == LINES_A_WINDOW
    assert window.left_out == 9 * (8 + 500) - LINES_A_WINDOW
    assert any(line.at_us < row.due_us for line in window.lines)
    assert any(line.at_us >= row.due_us for line in window.lines)
    assert all(len(line.text) < 400 for line in window.lines)


def test_a_log_that_cannot_be_read_is_told_and_one_that_is_not_there_is_not() -> None:
    def logs(process: str) -> Iterator[tuple[int, str, str]]:
        if process == "workload":
            raise FileNotFoundError(process)
        raise PermissionError(13, "Permission denied")

    page = page_of(sample.held(), logs=logs)
    assert "the log of web could not be read" in page
    assert "the log of workload" not in page


def test_the_most_telling_injections_are_those_that_something_came_of() -> None:
    verdict = judge(sample.violated())
    assert {row.number for row in telling(verdict)[:2]} == {6, 9}, "those blamed for broken promises"
    long = judge(sample.many(600))
    first = telling(long)[:36]
    assert {row.result for row in first} == {"landed", "missed", "refused"}, "no kind crowds out the others"
    slowest = max(row.recovered_ms or 0 for row in long.injections)
    assert slowest in {row.recovered_ms for row in first}


def test_a_curve_keeps_its_peaks_and_its_bound() -> None:
    curve = Curve()
    for nth in range(100_000):
        curve.add(nth, 9_000.0 if nth == 77_777 else nth % 7)
    assert len(curve.points) < MOST_POINTS
    assert max(value for _, value in curve.points) == 9_000.0
    assert curve.points == sorted(curve.points)


def test_a_story_of_many_events_stays_small() -> None:
    events = sample.many(300)
    story = read(events * 20)
    assert len(story.moments.first) + len(story.moments.last) <= 400
    assert story.moments.left_out > 10_000


@pytest.mark.parametrize(
    ("us", "said"),
    [(412, "412 µs"), (3_100, "3.1 ms"), (640_000, "640 ms"), (999_800, "1.00 s"), (2_310_000, "2.31 s"),
     (31_000_000, "31.0 s"), (250_000_000, "4 min 10 s"), (7_260_000_000, "2 h 1 min")],
)  # fmt: skip
def test_a_length_of_time_is_told_at_a_precision_that_fits(us: int, said: str) -> None:
    assert span(us) == said


@pytest.mark.parametrize(
    ("us", "said"),
    [(0, "0.000 s"), (12_345_678, "12.346 s"), (127_412_000, "2:07.412"), (3_723_004_000, "1:02:03.004")],
)
def test_a_moment_is_told_to_the_millisecond(us: int, said: str) -> None:
    assert seconds(us) == said


# JUnit.


def suite_of(verdict: Verdict) -> xml.Element:
    document = report.junit(verdict)
    assert document.startswith(b"<?xml")
    suite = xml.fromstring(document).find("testsuite")
    assert suite is not None
    return suite


@pytest.mark.parametrize(
    ("story", "failures", "errors"), [("held", 0, 0), ("violated", 3, 0), ("unknown", 0, 2), ("fatal", 4, 1)]
)
def test_junit_has_a_case_for_the_verdict_and_one_for_each_invariant(story: str, failures: int, errors: int) -> None:
    verdict = judge(sample.STORIES[story]())
    suite = suite_of(verdict)
    assert int(suite.get("tests", "")) == len(verdict.findings) + 1 == len(suite.findall("testcase"))
    assert (int(suite.get("failures", "")), int(suite.get("errors", ""))) == (failures, errors)
    assert suite.findall("testcase")[0].get("name") == "verdict"


def test_junit_tells_unknown_from_violated_and_never_takes_either_for_a_success() -> None:
    unknown = suite_of(judge(sample.unknown())).find("testcase[@name='verdict']/error")
    assert unknown is not None and unknown.get("type") == "unknown"
    violated = suite_of(judge(sample.violated())).find("testcase[@name='verdict']/failure")
    assert violated is not None and violated.get("type") == "violated"


def test_junit_carries_the_seed_also_when_it_is_zero() -> None:
    seed = suite_of(judge(sample.stopped())).find("properties/property[@name='seed']")
    assert seed is not None and seed.get("value") == "0"


def test_the_start_is_told_in_whole_seconds_of_utc() -> None:
    verdict = msgspec.structs.replace(judge(sample.held()), started_utc="2026-11-20T19:47:44.908+00:00")
    assert suite_of(verdict).get("timestamp") == "2026-11-20T19:47:44"
    page = report.page(sample.held(), verdict, lambda process: (), experiment_text="")
    assert "2026-11-20 19:47:44 UTC" in Outline(page).words


def test_invariants_of_the_same_name_stay_apart_in_junit() -> None:
    twice = Finding(invariant="same", kind="command", held=True)
    verdict = msgspec.structs.replace(judge(sample.held()), findings=(twice, twice))
    assert [one.get("name") for one in suite_of(verdict).findall("testcase")] == ["verdict", "same", "same (2)"]


def test_something_left_disturbed_is_an_error_in_junit_even_when_all_held() -> None:
    verdict = msgspec.structs.replace(judge(sample.held()), unhealed=("injection 3",))
    assert suite_of(verdict).get("errors") == "1"


# The summary.


@pytest.mark.parametrize("story", [name for name in sample.STORIES if name != "many"])
def test_a_summary_opens_with_the_verdict_and_names_the_seed(story: str) -> None:
    verdict = judge(sample.STORIES[story]())
    lines = report.summary(verdict).splitlines()
    assert lines[0] == f"{verdict.verdict.upper()}  {verdict.title}"
    assert any(line.endswith(f"seed {verdict.seed}") for line in lines)
    assert len(lines) < 16


def test_a_summary_tells_broken_promises_from_doubts() -> None:
    said = report.summary(judge(sample.fatal()))
    assert "  x no acknowledged note is lost or doubled" in said
    assert "  ? sqlite queue.db integrity" in said


# What it looks like, as far as numbers can tell.


def colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", css))


def luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_is_readable_against_its_ground_in_light_and_in_dark() -> None:
    css = (Path(report.__file__).parent / "templates" / "page.css").read_text()
    themes = css.split("@media (prefers-color-scheme: dark)", 1)
    light = colours(themes[0])
    dark = light | colours(themes[1].split("}\n}", 1)[0])
    for theme in (light, dark):
        for text in ("ink", "soft", "link", "held", "unknown", "violated"):
            for ground in ("paper", "sheet", "faint"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground, theme["paper"])
        assert contrast(theme["ink"], theme["amber-pale"]) >= 4.5, "a row that was jumped to"
        for shape in ("ready", "blue", "amber", "violet", "red"):
            assert contrast(theme[shape], theme["paper"]) >= 3.0, shape
