"""The keeper: croupier's side of the guardian, the process that every process of a round is a child of.

Two sockets join them. On one, requests go out and each is answered before the next; a lock makes that safe from any
thread. On the other the guardian tells what it sees (a process that ended), which is read without ever blocking.
When either side dies the other sees the end of both.

What they say to each other is below; both ends are the same version of the same program, so nothing here is stored.
"""

from __future__ import annotations

import array
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from ..model.errors import HarnessError, TargetError
from ..model.noun import Noun
from ..model.target import Identity
from ..model.undo import UndoRecord, UndoStep
from ..model.wiring import Place
from ..system import commands, kernel, procs, signals
from ..system.clock import now_us
from .running import remove_running

RUN_MARKER = "CROUPIER_RUN"
PROCESS_MARKER = "CROUPIER_PROCESS"

_ANSWER_WITHIN_S = 10.0
_END_WITHIN_S = 5.0


# --- what croupier asks ----------------------------------------------------------------------------------------------


class Message(Noun, tag_field="is", frozen=True, kw_only=True):
    """The base of everything that crosses the sockets."""


class Begin(Message, tag="begin", frozen=True, kw_only=True):
    """The first request: which round this is."""

    run: str
    run_dir: str
    croupier: Identity
    plugins: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    """Croupier's own sys.path, so that a plugin is found where croupier found it."""


class SpawnAsked(Message, tag="spawn", frozen=True, kw_only=True):
    """Start a process; its stdout and stderr travel with this message, as descriptors."""

    name: str
    argv: tuple[bytes, ...]
    """Bytes, here and in `env`: not everything that a system passes on is UTF-8."""
    env: dict[bytes, bytes]
    cwd: str
    core_limit: bool = False
    filter: bytes = b""
    """The seccomp filter that it runs under, whose listener comes back with the answer; none by default."""
    report_at: int = 3
    """The descriptor by which the child reports until it is the program; one that its filter lets send."""
    command: bool = False
    """It is asked something and ends, rather than being a part of the program: what it orphans falls to itself as
    long as it lives, so that its tree holds everything that it started."""
    place: Place | None = None
    """Where it is to live; by default where the guardian does."""

    @property
    def words(self) -> tuple[str, ...]:
        """The argument list as Python has it."""
        return tuple(map(os.fsdecode, self.argv))


class HoldAsked(Message, tag="hold", frozen=True, kw_only=True):
    """Keep an undo record, on disk, and heal it when its deadline is over."""

    record: UndoRecord


class StepsAsked(Message, tag="steps", frozen=True, kw_only=True):
    """Records have come this far."""

    steps: tuple[UndoStep, ...]


class HealBegun(Message, tag="heal-begun", frozen=True, kw_only=True):
    """Croupier is about to heal these: be patient with it for a moment longer than their deadlines."""

    keys: tuple[str, ...]


class EndBy(Message, tag="end-by", frozen=True, kw_only=True):
    """End everything at this moment of the monotonic clock, whatever croupier does."""

    us: int


class EndTree(Message, tag="end-tree", frozen=True, kw_only=True):
    """Kill everything that belongs to a name."""

    name: str
    who: Identity | None = None


class Members(Message, tag="members", frozen=True, kw_only=True):
    """Who belongs to a name ("" for everybody); `adopted` leaves out what was started, and what lives below that."""

    name: str = ""
    adopted: bool = False


class Close(Message, tag="close", frozen=True, kw_only=True):
    """Heal what is open, end everything, and go."""


# --- what the guardian answers ---------------------------------------------------------------------------------------


class Done(Message, tag="done", frozen=True, kw_only=True):
    """It was done; `listed` are the processes that were asked for, or that could not be ended."""

    listed: tuple[Identity, ...] = ()
    unhealed: tuple[str, ...] = ()


class Spawned(Message, tag="spawned", frozen=True, kw_only=True):
    """It runs. With `listener`, that of its filter travels with this message."""

    who: Identity
    listener: bool = False
    bare: bool = False
    """It gave up the privileges of setuid programs for its filter."""


class Failed(Message, tag="failed", frozen=True, kw_only=True):
    """It could not be done. `target` tells the world's fault from ours."""

    reason: str
    target: bool = False


# --- what the guardian tells by itself -------------------------------------------------------------------------------


class Exited(Message, tag="exited", frozen=True, kw_only=True):
    """A process of the round has ended: one that was started (`direct`), or an orphan that the guardian adopted."""

    who: Identity
    name: str
    code: int | None = None
    signal: str = ""
    core: bool = False
    direct: bool = True
    oom: bool = False
    """It died by SIGKILL while the kernel counted an out-of-memory kill: certain where its cgroup counts (v2), a
    strong hint elsewhere."""
    at_us: int = 0
    """When the guardian saw it, on the monotonic clock."""


