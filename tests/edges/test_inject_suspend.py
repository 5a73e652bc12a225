"""Suspending: written down first, seen to stand still, let go on, and never anybody else's stop undone."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hands import SLEEPS, Hands, a_permit, eventually, identity, python, started

from croupier.inject import Outcome
from croupier.inject.suspend import INJECTOR
from croupier.model.experiment import Limits
from croupier.model.fault import Duty, Suspend
from croupier.model.target import Identity, Selector
from croupier.model.undo import UndoRecord
from croupier.model.units import Ms
from croupier.system import freezer, procs, signals

LONG = Ms(60_000)
THREADED = python(
    "import threading,time\n"
    "for _ in range(5): threading.Thread(target=time.sleep, args=(300,), daemon=True).start()\n"
    "print('ready', flush=True)\ntime.sleep(300)"
)
FAMILY = python("import os,time\nos.fork() or os.fork()\nos.write(1, b'ready\\n')\ntime.sleep(300)")
KIN = {"CROUPIER_TEST_KIN": str(os.getpid())}
"""What the families of this worker's tests carry, and nobody else's."""


def suspend(fault: Suspend, *who: Identity, hands: Hands | None = None) -> tuple[Outcome, Hands]:
    hands = hands or Hands()
    return INJECTOR.inject(a_permit(fault, *who), fault, hands), hands


def heal_all(hands: Hands) -> list[bool]:
    return [INJECTOR.heal(record).verified for record in reversed(hands.records)]


@pytest.fixture
def kin() -> Iterator[None]:
    """Ends what a forking target leaves behind when only its main process is killed."""
    yield
    for who in procs.marked(f"CROUPIER_TEST_KIN={KIN['CROUPIER_TEST_KIN']}"):
        signals.send(who, "CONT")
        signals.send(who, "KILL")


def test_all_threads_of_the_target_stand_still_and_go_on_again() -> None:
    with started(*THREADED, ready=b"ready") as who:
        assert len(procs.thread_states(who)) == 6
        outcome, hands = suspend(Suspend(for_ms=LONG), who)
        assert outcome.result == "landed"
        assert set(procs.thread_states(who)) == {"T"}
        assert heal_all(hands) == [True]
        assert "T" not in procs.thread_states(who)


def test_the_intent_is_written_before_the_signal() -> None:
    with started(*SLEEPS) as who:
        _, hands = suspend(Suspend(for_ms=LONG), who)
        assert hands.steps == [f"intent 1.{who.pid}", f"STOP {who.pid}", f"applied 1.{who.pid}"]
        (record,) = hands.records
        assert record.who == who
        assert 0 < record.deadline_us - time.monotonic_ns() // 1_000 <= 60_000_000
        heal_all(hands)


def test_an_intent_that_cannot_be_kept_leaves_the_target_running() -> None:
    with started(*SLEEPS) as who:
        outcome, hands = suspend(Suspend(for_ms=LONG), who, hands=Hands(refuses=True))
        assert outcome.result == "missed"
        assert hands.steps == []
        assert procs.state_of(who) in ("R", "S")


def test_a_target_that_was_stopped_by_somebody_else_is_missed_and_stays_stopped() -> None:
    with started(*SLEEPS) as who:
        signals.send(who, "STOP")
        assert eventually(lambda: procs.state_of(who) == "T")
        outcome, hands = suspend(Suspend(for_ms=LONG), who)
        assert (outcome.result, "somebody else" in outcome.detail) == ("missed", True)
        assert hands.records == []
        assert procs.state_of(who) == "T"


def test_a_target_that_is_gone_is_missed() -> None:
    with started(*SLEEPS) as who:
        permit = a_permit(Suspend(for_ms=LONG), who)
    hands = Hands()
    assert INJECTOR.inject(permit, Suspend(for_ms=LONG), hands).result == "missed"
    assert hands.records == []


def test_a_target_that_dies_between_intent_and_signal_is_missed_and_heals() -> None:
    class Dies(Hands):
        def signal(self, who: Identity, name: str) -> bool:
            signals.send(who, "KILL")
            assert eventually(lambda: not procs.alive(who))
            return super().signal(who, name)

    with started(*SLEEPS) as who:
        outcome, hands = suspend(Suspend(for_ms=LONG), who, hands=Dies())
        assert outcome.result == "missed"
        healing = INJECTOR.heal(hands.records[0])
        assert healing.verified
        assert "is gone" in healing.note


def test_healing_twice_is_as_good_as_once() -> None:
    with started(*SLEEPS) as who:
        _, hands = suspend(Suspend(for_ms=LONG), who)
        assert heal_all(hands) == heal_all(hands) == [True]
        assert procs.alive(who)


def test_an_intent_that_was_never_carried_out_heals() -> None:
    with started(*SLEEPS) as who:
        record = UndoRecord(
            key="1.1",
            fault="suspend",
            who=who,
            deadline_us=0,
            data={"how": "stop", "members": [[who.pid, who.started]]},
        )
        assert INJECTOR.heal(record).verified


def test_healing_never_touches_the_next_owner_of_a_number() -> None:
    with started(*SLEEPS) as who:
        signals.send(who, "STOP")
        assert eventually(lambda: procs.state_of(who) == "T")
        before = Identity(pid=who.pid, started=who.started - 1, boot=who.boot)
        record = UndoRecord(
            key="1.1", fault="suspend", who=before, deadline_us=0, data={"members": [[who.pid, who.started - 1]]}
        )
        healing = INJECTOR.heal(record)
        assert healing.verified
        assert "gone" in healing.note
        assert procs.state_of(who) == "T"


def test_one_that_is_stopped_over_and_over_is_not_called_healed() -> None:
    over = threading.Event()

    def stop_it(who: Identity) -> None:
        while not over.is_set():
            signals.send(who, "STOP")

    with started(*SLEEPS) as who:
        _, hands = suspend(Suspend(for_ms=LONG), who)
        thread = threading.Thread(target=stop_it, args=(who,))
        thread.start()
        try:
            # What matters: it is never claimed while the process stands still at that moment.
            seen = [INJECTOR.heal(hands.records[0]) for _ in range(3)]
            assert all(one.verified or "still stopped" in one.note for one in seen)
        finally:
            over.set()
            thread.join()
        assert heal_all(hands) == [True]


def test_a_tree_is_stopped_and_let_go_as_a_whole(kin: None) -> None:
    with started(*FAMILY, ready=b"ready", env=KIN) as who:
        assert eventually(lambda: len(procs.family(who.pid)) == 2)
        outcome, hands = suspend(Suspend(for_ms=LONG, tree=True), who)
        assert outcome.result == "landed"
        everybody = [who, *procs.family(who.pid)]
        assert [procs.state_of(one) for one in everybody] == ["T"] * 3
        assert all(heal_all(hands))
        assert "T" not in [procs.state_of(one) for one in everybody]


def family_with(left_alone: Callable[[Identity], Limits], fault: Suspend) -> tuple[list[str], list[str], str]:
    """Suspend a tree where the limits bar one below its target: the letters of all while it lasts and after."""
    with started(*FAMILY, ready=b"ready", env=KIN) as who:
        assert eventually(lambda: len(procs.family(who.pid)) == 2)
        spared, other = procs.family(who.pid)
        permit = a_permit(fault, who, limits=left_alone(spared))
        hands = Hands(permit=permit)
        homes = [Path(f"/proc/{one.pid}/cgroup").read_text() for one in (who, other, spared)]
        outcome = INJECTOR.inject(permit, fault, hands)
        assert outcome.result == "landed", outcome.detail
        held = [procs.state_of(one) for one in (who, other, spared)]
        assert Path(f"/proc/{spared.pid}/cgroup").read_text() == homes[2]
        assert all(spared.pid != pid for record in hands.records for pid, _ in record.data["members"])
        assert all(heal_all(hands))
        assert [Path(f"/proc/{one.pid}/cgroup").read_text() for one in (who, other, spared)] == homes
        return held, [procs.state_of(one) for one in (who, other, spared)], outcome.detail


def test_one_on_the_deny_list_is_left_alone_below_a_target_whose_tree_is_stopped(kin: None) -> None:
    held, after, detail = family_with(
        lambda spared: Limits(deny=(Selector(pid=spared.pid),)), Suspend(for_ms=LONG, tree=True)
    )
    assert (held[:2], held[2] == "T") == (["T", "T"], False)
    assert "T" not in after
    assert "with 1 below it" in detail and "on the deny list" in detail


def test_a_descendant_that_was_stopped_by_somebody_else_stays_stopped(kin: None) -> None:
    with started(*FAMILY, ready=b"ready", env=KIN) as who:
        assert eventually(lambda: len(procs.family(who.pid)) == 2)
        theirs = procs.family(who.pid)[0]
        signals.send(theirs, "STOP")
        assert eventually(lambda: procs.state_of(theirs) == "T")
        _, hands = suspend(Suspend(for_ms=LONG, tree=True), who)
        assert all(heal_all(hands))
        assert procs.state_of(theirs) == "T"


def test_without_tree_the_children_run_on(kin: None) -> None:
    with started(*FAMILY, ready=b"ready", env=KIN) as who:
        assert eventually(lambda: len(procs.family(who.pid)) == 2)
        _, hands = suspend(Suspend(for_ms=LONG), who)
        assert "T" not in {procs.state_of(one) for one in procs.family(who.pid)}
        heal_all(hands)


def test_a_duty_cycle_stops_and_lets_go_until_its_time_is_over() -> None:
    fault = Suspend(for_ms=Ms(600), duty=Duty(on_ms=Ms(60), off_ms=Ms(60)))
    with started(*SLEEPS) as who:
        permit, hands = a_permit(fault, who), Hands()
        assert INJECTOR.inject(permit, fault, hands).result == "landed"
        seen: list[str] = []
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                state = procs.state_of(who)
                if not seen or seen[-1] != state:
                    seen.append(state)
                time.sleep(0.002)

        thread = threading.Thread(target=watch)
        thread.start()
        began = time.monotonic()
        INJECTOR.hold(permit, fault, hands)
        took = time.monotonic() - began
        over.set()
        thread.join()
        assert heal_all(hands) == [True]
        assert procs.state_of(who) in ("R", "S")
        assert seen.count("T") >= 3
        assert 0.3 < took < 1.5
        # One record, open all the while: nothing in between could be forgotten.
        assert len(hands.records) == 1


def test_a_halt_ends_a_duty_cycle() -> None:
    fault = Suspend(for_ms=LONG, duty=Duty(on_ms=Ms(10), off_ms=Ms(10)))
    with started(*SLEEPS) as who:
        permit, hands = a_permit(fault, who), Hands()
        INJECTOR.inject(permit, fault, hands)
        thread = threading.Thread(target=INJECTOR.hold, args=(permit, fault, hands))
        thread.start()
        hands.halted = True
        thread.join(timeout=5)
        assert not thread.is_alive()
        assert heal_all(hands) == [True]


def test_a_duty_cycle_of_a_target_that_was_missed_touches_nobody() -> None:
    fault = Suspend(for_ms=Ms(200), duty=Duty(on_ms=Ms(10), off_ms=Ms(10)))
    with started(*SLEEPS) as who:
        signals.send(who, "STOP")
        assert eventually(lambda: procs.state_of(who) == "T")
        permit, hands = a_permit(fault, who), Hands()
        assert INJECTOR.inject(permit, fault, hands).result == "missed"
        INJECTOR.hold(permit, fault, hands)
        assert procs.state_of(who) == "T"


# --- the freezer -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A version of cgroups that this machine has, and this user may write to."""
    wanted: freezer.Version = request.param
    real = freezer.cell_for
    if real(os.getpid(), "x", (wanted,)) is None:
        pytest.skip(f"no freezer of cgroups v{wanted} may be written here (run as root)")
    monkeypatch.setattr(freezer, "cell_for", lambda pid, name: real(pid, name, (wanted,)))
    return wanted


