"""Processes as the machine shows them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

import psutil
import pytest
from hands import SLEEPS, eventually, identity, python, started

from croupier.model.target import Cmdline, Identity, Selector, matches
from croupier.system import portable, procs, signals


def test_an_identity_is_a_number_a_start_time_and_a_boot() -> None:
    with started(*SLEEPS) as who:
        assert who.boot == procs.boot_id() != ""
        boot_time = time.clock_gettime(time.CLOCK_BOOTTIME) - who.started / os.sysconf("SC_CLK_TCK")
        assert 0 <= boot_time < 30
        assert procs.identity(who.pid) == who
    assert procs.identity(2**22 + 1) is None


def test_the_number_of_the_living_under_another_start_time_is_nobody() -> None:
    with started(*SLEEPS) as who:
        reused = Identity(pid=who.pid, started=who.started - 1, boot=who.boot)
        assert procs.alive(who)
        assert not procs.alive(reused)
        assert procs.state_of(reused) == ""


def test_a_process_of_another_boot_is_gone() -> None:
    with started(*SLEEPS) as who:
        assert not procs.alive(Identity(pid=who.pid, started=who.started, boot="another"))


def test_a_zombie_is_not_alive_but_still_has_its_identity() -> None:
    process = subprocess.Popen(["true"])
    who = identity(process.pid)
    assert eventually(lambda: procs.state_of(who) == "Z")
    assert not procs.alive(who)
    assert procs.identity(process.pid) == who
    process.wait()
    assert procs.state_of(who) == ""


def test_a_name_with_spaces_and_parentheses_is_read_whole(tmp_path: Path) -> None:
    odd = tmp_path / ") R 1 (x"
    odd.symlink_to("/bin/sleep")
    with started(str(odd), "300") as who:
        assert eventually(lambda: (stat := procs.read_stat(who.pid)) and stat.name == ") R 1 (x")
        stat = procs.read_stat(who.pid)
        assert stat is not None
        assert stat.parent == os.getpid()


def test_a_tree_names_parents_before_their_children() -> None:
    program = "import os,time\nos.fork() or os.fork()\nos.write(1, b'ready\\n')\ntime.sleep(300)"
    with started(*python(program), ready=b"ready") as who:
        assert eventually(lambda: len(procs.tree(who.pid)) == 3)
        pids = procs.tree(who.pid)
        assert pids[0] == who.pid
        for pid in pids[1:]:
            stat = procs.read_stat(pid)
            assert stat is not None
            assert pids.index(stat.parent) < pids.index(pid)
        for one in procs.family(who.pid):
            signals.send(one, "KILL")


def test_children_are_found_whichever_thread_made_them() -> None:
    program = (
        "import subprocess,threading,time\n"
        "def make():\n subprocess.Popen(['sleep','300'])\n print('ready', flush=True)\n time.sleep(300)\n"
        "threading.Thread(target=make).start()\ntime.sleep(300)"
    )
    with started(*python(program), ready=b"ready") as who:
        assert len(procs.children(who.pid)) == 1
        assert len(procs.thread_states(who)) == 2
        for one in procs.family(who.pid):
            signals.send(one, "KILL")


def test_without_the_children_file_the_machine_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    real = procs._read

    def without(path: str, most: int) -> bytes:
        if path.endswith("/children"):
            raise FileNotFoundError(path)
        return real(path, most)

    monkeypatch.setattr(procs, "_read", without)
    monkeypatch.setattr(procs, "_has_children_file", lambda: False)
    with started(*SLEEPS) as who:
        assert who.pid in procs.children(os.getpid())


def test_a_census_of_roots_walks_only_their_trees() -> None:
    with started(*SLEEPS) as web, started(*SLEEPS) as other:
        census = procs.read_census({"web": web})
        assert [one.identity for one in census] == [web]
        assert (census[0].role, census[0].main, census[0].ours) == ("web", True, True)
        assert other not in [one.identity for one in census]


def test_a_census_tells_ours_from_what_is_attached() -> None:
    with started(*SLEEPS) as web, started(*SLEEPS) as database:
        census = procs.read_census({"web": web}, attached={"database": database})
        seen = {one.role: (one.ours, one.main) for one in census}
        assert seen == {"web": (True, True), "database": (False, True)}


def test_a_census_is_in_the_order_of_start_time() -> None:
    with started(*SLEEPS) as first, started(*SLEEPS) as second, started(*SLEEPS) as third:
        census = procs.read_census({"c": third, "a": first, "b": second})
        assert [one.order for one in census] == [0, 1, 2]
        assert [one.identity for one in census] == sorted((first, second, third), key=lambda w: (w.started, w.pid))


def test_a_root_that_is_gone_leaves_an_empty_census() -> None:
    with started(*SLEEPS) as web:
        pass
    assert procs.read_census({"web": web}) == ()


def test_columns_nobody_asked_for_are_not_read() -> None:
    with started(*SLEEPS) as web:
        (one,) = procs.read_census({"web": web})
        assert (one.exe, one.cmdline, one.user, one.cgroup, one.env, one.ports) == (None,) * 6


def test_every_column_is_read_when_it_is_asked_for() -> None:
    program = (
        "import socket,time\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\n"
        "time.sleep(300)"
    )
    process = subprocess.Popen(python(program), stdout=subprocess.PIPE, env={**os.environ, "MARK": "of zorro"})
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        web = identity(process.pid)
        wanted = frozenset(("exe", "cmdline", "user", "cgroup", "env", "ports"))
        (one,) = procs.read_census({"web": web}, columns=wanted)  # type: ignore[arg-type]
        assert one.exe == str(Path(sys.executable).resolve())
        assert one.cmdline == python(program)
        assert one.user == psutil.Process().username()
        assert all(path.startswith("/") for path in one.cgroup or ("",))
        assert "MARK=of zorro" in (one.env or ())
        assert one.ports == (port,)
        everything = procs.read_census({}, columns=frozenset(("ports",)), whole=True)
        assert [found.pid for found in matches(Selector(port=port), everything)] == [process.pid]
    finally:
        process.kill()
        process.wait()


def test_a_whole_census_has_this_process_and_protects_it() -> None:
    census = {one.pid: one for one in procs.read_census({}, whole=True)}
    assert census[os.getpid()].protected == "it is croupier itself"
    assert census[1].protected == "it is PID 1"
    assert all(census[pid].protected for pid in procs.ancestors(os.getpid()) if pid in census)
    assert not any(one.state == "Z" for one in census.values())


def test_kernel_threads_are_protected() -> None:
    threads = [one for one in procs.read_census({}, whole=True) if one.parent == 2]
    if not threads:
        pytest.skip("no kernel threads are seen from inside a container")
    assert all(one.protected for one in threads)


def test_the_protected_list_has_reasons() -> None:
    protected = procs.protected_pids()
    assert protected[1] and protected[os.getpid()] and protected[os.getppid()]


def test_a_shielded_process_is_protected_for_as_long_as_it_is_the_same() -> None:
    with started(*SLEEPS) as who:
        procs.shield(who, "it is the guardian")
        assert procs.protected_pids()[who.pid] == "it is the guardian"
    assert who.pid not in procs.protected_pids()


def test_what_we_started_is_not_protected_by_its_name(tmp_path: Path) -> None:
    named = tmp_path / "sshd"
    named.symlink_to("/bin/sleep")
    with started(str(named), "300") as who:
        assert eventually(lambda: procs.read_census({"x": who})[0].name == "sshd")
        assert procs.read_census({"x": who})[0].protected == ""
        strangers = {one.pid: one for one in procs.read_census({}, whole=True)}
        assert strangers[who.pid].protected == "somebody may be logged in through it"


@pytest.mark.parametrize(
    "selector",
    [
        Selector(name="sleep"),
        Selector(name="sl*p"),
        Selector(name="sl[e]ep", exclude=(Selector(cmdline=Cmdline(glob="*301")),)),
        Selector(cmdline=Cmdline(exact="sleep 300")),
        Selector(tree=os.getpid(), name="sleep"),
        Selector(parent=os.getpid()),
        Selector(pid=os.getpid()),
        Selector(process="web"),
        Selector(env="MARK=of zorro"),
    ],
)
def test_the_fast_way_finds_whom_the_whole_census_finds(selector: Selector) -> None:
    with started("sleep", "300", env={"MARK": "of zorro"}) as one, started("sleep", "301") as two:
        roots = {"web": one, "db": two}
        assert eventually(
            lambda: len([w for w in (one, two) if (s := procs.read_stat(w.pid)) and s.name == "sleep"]) == 2
        )
        whole = procs.read_census(roots, whole=True, columns=frozenset(("cmdline", "env")))
        expected = {seen.pid for seen in matches(selector, whole)}
        found = matches(selector, procs.find(selector, roots=roots))
        assert expected
        # Other processes of the machine come and go between the two.
        assert {seen.pid for seen in found} & {one.pid, two.pid, os.getpid()} == expected & {
            one.pid,
            two.pid,
            os.getpid(),
        }
        assert [seen.role for seen in found if seen.pid == one.pid] in ([], ["web"])


def test_the_fast_way_brings_ancestors_so_that_a_deny_list_by_tree_holds() -> None:
    with started("sleep", "300") as who:
        found = procs.find(Selector(pid=who.pid))
        denied = matches(Selector(tree=os.getpid()), found)
        assert who in [one.identity for one in denied]


def test_a_name_is_matched_as_a_glob_matches() -> None:
    with started("sleep", "300") as who:
        assert eventually(lambda: who.pid in procs.named("sleep"))
        assert who.pid in procs.named("s?eep")
        assert who.pid not in procs.named("slee")
        assert fnmatchcase("sleep", "s?eep")


def test_usage_adds_up_a_tree_and_leaves_the_dead_out() -> None:
    with started(*SLEEPS) as one, started(*SLEEPS) as two:
        # Between fork and exec a process may be seen without any memory of its own.
        assert eventually(lambda: all(procs.usage((who.pid,)).rss_bytes for who in (one, two)))
        both = procs.usage((one.pid, two.pid, 2**22 + 1))
        single = procs.usage((one.pid,))
        assert both.rss_bytes > single.rss_bytes > 0
        assert (both.threads, single.threads) == (2, 1)
        assert both.fds > single.fds >= 3
    assert procs.usage((one.pid,)) == procs.Usage()


def test_the_mark_in_an_environment_is_found_whole_or_not_at_all() -> None:
    with started("sleep", "300", env={"CROUPIER_TEST": "77"}) as who:
        assert eventually(lambda: procs.has_marker(who.pid, b"CROUPIER_TEST=77"))
        assert not procs.has_marker(who.pid, b"CROUPIER_TEST=7")
        assert not procs.has_marker(who.pid, b"ROUPIER_TEST=77")
        assert procs.marked("CROUPIER_TEST=77") == [who]


def test_psutil_gives_the_same_answers_where_there_is_no_proc() -> None:
    with started(*SLEEPS) as who:
        portably = portable.identity(who.pid)
        assert portably is not None
        assert eventually(lambda: portable.state_of(portably) == "S")
        census = portable.read_census({"web": portably}, frozenset(("cmdline",)), False, {}, {}, False)
        assert [(one.pid, one.role, one.main, one.ours) for one in census] == [(who.pid, "web", True, True)]
        assert census[0].cmdline == SLEEPS
        assert who.pid in portable.children(os.getpid())
        portable.send(portably, signals.signal_number("STOP"))
        assert eventually(lambda: portable.state_of(portably) == "T")
        portable.send(portably, signals.signal_number("KILL"))
        assert eventually(lambda: portable.state_of(portably) in ("", "Z"))
    assert os.getpid() in portable.protected_pids()


def test_a_udp_port_counts_as_listened_on() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        census = procs.find(Selector(port=bound.getsockname()[1], pid=os.getpid()))
        assert [one.pid for one in matches(Selector(port=bound.getsockname()[1]), census)] == [os.getpid()]


HIDES = python(
    "import ctypes,os,socket,sys,time\n"
    "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
    "os.setuid(4242) if os.getuid() == 0 else None\n"
    "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
    "print('ready', flush=True); time.sleep(300)"
)
READS = """
import os, sys
from croupier.system import procs
if os.getuid() == 0:
    os.setgroups([]); os.setuid(4242)
(one,) = [one for one in procs.read_census({}, whole=True, columns=frozenset(("env", "ports")))
          if one.pid == int(sys.argv[1])]
print(one.env, one.ports)
"""


def test_what_may_not_be_read_is_unknown_and_not_empty() -> None:
    # As a user without rights over it, who may signal it all the same: so is a program with capabilities of its own.
    with started(*HIDES, ready=b"ready") as who:
        done = subprocess.run([sys.executable, "-c", READS, str(who.pid)], capture_output=True, text=True)
        assert done.stdout.split() == ["None", "None"], done.stderr
