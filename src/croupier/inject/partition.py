"""Partition: cut a process off from others in its network, both ways or one way, by dropping its packets in the hub."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.packets import Partition
from ..model.guard import Permit
from ..model.undo import Healing, UndoRecord
from ..model.wiring import Home, Wiring
from ..system import packet_rules
from ..system.clock import now_us
from . import Act, Outcome, on_wire, together
from .hits import wait_for


class _Cut(on_wire.OnOneWire):
    """What is dropped of one target."""

    def _put(self, record: UndoRecord, wiring: Wiring, home: Home) -> None:
        packet_rules.put(self.hub, self.name, self.which(wiring, home), "drop", look_ups=self._fault.look_ups)

    def _done(self) -> int:
        return self.met

    def _said(self) -> str:
        return f"cut off from {', '.join(self._fault.peers) or 'everybody'}"


class PartitionInjector:
    """Carries out `partition`."""

    kind = "partition"
    spec: type[Fault] = Partition
    summary = "Cut a process off from others in its network, both ways or one way: packets vanish."
    needs = "Root, iproute2 and nftables; a network under `networks` that the target lives in."
    heals = "The table with our rules is taken away, and seen to be gone; no other rule is touched."
    example = "partition: {from: [web], for: 3s}"

    def lacking(self, fault: Partition) -> str:
        """Whether packets can be dropped in a network of ours."""
        return packet_rules.lacking()

    def inject(self, permit: Permit, fault: Partition, act: Act) -> Outcome:
        """Put the rules into force; landed when packets were dropped."""
        decided_us = now_us()
        cuts = [_Cut(one, fault, act) for one in permit.targets]
        for one in cuts:
            one.begin()
        took_us = now_us() - decided_us
        wait_for(cuts, int(fault.for_ms), act)
        return together((one.conclude() for one in cuts), us=took_us)

    def hold(self, permit: Permit, fault: Partition, act: Act) -> None:
        """Rules stay by themselves."""

    def heal(self, record: UndoRecord) -> Healing:
        """Take them away."""
        return on_wire.heal(record)


INJECTOR = PartitionInjector()
