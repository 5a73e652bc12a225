"""Network: have connections that go through a proxy be slow, cut to pieces, or cut off, for a while."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.network import Network
from ..model.guard import Permit
from ..model.undo import Healing, UndoRecord
from ..system import relay
from . import Act, Outcome, on_proxy


class NetworkInjector:
    """Carries out `network`."""

    kind = "network"
    spec: type[Fault] = Network
    summary = "Have connections through a proxy be slow, cut to pieces, or cut off, for a while."
    needs = "Linux; a proxy under `proxies` that the connection goes through."
    heals = "The rule is lifted, and seen to be; what waits goes on."
    example = "network: {proxy: db, latency: 200ms, jitter: 50ms, for: 3s}"

    def lacking(self, fault: Network) -> str:
        """Whether proxies can be spoken to."""
        return relay.lacking()

    def inject(self, permit: Permit, fault: Network, act: Act) -> Outcome:
        """Put the rule into force; landed when it was seen to act."""
        return on_proxy.concluded(*on_proxy.put_into_force(permit, fault, act))

    def hold(self, permit: Permit, fault: Network, act: Act) -> None:
        """A rule stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Lift it."""
        return on_proxy.heal(record)


INJECTOR = NetworkInjector()
