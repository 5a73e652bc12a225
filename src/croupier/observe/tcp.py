"""The probe *tcp*: a connection to the port is accepted.

The kernel accepts for a process that listens, so this holds for one that hangs; `http` sees further.
"""

from __future__ import annotations

from ..model.probe import Reading, Tcp
from . import wire
from .answer import Deadline, answering, no, unknown, yes
from .view import View


@answering
def read(probe: Tcp, view: View) -> Reading:
    """Connect, and hang up."""
    deadline = Deadline(probe.within_ms)
    where = probe.subject()
    try:
        port = int(probe.port)
    except ValueError:
        return unknown(f"{probe.port!r} is no port number")
    if not 1 <= port <= 65_535:
        return unknown(f"{port} is no port number: they go from 1 to 65535")
    try:
        wire.connect(probe.host, port, deadline, view.env).close()
    except OSError as problem:
        detail = wire.explain(problem, where)
        return unknown(detail) if wire.is_our_want(problem) else no(detail)
    return yes(f"{where} took the connection")
