"""The last way: run the workload over and over, and end it at a drawn moment each time.

What is found is real, and its state is kept; that nothing is found proves nothing, and the same moment replays about
one time in ten. The moments are drawn from the seed, over the time that the workload takes by itself.
"""

from __future__ import annotations

import os
import time

from ..model.choice import ChoiceStream
from ..model.search import Operation
from ..snapshot import Recorder, Store
from ..trace.book import Traced
from ..trace.launch import Order
from ..trace.output import Outlet
from ..trace.seen import Workload
from .place import Place

KILLS = 50
"""How often, where no budget says otherwise."""
BLIND = "moments were drawn by the clock: those between them were not seen"
_QUIET_S = 0.002


def record_by_clock(
    place: Place, store: Store, seed: int, kills: int
) -> tuple[list[Operation], list[str], list[bytes], Traced]:
    """Run it once to its end, then once for each kill. A pretended operation, a state and the output of each kill."""
    initial = Recorder(place.state, store).full()
    whole, output = _run(place, None)
    draws = ChoiceStream(seed).fork("clock")
    outputs, states = [output], [Recorder(place.state, store).full()]
    operations: list[Operation] = []
    for nth in range(1, kills + 1):
        from .recording import restart

        restart(place, store, initial)
        after_us = draws.below(max(1, int(whole.seconds * 1e6)))
        _, output = _run(place, after_us / 1e6)
        states.append(Recorder(place.state, store).full())
        outputs.append(output)
        operations.append(
            Operation(index=nth, call=f"kill after {after_us / 1000:.1f} ms", kind="other", at_us=after_us)
        )
    return operations, [initial, *states[1:], states[0]], [b"", *outputs[1:], outputs[0]], whole


def _run(place: Place, after_s: float | None) -> tuple[Traced, bytes]:
    setting, printed = place.setting, bytearray()
    outlet = Outlet(printed.extend)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    stdin = os.open(setting.stdin, os.O_RDONLY | os.O_CLOEXEC) if setting.stdin else null
    try:
        order = Order(place.workload(), place.environment(), str(place.state), (stdin, outlet.writer, null),
                      setting.timeout_ms / 1000, 2.0, None)  # fmt: skip
        workload = Workload(order, outlet)
        workload.start()
        while workload.wait():
            left = None if after_s is None else after_s - workload.at_us / 1e6
            if left is not None and left <= 0:
                workload.kill(at=1)
                break
            time.sleep(_QUIET_S if left is None else min(left, _QUIET_S))
        return workload.finish("clock", 0, (BLIND,)), bytes(printed)
    finally:
        os.close(null)
        if stdin != null:
            os.close(stdin)
        outlet.close()