def test_the_freezer_stops_its_target_and_nobody_else(version: int) -> None:
    ticks = python("import time\nwhile True:\n print('tick', flush=True)\n time.sleep(0.005)")
    process = subprocess.Popen(ticks, stdout=subprocess.PIPE)
    assert process.stdout is not None
    who = procs.identity(process.pid)
    assert who is not None
    home = Path(f"/proc/{who.pid}/cgroup").read_text()
    os.set_blocking(process.stdout.fileno(), False)
    try:
        assert eventually(lambda: process.stdout and process.stdout.read())
        fault = Suspend(for_ms=LONG, how="freezer")
        outcome, hands = suspend(fault, who)
        assert outcome.result == "landed", outcome.detail
        assert "frozen" in outcome.detail
        process.stdout.read()
        # It would tick ten times in this time; there is no condition to wait for in nothing happening.
        time.sleep(0.05)
        assert not process.stdout.read()
        cell = freezer.Cell(*hands.records[0].data["cell"])
        assert Path(cell.path).is_dir()
        assert heal_all(hands) == [True]
        assert not Path(cell.path).exists()
        assert eventually(lambda: process.stdout and process.stdout.read())
        assert Path(f"/proc/{who.pid}/cgroup").read_text() == home
        assert heal_all(hands) == [True]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_frozen_target_that_is_killed_heals_with_a_note(version: int) -> None:
    with started(*SLEEPS) as who:
        _, hands = suspend(Suspend(for_ms=LONG, how="freezer"), who)
        signals.send(who, "KILL")
        healing = INJECTOR.heal(hands.records[0])
        assert healing.verified, healing.note
        assert not Path(hands.records[0].data["cell"][1]).exists()
        assert eventually(lambda: not procs.alive(who))


