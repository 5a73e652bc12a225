"""The command line: a door. It reads arguments, calls what does the work, and turns errors into exit codes.

Everything but the parser is imported by the command that needs it, so that `croupier --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..model.errors import CroupierError, HarnessError
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
        # A round that runs is ended by its own handler, which heals; here nothing is disturbed.
        print("croupier: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away; closing quietly is what it expects.
        sys.stderr.close()
        return 141
    except Exception as problem:
        # Python's own exit code for this, 1, is the one that says that a promise was broken.
        if os.environ.get("CROUPIER_DEBUG"):
            import traceback

            traceback.print_exc()
        print(f"croupier: {_said(problem)}", file=sys.stderr)
        return HarnessError.exit_code


def _said(problem: Exception) -> str:
    if isinstance(problem, OSError):
        where = f"{problem.filename}: " if problem.filename else ""
        return f"{where}{problem.strerror or problem}"
    return (
        f"croupier has a defect: {type(problem).__name__}: {problem}\n"
        "  hint: CROUPIER_DEBUG=1 shows where; please report it"
    )
