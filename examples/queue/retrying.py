"""The same queue with an outbox, so that a worker may die in the middle of an order.

huey takes a task off the queue before it runs it; from then on only the worker knows of it. (huey's own
`retries` are for tasks that raise. A worker that is killed raises nothing.) So each order is written down first:

- `submit` puts it into the table `promised`, next to `done`, before it goes on the queue.
- A worker that starts puts everything back on the queue that is promised and not done. huey replaces dead
  workers, so there is always a start after a loss.
- An order may now be on the queue twice. Whoever meets it the second time sees that it is done, and skips it.

    huey_consumer retrying.huey --worker-type process --workers 3
"""

import sqlite3
from contextlib import closing

import tasks
from huey import CancelExecution
from huey.api import Task
from tasks import fulfil, huey

__all__ = ["huey", "submit"]


def orders_db() -> sqlite3.Connection:
    db = tasks.orders_db()
    db.execute("CREATE TABLE IF NOT EXISTS promised (id TEXT PRIMARY KEY)")
    return db


def submit(order: str) -> None:
    """Promise that the order will be fulfilled, whatever becomes of the queue."""
    with closing(orders_db()) as db, db:
        db.execute("INSERT INTO promised VALUES (?) ON CONFLICT DO NOTHING", [order])
    fulfil(order)


@huey.on_startup()
def redeliver() -> None:
    """Put back on the queue what somebody may have died over."""
    with closing(orders_db()) as db:
        owed = db.execute("SELECT id FROM promised EXCEPT SELECT id FROM done").fetchall()
    for (order,) in owed:
        fulfil(order)


@huey.pre_execute()
def skip_what_is_done(task: Task) -> None:
    if not isinstance(task, fulfil.task_class):
        return
    with closing(orders_db()) as db:
        if db.execute("SELECT 1 FROM done WHERE id = ?", task.args).fetchone():
            raise CancelExecution
