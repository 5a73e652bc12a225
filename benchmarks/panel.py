"""Small plots for the documentation: dots against a line, side by side in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDE, HIGH, TOP = 300, 200, 40


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot: what was found against what it depends on, with a line from nothing to `line_to`."""

    name: str
    series: dict[str, Sequence[tuple[float, float]]]
    """Dots of one colour under each name; "" where there is but one."""
    line_to: tuple[float, float]
    unit: str
    """Of what was found."""
    across: str
    """What it depends on."""


_COLOURS = ("#1a6", "#36c", "#c60")


def picture(*panels: Panel) -> str:
    """The panels from left to right, as one SVG document."""
    wide = 380 * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} 300" font-family="sans-serif" font-size="12">'
        f'<rect width="{wide}" height="300" fill="#fff"/>'
        + "".join(_drawn(40 + 380 * nth, one) for nth, one in enumerate(panels))
        + "</svg>\n"
    )


def _drawn(left: int, panel: Panel) -> str:
    points = [point for some in panel.series.values() for point in some]
    most = max(x for x, _ in (*points, panel.line_to))
    highest = max(y for _, y in (*points, panel.line_to))

    def place(across: float, up: float) -> tuple[float, float]:
        return left + across / most * WIDE, TOP + HIGH - up / highest * HIGH

    (x0, y0), (x1, y1) = place(0, 0), place(*panel.line_to)
    parts = [
        f'<text x="{left}" y="20" font-weight="bold">{panel.name}</text>',
        f'<path d="M{left} {TOP}v{HIGH}h{WIDE}" fill="none" stroke="#888"/>',
        f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" stroke="#bbb" stroke-dasharray="4 4"/>',
    ]
    for nth, (name, some) in enumerate(panel.series.items()):
        colour = _COLOURS[nth]
        if name:
            parts.append(f'<text x="{left + 12}" y="{TOP + 14 + 16 * nth}" fill="{colour}">{name}</text>')
        for across, up in some:
            x, y = place(across, up)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            if across >= most / 6:
                beside = y - 9 if nth == 0 else y + 18
                parts.append(f'<text x="{x:.1f}" y="{beside:.1f}" text-anchor="end">{_short(up)} {panel.unit}</text>')
                if nth == 0:
                    parts.append(f'<text x="{x:.1f}" y="{TOP + HIGH + 16}" text-anchor="middle">{across:,g}</text>')
    parts.append(f'<text x="{left + WIDE / 2}" y="{TOP + HIGH + 36}" text-anchor="middle">{panel.across}</text>')
    return "".join(parts)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
