"""`halt` and `recover`: the kill switch, and what heals after a death of croupier itself."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import msgspec

from .. import recover as healing


def halt(arguments: Namespace) -> int:
    """Stop running rounds at once."""
    ended = healing.halt(arguments.run or None, Path(arguments.out))
    if not ended:
        print("no round is running")
        return 0
    for one in ended:
        print(one)
    return 5 if any(not one.clean for one in ended) else 0


def recover(arguments: Namespace) -> int:
    """Heal what is left behind."""
    healed = healing.recover()
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(healed) + b"\n")
    elif not healed:
        print("nothing was left behind")
    else:
        for one in healed:
            print(one)
    return 5 if any(not one.clean for one in healed) else 0
