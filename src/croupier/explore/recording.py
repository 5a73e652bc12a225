"""Run the workload once, stop before every call that could change its state, and keep the state as it is there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ..model.errors import ExperimentError
from ..model.search import CrashPoint, Model, Operation, point_id
from ..snapshot import Recorder, Store, content, cuts, materialise, torn, touched
from ..snapshot.objects import NULL
from ..snapshot.tree import find, open_tree
from ..trace import GO, KILL, Act, Call, Torn, Traced, trace
from ..trace.call import shared_mapping
from ..trace.events import EVENT
from ..trace.outside import observe
from . import clocked
from .place import Place
from .stacks import stack_of

_CHUNK = 4096
_MOST_DATA = 64 << 20
_MOST_CUTS = 256
_NEVER_STATE = ("pipe", "socket", "tty", "device", "memory")
_HARMLESS = ("/proc/", "/dev/", "/sys/")


class Reading:
    """Turns stopped calls into operations on one state directory; None for what does not concern it."""

    def __init__(self, state: Path) -> None:
        self._root = str(state)
        self._inside = self._root + "/"
        self.outside: Counter[str] = Counter()
        self.count = 0
        self.odd = False
        """The last operation is about a name that is no UTF-8, and is told in other letters."""

    def read(self, call: Call) -> Operation | None:
        """The operation, numbered; what is printed to the workload's standard output is one, too."""
        kind = call.kind
        if kind == "output":
            if call.stream != "stdout" or not call.length:
                return None
            return self._operation(call, "output", "", "")
        if kind in ("other", "spawn"):
            return None
        path = shared_mapping(call.tid, call.args[0]) if call.name == "msync" else call.path
        path2 = call.path2 if kind in ("rename", "link", "copy", "splice") else ""
        mine, mine2 = self._relative(path), self._relative(path2)
        if call.name in ("sync", "syncfs"):
            return self._operation(call, "sync", "", "")
        if mine is None and (mine2 is None or kind not in ("rename", "link")):
            self._note_outside(call, path)
            return None
        if kind == "mmap" and call.name == "mmap" and not call.maps_for_writing:
            return None
        if kind == "symlink":
            return self._operation(call, kind, self._relative(call.path2) or mine or "", call.text)
        if kind in ("rename", "link") and (mine is None or mine2 is None):
            # In from elsewhere, or out to it: for the state that is a file which comes, or goes.
            if mine2 is None:
                return self._operation(call, "unlink" if kind == "rename" else "other", mine or "", "")
            return self._operation(call, "other", mine2, "")
        return self._operation(call, kind, mine or "", mine2 if mine2 is not None else path2)

    def _operation(self, call: Call, kind: str, path: str, path2: str) -> Operation:
        self.count += 1
        self.odd = not (_is_text(path) and _is_text(path2))
        path, path2 = _sayable(path), _sayable(path2)
        return Operation(
            index=self.count,
            process=call.process,
            tid_role="main" if call.thread == 1 else f"thread {call.thread}",
            call=call.name,
            kind=kind,  # type: ignore[arg-type]
            path=path,
            path2=path2,
            offset=call.offset if kind != "output" else None,
            length=call.length,
            sync=call.sync,
            flags=call.flags,
            at_us=call.at_us,
        )

    def _relative(self, path: str) -> str | None:
        if path.startswith(self._inside):
            return path[len(self._inside) :]
        return "" if path == self._root else None

    def _note_outside(self, call: Call, path: str) -> None:
        if not path or path.startswith(_HARMLESS) or call.file_kind in _NEVER_STATE or "/__pycache__" in path:
            return
        if call.kind in ("sync", "sync-range", "mmap", "msync"):
            return
        self.outside[_sayable(path)] += 1


def _is_text(path: str) -> bool:
    """Whether a name can be written down as it is."""
    return path.isascii() or path.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in path)


def _sayable(path: str) -> str:
    """The name for people and for JSON: bytes that are no UTF-8 as `\\xff`."""
    return path if _is_text(path) else os.fsencode(path).decode("utf-8", "backslashreplace")


