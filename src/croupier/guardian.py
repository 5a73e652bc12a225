"""The guardian: a small process that every process of a round is a child of, and that outlives croupier.

It starts what croupier asks for, tells what ended, and holds the undo records with their deadlines. When croupier
dies in any way, or does not heal in time, it heals every record, ends everything in its tree and goes, all within
two seconds. As a subreaper it is handed whatever daemonises, so nothing that was started can leave its tree.

One thread, no waiting but in `poll`; it uses no processor while nothing happens. Run as
`python -m croupier.guardian <requests> <events>`, two descriptors of stream sockets, by `supervise.keeper`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .built_in import healer
from .inject import Healer
from .inject.healing import heal_all
from .model.target import Identity
from .model.undo import UndoRecord, UndoStep
from .supervise import keeper as k
from .supervise.running import Running, UndoLog, remove_running, write_running
from .system import kernel, oom, procs, signals, spawn
from .system.clock import now_us

LATE_US = 250_000
"""So long after a deadline croupier may still heal by itself."""
HEALING_US = 1_000_000
"""And so long after it has begun to, by then: hundreds are not healed in a moment."""

_RETRIES_US = (250_000, 1_000_000, 4_000_000, 15_000_000)
_END_WITHIN_US = 1_700_000
_END_TREE_WITHIN_US = 1_000_000
_PACE_MS = 2
_DYING_MS = 500
_IGNORED = ("HUP", "INT", "QUIT", "TERM", "PIPE", "TSTP", "TTIN", "TTOU", "USR1", "USR2", "XFSZ")

_BARE = b"bare listener"
"""What a child says with its listener when it gave up the privileges of setuid programs."""

_REQUESTS: msgspec.msgpack.Decoder[k.Request] = msgspec.msgpack.Decoder(k.Request)


class _Held:
    """An undo record in our keeping."""

    def __init__(self, record: UndoRecord) -> None:
        self.record = record
        self.due_us = record.deadline_us + LATE_US
        self.tries = 0
        self.ours = False
        """Healed by us, and croupier has not said so yet: it may have been stopped in the middle of the act."""


class _Starting:
    """A child that was forked and has not said yet whether the program runs."""

    def __init__(self, who: Identity, asked: k.SpawnAsked, reader: int) -> None:
        self.who = who
        self.asked = asked
        self.reader = reader
        self.status: int | None = None
        self.listener = -1
        """That of its filter, once the child has one."""
        self.bare = False


class _Ending:
    """A tree that is being killed, on behalf of a request that waits for it."""

    def __init__(self, asked: k.EndTree) -> None:
        self.asked = asked
        self.until_us = now_us() + _END_TREE_WITHIN_US
        self.known: set[Identity] = set()
        self.sessions: set[int] = set()


class Guardian:
    """The state of one round, and the loop that serves it."""

    def __init__(self, requests: k.Wire, events: k.Wire, begin: k.Begin) -> None:
        self._requests = requests
        self._events = events
        self._begin = begin
        self._run_dir = Path(begin.run_dir)
        self._log = UndoLog(self._run_dir)
        self._held: dict[str, _Held] = {}
        self._names: dict[Identity, str] = {}
        """Everybody whom we know to belong to a name: started by us, or seen below somebody who was."""
        self._started: set[Identity] = set()
        self._programs: dict[str, set[str]] = {}
        """The names under which each program (its path) was started."""
        self._starting: _Starting | None = None
        self._never_ran: set[Identity] = set()
        """Children that could not become their program, until they are reaped: nobody hears of their end."""
        self._ending: _Ending | None = None
        self._end_us: int | None = None
        self._listeners: list[int] = []
        self._oom = oom.Counter()
        self._done = False
        self._child_ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._croupier = signals.Watch(begin.croupier)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Do what is asked until croupier closes the round, dies, or the round's time is over."""
        poll = select.poll()
        for file in (self._requests.fileno(), self._events.fileno(), self._child_ended, self._croupier.fileno()):
            if file >= 0:
                poll.register(file, select.POLLIN)
        watched = -1
        while not self._done:
            reader = self._starting.reader if self._starting else -1
            if reader != watched:
                if watched >= 0:
                    poll.unregister(watched)
                if reader >= 0:
                    poll.register(reader, select.POLLIN)
                watched = reader
            wants = select.POLLIN | (select.POLLOUT if self._events.backlog else 0)
            poll.modify(self._events.fileno(), wants)
            ready = {file for file, _ in poll.poll(self._patience_ms())}
            if self._child_ended in ready:
                self._drain()
                self._reap()
            if watched in ready:
                poll.unregister(watched)
                watched = -1
                self._started_or_not()
            if self._requests.fileno() in ready:
                self._serve_requests()
            if self._events.fileno() in ready:
                self._events.flush()
                self._events.receive(_REQUESTS)
            if self._croupier.fileno() in ready or self._requests.ended or self._events.ended:
                # Its sockets end a moment before it does; what ends with it would not be seen to be over yet.
                self._croupier.gone(_DYING_MS)
                self._finish("croupier died", by_mark=True)
                return
            self._look_at_the_clock()

    def _patience_ms(self) -> float | None:
        """Until the next thing that must happen by itself; None (for ever) when there is none."""
        if self._ending:
            return _PACE_MS
        moments = [held.due_us for held in self._held.values() if not held.ours]
        if self._end_us is not None:
            moments.append(self._end_us)
        return max(0.0, (min(moments) - now_us()) / 1_000 + 0.5) if moments else None

    def _look_at_the_clock(self) -> None:
        now = now_us()
        if self._ending:
            self._keep_ending(self._ending)
        late = [held for held in self._held.values() if held.due_us <= now and not held.ours]
        for held in reversed(late):
            self._heal_late(held)
        if self._end_us is not None and now >= self._end_us:
            self._finish("the round's time is over", by_mark=True)

    # --- requests ----------------------------------------------------------------------------------------------------

    def _serve_requests(self) -> None:
        for asked in self._requests.receive(_REQUESTS):
            try:
                answer = self._serve(asked)
            except Exception as error:
                answer = k.Failed(reason=f"the guardian failed: {type(error).__name__}: {error}")
            if answer is not None:
                self._requests.post(answer)

    def _serve(self, asked: k.Request) -> k.Answer | None:
        """The answer, or None where it comes later."""
        match asked:
            case k.SpawnAsked():
                return self._spawn(asked)
            case k.HoldAsked():
                return self._hold(asked.record)
            case k.StepsAsked():
                return self._steps(asked.steps)
            case k.HealBegun():
                self._be_patient(asked.keys)
                return k.Done()
            case k.EndBy():
                self._end_us = asked.us
                return k.Done()
            case k.EndTree():
                self._ending = _Ending(asked)
                self._keep_ending(self._ending)
                return None
            case k.Members():
                return k.Done(listed=tuple(self._members(asked.name, adopted=asked.adopted)))
            case k.Close():
                self._finish("the round was closed", by_mark=False)
                return None
            case k.Begin():
                return k.Failed(reason="this round has begun already")

    # --- starting ----------------------------------------------------------------------------------------------------

    def _spawn(self, asked: k.SpawnAsked) -> k.Answer | None:
        files, self._requests.files = self._requests.files[:2], self._requests.files[2:]
        given = {os.fsdecode(key): os.fsdecode(value) for key, value in asked.env.items()}
        env = {**given, k.RUN_MARKER: self._begin.run, k.PROCESS_MARKER: asked.name}
        try:
            if len(files) < 2:
                return k.Failed(reason="a process needs a stdout and a stderr")
            if not asked.argv or not asked.argv[0]:
                return k.Failed(reason="the command is empty", target=True)
            pid, reader = spawn.start(
                asked.words,
                env=env,
                cwd=asked.cwd,
                stdout=files[0],
                stderr=files[1],
                core_limit=asked.core_limit,
                keeps_orphans=asked.command,
                last=_filtered(asked.filter) if asked.filter else None,
                report_at=asked.report_at,
                place=asked.place,
            )
        except OSError as error:
            return k.Failed(reason=f"no process could be made: {error.strerror}", target=True)
        finally:
            for file in files:
                os.close(file)
        # It cannot have been reaped yet, so its number is its own.
        who = procs.identity(pid) or Identity(pid=pid, started=0, boot=procs.boot_id())
        self._names[who] = asked.name
        self._started.add(who)
        self._starting = _Starting(who, asked, reader)
        return None

    def _started_or_not(self) -> None:
        starting, self._starting = self._starting, None
        if starting is None:
            return
        with socket.socket(fileno=os.dup(starting.reader)) as line:
            report, files, _, _ = socket.recv_fds(line, 256, 1, socket.MSG_CMSG_CLOEXEC)
        if files:
            # It has its filter, and is about to become the program.
            starting.listener, starting.bare, self._starting = files[0], report == _BARE, starting
            return
        os.close(starting.reader)
        if report:
            self._forget(starting.who)
            if starting.status is None:
                self._never_ran.add(starting.who)
            self._requests.post(
                k.Failed(reason=spawn.explain(report, starting.asked.words, starting.asked.cwd), target=True)
            )
        else:
            self._tell_spawned(starting)
            if not starting.asked.command:
                self._programs.setdefault(procs.program(starting.who.pid), set()).add(starting.asked.name)
            if starting.status is not None:
                self._tell_exit(starting.who, starting.asked.name, starting.status, oom=False)

    def _tell_spawned(self, starting: _Starting) -> None:
        if starting.listener < 0:
            self._requests.post(k.Spawned(who=starting.who))
            return
        # Held by us as well until nobody is left behind it: should croupier die, its calls go on standing still until
        # everybody was ended, where without a listener they would fail, and the program go on with wrong results.
        self._requests.post(k.Spawned(who=starting.who, listener=True, bare=starting.bare), [starting.listener])
        self._listeners = [one for one in self._listeners if not _is_deserted(one)]
        self._listeners.append(starting.listener)

    # --- ending ------------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        try:
            while os.read(self._child_ended, 4_096):
                pass
        except BlockingIOError:
            pass

    def _reap(self) -> bool:
        """Take every child that has ended, tell of each; False when we have no children at all."""
        while True:
            try:
                # Looked at first, while its number is still its own.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if found is None:
                return True
            who = procs.identity(found.si_pid)
            killed = found.si_code != os.CLD_EXITED and found.si_status == signal.SIGKILL
            by_oom = killed and self._oom.counted(found.si_pid)
            name = self._names.get(who, "") or self._name_by_mark(found.si_pid) if who else ""
            _, status = os.waitpid(found.si_pid, 0)
            if who is None:
                continue
            if self._starting and who == self._starting.who:
                # Whether the program ran at all is known when its report has been read.
                self._starting.status = status
                continue
            if who in self._never_ran:
                self._never_ran.discard(who)
                continue
            self._tell_exit(who, name, status, by_oom)

    def _tell_exit(self, who: Identity, name: str, status: int, oom: bool) -> None:
        code = os.waitstatus_to_exitcode(status)
        self._events.post(
            k.Exited(
                who=who,
                name=name,
                code=code if code >= 0 else None,
                signal=signals.signal_name(-code) if code < 0 else "",
                core=os.WCOREDUMP(status),
                direct=who in self._started,
                oom=oom,
                at_us=now_us(),
            )
        )
        self._forget(who)

    def _forget(self, who: Identity) -> None:
        self._names.pop(who, None)
        self._started.discard(who)

    def _keep_ending(self, ending: _Ending) -> None:
        """One pass over a tree that is to end: kill whoever of it is found, answer when nobody is."""
        self._reap()
        found = self._belonging(ending)
        if found and now_us() < ending.until_us:
            for who in found:
                _kill(who)
            return
        self._ending = None
        self._requests.post(k.Done(listed=tuple(found)))

    def _belonging(self, ending: _Ending) -> list[Identity]:
        """Who is alive of a name: below it, marked by it, seen below it before, or in a session of one of these."""
        if ending.asked.who is not None:
            ending.known.add(ending.asked.who)
            ending.known.update(procs.family(ending.asked.who.pid) if procs.alive(ending.asked.who) else ())
        ending.known.update(self._members(ending.asked.name))
        for who in list(ending.known):
            stat = procs.read_stat(who.pid)
            if stat and stat.started == who.started and stat.session != os.getsid(0):
                ending.sessions.add(stat.session)
        for who in self._family():
            stat = procs.read_stat(who.pid)
            if stat and stat.session in ending.sessions:
                ending.known.add(who)
        return [who for who in ending.known if procs.alive(who)]

    # --- who is who --------------------------------------------------------------------------------------------------

    def _family(self) -> list[Identity]:
        return [who for who in procs.family(os.getpid()) if self._runs(who)]

    def _runs(self, who: Identity) -> bool:
        """Not one that has yet to become its program, or could not."""
        return who not in self._never_ran and not (self._starting and who == self._starting.who)

    def _members(self, name: str, *, adopted: bool = False) -> list[Identity]:
        """Everybody alive of a name, oldest first; with `adopted` only the tops of what went away from its start."""
        self._reap()
        found: list[Identity] = []
        seen: dict[Identity, str] = {}
        for pid in procs.children(os.getpid()):
            who = procs.identity(pid)
            if who is None or not procs.alive(who) or not self._runs(who):
                continue
            below = procs.family(pid)
            # An orphan was seen before, or tells its name by its mark, or by that of somebody below it; one that has
            # wiped all marks is taken for a name's if no other was started from the same program.
            belongs = (
                self._names.get(who)
                or self._name_by_mark(pid)
                or self._name_of_any(below)
                or self._name_by_program(pid)
            )
            seen[who] = belongs
            for one in below:
                # Remembered, so that it is known when it is handed to us, whatever became of its environment.
                seen[one] = self._names.get(one) or belongs
            if name in ("", belongs):
                if not adopted:
                    found += [who, *below]
                elif who not in self._started:
                    found.append(who)
        self._names = {**{who: self._names[who] for who in self._started if who in self._names}, **seen}
        return sorted(found, key=lambda one: (one.started, one.pid))

    def _name_of_any(self, below: Iterable[Identity]) -> str:
        return next((name for one in below if (name := self._names.get(one) or self._name_by_mark(one.pid))), "")

    def _name_by_program(self, pid: int) -> str:
        path = procs.program(pid)
        names = self._programs.get(path, set())
        return next(iter(names)) if path and len(names) == 1 else ""

    def _name_by_mark(self, pid: int) -> str:
        prefix = f"{k.PROCESS_MARKER}="
        return next((part.removeprefix(prefix) for part in procs.environment(pid) if part.startswith(prefix)), "")

    # --- undo --------------------------------------------------------------------------------------------------------

    def _hold(self, record: UndoRecord) -> k.Answer:
        try:
            self._log.write(UndoStep(key=record.key, state="intent", record=record))
        except OSError as error:
            return k.Failed(reason=f"the undo log cannot be written ({error.strerror}), so nothing may be disturbed")
        self._held[record.key] = _Held(record)
        return k.Done()

    def _steps(self, steps: Sequence[UndoStep]) -> k.Answer:
        for one in steps:
            if one.state == "verified":
                self._held.pop(one.key, None)
        try:
            self._log.write(*steps)
        except OSError as error:
            return k.Failed(reason=f"the undo log cannot be written: {error.strerror}")
        return k.Done()

    def _be_patient(self, keys: Sequence[str]) -> None:
        for one in filter(None, map(self._held.get, keys)):
            one.due_us = max(one.due_us, min(now_us(), one.record.deadline_us + LATE_US) + HEALING_US)

    def _heal_late(self, held: _Held) -> None:
        (_, healing), *_ = heal_all([held.record], self._healer, self._log.write)
        self._events.post(k.HealedLate(key=held.record.key, verified=healing.verified, note=healing.note))
        if healing.verified:
            held.ours = True
            return
        print(f"not healed: {held.record.fault} on {held.record.who}: {healing.note}", file=sys.stderr, flush=True)
        held.due_us = now_us() + _RETRIES_US[min(held.tries, len(_RETRIES_US) - 1)]
        held.tries += 1

    def _healer(self, fault: str) -> Healer:
        known = healer(fault)
        if known is not None:
            return known
        if self._begin.path:
            sys.path[:] = self._begin.path
        from .registry import catalogue  # only for a plugin's fault: it costs the time of a breath

        return catalogue(self._begin.plugins).injector(fault)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _finish(self, why: str, *, by_mark: bool) -> None:
        """Heal everything, end everybody, tell what could not be done, and leave no trace where all could."""
        self._done = True
        end_us = now_us() + _END_WITHIN_US
        open_ = [held.record for held in reversed(self._held.values())]
        healings = heal_all(open_, self._healer, self._log.write, each_within_s=0.5)
        unhealed = tuple(
            f"{record.fault} on {record.who} ({record.key}): {healing.note}"
            for record, healing in healings
            if not healing.verified
        )
        left = self._end_everybody(end_us, by_mark=by_mark)
        if not unhealed and not left:
            remove_running(self._run_dir, self._begin.run)
        for one in (*unhealed, *(f"{who} is still alive" for who in left)):
            print(f"{why}, and this is left: {one}", file=sys.stderr, flush=True)
        self._requests.post(k.Done(listed=tuple(left), unhealed=unhealed))

    def _end_everybody(self, end_us: int, *, by_mark: bool) -> list[Identity]:
        """Kill all that is below us until nobody is, and whoever carries the round's mark elsewhere."""
        passes = 0
        while True:
            children = self._reap()
            found = procs.family(os.getpid())
            if by_mark and passes in (0, 5):
                # Commands that croupier itself ran are not below us. Twice: one may just have been forked.
                _kill_marked(self._begin.run)
            for who in found:
                _kill(who)
            if passes > 20:
                _kill_groups(found)
            if not children and not found and (passes > 5 or not by_mark):
                return []
            if now_us() >= end_us:
                return [who for who in procs.family(os.getpid()) if procs.alive(who)]
            passes += 1
            select.select([self._child_ended], [], [], _PACE_MS / 1_000)
            self._drain()


