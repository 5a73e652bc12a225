"""Fill_disk: fill a small file system of the round, up to a reserve, by one file of our own.

Only what croupier mounted is ever filled: the path is looked up among its own mounts at the last moment.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..model.fault import Fault
from ..model.faults.disk import FillDisk
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import mounts, procs
from ..system.clock import now_us
from . import Act, Outcome, together

_NAME = ".croupier-filling-"


class FillDiskInjector:
    """Carries out `fill_disk`."""

    kind = "fill_disk"
    spec: type[Fault] = FillDisk
    summary = "Fill a volume of the round, up to a reserve, for a while."
    needs = "A volume of the experiment (`volumes`), and so the right to mount."
    heals = "Our file is taken away, and seen to be gone."
    example = 'fill_disk: {path: "${state}", for: 3s}'

    def lacking(self, fault: FillDisk) -> str:
        """Whether there can be volumes at all."""
        return mounts.lacking()

    def inject(self, permit: Permit, fault: FillDisk, act: Act) -> Outcome:
        """Fill it once, whoever the targets are; landed when no more than the reserve is free."""
        decided_us = now_us()
        lack = self.lacking(fault)
        if lack:
            return Outcome(result="missed", detail=lack)
        return together([_fill(permit.targets[0], fault, act)], us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: FillDisk, act: Act) -> None:
        """A file stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Take our file away."""
        file = Path(record.data["file"])
        try:
            file.unlink()
        except FileNotFoundError:
            return Healing(verified=True, note=f"nothing of ours is there any more: {file.name}")
        except OSError as problem:
            return Healing(verified=False, note=f"{file}: {problem.strerror}")
        return Healing(verified=not file.exists(), note="" if procs.alive(record.who) else f"{record.who} is gone")


def _fill(target: Seen, fault: FillDisk, act: Act) -> Outcome:
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: gone before its disk could be filled")
    if act.halted:
        return Outcome(result="missed", detail=f"{target}: the round was halted first")
    folder = mounts.mount_of(fault.path)
    if folder is None:
        return Outcome(
            result="missed", detail=f"{fault.path} is on no volume of this round; only those are filled (see volumes)"
        )
    key = act.key(target)
    file = Path(folder) / f"{_NAME}{key}"
    act.intend(
        UndoRecord(
            key=key, fault="fill_disk", who=target.identity, data={"file": str(file)},
            deadline_us=now_us() + int(fault.for_ms) * 1_000,
        )
    )  # fmt: skip
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as its disk was about to be filled")
    leave = int(fault.leave_bytes)
    try:
        _write(file, folder, leave)
    except OSError as problem:
        return Outcome(result="unsure", detail=f"{target}: {folder} could not be filled: {problem.strerror}")
    act.applied(key)
    free = _free(folder)
    if free > leave + os.statvfs(folder).f_bsize:
        return Outcome(result="unsure", detail=f"{target}: {free} bytes are free on {folder}, not {leave}")
    # Who writes all the time may have met the full disk, and ended of it, before we look.
    ended = "" if procs.alive(target.identity) else "; it has ended since"
    return Outcome(result="landed", detail=f"{target}: {free} bytes are free on {folder}{ended}")


def _write(file: Path, folder: str, leave: int) -> None:
    with file.open("xb") as filling:
        while (room := _free(folder) - leave) > 0:
            os.posix_fallocate(filling.fileno(), os.fstat(filling.fileno()).st_size, room)


def _free(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


INJECTOR = FillDiskInjector()
