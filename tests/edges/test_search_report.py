"""The page and the text of a search: read well on one finding and on 5,000, whatever a program prints."""

from __future__ import annotations

import re

import pytest

from croupier.model.search import (
    CrashPoint,
    Finding,
    Group,
    Operation,
    SearchResult,
    SelfCheck,
    Setting,
    point_id,
    step,
)
from croupier.report import search_page, search_summary

EVIL = '<script>alert("x")</script>\x1b[31m\u202e'


def a_search(findings, *, name="notes.json", reason="it is empty", verdict="violated"):
    """A search in which every second crash point does not recover."""
    operations = [
        Operation(index=nth, call="write", kind="output" if nth % 10 == 0 else "write", path=name, offset=0, length=9)
        for nth in range(1, 2 * findings + 2)
    ]
    points = [CrashPoint(id=point_id(nth), after=nth, state=str(nth)) for nth in range(2 * findings + 2)]
    found = tuple(
        Finding(id=point_id(nth), after=step(operations[nth - 1]), before=step(operations[nth]), acked=nth // 10,
                reason=reason, group=1, confirmed=True if nth == 1 else None)
        for nth in range(1, 2 * findings + 1, 2)
    )  # fmt: skip
    groups = (
        Group(number=1, count=findings, first="k0001", pattern="p", cause=f"`{name}` is emptied first", reason=reason,
              confirmed=True, fix="write aside", link="https://example.org/", points=tuple(one.id for one in found)),
    ) if findings else ()  # fmt: skip
    result = SearchResult(
        run="/runs/notes/2026-01-01T000000Z", verdict=verdict, reasons=("a reason",), level="seccomp", model="kill",
        crash_points=len(points), distinct_states=len(points), checked=len(points), left_out=0, acked=findings // 5,
        operations=len(operations), findings=found, groups=groups, seconds={"check": 1.0, "total": 2.0},
        self_checks=(SelfCheck(name="the check can fail", held=True), SelfCheck(name="seen", held=None, detail=reason)),
    )  # fmt: skip
    return result, Setting(title=f"notes {name}", workload=("python", name), check=("true",)), operations, points


def a_page(*args, **more):
    result, setting, operations, points = a_search(*args, **more)
    return search_page(result, setting, operations, points, started_utc="2026-01-01T00:00:00", version="1")


@pytest.mark.parametrize("findings", [0, 1, 5000])
def test_the_page_stays_a_page(findings):
    page = a_page(findings, verdict="violated" if findings else "held")
    assert len(page) < 1_500_000
    assert page.count("<tr id=") == min(findings, 300)
    if findings == 5000:
        assert "The first 300 of 5,000" in page and "4,700 more are in result.json" in page


def test_the_page_says_what_happened_around_the_crash_and_how_to_go_on():
    page = a_page(3)
    assert "<code>notes.json</code> is emptied first" in page
    assert "the crash" in page and "confirmed by a real kill" in page
    assert "croupier replay /runs/notes/2026-01-01T000000Z/k0001 --live" in page
    assert 'href="https://example.org/"' in page


def test_every_crash_point_that_fails_is_red_on_the_strip_and_leads_to_its_cause():
    page = a_page(40)
    assert page.count('class="c-red"') == 40
    assert len(re.findall('href="#cause-1"', page)) >= 40
    assert 'id="cause-1"' in page


def test_hostile_text_is_harmless_on_the_page_and_in_the_terminal():
    page = a_page(2, name=EVIL, reason=EVIL)
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page
    result, _, operations, points = a_search(2, name=EVIL, reason=EVIL)
    said = search_summary(result, operations, points)
    assert "\x1b" not in said and "\u202e" not in said


def test_the_text_has_a_strip_with_acknowledgements_and_stays_short():
    result, _, operations, points = a_search(8)
    assert "·x·x·x·x·x|·x" in search_summary(result, operations, points)
    result, _, operations, points = a_search(5000)
    assert len(search_summary(result, operations, points).splitlines()) < 40
