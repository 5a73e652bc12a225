"""`doctor`: what this machine can do, what is missing, what that would enable, and how to get it."""

from __future__ import annotations

import sys
from argparse import Namespace

import msgspec

from ..explore.stacks import tool
from ..system.abilities import Ability, abilities
from ..trace.levels import levels

_MARKS = {"yes": "ok     ", "partly": "partly ", "no": "missing"}


def doctor(arguments: Namespace) -> int:
    """Print every ability; exit 0 where a round can run, 5 where something that it cannot do without is missing."""
    found = (*abilities(), *_levels())
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        return _code(found)
    for one in found:
        print(f"{_MARKS[one.here]} {one.name}: {one.detail}")
        if one.here != "yes":
            print(f"          without it: {one.without}")
            print(f"          to get it:  {one.get}")
    print("a round can run here" if _code(found) == 0 else "a round cannot run here: see what is missing above")
    return _code(found)


def _levels() -> tuple[Ability, ...]:
    """The ways in which a search can watch a workload, best first."""
    best = levels()
    spy = tool()
    return (
        Ability(
            name="search: py-spy",
            here="yes" if spy else "no",
            detail=spy or "not found: it tells where in a Python program a call is made",
            without="findings have no call stack",
            get="pip install 'croupier[stacks]'",
        ),
        *(
            Ability(
                name=f"search: {one.name}",
                here=one.here,
                detail=one.detail,
                without="`croupier explore` takes the next way that works, and says so" if one.name != "clock" else "",
                get=one.get,
            )
            for one in best
        ),
    )


def _code(found: tuple[Ability, ...]) -> int:
    return 5 if any(one.needed and one.here == "no" for one in found) else 0
