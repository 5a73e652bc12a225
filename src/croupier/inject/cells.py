"""Cells in undo records: whom a fault put into a cgroup of its own, and how everybody gets home."""

from __future__ import annotations

from ..model.fault import Fault
from ..model.target import Identity, Seen
from ..model.undo import Healing, UndoRecord
from ..system import freezer, procs
from . import Act, helpers


def intend(
    target: Seen, fault: Fault, cell: freezer.Cell, controller: str, act: Act
) -> tuple[UndoRecord, list[Identity]]:
    """Have a record held before anybody is put into the cell: it, whom, and where each lives. That, and whom."""
    key, members = act.key(target), [target.identity, *(one.identity for one in act.below(target).free)]
    record = UndoRecord(
        key=key,
        fault=fault.kind,
        who=target.identity,
        data={
            **helpers.marked(act.env, key),
            "cell": list(cell),
            "members": [[one.pid, one.started] for one in members],
            "homes": [freezer.home_of(one.pid, cell.version, controller) for one in members],
        },
        deadline_us=helpers.deadline_us(fault.lasting_ms),
    )
    act.intend(record)
    return record, members


def name_of(target: Seen, act: Act, controller: str) -> str:
    """What a cell for this target is called: nobody else's is."""
    return f"{target.pid}-{target.identity.started}-{act.key(target)}-{controller}"


def cell_of(record: UndoRecord) -> freezer.Cell:
    """The cell that a record tells of."""
    version, path, home = record.data["cell"]
    return freezer.Cell(version, path, home)


def homes_of(record: UndoRecord) -> dict[Identity, str]:
    """Where each member lived before; those of whom that is not known are left out."""
    members = [Identity(pid=pid, started=started, boot=record.who.boot) for pid, started in record.data["members"]]
    return {one: home for one, home in zip(members, record.data["homes"], strict=True) if home}


def release(record: UndoRecord, controller: str) -> Healing:
    """End the helpers in the cell, move everybody else home, take it away, and see that it is gone."""
    left = helpers.end(record)
    if left:
        return Healing(verified=False, note=f"whoever was put in beside is still alive: {', '.join(map(str, left))}")
    trouble = freezer.dissolve(cell_of(record), homes_of(record), controller=controller)
    if trouble:
        return Healing(verified=False, note=trouble)
    return Healing(verified=True, note="" if procs.alive(record.who) else f"{record.who} is gone")
