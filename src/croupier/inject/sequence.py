"""Sequence: several faults one after the other, as one injection; each is healed before the next begins."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.faults.combined import Sequence
from ..model.guard import Permit
from ..model.undo import Healing, UndoRecord
from . import Act, Outcome
from .together import combined


class SequenceInjector:
    """Carries out `sequence`."""

    kind = "sequence"
    spec: type[Fault] = Sequence
    summary = "Several faults one after the other, as one injection."
    needs = "What its parts need."
    heals = "Each part as it is healed alone, before the next begins."
    example = "sequence: [{suspend: {for: 500ms}}, {kill: {}, after: 100ms}]"

    def lacking(self, fault: Sequence) -> str:
        """Nothing of its own: the round asks for each part."""
        return ""

    def inject(self, permit: Permit, fault: Sequence, act: Act) -> Outcome:
        """Carry one part out after the other. A part that cannot be healed is the last: the next would hide it."""
        outcomes: list[Outcome | None] = [None] * len(fault.of)
        for nth, one in enumerate(fault.of):
            act.wait(int(one.after_ms))
            if act.halted:
                break
            part = act.part(nth)
            outcomes[nth] = part.inject()
            if nth == len(fault.of) - 1:
                break
            part.hold()
            if act.halted:
                break
            unhealed = [healing.note for healing in part.heal() if not healing.verified]
            if unhealed:
                return Outcome(result="unsure", detail=f"part {nth + 1} could not be healed: {'; '.join(unhealed)}")
        return combined(outcomes)

    def hold(self, permit: Permit, fault: Sequence, act: Act) -> None:
        """Keep the last part up; the others are over."""
        act.part(len(fault.of) - 1).hold()

    def heal(self, record: UndoRecord) -> Healing:
        """A combination keeps no records of its own."""
        return Healing(verified=True, note="its parts have the records")


INJECTOR = SequenceInjector()
