"""The invariant *acks*: every id that the workload printed as `ack ID` is found exactly once.

The command `found` prints the ids that the recovered system holds, one a line (the first word counts). Ids that it
holds beyond the acknowledged ones are no fault: an answer may have been lost on its way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..model.probe import Acks, Reading
from .answer import answering, many, no, shorten, unknown, yes
from .command import last_line
from .view import View

MOST_BYTES = 256 << 20
"""Of the output of `found`."""
EXAMPLES = 5


@answering
def read(probe: Acks, view: View) -> Reading:
    """Compare the ledger with what is found. Losses count even where there were too few to prove the opposite."""
    promised = _ledger(view.acks())
    if not probe.found:
        return _enough(probe, len(promised), f"{many(len(promised), 'acknowledgement')} came")
    ended = view.run_command(probe.found, probe.within_ms, view.env, MOST_BYTES, probe.network)
    if ended.failed:
        return unknown(f"the command that lists what is there could not be started: {ended.failed}")
    if ended.timed_out:
        return unknown(f"the command that lists what is there did not end within {probe.within_ms}")
    if ended.code != 0:
        how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.code}"
        return unknown(f"the command that lists what is there ended with {how}: {last_line(ended)}")
    if len(ended.output) >= MOST_BYTES:
        return unknown(f"the list of what is there is longer than {MOST_BYTES >> 20} MiB, and was cut")
    return _compare(probe, promised, ended.output)


def _compare(probe: Acks, promised: dict[str, int], output: str) -> Reading:
    # Only what was promised is counted, so that a store with far more in it costs no memory.
    found = Counter(
        words[0] for line in output.splitlines() if (words := line.split(maxsplit=1)) and words[0] in promised
    )
    missing = [one for one in promised if not found[one]]
    doubled = [one for one, times in found.items() if times > 1]
    values = {"acks": len(promised), "missing": len(missing), "doubled": len(doubled)}
    wrong = [
        f"{len(ids)} of {many(len(promised), 'acknowledged id')} {be} {what} ({_some(ids)})"
        for ids, what in ((missing, "missing"), (doubled, "there more than once"))
        if ids and (be := "is" if len(ids) == 1 else "are")
    ]
    if wrong:
        return no("; ".join(wrong), **values)
    again = sum(promised.values()) - len(promised)
    twice = f"; {many(again, 'acknowledgement')} came for an id that had been acknowledged before" if again else ""
    said = f"each of {many(len(promised), 'acknowledged id')} is found exactly once{twice}"
    return _enough(probe, len(promised), said)


def _enough(probe: Acks, count: int, said: str) -> Reading:
    if count < probe.at_least:
        return unknown(f"{said}, and fewer than {probe.at_least} prove nothing", acks=count)
    return yes(said, acks=count)


def _ledger(path: Path) -> dict[str, int]:
    """The ids, in the order of the ledger, each with how often it was acknowledged."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            return _count(lines)
    except FileNotFoundError:
        return {}


def _count(lines: Iterable[str]) -> dict[str, int]:
    promised: dict[str, int] = {}
    for line in lines:
        # A line without an end was cut while it was written: its id may be a part of another.
        if line.startswith("ack ") and line.endswith("\n") and (words := line.split()[1:]):
            promised[words[0]] = promised.get(words[0], 0) + 1
    return promised


def _some(ids: list[str]) -> str:
    more = "" if len(ids) <= EXAMPLES else ", …"
    return ", ".join(shorten(one, 60) for one in ids[:EXAMPLES]) + more