class HealedLate(Message, tag="healed-late", frozen=True, kw_only=True):
    """A deadline was over and nobody had healed the record, so the guardian did."""

    key: str
    verified: bool
    note: str = ""


class GuardianGone(Message, tag="guardian-gone", frozen=True, kw_only=True):
    """The guardian is dead: nothing holds the undo records, and what it kept together is orphaned."""

    why: str = ""


KeeperMessage = Exited | HealedLate | GuardianGone
Request = Begin | SpawnAsked | HoldAsked | StepsAsked | HealBegun | EndBy | EndTree | Members | Close
Answer = Done | Spawned | Failed

_TOLD: msgspec.msgpack.Decoder[KeeperMessage] = msgspec.msgpack.Decoder(KeeperMessage)
_ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_PIECE = 1 << 18
_MOST_FILES = 16
_STEPS_AT_ONCE = 500
M = TypeVar("M")


class Keeper:
    """Croupier's hold on the guardian of one round. Every method may be called from any thread."""

    def __init__(
        self, guardian: subprocess.Popen[bytes], requests: Wire, events: Wire, run: str, run_dir: Path
    ) -> None:
        self.identity: Identity = procs.identity(guardian.pid) or Identity(pid=guardian.pid, started=0)
        self.unhealed: tuple[str, ...] = ()
        """After `close`: what could not be healed, and how to go on."""
        self._guardian = guardian
        self._requests = requests
        self._events = events
        self._run = run
        self._run_dir = run_dir
        self._lock = threading.Lock()
        self._gone = False
        self._told_gone = False
        self._closed = False
        self._began = procs.identity(os.getpid())
        self._open: dict[str, UndoRecord] = {}
        self._spawned: dict[Identity, str] = {}
        self._waiting: dict[str, Callable[[Exited], None]] = {}
        """Who wants to hear of the end of a command, by its name."""
        self._listeners: dict[Identity, tuple[int, bool]] = {}
        self._before = frozenset(procs.children(os.getpid()))
        """Our children from before the round."""
        self._clean = True

    @classmethod
    def start(cls, run_dir: Path, run_id: str, plugins: tuple[str, ...] = ()) -> Self:
        """Start a guardian for a round, and become the one to whom its children fall should it die.

        Raises HarnessError when it does not come up (no undo log can be written, no process can be made).
        """
        pairs = [socket.socketpair() for _ in range(2)]
        theirs = [pair[1] for pair in pairs]
        try:
            guardian = _start_guardian(run_dir, [one.fileno() for one in theirs])
        except OSError as error:
            for pair in pairs:
                pair[0].close()
            raise HarnessError(f"the guardian could not be started: {error}") from error
        finally:
            for one in theirs:
                one.close()
        keeper = cls(guardian, Wire(pairs[0][0]), Wire(pairs[1][0]), run_id, run_dir)
        _subreapers.hold()
        own = procs.identity(os.getpid())
        assert own is not None
        try:
            path = tuple(sys.path) if plugins else ()
            # Files by their whole path: `recover` may come from another directory.
            plugins = tuple(str(Path(one).absolute()) if Path(one).is_file() else one for one in plugins)
            begin = Begin(run=run_id, run_dir=str(run_dir.resolve()), croupier=own, plugins=plugins, path=path)
            answer = keeper._ask(begin)
            if isinstance(answer, Failed):
                raise HarnessError(f"the guardian cannot keep this round: {answer.reason}", at=str(run_dir))
        except HarnessError:
            keeper.close()
            raise
        procs.shield(keeper.identity, "it is the guardian of this round")
        return keeper

    @property
    def marker(self) -> dict[str, str]:
        """What marks a process as this round's: give it to commands that croupier runs by itself."""
        return {RUN_MARKER: self._run}

    def fileno(self) -> int:
        """Readable when `receive` has something."""
        return self._events.fileno()

    def receive(self) -> list[KeeperMessage]:
        """What the guardian told since the last call; never blocks. Its death is told once, as the last message."""
        messages = [one for one in self._events.receive(_TOLD) if not self._is_of_a_command(one)]
        for one in messages:
            if isinstance(one, HealedLate) and one.verified:
                self._open.pop(one.key, None)
        if self._events.ended and not self._told_gone:
            self._told_gone = self._gone = True
            messages.append(GuardianGone(why=_how_it_ended(self._guardian)))
        return messages

    def _is_of_a_command(self, message: KeeperMessage) -> bool:
        """Tell whoever waits for a command that it ended; nobody else needs to hear of that."""
        if not isinstance(message, Exited) or not message.direct or message.name not in self._waiting:
            return False
        self._spawned.pop(message.who, None)
        self._waiting.pop(message.name)(message)
        return True

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        stdout: int,
        stderr: int,
        core_limit: bool = False,
        filter: bytes = b"",
        report_at: int = 3,
        place: Place | None = None,
    ) -> Identity:
        """Start a process of the round as the guardian's child, in a session of its own. Takes a few milliseconds.

        With a seccomp `filter`, `take_listener` has its listener. `place` is where it is to live. `stdout` and `stderr`
        are descriptors, which stay the caller's. Raises TargetError with the reason when it cannot be started,
        HarnessError when the guardian is gone.
        """
        asked = _spawn_asked(
            name, argv, env, cwd, core_limit=core_limit, filter=filter, report_at=report_at, place=place
        )
        answer = self._must(asked, (stdout, stderr))
        assert isinstance(answer, Spawned)
        self._spawned[answer.who] = name
        return answer.who

    def take_listener(self, who: Identity) -> tuple[int, bool] | None:
        """The listener of a process that was started under a filter, and whether it gave up privileges for that.

        It is the caller's from then on; None for a process without.
        """
        return self._listeners.pop(who, None)

    def spawn_command(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        output: int,
        ended: Callable[[Exited], None],
        place: Place | None = None,
    ) -> Identity:
        """Start a command as the guardian's child; `name` is its own, and nobody's else.

        `output` gets what it prints on both streams. `ended` is called from `receive`, in place of a message. Raises
        as `spawn` does.
        """
        asked = _spawn_asked(name, argv, env, cwd, command=True, place=place)
        # First, since its end may be told before the answer is.
        self._waiting[name] = ended
        try:
            answer = self._must(asked, (output, output))
        except BaseException:
            self._waiting.pop(name, None)
            raise
        assert isinstance(answer, Spawned)
        if name in self._waiting:
            self._spawned[answer.who] = name
        return answer.who

    def hold(self, record: UndoRecord) -> None:
        """Have a record on disk, and healed by the guardian if nobody else does until 250 ms after its deadline.

        Raises HarnessError when it cannot be kept: then nothing may be done.
        """
        self._must(HoldAsked(record=record))
        self._open[record.key] = record

    def step(self, *steps: UndoStep) -> None:
        """Say how far records have come. Raises HarnessError when that cannot be written down; it counts even so."""
        for one in steps:
            if one.state == "verified":
                self._open.pop(one.key, None)
        for at in range(0, len(steps), _STEPS_AT_ONCE):
            self._must(StepsAsked(steps=steps[at : at + _STEPS_AT_ONCE]))

    def heal_begun(self, keys: Sequence[str]) -> None:
        """Say that these are being healed now: many take their time. Raises HarnessError when the guardian is gone."""
        self._must(HealBegun(keys=tuple(keys)))

    def end_by(self, us: int) -> None:
        """Have everything ended at a moment of the monotonic clock (microseconds), should croupier not do it."""
        self._must(EndBy(us=us))

    def end_tree(self, name: str, who: Identity | None = None) -> list[Identity]:
        """Kill a process, its descendants, and whatever of that name daemonised away; who is left after a second.

        Blocks for some milliseconds. With the guardian gone it answers [] at once: `close` ends what is left.
        """
        try:
            answer = self._must(EndTree(name=name, who=who))
        except HarnessError:
            return []
        return list(answer.listed) if isinstance(answer, Done) else []

    def adopted(self, name: str) -> list[Identity]:
        """The processes of that name which went away from where they were started (daemonised), oldest first."""
        return self._list(Members(name=name, adopted=True))

    def remaining(self, name: str = "") -> list[Identity]:
        """Everybody of the round who is alive, or of one name."""
        return self._list(Members(name=name))

    def close(self) -> list[Identity]:
        """Heal what is open, end every process, see that they are gone, and let the guardian go. Who is left alive.

        With the guardian dead, its orphans are ended here; open records are then for `recover`. Idempotent.
        """
        if self._closed:
            return []
        self._closed = True
        left: list[Identity] = []
        try:
            answer = self._ask(Close())
            if isinstance(answer, Done):
                left, self.unhealed = list(answer.listed), answer.unhealed
            clean = isinstance(answer, Done)
        except HarnessError:
            clean = False
        self._clean = clean
        if not clean:
            self._end_guardian()
            left = self.end_orphans()
            self.unhealed = tuple(f"{one.fault} on {one.who} ({one.key})" for one in self._open.values())
            if not left and not self.unhealed:
                # Done in the guardian's place: nothing is left that `recover` should find.
                remove_running(self._run_dir, self._run)
        self._requests.close()
        self._events.close()
        try:
            self._guardian.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._end_guardian()
        _subreapers.release()
        return left

    @property
    def gone(self) -> bool:
        """Whether the guardian is known to be dead."""
        return self._gone

    def end_orphans(self) -> list[Identity]:
        """With the guardian dead: end what it kept together, now fallen to us. Who is left after two seconds."""
        end = time.monotonic() + 2.0
        while True:
            orphans = self._orphans()
            for one in orphans:
                try:
                    signals.send(one, "KILL")
                except PermissionError:
                    continue
            _reap(orphans)
            left = [one for one in orphans if procs.alive(one)]
            if not orphans or time.monotonic() >= end:
                return left
            time.sleep(0.002)

    def _orphans(self) -> list[Identity]:
        """What we started through the guardian, what carries its mark, and strangers that were handed to us."""
        assert self._began is not None
        found = dict.fromkeys(who for who in (*self._spawned, *procs.marked(f"{RUN_MARKER}={self._run}")))
        own_session, sessions = os.getsid(0), self._sessions(found)
        for pid in procs.children(os.getpid()):
            stat = procs.read_stat(pid)
            if not stat or stat.session == own_session or pid == self.identity.pid:
                continue
            # Once the guardian was killed, whatever else came to us is of its tree: it may have wiped every mark.
            stranger = not self._clean and pid not in self._before and not commands.is_ours(pid)
            if stranger or stat.session in sessions:
                found[Identity(pid=pid, started=stat.started, boot=procs.boot_id())] = None
        below = [one for who in list(found) if procs.alive(who) for one in procs.family(who.pid)]
        everybody = dict.fromkeys([*found, *below])
        return [one for one in everybody if procs.alive(one) and one.pid != os.getpid()]

    def _sessions(self, known: Mapping[Identity, object]) -> set[int]:
        stats = [procs.read_stat(who.pid) for who in known]
        return {who.pid for who in known} | {stat.session for stat in stats if stat}

    def _end_guardian(self) -> None:
        try:
            signals.send(self.identity, "KILL")
            self._guardian.wait(_END_WITHIN_S)
        except (PermissionError, subprocess.TimeoutExpired):
            pass

    def _list(self, asked: Members) -> list[Identity]:
        answer = self._must(asked)
        return list(answer.listed) if isinstance(answer, Done) else []

    def _must(self, asked: Request, files: Sequence[int] = ()) -> Answer:
        answer = self._ask(asked, files)
        if isinstance(answer, Failed):
            if answer.target:
                raise TargetError(answer.reason)
            raise HarnessError(answer.reason)
        return answer

    def _ask(self, asked: Request, files: Sequence[int] = ()) -> Answer:
        with self._lock:
            if self._gone:
                raise HarnessError("the guardian of this round is gone", hint="croupier recover heals what is left")
            try:
                self._requests.send(asked, files)
                end_us = now_us() + int(_ANSWER_WITHIN_S * 1e6)
                while True:
                    for answer in self._requests.receive(_ANSWERS, wait_s=max(0.0, (end_us - now_us()) / 1e6)):
                        if isinstance(answer, Spawned) and answer.listener and self._requests.files:
                            self._listeners[answer.who] = (self._requests.files.pop(0), answer.bare)
                        return answer
                    if self._requests.ended or now_us() >= end_us:
                        raise OSError("it ended" if self._requests.ended else "it does not answer")
            except OSError as error:
                # An answer that comes late would be taken for the next one's: this line is over for good.
                self._gone = True
                raise HarnessError(
                    f"the guardian of this round is gone: {error}", hint="croupier recover heals what is left"
                ) from error


