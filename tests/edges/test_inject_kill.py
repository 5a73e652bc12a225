"""Killing: what landed was seen, what went by itself was missed, and nobody is signalled twice for nothing."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hands import HANDLES_ALL, IGNORES_TERM, SLEEPS, Hands, a_permit, a_permit_for, eventually, python, started

from croupier.inject import Outcome
from croupier.inject.kill import INJECTOR
from croupier.model.fault import Kill, Request
from croupier.model.target import Identity
from croupier.model.undo import UndoRecord
from croupier.model.units import Ms
from croupier.system import procs

QUICK = Ms(300)


def kill(fault: Kill, *who: Identity, hands: Hands | None = None) -> Outcome:
    return INJECTOR.inject(a_permit(fault, *who), fault, hands or Hands())


def test_a_kill_landed_when_its_target_was_seen_to_be_gone() -> None:
    with started(*SLEEPS) as who:
        outcome = kill(Kill(), who)
        assert outcome.result == "landed"
        assert "ended by KILL" in outcome.detail
        assert 0 < outcome.us < 50_000
        assert not procs.alive(who)


def test_a_target_that_died_by_itself_is_missed() -> None:
    with started(*SLEEPS) as who:
        permit = a_permit(Kill(), who)
    hands = Hands()
    outcome = INJECTOR.inject(permit, Kill(), hands)
    assert outcome.result == "missed"
    assert hands.steps == []


def test_a_target_that_dies_at_the_moment_of_the_act_is_missed() -> None:
    class TooLate(Hands):
        def signal(self, who: Identity, name: str) -> bool:
            super().signal(who, name)
            assert eventually(lambda: not procs.alive(who))
            return False

    with started(*SLEEPS) as who:
        assert kill(Kill(), who, hands=TooLate()).result == "missed"


def test_a_number_that_changed_hands_is_missed_and_its_new_owner_lives() -> None:
    with started(*SLEEPS) as who:
        (seen,) = a_permit(Kill(), who).targets
        before = Identity(pid=who.pid, started=who.started - 1, boot=who.boot)
        permit = a_permit_for(Kill(), msgspec.structs.replace(seen, identity=before))
        assert INJECTOR.inject(permit, Kill(), Hands()).result == "missed"
        assert procs.alive(who)


def test_a_handled_signal_landed_though_its_target_lives() -> None:
    with started(*HANDLES_ALL, ready=b"ready") as who:
        outcome = kill(Kill(signal="USR1", grace_ms=Ms(5_000)), who)
        assert (outcome.result, "USR1 delivered, still alive" in outcome.detail) == ("landed", True)
        assert procs.alive(who)


def test_a_handled_signal_that_is_not_meant_to_end_anybody_is_not_waited_for() -> None:
    class Impatient(Hands):
        def wait(self, ms: float, until: object = None) -> bool:
            raise AssertionError("waited for a handler that lives")

    with started(*HANDLES_ALL, ready=b"ready") as who:
        assert kill(Kill(signal="USR1"), who, hands=Impatient()).result == "landed"


@pytest.mark.parametrize("program", [HANDLES_ALL, IGNORES_TERM], ids=["handled", "ignored"])
def test_a_term_that_its_target_lives_through_is_waited_for_and_then_unsure(program: tuple[str, ...]) -> None:
    with started(*program, ready=b"ready") as who:
        outcome = kill(Kill(signal="TERM", grace_ms=QUICK), who)
        assert (outcome.result, "TERM delivered, still alive after the grace" in outcome.detail) == ("unsure", True)


def test_a_term_that_was_lived_through_stays_unsure_whatever_is_delivered_after_it() -> None:
    with started(*HANDLES_ALL, ready=b"ready") as who:
        assert kill(Kill(signal="TERM", then="USR1", grace_ms=QUICK), who).result == "unsure"


def test_a_hangup_that_is_handled_has_done_all_that_it_is_sent_for() -> None:
    with started(*HANDLES_ALL, ready=b"ready") as who:
        assert kill(Kill(signal="HUP", grace_ms=QUICK), who).result == "landed"


def test_the_ladder_is_climbed_until_the_target_is_gone() -> None:
    with started(*IGNORES_TERM, ready=b"ready") as who:
        hands = Hands()
        outcome = kill(Kill(signal="TERM", then=("INT", "KILL", "QUIT"), grace_ms=QUICK), who, hands=hands)
        assert outcome.result == "landed"
        assert hands.steps[0] == f"TERM {who.pid}"
        assert [step.split()[0] for step in hands.steps] in (["TERM", "INT"], ["TERM", "INT", "KILL"])


def test_a_target_that_goes_at_the_first_rung_is_not_sent_the_second() -> None:
    with started(*SLEEPS) as who:
        hands = Hands()
        outcome = kill(Kill(signal="TERM", then="KILL"), who, hands=hands)
        assert ("ended by TERM" in outcome.detail, hands.steps) == (True, [f"TERM {who.pid}"])


def test_a_halt_ends_the_climb() -> None:
    class Halts(Hands):
        def wait(self, ms: float, until: object = None) -> bool:
            self.halted = True
            return False

    with started(*IGNORES_TERM, ready=b"ready") as who:
        hands = Halts()
        outcome = kill(Kill(signal="TERM", then="KILL"), who, hands=hands)
        assert (outcome.result, "when the round was halted" in outcome.detail) == ("unsure", True)
        assert hands.steps == [f"TERM {who.pid}"]
        assert procs.alive(who)


def test_nothing_is_sent_once_the_round_is_halted() -> None:
    with started(*SLEEPS) as who:
        hands = Hands()
        hands.halted = True
        outcome = kill(Kill(), who, hands=hands)
        assert (outcome.result, hands.steps) == ("missed", [])
        assert procs.alive(who)


def test_a_signal_that_a_halt_forestalled_is_not_told_as_a_death() -> None:
    class Late(Hands):
        def signal(self, who: Identity, name: str) -> bool:
            self.halted = True
            return False

    with started(*SLEEPS) as who:
        outcome = kill(Kill(), who, hands=Late())
        assert (outcome.result, "halted before the signal" in outcome.detail) == ("missed", True)


def halted_while(ask: Request | tuple[str, ...], going: Callable[[], object]) -> Outcome:
    """Ask, with a long grace, and halt once that goes on; nobody may be signalled, and it is over soon."""
    fault = Kill(ask=ask, grace_ms=Ms(30_000))
    hands, outcomes = Hands(), list[Outcome]()
    with started(*SLEEPS) as who:
        thread = threading.Thread(target=lambda: outcomes.append(kill(fault, who, hands=hands)))
        thread.start()
        assert eventually(going)
        hands.halted = True
        thread.join(timeout=2)
        assert not thread.is_alive()
        assert hands.steps == []
        assert procs.alive(who)
    return outcomes[0]


def test_a_halt_ends_the_command_that_asks_and_no_signal_follows(tmp_path: Path) -> None:
    mark = tmp_path / "asking"
    outcome = halted_while(("sh", "-c", f"echo $$ > {mark}; sleep 300"), lambda: mark.exists() and mark.read_text())
    assert (outcome.result, "halted" in outcome.detail) == ("unsure", True)
    assert procs.identity(int(mark.read_text())) is None


def test_a_halt_in_the_grace_after_asking_lets_no_signal_follow(tmp_path: Path) -> None:
    mark = tmp_path / "asked"
    assert halted_while(("touch", str(mark)), mark.exists).result == "unsure"


def test_a_halt_does_not_wait_for_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        asked: list[socket.socket] = []

        def accepted() -> bool:
            try:
                asked.append(silent.accept()[0])
            except BlockingIOError:
                pass
            return bool(asked)

        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert halted_while(Request(url=url, within_ms=Ms(30_000)), accepted).result == "unsure"
        asked[0].close()


def test_who_connects_after_the_halt_is_asked_nothing() -> None:
    class Turns(Hands):
        """Halted between the question whether to ask and the connection."""

        looks = 0

        @property
        def halted(self) -> bool:
            self.looks += 1
            return self.looks > 1

        @halted.setter
        def halted(self, value: bool) -> None:
            pass

    with a_server(202) as (url, asked), started(*SLEEPS) as who:
        kill(Kill(ask=Request(url=url)), who, hands=Turns())
        assert asked == []
        assert procs.alive(who)


def test_several_targets_are_told_together() -> None:
    with started(*SLEEPS) as one, started(*SLEEPS) as two:
        outcome = kill(Kill(), one, two)
        assert outcome.result == "landed"
        assert not procs.alive(one) and not procs.alive(two)
        assert str(one.pid) in outcome.detail and str(two.pid) in outcome.detail


def test_a_kill_that_was_not_seen_to_work_is_unsure() -> None:
    class Deaf(Hands):
        def signal(self, who: Identity, name: str) -> bool:
            return True

    with started(*SLEEPS) as who:
        outcome = kill(Kill(grace_ms=QUICK), who, hands=Deaf())
        assert (outcome.result, "still alive after the grace" in outcome.detail) == ("unsure", True)


def test_a_signal_that_may_not_be_sent_is_missed() -> None:
    class Forbidden(Hands):
        def signal(self, who: Identity, name: str) -> bool:
            raise PermissionError("Operation not permitted")

    with started(*SLEEPS) as who:
        outcome = kill(Kill(), who, hands=Forbidden())
        assert (outcome.result, "could not be sent" in outcome.detail) == ("missed", True)


@pytest.mark.parametrize("name", ["STOP", "TSTP", "TTIN", "TTOU"])
def test_a_signal_that_would_leave_its_target_stopped_is_not_sent(name: str) -> None:
    fault = Kill(signal=name)
    assert "use suspend" in INJECTOR.lacking(fault)
    with started(*SLEEPS) as who:
        assert kill(fault, who).result == "missed"
        assert procs.state_of(who) != "T"


def test_a_signal_that_this_machine_lacks_is_named() -> None:
    assert "no signal 'BREAK'" in INJECTOR.lacking(Kill(signal="BREAK"))
    assert INJECTOR.lacking(Kill(signal="SIGTERM", then="KILL")) == ""


def test_a_graceful_way_out_by_command_is_asked_before_any_signal(tmp_path: Path) -> None:
    flag = tmp_path / "go"
    program = f"import os,time\nprint('ready', flush=True)\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.005)"
    with started(*python(program), ready=b"ready") as who:
        hands = Hands()
        outcome = kill(Kill(ask=("touch", str(flag))), who, hands=hands)
        assert outcome.result == "landed"
        assert "went when it was asked" in outcome.detail
        assert hands.steps == []
        assert outcome.us > 0


def test_one_that_does_not_go_when_asked_gets_the_signal() -> None:
    with started(*SLEEPS) as who:
        outcome = kill(Kill(ask=("true",), grace_ms=QUICK), who)
        assert outcome.result == "landed"
        assert "ended by KILL (did not go when it was asked)" in outcome.detail


@pytest.mark.parametrize("command", [("false",), ("/nope/nothing",)])
def test_asking_that_fails_is_told_and_the_signal_sent(command: tuple[str, ...]) -> None:
    with started(*SLEEPS) as who:
        outcome = kill(Kill(ask=command, grace_ms=QUICK), who)
        assert outcome.result == "landed"
        assert "asking failed" in outcome.detail
        assert not procs.alive(who)


@contextmanager
def a_server(status: int) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/shutdown", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_graceful_way_out_by_request_is_asked_once() -> None:
    with a_server(202) as (url, asked), started(*SLEEPS) as one, started(*SLEEPS) as two:
        outcome = kill(Kill(ask=Request(url=url), grace_ms=QUICK), one, two)
        assert outcome.result == "landed"
        assert asked == ["POST /shutdown"]


def test_a_request_that_is_refused_is_told() -> None:
    with a_server(503) as (url, _), started(*SLEEPS) as who:
        outcome = kill(Kill(ask=Request(url=url, method="GET"), grace_ms=QUICK), who)
        assert outcome.result == "landed"
        assert "was answered with 503" in outcome.detail


def test_a_request_to_nobody_is_told() -> None:
    with started(*SLEEPS) as who:
        outcome = kill(Kill(ask=Request(url="http://127.0.0.1:9/"), grace_ms=QUICK), who)
        assert outcome.result == "landed"
        assert "asking failed" in outcome.detail


def test_a_kill_leaves_nothing_to_undo() -> None:
    with started(*SLEEPS) as who:
        record = UndoRecord(key="1.1", fault="kill", who=who, deadline_us=0)
    assert INJECTOR.heal(record).verified
