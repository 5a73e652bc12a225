"""The page of a search: the workload as a strip of operations, what does not recover by cause, and how to go on.

One file without scripts, as the page of a round. It stays a page for 5,000 findings: each cause is told once, with its
first finding; all the others are places on the strip and, up to a number, rows of a table that opens.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from croupier.model.search import CrashPoint, Finding, Group, Operation, SearchResult, Setting, step

from . import text
from .page import _harmless, _sentence, _shape
from .search_text import counts, failing_places, said
from .svg import join, tag

if TYPE_CHECKING:
    import jinja2

MOST_GROUPS = 40
MOST_ROWS = 300
MOST_CELLS = 6_000
AROUND = 4
WIDTH = 1_104
ROW = 34
_WORDS = {"held": "Held", "unknown": "Unknown", "violated": "Violated"}


@dataclass(slots=True)
class Line:
    """An operation near a crash, or the crash itself (`said` is "" then)."""

    said: str
    who: str
    after: bool
    acked: bool


@dataclass(slots=True)
class Told:
    """A cause, with its first finding and what happened around it."""

    group: Group
    finding: Finding
    lines: list[Line]
    stack: tuple[str, ...]


def search_page(
    result: SearchResult,
    setting: Setting,
    operations: Sequence[Operation],
    points: Sequence[CrashPoint],
    *,
    started_utc: str = "",
    version: str = "",
    argv: Sequence[str] = (),
) -> str:
    """The page as HTML."""
    by_id = {one.id: one for one in result.findings}
    bad = failing_places(result, points)
    run = shlex.quote(text.clean(result.run))
    first = result.groups[0].first if result.groups else ""
    return _template().render(
        r=result,
        s=setting,
        word=_WORDS[result.verdict],
        shape=_shape(result.verdict),
        small_shape=_shape,
        lead=_lead(result),
        counts=counts(result),
        strip=strip(operations, bad, {one.after for one in points}, _homes(result, points)),
        told=[_told(one, by_id[one.first], operations) for one in result.groups[:MOST_GROUPS] if one.first in by_id],
        groups_left_out=max(0, len(result.groups) - MOST_GROUPS),
        rows=result.findings[:MOST_ROWS],
        rows_left_out=max(0, len(result.findings) - MOST_ROWS),
        checks=sorted(result.self_checks, key=lambda one: (one.held is True, one.held is None)),
        phases=[(name, value) for name, value in result.seconds.items() if name != "total"],
        run=run,
        first=first,
        workload=shlex.join(setting.workload),
        check=shlex.join(setting.check) if not setting.check_call else setting.check[0],
        setup=shlex.join(setting.setup),
        until=shlex.join(setting.until),
        started_utc=started_utc,
        version=version,
        argv=shlex.join(argv),
        said=said,
        sentence=_sentence,
        t=text,
    )


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("croupier.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters["codes"] = _codes
    environment.filters["short"] = lambda said: text.one_line(str(said), 200)
    return environment.get_template("search.html.j2")


def _codes(words: str) -> Markup:
    """What stands between backticks as code; everything escaped."""
    parts = text.clean(words).split("`")
    return Markup("").join(tag("code", part) if nth % 2 else escape(part) for nth, part in enumerate(parts) if part)


def _lead(result: SearchResult) -> str:
    if result.verdict == "violated":
        real = [one for one in result.groups if one.confirmed is not False]
        return _sentence(real[0].cause if real else result.groups[0].cause)
    if result.verdict == "unknown":
        return "Nothing is proven. " + _sentence(result.reasons[0] if result.reasons else "nothing more is known")
    states = text.many(result.checked, "state")
    what = "power cut" if result.model != "kill" else "crash"
    if result.left_out:
        return f"Each of the {states} that were checked recovers; {result.left_out:,} were left out."
    return f"Wherever a {what} strikes, everything that was acknowledged is there: {states} checked."


def _homes(result: SearchResult, points: Sequence[CrashPoint]) -> dict[int, int]:
    """After so many operations → the group of what fails there."""
    group = {one.id: one.group for one in result.findings}
    keys = {(one.state, one.acked): group[one.id] for one in points if one.id in group}
    return {one.after: keys[one.state, one.acked] for one in reversed(points) if (one.state, one.acked) in keys}


def _told(group: Group, finding: Finding, operations: Sequence[Operation]) -> Told:
    after = finding.after.index if finding.after else 0
    lines = [_line(one, after=False) for one in operations[max(0, after - AROUND) : after]]
    lines.append(Line("", "", after=False, acked=False))
    lines += [_line(one, after=True) for one in operations[after : after + AROUND]]
    stack = finding.before.stack if finding.before else ()
    return Told(group, finding, lines, stack)


def _line(operation: Operation, *, after: bool) -> Line:
    who = f"process {operation.process}" + (f", {operation.tid_role}" if operation.tid_role not in ("", "main") else "")
    if operation.kind == "output":
        return Line(f"prints {text.many(operation.length or 0, 'byte')}: an acknowledgement", who, after, acked=True)
    return Line(said(step(operation)), who, after, acked=False)


# -- the strip ---------------------------------------------------------------------------------------------------------


def strip(operations: Sequence[Operation], bad: set[int], known: set[int], homes: dict[int, int]) -> Markup:
    """Every crash point in order, in rows: green recovers, red and taller does not, a tick is an acknowledgement."""
    count = len(operations) + 1
    scale = max(1, -(-count // MOST_CELLS))
    cells = -(-count // scale)
    wide = max(3, min(16, WIDTH // max(1, cells)))
    per_row = WIDTH // wide
    drawn = []
    rows = -(-cells // per_row)
    for row in range(rows):
        first, last = row * per_row, min(cells, (row + 1) * per_row)
        drawn.append(_row(first, last, scale, wide, row * ROW + 4, count, bad, known, homes, operations))
    note = f"{text.many(len(bad), 'crash point')} of {count:,} do not recover"
    return tag(
        "svg", tag("title", note), *drawn, class_="plot strip", viewBox=f"0 0 {WIDTH} {rows * ROW + 4}",
        role="img", aria_label=note, width="100%",
    )  # fmt: skip


def _row(
    first: int, last: int, scale: int, wide: int, top: int, count: int, bad: set[int], known: set[int],
    homes: dict[int, int], operations: Sequence[Operation],
) -> Markup:  # fmt: skip
    parts = []
    run_start, run_kind = first, ""
    for cell in range(first, last + 1):
        kind = "" if cell == last else _kind(cell, scale, count, bad, known)
        if kind != run_kind or kind == "red":
            if run_kind:
                parts.append(_run(run_kind, run_start, cell, first, scale, wide, top, count, homes))
            run_start, run_kind = cell, kind
    for cell in range(first, last):
        places = range(cell * scale, min((cell + 1) * scale, len(operations)))
        if any(operations[nth].kind == "output" for nth in places):
            x = (cell - first + 1) * wide
            parts.append(tag("path", d=f"M{x} {top + 20}v6", class_="ack-tick"))
    return join(parts)


def _kind(cell: int, scale: int, count: int, bad: set[int], known: set[int]) -> str:
    places = range(cell * scale, min((cell + 1) * scale, count))
    if any(place in bad for place in places):
        return "red"
    return "green" if any(place in known for place in places) else "grey"


def _run(
    kind: str, start: int, end: int, first: int, scale: int, wide: int, top: int, count: int, homes: dict[int, int]
) -> Markup:
    x, width = (start - first) * wide, (end - start) * wide
    gap = 1 if wide > 4 else 0
    low, high = start * scale, min(end * scale, count) - 1
    where = f"after operation {low}" if low == high else f"after operations {low} to {high}"
    if kind != "red":
        words = f"{where}: recovers" if kind == "green" else f"{where}: not looked at"
        return tag(
            "g", tag("title", words), tag("rect", x=x, y=top + 5, width=width - gap, height=10, class_=f"c-{kind}")
        )
    home = next((homes[place] for place in range(low, high + 1) if place in homes), 0)
    box = tag("rect", x=x, y=top, width=max(1, width - gap), height=20, class_="c-red")
    inside = tag("g", tag("title", f"{where}: does not recover" + (f" (cause {home})" if home else "")), box)
    return tag("a", inside, href=f"#cause-{home}") if 0 < home <= MOST_GROUPS else inside
