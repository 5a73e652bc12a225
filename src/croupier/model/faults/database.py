"""Databases that keep others waiting, as data."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..units import Ms


class LockDatabase(Fault, Noun, tag="lock_database", tag_field="fault", frozen=True, kw_only=True):
    """Hold a lock of a database for a while, as a transaction that does not end: everybody else waits, or times out.

    Give `sqlite` (a file) or `postgres` (a connection string of libpq). The target is whoever it is done to, so that
    permits and recoveries count for it.
    """

    kind: ClassVar[str] = "lock_database"

    for_ms: Ms = msgspec.field(name="for")
    """How long the lock is held."""
    sqlite: str = ""
    """The file of a SQLite database, which is locked as a whole."""
    postgres: str = ""
    """A connection string of libpq, like `host=/run/app dbname=app`; a password belongs into PGPASSWORD."""
    what: Literal["row", "table", "whole"] = "whole"
    """Of PostgreSQL: the rows of a table that `where` names, a table, or all tables of the user."""
    table: str = ""
    """With `row` and `table`: its name."""
    where: str = "true"
    """With `row`: which rows, an SQL condition."""

    @property
    def lasting_ms(self) -> int:
        """How long the lock is held, in ms."""
        return self.for_ms
