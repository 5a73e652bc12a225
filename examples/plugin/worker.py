"""Works on one thing after another, and says when somebody has changed its niceness."""

import hashlib
import os
import sys
import time
from pathlib import Path

ticks = Path(sys.argv[1])
at_first = known = os.getpriority(os.PRIO_PROCESS, 0)
digest = b""

while True:
    digest = hashlib.sha256(digest * 1_000).digest()
    with ticks.open("a") as file:
        file.write(digest.hex() + "\n")
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness != known:
        print(f"politer by {niceness - at_first}", flush=True)
        known = niceness
    time.sleep(0.02)
