"""Volume: a small file system in memory, so that a disk can be filled which is nobody's but the target's.

It is a tmpfs (tmpfs(5)) of a limited size, mounted on a directory of the run. Taking it down detaches it at once
(umount2(2), MNT_DETACH): whoever still has files open there keeps them until it ends, and what was on it is gone then.
"""

from __future__ import annotations

from pathlib import Path

from ..model.arrangement import Volume
from ..model.undo import Healing, UndoRecord
from ..system import mounts
from . import Hands


class VolumeArranger:
    """Sets up `volumes`."""

    kind = "volume"
    summary = "A file system of a limited size, in memory, that lives as long as the round."

    def lacking(self, spec: Volume) -> str:
        """Whether this user may mount."""
        return mounts.lacking()

    def stands_for(self, name: str, spec: Volume, folder: str) -> str:
        """The directory that it is mounted on."""
        return str(Path(folder) / "volumes" / name)

    def set_up(self, name: str, spec: Volume, value: str, hands: Hands) -> None:
        """Mount it, empty, for this user alone."""
        Path(value).mkdir(parents=True, exist_ok=True)
        key = f"{self.kind}.{name}"
        hands.intend(
            UndoRecord(key=key, fault=self.kind, who=hands.keeper, data={"path": value}, deadline_us=hands.deadline_us)
        )
        mounts.mount_tmpfs(value, int(spec.size_bytes))
        hands.applied(key)

    def heal(self, record: UndoRecord) -> Healing:
        """Detach whatever of ours is mounted there, and see that nothing is."""
        path = str(record.data["path"])
        if not mounts.is_mounted(path):
            return Healing(verified=True, note=f"nothing is mounted on {path}")
        mounts.detach(path)
        if mounts.is_mounted(path):
            return Healing(verified=False, note=f"{path} is still mounted")
        return Healing(verified=True)


ARRANGER = VolumeArranger()