def test_a_freeze_that_was_only_intended_heals(version: int) -> None:
    class Stops(Hands):
        def intend(self, record: UndoRecord) -> None:
            super().intend(record)
            raise OSError("killed in the middle")

    with started(*SLEEPS) as who:
        outcome, hands = suspend(Suspend(for_ms=LONG, how="freezer"), who, hands=Stops())
        assert outcome.result == "missed"
        assert heal_all(hands) == [True]


def test_what_somebody_else_froze_is_missed(version: int) -> None:
    with started(*SLEEPS) as who:
        theirs = freezer.cell_for(who.pid, "of-somebody-else")
        assert theirs is not None
        freezer.confine(theirs, [who])
        freezer.freeze(theirs)
        assert eventually(lambda: freezer.is_frozen(theirs.path, theirs.version))
        outcome, _ = suspend(Suspend(for_ms=LONG, how="freezer"), who)
        assert outcome.result == "missed"
        assert freezer.is_frozen(theirs.path, theirs.version)
        assert freezer.dissolve(theirs) == ""


def test_a_frozen_tree_holds_its_children_and_a_duty_cycle_lets_them_breathe(version: int, kin: None) -> None:
    fault = Suspend(for_ms=Ms(300), how="freezer", tree=True, duty=Duty(on_ms=Ms(40), off_ms=Ms(40)))
    with started(*FAMILY, ready=b"ready", env=KIN) as who:
        assert eventually(lambda: len(procs.family(who.pid)) == 2)
        permit, hands = a_permit(fault, who), Hands()
        assert INJECTOR.inject(permit, fault, hands).result == "landed"
        cell = freezer.Cell(*hands.records[-1].data["cell"])
        assert sorted(freezer.members(cell)) == sorted(procs.tree(who.pid))
        INJECTOR.hold(permit, fault, hands)
        assert all(heal_all(hands))
        assert not Path(cell.path).exists()


