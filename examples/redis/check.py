"""The check: does the live server hold each acknowledged key, with its value?

    python check.py 6379 acks.txt

Exits with 0 if so. Otherwise with 1, and the last line says what is missing.
"""

import sys
from pathlib import Path

import redis

EXAMPLES = 5


def main() -> int:
    port, acks = int(sys.argv[1]), Path(sys.argv[2])
    keys = [line.split()[1] for line in acks.read_text().splitlines() if line.startswith("ack ")]
    try:
        values = redis.Redis("127.0.0.1", port, decode_responses=True, socket_timeout=5).mget(keys) if keys else []
    except redis.RedisError as error:
        print(f"{len(keys)} keys were acknowledged, but the server does not say what it holds: {error}")
        return 1

    lost = [key for key, value in zip(keys, values, strict=True) if value != f"the value of {key}"]
    if not lost:
        print(f"each of {len(keys)} acknowledged keys is there")
        return 0
    some = ", ".join(lost[:EXAMPLES]) + (", …" if len(lost) > EXAMPLES else "")
    print(f"{len(lost)} of {len(keys)} acknowledged keys are lost ({some})")
    return 1


if __name__ == "__main__":
    sys.exit(main())
