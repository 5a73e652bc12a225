"""The workload: a shop that submits orders, and says `ack ID` for each that the queue has accepted.

    python produce.py tasks          straight into the queue
    python produce.py retrying       by way of the outbox

It goes on until SIGTERM. An order that could not be submitted is submitted again under the same id.
"""

import importlib
import itertools
import signal
import sqlite3
import sys
import threading
from types import ModuleType

PAUSE_S = 0.3  # three workers manage about five orders a second, which leaves them time to catch up

stop = threading.Event()


def main() -> None:
    queue = importlib.import_module(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for number in itertools.count(1):
        order = f"order-{number:05}"
        while not is_accepted(queue, order):
            if stop.wait(PAUSE_S):
                return
        print("ack", order, flush=True)
        if stop.wait(PAUSE_S):
            return


def is_accepted(queue: ModuleType, order: str) -> bool:
    try:
        queue.submit(order)
    except sqlite3.OperationalError:  # somebody holds the file locked, and we have waited long enough
        return False
    return True


if __name__ == "__main__":
    main()
