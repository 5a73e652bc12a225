"""The workload: write keys, each once, and say `ack ID` for each that redis has answered with OK.

    python load.py 6379

A key that gets no answer is written again until it does: writing it twice leaves it once. Goes on until SIGTERM.
"""

import itertools
import signal
import sys
import threading

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PAUSE_S = 0.02
RETRY_PAUSE_S = 0.1
ANSWER_WITHIN_S = 2

stop = threading.Event()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = redis.Redis(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        socket_timeout=ANSWER_WITHIN_S,
        socket_connect_timeout=ANSWER_WITHIN_S,
        retry=Retry(NoBackoff(), 0),  # we write again ourselves, and hear SIGTERM in between
    )
    for number in itertools.count(1):
        key = f"key-{number:05}"
        while not is_written(server, key):
            if stop.wait(RETRY_PAUSE_S):
                return
        print("ack", key, flush=True)
        if stop.wait(PAUSE_S):
            return


def is_written(server: redis.Redis, key: str) -> bool:
    """Write a key. Only OK means yes: a server that is away, or still reading its files, has promised nothing."""
    try:
        return server.set(key, f"the value of {key}") is True
    except redis.RedisError:
        return False


if __name__ == "__main__":
    main()
