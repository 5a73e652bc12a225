"""Kill: end a process by a signal, harder if it does not go.

`ask` first, where the program offers a graceful way out (a command or an HTTP request); then the ladder of signals,
each rung `grace` after the one before, for as long as the process lives. `repeat` is the round's business: each
repetition is chosen and permitted anew.
"""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ..model.fault import ENDING, Fault, Kill, Request
from ..model.guard import Permit
from ..model.journal import Result
from ..model.target import Seen
from ..model.undo import UndoRecord
from ..system import commands, procs, signals
from ..system.clock import now_us
from . import Act, Healing, Outcome, together

# These stop a process and leave it stopped: something to undo, and `suspend` is the fault that undoes it.
_STOPPING = frozenset({"STOP", "TSTP", "TTIN", "TTOU"})
_HARMLESS_BY_DEFAULT = frozenset({"CHLD", "CONT", "URG", "WINCH"})


class KillInjector:
    """Carries out `kill`."""

    kind = "kill"
    spec: type[Fault] = Kill
    summary = "End a process by a signal, harder if it does not go, again if somebody brings it back."
    needs = ""
    heals = "Nothing to undo: whoever supervises the process is to bring it back."
    example = "kill: {signal: TERM, then: KILL, grace: 500ms}"

    def lacking(self, fault: Kill) -> str:
        """Names a signal that this machine does not have, or one that `kill` must not send."""
        for name in fault.ladder:
            try:
                signals.signal_number(name)
            except ValueError as error:
                return str(error)
            if name in _STOPPING:
                return f"SIG{name} stops a process and leaves it stopped: use suspend, which lets it go on again"
        return ""

    def inject(self, permit: Permit, fault: Kill, act: Act) -> Outcome:
        """Ask if there is a way to, then climb the ladder; landed when each target is seen to be gone."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        with ExitStack() as open_:
            shots = [_Shot(one, open_.enter_context(signals.Watch(one.identity))) for one in permit.targets]
            asked_us = _ask(fault, act, shots) if fault.ask else None
            delivered_us = _climb(fault, act, shots)
        reached_us = asked_us if all(shot.by == "ask" for shot in shots) and asked_us else delivered_us
        return together((shot.outcome(act.halted) for shot in shots), us=max(0, (reached_us or now_us()) - decided_us))

    def hold(self, permit: Permit, fault: Kill, act: Act) -> None:
        """Nothing to keep up."""

    def heal(self, record: UndoRecord) -> Healing:
        """Nothing to undo."""
        return Healing(verified=True, note="a kill leaves nothing to undo")


class _Shot:
    """One target on its way: what reached it last, and what came of it."""

    def __init__(self, target: Seen, watch: signals.Watch) -> None:
        self.target = target
        self.watch = watch
        self.by = ""
        self.trouble = ""
        self.asked = ""
        self.was_asked = False
        self.fatal = False
        """One of the signals that it got was to end it."""
        self.over = not procs.alive(target.identity)
        self.missed = self.over

    def seen_gone(self) -> bool:
        """Look once more whether it has ended."""
        if not self.over and (self.watch.gone() or not procs.alive(self.target.identity)):
            self.over = True
        return self.over

    def outcome(self, halted: bool) -> Outcome:
        """Landed, missed or unsure, with the reason."""
        result, detail = self._judged(halted)
        return Outcome(result=result, detail=f"{self.target}: {detail}{self.asked}")

    def _judged(self, halted: bool) -> tuple[Result, str]:
        if self.missed:
            return "missed", "gone before the signal"
        if self.trouble:
            return ("unsure" if self.by else "missed"), self.trouble
        if self.over:
            return "landed", "went when it was asked" if self.by == "ask" else f"ended by {self.by}"
        if not self.by:
            # Whoever was asked may go yet, long after we have looked away.
            return ("unsure" if self.was_asked else "missed"), "the round was halted before the signal"
        if self.fatal:
            when = "when the round was halted" if halted else "after the grace"
            return "unsure", f"{self.by} delivered, still alive {when}"
        return "landed", f"{self.by} delivered, still alive"


def _ask(fault: Kill, act: Act, shots: list[_Shot]) -> int | None:
    """Trigger the graceful way out once, and give it `grace`. Returns when the request was made."""
    if all(shot.over for shot in shots) or act.halted:
        return None
    trouble = _request(fault.ask, act) if isinstance(fault.ask, Request) else _command(fault, act)
    made_us = now_us()
    act.wait(int(fault.grace_ms), lambda: all(shot.seen_gone() for shot in shots))
    for shot in shots:
        if shot.missed:
            continue
        shot.was_asked = True
        if trouble:
            shot.asked = f" (asking failed: {trouble})"
            # It may have ended by itself, or by the request whose answer was lost.
            if shot.over:
                shot.by, shot.trouble = "ask", f"ended, but asking failed: {trouble}"
        elif shot.seen_gone():
            shot.by = "ask"
        else:
            shot.asked = " (did not go when it was asked)"
    return made_us


def _request(ask: Request, act: Act) -> str:
    """Why the request did not work; "" if it did. Left alone where the round is halted meanwhile."""
    troubles: list[str] = []
    # On a thread of its own, as nothing else can be waited for while an answer is.
    asking = threading.Thread(target=lambda: troubles.append(_answer_to(ask, act)), name="croupier-ask", daemon=True)
    asking.start()
    act.wait(int(ask.within_ms) + 1_000, lambda: not asking.is_alive())
    if troubles:
        return troubles[0]
    return "the round was halted meanwhile" if act.halted else f"{ask.method} {ask.url}: timed out"


def _answer_to(ask: Request, act: Act) -> str:
    """Make the request. An answer that breaks off is what a program that goes away gives, so it is no trouble."""
    # No proxy: this goes to the program under test, and nowhere else.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *_brakes(act))
    question = urllib.request.Request(ask.url, method=ask.method, data=b"" if ask.method == "POST" else None)
    try:
        with opener.open(question, timeout=int(ask.within_ms) / 1_000):
            return ""
    except urllib.error.HTTPError as error:
        return f"{ask.method} {ask.url} was answered with {error.code}"
    except (ConnectionResetError, BrokenPipeError):
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"{ask.method} {ask.url}: {reason}"
    except Exception as error:
        # http.client has a family of its own for half an answer.
        return "" if type(error).__name__ in ("RemoteDisconnected", "IncompleteRead", "BadStatusLine") else str(error)


def _brakes(act: Act) -> tuple[urllib.request.BaseHandler, ...]:
    """Handlers that ask nothing of anybody once the round is halted: who connects late must not be told to go."""

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            _refuse_if_halted(act)

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            _refuse_if_halted(act)

    class OpensPlain(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(Plain, request)

    class OpensSecure(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(Secure, request)

    return OpensPlain(), OpensSecure()


def _refuse_if_halted(act: Act) -> None:
    if act.halted:
        raise ConnectionAbortedError("the round was halted")


def _command(fault: Kill, act: Act) -> str:
    assert isinstance(fault.ask, tuple)
    done = commands.run_command(
        fault.ask, env=act.env, cwd=act.cwd, within_ms=max(1, int(fault.grace_ms)), stop=lambda: act.halted
    )
    if done.failed:
        return done.failed
    if done.timed_out and act.halted:
        return f"{fault.ask[0]!r} was ended, as the round was halted meanwhile"
    if done.timed_out:
        return f"{fault.ask[0]!r} was not done within {fault.grace_ms}"
    if done.code:
        return f"{fault.ask[0]!r} ended with {done.code}"
    return f"{fault.ask[0]!r} was ended by {done.signal}" if done.signal else ""


def _climb(fault: Kill, act: Act, shots: list[_Shot]) -> int | None:
    """Send each rung to whoever still lives, and give it `grace`. Returns when the first rung was out."""
    delivered_us: int | None = None
    for rung, name in enumerate(fault.ladder):
        last = rung == len(fault.ladder) - 1
        if act.halted:
            break
        reached = [shot for shot in shots if not shot.over and not shot.trouble and _fire(shot, name, act)]
        if delivered_us is None:
            delivered_us = now_us()
        waited_for = [shot for shot in reached if not last or shot.fatal or _may_end(shot.target, name)]
        if waited_for:
            act.wait(int(fault.grace_ms), _all_gone(waited_for))
        for shot in reached:
            shot.seen_gone()
    return delivered_us


def _all_gone(shots: list[_Shot]) -> Callable[[], bool]:
    return lambda: all(shot.seen_gone() for shot in shots)


def _fire(shot: _Shot, name: str, act: Act) -> bool:
    # Asked before: a handler that serves once is gone after.
    fatal = _is_fatal(shot.target, name)
    try:
        sent = act.signal(shot.target.identity, name)
    except (PermissionError, ValueError) as error:
        shot.trouble = f"{name} could not be sent: {error}"
        return False
    if sent:
        shot.by, shot.fatal = name, shot.fatal or fatal
    elif not act.halted or shot.seen_gone():
        # Nothing reached it: it went by itself (missed), or by the rung before, a moment after the grace.
        shot.over, shot.missed = True, not shot.by
    return sent


def _is_fatal(target: Seen, name: str) -> bool:
    """Whether this signal is to end this target. Other signals that it handles, and HUP (read your settings again),
    are what the program has them for: to be delivered is all that they are sent for."""
    if name in ENDING - {"HUP"}:
        return True
    if name in _HARMLESS_BY_DEFAULT:
        return False
    how = procs.disposition(target.identity, signals.signal_number(name))
    return how == "default" or (how == "ignored" and name in ENDING)


def _may_end(target: Seen, name: str) -> bool:
    """Whether a target may yet go by this, though nobody can say that it must."""
    if name in _HARMLESS_BY_DEFAULT:
        return False
    return name in ENDING or procs.disposition(target.identity, signals.signal_number(name)) == ""


INJECTOR = KillInjector()
