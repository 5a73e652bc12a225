"""Did every turn write before the one after it?

in_order.py STATE
"""

# Importing pathlib would take longer than all the rest.
# ruff: noqa: PTH123

import sys
from itertools import pairwise

with open(sys.argv[1] + "/written") as file:
    turns = [int(row) for row in file]
late = [turn for before, turn in pairwise(turns) if turn < before]
if late:
    sys.exit(f"{len(late)} wrote after their turn was over, turn {late[0]} first")
if len(turns) < 5:
    sys.exit(f"only {len(turns)} turns were taken")
print(f"{len(turns)} turns, each in its time")
