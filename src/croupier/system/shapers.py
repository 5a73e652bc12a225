"""Shapers (`croupier.wires.shape`): what they need of the machine, and reading what one has done."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ..model.shaping import Counts
from ..model.target import Identity
from . import networks, procs

COUNTS = "croupier-counts"
"""What the file in memory is called in which a shaper keeps its counts; memfd_create(2)."""
COUNTS_BYTES = 256
_TUN = Path("/dev/net/tun")


def lacking() -> str:
    """What this machine lacks for a shaper, in a sentence; "" if nothing."""
    if not _TUN.exists():
        return f"there is no {_TUN} (modprobe tun; in a container, --device {_TUN})"
    return networks.tried(
        "ip tuntap add mode tun name croupier0 && ip rule add fwmark 1 lookup 9",
        "packets cannot be led to a process of ours here",
    )


def counts_of(who: Identity) -> Counts | None:
    """What a shaper has done so far; None where it has not begun, or has ended."""
    files = Path(f"/proc/{who.pid}/fd")
    try:
        for file in files.iterdir():
            if os.readlink(file).startswith(f"/memfd:{COUNTS}") and procs.alive(who):  # noqa: PTH115 - text is enough
                return msgspec.json.decode(file.read_bytes().strip(), type=Counts)
    except (OSError, msgspec.MsgspecError):
        return None
    return None
