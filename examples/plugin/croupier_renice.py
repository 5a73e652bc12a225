"""A plugin: the fault `renice`, which has a process starve politely, and the probe `niceness`, which sees it.

A niceness belongs to a thread (Linux), goes from -20 to 19, and whoever is created inherits it. So the record holds
the niceness that each thread had, and healing also looks after threads and children that were born meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec

from croupier.inject import Act, Healing, Outcome, together
from croupier.model.fault import Fault
from croupier.model.guard import Permit
from croupier.model.noun import Noun
from croupier.model.probe import Asked, Probe, Reading
from croupier.model.target import Identity, Seen
from croupier.model.undo import UndoRecord
from croupier.model.units import Ms
from croupier.system import procs
from croupier.system.clock import now_us

NICEST = 19
# How often we look again for threads that were born while we were at it.
_WALKS = 8


# --- the fault: data, then what carries it out -----------------------------------------------------------------------


class Renice(Fault, Noun, tag="renice", tag_field="fault", frozen=True, kw_only=True):
    """Raise the niceness of a process, so that it gets the processor only when nobody else wants it."""

    kind: ClassVar[str] = "renice"

    by: Annotated[int, msgspec.Meta(ge=1, le=39)] = 10
    for_ms: Ms = msgspec.field(name="for", default=Ms(5_000))

    @property
    def lasting_ms(self) -> int:
        """How long it starves."""
        return self.for_ms


class ReniceInjector:
    """Carries out `renice`."""

    kind = "renice"
    spec: type[Fault] = Renice
    summary = "Raise the niceness of a process, so that it starves politely."
    needs = (
        "Linux, and the right to lower a niceness again: root, CAP_SYS_NICE, or a limit (RLIMIT_NICE) that allows it."
    )
    heals = "Each thread gets back the niceness that it had; threads and children born meanwhile get their parent's."
    example = "renice: {by: 10, for: 5s}"

    def lacking(self, fault: Any) -> str:
        """Everybody may raise a niceness; whether we may lower it again is tried out on a thread of our own."""
        if not procs.HAS_PROC:
            return "this system has no /proc, where the niceness of each thread is read"
        return _may_lower()

    def inject(self, permit: Permit, fault: Renice, act: Act) -> Outcome:
        """Raise every thread of each target; landed when all of them were seen to be raised."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        parts = [_starve(target, fault, act) for target in permit.targets]
        return together(parts, us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: Renice, act: Act) -> None:
        """A niceness stays by itself: nothing to keep up."""

    def heal(self, record: UndoRecord) -> Healing:
        """Put back what the record says, and look again."""
        if not procs.alive(record.who):
            return Healing(verified=True, note=f"nothing to give back: {record.who} is gone")
        troubles = _give_back(record)
        still = [thread for thread, _ in _disturbed(record)]
        if still:
            said = f"{len(still)} threads of {record.who} still have a raised niceness"
            return Healing(verified=False, note="; ".join([said, *troubles]))
        return Healing(verified=True)


class Thread(NamedTuple):
    """One thread, known by its number and start time together, and its niceness."""

    number: int
    started: int
    niceness: int


def _starve(target: Seen, fault: Renice, act: Act) -> Outcome:
    who = target.identity
    if not procs.alive(who):
        return Outcome(result="missed", detail=f"{target}: gone before it could be reniced")
    if act.halted:
        return Outcome(result="missed", detail=f"{target}: the round was halted first")
    if all(thread.niceness >= NICEST for thread in threads(who)):
        return Outcome(result="missed", detail=f"{target}: nobody is nicer than {NICEST}")
    record = _record(target, fault, act)
    for _ in range(_WALKS):
        known = {(number, started) for number, started, _ in record.data["threads"]}
        fresh = [thread for thread in threads(who) if (thread.number, thread.started) not in known]
        if not fresh:
            break
        # Whoever was born to a thread that we raised inherited that: what it should have is what its parent had.
        prior = [(one.number, one.started, _prior(one.niceness, record)) for one in fresh]
        record = msgspec.structs.replace(
            record, data={**record.data, "threads": [*record.data["threads"], *map(list, prior)]}
        )
        # First the record, with every thread that is about to change; then the change.
        act.intend(record)
        for number, started, niceness in prior:
            try:
                _set(Thread(number, started, niceness), _raised(niceness, fault.by))
            except OSError as error:
                return Outcome(result="unsure", detail=f"{target}: {error}")
    act.applied(record.key)
    return _seen(target, record)


def _record(target: Seen, fault: Renice, act: Act) -> UndoRecord:
    """A record with nobody in it yet. `since` is a moment in clock ticks: who was born later may have inherited."""
    newest = max((thread.started for thread in threads(target.identity)), default=target.identity.started)
    return UndoRecord(
        key=act.key(target),
        fault="renice",
        who=target.identity,
        data={"by": fault.by, "since": newest, "threads": []},
        deadline_us=now_us() + int(fault.for_ms) * 1_000,
    )


def _seen(target: Seen, record: UndoRecord) -> Outcome:
    wanted = {(number, started): _raised(prior, record.data["by"]) for number, started, prior in record.data["threads"]}
    found = threads(target.identity)
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as it was reniced")
    lax = [one for one in found if one.niceness != wanted.get((one.number, one.started), one.niceness)]
    if lax:
        return Outcome(
            result="unsure", detail=f"{target}: {len(lax)} of {len(found)} threads were not seen to be raised"
        )
    niceness = max(one.niceness for one in found)
    return Outcome(result="landed", detail=f"{target}: niceness {niceness} on {len(found)} threads")


