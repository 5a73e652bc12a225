"""Saves a list of numbers over and over, by a file aside that takes the place of the old one, and says what it did."""

import json
import os
import sys
import time
from pathlib import Path

file = Path(sys.argv[1]) / (sys.argv[2] if len(sys.argv) > 2 else "numbers.json")
numbers = json.loads(file.read_text()) if file.exists() else []
print("up", len(numbers), flush=True)
while True:
    numbers.append(len(numbers))
    began = time.monotonic()
    try:
        with file.with_suffix(".tmp").open("w") as out:
            json.dump(numbers, out)
            out.flush()
            os.fsync(out.fileno())
        file.with_suffix(".tmp").replace(file)
        print(f"saved {len(numbers)} {time.monotonic() - began:.3f}", flush=True)
    except OSError as problem:
        numbers.pop()
        print(f"error {problem.strerror}", flush=True)
    time.sleep(0.01)
