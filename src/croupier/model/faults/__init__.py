"""Every fault that comes with croupier, as data. Those of one family share a file; `inject/KIND.py` carries one out."""

from __future__ import annotations

from ..fault import Fault, Kill, Suspend
from .clock import Clock
from .combined import Sequence, Together
from .cpu import StarveCpu
from .database import DropConnections, LockDatabase
from .disk import Corrupt, CorruptCache, FillDisk
from .limits import Limit
from .network import DelayQueries, Mutate, Network
from .syscall import SlowIo, Syscall

FAULTS: tuple[type[Fault], ...] = (
    Kill,
    Suspend,
    StarveCpu,
    Limit,
    Clock,
    FillDisk,
    Corrupt,
    CorruptCache,
    Syscall,
    SlowIo,
    Network,
    DelayQueries,
    LockDatabase,
    DropConnections,
    Mutate,
    Together,
    Sequence,
)
"""In the order in which the catalogue lists them."""