def test_one_on_the_deny_list_is_left_out_of_the_cell(version: int, kin: None) -> None:
    fault = Suspend(for_ms=LONG, tree=True, how="freezer")
    _, _, detail = family_with(lambda spared: Limits(deny=(Selector(pid=spared.pid),)), fault)
    assert "on the deny list" in detail


@pytest.fixture
def elsewhere(version: freezer.Version) -> Iterator[str]:
    """A cgroup below our own, to put somebody into."""
    place = Path(freezer.home_of(os.getpid(), version)) / f"elsewhere-of-a-test-{os.getpid()}"
    place.mkdir()
    yield str(place)
    if place.exists():
        assert eventually(lambda: not (place / "cgroup.procs").read_text())
        place.rmdir()


def test_everybody_in_a_frozen_tree_goes_back_where_they_were(version: freezer.Version, elsewhere: str) -> None:
    parent = python(
        "import subprocess,time\nsubprocess.Popen(['sleep', '300'])\nprint('ready', flush=True)\ntime.sleep(300)"
    )
    with started(*parent, ready=b"ready") as who:
        (child,) = procs.family(who.pid)
        try:
            (Path(elsewhere) / "cgroup.procs").write_text(str(child.pid))
            home = freezer.home_of(who.pid, version)
            outcome, hands = suspend(Suspend(for_ms=LONG, tree=True, how="freezer"), who)
            assert outcome.result == "landed", outcome.detail
            cell = hands.records[-1].data["cell"][1]
            assert {freezer.home_of(one.pid, version) for one in (who, child)} == {cell}
            assert all(heal_all(hands))
            assert [freezer.home_of(one.pid, version) for one in (who, child)] == [home, elsewhere]
        finally:
            signals.send(child, "KILL")


