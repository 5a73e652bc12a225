"""The command line: a door. It reads arguments, calls what does the work, and turns errors into exit codes.

Everything but the parser is imported by the command that needs it, so that `croupier --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..model.errors import CroupierError
from .parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 held, 1 violated, 2 wrong, 3 refused, 4 unknown, 5 croupier broke."""
    arguments = parse(argv)
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except CroupierError as problem:
        print(f"croupier: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("croupier: interrupted before anything was started", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away; closing quietly is what it expects.
        sys.stderr.close()
        return 141