class Recording:
    """What one watched run of the workload left: its operations, the state and the output after each of them."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.states: list[str] = []
        self.acked: list[int] = []
        self.output = bytearray()
        self.traced: Traced | None = None
        self.outside: Counter[str] = Counter()
        self.unannounced: tuple[str, ...] = ()
        self.torn_left_out = 0
        self.unreadable: dict[str, str] = {}

    @property
    def initial(self) -> str:
        """The state before the first operation."""
        return self.states[0]

    @property
    def lines(self) -> int:
        """How many lines the workload printed."""
        return self.output.count(b"\n")

    @property
    def final(self) -> str:
        """The state after the last one."""
        return self.states[-1]

    def points(self, store: Store, model: Model = "kill", *, with_torn: bool = False) -> Iterator[CrashPoint]:
        """Every crash point in order; with `with_torn` also those inside of a write."""
        width = max(4, len(str(len(self.operations))))
        for after, state in enumerate(self.states):
            yield CrashPoint(
                id=point_id(after, width=width), after=after, state=state, acked=self.acked[after], model=model
            )
            if with_torn and after < len(self.operations):
                yield from self._torn(store, after, width)

    def _torn(self, store: Store, after: int, width: int) -> Iterator[CrashPoint]:
        operation = self.operations[after]
        if operation.kind != "write" or not operation.data or operation.length is None:
            return
        data = store.get(operation.data)
        places = [one for one in cuts(operation.offset or 0, len(data)) if 0 < one < len(data)]
        if len(places) > _MOST_CUTS:
            self.torn_left_out += len(places) - _MOST_CUTS
            places = [places[nth * len(places) // _MOST_CUTS] for nth in range(_MOST_CUTS)]
        for cut in places:
            yield CrashPoint(
                id=point_id(after, cut=cut, width=width),
                after=after,
                cut=cut,
                state=torn(store, self.states[after], operation.path, operation.offset, data[:cut]),
                acked=self.acked[after],
            )


class _Watching:
    """The handler of a recording."""

    def __init__(self, place: Place, store: Store, keep_data: bool) -> None:
        self.store = store
        self.keep_data = keep_data
        self.made = Recording()
        self.reading = Reading(place.state)
        self.recorder = Recorder(place.state, store)
        self.made.states.append(self.recorder.snapshot())
        self.made.acked.append(0)
        self._pending: Operation | None = None
        self._odd = False
        self._mapped: dict[str, None] = {}

    def on_output(self, data: bytes) -> None:
        self.made.output += data

    def on_call(self, call: Call) -> Act:
        operation = self.reading.read(call)
        if operation is None:
            return GO
        self.settle()
        # A store through a mapping may have come between, as an operation of its own.
        operation = _numbered(operation, len(self.made.operations) + 1)
        if self.keep_data and operation.kind == "write" and (operation.length or 0) <= _MOST_DATA:
            operation = _with_data(operation, self.store.put(call.read_data(_MOST_DATA)))
        if operation.kind == "mmap" and operation.path:
            self._mapped[operation.path] = None
        self._pending, self._odd = operation, self.reading.odd
        self.made.operations.append(operation)
        return GO

    def settle(self) -> None:
        """The last operation is done: keep what it left."""
        if self._pending is None:
            if self._mapped:
                self._stores()
            return
        operation, self._pending = self._pending, None
        before = self.made.states[-1]
        hint = touched(operation) if operation.kind != "other" and operation.call != EVENT else None
        if self._odd:
            hint = None
        self._add(self.recorder.snapshot(hint))
        if self.keep_data and operation.kind in ("copy", "splice"):
            self._take_data(before, operation)
        if self._mapped:
            self._stores()

    def _stores(self) -> None:
        before = self.made.states[-1]
        now = self.recorder.snapshot((), mapped=tuple(self._mapped))
        if now == before:
            return
        for path in self._mapped:
            for offset, data in changed_ranges(self.store, before, now, path):
                self.made.operations.append(
                    Operation(
                        index=len(self.made.operations) + 1,
                        call="mmap-store",
                        kind="mmap",
                        path=path,
                        offset=offset,
                        length=len(data),
                        data=self.store.put(data) if self.keep_data else "",
                    )
                )
                # Which of several ranges came first is not known; they are told as one moment.
                self._add(now)

    def _take_data(self, before: str, operation: Operation) -> None:
        ranges = list(changed_ranges(self.store, before, self.made.states[-1], operation.path))
        if not ranges:
            return
        start = ranges[0][0]
        end = ranges[-1][0] + len(ranges[-1][1])
        row = find(self.store, open_tree(self.store, self.made.states[-1]).top, _names(operation.path))
        if row is not None and row.entry.is_file:
            data = content.read(self.store, row.entry.root, row.entry.size, start, min(end, row.entry.size) - start)
            self.made.operations[-1] = _at(_with_data(operation, self.store.put(data)), start, len(data))

    def _add(self, state: str) -> None:
        self.made.states.append(state)
        self.made.acked.append(len(self.made.output))


def record(place: Place, store: Store, *, keep_data: bool = False) -> Recording:
    """Run the workload in the state directory as it is now. Raises ExperimentError where it cannot be started."""
    watching = _Watching(place, store, keep_data)
    made = watching.made
    if place.level == "clock":
        return _by_clock(place, store)
    made.traced = run_traced(place, watching.on_call, watching.on_output, watching.settle, watching.recorder.move_to)
    if not os.path.lexists(place.state):
        raise _taken_away(place)
    watching.settle()
    made.acked = [acknowledged(made.output, count) for count in made.acked]
    made.unannounced = tuple(map(_sayable, watching.recorder.unannounced()))
    made.unreadable = {_sayable(name): why for name, why in watching.recorder.blind.items()}
    made.outside = watching.reading.outside
    store.flush()
    return made


def _taken_away(place: Place) -> ExperimentError:
    return ExperimentError(
        "the workload took its state directory away, or gave it another name: its state cannot be told then",
        at=str(place.state),
        hint="let it work on what is in $CROUPIER_STATE, or in a directory below that",
    )


def _by_clock(place: Place, store: Store) -> Recording:
    """A recording whose crash points are kills at drawn moments, each with a state of its own."""
    budget = place.setting.budget
    kills = budget.states if budget is not None and budget.states is not None else clocked.KILLS
    made = Recording()
    made.operations, made.states, outputs, made.traced = clocked.record_by_clock(
        place, store, place.setting.seed, kills
    )
    # One file holds what was printed: that of the whole run, of which a run that was ended printed the beginning.
    made.output = bytearray(outputs[-1])
    printed = [_alike(one, outputs[-1]) for one in outputs]
    made.acked = [acknowledged(made.output, count) for count in printed]
    store.flush()
    return made


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes two outputs have in common, from the beginning."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def run_traced(
    place: Place,
    on_call: object,
    on_output: object,
    after: Callable[[], None] = lambda: None,
    moved: Callable[[Path], None] = lambda path: None,
) -> Traced:
    """The workload as every run of a search starts it, watched by the level of the search."""
    setting = place.setting
    stdin = None
    try:
        if setting.stdin:
            stdin = os.open(setting.stdin, os.O_RDONLY | os.O_CLOEXEC)
        if place.level in ("fuse", "shim", "events"):
            return observe(
                place.level,  # type: ignore[arg-type]
                place.workload(),
                root=place.state,
                on_seen=on_call,  # type: ignore[arg-type]
                on_output=on_output,  # type: ignore[arg-type]
                after=after,
                moved=moved,
                env=place.environment(),
                cwd=str(place.state),
                stdin=stdin,
                stderr=_quiet(),
                deadline_s=setting.timeout_ms / 1000,
                linger_s=2.0 if not setting.until else 0.2,
            )
        return trace(
            place.workload(),
            on_call=on_call,  # type: ignore[arg-type]
            on_output=on_output,  # type: ignore[arg-type]
            env=place.environment(),
            backend=place.level,  # type: ignore[arg-type]
            cwd=str(place.state),
            stdin=stdin,
            stderr=_quiet(),
            deadline_s=setting.timeout_ms / 1000,
            linger_s=2.0 if not setting.until else 0.2,
        )
    except OSError as problem:
        if not os.path.lexists(place.state):
            raise _taken_away(place) from problem
        raise ExperimentError(f"the workload could not be run: {problem}") from problem
    finally:
        if stdin is not None:
            os.close(stdin)


_null = -1


def _quiet() -> int:
    """What the workload complains about is not ours to print."""
    global _null
    if _null < 0:
        _null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return _null


def acknowledged(output: bytes | bytearray, count: int | None = None) -> int:
    """How many bytes of it are acknowledgements: whole lines, where it has lines. Half a line promises nothing yet."""
    count = len(output) if count is None else count
    return output.rfind(b"\n", 0, count) + 1 if b"\n" in output else count


class Aimed:
    """What came of a kill at one operation."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.landed = False
        self.why_not = ""
        self.stack: tuple[str, ...] = ()
        """Where in the program the call was made before which it was killed, where that can be had."""


