"""The page: one self-contained HTML file that tells a round, verdict first.

No network, no script, no font from elsewhere: its content security policy forbids them, so that nothing a program
under test printed can come alive in it. Every text goes through `clean` and the template's escaping. What is too
much for a page is left out, and the page says what, and where the rest is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

from markupsafe import Markup, escape

from croupier.model.journal import AnyEvent
from croupier.model.verdict import Finding, InjectionRow, Verdict

from . import text
from .logs import WINDOWS, LogLines, Window, around, telling
from .plots import Plot, recovery_plot, spark
from .story import Lane, Story, Usage, read
from .summary import tally
from .svg import tag
from .timeline import legend, timeline

if TYPE_CHECKING:
    import jinja2

ROWS_IN_SIGHT = 120
MOST_ROWS = 2_000
TELLING_ROWS = 40
MOST_EXPERIMENT_CHARS = 200_000
MOST_CHARS = 4_000
"""Of any one text on the page, the experiment excepted; in tables it is SHORT."""
SHORT = 160
MOST_LISTED = 60
_WORDS = {"held": "Held", "unknown": "Unknown", "violated": "Violated"}


class Diverged(Protocol):
    """One thing that came out differently in a replay; `injection` is 0 for the run as a whole."""

    @property
    def injection(self) -> int:
        """Its number."""

    @property
    def what(self) -> str:
        """What differs."""

    @property
    def then(self) -> str:
        """In the recorded run."""

    @property
    def now(self) -> str:
        """In this one."""


def page(
    events: Iterable[AnyEvent],
    verdict: Verdict,
    logs: Callable[[str], LogLines],
    *,
    experiment_text: str,
    divergences: Sequence[Diverged] = (),
) -> str:
    """The page of a round.

    `events` is the journal in order, read once. `logs` gives the lines of a process as (microseconds since the first
    event, stream, line), each stream in order; it is asked for each process of the journal and for `workload`, and may
    raise OSError. `divergences` are where a replay differed from what it replays.
    """
    story = read(events)
    chosen = telling(verdict)
    windows = around(chosen[:WINDOWS], [*story.lanes, "workload"], logs)
    picture = timeline(story, verdict)
    return _template().render(
        v=verdict,
        story=story,
        word=_WORDS[verdict.verdict],
        shape=_shape(verdict.verdict),
        small_shape=_shape,
        lead=_lead(verdict),
        more_reasons=_more_reasons(verdict),
        tally=tally(verdict),
        broken=[_evidence(one, verdict, windows) for one in verdict.findings if one.held is False][:MOST_LISTED],
        untold=[one for one in verdict.findings if one.held is None][:MOST_LISTED],
        kept=[one for one in verdict.findings if one.held is True][:MOST_LISTED],
        findings_left_out=max(0, len(verdict.findings) - MOST_LISTED),
        picture=picture,
        legend=legend(story),
        moments=story.moments,
        plots=_recovery_plots(story, verdict),
        table=_table(verdict, chosen, windows),
        windows=[windows[number] for number in sorted(windows) if windows[number].lines],
        rows={row.number: row for row in verdict.injections},
        usage=[_usage(process, usage, story) for process, usage in list(story.usage.items())[:MOST_LISTED]],
        deaths=_deaths(story.lanes.values()),
        divergences=list(divergences[:500]),
        divergences_left_out=max(0, len(divergences) - 500),
        commands=_commands(story, verdict),
        argv=shlex.join(story.started.argv) if story.started else "",
        experiment=escape(text.clean(experiment_text[:MOST_EXPERIMENT_CHARS])),
        experiment_left_out=max(0, len(experiment_text) - MOST_EXPERIMENT_CHARS),
        sentence=_sentence,
        t=text,
    )


@cache
def _template() -> jinja2.Template:
    # Imported when a page is made: a round that runs has no use for it.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("croupier.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Whatever a template prints is made harmless here, so that no line of it has to remember to.
        finalize=_harmless,
    )
    environment.filters["short"] = lambda said: text.one_line(str(said), SHORT)
    return environment.get_template("page.html.j2")


def _harmless(value: object) -> object:
    return text.clean(_cut(value, MOST_CHARS)) if type(value) is str else value


def _cut(said: str, most: int) -> str:
    return said if len(said) <= most else f"{said[:most]} … ({len(said) - most:,} more characters)"


def _shape(verdict: str, size: int = 64) -> Markup:
    """The verdict as a shape: a disc with a tick, a diamond with a question mark, an octagon with a cross."""
    ground = {
        "held": tag("circle", cx=32, cy=32, r=30),
        "unknown": tag("path", d="M32 1L63 32L32 63L1 32Z"),
        "violated": tag("path", d="M20 2h24l18 18v24l-18 18h-24l-18 -18v-24z"),
    }[verdict]
    sign = {
        "held": tag("path", d="M18 33l10 10l19 -21", class_="sign"),
        "unknown": tag("path", d="M24 25c0 -11 16 -11 16 0c0 7 -8 6 -8 13M32 46v.5", class_="sign"),
        "violated": tag("path", d="M21 21l22 22m0 -22l-22 22", class_="sign"),
    }[verdict]
    return tag(
        "svg", ground, sign, class_=f"shape {verdict}", width=size, height=size, viewBox="0 0 64 64", aria_hidden="true"
    )


def _lead(verdict: Verdict) -> str:
    """One sentence on why: what the first broken promise came to, or else the first reason."""
    broken = [one for one in verdict.findings if one.held is False]
    first = (broken[0].detail if broken else "".join(verdict.reasons[:1])) or "nothing more is known"
    return _sentence(first)


def _sentence(said: str) -> str:
    said = said[:1].upper() + said[1:]
    return said if said.endswith((".", "!", "?", "…")) else said + "."


def _more_reasons(verdict: Verdict) -> list[tuple[str, str]]:
    """The other reasons, each with the shape that goes with it. Broken promises come first, then doubts."""
    broken = sum(one.held is False for one in verdict.findings)
    return [("violated" if nth < broken else "unknown", reason) for nth, reason in enumerate(verdict.reasons)][1:]


@dataclass(slots=True)
class Evidence:
    """A broken promise, with what came before it and what was printed then."""

    finding: Finding
    row: InjectionRow | None
    window: Window | None
    look_at: str


def _evidence(finding: Finding, verdict: Verdict, windows: dict[int, Window]) -> Evidence:
    row = next((one for one in verdict.injections if one.number == finding.after_injection), None)
    window = windows.get(finding.after_injection)
    return Evidence(finding, row, window if window and window.lines else None, _inside(finding.look_at))


def _inside(path: str) -> str:
    """A path that may become a link: relative, and inside of the run directory."""
    parts = PurePosixPath(path).parts
    harmless = path and not path.startswith("/") and ".." not in parts and ":" not in path and "\\" not in path
    return path if harmless else ""


def _recovery_plots(story: Story, verdict: Verdict) -> list[tuple[str, Plot]]:
    stats = {one.process: one for one in verdict.recoveries}
    plots = []
    for process in list(dict.fromkeys(one.process for one in story.recoveries))[:12]:
        mine = [one for one in story.recoveries if one.process == process]
        bounds = [one for one in story.bounds if one.process == process]
        plots.append((process, recovery_plot(process, mine, bounds, stats.get(process))))
    return plots


@dataclass(slots=True)
class Group:
    """What became of all injections of one fault, with the same options."""

    fault: str
    count: int
    counts: dict[str, int]
    median_ms: float | None
    worst_ms: float | None


@dataclass(slots=True)
class Table:
    """The injections as a page shows them: some in sight, all of them (up to a number) in a part that opens."""

    in_sight: list[InjectionRow]
    folded: list[InjectionRow]
    left_out: int
    groups: list[Group]
    anchored: set[int]


def _table(verdict: Verdict, chosen: Sequence[InjectionRow], windows: dict[int, Window]) -> Table:
    rows = verdict.injections
    if len(rows) <= ROWS_IN_SIGHT:
        return Table(list(rows), [], 0, [], set(windows))
    in_sight = sorted(chosen[:TELLING_ROWS], key=lambda row: row.number)
    return Table(in_sight, list(rows[:MOST_ROWS]), max(0, len(rows) - MOST_ROWS), _groups(rows), set(windows))


def _groups(rows: Iterable[InjectionRow]) -> list[Group]:
    by_fault: dict[str, list[InjectionRow]] = {}
    for row in rows:
        name = f"{row.fault} ({row.detail})" if row.fault else "refused before the choice"
        by_fault.setdefault(name, []).append(row)
    groups = []
    for name, mine in by_fault.items():
        times = [row.recovered_ms for row in mine if row.recovered_ms is not None]
        counts = {word: sum(row.result == word for row in mine) for word in ("landed", "missed", "unsure", "refused")}
        groups.append(Group(name, len(mine), counts, median(times) if times else None, max(times, default=None)))
    return sorted(groups, key=lambda group: -group.count)[:MOST_LISTED]


def _usage(process: str, usage: Usage, story: Story) -> dict[str, Any]:
    cpu, rss = usage.cpu.points, usage.rss.points
    mean = usage.cpu_sum / max(usage.count, 1)
    most_cpu = max((value for _, value in cpu), default=0.0)
    most_rss = max((value for _, value in rss), default=0.0)
    return {
        "process": process,
        "usage": usage,
        "cpu": spark(usage.cpu, story.end_us, f"CPU of {process}: mean {mean:.1f} %, at most {most_cpu:.1f} %"),
        "rss": spark(usage.rss, story.end_us, f"memory of {process}: at most {text.size(most_rss)}"),
        "mean_cpu": mean,
        "most_cpu": most_cpu,
        "first_rss": rss[0][1] if rss else 0.0,
        "last_rss": rss[-1][1] if rss else 0.0,
        "most_rss": most_rss,
    }


def _deaths(lanes: Iterable[Lane]) -> list[dict[str, Any]]:
    """Per process: how its main process ended, and how often."""
    found = []
    for lane in lanes:
        causes: dict[tuple[str, str], int] = {}
        for one in lane.deaths:
            causes[one.cause, one.how] = causes.get((one.cause, one.how), 0) + 1
        found += [
            {"process": lane.process, "cause": cause, "how": how, "count": count}
            for (cause, how), count in list(causes.items())[:20]
        ]
    return found[:MOST_LISTED]


def _commands(story: Story, verdict: Verdict) -> list[tuple[str, str]]:
    """What to type, and what it does. Quoted for a POSIX shell."""
    run = shlex.quote(text.clean(verdict.run))
    commands = [
        (f"croupier replay {run}", "carries out the same recorded decisions, and says where the world diverged"),
        (f"croupier judge {run}", "gives the verdict again, from the journal alone"),
        (f"croupier report {run}", "writes this page again"),
    ]
    if story.started and story.started.experiment_file:
        file = shlex.quote(text.clean(story.started.experiment_file))
        commands.insert(1, (f"croupier run {file} --seed {verdict.seed}", "draws the same plan, in a new round"))
    if verdict.unhealed:
        commands.insert(0, ("croupier recover", "heals what is still disturbed"))
    return commands
