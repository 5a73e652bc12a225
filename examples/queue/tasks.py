"""The queue as huey's own guide would have us write it: one task, kept in SQLite, done by worker processes.

    huey_consumer tasks.huey --worker-type process --workers 3

Fulfilling an order takes a while, and ends with its row in the table `done`. Doing it twice leaves one row, so
it may be done again whenever somebody is in doubt.
"""

import os
import random
import sqlite3
import time
from contextlib import closing

from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ["QUEUE_DB"], fsync=True)


def orders_db() -> sqlite3.Connection:
    """Open the database of the shop, which knows nothing of the queue."""
    db = sqlite3.connect(os.environ["ORDERS_DB"], timeout=10)
    db.execute("CREATE TABLE IF NOT EXISTS done (id TEXT PRIMARY KEY)")
    return db


@huey.task()
def fulfil(order: str) -> None:
    time.sleep(random.uniform(0.3, 0.8))  # packing
    with closing(orders_db()) as db, db:
        db.execute("INSERT INTO done VALUES (?) ON CONFLICT DO NOTHING", [order])


@huey.task(priority=100)
def pulse() -> str:
    """Show that a task which is put in comes out again, past all orders that wait."""
    return "alive"


def submit(order: str) -> None:
    """Promise that the order will be fulfilled: the queue has it on disk when this returns."""
    fulfil(order)
