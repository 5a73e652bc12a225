"""The probe *log*: a line that matches was (or, with `absent`, was not) printed by a process."""

from __future__ import annotations

import re

from ..model.probe import Log, Reading
from .answer import answering, many, no, shorten, unknown, yes
from .view import View


@answering
def read(probe: Log, view: View) -> Reading:
    """Count, and compare."""
    try:
        pattern = re.compile(probe.match)
    except re.error as problem:
        return unknown(f"/{probe.match}/ is no regular expression: {problem}")
    try:
        count = view.log_matches(probe.process, probe.match)
    except KeyError:
        return unknown(f"there is no log of {probe.process!r}: croupier did not start it")
    if not count:
        detail = f"{probe.process} printed no line that matches /{probe.match}/"
        return yes(detail, matches=0) if probe.absent else no(detail, matches=0)
    lines = f"{probe.process} printed {many(count, 'line')} that {'matches' if count == 1 else 'match'} /{probe.match}/"
    if not probe.absent:
        return yes(lines, matches=count)
    last = next((line for line in reversed(list(view.log_lines(probe.process))) if pattern.search(line)), "")
    return no(f"{lines}{f', the last: {shorten(last, 200)}' if last else ''}", matches=count)
