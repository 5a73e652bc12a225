"""A strike's hands: they reach whom the permit covers, let go when halted, and let everybody go in time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hands import SLEEPS, a_permit, eventually, started

from croupier.inject import Act, Healing, Outcome
from croupier.model import journal as j
from croupier.model.course import Attempt
from croupier.model.errors import HarnessError
from croupier.model.experiment import Limits
from croupier.model.fault import Suspend
from croupier.model.guard import Permit
from croupier.model.plan import At, Injection
from croupier.model.target import Census, Identity, Seen, Selector
from croupier.model.undo import UndoRecord, UndoStep
from croupier.model.units import Ms
from croupier.run.loop import Loop
from croupier.run.strike import Strike
from croupier.run.strikes import Strikes
from croupier.system import procs
from croupier.system.clock import now_us


class Keeps:
    """A guardian that writes down what it is told, in the order of its coming."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.on_hold: Callable[[], None] = lambda: None

    def hold(self, record: UndoRecord) -> None:
        self.told.append(f"intent {record.key}")
        self.on_hold()

    def step(self, *steps: UndoStep) -> None:
        self.told += [f"{one.state} {one.key}" for one in steps]

    def heal_begun(self, keys: Sequence[str]) -> None:
        self.told.append(f"begun {' '.join(keys)}")


def a_strike(permit: Permit, keeper: Keeps, below: Census = ()) -> Strike:
    floor: Any = SimpleNamespace(env={}, base=Path(), keeper=keeper)
    return Strike(floor, permit, 0, lambda top: below, lambda strike: None)


def a_record(who: Identity, key: str = "1.1", lasts_ms: int = 60_000) -> UndoRecord:
    return UndoRecord(key=key, fault="suspend", who=who, deadline_us=now_us() + lasts_ms * 1_000)


LONG = Suspend(for_ms=Ms(60_000))


def test_hands_reach_nobody_beyond_the_permit() -> None:
    with started(*SLEEPS) as target, started(*SLEEPS) as other:
        strike = a_strike(a_permit(LONG, target), Keeps())
        with pytest.raises(PermissionError, match="not in the permit"):
            strike.signal(other, "KILL")
        with pytest.raises(PermissionError, match="not in the permit"):
            strike.intend(a_record(other))
        assert (strike.records, strike.reached) == ((), set())
        assert procs.alive(other)


def test_hands_reach_those_below_a_target_whom_the_guard_lets_them_have() -> None:
    with started(*SLEEPS) as target, started(*SLEEPS) as free, started(*SLEEPS) as denied:
        rows = [
            Seen(identity=one, parent=target.pid, name=name, state="S", order=1, ours=True)
            for one, name in ((free, "free"), (denied, "denied"))
        ]
        permit = a_permit(LONG, target, limits=Limits(deny=("denied",)))
        strike = a_strike(permit, Keeps(), tuple(rows))
        below = strike.below(permit.targets[0])
        assert [one.name for one in below.free] == ["free"]
        assert strike.signal(free, "KILL")
        with pytest.raises(PermissionError):
            strike.signal(denied, "KILL")
        assert eventually(lambda: not procs.alive(free))
        assert procs.alive(denied)


def test_a_halted_strike_sends_no_signal_and_begins_nothing() -> None:
    with started(*SLEEPS) as target:
        keeper = Keeps()
        strike = a_strike(a_permit(LONG, target), keeper)
        strike.halt()
        assert not strike.signal(target, "KILL")
        with pytest.raises(HarnessError, match="halted"):
            strike.intend(a_record(target))
        assert (keeper.told, strike.reached) == ([], set())
        assert procs.alive(target)


def test_a_halt_while_a_record_is_written_keeps_the_change_from_being_made() -> None:
    with started(*SLEEPS) as target:
        keeper = Keeps()
        strike = a_strike(a_permit(LONG, target), keeper)
        keeper.on_hold = strike.halt
        with pytest.raises(HarnessError, match="halted"):
            strike.intend(a_record(target))
        assert [one.key for one in strike.records] == ["1.1"], "it is open in the log, and has to be closed"


