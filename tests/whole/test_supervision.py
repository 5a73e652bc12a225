"""Supervision as it is seen from outside: who is started again, when, how often, and who did it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from croupier.model import journal as j

from .house import (
    House,
    Played,
    a_kill,
    a_process,
    a_suspension,
    an_experiment,
    app,
    python,
    states,
)

HERE = str(Path(sys.executable).parent)


def server(*what: str, **more: Any) -> dict[str, Any]:
    """A supervised `apps/server.py`."""
    return a_process(app("server", ",".join(what), "${port.app}"), **more)


def says_go(within: str = "5s") -> dict[str, Any]:
    return {"log": {"process": "app", "match": "all systems go"}, "within": within, "every": "20ms"}


def touching(name: str, after: str) -> dict[str, Any]:
    """A workload that makes a file in the state directory after a while, for the app to see."""
    return {"command": ["sh", "-c", f"sleep {after}; touch ${{state}}/{name}; exec sleep 300"]}


def exits(played: Played) -> list[tuple[str, int | None, str]]:
    return [(one.cause, one.code, one.signal) for one in played.events(j.ProcessExited)]


# --- readiness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "ready"),
    [
        (("http",), {"http": {"url": "http://127.0.0.1:${port.app}/"}}),
        (("tcp",), {"tcp": {"port": "${port.app}"}}),
        (("touches",), {"command": {"run": ["test", "-e", "${state}/ready"]}}),
        (("touches",), {"file": {"path": "${state}/ready"}}),
        (("says",), {"log": {"process": "app", "match": "all systems go"}}),
        (("beats",), {"heartbeat": {"every": "1s"}}),
        (("beats",), {"heartbeat": {"every": "1s", "socket": True}}),
    ],
    ids=["http", "tcp", "command", "file", "log", "heartbeat-file", "heartbeat-socket"],
)
def test_a_process_is_ready_when_its_probe_says_so_again_after_each_restart(
    house: House, what: tuple[str, ...], ready: dict[str, Any]
) -> None:
    played = house.play(
        an_experiment(
            processes={"app": server(*what, ready={**ready, "every": "20ms", "within": "5s"})},
            injections=[a_kill()],
            invariants=[{"recovery": {"of": "app", "every": "< 5s"}}],
        )
    )
    assert played.code == 0, played.done
    assert states(played.stored.all(), "app")[:5] == ["starting", "ready", "backoff", "starting", "ready"]
    started = [one.at_us for one in played.events(j.ProcessStarted)]
    ready_at = [one.at_us for one in played.events(j.ProcessReady)]
    # The program listens at once; and a file outlives the process that made it. All else takes it a tenth of a second,
    # after each start: what the one before it said makes nobody ready.
    if what not in (("tcp",), ("touches",)):
        assert all(after - before > 80_000 for before, after in zip(started, ready_at, strict=True))


def test_a_process_without_a_probe_counts_as_started_when_it_stays_up_for_its_grace(house: House) -> None:
    played = house.play(
        an_experiment(processes={"app": a_process(["sleep", "300"], start_grace="300ms")}, injections=[a_kill()])
    )
    assert played.code == 0, played.done
    assert min(one.took_ms for one in played.events(j.ProcessReady)) >= 300


def test_processes_start_after_those_that_they_need(house: House) -> None:
    first = server("says", ready={**says_go(), "log": {"process": "base", "match": "all systems go"}})
    played = house.play(
        an_experiment(
            processes={"late": a_process(["sleep", "300"], needs=["base"]), "base": first},
            injections=[a_kill(process="late")],
        )
    )
    assert played.code == 0, played.done
    began = [(one.process, one.at_us) for one in played.events(j.ProcessStarted)]
    assert [name for name, _ in began] == ["base", "late", "late"]
    assert began[1][1] > played.events(j.ProcessReady)[0].at_us


# --- restarts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "code", "comes_back"),
    [
        ("never", 1, False),
        ("unexpected", 0, False),
        ("unexpected", 1, True),
        ("always", 0, True),
        ("always", 1, True),
    ],
)
def test_a_process_that_ends_by_itself_comes_back_as_its_policy_says(
    house: House, when: str, code: int, comes_back: bool
) -> None:
    played = house.play(
        an_experiment(
            processes={
                "app": server("says", f"exits={code}", ready=says_go(), restart={"when": when, "delay": "50ms"})
            },
            workload=touching("exit", "0.1"),
            injections=[a_kill("1s", signal="URG")],
            settle="300ms",
            invariants=[{"crashes": {"of": "app", "at_most": 1}}],
        )
    )
    assert exits(played)[0] == ("own", code, "")
    assert played.verdict.restarts == ({"app": 1} if comes_back else {})
    assert len(played.events(j.ProcessStarted)) == 1 + comes_back


def test_a_killed_process_comes_back_unless_it_is_never_to(house: House) -> None:
    for when, restarts in (("never", {}), ("unexpected", {"app": 1})):
        one = a_process(["sleep", "300"], restart={"when": when, "delay": "50ms"})
        played = house.play(an_experiment(title=when, processes={"app": one}, injections=[a_kill()], settle="500ms"))
        assert exits(played)[0] == ("injected", None, "KILL")
        assert played.verdict.restarts == restarts
        assert played.code == (0 if restarts else 1), played.done


def test_a_process_that_is_never_ready_is_started_three_times_longer_apart_each_time(house: House) -> None:
    restart = {"when": "unexpected", "delay": "50ms", "backoff": 2, "limit": "4 per 1m"}
    played = house.play(
        an_experiment(
            processes={"app": a_process(app("server", "dies=3"), restart=restart, ready=says_go())},
            injections=[a_kill()],
        )
    )
    assert played.code == 4
    assert [one.delay_ms for one in played.events(j.ProcessMoved) if one.state == "backoff"] == [50, 100]
    assert states(played.stored.all(), "app").count("starting") == 3
    assert played.events(j.ProcessMoved)[-2].state == "fatal" or "fatal" in states(played.stored.all(), "app")
    assert "it was never ready in 3 starts" in played.done.out
    assert exits(played) == [("own", 3, "")] * 3


def test_the_jitter_of_delays_is_drawn_from_the_seed(house: House) -> None:
    restart = {"when": "unexpected", "delay": "100ms", "jitter": 100, "backoff": 1, "limit": "3 per 1m"}
    experiment = an_experiment(
        processes={"app": a_process(app("server", "dies=3"), restart=restart)}, injections=[a_kill("9s")]
    )

    def delays(seed: int) -> list[int]:
        played = house.play(experiment, seed=seed)
        return [one.delay_ms for one in played.events(j.ProcessMoved) if one.state == "backoff"]

    one = delays(1)
    assert delays(1) == one
    assert delays(2) != one
    assert all(100 <= each <= 200 for each in one)


def test_a_limit_reached_in_the_middle_of_a_round_ends_it_and_is_a_finding(house: House) -> None:
    restart = {"when": "unexpected", "delay": "20ms", "backoff": 1, "limit": "2 per 1m"}
    played = house.play(
        an_experiment(
            processes={"app": a_process(["sleep", "300"], restart=restart)},
            injections=[a_kill(f"{at}ms") for at in (200, 500, 800, 1100)],
            settle="300ms",
            invariants=[{"recovery": {"of": "app", "every": "< 5s"}}],
        )
    )
    assert played.code == 1, played.done
    assert played.verdict.outcome == "aborted"
    assert "app is fatal" in played.done.out


# --- liveness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("socket", [False, True], ids=["file", "socket"])
def test_a_process_that_hangs_is_noticed_by_its_heartbeat_and_started_again(house: House, socket: bool) -> None:
    alive = {"heartbeat": {"every": "300ms", "socket": socket}, "within": "200ms", "every": "50ms"}
    played = house.play(
        an_experiment(
            processes={"app": server("beats", "says", "hangs", ready=says_go(), alive=alive)},
            workload=touching("hang", "0.2"),
            injections=[a_kill("2500ms", signal="URG")],
            invariants=[
                {"crashes": {"of": "app", "at_most": 0}},
                {"restarts": {"of": "app", "at_least": 1, "at_most": 1}},
            ],
        )
    )
    assert played.code == 0, played.done
    why = next(one.why for one in played.events(j.ProcessMoved) if one.state == "stopping")
    assert "no longer answered" in why and "heartbeat" in why
    assert exits(played)[0][0] == "asked"


def test_a_process_that_is_suspended_for_too_long_is_started_again_by_its_liveness_probe(house: House) -> None:
    http = {"http": {"url": "http://127.0.0.1:${port.app}/", "within": "100ms"}, "within": "400ms", "every": "50ms"}
    played = house.play(
        an_experiment(
            processes={"app": server("http", "says", ready=says_go(), alive=http)},
            injections=[a_suspension(lasts="1500ms")],
        )
    )
    assert played.code == 0, played.done
    assert played.verdict.restarts == {"app": 1}
    assert [one.verified for one in played.events(j.Healed)] == [True]


# --- who did it -----------------------------------------------------------------------------------------------------


def test_a_death_that_we_caused_is_told_from_one_that_we_did_not(house: House) -> None:
    played = house.play(
        an_experiment(
            processes={"app": server("says", "exits=9", ready=says_go())},
            workload=touching("exit", "0.9"),
            injections=[a_kill("100ms"), a_kill("500ms", signal="TERM"), a_kill("1800ms", signal="URG")],
            invariants=[{"crashes": {"of": "app", "at_most": 0}}],
        )
    )
    assert exits(played)[:3] == [("injected", None, "KILL"), ("injected", None, "TERM"), ("own", 9, "")]
    assert played.verdict.crashes == {"app": 1}
    assert played.code == 1 and "died 1 time of its own" in played.done.out


def test_what_a_killed_main_process_takes_down_is_not_counted_against_it(house: House) -> None:
    # A child that dies with its parent, by the kernel's own hand.
    program = python(
        "import ctypes, os, time\n"
        "for _ in range(2):\n"
        "  if not os.fork():\n"
        "    ctypes.CDLL(None).prctl(1, 9); time.sleep(300)\n"
        "time.sleep(300)"
    )
    played = house.play(an_experiment(processes={"app": a_process(program)}, injections=[a_kill("500ms")]))
    assert played.code == 0, played.done
    gone = [one for one in played.events(j.ChildGone) if one.at_us < played.events(j.ProcessReady)[1].at_us]
    assert [(one.cause, one.injection) for one in gone] == [("injected", 1)] * 2


def test_a_death_for_want_of_memory_is_told_apart(house: House) -> None:
    groups = _memory_group(house.path.name)
    if groups is None:
        pytest.skip("no memory cgroup can be made here: that takes root, and a cgroup file system to write to")
    group, limit = groups
    try:
        limit.write_text(str(24 << 20))
        eats = python(
            "import os, sys, time\n"
            f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            "state = os.environ['CROUPIER_STATE']\n"
            "print('ready', flush=True)\n"
            "while not os.path.exists(state + '/eat'): time.sleep(0.02)\n"
            "os.rename(state + '/eat', state + '/eaten')\n"
            "hunger = []\n"
            "while True: hunger.append(bytearray(1 << 20))"
        )
        ready = {"log": {"process": "app", "match": "ready"}, "every": "20ms"}
        played = house.play(
            an_experiment(
                processes={"app": a_process(eats, ready=ready)},
                workload=touching("eat", "0.1"),
                injections=[a_kill("1500ms", signal="URG")],
                invariants=[{"crashes": {"of": "app", "at_most": 0}}],
            )
        )
    finally:
        group.rmdir()
    assert exits(played)[0] == ("oom", None, "KILL")
    assert played.code == 1


def _memory_group(name: str) -> tuple[Path, Path] | None:
    """A cgroup with a limit on memory, and the file of the limit; None where this machine does not let us."""
    if os.getuid() != 0:
        return None
    for home, file in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = home / f"croupier-test-{name[-20:]}-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / file).exists():
            return group, group / file
        group.rmdir()
    return None


# --- somebody else's supervisor -------------------------------------------------------------------------------------


def test_under_a_gunicorn_master_recovery_is_seen_from_the_outside(house: House) -> None:
    (house.path / "hello.py").write_text("def app(environ, start):\n    start('200 OK', [])\n    return [b'hello']\n")
    master = [f"{HERE}/gunicorn", "--workers=2", "--no-control-socket", "--bind=127.0.0.1:${port.app}", "hello:app"]
    health = {"http": {"url": "http://127.0.0.1:${port.app}/"}}
    played = house.play(
        an_experiment(
            processes={"app": a_process(master, ready={**health, "within": "15s"})},
            steady_state=[health],
            injections=[a_kill("800ms", pick="children")],
            invariants=[
                {"recovery": {"of": "app", "every": "< 10s"}},
                {"restarts": {"of": "app", "at_most": 0}},
                {"process": {"of": "app", "pick": "children", "count": 2}},
            ],
        )
    )
    assert played.code == 0, played.done
    (hit,) = played.events(j.Intended)[0].targets
    assert not hit.main and hit.of == 2
    gone = [one for one in played.events(j.ChildGone) if one.who == hit.who]
    assert [(one.cause, one.injection) for one in gone] == [("injected", 1)]
    back = [one for one in played.events(j.ChildAppeared) if one.at_us > played.events(j.Intended)[0].at_us]
    assert len(back) == 1
    (recovered,) = played.events(j.Recovered)
    assert "2 children are there" in recovered.how


SUPERVISED = """
[supervisord]
nodaemon=true
logfile=%(here)s/supervisord.log
pidfile=%(here)s/supervisord.pid
childlogdir=%(here)s

