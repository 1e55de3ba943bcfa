"""Which workers did parts of a run: how much, since when, and when each was last seen."""

from __future__ import annotations

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog
from reconcile.catalog.services import database_now
from reconcile.running.record.tables import workers


@frozen
class WorkerRecord:
    """A worker (user@host:process), and what it staged; times are in Unix seconds by the database's clock."""

    worker: str
    documents: int
    bytes: int
    since: int
    seen_at: int

    @property
    def documents_per_second(self) -> float:
        """Its average speed."""
        return self.documents / max(1, self.seen_at - self.since)


def note_work(connection: Connection, run_id: str, worker: str, documents: int, size: int) -> None:
    """Record that a worker staged so many more documents and bytes, or was active."""
    from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415 - there are no workers on SQLite

    now = database_now(connection)
    new = {"documents": documents, "bytes": size, "since": now, "seen_at": now}
    statement = insert(workers).values(run_id=run_id, worker=worker, **new)
    more = {
        "documents": workers.c.documents + documents,
        "bytes": workers.c.bytes + size,
        "seen_at": now,
    }
    connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "worker"], set_=more))


def crew(catalog: Catalog, run_id: str) -> tuple[WorkerRecord, ...]:
    """Return the workers of a run, the last seen first."""
    if not catalog.has_table(workers):
        return ()
    columns = (workers.c.worker, workers.c.documents, workers.c.bytes, workers.c.since, workers.c.seen_at)
    query = sa.select(*columns).where(workers.c.run_id == run_id)
    with catalog.read() as connection:
        return tuple(
            WorkerRecord(*row) for row in connection.execute(query.order_by(workers.c.seen_at.desc(), workers.c.worker))
        )