def test_a_record_takes_the_place_of_the_one_before_of_its_key() -> None:
    with started(*SLEEPS) as target:
        strike = a_strike(a_permit(LONG, target), Keeps())
        strike.intend(a_record(target))
        later = a_record(target, lasts_ms=70_000)
        strike.intend(later)
        assert strike.records == (later,)


# --- a fault on many -------------------------------------------------------------------------------------------------


class Slow:
    """A host on which each target takes a while, as a disk that is written through makes it."""

    rehearsed = False

    def __init__(self, told: list[str], pace_ms: int, lasts_ms: int) -> None:
        self.told, self.pace_ms, self.lasts_ms = told, pace_ms, lasts_ms
        self.deadlines: list[int] = []
        self.healed_us: list[int] = []
        self.stuck = threading.Event()

    def inject(self, permit: Permit, act: Act) -> Outcome:
        for one in permit.targets:
            record = a_record(one.identity, act.key(one), self.lasts_ms)
            try:
                act.intend(record)
            except HarnessError:
                break
            self.deadlines.append(record.deadline_us)
            act.wait(self.pace_ms)
        return Outcome(result="landed")

    def hold(self, permit: Permit, act: Act) -> None:
        pass

    def heal(self, record: UndoRecord) -> Healing:
        self.told.append(f"heal {record.key}")
        self.healed_us.append(now_us())
        return Healing(verified=True)


@pytest.fixture
def several() -> Iterator[Census]:
    with started(*SLEEPS) as one, started(*SLEEPS) as two, started(*SLEEPS) as three:
        yield a_permit(LONG, one, two, three).targets


def play(several: Census, host: Slow, keeper: Keeps) -> None:
    """One injection on all of them, until it is healed."""
    loop = Loop()
    injection = Injection(number=1, trigger=At(at_ms=0), fault=LONG, target=Selector(count="all"), lot=0)

    def record(event: j.Event) -> None:
        if isinstance(event, j.Healed):
            loop.stop()

    floor: Any = SimpleNamespace(
        loop=loop,
        keeper=keeper,
        host=host,
        record=record,
        env={},
        base=Path(),
        now_ms=0,
        live=False,
        plan=SimpleNamespace(injections=(injection,)),
        experiment=SimpleNamespace(limits=Limits()),
        journal=SimpleNamespace(zero_us=0),
        redactor=SimpleNamespace(clean=str),
        tell=lambda happening: None,
    )
    nothing: Callable[..., None] = lambda *args, **options: None  # noqa: E731
    watch: Any = SimpleNamespace(
        roles={},
        groups={},
        limits=Limits,
        wanted=frozenset,
        census_for=lambda target: several,
        bound=lambda one: one,
        census_taken=nothing,
        about_to_strike=nothing,
        struck=nothing,
        healed=nothing,
    )
    Strikes(floor, watch).attempt(Attempt(injection=1))
    loop.after(20_000, loop.stop)
    loop.run()
    loop.close()


def test_all_are_let_go_at_the_first_deadline_before_any_of_it_is_written_down(several: Census) -> None:
    keeper = Keeps()
    host = Slow(keeper.told, pace_ms=60, lasts_ms=400)
    play(several, host, keeper)
    intents, begun, undone = keeper.told[:3], keeper.told[3], keeper.told[4:]
    keys = [line.split()[1] for line in intents]
    assert begun == f"begun {' '.join(keys)}", "the guardian is told before the first"
    newest_first = keys[::-1]
    assert undone == [f"{word} {key}" for word in ("heal", "verified") for key in newest_first]
    # Whoever came last stands still for less, so that nobody stands still for longer than was asked.
    assert host.deadlines[0] <= host.healed_us[0] < host.deadlines[1] + 20_000


def test_all_are_let_go_at_the_first_deadline_even_while_others_are_still_to_come(several: Census) -> None:
    keeper = Keeps()
    host = Slow(keeper.told, pace_ms=300, lasts_ms=400)
    play(several, host, keeper)
    told = [line.split()[0] for line in keeper.told]
    assert told == ["intent"] * 2 + ["begun"] + ["heal"] * 2 + ["verified"] * 2
    assert 0 <= host.healed_us[0] - host.deadlines[0] < 200_000
