"""The selectors, against real processes: whom each means, and whom nobody may touch whatever it says."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from croupier.model import journal as j
from croupier.model.target import Identity
from croupier.system import procs

from .house import House, Played, a_kill, a_process, an_experiment, eventually, identity, is_stopped, python

FAMILY = python(
    "import os, time\n"
    "for _ in range(4):\n"
    "  if os.fork() == 0:\n"
    "    while True: time.sleep(300)\n"
    "print('ready', flush=True)\n"
    "while True: time.sleep(300)"
)
"""A main process with four children."""
OURS = {"app": a_process(FAMILY, ready={"log": {"process": "app", "match": "ready"}, "every": "20ms"})}


def aimed_at(house: House, target: dict[str, Any], *flags: str, **parts: Any) -> Played:
    """A rehearsal with one injection at this target. Whom it would hit is in the journal, and nobody is."""
    experiment = an_experiment(
        # A signal that harms nobody, should a guard let through what it must not.
        injections=[{"at": "100ms", "kill": {"signal": "URG"}, "target": target}],
        **{"processes": OURS, "limits": {"allow": ["*"]}, **parts},
    )
    return house.play(experiment, *(flags or ("--dry-run",)))


def hit(played: Played) -> set[int]:
    return {one.who.pid for event in played.events(j.Intended) for one in event.targets}


# --- within the round -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "mains", "children"),
    [
        ({"pick": "main"}, 1, 0),
        ({}, 1, 0),
        ({"pick": "children"}, 0, 1),
        ({"pick": "children", "count": 3}, 0, 3),
        ({"pick": "children", "count": 9}, 0, 4),
        ({"pick": "children", "count": "all"}, 0, 4),
        ({"pick": "children", "percent": "50%"}, 0, 2),
        ({"pick": "children", "percent": "51%"}, 0, 3),
        ({"pick": "tree", "count": "all"}, 1, 4),
        ({"name": "python*", "count": "all"}, 1, 4),
        ({"pick": "tree", "count": "all", "exclude": {"process": "app", "pick": "main"}}, 0, 4),
        ({"pick": "tree", "count": "all", "older_than": "10ms"}, 1, 4),
        ({"pick": "tree", "count": "all", "younger_than": "1h"}, 1, 4),
    ],
    ids=str,
)
def test_of_a_named_process_the_right_part_is_meant(
    house: House, target: dict[str, Any], mains: int, children: int
) -> None:
    played = aimed_at(house, {"process": "app", **target})
    struck = played.events(j.Intended)[0].targets
    assert (sum(one.main for one in struck), sum(not one.main for one in struck)) == (mains, children)
    assert played.results() == ["rehearsed"]


@pytest.mark.parametrize("target", [{"older_than": "1h"}, {"younger_than": "1ms"}, {"name": "nobody"}], ids=str)
def test_where_nobody_is_meant_the_injection_is_missed(house: House, target: dict[str, Any]) -> None:
    played = aimed_at(house, {"process": "app", "pick": "tree", **target}, "--no-progress")
    assert played.code == 4
    assert played.results() == ["missed"]
    assert "nobody alive matches" in played.verdict.injections[0].why
    assert "nothing landed" in played.done.out


@pytest.mark.parametrize(("order", "place"), [("newest", -1), ("oldest", 0)])
def test_the_newest_and_the_oldest_are_known_by_their_start(house: House, order: str, place: int) -> None:
    played = aimed_at(house, {"process": "app", "pick": "children", order: True})
    born = sorted((one.who.started, one.who.pid) for one in played.events(j.ChildAppeared))
    assert hit(played) == {born[place][1]}


def test_a_drawn_target_depends_on_the_seed_and_nothing_else(house: House) -> None:
    experiment = an_experiment(
        processes=OURS, injections=[{"at": "100ms", "kill": {}, "target": {"process": "app", "pick": "children"}}]
    )
    ranks = [
        house.play(experiment, "--dry-run", seed=seed).events(j.Intended)[0].targets[0].rank for seed in (1, 1, 2, 3)
    ]
    assert ranks[0] == ranks[1]
    assert len(set(ranks)) > 1


# --- on the whole machine -------------------------------------------------------------------------------------------


@pytest.fixture
def guest(house: House) -> Identity:
    """A process that croupier did not start, with one child, a port, and a mark; all of it is the test's own."""
    program = (
        "import os, socket, sys, time\n"
        "if os.fork() == 0:\n"
        "  while True: time.sleep(300)\n"
        "listening = socket.create_server(('127.0.0.1', 0))\n"
        "open(sys.argv[1], 'w').write(f'{os.getpid()} {listening.getsockname()[1]}')\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(300)"
    )
    told = house.path / "guest"
    return house.guest([*python(program), str(told)], ready="ready", env={"CROUPIER_TEST_GUEST": house.path.name})


