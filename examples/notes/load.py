"""The workload: two clients that post notes, and say `ack ID` for each that the service promised to keep.

    python load.py http://127.0.0.1:8000

A client does not know why an answer stays away, so it sends the same note under the same id again until it
gets one. It goes on until SIGTERM.
"""

import http.client
import itertools
import json
import signal
import sys
import threading
import urllib.request

CLIENTS = ("anna", "bert")
PAUSE_S = 0.02
RETRY_PAUSE_S = 0.1
# A suspended worker may sit on our connection. Waiting longer than this is less use than asking another one.
ANSWER_WITHIN_S = 2

stop = threading.Event()
printing = threading.Lock()


def main() -> None:
    url = sys.argv[1]
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    clients = [threading.Thread(target=post_notes, args=(url, name)) for name in CLIENTS]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def post_notes(url: str, name: str) -> None:
    for number in itertools.count(1):
        note = {"id": f"{name}-{number:05}", "text": "Milk, bread, and something for the rain. " * 25}
        while not is_kept(url, note):
            if stop.wait(RETRY_PAUSE_S):
                return
        acknowledge(note["id"])
        if stop.wait(PAUSE_S):
            return


def is_kept(url: str, note: dict[str, str]) -> bool:
    """Post a note. Only a clear yes is a yes: no answer, half an answer and an error all mean "not yet"."""
    request = urllib.request.Request(f"{url}/notes", data=json.dumps(note).encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
            return answer.status in (200, 201)
    except (OSError, http.client.HTTPException):
        return False


def acknowledge(note_id: str) -> None:
    with printing:
        print("ack", note_id, flush=True)


if __name__ == "__main__":
    main()
