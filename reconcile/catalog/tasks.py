"""The vendor's record of migrations: ours go there too, so that its own ``list-migrations`` shows them."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection

from reconcile.catalog.connect import Catalog
from reconcile.catalog.rules import meddled, rules_of
from reconcile.catalog.tables import archive_migration_tasks, tasks

_OURS = "reconcile"


@frozen
class Migration:
    """One migration as the vendor records it. Times are UTC without zone."""

    id: int
    state: str | None
    from_driver: str | None
    to_driver: str | None
    documents: int | None
    migrated: int | None
    started_at: datetime | None
    ended_at: datetime | None
    executor: str | None

    @property
    def is_ours(self) -> bool:
        """Whether this tool wrote it."""
        return (self.executor or "").endswith(f":{_OURS}")


def migrations(catalog: Catalog) -> list[Migration]:
    """Return the migrations in the vendor's tables, newest first; none where the tables are missing."""
    if not (catalog.has_table(tasks) and catalog.has_table(archive_migration_tasks)):
        return []
    columns = archive_migration_tasks.c
    query = (
        sa.select(
            tasks.c.id,
            sa.cast(tasks.c.state, sa.String),
            columns.migrate_from_driver,
            columns.migrate_to_driver,
            columns.archive_documents_to_migrate,
            columns.archive_documents_migrated,
            tasks.c.started_at,
            tasks.c.ended_at,
            tasks.c.executor_id,
        )
        .join(archive_migration_tasks, tasks.c.id == columns.id)
        .order_by(tasks.c.id.desc())
    )
    with catalog.read() as connection:
        return [Migration(*row) for row in connection.execute(query)]


def record_task(connection: Connection, from_driver: str, to_driver: str, documents: int, started: datetime) -> int:
    """Write the rows of one completed migration within the switch's transaction; return the task's id.

    Times are UTC without zone, as the vendor writes them. Raises `CatalogError` if the database does not keep the row.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    result = connection.execute(
        tasks.insert().returning(tasks.c.id),
        {
            "state": "complete",
            "last_state": "running",
            "created_at": started.replace(tzinfo=None),
            "started_at": started.replace(tzinfo=None),
            "ended_at": now,
            "last_updated": now,
            "executor_id": f"{socket.gethostname()}:{os.getpid()}:{_OURS}",
            "type": "archivemigrationtask",
        },
    )
    task_id = result.scalar_one_or_none()
    if task_id is None:
        raise meddled(
            rules_of(connection, tasks.name, "INSERT"),
            "the database did not keep the migration's row in the table tasks",
        )
    connection.execute(
        archive_migration_tasks.insert(),
        {
            "id": task_id,
            "migrate_from_driver": from_driver,
            "migrate_to_driver": to_driver,
            "archive_documents_to_migrate": documents,
            "archive_documents_migrated": documents,
            "online_migration": False,
        },
    )
    return int(task_id)
