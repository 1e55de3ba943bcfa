"""The vendor's record of a migration, so that ``anchore-manager objectstorage list-migrations`` shows ours."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime

from sqlalchemy.engine import Connection

from reconcile.catalog.tables import archive_migration_tasks, tasks


def record_task(connection: Connection, from_driver: str, to_driver: str, documents: int, started: datetime) -> int:
    """Write the rows of one completed migration within the switch's transaction; return the task's id.

    Times are UTC without zone, as the vendor writes them.
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
            "executor_id": f"{socket.gethostname()}:{os.getpid()}:reconcile",
            "type": "archivemigrationtask",
        },
    )
    task_id = int(result.scalar_one())
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
    return task_id