[program:worker]
command={python} -S -c "import time; time.sleep(300)"
autorestart=true
startsecs=0

[program:bystander]
command=sleep 300
"""


def test_under_supervisord_a_program_below_it_is_hit_by_its_name_and_comes_back(house: House) -> None:
    if shutil.which("supervisord", path=house.env["PATH"]) is None:
        pytest.skip("supervisord is not installed (pip install supervisor)")
    (house.path / "conf").write_text(SUPERVISED.format(python=sys.executable))
    start = ["sh", "-c", 'cp conf "$0/supervisord.conf"; exec supervisord -c "$0/supervisord.conf"', "${state}"]
    up = {"process": {"of": "sup", "pick": "children", "at_least": 2}}
    # The program is Python, and so is supervisord itself, which is to be spared.
    below = {"process": "sup", "name": "python*", "exclude": {"process": "sup", "pick": "main"}}
    played = house.play(
        an_experiment(
            processes={"sup": a_process(start, ready={**up, "within": "20s"}, stop={"grace": "5s"})},
            injections=[{"at": "500ms", "kill": {"signal": "KILL"}, "target": below}],
            invariants=[{"recovery": {"of": "sup", "every": "< 10s"}}, {"restarts": {"of": "sup", "at_most": 0}}, up],
        )
    )
    assert played.code == 0, played.done
    (hit,) = played.events(j.Intended)[0].targets
    assert not hit.main
    assert len(played.events(j.Recovered)) == 1
    assert "exited: worker" in (played.stored.run.state / "supervisord.log").read_text()