def kill_at(
    place: Place, operations: list[Operation], after: int, cut: int | None, *, with_stack: bool = False
) -> Aimed:
    """Run the workload in the state directory as it is now, and kill all of it before operation `after + 1`.

    Stores through a mapping are no calls: the kill comes before the next call. `with_stack` asks where in the program
    that is.
    """
    aimed = Aimed()
    wanted = sum(one.call != "mmap-store" for one in operations[:after]) + 1
    target = next((one for one in operations[after:] if one.call != "mmap-store"), None)
    reading = Reading(place.state)

    def on_call(call: Call) -> Act:
        operation = reading.read(call)
        if operation is None or reading.count < wanted:
            return GO
        if target is None or (operation.call, operation.kind) != (target.call, target.kind):
            aimed.why_not = f"this time operation {wanted} was {operation.call} {operation.path}".rstrip()
        else:
            aimed.landed = True
            if with_stack:
                aimed.stack = stack_of(call.pid, call.tid)
        return KILL if cut is None or not aimed.landed else Torn(length=cut)

    traced = run_traced(place, on_call, aimed.output.extend)
    if target is None and traced.killed_at is None:
        aimed.landed = True
    elif not aimed.landed and not aimed.why_not:
        aimed.why_not = f"this time there were only {reading.count} operations"
    return aimed


