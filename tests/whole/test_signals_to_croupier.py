"""Whatever hits croupier itself, in whichever phase: nothing that was started stays, and nobody stands still."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from croupier.model import journal as j
from croupier.model.target import Identity
from croupier.system import procs, signals

from .house import (
    GONE_WITHIN_S,
    House,
    Playing,
    a_kill,
    a_process,
    a_suspension,
    an_experiment,
    app,
    cmdline,
    eventually,
    is_stopped,
)

NEVER = {"file": {"path": "${state}/never"}}


def a_round(**parts: Any) -> dict[str, Any]:
    """A family under supervision and a workload that is one too: children, and daemons that left their session."""
    family = a_process(app("family"), ready={"log": {"process": "app", "match": "ready"}, "every": "20ms"})
    more: dict[str, Any] = {"workload": {"command": app("family"), "stop": {"grace": "500ms"}}, "settle": "500ms"}
    return an_experiment(processes={"app": {**family, **parts.pop("app", {})}}, **{**more, **parts})


def in_phase(phase: str) -> Callable[[Playing], object]:
    def there(playing: Playing) -> None:
        playing.until(j.PhaseEntered, lambda one: one.phase == phase)
        assert eventually(lambda: len(playing.stored.own_pids()) >= 3)

    return there


def suspended(playing: Playing) -> None:
    landed = playing.until(j.Concluded)
    assert landed.result == "landed"


def in_the_ladder(playing: Playing) -> None:
    # The act itself comes a moment after its intent; the signal that tells so is the one that the target ignored.
    who = playing.until(j.Intended).targets[0].who
    assert procs.alive(who)


def judging(playing: Playing) -> None:
    playing.until(j.PhaseEntered, lambda one: one.phase == "judging")
    eventually(lambda: (playing.stored.run.state / "asked").exists())


ASKS_FOR_LONG = {"command": {"run": ["sh", "-c", "touch $CROUPIER_STATE/asked; sleep 60"], "within": "60s"}}
SLOW_TO_STOP = {"command": app("family", "--deaf"), "stop": {"grace": "60s"}}

MOMENTS: dict[str, tuple[dict[str, Any], Callable[[Playing], object]]] = {
    "starting": (a_round(app={"ready": {**NEVER, "within": "60s"}}), in_phase("starting")),
    "steadying": (a_round(steady_state=[NEVER], steady_within="60s"), in_phase("steadying")),
    "round": (a_round(injections=[a_kill("60s")]), lambda playing: playing.until(j.WorkloadStarted)),
    "ladder": (
        a_round(app={"command": app("family", "--deaf")}, injections=[a_kill(signal="TERM", then="KILL", grace="60s")]),
        in_the_ladder,
    ),
    "suspended": (a_round(injections=[a_suspension(lasts="60s", tree=True)]), suspended),
    "settling": (a_round(injections=[a_kill()], settle="60s", app={"restart": {"delay": "60s"}}), in_phase("settling")),
    "judging": (a_round(injections=[a_kill()], invariants=[ASKS_FOR_LONG]), judging),
    "stopping": (a_round(app=SLOW_TO_STOP, injections=[a_kill("100ms", signal="USR1")]), in_phase("stopping")),
}
ONCE_IS_SLOW = ("settling", "judging", "stopping")
"""Phases that are on the way down already: one signal lets them come to their own end, two end them at once."""


def begin(house: House, moment: str) -> Playing:
    experiment, there = MOMENTS[moment]
    playing = house.begin({**experiment, "title": moment})
    there(playing)
    return playing


def assert_all_is_put_back(house: House, playing: Playing) -> None:
    playing.stored.sees_everybody_gone()
    assert [one for one in playing.stored.known() if is_stopped(one)] == []
    assert house.found_left() == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_croupier_that_is_killed_leaves_nobody_behind_within_two_seconds(house: House, moment: str) -> None:
    playing = begin(house, moment)
    guardian = playing.stored.running.guardian
    assert len(playing.stored.alive()) >= 3

    playing.signal(signal.SIGKILL)
    playing.process.wait()
    began = time.monotonic()
    playing.stored.sees_everybody_gone()
    eventually(lambda: not procs.alive(guardian), GONE_WITHIN_S - (time.monotonic() - began))
    assert not procs.alive(guardian)
    assert playing.wait().code == -signal.SIGKILL
    assert house.found_left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
@pytest.mark.parametrize("moment", [moment for moment in MOMENTS if moment not in ONCE_IS_SLOW])
def test_a_signal_stops_the_round_heals_and_judges_what_there_is(
    house: House, moment: str, number: signal.Signals
) -> None:
    playing = begin(house, moment)
    playing.signal(number)
    played = playing.played(within_s=12)
    assert_all_is_put_back(house, playing)
    assert played.code in (0, 4), played.done
    assert played.verdict.outcome == "stopped"
    assert played.verdict.unhealed == ()
    assert [one.by for one in played.events(j.StopAsked)] == [number.name]
    assert f"{number.name} was received" in played.events(j.RunEnded)[0].why
    if moment == "suspended":
        assert [one.verified for one in played.events(j.Healed)] == [True]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_second_interrupt_ends_the_round_at_once(house: House, moment: str) -> None:
    playing = begin(house, moment)
    playing.signal(signal.SIGINT)
    playing.until(j.StopAsked)
    began = time.monotonic()
    playing.signal(signal.SIGINT)
    played = playing.played(within_s=12)
    assert time.monotonic() - began < 5
    assert_all_is_put_back(house, playing)
    assert played.code in (0, 4), played.done
    assert played.verdict.outcome in ("stopped", "completed")


def test_a_stop_while_the_round_is_judged_lets_the_questions_be_answered(house: House) -> None:
    takes_a_while = {"command": {"run": ["sh", "-c", "touch $CROUPIER_STATE/asked; sleep 1"], "name": "it is well"}}
    playing = house.begin(a_round(injections=[a_kill()], invariants=[takes_a_while]))
    judging(playing)
    playing.signal(signal.SIGTERM)
    played = playing.played(within_s=12)
    assert_all_is_put_back(house, playing)
    assert played.code == 0, played.done
    assert played.verdict.outcome == "stopped"
    assert [one.held for one in played.events(j.InvariantRead)] == [True]


def test_a_stop_while_everything_is_stopped_already_changes_nothing(house: House) -> None:
    deaf = {"command": app("family", "--deaf"), "stop": {"grace": "1s"}}
    playing = house.begin(a_round(app=deaf, injections=[a_kill(signal="USR1")]))
    in_phase("stopping")(playing)
    playing.signal(signal.SIGHUP)
    played = playing.played(within_s=12)
    assert_all_is_put_back(house, playing)
    assert played.code == 0, played.done
    assert played.verdict.outcome == "completed"


def test_a_stop_while_the_round_settles_waits_for_recovery_only_a_little_longer(house: House) -> None:
    playing = begin(house, "settling")
    playing.signal(signal.SIGINT)
    played = playing.played(within_s=12)
    assert_all_is_put_back(house, playing)
    assert played.verdict.outcome == "stopped"
    assert [one.process for one in played.events(j.NotRecovered)] == ["app"]
    assert "judging" in [one.phase for one in played.events(j.PhaseEntered)]


def test_the_guardian_heals_when_croupier_itself_stands_still(house: House) -> None:
    playing = house.begin(a_round(injections=[a_suspension(lasts="1s", tree=True)], settle="10s"))
    suspended(playing)
    (main,) = (one.who for one in playing.stored.events(j.Intended)[0].targets)
    targets = [main, *procs.family(main.pid)]
    assert all(is_stopped(one) for one in targets)

    os.kill(playing.who.pid, signal.SIGSTOP)
    assert eventually(lambda: not any(is_stopped(one) for one in targets), 1 + GONE_WITHIN_S)
    assert is_stopped(playing.who)

    os.kill(playing.who.pid, signal.SIGCONT)
    played = playing.played()
    assert_all_is_put_back(house, playing)
    notes = [one.text for one in played.events(j.Noted) if one.trouble]
    assert any("the guardian healed" in one for one in notes), notes
    assert played.code == 4, played.done


@pytest.mark.parametrize("moment", MOMENTS)
def test_without_its_guardian_croupier_heals_ends_everybody_and_says_that_it_broke(house: House, moment: str) -> None:
    playing = begin(house, moment)
    guardian = playing.stored.running.guardian
    signals.send(guardian, "KILL")
    done = playing.wait(within_s=12)
    assert done.code == 5
    assert "the guardian of the round is gone" in done.err or "the guardian of this round is gone" in done.err
    assert_all_is_put_back(house, playing)


@pytest.mark.parametrize("moment", ["round", "suspended"])
def test_when_both_are_killed_at_once_recover_ends_what_is_left(house: House, moment: str) -> None:
    playing = begin(house, moment)
    guardian = playing.stored.running.guardian
    for who in (playing.who, guardian):
        signals.send(who, "STOP")
    for who in (playing.who, guardian):
        signals.send(who, "KILL")
    playing.process.wait()
    eventually(lambda: not procs.alive(guardian))

    found = house.found_left()
    assert [one.get("clean", True) for one in found] == [True]
    playing.stored.sees_everybody_gone(0.5)
    assert house.found_left() == []


def test_recover_lets_a_process_go_on_that_croupier_did_not_start(house: House) -> None:
    guest = house.guest(["sleep", "300"])
    experiment = an_experiment(
        attach={"guest": {"pid": guest.pid}},
        injections=[a_suspension(lasts="60s", process="guest")],
        limits={"allow": ["guest"]},
    )
    playing = house.begin(experiment, "--live")
    suspended(playing)
    assert is_stopped(guest)
    guardian = playing.stored.running.guardian
    for who in (playing.who, guardian):
        signals.send(who, "STOP")
    for who in (playing.who, guardian):
        signals.send(who, "KILL")
    playing.process.wait()
    eventually(lambda: not procs.alive(guardian))
    assert is_stopped(guest)

    (found,) = house.found_left()
    assert found["healed"] and found.get("left", []) == []
    assert procs.alive(guest) and not is_stopped(guest)
    assert house.found_left() == []


def test_a_killed_croupier_lets_a_process_go_on_that_it_did_not_start(house: House) -> None:
    guest = house.guest(["sleep", "300"])
    experiment = an_experiment(
        attach={"guest": {"pid": guest.pid}},
        injections=[a_suspension(lasts="60s", process="guest")],
        limits={"allow": ["guest"]},
    )
    playing = house.begin(experiment, "--live")
    suspended(playing)
    playing.signal(signal.SIGKILL)
    playing.process.wait()
    assert eventually(lambda: not is_stopped(guest), GONE_WITHIN_S)
    assert procs.alive(guest)
    assert eventually(lambda: house.found_left() == [], 3)


def test_slow_commands_keep_nobody_from_stopping_at_once(house: House) -> None:
    slow = [{"command": {"run": ["env", "-i", "/bin/sleep", f"{300 + nth}"], "within": "60s"}} for nth in range(10)]
    playing = house.begin(an_experiment(steady_state=slow, injections=[a_kill()]))
    playing.until(j.PhaseEntered, lambda one: one.phase == "steadying")

    def commands() -> list[Identity]:
        return [who for who in procs.family(playing.stored.running.guardian.pid) if runs_one(who)]

    def runs_one(who: Identity) -> bool:
        return cmdline(who.pid).split()[-1:] in [[f"{300 + nth}"] for nth in range(1, 10)]

    found = eventually(commands)
    assert found
    playing.signal(signal.SIGINT)
    playing.until(j.StopAsked)
    playing.signal(signal.SIGINT)
    began = time.monotonic()
    assert playing.wait(10).code == 4
    assert time.monotonic() - began < 4
    assert [who for who in found if procs.alive(who)] == []
