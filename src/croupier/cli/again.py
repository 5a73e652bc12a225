"""`replay`: of a round, or of one crash point of a search."""

from __future__ import annotations

import re
from argparse import Namespace

_POINT = re.compile(r".+/k\d{4,}[tpr0-9]*/?")


def replay(arguments: Namespace) -> int:
    """Replay what was asked for; only what that needs is imported."""
    if _POINT.fullmatch(arguments.run):
        from .explore import replay as replay_point

        return replay_point(arguments)
    from .rounds import replay as replay_round

    return replay_round(arguments)
