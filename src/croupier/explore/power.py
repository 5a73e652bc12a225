"""The states that a power cut may leave, as trees in the store."""

from __future__ import annotations

from typing import NamedTuple

from ..model.power import power_states, whole_state
from ..model.search import CrashPoint, Model, PowerModel, SelfCheck, Setting, point_id
from ..snapshot import Store, assemble, entries_of
from ..snapshot.tree import changed, open_tree
from .recording import Recording

_MOST_STATES = 5_000
_MOST_POINTS = 4_000


class Spread(NamedTuple):
    """Crash points of a power cut."""

    points: list[CrashPoint]
    left_out: int
    self_checks: list[SelfCheck]


def points(made: Recording, store: Store, setting: Setting) -> Spread:
    """The crash points that the named model allows, within the budget."""
    name: PowerModel = "posix-strict" if setting.model.endswith("posix-strict") else "ext4-ordered"
    model: Model = "power:posix-strict" if name == "posix-strict" else "power:ext4-ordered"
    initial = entries_of(store, made.initial)
    count = len(made.operations) + 1
    some = [nth * count // _MOST_POINTS for nth in range(_MOST_POINTS)] if count > _MOST_POINTS else None
    most = setting.budget.states if setting.budget and setting.budget.states else _MOST_STATES
    found = power_states(made.operations, name, initial=initial, budget=most, points=some)
    width = max(4, len(str(count)))
    numbers: dict[int, int] = {}
    listed = []
    for state in found.states:
        numbers[state.after] = numbers.get(state.after, -1) + 1
        listed.append(
            CrashPoint(
                id=point_id(state.after, power=numbers[state.after], width=width),
                after=state.after,
                state=assemble(store, made.initial, state.entries),
                acked=made.acked[state.after],
                model=model,
                lost=state.lost,
            )
        )
    left_out = found.left_out + (count - len(some) if some is not None else 0)
    agreed = assemble(store, made.initial, whole_state(made.operations, initial))
    differing = [
        path.decode(errors="replace")
        for path, _, _ in changed(store, open_tree(store, agreed).top, open_tree(store, made.final).top)
    ]
    checks = [
        SelfCheck(
            name="the model understood the operations",
            held=not differing,
            detail="played again, they give the real tree"
            if not differing
            else f"it differs at {', '.join(differing[:5])}",
        ),
        SelfCheck(
            name=f"all of what {name} allows was looked at",
            held=None if left_out else True,
            detail=f"{left_out} combinations were left out; a budget widens it" if left_out else "",
            fatal=False,
        ),
    ]
    if found.unmodelled:
        checks.append(
            SelfCheck(name="every operation is in the model", held=False, detail="; ".join(found.unmodelled[:5]))
        )
    return Spread(sorted(listed, key=lambda one: (one.after, one.id)), left_out, checks)
