"""The probe *process*: how many processes of a role live, in which state, using how much memory together."""

from __future__ import annotations

from ..model.probe import Process, Reading
from ..model.target import Seen
from ..system import procs
from .answer import answering, many, no, size, yes
from .view import View

_STATES = {
    "R": "running", "S": "sleeping", "D": "in an uninterruptible wait", "T": "stopped", "t": "being traced",
    "Z": "zombies", "I": "idle",
}  # fmt: skip


@answering
def read(probe: Process, view: View) -> Reading:
    """Count those of the role (and, where a state is asked for, in that state); then add up what they use."""
    found = [one for one in view.census() if one.role == probe.of and _is_picked(probe, one) and _counts(probe, one)]
    count = len(found)
    bounds = [
        ("exactly", probe.count, probe.count is None or count == probe.count),
        ("at least", probe.at_least, probe.at_least is None or count >= probe.at_least),
        ("at most", probe.at_most, probe.at_most is None or count <= probe.at_most),
    ]
    if all(bound is None for _, bound, _ in bounds):
        # Asked without a number, somebody has to be there.
        bounds = [("at least", 1, count >= 1)]
    said = f"{_whom(probe, count)}{_states(found) if count and not probe.state else ''}"
    for word, bound, holds in bounds:
        if not holds:
            return no(f"{said}, and {word} {bound} should be there", count=count)
    if probe.rss_at_most is None:
        return yes(said, count=count)
    rss = procs.usage(one.pid for one in found).rss_bytes
    if rss > probe.rss_at_most:
        used = f"{size(rss)} of memory"
        return no(
            f"{many(count, 'process', 'processes')} of {probe.of} use {used}, more than {probe.rss_at_most}", rss=rss
        )
    return yes(f"{said}, with {size(rss)} of memory", count=count, rss=rss)


def _is_picked(probe: Process, one: Seen) -> bool:
    return {"main": one.main, "children": not one.main, "tree": True}[probe.pick]


def _counts(probe: Process, one: Seen) -> bool:
    # A zombie has ended; it counts only for whoever asks for zombies.
    return one.state in probe.state if probe.state else one.state not in ("Z", "X", "x")


def _whom(probe: Process, count: int) -> str:
    kind = {"main": "main process", "children": "child", "tree": "process"}[probe.pick]
    plural = {"main": "main processes", "children": "children", "tree": "processes"}[probe.pick]
    state = " or ".join(_STATES.get(letter, letter) for letter in probe.state)
    return f"{many(count, kind, plural)} of {probe.of} {f'in state {probe.state} ({state})' if state else 'alive'}"


def _states(found: list[Seen]) -> str:
    stopped = sum(one.state in ("T", "t") for one in found)
    return f" ({stopped} of them stopped)" if stopped else ""
