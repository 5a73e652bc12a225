"""Every fault that comes with croupier, as data. Those of one family share a file; `inject/KIND.py` carries one out."""

from __future__ import annotations

from ..fault import Fault, Kill, Suspend
from .combined import Sequence, Together
from .container import ExecInContainer, KillContainer, LimitContainer, PauseContainer, StopContainer
from .cpu import StarveCpu
from .database import LockDatabase
from .disk import Corrupt, CorruptCache, FillDisk
from .kubernetes import CordonNode, DeletePod, DrainNode, KillInPod
from .limits import Limit
from .network import DelayQueries, Mutate, Network
from .syscall import Syscall
from .unit import FreezeUnit, KillUnit, LimitUnit, RestartUnit, StopUnit

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
    KillUnit,
    FreezeUnit,
    StopUnit,
    RestartUnit,
    LimitUnit,
    KillContainer,
    PauseContainer,
    StopContainer,
    LimitContainer,
    ExecInContainer,
    DeletePod,
    KillInPod,
    CordonNode,
    DrainNode,
    Together,
    Sequence,
)
"""In the order in which the catalogue lists them."""
