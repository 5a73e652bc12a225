"""A search in a few lines of plain text: the strip of its operations, the groups with their causes, how to go on."""

from __future__ import annotations

from collections.abc import Sequence

from croupier.model.search import CrashPoint, Finding, Group, Operation, SearchResult, Step

from .text import clean, many, one_line

WIDTH = 100
SHOWN = 8
_WORDS = {"held": "HELD", "violated": "VIOLATED", "unknown": "UNKNOWN"}


def search_summary(result: SearchResult, operations: Sequence[Operation], points: Sequence[CrashPoint]) -> str:
    """What a search came to, for a terminal and for other people's logs."""
    lines = [f"{_WORDS[result.verdict]}  {_headline(result)}"]
    if result.verdict != "violated":
        lines += [f"  ? {one_line(reason, 300)}" for reason in result.reasons]
    lines.append(f"  {counts(result)}")
    lines += [f"  {line}" for line in strip(result, operations, points)]
    by_id = {one.id: one for one in result.findings}
    for group in result.groups[:SHOWN]:
        lines += ["", *(f"  {line}" for line in _group(group, result, by_id))]
    if len(result.groups) > SHOWN:
        lines.append(f"  … and {many(len(result.groups) - SHOWN, 'more group')}, on the page")
    lines.append("")
    for one in result.self_checks:
        if one.held is not True:
            lines.append(f"  {'!' if one.held is False else '?'} {one.name}: {one_line(one.detail, 200)}")
    lines.append(f"  level: {clean(result.level)}")
    lines.append(f"  model: {result.model}{' (it is a model)' if result.model != 'kill' else ''}")
    lines.append(f"  {result.seconds.get('total', 0):.2f} s: " + ", ".join(
        f"{name} {value:.2f}" for name, value in result.seconds.items() if name != "total" and value >= 0.005
    ))  # fmt: skip
    lines.append(f"  stored: {clean(result.run)}")
    return "\n".join(lines)


def _headline(result: SearchResult) -> str:
    if result.findings:
        said = f"{many(len(result.findings), 'state')} of {result.checked:,} do not recover, from"
        return f"{said} {many(len(result.groups), 'cause')}" if result.groups else f"{said} no known cause"
    if result.verdict == "held":
        return f"every one of {many(result.checked, 'state')} recovers" if not result.left_out else (
            f"the {many(result.checked, 'state')} that were checked recover; {result.left_out:,} were left out"
        )  # fmt: skip
    return "nothing is proven"


def counts(result: SearchResult) -> str:
    """The numbers of a search, on one line."""
    parts = [
        many(result.operations, "operation"),
        many(result.crash_points, "crash point"),
        many(result.distinct_states, "distinct state"),
        f"{result.checked:,} checked",
        many(result.acked, "acknowledgement"),
    ]
    if result.left_out:
        parts.append(f"{result.left_out:,} left out")
    return " · ".join(parts)


def strip(result: SearchResult, operations: Sequence[Operation], points: Sequence[CrashPoint]) -> list[str]:
    """The workload as a strip: `·` recovers, `x` does not, `_` was not looked at, `|` an acknowledgement between."""
    bad, known = failing_places(result, points), {one.after for one in points}
    marks = []
    for after in range(len(operations) + 1):
        marks.append("x" if after in bad else "·" if after in known else "_")
        if after < len(operations) and operations[after].kind == "output":
            marks.append("|")
    cells = "".join(marks)
    if len(cells) > WIDTH * 6:
        scale = len(cells) / WIDTH
        squeezed = [cells[int(nth * scale) : int((nth + 1) * scale) + 1] for nth in range(WIDTH)]
        cells = "".join(next((mark for mark in "x|·" if mark in one), "_") for one in squeezed)
    return [cells[at : at + WIDTH] for at in range(0, len(cells), WIDTH)]


def failing_places(result: SearchResult, points: Sequence[CrashPoint]) -> set[int]:
    """After which operations a crash does not recover."""
    named = {one.id for one in result.findings}
    keys = {(one.state, one.acked) for one in points if one.id in named}
    return {one.after for one in points if (one.state, one.acked) in keys}


def _group(group: Group, result: SearchResult, by_id: dict[str, Finding]) -> list[str]:
    finding = by_id.get(group.first)
    confirmed = {True: "confirmed by a real kill", False: "unconfirmed: its replay contradicts it", None: ""}
    lines = [f"{group.number}. {group.count} × {one_line(group.cause, 300)}"]
    if confirmed[group.confirmed]:
        lines[0] += f" [{confirmed[group.confirmed]}]"
    if finding is not None:
        lines.append(f"   {finding.id}: after  {said(finding.after) or 'the start'}")
        lines.append(f"          before {said(finding.before) or 'the end'}")
        lines += [f"          {one_line(one, 160)}" for one in finding.lost[:4]]
        lines += [
            f"          at {one_line(frame, 160)}" for frame in (finding.before.stack if finding.before else ())[:3]
        ]
        lines.append(f"   says: {one_line(group.reason, 300)}")
    if group.fix:
        lines.append(f"   fix: {group.fix}" + (f" ({group.link})" if group.link else ""))
    lines.append(f"   croupier replay {clean(result.run)}/{group.first}")
    return lines


def said(step: Step | None) -> str:
    """An operation on one line: `pwrite64 a.db, 4096 bytes at 8192`."""
    if step is None:
        return ""
    words = step.operation
    if step.path:
        words += f" {step.path}"
    if step.path2:
        words += f" → {step.path2}"
    if step.length is not None and step.operation not in ("openat", "open"):
        words += f", {many(step.length, 'byte')}"
        if step.offset is not None:
            words += f" at {step.offset}"
    return one_line(f"{words} (operation {step.index})", 200)
