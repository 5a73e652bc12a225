"""Drawing: elements of SVG as text, every attribute and every word of it cleaned and escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from .text import clean, one_line

LONGEST = 240
"""Characters of a text in a drawing."""


def tag(name: str, *inside: str, **attributes: object) -> Markup:
    """An element. Attributes are named as in SVG with `_` for `-` (`class_` for `class`); None leaves one out.

    What is inside is escaped unless it is Markup already.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not inside:
        return Markup(f"<{name}{said}/>")
    return Markup(f"<{name}{said}>{join(inside)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """The parts one after the other, each escaped unless it is Markup."""
    return Markup("".join(part if isinstance(part, Markup) else escape(one_line(part, LONGEST)) for part in parts))


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return str(escape(clean(str(value))))


def titled(title: str, *inside: str, **attributes: object) -> Markup:
    """A group that says what it is when it is pointed at, or read aloud."""
    return tag("g", tag("title", title), *inside, **attributes)


def nice_step(span: float, wanted: int, steps: tuple[float, ...] = (1, 2, 5)) -> float:
    """A round distance between ticks, so that there are about `wanted` of them on the span."""
    least = span / max(wanted, 1)
    power = 1e-6
    while True:
        for step in steps:
            if step * power >= least:
                return step * power
        power *= 10


def clock_step(span_s: float, wanted: int) -> float:
    """The same for times of at least a minute: steps in which clocks count, in seconds."""
    steps = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200)
    return next((step for step in steps if step * wanted >= span_s), 86400 * nice_step(span_s / 86400, wanted))
