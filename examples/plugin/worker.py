"""Works on one thing after another, and says when somebody has changed its niceness.

    python worker.py STATE

In the directory STATE, `ticks` gets a line for each piece of work, and `politeness` says how it stands.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

state = Path(sys.argv[1])
at_first = os.getpriority(os.PRIO_PROCESS, 0)
said = ""
digest = b""

while True:
    now = f"politer by {os.getpriority(os.PRIO_PROCESS, 0) - at_first}"
    if now != said:
        print(now, flush=True)
        # Put in place at once, so that nobody reads half of it.
        (state / "politeness.new").write_text(now)
        (state / "politeness.new").replace(state / "politeness")
        said = now
    digest = hashlib.sha256(digest * 1_000).digest()
    with (state / "ticks").open("a") as ticks:
        ticks.write(digest.hex() + "\n")
    time.sleep(0.02)
