"""Saves a list of numbers over and over, by a file aside that takes the place of the old one, and says what it did."""

import json
import os
import sys
import time
from pathlib import Path

file = Path(sys.argv[1]) / (sys.argv[2] if len(sys.argv) > 2 else "numbers.json")


def say(line: str) -> None:
    """In one write: whoever is killed has said all of a line, or nothing."""
    os.write(1, f"{line}\n".encode())


numbers = json.loads(file.read_text()) if file.exists() else []
say(f"up {len(numbers)}")
while True:
    numbers.append(len(numbers))
    began = time.monotonic()
    try:
        with file.with_suffix(".tmp").open("w") as out:
            json.dump(numbers, out)
            out.flush()
            os.fsync(out.fileno())
        file.with_suffix(".tmp").replace(file)
        say(f"saved {len(numbers)} {time.monotonic() - began:.3f}")
    except OSError as problem:
        numbers.pop()
        say(f"error {problem.strerror}")
    time.sleep(0.01)
