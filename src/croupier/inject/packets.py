"""Packets: have a shaper of ours carry the packets of a target, and lose, delay, double or damage them on their way.

The hub leads them aside to a device of the shaper (tun), and gets them back from it. When the shaper ends, whoever
ended it, the device is gone and they go straight again: healing needs nobody to be alive.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import msgspec

from ..model.errors import TargetError
from ..model.fault import Fault
from ..model.faults.packets import Packets
from ..model.guard import Permit
from ..model.shaping import Counts, Shaping
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..model.wiring import Home, Wiring
from ..system import networks, packet_rules, procs
from ..system.clock import now_us
from ..system.counts import counts_of
from . import Act, Outcome, helpers, on_wire, together
from .hits import wait_for

_STARTS_WITHIN_MS = 10_000
_GRACE_US = 1_000_000
"""How long after its time a shaper ends by itself: whoever is alive to heal, and to say so, comes first."""
_SEEDS = 2**63


class _Shaped(on_wire.OnOneWire):
    """The packets of one target."""

    def __init__(self, target: Seen, fault: Packets, act: Act, seed: int) -> None:
        super().__init__(target, fault, act)
        self._options = fault
        self._seed = seed
        self._shaper: Identity | None = None
        self._counts = Counts()

    def _held(self) -> dict[str, Any]:
        return helpers.marked(self._act.env, self.key)

    def _put(self, record: UndoRecord, wiring: Wiring, home: Home) -> None:
        act, fault = self._act, self._options
        spec = Shaping(
            network=networks.path_of(self.hub),
            device=packet_rules.device(self.name),
            target=socket.inet_aton(home.address),
            until_us=record.deadline_us + _GRACE_US,
            seed=self._seed,
            loss=int(fault.loss),
            delay_us=int(fault.delay_ms) * 1_000,
            jitter_us=int(fault.jitter_ms) * 1_000,
            duplicate=int(fault.duplicate),
            reorder=int(fault.reorder),
            corrupt=int(fault.corrupt),
            rate_bytes=int(fault.rate_bytes),
        )
        try:
            words = [sys.executable, "-m", "croupier.wires.shape", msgspec.json.encode(spec).decode()]
            self._shaper = who = act.start(self.key, words)
        except TargetError as problem:
            raise OSError(None, problem.message) from problem
        act.intend(helpers.naming(record, who))
        act.wait(_STARTS_WITHIN_MS, lambda: counts_of(who, Counts) is not None or not procs.alive(who))
        if act.halted or counts_of(who, Counts) is None:
            raise OSError(None, "nobody was there in time to carry its packets; artifacts/helpers may say why")
        # The way first, and then who is to take it.
        packet_rules.lead_aside(self.hub, self.name)
        mark = f"meta mark set {packet_rules.number(self.name)}"
        packet_rules.put(self.hub, self.name, self.which(wiring, home), mark, look_ups=fault.look_ups)

    def _done(self) -> int:
        assert self._shaper is not None
        self._counts = counts_of(self._shaper, Counts) or self._counts
        return self._counts.hurt

    def _said(self) -> str:
        return str(self._counts)


class PacketsInjector:
    """Carries out `packets`."""

    kind = "packets"
    spec: type[Fault] = Packets
    summary = "Have packets of a process be lost, late, doubled, overtaken, damaged or slow, for a while."
    needs = "Root, iproute2, nftables and /dev/net/tun; a network under `networks` that the target lives in."
    heals = "The table with our rules is taken away, the shaper ends, what waits goes on; both are seen to be gone."
    example = "packets: {loss: 10%, delay: 50ms, jitter: 20ms, for: 3s}"

    def lacking(self, fault: Packets) -> str:
        """Whether packets can be led aside in a network of ours, and whether anything is to be done to them."""
        if not fault.does_something:
            return "it hurts nothing: give one of loss, delay, jitter, duplicate, reorder, corrupt, rate"
        return packet_rules.aside_lacking()

    def inject(self, permit: Permit, fault: Packets, act: Act) -> Outcome:
        """Put the shapers into force; landed when something was done to a packet."""
        decided_us, lot = now_us(), permit.injection.lot
        shaped = [_Shaped(one, fault, act, (lot + nth) % _SEEDS) for nth, one in enumerate(permit.targets)]
        for one in shaped:
            one.begin()
        took_us = now_us() - decided_us
        wait_for(shaped, int(fault.for_ms), act)
        return together((one.conclude() for one in shaped), us=took_us)

    def hold(self, permit: Permit, fault: Packets, act: Act) -> None:
        """The shaper carries."""

    def heal(self, record: UndoRecord) -> Healing:
        """Let them go straight again."""
        return on_wire.heal(record)


INJECTOR = PacketsInjector()
