"""Run one function in a process of its own: `python -m croupier.explore.calling workload|check FILE.py:name`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..check.forker import arguments, find


def main(role: str, target: str) -> int:
    """Call it with the state, and the check also with what had been printed, as far as it takes them."""
    function = find(target)
    given: list[object] = [Path(os.environ["CROUPIER_STATE"])]
    if role == "check":
        given.append(Path(os.environ["CROUPIER_ACKED"]).read_text(errors="surrogateescape"))
    return 1 if function(*given[: arguments(function)]) is False else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
