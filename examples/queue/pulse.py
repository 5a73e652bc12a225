"""The steady state: a task that is put on the queue comes out done.

    python pulse.py

Exits with 0 if it did within a few seconds, else with 1.
"""

import sys

import tasks
from huey.exceptions import ResultTimeout

DONE_WITHIN_S = 3


def main() -> int:
    try:
        print("a task came back", tasks.pulse().get(blocking=True, timeout=DONE_WITHIN_S))
    except ResultTimeout:
        print(f"a task was put on the queue and was not done within {DONE_WITHIN_S} s")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
