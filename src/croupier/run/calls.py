"""The system calls of a round's processes: watched where an injection or a fault needs it, and nowhere else.

A watched process is started under a seccomp filter, and each of its calls that changes a file stands still until it is
answered here, on a thread of its own. For a trigger it stands still until the injection has been carried out.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ..inject import preloaded
from ..model import course as c
from ..model import journal as j
from ..model.errors import ExperimentError, Refused
from ..model.experiment import Experiment
from ..model.fault import Fault
from ..model.faults.combined import single
from ..model.faults.syscall import SlowIo, Syscall
from ..model.plan import Injection, OnSyscall, Plan, aims
from ..model.target import Identity
from ..system import call_rules, procs
from ..system.clock import now_us
from ..trace import CONNECTING, GO, MUTATING, READING, SENDING, Call, lacks
from ..trace import acts as a
from ..trace import filter as filters
from ..trace.book import Book
from ..trace.launch import control_number
from ..trace.listener import Listener
from ..trace.perform import CAN_BE_CUT, can_be_cut
from ..trace.table import REFUSED, machine
from .floor import Floor

HELD_MS = 5_000
"""How long a call stands still for an injection at the most, beside what that needs for itself."""
RECORD = "calls.jsonl"
_FREEZE_MS = 3_600_000
_NO_FILE = ("/dev/", "/proc/", "/sys/")
_ON_REQUEST = SENDING | READING | CONNECTING
"""Calls that stop only where they are named: they change no file, and there are many of them."""
_STOPPED = MUTATING | _ON_REQUEST
_WATCHING = (Syscall, SlowIo)
"""The faults that need their target's calls watched."""
# What these bring back (a descriptor, an address, bytes, messages) cannot be made up.
_TRUE = READING | {
    "open", "openat", "openat2", "creat", "open_by_handle_at", "mmap", "io_submit", "accept", "accept4", "sendmsg",
    "sendmmsg", "tee", "vmsplice", "splice",
}  # fmt: skip
_COPIES = ("write", "copy", "output")


class RecordedCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `artifacts/calls.jsonl`."""

    n: int
    """The how-manieth of its process's tree, from 1, since the steady state was seen."""
    process: str
    pid: int
    call: str
    kind: str
    path: str = ""
    path2: str = ""
    offset: int | None = None
    length: int | None = None
    acked: int = 0
    """How many acknowledgements of the workload had been read by then."""


@dataclass(eq=False)
class _Waiting:
    """A trigger that has not come yet."""

    injection: Injection
    trigger: OnSyscall
    seen: int = 0


@dataclass(eq=False)
class _Held:
    """A call that stands still for an injection."""

    injection: int
    pid: int
    since_us: int
    over: threading.Event = field(default_factory=threading.Event)
    why: str = ""


def watched_processes(plan: Plan, experiment: Experiment, recorded: Iterable[str] = ()) -> frozenset[str]:
    """The processes whose calls must be watched in this round."""
    wanted = set(recorded)
    wanted |= {one.trigger.process for one in plan.injections if isinstance(one.trigger, OnSyscall)}
    wanted |= {
        name
        for fault, names in aims(plan, experiment.processes)
        if isinstance(fault, _WATCHING) and not is_preloaded(fault)
        for name in names
    }
    return frozenset(wanted & set(experiment.processes))


def refuse_calls(plan: Plan, experiment: Experiment, recorded: Iterable[str] = ()) -> None:
    """See that every call that is named is one that can be stopped, and that this machine can.

    Raises ExperimentError or Refused before anything is touched.
    """
    for fault in {one for injection in plan.injections for one in single(injection.fault) if is_preloaded(one)}:
        if isinstance(fault, Syscall) and (lack := preloaded.lacking(fault)):
            raise Refused(
                f"{fault} cannot be done here: {lack}",
                hint="" if fault.how == "preload" else f"calls cannot be watched either: {lacks('seccomp')}",
            )
    for name, do in _named(plan):
        if name not in ("any", *_STOPPED):
            raise ExperimentError(
                f"the call {name!r} cannot be stopped", at="call", hint=f"one of any, {', '.join(sorted(_STOPPED))}"
            )
        able = _able(do)
        if name != "any" and name not in able:
            raise ExperimentError(
                f"do: {do} is nothing that the call {name!r} can do", at="do", hint=f"with {', '.join(sorted(able))}"
            )
    if watched_processes(plan, experiment, recorded) and (lack := lacks("seccomp")):
        raise Refused(
            f"system calls cannot be watched in a round here: {lack}", hint="`croupier doctor` says what would help"
        )


def is_preloaded(fault: Fault) -> bool:
    """Whether a fault works by a shim in front of the C library, and needs no call to be watched."""
    if not isinstance(fault, Syscall):
        return False
    return fault.how == "preload" or (fault.how == "auto" and bool(lacks("seccomp")))


