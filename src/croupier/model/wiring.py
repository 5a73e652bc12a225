"""Wiring: what a network of the round was made of, as data that leads whoever needs it to its namespaces."""

from __future__ import annotations

from .noun import Noun
from .target import Identity


class Place(Noun, frozen=True, kw_only=True):
    """Where a process is to live."""

    network: str
    """Its network namespace, as a path."""
    files: dict[str, str] = {}
    """Files that it sees others in place of, in a mount namespace of its own: path to path."""


class Home(Noun, frozen=True, kw_only=True):
    """One network namespace, kept by a process of ours that does nothing else."""

    name: str
    """Who lives there: a process, the workload, croupier; "" for the hub."""
    address: str
    keeper: Identity
    port: str = ""
    """The hub's end of its wire, as an interface of the hub is called."""


class Wiring(Noun, frozen=True, kw_only=True):
    """A network: a router in the middle, the hub, with a wire to every home."""

    name: str
    range: str
    """All of its addresses, as `a.b.c.d/bits`."""
    hub: Home
    homes: tuple[Home, ...]
    files: dict[str, str] = {}
    """What everybody who lives there sees another file in place of."""

    def home(self, name: str) -> Home | None:
        """Where somebody of this name lives."""
        return next((one for one in self.homes if one.name == name), None)
