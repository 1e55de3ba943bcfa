"""Are services running? A service is known by a heartbeat that advances.

Source: a running service renews its row every 60 s (the catalog's own every 15 s); a clean stop leaves
the row as it is, so that only the age of the heartbeat, by the database's clock, shows whether it runs.
"""

from __future__ import annotations

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection

from reconcile.catalog.tables import services

QUIET_SECONDS = 150
GRACE_SECONDS = 0.5  # for a service between a document and its row


@frozen
class Heartbeat:
    """One service's heartbeat: ``heartbeat`` in Unix seconds, ``age`` in seconds."""

    host: str
    service: str
    heartbeat: int
    age: int

    @property
    def name(self) -> tuple[str, str]:
        """What identifies the service."""
        return (self.host, self.service)

    @property
    def is_young(self) -> bool:
        """Whether the service may be running."""
        return self.age < QUIET_SECONDS

    def describe(self) -> str:
        """Return a line for people."""
        return f"{self.service} on {self.host} (heartbeat {self.age:,} s ago)"


def database_now(connection: Connection) -> int:
    """Return the time by the database's clock, in Unix seconds."""
    if connection.dialect.name == "postgresql":
        query = "SELECT extract(epoch FROM clock_timestamp())::bigint"
    else:
        query = "SELECT CAST(strftime('%s', 'now') AS INTEGER)"
    return int(connection.exec_driver_sql(query).scalar_one())


def other_sessions(connection: Connection) -> list[str]:
    """Return the other programs connected to the database, for people; none where that is unknown."""
    if connection.dialect.name != "postgresql":
        return []
    query = (
        "SELECT coalesce(nullif(application_name, ''), 'an unnamed program'),"
        " coalesce(host(client_addr), 'this host'), count(*)"
        " FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
        " AND pid <> pg_backend_pid() AND application_name <> 'reconcile' GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
    )
    return [f"{name} from {host} ({count})" for name, host, count in connection.exec_driver_sql(query)]


def heartbeats(connection: Connection) -> list[Heartbeat]:
    """Return every service's last heartbeat. The table must exist."""
    now = database_now(connection)
    rows = connection.execute(
        sa.select(services.c.hostid, services.c.servicename, services.c.heartbeat).where(
            services.c.heartbeat.is_not(None)
        )
    )
    return [Heartbeat(row.hostid, row.servicename, row.heartbeat, now - row.heartbeat) for row in rows]
