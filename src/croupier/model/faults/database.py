"""Databases that keep others waiting, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from ..fault import Fault
from ..noun import Noun
from ..units import Ms, Percent


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


class DropConnections(Fault, Noun, tag="drop_connections", tag_field="fault", frozen=True, kw_only=True):
    """End connections of a PostgreSQL server from the server's side, as a failover or an administrator does.

    Their backends are terminated (`pg_terminate_backend`): what they were at is rolled back, and whoever held such a
    connection finds it closed. Without a pattern it means every client's; croupier's own stay. The target is whoever it
    is done to, so that permits and recoveries count for it.
    """

    kind: ClassVar[str] = "drop_connections"

    postgres: Annotated[str, msgspec.Meta(min_length=1)]
    """A connection string of libpq, like `host=/run/app dbname=app`; a password belongs into PGPASSWORD."""
    application: str = ""
    """A glob over the connection's `application_name`; any by default."""
    database: str = ""
    """A glob over the database that it is connected to; any by default."""
    user: str = ""
    """A glob over the user whom it is connected as; any by default."""
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """So many of those that match, drawn by the seed; all by default."""
    percent: Percent | None = None
    """Such a share of those that match, and one at the least, drawn by the seed."""
    repeat: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    """How many times in all."""
    every_ms: Ms = msgspec.field(name="every", default=Ms(1_000))
    """From one repetition to the next."""

    @property
    def rounds(self) -> tuple[int, int]:
        """`repeat` times, `every` ms."""
        return self.repeat, self.every_ms