def _give_back(record: UndoRecord) -> list[str]:
    """Lower whoever is still raised, past every error; the errors are the answer."""
    troubles: list[str] = []
    for _ in range(_WALKS):
        disturbed = list(_disturbed(record))
        if not disturbed:
            break
        for thread, prior in disturbed:
            try:
                _set(thread, prior)
            except OSError as error:
                troubles.append(f"thread {thread.number}: {error}")
        if troubles:
            break
    return troubles


def _disturbed(record: UndoRecord) -> Iterator[tuple[Thread, int]]:
    """Each thread that has a raised niceness from us, with the one that it should have.

    One whose niceness is neither what it was nor what we made of it has chosen for itself by now: that stays.
    """
    by, since = record.data["by"], record.data["since"]
    listed = {(number, started): prior for number, started, prior in record.data["threads"]}
    for who in (record.who, *procs.family(record.who.pid)):
        for thread in threads(who):
            prior = listed.get((thread.number, thread.started))
            if prior is None and thread.started >= since:
                prior = _prior(thread.niceness, record)
            if prior is not None and thread.niceness != prior and thread.niceness == _raised(prior, by):
                yield thread, prior


def _prior(niceness: int, record: UndoRecord) -> int:
    """What somebody with this niceness had before us: his own, unless it is one that we made."""
    made: dict[int, int] = {
        _raised(prior, record.data["by"]): prior for _, _, prior in reversed(record.data["threads"])
    }
    return made.get(niceness, niceness)


def _raised(niceness: int, by: int) -> int:
    return min(NICEST, niceness + by)


# --- the probe -------------------------------------------------------------------------------------------------------


class Niceness(Probe, Asked, tag="niceness", tag_field="probe", frozen=True, kw_only=True):
    """Nobody in a process's tree is nicer (or less nice) than this."""

    kind: ClassVar[str] = "niceness"

    of: str
    pick: Literal["main", "children", "tree"] = "tree"
    at_most: int = NICEST
    at_least: int = -20

    def subject(self) -> str:
        """Whose."""
        return f"of {self.of} {self.pick}"


class NicenessProber:
    """Reads `niceness`."""

    kind = "niceness"
    spec: type[Probe] = Niceness
    summary = "Nobody in a process's tree is nicer (or less nice) than this."
    example = "niceness: {of: web, at_most: 5}"

    def read(self, probe: Niceness, view: Any) -> Reading:
        """True and False are findings; whatever keeps us from looking is None."""
        try:
            found = [one for one in view.census() if one.role == probe.of and _is_picked(probe, one)]
            levels = [thread.niceness for one in found for thread in threads(one.identity)]
        except Exception as problem:
            return Reading(held=None, detail=f"the niceness of {probe.of} could not be read: {problem}")
        if not levels:
            return Reading(held=None, detail=f"nobody of {probe.of} ({probe.pick}) is alive")
        lowest, highest = min(levels), max(levels)
        said = f"niceness {lowest}" if lowest == highest else f"niceness {lowest} to {highest}"
        if probe.at_least <= lowest and highest <= probe.at_most:
            return Reading(held=True, detail=f"{probe.of} has {said}", values={"highest": highest})
        promised = f"promised was {probe.at_least} to {probe.at_most}"
        return Reading(held=False, detail=f"{probe.of} has {said}, {promised}", values={"highest": highest})


def _is_picked(probe: Niceness, one: Seen) -> bool:
    return {"main": one.main, "children": not one.main, "tree": True}[probe.pick]


# --- hands on the system ---------------------------------------------------------------------------------------------


def threads(who: Identity) -> list[Thread]:
    """Every live thread of exactly this process; none if it is gone, or another by now."""
    try:
        numbers = [int(one.name) for one in Path(f"/proc/{who.pid}/task").iterdir()]
    except OSError:
        return []
    found = [thread for thread in (_thread(who.pid, number) for number in sorted(numbers)) if thread]
    # Asked last: if it is the same process now, what was read before was its own as well.
    return found if procs.alive(who) else []


def _thread(pid: int, number: int) -> Thread | None:
    """One line of /proc/PID/task/TID/stat; fields 3 (state), 19 (nice) and 22 (start time) of proc(5)."""
    try:
        fields = Path(f"/proc/{pid}/task/{number}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    return Thread(number, int(fields[19]), int(fields[16]))


def _set(thread: Thread, niceness: int) -> None:
    """Set the niceness of exactly this thread; nothing happens if it is gone. Raises OSError where we may not."""
    now = _thread(thread.number, thread.number)
    if now is None or now.started != thread.started:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, thread.number, niceness)
    except ProcessLookupError:
        return


def _may_lower() -> str:
    """Why a niceness that was raised could not be lowered again; "" if it could.

    Capabilities, limits and user namespaces all have a say in it, so it is tried rather than worked out: on a thread
    that ends right after, and takes with it whatever could not be put back.
    """
    refusals: list[str] = []

    def attempt() -> None:
        mine = threading.get_native_id()
        before = os.getpriority(os.PRIO_PROCESS, mine)
        try:
            os.setpriority(os.PRIO_PROCESS, mine, min(NICEST, before + 1))
            os.setpriority(os.PRIO_PROCESS, mine, before)
        except OSError as error:
            refusals.append(
                f"a raised niceness could not be lowered again ({error.strerror}): that takes root, CAP_SYS_NICE,"
                " or RLIMIT_NICE (`ulimit -e 20`)"
            )

    trial = threading.Thread(target=attempt)
    trial.start()
    trial.join()
    return "".join(refusals)


RENICE = ReniceInjector()
NICENESS = NicenessProber()

# For `--plugin croupier_renice.py`; installed, the entry points in pyproject.toml name the two.
FAULTS = (RENICE,)
PROBES = (NICENESS,)
