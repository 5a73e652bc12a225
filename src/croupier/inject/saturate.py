"""Saturate: traffic of a limited rate to the target, sent by a process of ours at somebody's home in its network."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from ..model.errors import TargetError
from ..model.fault import Fault
from ..model.faults.packets import Saturate
from ..model.flooding import Flooded, Flooding
from ..model.guard import Permit
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..model.wiring import Home, Wiring
from ..system import networks, procs
from ..system.clock import now_us
from ..system.counts import counts_of
from . import Act, Outcome, helpers, on_wire, together

MOST_BYTES = 100 << 20
"""In a second: more would be the host's trouble."""
_LONGEST_DATAGRAM = 1_472
"""What fits into one packet of 1500 bytes."""
_SEEN_WITHIN_MS = 10_000
_ENOUGH = 0.5
"""Of what was sent, so much must have arrived at the target's wire."""


class SaturateInjector:
    """Carries out `saturate`."""

    kind = "saturate"
    spec: type[Fault] = Saturate
    summary = "Fill the wire of a process with traffic of a limited rate, from within its network, for a while."
    needs = "Root, iproute2; a network under `networks` that the target lives in."
    heals = "The helper that sends is ended, and seen to be gone."
    example = "saturate: {rate: 10MiB, for: 3s}"

    def lacking(self, fault: Saturate) -> str:
        """Whether the bounds are kept, and whether there can be a network."""
        if not 0 < fault.rate_bytes <= MOST_BYTES:
            return f"a rate of {fault.rate_bytes} in a second is not from 1B to {MOST_BYTES >> 20}MiB"
        if not 0 < fault.size_bytes <= _LONGEST_DATAGRAM:
            return f"a size of {fault.size_bytes} is not from 1B to {_LONGEST_DATAGRAM}B"
        return networks.lacking()

    def inject(self, permit: Permit, fault: Saturate, act: Act) -> Outcome:
        """Have it sent to each target; landed when it was seen to arrive there."""
        decided_us = now_us()
        outcomes = [_fill(one, fault, act) for one in permit.targets]
        return together(outcomes, us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: Saturate, act: Act) -> None:
        """The helper sends."""

    def heal(self, record: UndoRecord) -> Healing:
        """End the helper."""
        left = helpers.end(record)
        if left:
            return Healing(verified=False, note=f"whoever sends is still alive: {', '.join(map(str, left))}")
        return Healing(verified=True, note="" if procs.alive(record.who) else f"{record.who} is gone")


def _fill(target: Seen, fault: Saturate, act: Act) -> Outcome:
    who = target.identity
    found = networks.home_of(act.env, who)
    missed = _why_not(who, found, fault, act)
    if missed or found is None:
        return Outcome(result="missed", detail=f"{target}: {missed}")
    wiring, home = found
    source = wiring.home(fault.source)
    assert source is not None
    key = act.key(target)
    until_us = now_us() + int(fault.for_ms) * 1_000 + on_wire.SLACK_US
    record = UndoRecord(key=key, fault="saturate", who=who, data=helpers.marked(act.env, key), deadline_us=until_us)
    act.intend(record)
    before = _arrived(who)
    try:
        sender = act.start(key, _sending(fault, source, home, until_us))
    except (TargetError, OSError) as problem:
        return Outcome(result="unsure", detail=f"{target}: nothing could be sent: {problem}")
    act.intend(helpers.naming(record, sender))
    act.applied(key)
    act.wait(_SEEN_WITHIN_MS, lambda: not procs.alive(sender) or _is_seen(who, sender, before))
    sent, arrived = counts_of(sender, Flooded) or Flooded(), _arrived(who) - before
    if not procs.alive(who):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as its wire was filled")
    if not sent.bytes or arrived < sent.bytes * _ENOUGH:
        return Outcome(result="unsure", detail=f"{target}: {sent.bytes} bytes were sent, and {arrived} arrived")
    made = f" on {sent.connections} connections" if fault.how == "connections" else ""
    return Outcome(result="landed", detail=f"{target}: its wire is filled from {fault.source}{made}")


def _why_not(who: Identity, found: tuple[Wiring, Home] | None, fault: Saturate, act: Act) -> str:
    if not procs.alive(who):
        return "gone before its wire could be filled"
    if act.halted:
        return "the round was halted first"
    if found is None:
        return "it lives in no network of this round"
    if found[0].home(fault.source) is None:
        return f"nobody called {fault.source} lives in its network, {found[0].name}"
    return "" if str(fault.port).isdigit() else f"{fault.port!r} is no port"


def _sending(fault: Saturate, source: Home, home: Home, until_us: int) -> list[str]:
    spec = Flooding(
        network=networks.path_of(source.keeper),
        host=home.address,
        port=int(fault.port),
        how=fault.how,
        rate_bytes=int(fault.rate_bytes),
        size_bytes=int(fault.size_bytes),
        connections=fault.connections,
        until_us=until_us + 1_000_000,
    )
    return [sys.executable, "-m", "croupier.wires.flood", msgspec.json.encode(spec).decode()]


def _is_seen(who: Identity, sender: Identity, before: int) -> bool:
    sent = counts_of(sender, Flooded)
    return not procs.alive(who) or (sent is not None and 0 < sent.bytes * _ENOUGH <= _arrived(who) - before)


def _arrived(who: Identity) -> int:
    """Bytes that came in on the wire of a process; proc_pid_net(5)."""
    try:
        lines = Path(f"/proc/{who.pid}/net/dev").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith("eth0:")), 0)


INJECTOR = SaturateInjector()
