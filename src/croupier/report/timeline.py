"""The timeline: one picture of the whole round, as inline SVG.

Phases along the top, then the injections as numbered markers, a lane per process with its children as thinner lanes,
a lane per probe, and the acknowledgements per second at the bottom. States differ by pattern as well as by colour.
The names stand in a drawing of their own, which stays in place while the plot is scrolled.

Where there is more than a pixel can show, neighbours are drawn as one: the size of the drawing is bounded by its
width, not by the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup

from croupier.model.journal import Struck
from croupier.model.verdict import InjectionRow, Verdict

from .story import Lane, Life, Story, Stretch
from .svg import clock_step, join, nice_step, tag, titled
from .text import clock, many, seconds, span

LABELS_WIDTH = 132
LEAST_WIDTH = 988
MOST_WIDTH = 2_400
MOST_LANES = 40
MOST_SLOTS = 8
OVERLAP_US = 100_000
"""A child that replaces another may be seen before the other is seen to be gone."""
MOST_PROBES = 12
MOST_MARKS = 120
"""On one line; and this many strikes on children in all."""

_PHASES = 22
_MARKERS = 34
_MAIN = 18
_CHILD = 8
_CHILD_STEP = 12
_LANE_GAP = 20
_PROBE_STEP = 17
_ACKS = 46
_AXIS = 26
_RESULT_WORDS = {"landed": "landed", "missed": "missed", "unsure": "unsure", "refused": "refused"}


@dataclass(slots=True)
class Drawing:
    """A picture being made: what is in the plot, what stands beside it, and how far down we are."""

    width: float
    total_us: int
    y: float = 0.0
    under: list[Markup] = field(default_factory=list)
    plot: list[Markup] = field(default_factory=list)
    over: list[Markup] = field(default_factory=list)
    labels: list[Markup] = field(default_factory=list)
    rows: dict[object, float] = field(default_factory=dict)
    """Where the lane of an identity or a process runs, for the marks on it."""
    left_out: list[str] = field(default_factory=list)

    def x(self, at_us: float) -> float:
        """Where a moment is."""
        return round(min(max(at_us / self.total_us, 0.0), 1.0) * self.width, 1)

    def label(self, text: str, y: float, *, kind: str = "name", title: str = "", chars: int = 19) -> None:
        """A name at the left, cut to what fits."""
        shown = text if len(text) <= chars else text[: chars - 1] + "…"
        self.labels.append(tag("text", tag("title", title or text), shown, x=0, y=y, class_=f"l-{kind}"))


@dataclass(slots=True)
class Picture:
    """A finished timeline: two drawings of the same height, and what they leave out."""

    labels: Markup
    plot: Markup
    width: int
    left_out: list[str]


def timeline(story: Story, verdict: Verdict) -> Picture:
    """Draw the round."""
    crowd = len(verdict.injections)
    width = min(MOST_WIDTH, max(LEAST_WIDTH, crowd * 26))
    drawing = Drawing(width=width, total_us=max(story.end_us, 1))
    _phases(drawing, story)
    _lanes_below(drawing, story, verdict)
    _breach_bands(drawing, story)
    _torn(drawing, verdict)
    height = int(drawing.y)
    described = _described(story, verdict)
    plot = tag(
        "svg",
        tag("title", "Timeline of the round", id="timeline-title"),
        tag("desc", described, id="timeline-desc"),
        _patterns(),
        *drawing.under,
        *drawing.plot,
        *drawing.over,
        class_="plot",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby="timeline-title timeline-desc",
    )
    # Without a viewBox, so that a narrow screen cuts the names rather than shrinking them away from their lanes.
    labels = tag("svg", *drawing.labels, class_="labels", width=LABELS_WIDTH, height=height, aria_hidden="true")
    return Picture(labels=labels, plot=plot, width=width + LABELS_WIDTH, left_out=drawing.left_out)


def _described(story: Story, verdict: Verdict) -> str:
    failures = sum(len(one) for one in story.breaches.values())
    said = [
        f"{many(len(story.lanes), 'process lane')} over {span(story.end_us)}",
        f"{many(len(verdict.injections), 'injection')}, of which {verdict.landed} landed",
        f"{many(failures, 'time')} a probe failed" if failures else "no probe failed",
        "the same is told in words below the picture",
    ]
    return "; ".join(said) + "."


def _phases(drawing: Drawing, story: Story) -> None:
    for nth, phase in enumerate(story.phases):
        left, right = drawing.x(phase.start_us), drawing.x(_until(phase, story))
        wide = right - left
        inside = [tag("rect", x=left, y=0, width=max(wide, 0.5), height=_PHASES - 4, class_=f"phase p{nth % 2}")]
        if wide > 6.4 * len(phase.state) + 10:
            inside.append(tag("text", phase.state, x=left + 6, y=13, class_="phase-name"))
        lasted = span(_until(phase, story) - phase.start_us)
        drawing.plot.append(titled(f"{phase.state}: {lasted}{_why(phase)}", *inside))
    drawing.label("phase", 13, kind="quiet")
    drawing.y = _PHASES


def _lanes_below(drawing: Drawing, story: Story, verdict: Verdict) -> None:
    markers_y = drawing.y + 16
    drawing.label("injections", markers_y + 4, kind="quiet")
    drawing.y += _MARKERS
    top = drawing.y
    lanes = list(story.lanes.values())
    for lane in lanes[:MOST_LANES]:
        _lane(drawing, lane, story)
    if len(lanes) > MOST_LANES:
        drawing.left_out.append(f"{many(len(lanes) - MOST_LANES, 'more process lane')}")
    _probe_lanes(drawing, story)
    bottom = drawing.y
    _markers(drawing, story, verdict, markers_y, bottom)
    _acks(drawing, story)
    _axis(drawing, top)


def _lane(drawing: Drawing, lane: Lane, story: Story) -> None:
    y = drawing.y
    kinds: dict[str, list[tuple[float, float, str]]] = {}
    for one in lane.stretches:
        title = f"{lane.process} {one.state} from {seconds(one.start_us)} for {_lasting(one, story)}{_why(one)}"
        kinds.setdefault(one.state, []).append((drawing.x(one.start_us), drawing.x(_until(one, story)), title))
    for state, bars in kinds.items():
        drawing.plot += _bars(bars, y, _MAIN, f"s-{state}", state)
    stops = [_stop_bar(drawing, one, lane.process, story) for one in lane.stops]
    drawing.plot += _bars(stops, y, _MAIN, "s-stopped", "stopped")
    deaths = [(drawing.x(one.at_us), f"{lane.process} ended: {one.how}", one.cause) for one in lane.deaths]
    drawing.plot += _death_marks(deaths, y, _MAIN)
    drawing.plot += _recovery_marks(drawing, lane, story, y + _MAIN + 1)
    drawing.label(lane.process, y + _MAIN - 5)
    drawing.rows[lane.process] = y + _MAIN / 2
    drawing.y = y + _MAIN + 6
    if lane.lives:
        _children(drawing, lane, story)
    drawing.y += _LANE_GAP - 6


def _children(drawing: Drawing, lane: Lane, story: Story) -> None:
    slots, beyond = _slots(lane.lives, story.end_us)
    y = drawing.y
    for slot in slots:
        bars, stops, deaths = [], [], []
        for life in slot:
            end = story.end_us if life.end_us is None else life.end_us
            title = f"{life.name} {life.who} lived from {seconds(life.start_us)} for {span(end - life.start_us)}"
            bars.append((drawing.x(life.start_us), drawing.x(end), title))
            stops += [_stop_bar(drawing, one, f"{life.name} {life.who}", story) for one in life.stops]
            if life.end_us is not None and life.cause != "asked":
                by = f"injection {life.injection}" if life.injection else life.cause
                deaths.append((drawing.x(end), f"{life.name} {life.who} died: {by}", life.cause))
            drawing.rows[life.who] = y + _CHILD / 2
        drawing.plot += _bars(bars, y, _CHILD, "s-child", "alive")
        drawing.plot += _bars(stops, y - 1, _CHILD + 2, "s-stopped", "stopped")
        drawing.plot += _death_marks(deaths, y - 1, _CHILD + 2)
        y += _CHILD_STEP
    children = "1 child" if len(lane.lives) == 1 else f"{len(lane.lives):,} children"
    drawing.label(children, drawing.y + _CHILD + 1, kind="quiet")
    if beyond:
        drawing.left_out.append(f"{many(beyond, 'child process')} of {lane.process} beyond {MOST_SLOTS} at a time")
    drawing.y = y


def _slots(lives: Sequence[Life], end_us: int) -> tuple[list[list[Life]], int]:
    """Children in as few lines as hold them; one that replaces another takes its line. And how many did not fit."""
    slots: list[list[Life]] = []
    ends: list[int] = []
    beyond = 0
    for life in lives:
        free = [(end, nth) for nth, end in enumerate(ends) if end <= life.start_us + OVERLAP_US]
        if free:
            nth = max(free)[1]
        elif len(slots) < MOST_SLOTS:
            nth = len(slots)
            slots.append([])
            ends.append(0)
        else:
            beyond += 1
            continue
        slots[nth].append(life)
        ends[nth] = end_us + 1 if life.end_us is None else life.end_us
    return slots, beyond


@dataclass(slots=True)
class _Bar:
    left: float
    right: float
    title: str
    count: int = 1


def _bars(bars: Iterable[tuple[float, float, str]], y: float, height: float, kind: str, word: str) -> list[Markup]:
    """Rectangles from x to x. Slivers that touch become one, so that there are never more than pixels can tell."""
    merged: list[_Bar] = []
    for left, right, title in sorted(bars):
        last = merged[-1] if merged else None
        sliver = last is not None and (right - left < 2 or last.right - last.left < 2 or last.count > 1)
        if last is not None and sliver and left - last.right < 0.5:
            last.right = max(last.right, right)
            last.count += 1
        else:
            merged.append(_Bar(left, right, title))
    drawn = []
    for one in merged:
        title = one.title if one.count == 1 else f"{one.count} times {word}"
        wide = max(one.right - one.left, 0.8)
        drawn.append(tag("rect", tag("title", title), x=one.left, y=y, width=wide, height=height, class_=kind))
    return drawn


def _stop_bar(drawing: Drawing, one: Stretch, whom: str, story: Story) -> tuple[float, float, str]:
    title = f"{whom} stopped (T) from {seconds(one.start_us)} for {_lasting(one, story)}"
    return drawing.x(one.start_us), drawing.x(_until(one, story)), title


def _death_marks(deaths: Iterable[tuple[float, str, str]], y: float, height: float) -> list[Markup]:
    drawn: list[Markup] = []
    last = -9.0
    marks = sorted(deaths)
    if len(marks) > MOST_MARKS:
        # A gap in the bar tells that somebody ended there; crosses would hide the bar.
        path = "".join(f"M{x} {y:.1f}v{height}" for x in sorted({round(one[0]) for one in marks}))
        return [tag("path", tag("title", f"{len(marks):,} ended"), d=path, class_="ends")]
    for x, title, cause in marks:
        if x - last < 2.5:
            continue
        last = x
        kind = "death own" if cause in ("own", "oom") else "death"
        reach = 3 if height > _CHILD + 2 else 2
        path = f"M{x - reach:.1f} {y:.1f}l{2 * reach} {height}m0 {-height}l{-2 * reach} {height}"
        drawn.append(tag("path", tag("title", title), d=path, class_=kind))
    return drawn


def _recovery_marks(drawing: Drawing, lane: Lane, story: Story, y: float) -> list[Markup]:
    bars: dict[bool, list[tuple[float, float, str]]] = {True: [], False: []}
    for one in story.recoveries:
        if one.process == lane.process:
            start = one.at_us - one.took_ms * 1000
            said = "recovered in" if one.back else "not ready again after"
            title = f"{lane.process} {said} {span(one.took_ms * 1000)} (injection {one.injection})"
            bars[one.back].append((drawing.x(start), drawing.x(one.at_us), title))
    return [
        *_bars(bars[True], y, 3, "recovering", "recovering"),
        *_bars(bars[False], y, 3, "not-recovered", "not recovered"),
    ]


def _probe_lanes(drawing: Drawing, story: Story) -> None:
    probes = list(story.breaches.items())
    if not probes:
        return
    drawing.y += 2
    for probe, stretches in probes[:MOST_PROBES]:
        y = drawing.y
        drawing.plot.append(tag("rect", x=0, y=y + 4, width=drawing.width, height=1.5, class_="probe-line"))
        bars = [
            (drawing.x(one.start_us), drawing.x(_until(one, story)),
             f"{probe} {one.state} from {seconds(one.start_us)} for {_lasting(one, story)}{_why(one)}")
            for one in stretches
        ]  # fmt: skip
        drawing.plot += _bars(bars, y, 9, "s-failing", "failing")
        drawing.label(_short(probe), y + 9, kind="quiet", title=probe)
        drawing.y += _PROBE_STEP
    if len(probes) > MOST_PROBES:
        drawing.left_out.append(many(len(probes) - MOST_PROBES, "more probe"))
    drawing.y += 4


def _breach_bands(drawing: Drawing, story: Story) -> None:
    bars = [
        (drawing.x(one.start_us), drawing.x(_until(one, story)), "a probe was failing")
        for stretches in story.breaches.values()
        for one in stretches
    ]
    height = drawing.y - _AXIS - _PHASES
    drawing.under += _bars(bars, _PHASES, height, "breach", "failing")


def _short(probe: str) -> str:
    return probe.removeprefix("http ").removeprefix("http://").removeprefix("127.0.0.1") or probe


@dataclass(slots=True)
class _Group:
    rows: list[InjectionRow]
    x: float

    @property
    def label(self) -> str:
        if len(self.rows) == 1:
            return str(self.rows[0].number)
        return f"{self.rows[0].number}–{self.rows[-1].number}"

    @property
    def width(self) -> float:
        return 18 if len(self.rows) == 1 and len(self.label) < 3 else 7.2 * len(self.label) + 9


def _grouped(drawing: Drawing, rows: Sequence[InjectionRow]) -> list[_Group]:
    groups: list[_Group] = []
    for row in sorted(rows, key=lambda one: (one.due_us, one.number)):
        x = drawing.x(row.due_us)
        if groups and x - groups[-1].x < groups[-1].width + 4:
            groups[-1].rows.append(row)
        else:
            groups.append(_Group([row], x))
    return groups


def _markers(drawing: Drawing, story: Story, verdict: Verdict, y: float, bottom: float) -> None:
    groups = _grouped(drawing, verdict.injections)
    shown: set[tuple[int, int]] = set()
    struck = [(strike.at_us, one) for strike in story.strikes for one in strike.targets]
    crowded = len(struck) > 3 * MOST_MARKS
    if crowded:
        drawing.left_out.append("which child each injection struck (the table of injections says so)")
    for at_us, one in struck:
        if one.main or not crowded:
            drawing.over += _strike_mark(drawing, at_us, one, shown)
    for group in groups:
        # The last marker may not stick out at the right.
        left = min(max(group.x - 9, 0), drawing.width - group.width)
        first = group.rows[0]
        drawing.under.append(tag("path", d=f"M{group.x} {y + 9:.1f}V{bottom:.1f}", class_="drop"))
        kinds = {row.result for row in group.rows}
        kind = first.result if len(kinds) == 1 else "landed"
        shape = tag(
            "rect", x=left, y=y - 9, width=group.width, height=18, rx=2 if kind == "refused" else 9, class_=f"m-{kind}"
        )
        text = tag(
            "text", group.label, x=left + group.width / 2, y=y + 3.8, class_=f"m-text t-{kind}", text_anchor="middle"
        )
        link = tag("a", tag("title", _group_title(group)), shape, text, href=f"#injection-{first.number}")
        drawing.over.append(link)


def _group_title(group: _Group) -> str:
    if len(group.rows) == 1:
        row = group.rows[0]
        return f"injection {row.number}, {row.fault or 'not made'}, at {seconds(row.due_us)}: {row.result}"
    counts = {word: sum(row.result == word for row in group.rows) for word in _RESULT_WORDS}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"injections {group.rows[0].number} to {group.rows[-1].number}: {said}"


def _strike_mark(drawing: Drawing, at_us: int, one: Struck, shown: set[tuple[int, int]]) -> list[Markup]:
    y = drawing.rows.get(one.who) or drawing.rows.get(one.role)
    if y is None:
        return []
    x = drawing.x(at_us)
    place = (int(x / 2), int(y))
    if place in shown:
        return []
    shown.add(place)
    reach = 4.5 if one.main else 3.6
    path = f"M{x:.1f} {y - reach:.1f}l{reach} {reach}l{-reach} {reach}l{-reach} {-reach}z"
    title = f"struck: {one.role} {one.name} {one.who}, rank {one.rank + 1} of {one.of}"
    return [tag("path", tag("title", title), d=path, class_="strike")]


def _acks(drawing: Drawing, story: Story) -> None:
    points = [(0, 0.0), *story.acks.points]
    if len(points) < 3:
        return
    rates = _rates(points)
    most = max(rate for _, rate in rates)
    if most <= 0:
        return
    top, base = drawing.y + 6, drawing.y + _ACKS
    steps = [f"M{drawing.x(rates[0][0])} {base:.1f}"]
    for (start, rate), (end, _) in zip(rates, [*rates[1:], (story.end_us, 0.0)], strict=True):
        y = base - rate / most * (base - top)
        steps.append(f"L{drawing.x(start)} {y:.1f}H{drawing.x(end)}")
    closed = "".join(steps) + f"V{base:.1f}Z"
    title = f"acknowledgements per second, at most {most:.0f}"
    drawing.plot.append(tag("path", tag("title", title), d=closed, class_="acks"))
    drawing.label("acks per second", drawing.y + 16, kind="quiet")
    drawing.label(f"up to {most:.0f}", drawing.y + 31, kind="quiet")
    drawing.y += _ACKS


def _rates(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """(start of an interval, count per second in it), from counts that only grow."""
    rates = []
    for (start, before), (end, after) in pairwise(points):
        if end > start:
            rates.append((start, max(0.0, after - before) / (end - start) * 1e6))
    # The first count covers the time from the start of the workload, which may be long after the start of the round.
    if len(rates) > 1:
        rates[0] = (max(rates[0][0], points[1][0] - (points[2][0] - points[1][0])), rates[1][1])
    rates.append((points[-1][0], 0.0))
    return rates


def _axis(drawing: Drawing, top: float) -> None:
    base = drawing.y + 4
    whole = drawing.total_us / 1e6
    wanted = int(drawing.width / 90)
    step = nice_step(whole, wanted) if whole < 60 else clock_step(whole, wanted)
    tick = 0.0
    while tick <= whole:
        x = drawing.x(tick * 1e6)
        drawing.under.append(tag("path", d=f"M{x} {top:.1f}V{base:.1f}", class_="grid"))
        text = clock(tick * 1e6) if whole >= 60 else f"{tick:g} s"
        anchor = "start" if x < 14 else "end" if x > drawing.width - 14 else "middle"
        drawing.plot.append(tag("text", text, x=x, y=base + 14, class_="tick", text_anchor=anchor))
        tick += step
    drawing.label("since the start", base + 14, kind="quiet")
    drawing.y = base + _AXIS - 4


def _torn(drawing: Drawing, verdict: Verdict) -> None:
    if not verdict.cut:
        return
    x, teeth = drawing.width - 3, int(drawing.y / 8)
    path = f"M{x} 0" + "".join(f"l{-5 if nth % 2 else 5} 8" for nth in range(teeth))
    drawing.over.append(
        tag("path", tag("title", "the journal ends here, without its last line"), d=path, class_="torn")
    )


def _until(stretch: Stretch, story: Story) -> int:
    return story.end_us if stretch.end_us is None else stretch.end_us


def _lasting(stretch: Stretch, story: Story) -> str:
    return span(_until(stretch, story) - stretch.start_us)


def _why(stretch: Stretch) -> str:
    return f" ({stretch.why})" if stretch.why else ""


def _pattern(name: str, size: int, *inside: Markup, turn: int = 0) -> Markup:
    ground = tag("rect", width=size, height=size, class_=f"g-{name}")
    return tag(
        "pattern", ground, *inside, id=f"p-{name}", width=size, height=size, patternUnits="userSpaceOnUse",
        patternTransform=f"rotate({turn})" if turn else None,
    )  # fmt: skip


def _patterns() -> Markup:
    """What tells the states apart without colour."""
    return tag(
        "defs",
        _pattern("starting", 6, tag("rect", width=2.4, height=6, class_="f-starting"), turn=45),
        _pattern("backoff", 6, tag("circle", cx=3, cy=3, r=1.5, class_="f-backoff")),
        _pattern("stopped", 4, tag("rect", width=2, height=4, class_="f-stopped")),
        _pattern("fatal", 7, tag("path", d="M0 0L7 7M7 0L0 7", class_="f-fatal")),
        _pattern("stopping", 4, tag("rect", width=4, height=1.6, class_="f-stopping")),
        _pattern("failing", 5, tag("rect", width=2, height=5, class_="f-failing"), turn=-45),
    )


LEGEND = (
    ("ready", "ready"),
    ("child", "child alive"),
    ("starting", "starting"),
    ("backoff", "backoff"),
    ("stopped", "stopped (T)"),
    ("stopping", "stopping"),
    ("exited", "exited"),
    ("fatal", "fatal"),
    ("failing", "probe failing"),
)


def legend(story: Story) -> list[tuple[Markup, str]]:
    """A swatch and a word for each state that occurs."""
    seen = {one.state for lane in story.lanes.values() for one in lane.stretches}
    seen |= {"child"} if any(lane.lives for lane in story.lanes.values()) else set()
    stops = [lane.stops for lane in story.lanes.values()]
    stops += [life.stops for lane in story.lanes.values() for life in lane.lives]
    seen |= {"stopped"} if any(stops) else set()
    seen |= {"failing"} if any(story.breaches.values()) else set()
    entries = [
        (_swatch(tag("rect", x=0, y=3 if state == "child" else 0, width=22, height=6 if state == "child" else 12,
                     class_=f"s-{state}")), word)
        for state, word in LEGEND
        if state in seen
    ]  # fmt: skip
    for back, kind, word in ((True, "recovering", "recovering"), (False, "not-recovered", "never ready again")):
        if any(one.back is back for one in story.recoveries):
            entries.append((_swatch(tag("rect", x=0, y=5, width=22, height=3, class_=kind)), word))
    if story.strikes:
        entries.append((_swatch(tag("path", d="M11 1l5 5l-5 5l-5 -5z", class_="strike")), "struck"))
    if any(lane.deaths or any(life.cause for life in lane.lives) for lane in story.lanes.values()):
        entries.append((_swatch(tag("path", d="M8 1l6 10m0 -10l-6 10", class_="death")), "ended"))
    return entries


def _swatch(*inside: Markup) -> Markup:
    return tag("svg", join(inside), width=22, height=12, viewBox="0 0 22 12", aria_hidden="true")