def child_of(who: Identity) -> int:
    (child,) = procs.children(who.pid)
    return child


def port_of(house: House) -> int:
    return int((house.path / "guest").read_text().split()[1])


def test_a_process_is_found_by_its_number(house: House, guest: Identity) -> None:
    assert hit(aimed_at(house, {"pid": guest.pid})) == {guest.pid}


def test_a_process_is_found_by_its_pid_file_as_it_is_when_the_injection_is_due(house: House, guest: Identity) -> None:
    assert hit(aimed_at(house, {"pid_file": "guest"})) == {guest.pid}
    (house.path / "guest").write_text("none of it\n")
    assert hit(aimed_at(house, {"pid_file": "guest"})) == set()


def test_a_process_is_found_by_its_parent(house: House, guest: Identity) -> None:
    assert hit(aimed_at(house, {"parent": guest.pid, "count": "all"})) == {child_of(guest)}


def test_a_tree_is_the_process_and_all_below_it(house: House, guest: Identity) -> None:
    assert hit(aimed_at(house, {"tree": guest.pid, "count": "all"})) == {guest.pid, child_of(guest)}


def test_a_process_is_found_by_the_port_that_it_listens_on(house: House, guest: Identity) -> None:
    assert hit(aimed_at(house, {"port": port_of(house), "count": "all"})) == {guest.pid}


def test_a_process_is_found_by_a_variable_of_its_environment(house: House, guest: Identity) -> None:
    family = {guest.pid, child_of(guest)}
    mark = f"CROUPIER_TEST_GUEST={house.path.name}"
    assert hit(aimed_at(house, {"env": mark, "count": "all"})) == family
    assert hit(aimed_at(house, {"env": "CROUPIER_TEST_GUEST=other", "count": "all"})) == set()


@pytest.mark.parametrize("how", ["exact", "glob", "short", "regex"])
def test_a_process_is_found_by_its_command_line(house: House, guest: Identity, how: str) -> None:
    whole = " ".join(one for one in Path(f"/proc/{guest.pid}/cmdline").read_text().split("\0")[:-1])
    told = str(house.path / "guest")
    said: Any = {
        "exact": {"exact": whole},
        "glob": {"glob": f"*{told}"},
        "short": f"*{told}",
        "regex": {"regex": rf"{told}$"},
    }[how]
    assert hit(aimed_at(house, {"cmdline": said, "count": "all"})) == {guest.pid, child_of(guest)}


def test_criteria_are_joined(house: House, guest: Identity) -> None:
    mark = {"env": f"CROUPIER_TEST_GUEST={house.path.name}", "count": "all"}
    family = {guest.pid, child_of(guest)}
    exe = str(Path(f"/proc/{guest.pid}/exe").readlink())
    cgroups = [line.split(":", 2)[2] for line in Path(f"/proc/{guest.pid}/cgroup").read_text().splitlines()]
    cgroup = max(cgroups, key=len)
    also = {"exe": "/*/python*", "user": getpass.getuser(), "cgroup": cgroup, "name": "python*"}
    assert hit(aimed_at(house, {**mark, **also})) == family
    assert hit(aimed_at(house, {**mark, "exe": exe})) == family
    for name, other in {"exe": "/nowhere", "user": "nobody", "cgroup": "/nowhere*", "name": "perl*"}.items():
        assert hit(aimed_at(house, {**mark, **also, name: other})) == set(), name


def test_an_attached_process_is_a_role_like_any_other(house: House, guest: Identity) -> None:
    attach = {"guest": {"port": port_of(house)}}
    for pick, whom in (("main", {guest.pid}), ("children", {child_of(guest)})):
        played = aimed_at(house, {"process": "guest", "pick": pick}, attach=attach)
        assert hit(played) == whom


# --- leave ----------------------------------------------------------------------------------------------------------


