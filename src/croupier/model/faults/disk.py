"""Disks that are full, and files that are not what was written, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..units import Bytes, Ms

Damage = Literal["flip", "truncate", "tear", "zero", "stale", "lose", "swap"]


class FillDisk(Fault, Noun, tag="fill_disk", tag_field="fault", frozen=True, kw_only=True):
    """Fill a volume of the round, up to a reserve, for a while. The disk of the machine is never filled.

    `path` must lie on one of the experiment's `volumes`: `path: "${volume.data}"`.
    """

    kind: ClassVar[str] = "fill_disk"

    path: Annotated[str, msgspec.Meta(min_length=1)]
    """The volume, or a directory on it."""
    for_ms: Ms = msgspec.field(name="for")
    """From the filling to the healing."""
    leave_bytes: Bytes = msgspec.field(name="leave", default=Bytes(0))
    """How much stays free."""

    @property
    def lasting_ms(self) -> int:
        """How long it stays full, in ms."""
        return self.for_ms


class Corrupt(Fault, Noun, tag="corrupt", tag_field="fault", frozen=True, kw_only=True):
    """Damage a file of the round, for a while: its bytes, its length, its place. What was there comes back.

    Only files below `${state}` or on a volume, and only regular ones. Where in the file is drawn from the seed. When
    the program has written the file meanwhile, what it wrote stays.
    """

    kind: ClassVar[str] = "corrupt"

    path: Annotated[str, msgspec.Meta(min_length=1)]
    """The file; a glob means the first that matches, by name."""
    for_ms: Ms = msgspec.field(name="for")
    """From the damage to the healing."""
    do: Damage = "flip"
    """`flip` bits; `truncate` the end away; `tear`: the last page holds zeros from a drawn place on; `zero` a page;
    `stale`: as it was `age` ago; `lose`: the name is gone; `swap` with the file `other`."""
    bits: Annotated[int, msgspec.Meta(ge=1, le=4_096)] = 1
    """With `flip`: how many."""
    bytes: Annotated[int, msgspec.Meta(ge=1)] = 512
    """With `truncate`: how many are cut off."""
    age_ms: Ms = msgspec.field(name="age", default=Ms(1_000))
    """With `stale`: how old the content is that comes back."""
    other: str = ""
    """With `swap`: the other file."""

    @property
    def lasting_ms(self) -> int:
        """How long the damage stays, in ms."""
        return self.for_ms

    @property
    def busy_ms(self) -> int:
        """How long it is waited for the content to age, in ms."""
        return int(self.age_ms) if self.do == "stale" else 0


class CorruptCache(Corrupt, tag="corrupt_cache", tag_field="fault", frozen=True, kw_only=True):
    """Damage a file of a cache: the same as `corrupt`, under the name that says what is promised of it.

    A cache may lose anything; it may never answer with what it has not been given.
    """

    kind: ClassVar[str] = "corrupt_cache"
