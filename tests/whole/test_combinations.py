"""Rounds with combinations: several faults as one injection, each put back in its own time."""

from __future__ import annotations

import signal

import pytest

from croupier.model import journal as j
from croupier.supervise.running import read_steps

from .house import House, a_process, an_experiment, is_stopped

pytestmark = pytest.mark.slow
SLEEPS = ["sleep", "300"]


def two(*injections, **more):
    processes = {"app": a_process(SLEEPS), "web": a_process(SLEEPS)}
    return an_experiment(processes=processes, injections=list(injections), **more)


def test_two_faults_at_once_are_one_injection_and_each_ends_in_its_own_time(house: House) -> None:
    both = {
        "at": "100ms",
        "target": {"process": "app"},
        "together": [{"suspend": {"for": "900ms"}}, {"suspend": {"for": "200ms"}, "target": {"process": "web"}}],
    }
    played = house.play(two(both))
    assert played.code == 0, played.done.said
    (outcome,) = played.events(j.Concluded)
    assert outcome.result == "landed"
    assert "part 1: app" in outcome.detail
    assert "part 2: web" in outcome.detail
    (intended,) = played.events(j.Intended)
    assert {one.role for one in intended.targets} == {"app", "web"}
    verified = [one.key for one in read_steps(played.stored.path) if one.state == "verified"]
    assert [key.rpartition(".")[2] for key in verified] == ["2", "1"]


def test_a_sequence_heals_what_came_before(house: House) -> None:
    steps = {
        "at": "100ms",
        "target": {"process": "app"},
        "sequence": [{"suspend": {"for": "200ms"}}, {"kill": {}, "after": "50ms"}],
    }
    played = house.play(two(steps))
    assert played.code == 0, played.done.said
    (outcome,) = played.events(j.Concluded)
    assert (outcome.result, "ended by KILL" in outcome.detail) == ("landed", True)
    assert [one.injection for one in played.events(j.ProcessExited) if one.cause == "injected"] == [1]
    assert [one.state for one in read_steps(played.stored.path)] == ["intent", "applied", "verified"]


def test_a_part_that_is_refused_refuses_the_whole(house: House) -> None:
    both = {
        "at": "100ms",
        "target": {"process": "app"},
        "together": [{"suspend": {"for": "900ms"}}, {"kill": {}, "target": {"process": "web"}}],
    }
    played = house.play(two(both, limits={"deny": ["web"]}))
    assert played.code == 4, played.done.said
    (refused,) = played.events(j.InjectionRefused)
    assert refused.limit == "deny"
    assert read_steps(played.stored.path) == []


def test_a_combination_is_put_back_when_croupier_is_killed(house: House) -> None:
    both = {
        "at": "100ms",
        "target": {"process": "app"},
        "together": [{"suspend": {"for": "60s"}}, {"suspend": {"for": "60s"}, "target": {"process": "web"}}],
    }
    playing = house.begin(two(both))
    playing.until(j.Concluded)
    stored = playing.stored
    members = [who for who in stored.known() if is_stopped(who)]
    assert len(members) == 2
    playing.signal(signal.SIGKILL)
    stored.sees_everybody_gone()
    assert {one.key: one.state for one in read_steps(stored.path)}.popitem()[1] == "verified"