def lively(house: House, guest: Identity, *flags: str, **limits: Any) -> Played:
    """A live suspension of a guest, for as long as it takes to see."""
    experiment = an_experiment(
        attach={"guest": {"pid": guest.pid}},
        injections=[{"at": "100ms", "suspend": {"for": "200ms"}, "target": {"process": "guest"}}],
        limits=limits,
    )
    played = house.play(experiment, *flags)
    assert procs.alive(guest) and not is_stopped(guest)
    return played


def test_what_croupier_did_not_start_is_refused_without_live(house: House) -> None:
    played = lively(house, house.guest(["sleep", "300"]), allow=["guest"])
    assert played.code == 4
    assert played.results() == ["refused"]
    assert "--live" in played.done.out or "--live" in played.events(j.InjectionRefused)[0].hint
    assert played.events(j.InjectionRefused)[0].limit == "live"


def test_what_croupier_did_not_start_is_refused_unless_the_allow_list_names_it(house: House) -> None:
    played = lively(house, house.guest(["sleep", "300"]), "--live", allow=["other"])
    assert played.results() == ["refused"]
    assert played.events(j.InjectionRefused)[0].limit == "allow"


def test_with_live_and_on_the_allow_list_it_is_disturbed_and_healed(house: House) -> None:
    for allow in (["guest"], ["gue*"], [{"process": "guest"}]):
        played = lively(house, house.guest(["sleep", "300"]), "--live", allow=allow)
        assert played.code == 0, played.done
        assert played.results() == ["landed"]
        assert [one.verified for one in played.events(j.Healed)] == [True]


def test_the_deny_list_beats_the_allow_list(house: House) -> None:
    guest = house.guest(["sleep", "300"])
    for deny in (["guest"], [{"pid": guest.pid}], ["sleep"]):
        played = lively(house, guest, "--live", allow=["guest"], deny=deny)
        assert played.results() == ["refused"]
        assert played.events(j.InjectionRefused)[0].limit == "deny"


def test_who_is_denied_leaves_the_wheel_and_the_others_stay(house: House) -> None:
    played = aimed_at(
        house,
        {"process": "app", "pick": "tree", "count": "all"},
        limits={"deny": [{"process": "app", "pick": "main"}]},
    )
    struck = played.events(j.Intended)[0].targets
    assert [one.main for one in struck] == [False] * 4


@contextmanager
def never_signalled(*pids: int) -> Iterator[None]:
    before = [identity(pid) for pid in pids]
    yield
    assert all(procs.alive(one) and not is_stopped(one) for one in before)


def test_protected_processes_are_refused_even_live_and_allowed(house: House) -> None:
    # PID 1, the parent of croupier (this test), and its parent: by their number, and as part of a tree.
    protected = (1, os.getpid(), os.getppid())
    with never_signalled(*protected):
        for pid in protected:
            played = aimed_at(house, {"pid": pid}, "--live", limits={"allow": ["*"], "injections": 9})
            assert hit(played) == set()
            assert played.results() == ["refused"]
            assert played.events(j.InjectionRefused)[0].limit == "protected"
            assert played.code == 4
        assert not hit(aimed_at(house, {"tree": os.getppid(), "count": "all"})) & set(protected)


def test_croupier_and_its_guardian_are_never_on_the_wheel(house: House) -> None:
    experiment = an_experiment(
        processes=OURS,
        injections=[{"at": "500ms", "kill": {}, "target": {"cmdline": "*croupier*", "count": "all"}}],
        limits={"allow": ["*"], "injections": 9},
    )
    playing = house.begin(experiment, "--dry-run")
    running = playing.stored.running
    played = playing.played()
    assert not hit(played) & {running.croupier.pid, running.guardian.pid}


# --- limits ---------------------------------------------------------------------------------------------------------


def refusals(played: Played) -> list[str]:
    return [one.limit for one in played.events(j.InjectionRefused)]


def kills(*at: str) -> list[dict[str, Any]]:
    return [{"at": one, "kill": {"signal": "URG"}, "target": {"process": "app"}} for one in at]


def test_no_more_injections_are_made_than_allowed(house: House) -> None:
    played = house.play(an_experiment(injections=kills("100ms", "200ms", "300ms"), limits={"injections": 2}))
    assert played.results() == ["landed", "landed", "refused"]
    assert refusals(played) == ["injections"]


def test_no_more_are_made_in_a_window_of_time_than_allowed(house: House) -> None:
    played = house.play(
        an_experiment(injections=kills("100ms", "200ms", "300ms", "1500ms"), limits={"rate": "2 per 1s"})
    )
    assert played.results() == ["landed", "landed", "refused", "landed"]
    assert refusals(played) == ["rate"]


