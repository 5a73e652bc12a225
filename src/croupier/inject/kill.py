"""Kill: end a process by a signal, harder if it does not go.

`ask` first, where the program offers a graceful way out (a command or an HTTP request); then the ladder of signals,
each rung `grace` after the one before, for as long as the process lives. `repeat` is the round's business: each
repetition is chosen and permitted anew.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack

from ..model.fault import Fault, Kill, Request
from ..model.guard import Permit
from ..model.journal import Result
from ..model.target import Seen
from ..model.undo import UndoRecord
from ..system import commands, procs, signals
from ..system.clock import now_us
from . import Act, Healing, Outcome, together

# These stop a process and leave it stopped: something to undo, and `suspend` is the fault that undoes it.
_STOPPING = frozenset({"STOP", "TSTP", "TTIN", "TTOU"})
# A process that survives one of these was meant to end by it, so its end is waited for even if it handles it.
_ENDING = frozenset({"KILL", "TERM", "INT", "QUIT", "HUP", "ABRT"})
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
        return together((shot.outcome() for shot in shots), us=max(0, (reached_us or now_us()) - decided_us))

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
        self.certain = True
        self.over = not procs.alive(target.identity)
        self.missed = self.over

    def seen_gone(self) -> bool:
        """Look once more whether it has ended."""
        if not self.over and (self.watch.gone() or not procs.alive(self.target.identity)):
            self.over = True
        return self.over

    def outcome(self) -> Outcome:
        """Landed, missed or unsure, with the reason."""
        result, detail = self._judged()
        return Outcome(result=result, detail=f"{self.target}: {detail}{self.asked}")

    def _judged(self) -> tuple[Result, str]:
        if self.missed:
            return "missed", "gone before the signal"
        if self.trouble:
            return ("unsure" if self.by else "missed"), self.trouble
        if self.over:
            return "landed", "went when it was asked" if self.by == "ask" else f"ended by {self.by}"
        if self.by == "KILL":
            return "unsure", "KILL delivered, still alive after the grace"
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
    """Why the request did not work; "" if it did. An answer that breaks off is what a program that goes away gives."""
    # No proxy: this goes to the program under test, and nowhere else.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
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


def _command(fault: Kill, act: Act) -> str:
    assert isinstance(fault.ask, tuple)
    done = commands.run_command(fault.ask, env=act.env, cwd=act.cwd, within_ms=max(1, int(fault.grace_ms)))
    if done.failed:
        return done.failed
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
        if rung and act.halted:
            break
        reached = [shot for shot in shots if not shot.over and not shot.trouble and _fire(shot, name, act)]
        if delivered_us is None:
            delivered_us = now_us()
        waited_for = [shot for shot in reached if not last or _should_end(shot.target, name)]
        if waited_for:
            act.wait(int(fault.grace_ms), _all_gone(waited_for))
        for shot in reached:
            shot.seen_gone()
    return delivered_us


def _all_gone(shots: list[_Shot]) -> Callable[[], bool]:
    return lambda: all(shot.seen_gone() for shot in shots)


def _fire(shot: _Shot, name: str, act: Act) -> bool:
    try:
        sent = act.signal(shot.target.identity, name)
    except (PermissionError, ValueError) as error:
        shot.trouble = f"{name} could not be sent: {error}"
        return False
    if sent:
        shot.by = name
    else:
        # Nothing reached it: it went by itself (missed), or by the rung before, a moment after the grace.
        shot.over, shot.missed = True, not shot.by
    return sent


def _should_end(target: Seen, name: str) -> bool:
    """Whether the last signal of the ladder is one whose target is expected to go."""
    if name in _ENDING:
        return True
    if name in _HARMLESS_BY_DEFAULT:
        return False
    return procs.disposition(target.identity, signals.signal_number(name)) in ("default", "")


INJECTOR = KillInjector()
