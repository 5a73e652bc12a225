"""The workload: two clients with a connection each, which insert notes and say `ack ID` for each commit.

    python load.py 127.0.0.1:5432

An error is not the end: the same note is inserted again, over a new connection if need be, until the database says
that it is there. What the database said instead is printed. Goes on until SIGTERM.
"""

import itertools
import signal
import sys
import threading
import time
from contextlib import suppress

import psycopg

CLIENTS = ("anna", "bert")
PAUSE_S = 0.03
RETRY_PAUSE_S = 0.1
PATIENCE_S = 2

stop = threading.Event()
printing = threading.Lock()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    host, _, port = sys.argv[1].rpartition(":")
    where = (
        f"host={host} port={port} user=me dbname=postgres application_name=load connect_timeout=5"
        # A statement waits so long for a lock, and takes so long in all: then the database itself says no.
        " options='-c lock_timeout=500ms -c statement_timeout=1s'"
    )
    clients = [threading.Thread(target=Client(where, name).insert_notes) for name in CLIENTS]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


class Client:
    def __init__(self, where: str, name: str) -> None:
        self._where = where
        self._name = name
        self._connection: psycopg.Connection | None = None

    def insert_notes(self) -> None:
        for number in itertools.count(1):
            note = f"{self._name}-{number:05}"
            while not self._is_kept(note):
                if stop.wait(RETRY_PAUSE_S):
                    return
            say(f"ack {note}")
            if stop.wait(PAUSE_S):
                return

    def _is_kept(self, note: str) -> bool:
        """Insert a note. Only a commit that came back is a yes; a note that is there already is one as well."""
        began = time.monotonic()
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._where, autocommit=True)
            self._connection.execute(
                "INSERT INTO notes VALUES (%s, %s) ON CONFLICT DO NOTHING", (note, "Milk, bread, and an umbrella.")
            )
        except psycopg.Error as error:
            say(f"{self._name} was told: {' '.join(str(error).split())}")
            with suppress(psycopg.Error):
                if self._connection is not None and self._connection.broken:
                    self._connection.close()
            return False
        finally:
            waited = time.monotonic() - began
            if waited > PATIENCE_S:
                say(f"hung {note} for {waited:.1f} s")
        return True


def say(line: str) -> None:
    with printing:
        print(line, flush=True)


if __name__ == "__main__":
    main()