def test_no_more_hold_at_once_than_allowed(house: House) -> None:
    suspensions = [
        {"at": at, "suspend": {"for": "500ms"}, "target": {"process": name}}
        for at, name in (("100ms", "app"), ("300ms", "other"), ("1200ms", "other"))
    ]
    two = {"app": a_process(["sleep", "300"]), "other": a_process(["sleep", "300"])}
    played = house.play(an_experiment(processes=two, injections=suspensions))
    assert played.results() == ["landed", "refused", "landed"]
    assert refusals(played) == ["concurrent"]
    both = house.play(an_experiment(processes=two, injections=suspensions[:2], limits={"concurrent": 2}))
    assert both.results() == ["landed"] * 2


def test_outside_of_its_window_nothing_is_done(house: House) -> None:
    from datetime import UTC, datetime, timedelta

    today = datetime.now(UTC)
    others = sorted({(today + timedelta(days=step)).strftime("%a").lower() for step in (2, 3, 4, 5)})
    nowhere = house.refused(an_experiment(injections=kills("100ms"), limits={"window": {"zone": "Mars/Olympus"}}))
    assert nowhere.code == 2 and "Mars/Olympus" in nowhere.err
    played = house.play(an_experiment(injections=kills("100ms"), limits={"window": {"days": others}}))
    assert refusals(played) == ["window"]


def test_the_time_box_ends_a_round_that_takes_too_long(house: House) -> None:
    played = house.play(an_experiment(injections=kills("60s"), limits={"time_box": "1s"}))
    assert played.code == 4
    assert played.verdict.outcome == "aborted"
    assert "time box" in played.done.out


def test_a_port_that_nobody_listens_on_is_nobodys(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        # Our own: protected, as an ancestor of croupier.
        port = own.getsockname()[1]
        assert hit(aimed_at(house, {"port": port})) == set()
    assert eventually(lambda: hit(aimed_at(house, {"port": port})) == set(), 1)


TWO_CHILDREN = python(
    "import subprocess, time\n"
    "one, two = subprocess.Popen(['sleep', '600']), subprocess.Popen(['sleep', '601'])\n"
    "open('one.pid', 'w').write(str(one.pid))\n"
    "while True: time.sleep(1)"
)


@pytest.mark.parametrize("where", ["exclude", "deny", "allow"])
def test_a_pid_file_is_read_wherever_a_selector_stands(house: House, where: str) -> None:
    by_file = [{"pid_file": "one.pid"}]
    app_ = a_process(TWO_CHILDREN, ready={"file": {"path": "one.pid"}})
    target = {"process": "app", "pick": "children", "count": "all"}
    target |= {"exclude": by_file} if where == "exclude" else {}
    limits = {} if where == "exclude" else {"limits": {where: by_file}}
    kill = {"at": "100ms", "kill": {"signal": "CONT"}, "target": target}
    played = house.play(an_experiment(processes={"app": app_}, injections=[kill], **limits))
    (intended,) = played.events(j.Intended)
    (named,) = [int((house.path / "one.pid").read_text())]
    assert [one.who.pid == named for one in intended.targets] == [where == "allow"]


def test_a_pid_file_that_is_not_there_denies_everybody(house: House) -> None:
    limits = {"deny": [{"pid_file": "nowhere.pid"}]}
    played = house.play(an_experiment(injections=[a_kill()], limits=limits))
    assert [one.limit for one in played.events(j.InjectionRefused)] == ["deny"]


def test_who_lives_below_a_denied_process_is_denied_though_it_is_attached(house: House) -> None:
    top = house.guest(
        python("import subprocess\np = subprocess.Popen(['sleep', '300'])\nprint(p.pid, flush=True)\np.wait()")
    )
    below = eventually(lambda: procs.children(top.pid))[0]
    attach = {"victim": {"pid": below}}
    limits = {"allow": ["victim"], "deny": [{"tree": top.pid}]}
    suspend = {"at": "100ms", "suspend": {"for": "100ms"}, "target": {"process": "victim"}}
    invariants = [{"process": {"of": "victim", "at_least": 1}}]
    played = house.play(
        an_experiment(attach=attach, injections=[suspend], limits=limits, invariants=invariants), "--live"
    )
    assert [one.limit for one in played.events(j.InjectionRefused)] == ["deny"]
