"""A croupier for tests to kill: it starts processes of every unpleasant kind, and suspends one again and again.

    python a_croupier.py RUN_DIR RUN_ID MODE [PID]

Prints a line `ready` once everything is started. `PID` is a process of somebody else that it suspends. Modes: `busy`
starts, suspends and heals without end, with every step on its way at some moment; `hold` suspends once for a second
and waits; `hold-long` for a minute; `idle` only starts and waits; `polite` is `hold-long`, and stops as asked by
SIGTERM; `deaf` ignores it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from hands import DAEMONISES, IGNORES_TERM, SLEEPS, Hands, a_permit, identity, python

from croupier.inject.suspend import INJECTOR
from croupier.model.fault import Suspend
from croupier.model.target import Identity
from croupier.model.undo import UndoRecord, UndoStep
from croupier.model.units import Ms
from croupier.supervise.keeper import Keeper

WIPES_ITS_ENVIRONMENT = python(
    "import ctypes,os,time\n"
    "libc = ctypes.CDLL(None)\n"
    "area = ctypes.POINTER(ctypes.c_void_p).in_dll(libc, 'environ')\n"
    "n = 0\n"
    "while area[n]:\n"
    "    ctypes.memset(area[n], 120, len(ctypes.string_at(area[n])))\n"
    "    n += 1\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    "time.sleep(300)"
)
"""Overwrites what /proc/PID/environ shows, as setproctitle does, and daemonises."""

MANY = ("sh", "-c", "sleep 300 & (sleep 300 & sleep 300) & setsid sleep 300 & wait")


class KeptHands(Hands):
    """Hands whose records the guardian holds."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self.keeper = keeper

    def intend(self, record: UndoRecord) -> None:
        self.keeper.hold(record)
        self.records.append(record)

    def applied(self, key: str) -> None:
        self.keeper.step(UndoStep(key=key, state="applied"))

    def heal(self) -> None:
        """Undo what is open, as a round does."""
        for record in self.records:
            healing = INJECTOR.heal(record)
            self.keeper.step(UndoStep(key=record.key, state="verified" if healing.verified else "healed"))
        self.records.clear()


def spawn(keeper: Keeper, name: str, argv: tuple[str, ...]) -> Identity:
    """Start one with its output nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        return keeper.spawn(name, argv, env=dict(os.environ), cwd="/", stdout=nowhere, stderr=nowhere)
    finally:
        os.close(nowhere)


def main() -> None:
    """Do as the mode says."""
    run_dir, run_id, mode, *pids = sys.argv[1:]
    # As from a terminal, also where the tests run under nohup or behind a shell's `&`, which have these ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    keeper = Keeper.start(Path(run_dir), run_id)
    for name, argv in (
        ("plain", SLEEPS), ("stubborn", IGNORES_TERM), ("many", MANY), ("daemon", DAEMONISES),
        ("wiped", WIPES_ITS_ENVIRONMENT),
    ):  # fmt: skip
        spawn(keeper, name, argv)
    hands = KeptHands(keeper)
    target = identity(int(pids[0])) if pids else spawn(keeper, "target", SLEEPS)
    lasts = {"hold": 1_000, "hold-long": 60_000, "polite": 60_000, "deaf": 60_000, "busy": 60_000}.get(mode, 0)
    if lasts and mode != "busy":
        suspend(hands, target, lasts)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "polite":
        signal.signal(signal.SIGTERM, lambda number, frame: stop(keeper, hands))
    print("ready", flush=True)
    while mode == "busy":
        suspend(hands, target, lasts)
        spawn(keeper, "more", SLEEPS)
        hands.heal()
        keeper.end_tree("more")
    while True:
        time.sleep(300)


def suspend(hands: Hands, target: Identity, for_ms: int) -> None:
    """By the injector, with a permit."""
    fault = Suspend(for_ms=Ms(for_ms))
    INJECTOR.inject(a_permit(fault, target), fault, hands)


def stop(keeper: Keeper, hands: KeptHands) -> None:
    """As a round that is told to."""
    hands.heal()
    keeper.close()
    os._exit(0)


if __name__ == "__main__":
    main()
