"""Delay queries: have every query to a database wait on the way there, by a proxy in front of it."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.network import DelayQueries
from ..model.guard import Permit
from ..model.undo import Healing, UndoRecord
from ..system import relay
from . import Act, Outcome, on_proxy


class DelayQueriesInjector:
    """Carries out `delay_queries`."""

    kind = "delay_queries"
    spec: type[Fault] = DelayQueries
    summary = "Have every query through a proxy wait before it gets there, for a while."
    needs = "Linux; a proxy under `proxies` in front of the database."
    heals = "The rule is lifted, and seen to be; queries that wait go on."
    example = "delay_queries: {proxy: db, least: 200ms, most: 500ms, for: 3s}"

    def lacking(self, fault: DelayQueries) -> str:
        """Whether proxies can be spoken to."""
        return relay.lacking()

    def inject(self, permit: Permit, fault: DelayQueries, act: Act) -> Outcome:
        """Put the rule into force; landed when a query was delayed."""
        return on_proxy.concluded(*on_proxy.put_into_force(permit, fault, act))

    def hold(self, permit: Permit, fault: DelayQueries, act: Act) -> None:
        """A rule stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Lift it."""
        return on_proxy.heal(record)


INJECTOR = DelayQueriesInjector()
