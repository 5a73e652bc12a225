"""Every fault that comes with croupier, as data. Those of one family share a file; `inject/KIND.py` carries one out."""

from __future__ import annotations

from ..fault import Fault, Kill, Suspend

FAULTS: tuple[type[Fault], ...] = (
    Kill,
    Suspend,
)
"""In the order in which the catalogue lists them."""
