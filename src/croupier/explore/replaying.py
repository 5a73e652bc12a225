"""A crash point of a stored search again: its state and the check, or the workload killed there for real."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..model.errors import ReplayError
from ..model.noun import Noun
from ..model.search import CrashPoint, Setting
from ..snapshot import Recorder, Store, materialise
from ..store.searches import SearchDir, find_point
from .asking import Pool
from .place import Place
from .recording import acknowledged, kill_at, restart

_TRIES = 5


class Replayed(Noun, frozen=True, kw_only=True, omit_defaults=False):
    """What came of it. `shows` None: the point could not be reached again."""

    point: str
    shows: bool | None
    reason: str
    detail: str
    state: str
    """A directory with the state, as the crash left it."""
    live: bool

    @property
    def exit_code(self) -> int:
        """1 when it shows again, 0 when it does not, 4 when the point was not reached."""
        return {True: 1, False: 0, None: 4}[self.shows]


def replay(asked: str, out: Path, *, live: bool = False) -> Replayed:
    """Replay `RUN/k0045`. Raises ReplayError where there is no such point, or it cannot be replayed like this."""
    found, point = find_point(asked, out)
    setting = found.started().setting
    if setting.experiment:
        from .round_search import replay_in_a_round

        return replay_in_a_round(found, point)
    if live:
        return _live(found, point, setting)
    return stored(found, point, setting)


def stored(found: SearchDir, point: CrashPoint, setting: Setting) -> Replayed:
    """The stored state, in a directory that stays as it is, and the check on a copy of it."""
    folder = Path(tempfile.mkdtemp(prefix=f"croupier-{point.id}-"))
    output = found.read_output()[: point.acked]
    (folder / "acked").write_bytes(output)
    with Place(setting) as place, _reading(found) as store:
        materialise(store, point.state, folder / "state")
        asks = Pool(place, store, found.output, point.state)
        try:
            _, held, reason, _ = asks.ask_with(point.state, output)
        finally:
            asks.close()
    return Replayed(
        point=point.id, shows=not held, reason=reason, detail=_what(point), state=str(folder / "state"), live=False
    )


def _live(found: SearchDir, point: CrashPoint, setting: Setting) -> Replayed:
    if point.model != "kill":
        raise ReplayError(
            "a power cut cannot be made by a kill: no kill loses what was not synced",
            at=point.id,
            hint="without --live, its state is checked again",
        )
    if point.parent:
        raise ReplayError("a crash during recovery is replayed from its state", at=point.id, hint="without --live")
    operations = found.read_operations()
    initial = next(one.state for one in found.read_points() if one.after == 0 and one.cut is None)
    kept = Path(tempfile.mkdtemp(prefix=f"croupier-{point.id}-"))
    why = ""
    with Place(setting) as place, _reading(found) as store:
        scratch = Store(place.root / "seen")
        for _ in range(_TRIES):
            restart(place, store, initial)
            aimed = kill_at(place, operations, point.after, point.cut)
            if not aimed.landed:
                why = f"not reached again: {aimed.why_not}"
                continue
            state = Recorder(place.state, scratch).full()
            asks = Pool(place, scratch, found.output, state)
            try:
                _, held, reason, _ = asks.ask_with(state, bytes(aimed.output[: acknowledged(aimed.output)]))
            finally:
                asks.close()
            materialise(scratch, state, kept / "state")
            scratch.close()
            words = "killed there for real; the state is " + (
                "the recorded one" if state == point.state else "of other bytes"
            )
            return Replayed(
                point=point.id, shows=not held, reason=reason, detail=words, state=str(kept / "state"), live=True
            )
        scratch.close()
    return Replayed(point=point.id, shows=None, reason="", detail=why, state="", live=True)


@contextmanager
def _reading(found: SearchDir) -> Iterator[Store]:
    store = Store(found.states, writable=False)
    try:
        yield store
    finally:
        store.close()


def _what(point: CrashPoint) -> str:
    said = f"after operation {point.after}" if point.after else "before the first operation"
    if point.cut is not None:
        said += f", the next write cut after {point.cut} bytes"
    if point.lost:
        said += f"; {'; '.join(point.lost[:3])}"
    return said