def _filtered(lines: bytes) -> Callable[[socket.socket], None]:
    """What a child does last: take a filter upon itself, and hand its listener over."""
    from .trace.warden import listen  # before the fork: a child must not import

    def last(line: socket.socket) -> None:
        listener, bare = listen(lines)
        socket.send_fds(line, [_BARE if bare else b"listener"], [listener])
        os.close(listener)

    return last


def _is_deserted(listener: int) -> bool:
    """Whether nobody is left who runs under this filter. One that is, is closed."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if not any(event & select.POLLHUP for _, event in poll.poll(0)):
        return False
    os.close(listener)
    return True


def _kill(who: Identity) -> None:
    """SIGKILL, which a stopped process dies of as well: it needs no SIGCONT before."""
    try:
        signals.send(who, "KILL")
    except PermissionError:
        print(f"no permission to end {who}", file=sys.stderr, flush=True)


def _kill_marked(run: str) -> None:
    own = {os.getpid(), *procs.ancestors(os.getpid())}
    for who in procs.marked(f"{k.RUN_MARKER}={run}"):
        if who.pid not in own:
            _kill(who)


def _kill_groups(found: Iterable[Identity]) -> None:
    """For those who fork faster than we look: a whole process group at once, which no fork escapes.

    Everybody here is in a session that was made below us, and so is everybody in such a group.
    """
    own = os.getsid(0)
    for who in found:
        stat = procs.read_stat(who.pid)
        if stat and stat.started == who.started and stat.session != own and stat.group > 1:
            try:
                os.killpg(stat.group, signal.SIGKILL)
            except OSError:
                continue


def main() -> None:
    """Serve one round on the two sockets whose descriptors are on the command line."""
    for name in _IGNORED:
        signal.signal(signals.signal_number(name), signal.SIG_IGN)
    ends = []
    for file in map(int, sys.argv[1:3]):
        os.set_inheritable(file, False)
        ends.append(k.Wire(socket.socket(fileno=file)))
    requests, events = ends
    kernel.set_subreaper()
    asked = requests.receive(_REQUESTS, wait_s=10.0)
    if not asked or not isinstance(begin := asked[0], k.Begin):
        return
    own = procs.identity(os.getpid())
    assert own is not None
    try:
        guardian = Guardian(requests, events, begin)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        write_running(
            Path(begin.run_dir),
            Running(run=begin.run, croupier=begin.croupier, guardian=own, started=started, plugins=begin.plugins),
        )
    except OSError as error:
        requests.post(k.Failed(reason=f"its run directory cannot be written: {error}"))
        return
    requests.post(k.Done())
    guardian.serve()


if __name__ == "__main__":
    main()
