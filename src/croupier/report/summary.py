"""The verdict in a few lines of plain text, for the end of a command and for other people's logs."""

from __future__ import annotations

from croupier.model.verdict import Verdict

from .text import clean, many, one_line, span

SHOWN = 6
_OUTCOMES = {"stopped": "It was stopped before its end.", "aborted": "It was aborted before its end."}


def summary(verdict: Verdict) -> str:
    """The verdict with its reasons, what happened, and the seed: a few lines, none of them with control characters."""
    lines = [f"{verdict.verdict.upper()}  {one_line(verdict.title, 200)}"]
    lines += [f"  {mark} {one_line(reason, 300)}" for mark, reason in _reasons(verdict)]
    left_out = len(verdict.reasons) - SHOWN
    if left_out > 0:
        lines.append(f"  … and {many(left_out, 'more reason')}")
    lines += [f"  ! still disturbed: {one_line(one)} (croupier recover)" for one in verdict.unhealed]
    lines += [f"  ! left behind: {one_line(one)}" for one in verdict.left_behind]
    lines.append(f"  {clean(tally(verdict))}")
    for one in verdict.recoveries:
        said = f"mean {span(one.mean_ms * 1000)}, p95 {span(one.p95_ms * 1000)}, slowest {span(one.worst_ms * 1000)}"
        back = f"{many(len(one.times_ms), 'recovery')}: {said}" if one.times_ms else "never ready again"
        never = f"; {many(one.open, 'time')} not ready again" if one.open and one.times_ms else ""
        lines.append(f"  {one_line(one.process)}: {back}{never}")
    if verdict.outcome in _OUTCOMES and not verdict.cut:
        lines.append(f"  {_OUTCOMES[verdict.outcome]}")
    return "\n".join(lines)


def _reasons(verdict: Verdict) -> list[tuple[str, str]]:
    # The broken promises come first among the reasons; what follows them are doubts.
    broken = sum(one.held is False for one in verdict.findings)
    mark = "+" if verdict.verdict == "held" else "?"
    return [("x" if nth < broken else mark, reason) for nth, reason in enumerate(verdict.reasons[:SHOWN])]


def tally(verdict: Verdict) -> str:
    """How many injections came to what, acknowledgements, restarts, length and seed, on one line."""
    counts = (
        (verdict.landed, "landed"),
        (verdict.missed, "missed"),
        (verdict.unsure, "unsure"),
        (verdict.refused, "refused"),
        (sum(one.result == "rehearsed" for one in verdict.injections), "rehearsed"),
    )
    said = [f"{count:,} {word}" for count, word in counts if count]
    parts = [f"{many(len(verdict.injections), 'injection')}{': ' if said else ''}{', '.join(said)}"]
    if verdict.acks:
        parts.append(many(verdict.acks, "acknowledgement"))
    restarts = sum(verdict.restarts.values())
    if restarts:
        parts.append(many(restarts, "restart"))
    crashes = sum(verdict.crashes.values())
    if crashes:
        parts.append(f"{many(crashes, 'death')} that no injection caused")
    parts += [span(verdict.lasted_us), f"seed {verdict.seed}"]
    return " · ".join(parts)
