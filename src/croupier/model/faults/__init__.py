"""Every fault that comes with croupier, as data. Those of one family share a file; `inject/KIND.py` carries one out."""

from __future__ import annotations

from ..fault import Fault, Kill, Suspend
from .clock import Clock
from .collector import GcPressure
from .combined import Sequence, Together
from .container import ExecInContainer, KillContainer, LimitContainer, PauseContainer, StopContainer
from .cpu import StarveCpu
from .database import DropConnections, LockDatabase
from .disk import Corrupt, CorruptCache, FillDisk
from .kubernetes import CordonNode, DeletePod, DrainNode, KillInPod
from .limits import ExhaustFds, ForkStorm, Limit
from .memory import StarveMemory
from .names import Dns
from .network import DelayQueries, Mutate, Network
from .packets import Packets, Partition, Saturate
from .ports import OccupyPort
from .syscall import SlowIo, Syscall
from .unit import FreezeUnit, KillUnit, LimitUnit, RestartUnit, StopUnit

FAULTS: tuple[type[Fault], ...] = (
    Kill,
    Suspend,
    StarveCpu,
    StarveMemory,
    GcPressure,
    Limit,
    ExhaustFds,
    ForkStorm,
    Clock,
    FillDisk,
    Corrupt,
    CorruptCache,
    Syscall,
    SlowIo,
    Network,
    DelayQueries,
    LockDatabase,
    OccupyPort,
    DropConnections,
    Mutate,
    Partition,
    Packets,
    Saturate,
    Dns,
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
