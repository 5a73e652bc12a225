"""What a round leaves behind is said, even by a fault that claims to have undone it: the host itself is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from croupier.model import journal as j
from croupier.model.fingerprint import Fingerprint
from croupier.supervise import left_behind
from croupier.system import procs, signals

from .house import House, Playing, a_suspension, an_experiment, eventually, is_stopped

LITTERS = '''
"""A fault that makes its target nicer, and only says that it put that back."""
import os
from typing import ClassVar
import msgspec
from croupier.inject import Healing, Outcome
from croupier.model.fault import Fault
from croupier.model.noun import Noun
from croupier.model.undo import UndoRecord
from croupier.model.units import Ms
from croupier.system.clock import now_us

class Litter(Fault, Noun, tag="litter", tag_field="fault", frozen=True, kw_only=True):
    """Leave something behind."""
    kind: ClassVar[str] = "litter"
    for_ms: Ms = msgspec.field(name="for")

    @property
    def lasting_ms(self):
        return self.for_ms

class LitterInjector:
    kind, spec, summary, needs, heals = "litter", Litter, "Leave something behind.", "", "Not at all."
    example = "litter: {for: 1s}"

    def lacking(self, fault):
        return ""

    def inject(self, permit, fault, act):
        (target,) = permit.targets
        key = act.key(target)
        act.intend(UndoRecord(key=key, fault="litter", who=target.identity, deadline_us=now_us() + fault.for_ms * 1000))
        os.setpriority(os.PRIO_PROCESS, target.pid, 5)
        act.applied(key)
        return Outcome(result="landed")

    def hold(self, permit, fault, act):
        pass

    def heal(self, record):
        return Healing(verified=True)

FAULTS = [LitterInjector()]
'''


@pytest.fixture
def flags(house: House) -> tuple[str, ...]:
    (house.path / "litters.py").write_text(LITTERS)
    return "--plugin", "litters.py", "--live"


def hit(guest: int, lasts: str) -> dict[str, object]:
    injection = {"at": "50ms", "litter": {"for": lasts}, "target": {"process": "guest"}}
    return an_experiment(attach={"guest": {"pid": guest}}, injections=[injection], limits={"allow": ["guest"]})


def test_what_a_fault_left_behind_is_in_the_verdict_and_on_the_page(house: House, flags: tuple[str, ...]) -> None:
    guest = house.guest(["sleep", "300"])
    played = house.play(hit(guest.pid, "100ms"), *flags)
    (left,) = played.verdict.left_behind
    assert left == f"pid {guest.pid}: scheduling was 0 0 0, and is 5 0 0"
    assert f"left behind: {left}" in played.done.out
    assert "Left behind." in played.stored.run.report.read_text()
    assert played.events(j.RunEnded)[0].left_behind == (left,)
    after = left_behind.read(played.stored.path / left_behind.AFTER)
    assert isinstance(after, Fingerprint) and [one.who for one in after.processes] == [guest]


def test_recover_compares_with_the_fingerprint_from_before(house: House, flags: tuple[str, ...]) -> None:
    guest = house.guest(["sleep", "300"])
    playing = house.begin(hit(guest.pid, "60s"), *flags)
    playing.until(j.Concluded)
    kill_both(playing)
    recovered = house.croupier("recover")
    assert recovered.code == 0, recovered
    assert f"left behind: pid {guest.pid}: scheduling was 0 0 0, and is 5 0 0" in recovered.out


def kill_both(playing: Playing) -> None:
    running = playing.stored.running
    signals.send(running.guardian, "STOP")
    signals.send(running.croupier, "KILL")
    signals.send(running.guardian, "KILL")
    assert eventually(lambda: not procs.alive(running.guardian))


def test_a_round_that_puts_everything_back_says_nothing_of_it(house: House) -> None:
    guest = house.guest(["sleep", "300"])
    experiment = an_experiment(
        attach={"guest": {"pid": guest.pid}},
        injections=[a_suspension("50ms", lasts="100ms", process="guest")],
        limits={"allow": ["guest"]},
    )
    played = house.play(experiment, "--live")
    assert played.results() == ["landed"]
    assert played.verdict.left_behind == ()
    assert "left behind" not in played.done.said
    before = left_behind.read(played.stored.path / left_behind.BEFORE)
    assert before is not None and before.scope.processes == (guest,)
    assert not is_stopped(guest)
    assert Path(played.stored.path / left_behind.AFTER).exists()
