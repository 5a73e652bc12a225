"""Rounds on groups that croupier did not start: a cgroup with other users' processes in it, a container, a unit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from a_docker import a_docker
from a_systemd import a_systemd
from cgroup_of_ours import a_cgroup, lacking, put_into
from hands import SLEEPS, eventually, started

from croupier.model import journal as j
from croupier.model.target import Selector, matches
from croupier.store import RunDir
from croupier.system import cgroups, freezer, procs

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
A_FAMILY = (*AS_NOBODY, "sh", "-c", "sleep 300 & sleep 300 & echo ready; wait")


@pytest.fixture
def group():
    path = f"/croupier-test-group-{os.getpid()}"
    with a_cgroup(path) as places:
        yield path, places


def states(*pids: int) -> list[str]:
    return [procs.state_of(procs.identity(pid)) for pid in pids]


def an_experiment(folder: Path, attach: dict[str, Any], injection: dict[str, Any], **more: Any) -> Path:
    file = folder / "experiment.json"
    file.write_text(json.dumps({
        "version": 1, "title": "group", "hypothesis": "It goes on.", "attach": {"web": attach},
        "injections": [{"at": "50ms", "target": {"process": "web"}, **injection}],
        "limits": {"allow": ["web"], "injections": 1}, "settle": "5s",
        "invariants": [{"process": {"of": "web", "at_least": 1}}], **more,
    }))  # fmt: skip
    return file


def round_of(file: Path, *flags: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "croupier.cli", "run", str(file), "--seed", "1", "--no-progress", "--out",
            str(file.parent / "runs"), *flags]  # fmt: skip
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=file.parent)


def events(file: Path) -> list[j.AnyEvent]:
    return list(RunDir((file.parent / "runs" / "group" / "latest").resolve()).events())


def test_everybody_in_a_cgroup_and_below_it_is_found_whatever_their_user(group):
    path, places = group
    with started(*A_FAMILY, ready=b"ready") as who, started(*SLEEPS) as other, started(*SLEEPS) as outside:
        children = procs.family(who.pid)
        for one in (who, *children):
            put_into(places, one)
        for place in places:
            (place / "below").mkdir()
        put_into((place / "below" for place in places), other)
        selector = Selector(cgroup=path, user="nobody")
        assert {one.identity for one in matches(selector, procs.find(selector))} == {who, *children}
        selector = Selector(cgroup=path)
        found = {one.identity for one in matches(selector, procs.find(selector))}
        assert found == {who, other, *children}
        assert found == {one.identity for one in matches(selector, procs.read_census(
            {}, whole=True, columns=frozenset(("cgroup",))))}  # fmt: skip
        assert outside not in found
        for one in children:
            os.kill(one.pid, signal.SIGKILL)


def test_a_round_stops_a_whole_cgroup_of_another_user_and_lets_it_go_on(group, tmp_path):
    path, places = group
    with started(*A_FAMILY, ready=b"ready") as who, started(*AS_NOBODY, *SLEEPS) as beside:
        children = procs.family(who.pid)
        for one in (who, beside, *children):
            put_into(places, one)
        pids = [one.pid for one in (who, beside, *children)]
        file = an_experiment(tmp_path, {"cgroup": path}, {"suspend": {"for": "1s", "tree": True}})
        refused = round_of(file)
        assert "--live" in refused.communicate(timeout=60)[0]
        assert set(states(*pids)) == {"S"}
        played = round_of(file, "--live")
        # The one beside is no child of anybody in there: it belongs because of where it is.
        assert eventually(lambda: set(states(*pids)) == {"T"} or played.poll() is not None, 60)
        assert set(states(*pids)) == {"T"}
        out, _ = played.communicate(timeout=60)
        assert played.returncode == 0, out
        assert set(states(*pids)) == {"S"}
        assert [one.result for one in events(file) if isinstance(one, j.Concluded)] == ["landed"]
        for one in (*children, beside):
            os.kill(one.pid, signal.SIGKILL)


def test_whoever_is_in_an_attached_cgroup_and_may_not_be_touched_is_spared(group, tmp_path):
    path, places = group
    with started(*AS_NOBODY, *SLEEPS) as first, started(*AS_NOBODY, *SLEEPS) as spared:
        for one in (first, spared):
            put_into(places, one)
        limits = {"allow": ["web"], "deny": [{"pid": spared.pid}], "injections": 1}
        injection = {"suspend": {"for": "500ms", "tree": True}}
        played = round_of(an_experiment(tmp_path, {"cgroup": path}, injection, limits=limits), "--live")
        assert eventually(lambda: states(first.pid) == ["T"] or played.poll() is not None, 60)
        assert states(first.pid, spared.pid) == ["T", "S"]
        played.communicate(timeout=60)


@pytest.mark.needs("docker.io", "busybox-static")
@pytest.mark.xdist_group("docker")
def test_a_paused_container_goes_on_when_croupier_is_killed(tmp_path, monkeypatch):
    with a_docker(Path(tempfile.mkdtemp(prefix="cd"))) as daemon, daemon.container("web", user="65534") as name:
        monkeypatch.setenv("DOCKER_HOST", daemon.env["DOCKER_HOST"])
        file = an_experiment(tmp_path, {"container": name}, {"pause_container": {"for": "1m"}})
        played = round_of(file, "--live")
        assert eventually(lambda: daemon.state(name) == "paused" or played.poll() is not None, 60)
        assert daemon.state(name) == "paused", played.communicate()[0]
        played.kill()
        played.communicate()
        assert eventually(lambda: daemon.state(name) == "running", 10)
        file = an_experiment(tmp_path, {"container": name}, {"stop_container": {"for": "200ms", "grace": "0s"}})
        played = round_of(file, "--live")
        out, _ = played.communicate(timeout=60)
        assert (played.returncode, daemon.state(name)) == (0, "running"), out
        assert [one.verified for one in events(file) if isinstance(one, j.Healed)] == [True]


@pytest.mark.needs("systemd", "dbus-daemon")
@pytest.mark.xdist_group("systemd")
def test_a_limited_unit_gets_back_what_it_had_when_croupier_is_killed(tmp_path_factory, tmp_path, monkeypatch):
    with a_systemd(tmp_path_factory.mktemp("sd")) as manager, manager.service("round") as unit:
        for key, value in manager.env.items():
            monkeypatch.setenv(key, value)
        pid = manager.main(unit).pid
        file = an_experiment(tmp_path, {"user_unit": unit}, {"limit_unit": {"for": "1m", "cpu": 20}})
        played = round_of(file, "--live")
        assert eventually(lambda: cgroups.processors(pid) is not None or played.poll() is not None, 60)
        assert cgroups.processors(pid) == 0.2, played.communicate()[0]
        played.kill()
        played.communicate()
        assert eventually(lambda: manager.show(unit, "CPUQuotaPerSecUSec") == "infinity", 10)
        assert freezer.home_of(pid, 2).endswith(unit)
