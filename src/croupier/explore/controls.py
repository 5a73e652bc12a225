"""The guards against a false "nothing found", and the verdict that they allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..model.search import CrashPoint, Ending, Finding, Group, SelfCheck, Setting
from ..snapshot import Store, cut_file, weigh
from ..snapshot.tree import changed, open_tree
from .asking import Answer, Asker, Job
from .recording import Recording

CHANGES = "the workload changed its state"
SEEN = "every change was seen"
CAN_FAIL = "the check can fail"
NO_CRASH = "the check passes where nothing crashed"
ACKNOWLEDGED = "the workload acknowledged something"
ENDED = "the workload ended by itself"
OUTSIDE = "nothing was changed outside of the state"
AIM = "a kill lands where it is aimed"
BUDGET = "the budget reached an acknowledgement"
_BLINDING = ("another architecture", "not seen", "unseen", "could not be")
_MOST_TORN = 24


def of_recording(made: Recording, setting: Setting) -> list[SelfCheck]:
    """What the recording itself tells."""
    traced = made.traced
    assert traced is not None
    inside = [one for one in made.operations if one.kind not in ("output", "sync")]
    outside = ", ".join(sorted(made.outside)[:5]) + (
        f" and {len(made.outside) - 5} more" if len(made.outside) > 5 else ""
    )
    blind = [one for one in traced.blind if any(word in one for word in _BLINDING)]
    unseen = [*made.unannounced[:5], *made.unreadable]
    code = f"it ended with {traced.code}" if traced.code is not None else f"signal {traced.signal} ended it"
    ended = traced.ended in ("by itself", "lingering")
    return [
        SelfCheck(
            name=CHANGES,
            held=bool(inside),
            detail=f"{len(inside)} operations"
            if inside
            else f"no call changed anything in it{'; it wrote to ' + outside if outside else ''}; its path is in"
            f" CROUPIER_STATE, and {code}",
        ),
        SelfCheck(
            name=SEEN,
            held=not unseen and not blind,
            detail="the last snapshot is the real tree"
            if not unseen and not blind
            else "; ".join([*(f"{one} changed unseen" for one in unseen), *blind]),
        ),
        SelfCheck(
            name=ENDED,
            held=ended and traced.code == 0,
            detail=code if ended else f"it was ended: {traced.ended} after {setting.timeout_ms / 1000:g} s",
            fatal=not ended,
        ),
        SelfCheck(
            name=ACKNOWLEDGED,
            held=bool(made.output),
            detail=f"{made.lines} lines"
            if made.output
            else "it printed nothing, so nothing is known of durability: only that what is there recovers",
            fatal=False,
        ),
        SelfCheck(name=OUTSIDE, held=not made.outside, detail=outside or "nothing was", fatal=False),
        *(SelfCheck(name="watching", held=None, detail=one, fatal=False) for one in traced.blind if one not in blind),
    ]


def of_answers(
    made: Recording,
    store: Store,
    asks: Asker,
    checked: Sequence[CrashPoint],
    held: Mapping[tuple[str, int], bool],
    spent: bool,
) -> list[SelfCheck]:
    """Positive control, the state without a crash, and whether the budget got anywhere."""
    found = [_can_fail(made, store, asks, held)]
    last = held.get((made.final, made.acked[-1]))
    if last is None:
        last = next(iter(asks.ask([Job(0, made.final, made.acked[-1])]))).held
    found.append(
        SelfCheck(
            name=NO_CRASH,
            held=last,
            detail="on the state that the workload left"
            if last
            else "the check fails on the state that the workload left by itself: look at that before any crash",
            fatal=False,
        )
    )
    if spent:
        acked = any(one.acked for one in checked)
        found.append(
            SelfCheck(
                name=BUDGET,
                held=acked or not made.output,
                detail="" if acked else "it was spent before the first acknowledgement",
            )
        )
    return found


def _can_fail(made: Recording, store: Store, asks: Asker, held: Mapping[tuple[str, int], bool]) -> SelfCheck:
    """A check that accepts a broken state accepts everything: show it states that are known to be broken."""
    failed = sum(not one for one in held.values())
    if failed:
        return SelfCheck(name=CAN_FAIL, held=True, detail=f"it fails on {failed} of {len(held)} states")
    broken: list[str] = []
    if made.output and made.initial != made.final:
        broken.append(made.initial)
    for path in _touched_files(made, store):
        entry_state = cut_file(store, made.final, path, _half(store, made.final, path))
        if entry_state != made.final:
            broken.append(entry_state)
    if not broken:
        return SelfCheck(name=CAN_FAIL, held=None, detail="there is no file in the final state that could be torn")
    store.flush()
    jobs = [Job(nth, state, made.acked[-1]) for nth, state in enumerate(broken)]
    answers = list(asks.ask(jobs))
    if any(not one.held for one in answers):
        return SelfCheck(
            name=CAN_FAIL,
            held=True,
            detail=f"it fails on {sum(not one.held for one in answers)} of {len(broken)} states broken on purpose",
        )
    return SelfCheck(
        name=CAN_FAIL,
        held=False,
        detail=f"it passed on {len(broken)} states that were broken on purpose (files cut in half,"
        " everything acknowledged taken away): the check is vacuous",
    )


def _touched_files(made: Recording, store: Store) -> list[str]:
    import os
    import stat

    before, now = open_tree(store, made.initial), open_tree(store, made.final)
    paths = [
        os.fsdecode(path)
        for path, _, row in changed(store, before.top, now.top)
        if row is not None and stat.S_ISREG(row.entry.mode) and row.entry.size
    ]
    return paths[:_MOST_TORN]


def _half(store: Store, state: str, path: str) -> int:
    import os

    from ..snapshot.tree import find

    row = find(store, open_tree(store, state).top, tuple(os.fsencode(path).split(b"/")))
    return row.entry.size // 2 if row else 0


def verdict(
    findings: Sequence[Finding], groups: Sequence[Group], checks: Iterable[SelfCheck], answers: Iterable[Answer]
) -> tuple[Ending, tuple[str, ...]]:
    """What may be said, and why."""
    contradicted = {group.number for group in groups if group.confirmed is False}
    real = [one for one in findings if one.group not in contradicted]
    said = list(answers)
    checks = list(checks)
    if real and said and not any(one.held for one in said):
        return "unknown", (
            f"the check fails on every state, the one without a crash too: {said[0].reason or 'it gives no reason'}",
        )
    if real:
        reasons = tuple(
            f"{group.count} × {group.cause} ({group.first}: {group.reason})"
            for group in groups
            if group.confirmed is not False
        )
        return "violated", reasons
    doubts = tuple(
        f"{one.name}: {'no, ' if one.held is False else 'not known, '}{one.detail}"
        for one in checks
        if one.fatal and one.held is not True
    )
    if findings:
        doubts += ("there are only findings that a real kill contradicts",)
    if doubts:
        return "unknown", doubts
    return "held", ()


__all__ = ["AIM", "CHANGES", "of_answers", "of_recording", "verdict", "weigh"]
