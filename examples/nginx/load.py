"""The workload: four clients that ask, and say `ack ID` for each answer that is a clear one, be it a refusal.

    python load.py http://127.0.0.1:8000

What was waited for longer than 2 s is no answer any more: its line says `hung ID`. Goes on until SIGTERM.
"""

import itertools
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

CLIENTS = ("anna", "bert", "carla", "dora")
PATIENCE_S = 2
PAUSE_S = 0.05

stop = threading.Event()
printing = threading.Lock()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    clients = [threading.Thread(target=ask, args=(sys.argv[1], name)) for name in CLIENTS]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def ask(url: str, name: str) -> None:
    for number in itertools.count(1):
        began = time.monotonic()
        status = status_of(url)
        waited = time.monotonic() - began
        word = "ack" if status and waited <= PATIENCE_S else "hung"
        with printing:
            print(f"{word} {name}-{number:05} {status} after {waited:.2f} s", flush=True)
        if stop.wait(PAUSE_S):
            return


def status_of(url: str) -> int:
    """What the answer says: 200, or 502 and 504 for "not now". 0 if there is none."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except OSError:
        return 0


if __name__ == "__main__":
    main()
