"""Units of systemd's: found, killed, frozen, stopped, limited, and put back; by a manager that these tests start."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from a_systemd import PROGRAM, Systemd, a_systemd
from cgroup_of_ours import a_cgroup, lacking, put_into
from hands import SLEEPS, Hands, a_permit, eventually, started

from croupier.inject import freeze_unit, kill_unit, limit_unit, restart_unit, stop_unit
from croupier.model.faults.unit import FreezeUnit, KillUnit, LimitUnit, RestartUnit, StopUnit
from croupier.model.target import Selector, matches
from croupier.model.units import Bytes, Ms
from croupier.system import cgroups, freezer, procs, systemd
from croupier.system.groups import Groups
from croupier.testing import check_fault

pytestmark = [
    pytest.mark.needs("systemd", "dbus-daemon"),
    pytest.mark.xdist_group("systemd"),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]
LONG = Ms(60_000)


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    with a_systemd(tmp_path_factory.mktemp("sd")) as found:
        yield found


@pytest.fixture(autouse=True)
def host(manager, monkeypatch):
    for name, value in manager.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def web(manager):
    """A unit for tests that leave it as it was: a shell with a child."""
    with manager.service("web", "/bin/sh -c '/bin/sleep 300 & exec /bin/sleep 300'") as unit:
        assert eventually(lambda: procs.family(manager.main(unit).pid))
        yield unit


def hit(injector, fault, manager: Systemd, unit: str):
    permit = a_permit(fault, manager.main(unit))
    act = Hands(permit=permit)
    return injector.inject(permit, fault, act), act


class InUnit:
    """A new service in the form of a `Popen` of its main process, as the conformance kit starts its targets."""

    stdin = stdout = stderr = None
    made = 0

    def __init__(self, manager: Systemd) -> None:
        InUnit.made += 1
        self._held = manager.service(f"kit{InUnit.made}")
        self.unit = self._held.__enter__()
        self.pid = manager.main(self.unit).pid

    def wait(self) -> int:
        if self._held is not None:
            self._held.__exit__(None, None, None)
            self._held = None
        return 0


def test_a_limit_keeps_every_rule_of_a_fault(manager):
    def held(pid):
        return cgroups.processors(pid), cgroups.memory_bytes(pid)

    fault = LimitUnit(for_ms=Ms(2_000), memory_bytes=Bytes(64 << 20))
    rules = ("imports-little", "landed-is-seen", "writes-before-it-acts", "no-record-no-act",
             "heals-what-it-did", "heals-twice", "heals-when-gone", "heals-after-a-crash")  # fmt: skip
    check_fault(limit_unit.INJECTOR, fault=fault, spawn=lambda: InUnit(manager), observe=held, only=rules, moments=3)


@pytest.mark.parametrize(
    ("injector", "fault"),
    [
        (kill_unit.INJECTOR, KillUnit()),
        (freeze_unit.INJECTOR, FreezeUnit(for_ms=Ms(1_000))),
        (stop_unit.INJECTOR, StopUnit(for_ms=Ms(1_000))),
        (restart_unit.INJECTOR, RestartUnit()),
        (limit_unit.INJECTOR, LimitUnit(for_ms=Ms(1_000), cpu_percent=50)),
    ],
)
def test_each_fault_says_what_it_is(injector, fault):
    check_fault(injector, fault=fault, only=("says-what-it-is", "example-loads", "survives-a-plan"))


def test_a_unit_is_found_by_its_name_with_everybody_in_it(manager, web):
    selector = Groups().resolved(Selector(user_unit=web))
    main = manager.main(web)
    found = {one.identity for one in matches(selector, procs.find(selector))}
    assert found == {main, *procs.family(main.pid)}
    assert selector.group == manager.show(web, "ControlGroup")


def test_a_unit_that_is_down_means_nobody_and_one_that_is_unknown_may_be_anybody_to_who_forbids(manager):
    with manager.service("down") as unit:
        systemd.tell("user", "stop", unit)
        down = Groups().resolved(Selector(user_unit=unit))
        census = procs.read_census({"me": procs.identity(os.getpid())})
        assert not matches(down, census, doubtful=True)
    unknown = Groups().resolved(Selector(user_unit="no-such.service"))
    assert not matches(unknown, census)
    assert matches(unknown, census, doubtful=True)


def test_a_unit_is_killed_and_its_manager_brings_it_back(manager):
    with manager.service("killed", restart="always") as unit:
        first = manager.main(unit)
        outcome, act = hit(kill_unit.INJECTOR, KillUnit(), manager, unit)
        assert (outcome.result, act.records) == ("landed", []), outcome
        assert not procs.alive(first)
        assert eventually(lambda: manager.state(unit) == "active" and manager.show(unit, "MainPID") != "0")


def test_a_unit_is_stopped_and_started_again(manager):
    with manager.service("stopped") as unit:
        outcome, act = hit(stop_unit.INJECTOR, StopUnit(for_ms=LONG), manager, unit)
        assert (outcome.result, manager.state(unit)) == ("landed", "inactive"), outcome
        for _ in range(2):
            assert stop_unit.INJECTOR.heal(act.records[0]).verified
        assert manager.state(unit) == "active"


def test_a_unit_is_restarted(manager):
    with manager.service("restarted") as unit:
        first = manager.main(unit)
        outcome, act = hit(restart_unit.INJECTOR, RestartUnit(), manager, unit)
        assert (outcome.result, act.records) == ("landed", []), outcome
        assert manager.main(unit) != first


def test_limits_are_met_and_the_prior_ones_put_back(manager, web):
    systemd.tell("user", "set-property", "--runtime", web, "MemoryMax=256M")
    pid = manager.main(web).pid
    fault = LimitUnit(for_ms=LONG, cpu_percent=25, memory_bytes=Bytes(64 << 20))
    outcome, act = hit(limit_unit.INJECTOR, fault, manager, web)
    assert outcome.result == "landed", outcome
    assert (cgroups.processors(pid), cgroups.memory_bytes(pid)) == (0.25, 64 << 20)
    for _ in range(2):
        assert limit_unit.INJECTOR.heal(act.records[0]).verified
    assert (manager.show(web, "CPUQuotaPerSecUSec"), manager.show(web, "MemoryMax")) == ("infinity", str(256 << 20))
    assert (cgroups.processors(pid), cgroups.memory_bytes(pid)) == (None, 256 << 20)


def test_limits_that_somebody_else_has_set_since_stay(manager, web):
    _, act = hit(limit_unit.INJECTOR, LimitUnit(for_ms=LONG, cpu_percent=25), manager, web)
    systemd.tell("user", "set-property", "--runtime", web, "CPUQuota=70%")
    healing = limit_unit.INJECTOR.heal(act.records[0])
    assert healing.verified
    assert "somebody else" in healing.note
    assert manager.show(web, "CPUQuotaPerSecUSec") == "700ms"


def test_a_unit_is_frozen_and_thawed(tmp_path, monkeypatch):
    # systemd asks this cgroup whether there is a freezer; where it is PID 1 it has made it itself.
    root = next(Path(one.directory("/")) for one in cgroups.mounts() if one.version == 2)
    scope = root / "init.scope"
    made = not scope.exists()
    scope.mkdir(exist_ok=True)
    try:
        with a_systemd(tmp_path, unified=True) as manager, manager.service("frozen") as unit:
            for name, value in manager.env.items():
                monkeypatch.setenv(name, value)
            pid = manager.main(unit).pid
            outcome, act = hit(freeze_unit.INJECTOR, FreezeUnit(for_ms=LONG), manager, unit)
            assert outcome.result == "landed", outcome
            assert freezer.is_frozen(freezer.home_of(pid, 2), 2)
            for _ in range(2):
                assert freeze_unit.INJECTOR.heal(act.records[0]).verified
            assert not freezer.is_frozen(freezer.home_of(pid, 2), 2)
    finally:
        if made:
            scope.rmdir()


def test_where_systemd_cannot_freeze_nothing_is_changed(manager, web):
    if len({one.version for one in cgroups.mounts()}) == 1:
        pytest.skip("systemd can freeze here")
    outcome, _ = hit(freeze_unit.INJECTOR, FreezeUnit(for_ms=LONG), manager, web)
    assert outcome.result == "missed"
    assert "cannot freeze here" in outcome.detail


def test_another_systemds_unit_of_the_same_name_is_left_alone(manager, tmp_path):
    """Where the name is told by a cgroup that is not that unit's."""
    other = f"/croupier-test-{os.getpid()}-other"
    with manager.service("twin") as unit, a_cgroup(other), a_cgroup(f"{other}/{unit}") as places:
        with started(*SLEEPS) as who:
            put_into(places, who)
            fault = StopUnit(for_ms=LONG, manager="user")
            permit = a_permit(fault, who)
            outcome = stop_unit.INJECTOR.inject(permit, fault, Hands(permit=permit))
        assert (outcome.result, manager.state(unit)) == ("missed", "active")
        assert "not the one that it lives in" in outcome.detail


def test_what_limits_nothing_is_refused_beforehand():
    assert "it limits nothing" in limit_unit.INJECTOR.lacking(LimitUnit(for_ms=LONG))


def test_spans_of_time_are_read_as_systemctl_shows_them():
    shown = {"infinity": None, "200ms": 200_000, "1.500s": 1_500_000, "1min 30s": 90_000_000, "1us": 1}
    assert {one: systemd.microseconds(one) for one in shown} == shown


def test_the_program_is_the_real_one():
    assert "systemd" in subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