class Wire:
    """Messages on a stream socket: four bytes of length, then MessagePack. Descriptors travel with the first byte."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._socket.setblocking(False)
        self._in = bytearray()
        self._out = bytearray()
        self._encode = msgspec.msgpack.Encoder().encode
        self.files: list[int] = []
        """Descriptors received and not taken yet, in the order of the messages that they came with."""
        self.ended = False

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._socket.fileno()

    @property
    def backlog(self) -> bool:
        """Something waits to be sent."""
        return bool(self._out)

    def send(self, message: Message, files: Sequence[int] = ()) -> None:
        """Send all of it, waiting where the other side is slow. Raises OSError when it is gone, or does not read."""
        data = _framed(self._encode(message))
        if files:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
            data = data[self._socket.sendmsg([data], rights, socket.MSG_NOSIGNAL) :]
        self._socket.settimeout(_ANSWER_WITHIN_S)
        try:
            self._socket.sendall(data, socket.MSG_NOSIGNAL)
        finally:
            self._socket.setblocking(False)

    def post(self, message: Message, files: Sequence[int] = ()) -> None:
        """Send without ever waiting: what does not fit now goes out by `flush`. Descriptors go with the first byte."""
        data = _framed(self._encode(message))
        if files and not self._out:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
            try:
                data = data[self._socket.sendmsg([data], rights, socket.MSG_NOSIGNAL) :]
            except OSError:
                # Nobody reads any more; the end of the other direction says so too.
                return
        self._out += data
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the other side reads."""
        while self._out:
            try:
                sent = self._socket.send(self._out, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                # Nobody reads any more; the end of the other direction says so too.
                self._out.clear()
                return
            del self._out[:sent]

    def receive(self, decoder: msgspec.msgpack.Decoder[M], wait_s: float = 0.0) -> list[M]:
        """Every whole message that has come, waiting up to so long for the first; [] when there is none."""
        end = time.monotonic() + wait_s
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not self.ended:
            while self._read():
                pass
            if messages := [decoder.decode(frame) for frame in self._frames()]:
                return messages
            left = end - time.monotonic()
            if left <= 0 or self.ended:
                break
            poll.poll(left * 1_000)
        return []

    def _read(self) -> bool:
        """Take one piece of what has come; False when there is nothing now."""
        try:
            data, rights, _, _ = self._socket.recvmsg(_PIECE, socket.CMSG_SPACE(_MOST_FILES * 4))
        except BlockingIOError:
            return False
        except OSError:
            self.ended = True
            return False
        for level, kind, payload in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                files = array.array("i")
                files.frombytes(payload[: len(payload) - len(payload) % files.itemsize])
                for file in files:
                    os.set_inheritable(file, False)
                self.files += files
        self._in += data
        self.ended = not data
        return bool(data)

    def _frames(self) -> Iterator[bytes]:
        while len(self._in) >= 4:
            size = int.from_bytes(self._in[:4], "big")
            if len(self._in) < 4 + size:
                return
            frame = bytes(self._in[4 : 4 + size])
            del self._in[: 4 + size]
            yield frame

    def close(self) -> None:
        """Let go."""
        self._socket.close()


class _Subreapers:
    """Croupier is a subreaper for as long as any round of this process runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = 0
        self._before = False

    def hold(self) -> None:
        """One more round."""
        with self._lock:
            if not self._held:
                self._before = kernel.is_subreaper()
                kernel.set_subreaper()
            self._held += 1

    def release(self) -> None:
        """One round less; after the last everything is as before."""
        with self._lock:
            self._held -= 1
            if not self._held:
                kernel.set_subreaper(self._before)


_subreapers = _Subreapers()


def _spawn_asked(
    name: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    *,
    core_limit: bool = False,
    filter: bytes = b"",
    report_at: int = 3,
    command: bool = False,
    place: Place | None = None,
) -> SpawnAsked:
    return SpawnAsked(
        name=name,
        argv=tuple(map(os.fsencode, argv)),
        env={os.fsencode(key): os.fsencode(value) for key, value in env.items()},
        cwd=cwd,
        core_limit=core_limit,
        filter=filter,
        report_at=report_at,
        command=command,
        place=place,
    )


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _start_guardian(run_dir: Path, ends: Sequence[int]) -> subprocess.Popen[bytes]:
    package_home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package_home, os.environ.get("PYTHONPATH", ""))))
    log = _open_log(run_dir)
    try:
        return subprocess.Popen(
            # -P: a file named like a module of ours, in whatever directory we are in, must not be imported.
            [sys.executable, "-P", "-m", "croupier.guardian", *map(str, ends)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": path},
            pass_fds=ends,
            # A session of its own: no key of the terminal, and no hang-up, reaches it.
            start_new_session=True,
        )
    finally:
        os.close(log)


def _open_log(run_dir: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(run_dir / "guardian.log", flags, 0o644)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _how_it_ended(guardian: subprocess.Popen[bytes]) -> str:
    try:
        code = guardian.wait(1.0)
    except subprocess.TimeoutExpired:
        return "it closed its line"
    return f"it was ended by {signals.signal_name(-code)}" if code < 0 else f"it ended with {code}"


def _reap(orphans: Sequence[Identity]) -> None:
    for one in orphans:
        try:
            os.waitpid(one.pid, os.WNOHANG)
        except ChildProcessError:
            # Somebody else's child, who waits for it.
            continue
