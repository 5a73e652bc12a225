"""What the faults on a wire share: rules in the hub, where the target sees nothing of them but what they do.

Whose packets are meant is told by addresses, so a process that is restarted is still hurt: it lives where it lived. The
record leads to the hub by who keeps it; where the hub is gone, so is all that was ever done there.
"""

from __future__ import annotations

from typing import Any

from ..model.arrangement import CROUPIER
from ..model.faults.packets import OnWire
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..model.wiring import Home, Wiring
from ..system import networks, packet_rules, procs
from ..system.clock import now_us
from . import Act, Outcome, helpers

SLACK_US = 3_000_000
"""How much later than its time a fault must be healed: programs are run to put it into force and to take it back, which
takes a while on a busy machine. The round heals it in time all the same; this is for a round that hangs."""


class OnOneWire:
    """A rule for the packets of one target."""

    def __init__(self, target: Seen, fault: OnWire, act: Act) -> None:
        self.target = target
        self.outcome: Outcome | None = None
        """Set where it did not come to a rule."""
        self.key = act.key(target)
        self.name = packet_rules.name(act.env.get("CROUPIER_RUN", ""), self.key)
        self.hits = 0
        """How often it was seen to do something."""
        self.met = 0
        """How many packets it could have done something to."""
        self._fault = fault
        self._act = act
        self._wiring: Wiring | None = None

    def begin(self) -> None:
        """Write it down, and put it into force."""
        who = self.target.identity
        found = networks.home_of(self._act.env, who)
        if not procs.alive(who):
            return self._missed("gone before its packets could be hurt")
        if self._act.halted:
            return self._missed("the round was halted first")
        if found is None:
            return self._missed("it lives in no network of this round")
        wiring, home = found
        strangers = [one for one in self._fault.peers if wiring.home(one) is None]
        if strangers:
            return self._missed(f"nobody called {strangers[0]} lives in its network, {wiring.name}")
        self._wiring = wiring
        record = self._record(wiring)
        self._act.intend(record)
        try:
            self._put(record, wiring, home)
        except OSError as problem:
            self.outcome = Outcome(result="unsure", detail=f"{self.target}: {problem.strerror or problem}")
            return None
        self._act.applied(self.key)
        if not procs.alive(who):
            # What is still on the wire for it says nothing.
            return self._missed("it ended by itself as its packets were about to be hurt")
        return None

    def look(self) -> bool:
        """Ask how far it has come; whether there is nothing more to wait for."""
        if self.outcome is not None:
            return True
        assert self._wiring is not None
        try:
            met = packet_rules.counted(self.hub, self.name)
        except OSError as problem:
            self.outcome = Outcome(result="unsure", detail=f"{self.target}: {problem.strerror or problem}")
            return True
        if met is None:
            self.outcome = Outcome(result="unsure", detail=f"{self.target}: the rule was not seen to be in force")
            return True
        self.met = sum(met)
        self.hits = self._done()
        return bool(self.hits)

    def conclude(self) -> Outcome:
        """What was seen."""
        if self.outcome is not None:
            return self.outcome
        if self.hits:
            return Outcome(result="landed", detail=f"{self.target}: {self._said()}")
        if not procs.alive(self.target.identity):
            self._missed("it ended by itself")
        elif self.met:
            self._missed(f"of {self.met} packets none was hurt")
        else:
            self._missed("nothing that the fault could hurt went over its wire")
        assert self.outcome is not None
        return self.outcome

    @property
    def hub(self) -> Identity:
        """Who keeps the hub."""
        assert self._wiring is not None
        return self._wiring.hub.keeper

    def which(self, wiring: Wiring, home: Home) -> list[str]:
        """What tells the packets that are meant."""
        spared, fault = wiring.home(CROUPIER), self._fault
        assert spared is not None
        peers = [one.address for one in wiring.homes if one.name in fault.peers]
        return packet_rules.matches(home.address, fault.direction, peers, spared.address)

    def _record(self, wiring: Wiring) -> UndoRecord:
        hub = wiring.hub.keeper
        return UndoRecord(
            key=self.key,
            fault=self._fault.kind,
            who=self.target.identity,
            data={"name": self.name, "hub": [hub.pid, hub.started], **self._held()},
            deadline_us=now_us() + int(self._fault.for_ms) * 1_000 + SLACK_US,
        )

    def _held(self) -> dict[str, Any]:
        """What the record holds beside."""
        return {}

    def _put(self, record: UndoRecord, wiring: Wiring, home: Home) -> None:
        """Put it into force. Raises OSError."""
        raise NotImplementedError

    def _done(self) -> int:
        """How often it did something."""
        raise NotImplementedError

    def _said(self) -> str:
        """What it did."""
        raise NotImplementedError

    def _missed(self, why: str) -> None:
        self.outcome = Outcome(result="missed", detail=f"{self.target}: {why}")


def heal(record: UndoRecord) -> Healing:
    """Take the rules away first, so that packets go straight, and look; then end who carried them."""
    hub = hub_of(record)
    name = str(record.data["name"])
    try:
        is_gone = not procs.alive(hub) or packet_rules.remove(hub, name)
        if is_gone and helpers.has_any(record) and procs.alive(hub):
            is_gone = packet_rules.lead_straight(hub, name)
    except OSError as problem:
        is_gone = not procs.alive(hub)
        if not is_gone:
            return Healing(verified=False, note=f"the rules could not be taken away: {problem.strerror}")
    helpers.ask_to_end(record)
    if still := helpers.end(record):
        return Healing(verified=False, note=f"who carries the packets is still alive: {', '.join(map(str, still))}")
    if not is_gone:
        return Healing(verified=False, note="the rules are still there")
    network = "" if procs.alive(hub) else "the network is gone, and its rules with it"
    gone = "" if procs.alive(record.who) else f"{record.who} is gone"
    return Healing(verified=True, note="; ".join(filter(None, (network, gone))))


def hub_of(record: UndoRecord) -> Identity:
    """Who kept the hub that a record is about."""
    pid, started = record.data["hub"]
    return Identity(pid=pid, started=started, boot=record.who.boot)
