"""A crash during recovery: watch the check as the workload was watched, and keep the states that it goes through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..model.search import CrashPoint
from ..snapshot import Store
from .asking import check_command
from .place import Place
from .recording import record, restart


class _Recovery(Place):
    """The place of a search, where the check is what runs."""

    def workload(self) -> list[str]:
        return check_command(self, self.state)

    def environment(self, state: Path | None = None, acked: Path | None = None) -> dict[str, str]:
        return super().environment(self.state, self.acked)


def recoveries(place: Place, store: Store, parent: CrashPoint, output: bytes) -> Iterator[CrashPoint]:
    """The crash points of the check on the state of a crash point, the first and the last left out: those are known."""
    setting = msgspec.structs.replace(place.setting, until=(), timeout_ms=place.setting.check_timeout_ms, stdin="")
    inside = _Recovery(setting, place.root)
    restart(inside, store, parent.state)
    inside.acked.write_bytes(output)
    made = record(inside, store)
    seen = {parent.state}
    for nth, state in enumerate(made.states):
        if state in seen:
            continue
        seen.add(state)
        yield CrashPoint(
            id=f"{parent.id}r{nth}",
            after=parent.after,
            cut=parent.cut,
            acked=parent.acked,
            state=state,
            model=parent.model,
            depth=2,
            parent=parent.id,
        )
