"""A plugin is as good as a built-in: found by its file or installed, carried out, healed by whoever is left.

Played with `examples/plugin`, as it stands.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from croupier.model import journal as j
from croupier.model.target import Identity
from croupier.registry import catalogue
from croupier.system import procs, signals

from .house import Done, House, eventually

PLUGIN = Path(__file__).resolve().parents[2] / "examples" / "plugin"
LACK = catalogue((str(PLUGIN / "croupier_renice.py"),)).injector("renice").lacking(None)
may_renice = pytest.mark.skipif(LACK != "", reason=LACK)
HELD_LONG = """
version: 1
title: A guest that starves
hypothesis: Whatever becomes of croupier, the guest gets back its niceness.
attach:
  guest: {pid: %d}
injections:
  - at: 100ms
    renice: {by: 10, for: 60s}
    target: {process: guest}
limits: {injections: 1, allow: [guest]}
invariants:
  - niceness: {of: guest}
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A copy, so that nothing is written beside the original."""
    return shutil.copytree(PLUGIN, tmp_path / "plugin", ignore=shutil.ignore_patterns("__pycache__", "runs", ".*"))


pytestmark = pytest.mark.xdist_group("plugin")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which pip has installed the plugin."""
    home = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(PLUGIN, home / "source", ignore=shutil.ignore_patterns("__pycache__", "runs", ".*"))
    target = home / "site"
    flags = ["--no-deps", "--no-input", "--disable-pip-version-check", "--target", str(target)]
    # Where the build backend is at hand, nothing has to be fetched.
    flags += ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *flags, str(source)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(params=["by its file", "installed"])
def known(request: pytest.FixtureRequest, plugin: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """The two doors: the flags and the environment with which croupier knows the plugin."""
    if request.param == "by its file":
        return ("--plugin", str(plugin / "croupier_renice.py")), {}
    return (), {"PYTHONPATH": str(request.getfixturevalue("installed"))}


@may_renice
def test_the_example_is_held(house: House, plugin: Path, known: tuple[tuple[str, ...], dict[str, str]]) -> None:
    flags, env = known
    played = house.play(plugin / "experiment.yaml", *flags, env=env)

    assert (played.code, played.verdict.verdict) == (0, "held"), played.done.said
    assert played.results() == ["landed"]
    (healed,) = played.events(j.Healed)
    assert healed.verified
    politeness = [line for line in played.stored.log.splitlines() if "politer" in line]
    assert [line.rpartition(" ")[2] for line in politeness] == ["0", "10", "0"], "the worker itself saw it"
    assert {one.kind for one in played.verdict.findings} >= {"niceness"}


@may_renice
def test_a_replay_does_it_again(house: House, plugin: Path) -> None:
    flags = ("--plugin", str(plugin / "croupier_renice.py"))
    played = house.play(plugin / "experiment.yaml", *flags)
    done = house.croupier("replay", played.stored.path, *flags, "--no-progress", "--out", house.path / "again")

    assert done.code == 0, done.said
    assert len(list((house.path / "again").glob("*/*/journal.jsonl"))) >= 1


def test_an_experiment_whose_plugin_is_not_there_is_refused_with_a_hint(house: House, plugin: Path) -> None:
    done = house.refused(plugin / "experiment.yaml")

    assert done.code == 2
    assert "unknown fault 'renice'" in done.err and "unknown probe 'niceness'" in done.err
    assert "--plugin" in done.err


def test_the_catalogue_and_the_schema_show_a_plugin(
    house: House, known: tuple[tuple[str, ...], dict[str, str]]
) -> None:
    flags, env = known
    fault = house.croupier("faults", "renice", "--json", *flags, env=env)
    probe = house.croupier("probes", "niceness", "--json", *flags, env=env)
    schema = house.croupier("schema", *flags, env=env)

    assert [one["name"] for one in fault.json] == ["renice"], fault.said
    assert [one["name"] for one in probe.json] == ["niceness"], probe.said
    assert '"renice"' in schema.out and '"niceness"' in schema.out


@pytest.fixture
def guest(house: House) -> Iterator[Identity]:
    who = house.guest(
        [sys.executable, "-ISc", "import time; print('ready', flush=True); time.sleep(300)"], ready="ready"
    )
    yield who


def niceness(who: Identity) -> int:
    assert procs.alive(who)
    return os.getpriority(os.PRIO_PROCESS, who.pid)


@may_renice
def test_the_guardian_heals_a_plugin_s_fault_when_croupier_is_killed(
    house: House, guest: Identity, known: tuple[tuple[str, ...], dict[str, str]]
) -> None:
    flags, env = known
    before = niceness(guest)
    playing = house.begin(HELD_LONG % guest.pid, "--live", *flags, env=env)
    playing.until(j.Concluded, lambda one: one.result == "landed")
    assert niceness(guest) == before + 10

    playing.signal(signal.SIGKILL)

    assert eventually(lambda: niceness(guest) == before, 2.0), "within two seconds"
    playing.stored.sees_everybody_gone()


@may_renice
def test_recover_heals_a_plugin_s_fault_when_nobody_is_left(
    house: House, guest: Identity, known: tuple[tuple[str, ...], dict[str, str]]
) -> None:
    flags, env = known
    before = niceness(guest)
    playing = house.begin(HELD_LONG % guest.pid, "--live", *flags, env=env)
    playing.until(j.Concluded, lambda one: one.result == "landed")
    running = playing.stored.running
    assert running.guardian is not None
    # Stopped first, so that neither sees the other go.
    for who in (running.guardian, playing.who):
        signals.send(who, "STOP")
    for who in (running.guardian, playing.who):
        signals.send(who, "KILL")
    playing.wait()
    assert niceness(guest) == before + 10, "nobody was left to heal it"

    done = house.croupier("recover", env=env)

    assert done.code == 0, done.said
    assert niceness(guest) == before
    assert house.found_left() == []


def test_the_tests_that_come_with_the_plugin_pass(plugin: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_renice.py"]
    done = subprocess.run(argv, cwd=plugin, env=env, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has the right to give away")
def test_without_the_right_to_lower_a_niceness_the_round_is_refused_before_it_begins(
    house: House, plugin: Path
) -> None:
    done = without_the_right(
        house, "run", str(plugin / "experiment.yaml"), "--plugin", str(plugin / "croupier_renice.py")
    )

    assert done.code == 3, done.said
    assert "a raised niceness could not be lowered again" in done.err
    assert not list(house.path.glob("**/journal.jsonl"))


def without_the_right(house: House, *arguments: str) -> Done:
    """Croupier as a root that has given up CAP_SYS_NICE, and nothing else: it can still read all that is root's."""
    program = (
        "import os, sys, ctypes; libc = ctypes.CDLL(None);"
        "cap = 23; assert libc.prctl(24, cap, 0, 0, 0) == 0;"  # PR_CAPBSET_DROP, CAP_SYS_NICE
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    argv = [sys.executable, "-c", program, str(Path(sys.executable).with_name("croupier")), *arguments]
    done = subprocess.run(
        [*argv, "--out", str(house.out), "--no-progress"],
        cwd=house.path,
        env=house.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)