def _named(plan: Plan) -> Iterable[tuple[str, str]]:
    """Every call that is named, and what is to become of it."""
    for injection in plan.injections:
        if isinstance(injection.trigger, OnSyscall):
            yield injection.trigger.call, "wait"
        for fault in single(injection.fault):
            if isinstance(fault, _WATCHING) and not is_preloaded(fault):
                yield from ((name, fault.do if isinstance(fault, Syscall) else "delay") for name in fault.calls)


def _able(do: str) -> frozenset[str]:
    """The calls of which this can become."""
    return {"short": CAN_BE_CUT, "torn": CAN_BE_CUT, "lie": _STOPPED - _TRUE}.get(do, _STOPPED)


class CallWatch:
    """Everybody in this round whose calls are watched."""

    def __init__(self, floor: Floor, recorded: tuple[str, ...] = (), acked: Callable[[], int] = lambda: 0) -> None:
        """`recorded` names those whose calls are written down, each with what `acked` says."""
        self._floor = floor
        self._acked = acked
        self._watched = watched_processes(floor.plan, floor.experiment, recorded)
        self._recorded = frozenset(recorded)
        self._names = MUTATING | (_ON_REQUEST & {name for name, _ in _named(floor.plan)})
        self._counts: dict[str, int] = {}
        self._waiting = [
            _Waiting(injection=one, trigger=floor.view.bind(one.trigger))
            for one in floor.plan.injections
            if isinstance(one.trigger, OnSyscall)
        ]
        self._held: dict[int, _Held] = {}
        self._striking: dict[int, call_rules.Rule] = {}
        self._serving: list[tuple[threading.Thread, Listener, int]] = []
        self._books: list[tuple[str, Book]] = []
        self._lock = threading.Lock()
        self._counting = False
        self._over = False
        self._file: Any = None
        self._forget = call_rules.when_lifted(self._hurry)
        if self._recorded:
            self._file = (Path(floor.run.artifacts) / RECORD).open("wb")

    def filter_for(self, process: str) -> bytes:
        """The filter that a process is started under; b"" for one that is not watched."""
        if process not in self._watched or (kind := machine()) is None:
            return b""
        # Without the calls that start a program: nobody answers yet when the process becomes its own.
        return filters.program(kind, self._names, REFUSED, filters.NOTIFY, control_number())

    def begin(self) -> None:
        """The steady state was seen: calls count from now on."""
        self._counting = True

    def started(self, process: str, who: Identity, listener: int, bare: bool) -> None:
        """Serve the calls of a process that was started under a filter; `bare` if it gave up privileges for that."""
        kind = machine()
        assert kind is not None
        book = Book(kind, self._names)
        if bare:
            book.note("it gave up privileges to be watched, so setuid programs that it starts have none")
        serving = Listener(
            book,
            listener,
            lambda call: self._on_call(process, call),
            on_kill=self._kill,
            hurried=True,
        )
        call_rules.watch(who)

        def serve() -> None:
            try:
                serving.serve()
            except Exception as problem:
                why = f"the calls of {process} are not served: {problem}"
                self._floor.loop.post(lambda: self._floor.broke(why))

        thread = self._floor.loop.thread(serve, f"croupier-calls-{process}")
        self._serving.append((thread, serving, listener))
        self._books.append((process, book))

    def released(self, injection: int, why: str = "it was carried out") -> None:
        """An injection is over, or has done what the process must go on for: its call may go on. From any thread."""
        held = self._held.pop(injection, None)
        if held is not None:
            held.why = why
            held.over.set()

    def caller(self, injection: int) -> int | None:
        """The process whose call stands still for an injection."""
        held = self._held.get(injection)
        return held.pid if held else None

    @property
    def is_watching(self) -> bool:
        """Whether anybody's calls are watched."""
        return bool(self._serving)

    def close(self) -> None:
        """Every call that is held goes on. Call it when nothing is disturbed any more, before the processes end."""
        self._over = True
        self._forget()
        for number in list(self._held):
            self.released(number, "the round is over")
        self._hurry()

    def let_go(self) -> None:
        """The processes have ended: nobody is left to serve."""
        for thread, serving, listener in self._serving:
            thread.join(timeout=2)
            if not thread.is_alive():
                serving.close()
                serving.book.scene.lender.close()
                os.close(listener)
        self._serving = []
        for sentence in dict.fromkeys(f"{process}: {one}" for process, book in self._books for one in book.blind):
            self._floor.note(sentence)
        if self._file is not None:
            self._file.close()

    # On the threads that serve.

    def _on_call(self, process: str, call: Call) -> a.Act:
        if self._over or not self._counting:
            return GO
        changes = _changes_a_file(call)
        number = 0
        if changes:
            with self._lock:
                number = self._counts[process] = self._counts.get(process, 0) + 1
            if process in self._recorded:
                self._write(process, call, number)
        for waiting in list(self._waiting):
            trigger = waiting.trigger
            if trigger.process == process and _matches(call, (trigger.call,), trigger.path, changes):
                self._count(waiting, process, call, number)
        return self._ruled(call, changes)

    def _count(self, waiting: _Waiting, process: str, call: Call, number: int) -> None:
        with self._lock:
            waiting.seen += 1
            if waiting.seen != waiting.trigger.nth:
                return
            self._waiting.remove(waiting)
        self._reach(waiting, process, call, number)

    def _reach(self, waiting: _Waiting, process: str, call: Call, number: int) -> None:
        """Have the course told, and the call stand still until the injection was carried out."""
        injection, floor = waiting.injection.number, self._floor
        held = _Held(injection=injection, pid=call.pid, since_us=now_us())
        holds = waiting.trigger.plus_ms == 0
        if holds:
            self._held[injection] = held
        event = j.CallReached(
            injection=injection, process=process, pid=call.pid, call=call.name, nth=number, path=call.path,
            path2=call.path2, offset=call.offset, length=call.length,
        )  # fmt: skip

        def tell() -> None:
            floor.record(event)
            floor.tell(c.MomentSeen(at_ms=floor.now_ms, injection=injection))

        floor.loop.post(tell)
        if not holds:
            return
        most_ms = HELD_MS + waiting.injection.fault.busy_ms
        if not held.over.wait(most_ms / 1_000):
            self._held.pop(injection, None)
            held.why = f"the injection was not carried out within {most_ms / 1_000:g} s"
        self._tell_released(held, now_us() - held.since_us)

    def _tell_released(self, held: _Held, held_us: int) -> None:
        def tell() -> None:
            self._floor.record(j.CallReleased(injection=held.injection, held_us=held_us, why=held.why))

        self._floor.loop.post(tell)

    def _ruled(self, call: Call, changes: bool) -> a.Act:
        """What the rules in force say of it; the first that strikes decides."""
        who: Identity | None = None
        for rule in call_rules.in_force():
            fault: Syscall | SlowIo = rule.fault
            if not _matches(call, fault.calls, fault.path, changes) or not _is_of(call, fault.on):
                continue
            if not _can(fault, call):
                continue
            who = who or procs.identity(call.pid)
            if who is None or not rule.covers(who):
                continue
            over = partial(self._is_over, rule)
            if isinstance(fault, SlowIo):
                waits_ms = rule.waits_ms(call.length or 0)
                return a.Delay(delay_ms=_FREEZE_MS if fault.hang else waits_ms, over=over) if waits_ms else GO
            if rule.strikes():
                self._striking[call.tid] = rule
                return _act(fault, call, over)
        return GO

    def _is_over(self, rule: call_rules.Rule) -> bool:
        return rule.lifted or self._over

    def _kill(self, call: Call) -> bool:
        """End the process that makes a call, by the hands of the injection whose rule says so."""
        rule, who = self._striking.pop(call.tid, None), procs.identity(call.pid)
        return rule is not None and who is not None and rule.kill(who)

    def _write(self, process: str, call: Call, number: int) -> None:
        line = RecordedCall(
            n=number, process=process, pid=call.pid, call=call.name, kind=call.kind, path=call.path, path2=call.path2,
            offset=call.offset, length=call.length, acked=self._acked(),
        )  # fmt: skip
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()

    def _hurry(self) -> None:
        for thread, serving, _ in list(self._serving):
            if thread.is_alive():
                serving.hurry()


