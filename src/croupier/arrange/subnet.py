"""Subnet: network namespaces for the processes of a round, joined by wires to a router in the middle that is ours, too.

Each namespace is kept by a process that sleeps below the guardian, and is gone when that has ended and nobody lives
there any more. Nothing of it is seen on the host: no interface, no rule, no name.
"""

from __future__ import annotations

import ipaddress
import sys
import time
from pathlib import Path

import msgspec

from ..model.arrangement import JoinedSubnet, Subnet
from ..model.errors import TargetError
from ..model.naming import Naming
from ..model.target import Identity
from ..model.undo import Healing, UndoRecord
from ..model.wiring import Home, Wiring
from ..system import networks, procs, resolver
from . import Hands
from .ended import ended, named, written

_STARTS_WITHIN_S = 10.0
_PACE_S = 0.002


class SubnetArranger:
    """Sets up `networks`."""

    kind = "subnet"
    summary = "A network of the round's own, in which processes have addresses, and a wire each that can be hurt."

    def lacking(self, spec: Subnet) -> str:
        """Whether namespaces and wires can be made here."""
        return networks.lacking()

    def stands_for(self, name: str, spec: Subnet, folder: str) -> str:
        """Its range of addresses."""
        assert isinstance(spec, JoinedSubnet)
        return spec.range

    def set_up(self, name: str, spec: Subnet, value: str, hands: Hands) -> None:
        """Start who keeps the namespaces, and connect them."""
        assert isinstance(spec, JoinedSubnet)
        for known, address in spec.known.items():
            if not _is_address(address):
                raise OSError(None, f"{known} is said to be at {address!r}, which is no address of IPv4")
        path = networks.folder(hands.folder) / f"{name}.json"
        record = UndoRecord(
            key=f"{self.kind}.{name}",
            fault=self.kind,
            who=hands.keeper,
            data={"wiring": str(path), "keepers": []},
            deadline_us=hands.deadline_us,
        )
        hands.intend(record)
        keepers = {one: hands.start(f"{name}-{one or 'hub'}", networks.KEEPING) for one in ("", *spec.addresses)}
        record = _keeping(record, *keepers.values())
        hands.intend(record)
        _wait_for(list(keepers.values()))
        folder = networks.folder(hands.folder)
        wiring = Wiring(
            name=name,
            range=spec.range,
            hub=Home(name="", address=spec.hub, keeper=keepers[""]),
            homes=tuple(
                Home(name=who, address=address, keeper=keepers[who], port=f"port{nth}")
                for nth, (who, address) in enumerate(spec.addresses.items(), 1)
            ),
            files=resolver.files(folder, name, spec.hub) if spec.names is not None else {},
        )
        networks.wire(wiring)
        if spec.names is not None:
            _answer_for(spec, wiring, record, hands)
        networks.keep(wiring, path)
        hands.applied(record.key)

    def heal(self, record: UndoRecord) -> Healing:
        """End who keeps the namespaces: the wires are gone with the hub."""
        left = [one for one in named(record, record.data["keepers"]) if procs.alive(one)]
        for path in Path(record.data["wiring"]).parent.glob(f"{Path(record.data['wiring']).stem}.*"):
            path.unlink(missing_ok=True)
        if still := ended(left):
            return Healing(verified=False, note=f"who keeps the network is still alive: {', '.join(map(str, still))}")
        return Healing(verified=True, note="" if left else "the network is gone")


def _keeping(record: UndoRecord, *who: Identity) -> UndoRecord:
    """The record with more of those who are to be ended; intend it again."""
    keepers = [*record.data["keepers"], *map(written, who)]
    return msgspec.structs.replace(record, data={**record.data, "keepers": keepers})


def _answer_for(spec: JoinedSubnet, wiring: Wiring, record: UndoRecord, hands: Hands) -> None:
    """Start the resolver, and see that it answers."""
    where = resolver.named(hands.env, wiring.name)
    told = Naming(control=where, network=networks.path_of(wiring.hub.keeper), address=spec.hub, names=spec.known)
    words = [sys.executable, "-m", "croupier.wires.resolve", msgspec.json.encode(told).decode()]
    who = hands.start(f"{wiring.name}-names", words)
    hands.intend(_keeping(record, who))
    end = time.monotonic() + _STARTS_WITHIN_S
    while not _answers(where):
        if not procs.alive(who):
            raise TargetError(f"the resolver ended at once; artifacts/helpers says why ({who})")
        if time.monotonic() > end:
            raise TargetError(f"the resolver ({who}) did not answer within {_STARTS_WITHIN_S:g} s")
        time.sleep(_PACE_S)


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def _answers(where: str) -> bool:
    try:
        return resolver.tell(where) is not None
    except TimeoutError:
        return False


def _wait_for(keepers: list[Identity]) -> None:
    """Until each lives in a namespace of its own."""
    end = time.monotonic() + _STARTS_WITHIN_S
    own = networks.inode("/proc/self/ns/net")
    while True:
        waited = [one for one in keepers if networks.inode(f"/proc/{one.pid}/ns/net") in (own, None)]
        if gone := [one for one in keepers if not procs.alive(one)]:
            raise TargetError(f"a namespace could not be made; artifacts/helpers says why ({gone[0]})")
        if not waited:
            return
        if time.monotonic() > end:
            raise TargetError(f"{waited[0]} had no namespace of its own within {_STARTS_WITHIN_S:g} s")
        time.sleep(_PACE_S)


ARRANGER = SubnetArranger()
