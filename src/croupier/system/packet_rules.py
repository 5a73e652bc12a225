"""Rules for packets in the hub of a network: nft(8) for which, ip-rule(8) for the way of those that are led aside.

Every fault has a table of its own, whose name nobody else can have; so nothing of anybody else is ever changed, and
taking the table away undoes it whole. What is lost before it is routed is lost in silence, as on a wire.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from ..model.target import Identity
from . import networks

_TUN = Path("/dev/net/tun")
_HOOK = "type filter hook prerouting priority mangle;"
_ASIDE = "shape"
"""How the devices begin by which packets come back from a shaper: they have been hurt already."""
_LOOK_UPS = "meta l4proto {{ tcp, udp }} th {} 53 accept"


def lacking() -> str:
    """What this machine lacks for such rules, in a sentence; "" if nothing."""
    return networks.lacking() or networks.missing("nft") or networks.tried(
        "nft 'add table inet x; add chain inet x y { type filter hook prerouting priority mangle; };"
        " add rule inet x y ip saddr 198.18.0.1 counter drop'",
        "the kernel has no packet filter that nft could set",
    )  # fmt: skip


def aside_lacking() -> str:
    """What this machine lacks for leading packets to a process of ours, in a sentence; "" if nothing."""
    if not _TUN.exists():
        return f"there is no {_TUN} (modprobe tun; in a container, --device {_TUN})"
    return lacking() or networks.tried(
        "ip tuntap add mode tun name croupier0 && ip rule add fwmark 1 lookup 9",
        "packets cannot be led to a process of ours here",
    )


def name(run: str, key: str) -> str:
    """What belongs to this record of this run is called by this: twelve hexadecimal digits."""
    return hashlib.sha256(f"{run}/{key}".encode()).hexdigest()[:12]


def table(name: str) -> str:
    """The name of the table of a fault."""
    return f"croupier_{name}"


def device(name: str) -> str:
    """The name of the device of a fault; 15 bytes at most."""
    return f"{_ASIDE}{name[:9]}"


def number(name: str) -> int:
    """Mark, and routing table, of a fault: none of the few that a system has by itself."""
    return (1 << 30) + int(name[:7], 16)


def matches(target: str, direction: str, peers: Sequence[str], spared: str) -> list[str]:
    """What tells the packets of a target, on their way from and to some, or to all but one who is spared."""
    others = f"{{ {', '.join(peers)} }}" if peers else f"!= {spared}"
    ways = {"in": f"ip daddr {target} ip saddr {others}", "out": f"ip saddr {target} ip daddr {others}"}
    return [ways[one] for one in ways if direction in (one, "both")]


def put(hub: Identity, name: str, which: Sequence[str], verdict: str, *, look_ups: bool) -> None:
    """Have a verdict (nft(8)) on packets that match, all at once. Raises OSError: also where the table is there."""
    chain = f"inet {table(name)} hurt"
    spared = [
        f'iifname "{_ASIDE}*" accept',
        *([] if look_ups else [_LOOK_UPS.format(one) for one in ("sport", "dport")]),
    ]
    rules = [*spared, *(f"{one} counter {verdict}" for one in which)]
    lines = [
        f"create table inet {table(name)}",
        f"add chain {chain} {{ {_HOOK} }}",
        *(f"add rule {chain} {one}" for one in rules),
    ]
    networks.run(hub, ["nft", "-f", "-"], "\n".join(lines) + "\n")


def lead_aside(hub: Identity, name: str) -> None:
    """Have packets with the mark of a fault go by its device, as long as that is there. Raises OSError."""
    there, mark = device(name), number(name)
    lines = [
        f"link set {there} up",
        f"route add default dev {there} table {mark}",
        f"rule add fwmark {mark} lookup {mark}",
    ]
    networks.run(hub, ["ip", "-batch", "-"], "\n".join(lines) + "\n")


def counted(hub: Identity, name: str) -> list[int] | None:
    """How many packets each rule of a fault has met; None where it has no table. Raises OSError."""
    said = networks.run(hub, ["sh", "-c", f"nft -j list table inet {table(name)} 2>/dev/null || echo {{}}"])
    listed = json.loads(said).get("nftables")
    if listed is None:
        return None
    parts = [part for one in listed if "rule" in one for part in one["rule"]["expr"]]
    return [int(part["counter"]["packets"]) for part in parts if "counter" in part]


def remove(hub: Identity, name: str) -> bool:
    """Take away the table, where it is there; whether it is seen to be gone. Raises OSError."""
    there = f"table inet {table(name)}"
    # One that is not there cannot be deleted, and one that is there can be added again: nothing comes of that.
    said = networks.run(hub, ["nft", "-f", "-"], f"add {there}\ndelete {there}\nlist tables\n")
    return there not in said.splitlines()


def lead_straight(hub: Identity, name: str) -> bool:
    """Take away the way aside, where it is there; whether it is seen to be gone. Raises OSError."""
    mark = number(name)
    said = networks.run(hub, ["sh", "-c", f"ip rule del fwmark {mark} lookup {mark} 2>/dev/null; ip rule show"])
    return f"lookup {mark}" not in said
