"""The workload: save notes in the page, and say `ack ID` for each that the page says is kept.

    python load.py 9222

A page that crashed is loaded again, as its user would do, and the note is saved again under the same id. Goes on until
SIGTERM.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading

from devtools import Gone, NotReady, Page

PAUSE_S = 0.02
RETRY_PAUSE_S = 0.2

stop = threading.Event()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    numbers = itertools.count(1)
    note = f"note-{next(numbers):05}"
    while not stop.is_set():
        try:
            with Page(sys.argv[1]) as page:
                while not stop.wait(PAUSE_S):
                    page.evaluate(f"notes.save({note!r})")
                    print("ack", note, flush=True)
                    note = f"note-{next(numbers):05}"
        except Gone as problem:
            print(f"{note}: {problem}", flush=True)
            if not isinstance(problem, NotReady):
                reload()
            stop.wait(RETRY_PAUSE_S)


def reload() -> None:
    try:
        with Page(sys.argv[1]) as page:
            page.reload()
            print("reloaded", flush=True)
    except Gone:
        pass  # The browser itself is away; whoever started it brings it back.


if __name__ == "__main__":
    main()
