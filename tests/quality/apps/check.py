"""Is each acknowledged entry kept exactly once?

check.py STATE ACKS
"""

# Importing pathlib would take longer than all the rest.
# ruff: noqa: PTH123

import json
import sys
from collections import Counter

with open(sys.argv[1] + "/entries.json") as file:
    text = file.read()
try:
    kept = Counter(json.loads(text))
except ValueError:
    sys.exit("the file is torn")
with open(sys.argv[2]) as file:
    acked = [row.split()[1] for row in file if row.startswith("ack ")]
lost = [one for one in acked if not kept[one]]
doubled = [one for one in kept if kept[one] > 1]
if lost or doubled:
    sys.exit(f"{len(lost)} lost, {len(doubled)} doubled")
print(f"{len(acked)} are kept once")
