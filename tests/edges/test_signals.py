"""Signals reach exactly one process, and no other that carries its number by now."""

from __future__ import annotations

import errno
import os
import signal

import pytest
from hands import HANDLES_ALL, SLEEPS, eventually, identity, started

from croupier.model.target import Identity
from croupier.system import procs, signals


@pytest.mark.parametrize(("name", "number"), [("TERM", 15), ("SIGKILL", 9), ("USR1", int(signal.SIGUSR1))])
def test_a_signal_is_known_by_its_name(name: str, number: int) -> None:
    assert signals.signal_number(name) == number
    assert signals.signal_number(signals.signal_name(number)) == number


def test_real_time_signals_have_names() -> None:
    assert signals.signal_number("RTMIN+3") == signal.SIGRTMIN + 3
    assert signals.signal_name(signal.SIGRTMIN + 3) == "RTMIN+3"


@pytest.mark.parametrize("name", ["", "NOPE", "9", "RTMIN+99", "TERM+1", "RTMIN+x"])
def test_an_unknown_signal_is_said_to_be_unknown(name: str) -> None:
    with pytest.raises(ValueError, match="no signal"):
        signals.signal_number(name)


def test_a_signal_is_delivered() -> None:
    with started(*SLEEPS) as who:
        assert signals.send(who, "KILL")
        assert eventually(lambda: not procs.alive(who))


def test_nobody_is_signalled_under_a_number_that_changed_hands() -> None:
    with started(*SLEEPS) as who:
        before = Identity(pid=who.pid, started=who.started - 100, boot=who.boot)
        assert not signals.send(before, "KILL")
        assert procs.alive(who)


def test_a_zombie_is_gone_already() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    who = identity(pid)
    assert eventually(lambda: procs.state_of(who) == "Z")
    assert not signals.send(who, "KILL")
    os.waitpid(pid, 0)


def test_a_number_that_changes_hands_after_the_choice_is_noticed_at_the_last_instant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pid is opened while it is still the target's; by the time we compare it is somebody else's."""
    with started(*SLEEPS) as who:
        other = procs.Stat(who.pid, "other", "S", 1, 1, 1, 0, 0, 1, who.started + 5, 1)
        monkeypatch.setattr(procs, "read_stat", lambda pid: other)
        assert not signals.send(who, "KILL")
        monkeypatch.undo()
        assert procs.alive(who)


def test_without_pidfds_the_start_time_is_compared_before_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_HAS_PIDFD", False)
    with started(*SLEEPS) as who:
        assert not signals.send(Identity(pid=who.pid, started=who.started - 1, boot=who.boot), "KILL")
        assert signals.send(who, "KILL")
        assert eventually(lambda: not procs.alive(who))
        assert not signals.send(who, "KILL")


def test_a_watch_tells_when_its_process_has_ended() -> None:
    with started(*SLEEPS) as who, signals.Watch(who) as watch:
        assert not watch.gone()
        assert watch.send(9)
        assert watch.gone(within_ms=2_000)


def test_a_watch_on_nobody_says_gone() -> None:
    with started(*SLEEPS) as who:
        pass
    with signals.Watch(who) as watch:
        assert watch.gone()
        assert not watch.send(0)


def test_what_a_signal_will_do_can_be_asked() -> None:
    with started(*HANDLES_ALL, ready=b"ready") as who:
        assert procs.disposition(who, signal.SIGUSR1) == "caught"
        assert procs.disposition(who, signal.SIGALRM) == "default"
    assert procs.disposition(who, signal.SIGALRM) == ""


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_process_of_which_nothing_can_be_read_is_not_told_to_be_gone(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none_left(pid: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", none_left)
    ourselves = procs.identity(os.getpid())
    assert ourselves is not None
    with signals.Watch(ourselves) as watch:
        assert not watch.gone()
        with pytest.raises(OSError, match=os.strerror(number)):
            watch.send(0)


def test_where_pidfds_are_forbidden_signals_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int) -> int:
        raise PermissionError(errno.EPERM, "forbidden by a filter")

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    ourselves = procs.identity(os.getpid())
    assert ourselves is not None
    assert signals.send(ourselves, "CONT")
