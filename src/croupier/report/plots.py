"""The small pictures: recovery times against their limits, and resources over time, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from croupier.model.verdict import RecoveryStats

from .story import Bound, Curve, Recovery
from .svg import nice_step, tag
from .text import many, span

WIDTH = 1_120
HEIGHT = 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 190, 22, 34
MOST_DOTS = 400
MOST_POINTS = 4_000
_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_POINTS = 260, 40, 260


@dataclass(slots=True)
class Plot:
    """A picture and what it leaves out."""

    svg: Markup
    left_out: str = ""


@dataclass(slots=True)
class _Scale:
    count: int
    most_ms: float

    def x(self, nth: float) -> float:
        return _LEFT + 14 + (WIDTH - _LEFT - _RIGHT - 28) * (nth / max(self.count - 1, 1) if self.count > 1 else 0.5)

    def y(self, took_ms: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * min(took_ms / self.most_ms, 1.0)


def recovery_plot(
    process: str, recoveries: Sequence[Recovery], bounds: Sequence[Bound], stats: RecoveryStats | None
) -> Plot:
    """One dot per injection from which `process` recovered, in the order of time, against the limits set for it."""
    worst = max((one.took_ms for one in recoveries if one.back), default=1.0) or 1.0
    near = [float(bound.under.limit_ms) for bound in bounds if bound.under.limit_ms <= 8 * worst]
    scale = _Scale(len(recoveries), max(worst * 1.12, *(limit * 1.12 for limit in near), 1.0))
    drawn = [*_ticks(scale), *_numbers(scale, recoveries)]
    marks = _limit_marks(scale, bounds) + _stat_marks(scale, stats)
    drawn += _spread_labels(marks)
    over = min((bound.under.limit_ms for bound in bounds if bound.word == "every"), default=None)
    dots, left_out = _dots(scale, recoveries, over)
    described = f"{many(len(recoveries), 'injection')}; the slowest recovery took {span(worst * 1000)}."
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in process)
    svg = tag(
        "svg",
        tag("title", f"Recovery times of {process}", id=f"rec-{name}-title"),
        tag("desc", described, id=f"rec-{name}-desc"),
        *drawn,
        *dots,
        class_="plot recovery",
        width=WIDTH,
        height=HEIGHT,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"rec-{name}-title rec-{name}-desc",
    )
    return Plot(svg, left_out)


def _ticks(scale: _Scale) -> list[Markup]:
    step = nice_step(scale.most_ms, 5)
    drawn, value = [], 0.0
    while value <= scale.most_ms:
        y = scale.y(value)
        drawn.append(tag("path", d=f"M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}", class_="grid" if value else "axis"))
        label = f"{value / 1000:g} s" if scale.most_ms >= 2_000 else f"{value:g} ms"
        drawn.append(tag("text", label, x=_LEFT - 8, y=y + 4, class_="tick", text_anchor="end"))
        value += step
    return drawn


def _numbers(scale: _Scale, recoveries: Sequence[Recovery]) -> list[Markup]:
    every = max(1, -(-len(recoveries) // 24))
    drawn = [
        tag("text", str(one.injection), x=scale.x(nth), y=HEIGHT - _BOTTOM + 16, class_="tick", text_anchor="middle")
        for nth, one in enumerate(recoveries)
        if nth % every == 0
    ]
    return [*drawn, tag("text", "injection", x=_LEFT - 8, y=HEIGHT - _BOTTOM + 16, class_="tick", text_anchor="end")]


_Mark = tuple[float, str, str]


def _limit_marks(scale: _Scale, bounds: Sequence[Bound]) -> list[_Mark]:
    marks = []
    for bound in bounds:
        beyond = bound.under.limit_ms > scale.most_ms
        said = f"{bound.word} {bound.under}" + (" (above)" if beyond else "")
        marks.append((_TOP - 8.0 if beyond else scale.y(bound.under.limit_ms), said, "beyond" if beyond else "limit"))
    return marks


def _stat_marks(scale: _Scale, stats: RecoveryStats | None) -> list[_Mark]:
    if stats is None or not stats.times_ms:
        return []
    return [
        (scale.y(stats.mean_ms), f"mean {span(stats.mean_ms * 1000)}", "stat"),
        (scale.y(stats.p95_ms), f"p95 {span(stats.p95_ms * 1000)}", "stat"),
    ]


def _spread_labels(marks: Sequence[_Mark]) -> list[Markup]:
    """Lines across the plot, and their words at the right, moved apart so that none lies on another."""
    drawn: list[Markup] = []
    right = WIDTH - _RIGHT
    last = -99.0
    for y, said, kind in sorted(marks):
        at = max(y, last + 15)
        last = at
        if kind != "beyond":
            drawn.append(tag("path", d=f"M{_LEFT} {y:.1f}H{right}l14 {at - y:.1f}h6", class_=f"{kind}-line"))
        drawn.append(tag("text", said, x=right + 25, y=at + 4, class_=f"{kind}-text"))
    return drawn


def _dots(scale: _Scale, recoveries: Sequence[Recovery], over: int | None) -> tuple[list[Markup], str]:
    indexed = list(enumerate(recoveries))
    if len(indexed) <= MOST_DOTS:
        return [_dot(scale, nth, one, over) for nth, one in indexed], ""
    # With this many, the slowest keep a dot that speaks when it is pointed at; the rest become one path.
    slowest = sorted(indexed, key=lambda pair: (pair[1].back, -pair[1].took_ms))[:40]
    every = max(1, len(indexed) // MOST_POINTS)
    rest = "".join(f"M{scale.x(nth):.1f} {scale.y(one.took_ms):.1f}h0" for nth, one in indexed[::every] if one.back)
    left_out = f"Every {every}th of {len(indexed):,} dots is drawn; the 40 slowest all are." if every > 1 else ""
    drawn = [tag("path", tag("title", many(len(indexed), "recovery")), d=rest, class_="dots")]
    return [*drawn, *(_dot(scale, nth, one, over) for nth, one in slowest)], left_out


def _dot(scale: _Scale, nth: int, one: Recovery, over: int | None) -> Markup:
    x = scale.x(nth)
    took = span(one.took_ms * 1000)
    if one.back:
        title = f"injection {one.injection}: {took}"
        y = scale.y(one.took_ms)
        if over is not None and one.took_ms > over:
            square = f"M{x - 5:.1f} {y - 5:.1f}h10v10h-10z"
            dot = tag("path", tag("title", f"{title}, over the limit"), d=square, class_="dot-over")
        else:
            dot = tag("circle", tag("title", title), cx=x, cy=y, r=4.5, class_="dot")
    else:
        title = f"injection {one.injection}: not ready again after {took}"
        dot = tag("path", tag("title", title), d=f"M{x - 6:.1f} {_TOP + 2}h12l-6 10z", class_="dot-never")
    return tag("a", dot, href=f"#injection-{one.injection}")


def spark(curve: Curve, total_us: int, title: str, *, floor: float = 0.0) -> Markup:
    """A small area over the whole round. Values from `floor` to the largest."""
    every = max(1, len(curve.points) // _SPARK_POINTS)
    points = [
        (at, max(value for _, value in curve.points[nth : nth + every]))
        for nth, (at, _) in list(enumerate(curve.points))[::every]
    ]
    most = max((value for _, value in points), default=0.0) or 1.0
    inner = _SPARK_HEIGHT - 4

    def place(at: int, value: float) -> str:
        x = at / max(total_us, 1) * _SPARK_WIDTH
        return f"{x:.1f} {2 + inner * (1 - (value - floor) / (most - floor or 1)):.1f}"

    line = "L".join(place(*one) for one in points)
    inside = [tag("title", title), tag("path", d=f"M0 {_SPARK_HEIGHT - 1}H{_SPARK_WIDTH}", class_="grid")]
    if points:
        first, last = (at / max(total_us, 1) * _SPARK_WIDTH for at in (points[0][0], points[-1][0]))
        area = f"M{first:.1f} {_SPARK_HEIGHT - 1}L{line}L{last:.1f} {_SPARK_HEIGHT - 1}Z"
        inside += [tag("path", d=area, class_="spark-area"), tag("path", d=f"M{line}", class_="spark")]
    return tag(
        "svg", *inside, class_="sparkline", width=_SPARK_WIDTH, height=_SPARK_HEIGHT,
        viewBox=f"0 0 {_SPARK_WIDTH} {_SPARK_HEIGHT}", role="img", preserveAspectRatio="none",
    )  # fmt: skip
