"""What a round left behind: the fingerprint of the host before it, and the same looked at again.

The one from before lies in the run directory, so that `croupier recover` can compare with it whoever has died since.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ..model.fingerprint import Fingerprint, Scope, difference
from ..model.target import Identity
from ..system import fingerprint
from .running import read_steps, registered_in

BEFORE = "artifacts/fingerprint-before.json"
AFTER = "artifacts/fingerprint-after.json"


def before_round(run: str, run_dir: Path, processes: Iterable[Identity]) -> Fingerprint:
    """What is there when nothing has been disturbed yet; that the round itself is registered does not count."""
    return fingerprint.take(Scope(run=run, run_dir=str(run_dir), processes=tuple(processes)))


def now(before: Fingerprint) -> Fingerprint:
    """The same things as they are now, with what the undo log says was touched since."""
    scope = before.scope
    steps = read_steps(Path(scope.run_dir))
    touched = dict.fromkeys(step.record.who for step in steps if step.record is not None)
    home = registered_in(scope.run)
    return msgspec.structs.replace(fingerprint.take(scope, touched), pointer=str(home) if home else "")


def since(run_dir: Path) -> tuple[str, ...]:
    """What differs now from the fingerprint that was stored before the round; () where there is none, too."""
    before = read(run_dir / BEFORE)
    return difference(before, now(before)) if before is not None else ()


def read(path: Path) -> Fingerprint | None:
    """A stored fingerprint; None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Fingerprint)
    except (OSError, msgspec.MsgspecError):
        return None
