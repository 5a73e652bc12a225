"""Together: several faults at the same time, as one injection.

Each part is carried out by its own injector, with the hands and the permit of that part alone; here is only the
order of things. What a part leaves to be undone is that part's record, so that nobody needs to know of combinations
in order to heal one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from ..model.fault import Fault
from ..model.faults.combined import Together
from ..model.guard import Permit
from ..model.undo import Healing, UndoRecord
from . import Act, Outcome, together


class TogetherInjector:
    """Carries out `together`."""

    kind = "together"
    spec: type[Fault] = Together
    summary = "Several faults at the same time, as one injection."
    needs = "What its parts need."
    heals = "Each part as it is healed alone, when its own time is over."
    example = "together: [{suspend: {for: 2s}}, {kill: {signal: HUP}, after: 500ms}]"

    def lacking(self, fault: Together) -> str:
        """Nothing of its own: the round asks for each part."""
        return ""

    def inject(self, permit: Permit, fault: Together, act: Act) -> Outcome:
        """Carry every part out at its moment, each on a thread of its own."""
        outcomes: list[Outcome | None] = [None] * len(fault.of)

        def carry_out(nth: int) -> None:
            act.wait(int(fault.of[nth].after_ms))
            if act.halted:
                return
            outcomes[nth] = act.part(nth).inject()
            if _is_over_early(fault, nth):
                _keep(act, nth)

        _side_by_side(carry_out, range(len(fault.of)))
        return combined(outcomes)

    def hold(self, permit: Permit, fault: Together, act: Act) -> None:
        """Keep each part up, and heal it when its own time is over; the injection ends with the last."""
        still = [nth for nth in range(len(fault.of)) if not _is_over_early(fault, nth)]
        _side_by_side(lambda nth: _keep(act, nth), still)

    def heal(self, record: UndoRecord) -> Healing:
        """A combination keeps no records of its own."""
        return Healing(verified=True, note="its parts have the records")


def combined(outcomes: Sequence[Outcome | None]) -> Outcome:
    """One outcome for the parts: as for several targets, each told by its number; None was never begun."""
    missed = Outcome(result="missed", detail="the round was halted first")
    parts = [one or missed for one in outcomes]
    return together(
        Outcome(result=one.result, detail=f"part {nth}: {one.detail or one.result}")
        for nth, one in enumerate(parts, start=1)
    )


def _keep(act: Act, nth: int) -> None:
    part = act.part(nth)
    part.hold()
    if not act.halted:
        part.heal()


def _is_over_early(fault: Together, nth: int) -> bool:
    """Whether a part is to be healed before the last one has begun: then nobody waits for `hold` to do it."""
    return int(fault.of[nth].after_ms) + fault.of[nth].fault.lasting_ms < fault.busy_ms


def _side_by_side(work: Callable[[int], None], parts: Iterable[int]) -> None:
    threads = [threading.Thread(target=work, args=(nth,), name=f"croupier-part-{nth + 1}") for nth in parts]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


INJECTOR = TogetherInjector()