def read_record(path: Path) -> list[RecordedCall]:
    """What `artifacts/calls.jsonl` holds; a last line that was cut is left out."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(msgspec.json.decode(line, type=RecordedCall))
        except msgspec.MsgspecError:
            continue
    return found


def _changes_a_file(call: Call) -> bool:
    """Whether it is about something in a file system that is there to stay."""
    path = call.path
    return (
        bool(path) and call.name in MUTATING and call.kind not in ("other", "output") and not path.startswith(_NO_FILE)
    )


def _matches(call: Call, names: tuple[str, ...], path: str, changes: bool) -> bool:
    if not (call.name in names or ("any" in names and changes)):
        return False
    return not path or any(_is_like(one, path) for one in (call.path, call.path2) if one)


def _is_like(path: str, glob: str) -> bool:
    return fnmatchcase(path, glob) or fnmatchcase(path.rpartition("/")[2], glob)


def _is_of(call: Call, kind: str) -> bool:
    return kind == "any" or call.file_kind == kind or (kind == "pipe" and call.file_kind == "fifo")


def _can(fault: Syscall | SlowIo, call: Call) -> bool:
    """Whether a call can do what is to become of it."""
    if isinstance(fault, SlowIo):
        return True
    return call.name in _able(fault.do) and (fault.do not in ("short", "torn") or can_be_cut(call))


def _act(fault: Syscall, call: Call, over: Callable[[], bool]) -> a.Act:
    match fault.do:
        case "fail":
            return a.Fail(errno=getattr(errno, fault.errno))
        case "delay":
            return a.Delay(delay_ms=int(fault.delay_ms), over=over)
        case "short":
            return a.Short(length=fault.bytes, over=over)
        case "torn":
            return a.Torn(length=fault.bytes)
        case "lie":
            return a.Lie(result=(call.length or 0) if call.shape.kind in _COPIES else 0)
        case "freeze":
            return a.Delay(delay_ms=_FREEZE_MS, over=over)
        case "kill":
            return a.KILL