def restart(place: Place, store: Store, state: str) -> None:
    """Make the state directory hold a state, and nothing else."""
    place.empty_state()
    materialise(store, state, place.state)


def changed_ranges(store: Store, before: str, now: str, path: str) -> Iterator[tuple[int, bytes]]:
    """The parts of a file that differ between two states, as offset and new bytes, to the chunk."""
    one = find(store, open_tree(store, before).top, _names(path))
    other = find(store, open_tree(store, now).top, _names(path))
    if other is None or not other.entry.is_file:
        return
    old_root, old_size = (one.entry.root, one.entry.size) if one is not None and one.entry.is_file else (NULL, 0)
    entry = other.entry
    numbers = sorted(number for number, _ in content.differing(store, old_root, old_size, entry.root, entry.size))
    start = last = -1
    for number in [*numbers, -10]:
        if start >= 0 and number == last + 1:
            last = number
            continue
        if start >= 0:
            length = min((last + 1) * _CHUNK, entry.size) - start * _CHUNK
            if length > 0:
                yield start * _CHUNK, content.read(store, entry.root, entry.size, start * _CHUNK, length)
        start = last = number


def _names(path: str) -> tuple[bytes, ...]:
    return tuple(one for one in os.fsencode(path).split(b"/") if one)


def _numbered(operation: Operation, index: int) -> Operation:
    return operation if operation.index == index else msgspec.structs.replace(operation, index=index)


def _with_data(operation: Operation, data: str) -> Operation:
    return msgspec.structs.replace(operation, data=data)


def _at(operation: Operation, offset: int, length: int) -> Operation:
    return msgspec.structs.replace(operation, offset=offset, length=length)
