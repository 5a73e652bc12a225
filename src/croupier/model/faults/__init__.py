"""Every fault that comes with croupier, as data. Those of one family share a file; `inject/KIND.py` carries one out."""

from __future__ import annotations

from ..fault import Fault, Kill, Suspend
from .combined import Sequence, Together
from .cpu import StarveCpu
from .database import LockDatabase
from .disk import Corrupt, CorruptCache, FillDisk
from .limits import Limit
from .names import Dns
from .network import DelayQueries, Mutate, Network
from .packets import Packets, Partition, Saturate
from .syscall import Syscall

FAULTS: tuple[type[Fault], ...] = (
    Kill,
    Suspend,
    StarveCpu,
    Limit,
    FillDisk,
    Corrupt,
    CorruptCache,
    Syscall,
    Network,
    DelayQueries,
    LockDatabase,
    Mutate,
    Partition,
    Packets,
    Saturate,
    Dns,
    Together,
    Sequence,
)
"""In the order in which the catalogue lists them."""