def test_a_home_that_was_taken_away_is_told_and_healing_ends(version: freezer.Version, elsewhere: str) -> None:
    with started(*SLEEPS) as who:
        (Path(elsewhere) / "cgroup.procs").write_text(str(who.pid))
        cell = freezer.Cell(
            version, f"{Path(elsewhere).parent}/croupier-test-{os.getpid()}", str(Path(elsewhere).parent)
        )
        freezer.confine(cell, [who])
        Path(elsewhere).rmdir()
        assert "is not there any more" in freezer.dissolve(cell, {who: elsewhere})
        assert not Path(cell.path).exists()
        assert freezer.dissolve(cell, {who: elsewhere}) == ""


def test_one_born_in_the_cell_goes_where_its_parent_belongs(version: freezer.Version, elsewhere: str) -> None:
    forks = python("import subprocess\nprint('ready', flush=True)\ninput()\nsubprocess.run(['sleep', '300'])")
    process = subprocess.Popen(forks, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline()
        who = identity(process.pid)
        (Path(elsewhere) / "cgroup.procs").write_text(str(who.pid))
        cell = freezer.Cell(
            version, f"{Path(elsewhere).parent}/croupier-test-{os.getpid()}", str(Path(elsewhere).parent)
        )
        freezer.confine(cell, [who])
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert eventually(lambda: procs.family(who.pid))
        (born,) = procs.family(who.pid)
        assert freezer.home_of(born.pid, version) == cell.path
        assert freezer.dissolve(cell, {who: elsewhere}) == ""
        assert freezer.home_of(born.pid, version) == freezer.home_of(who.pid, version) == elsewhere
        signals.send(born, "KILL")
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_number_that_changed_hands_at_the_moment_of_the_move_is_moved_back(
    version: freezer.Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(*SLEEPS) as who:
        home = freezer.home_of(who.pid, version)
        cell = freezer.cell_for(who.pid, f"test-{os.getpid()}")
        assert cell is not None
        before = Identity(pid=who.pid, started=who.started - 1, boot=who.boot)
        monkeypatch.setattr(procs, "alive", lambda one: True)
        freezer.confine(cell, [before])
        assert freezer.home_of(who.pid, version) == home
        assert freezer.members(cell) == []
        assert freezer.dissolve(cell) == ""


def test_a_path_that_is_no_cell_is_never_taken_away(tmp_path: Path) -> None:
    kept = tmp_path / "precious"
    kept.mkdir()
    assert "no cell" in freezer.dissolve(freezer.Cell(2, str(kept), str(tmp_path)))
    assert kept.is_dir()


def test_a_machine_without_a_freezer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezer, "_mounts", dict)
    assert INJECTOR.lacking(Suspend(for_ms=LONG)) == ""
    assert "no cgroup freezer" in INJECTOR.lacking(Suspend(for_ms=LONG, how="freezer"))
