"""What comes with croupier and carries something out or puts it back, found by its name and loaded when it is needed.

The guardian heals by this alone: no plugin can be in the way, and only what is asked for is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .model.arrangement import ARRANGEMENTS
from .model.faults import FAULTS

if TYPE_CHECKING:
    from .arrange import Arranger
    from .inject import Healer, Injector

_FAULTS = frozenset(one.kind for one in FAULTS)
_ARRANGEMENTS = frozenset(one.kind for one in ARRANGEMENTS)


def injector(kind: str) -> Injector:
    """What carries out the built-in fault of this name."""
    found: Injector = _module("inject", kind).INJECTOR
    return found


def arranger(kind: str) -> Arranger:
    """What sets up the built-in arrangement of this name."""
    found: Arranger = _module("arrange", kind).ARRANGER
    return found


def healer(name: str) -> Healer | None:
    """What undoes the records of this name: a built-in fault's, or an arrangement's. None for anybody else's."""
    if name in _FAULTS:
        return injector(name)
    return arranger(name) if name in _ARRANGEMENTS else None


def _module(package: str, name: str) -> Any:
    return importlib.import_module(f"{__package__}.{package}.{name}")
