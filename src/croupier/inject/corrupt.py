"""Corrupt: damage a file of the round for a while; bytes, mode and times come back.

What was there, and what we make of it, is kept aside before the first byte changes, each whole or not at all. Only
what is still of our making is ever replaced by the old content, a write of ours that was cut in the middle included; a
file that the program has written since is its own again.
"""

from __future__ import annotations

import glob
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..model.choice import ChoiceStream
from ..model.fault import Fault
from ..model.faults.disk import Corrupt
from ..model.guard import Permit
from ..model.target import Seen
from ..model.undo import Healing, UndoRecord
from ..system import mounts, procs
from ..system.clock import now_us
from . import Act, Outcome

_PAGE = 4_096
_ASIDE = "set-aside"
_MADE = ".made"
_PART = ".part"


class CorruptInjector:
    """Carries out `corrupt`, and `corrupt_cache`."""

    kind = "corrupt"
    spec: type[Fault] = Corrupt
    summary = "Damage a file of the round, for a while: bits, length, a page, its age, its name."
    needs = "A file below ${state}, or on a volume."
    heals = "The bytes, the mode and the times that it had, unless the program has written it since."
    example = 'corrupt: {path: "${state}/*.db", do: flip, for: 3s}'

    def lacking(self, fault: Corrupt) -> str:
        """Whether the options belong together."""
        if fault.do == "swap" and not fault.other:
            return "swap needs `other`, the file to change places with"
        return ""

    def inject(self, permit: Permit, fault: Corrupt, act: Act) -> Outcome:
        """Damage it once, whoever the targets are; landed when the file was seen to be another."""
        decided_us = now_us()
        lack = self.lacking(fault)
        outcome = Outcome(result="missed", detail=lack) if lack else _damage(permit, fault, act, self.kind)
        return Outcome(result=outcome.result, detail=outcome.detail, us=now_us() - decided_us)

    def hold(self, permit: Permit, fault: Corrupt, act: Act) -> None:
        """Damage stays by itself."""

    def heal(self, record: UndoRecord) -> Healing:
        """Put back each file that still is what we made of it."""
        notes = [_restore(row) for row in record.data["files"]]
        troubles = [note for note in notes if note.startswith("not ")]
        if troubles:
            return Healing(verified=False, note="; ".join(troubles))
        said = [note for note in notes if note]
        if not procs.alive(record.who):
            said.append(f"{record.who} is gone")
        return Healing(verified=True, note="; ".join(said))


def _damage(permit: Permit, fault: Corrupt, act: Act, kind: str) -> Outcome:
    target = permit.targets[0]
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: gone before its file could be damaged")
    files, why = _files(fault, act)
    if why:
        return Outcome(result="missed", detail=f"{target}: {why}")
    key, folder = act.key(target), _aside(act)
    old = files[0].read_bytes()
    if fault.do == "stale":
        act.wait(int(fault.age_ms))
    if act.halted:
        return Outcome(result="missed", detail=f"{target}: the round was halted first")
    now = [one.read_bytes() for one in files]
    made = _made(fault, now, old, ChoiceStream(permit.injection.lot))
    if made == now:
        return Outcome(result="missed", detail=f"{target}: {files[0].name} would not be another (is it empty?)")
    rows = [_row(file, new, folder / f"{key}.{nth}") for nth, (file, new) in enumerate(zip(files, made, strict=True))]
    act.intend(
        UndoRecord(
            key=key, fault=kind, who=target.identity, data={"files": rows},
            deadline_us=now_us() + int(fault.for_ms) * 1_000,
        )
    )  # fmt: skip
    try:
        for row, old_bytes, new in zip(rows, now, made, strict=True):
            # What there was comes last: where it is, the other is as well.
            _keep(Path(row["aside"] + _MADE), new or b"")
            if new is not None or not _linked(Path(row["path"]), Path(row["aside"])):
                _keep(Path(row["aside"]), old_bytes)
    except OSError as problem:
        return Outcome(result="missed", detail=f"{target}: it could not be set aside: {problem.strerror}")
    for file, new in zip(files, made, strict=True):
        _put(file, new)
    if not all(Path(row["aside"]).exists() for row in rows):
        # We stood still for longer than the fault was to last, and were healed before we had done it.
        for file, row, old_bytes in zip(files, rows, now, strict=True):
            _give_back(file, row, old_bytes)
        return Outcome(result="missed", detail=f"{target}: its time was over before the file was damaged")
    act.applied(key)
    return _seen(target, fault, files, made)


