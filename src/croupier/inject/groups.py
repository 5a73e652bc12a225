"""Who is hit along with a target when its whole cgroup is: a fault on a unit or a container reaches everybody in it."""

from __future__ import annotations

from ..model.target import Seen
from ..system import cgroups, procs
from . import Act

SLOW_MS = 5_000
"""How long somebody else's daemon may take to undo something: so much later is the deadline, that the guardian does not
come in between while croupier undoes it in time."""


def left_out(target: Seen, path: str, act: Act) -> str:
    """Why a whole cgroup may not be disturbed: who is in it, and neither the target nor free to be hit with it.

    "" where everybody may. The guard judges them as it judged the target.
    """
    inside = [who for pid in cgroups.members(path) if (who := procs.identity(pid))]
    below = act.below(target)
    free = {target.identity, *(one.identity for one in below.free)}
    barred = dict(below.barred)
    for who in inside:
        if who not in free and procs.alive(who):
            why = f": {barred[who].reason}" if who in barred else ", and is not below it; aim at the main process"
            return f"{who} is in {path} as well{why}"
    return ""
