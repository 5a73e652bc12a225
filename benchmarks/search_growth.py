"""How a search grows: its time with the number of operations, its memory with the number of crash points.

The plot in the documentation is written by `python benchmarks/search_growth.py PLOT.svg`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from panel import Panel, picture
from row import Row

RECORDED = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
CHECKED = (500, 1_000, 2_000, 5_000, 10_000)
FEW = "500"
"""The budget of a search of which only the recording counts."""
POINTS = 100_000
STATE_MB = 100
MOST_MB = 300
CHECK = "def fine(state):\n    (state / 'f').stat()\n"
WRITES = (
    "import os, sys\nfd = os.open('f', os.O_CREAT | os.O_RDWR)\n"
    "for n in range(int(sys.argv[1])): os.pwrite(fd, n.to_bytes(8, 'big'), n * 4096 % int(sys.argv[2]))\n"
)
PART = """
import json, resource, sys, time
from pathlib import Path
from croupier.cli.explore import write_search_page
from croupier.explore.api import setting_of
from croupier.explore.search import Search
asked = json.loads(sys.argv[1])
setting = setting_of(asked["workload"], (asked["check"],), check_call=True, state=asked["state"],
                     budget=asked["budget"], timeout="20m")
search = Search(setting, Path(asked["out"]))
result = search.run()
write_search_page(search.dir, result)
used = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({"seconds": result.seconds, "points": result.crash_points, "checked": result.checked, "mb": used}))
"""


def measure() -> Iterator[Row]:
    """Whether time stays close to a line, and memory under its limit."""
    recorded = [(size, _seconds(size, "record", budget=FEW)) for size in (RECORDED[2], RECORDED[-1])]
    yield _against_a_line("recording {:,} operations", recorded)
    checked = [(size, _seconds(size, "total")) for size in (CHECKED[1], CHECKED[-1])]
    yield _against_a_line("a search of {:,} operations, every state checked", checked)
    told = _searched(POINTS, state_mb=STATE_MB, budget="100")
    most = max(told["mb"])
    yield Row(
        name=f"memory: {told['points']:,} crash points of a state of {STATE_MB} MB", unit="MB", ours=most, peer=None,
        peer_is="", target=f"under {MOST_MB} MB", met=most < MOST_MB,
    )  # fmt: skip


def _against_a_line(name: str, points: list[tuple[int, float]]) -> Row:
    (few, few_s), (many, many_s) = points
    line_s = few_s / few * many
    return Row(
        name=name.format(many), unit="s", ours=many_s, peer=line_s,
        peer_is=f"the line from nothing through {few:,} operations ({few_s:.1f} s)",
        target="within 1.5x of the line", met=many_s <= 1.5 * line_s,
    )  # fmt: skip


def _seconds(operations: int, phase: str, budget: str = "") -> float:
    return float(_searched(operations, budget=budget)["seconds"][phase])


def _searched(operations: int, *, state_mb: int = 0, budget: str = "") -> dict[str, Any]:
    """One search in a process of its own, whose memory is then known: its own, and that of its largest child."""
    with tempfile.TemporaryDirectory(prefix="croupier-bench-") as place:
        state = Path(place, "given")
        state.mkdir()
        if state_mb:
            with (state / "f").open("wb") as file:
                for _ in range(state_mb):
                    file.write(os.urandom(1 << 20))
        Path(place, "check.py").write_text(CHECK)
        span = state_mb << 20 or 1 << 20
        asked = {
            "workload": [sys.executable, "-S", "-c", WRITES, str(operations), str(span)],
            "check": f"{place}/check.py:fine", "state": str(state), "budget": budget, "out": f"{place}/runs",
        }  # fmt: skip
        argv = [sys.executable, "-c", PART, msgspec.json.encode(asked).decode()]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        told: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
        return told


def main(plot: Path) -> None:
    """Measure the growth, and draw it."""
    began = time.monotonic()
    recorded = [(size, _seconds(size, "record", budget=FEW)) for size in RECORDED]
    checked = [(size, _seconds(size, "total")) for size in CHECKED]
    print(recorded, checked, flush=True)
    plot.write_text(picture(_panel("recording", recorded), _panel("a whole search, every state checked", checked)))
    print(f"{time.monotonic() - began:.0f} s")


def _panel(name: str, points: list[tuple[int, float]]) -> Panel:
    """Seconds against operations, with the line through the last point."""
    return Panel(name=name, series={"": points}, line_to=points[-1], unit="s", across="operations")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