def _files(fault: Corrupt, act: Act) -> tuple[list[Path], str]:
    """The files that are meant, and why they may not be touched; "" where they may."""
    found = []
    for pattern in (fault.path, *([fault.other] if fault.do == "swap" else [])):
        place = Path(act.cwd) / pattern
        some = sorted(place.parent.glob(place.name)) if any(one in place.name for one in "*?[") else [place]
        file = next((one for one in some if one.is_file() and not one.is_symlink()), None)
        if file is None:
            return [], f"there is no file {pattern}"
        if not _is_of_the_round(file, act):
            return [], f"{file} is neither below the state of this round nor on a volume of it"
        found.append(file.resolve())
    return found, ""


def _is_of_the_round(file: Path, act: Act) -> bool:
    state = act.env.get("CROUPIER_STATE", "")
    return (bool(state) and file.resolve().is_relative_to(Path(state).resolve())) or bool(mounts.mount_of(str(file)))


def _aside(act: Act) -> Path:
    """Where what was there is kept: beside the state, never in it."""
    folder = Path(act.env.get("CROUPIER_STATE", act.cwd)).resolve().parent / _ASIDE
    folder.mkdir(exist_ok=True)
    return folder


def _made(fault: Corrupt, now: list[bytes], old: bytes, choices: ChoiceStream) -> list[bytes | None]:
    """What the files hold afterwards; None for one that is gone."""
    data, size = now[0], len(now[0])
    if fault.do == "lose":
        return [None]
    if fault.do == "swap":
        return [now[1], now[0]]
    if fault.do == "stale":
        return [old]
    if size == 0:
        return [data]
    if fault.do == "truncate":
        return [data[: max(0, size - fault.bytes)]]
    new = bytearray(data)
    if fault.do == "flip":
        for _ in range(fault.bits):
            new[choices.below(size)] ^= 1 << choices.below(8)
    elif fault.do == "zero":
        start = choices.below(-(-size // _PAGE)) * _PAGE
        new[start : start + _PAGE] = bytes(min(_PAGE, size - start))
    else:
        last = (size - 1) // _PAGE * _PAGE
        start = last + choices.below(size - last)
        new[start:] = bytes(size - start)
    return [bytes(new)]


def _row(file: Path, made: bytes | None, aside: Path) -> dict[str, Any]:
    seen = file.stat()
    return {
        "path": str(file),
        "aside": str(aside),
        "mode": stat.S_IMODE(seen.st_mode),
        "owner": [seen.st_uid, seen.st_gid],
        "times": [seen.st_atime_ns, seen.st_mtime_ns],
        "lost": made is None,
    }


def _keep(place: Path, data: bytes) -> None:
    """Whole or not at all, whoever dies meanwhile. Raises OSError."""
    part = Path(f"{place}{_PART}")
    part.write_bytes(data)
    part.replace(place)


def _linked(file: Path, aside: Path) -> bool:
    """Keep a file that is about to be lost by another name, so that no space is needed to bring it back."""
    try:
        aside.hardlink_to(file)
    except OSError:
        return False
    return True


def _put(file: Path, data: bytes | None) -> None:
    """In place, so that whoever has it open sees it."""
    if data is None:
        file.unlink()
        return
    with file.open("r+b") as writer:
        writer.write(data)
        writer.truncate()


def _seen(target: Seen, fault: Corrupt, files: list[Path], made: list[bytes | None]) -> Outcome:
    if not procs.alive(target.identity):
        return Outcome(result="missed", detail=f"{target}: it ended by itself as its file was damaged")
    now = [one.read_bytes() if one.exists() else None for one in files]
    names = " and ".join(one.name for one in files)
    if now != made:
        return Outcome(result="unsure", detail=f"{target}: {names} was written at the same moment")
    return Outcome(result="landed", detail=f"{target}: {names}: {fault.do}")


def _restore(row: dict[str, Any]) -> str:
    """Put one file back; a note, which begins with "not " where it could not be done."""
    file, aside = Path(row["path"]), Path(row["aside"])
    now = file.read_bytes() if file.exists() else None
    try:
        old, made = aside.read_bytes(), None if row["lost"] else Path(row["aside"] + _MADE).read_bytes()
    except FileNotFoundError:
        # Put back by whoever came before us, or not touched yet.
        _forget(row)
        return f"nothing is set aside for {file.name} any more"
    if now != old and not _is_ours(now, made, old):
        _forget(row)
        return f"{file.name} was written by the program since, and is its own"
    try:
        _give_back(file, row, old)
        if file.read_bytes() != old:
            return f"not put back: {file} holds something else"
    except OSError as problem:
        if aside.exists():
            return f"not put back: {file}: {problem.strerror}"
        # Whoever else heals it at this moment was quicker.
    _forget(row)
    return ""


def _give_back(file: Path, row: dict[str, Any], old: bytes) -> None:
    """The bytes, the mode and the times that it had. Raises OSError."""
    if not file.exists():
        _bring_back(file, row, old)
    elif file.read_bytes() != old:
        _put(file, old)
    if _is_undressed(file, row):
        file.chmod(row["mode"])
        os.utime(file, ns=tuple(row["times"]))


def _bring_back(file: Path, row: dict[str, Any], old: bytes) -> None:
    """A file that was lost appears under its name once it is whole. Raises OSError."""
    with suppress(OSError):
        aside = Path(row["aside"])
        _dress(aside, row)
        aside.rename(file)
        return
    # Nothing is aside any more, or it is on another file system.
    # Another name for each who heals: nobody writes to what somebody else has given the file's own name.
    part = file.with_name(f"{_beside(row)}{os.getpid()}")
    part.write_bytes(old)
    _dress(part, row)
    part.replace(file)


def _dress(file: Path, row: dict[str, Any]) -> None:
    os.chown(file, *row["owner"])
    file.chmod(row["mode"])
    os.utime(file, ns=tuple(row["times"]))


def _beside(row: dict[str, Any]) -> str:
    """How the names begin under which a lost file is written before it is whole."""
    return f".{Path(row['path']).name}.croupier-{Path(row['aside']).name}."


def _is_ours(now: bytes | None, made: bytes | None, old: bytes) -> bool:
    """Whether a file is what we made of it, or some of that and some of what it was: we were stopped in the middle."""
    if now is None or made is None or now == made:
        return now == made
    if len(now) not in (len(made), len(old)):
        return False
    return all(byte in (made[at : at + 1] + old[at : at + 1]) for at, byte in enumerate(now))


def _forget(row: dict[str, Any]) -> None:
    # What there was first: without it, whoever comes after us knows that the rest is of no use.
    aside = row["aside"]
    parts = Path(row["path"]).parent.glob(f"{glob.escape(_beside(row))}*")
    for place in (Path(aside), Path(aside + _MADE), Path(aside + _PART), Path(aside + _MADE + _PART), *parts):
        place.unlink(missing_ok=True)


def _is_undressed(file: Path, row: dict[str, Any]) -> bool:
    seen = file.stat()
    return [stat.S_IMODE(seen.st_mode), seen.st_mtime_ns] != [row["mode"], row["times"][1]]


INJECTOR = CorruptInjector()
