"""Ask whether a state recovers: run the user's check on it, many at a time, each on a copy that it may write to.

    with Checkers(CommandCheck(argv=("python", "check.py", "{state}")), stage, jobs=2) as checkers:
        for ask, checked in checkers.check_all(asks):
            …

`pool`        hands out the work, asks nothing twice, and starts a server again that died
`server`      one process per job: sets the state up, runs the check, ends whatever it left behind
`forker`      for Python checks: a process that has imported the module already, and forks for each check
`interpreter` finds the real Python behind a version manager's shim
"""

from .pool import Ask, Checkers, key
from .words import CallCheck, Check, Checked, CommandCheck

__all__ = ["Ask", "CallCheck", "Check", "Checked", "Checkers", "CommandCheck", "key"]
