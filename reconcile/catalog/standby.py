"""Standbys: a switch that one of them lacks would be lost if it were promoted, and with it the way to the copies."""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa

from reconcile.catalog.connect import Catalog
from reconcile.errors import CatalogError
from reconcile.logs import get_logger, printable

STANDBY_SECONDS = 60
_POLL_SECONDS = 0.5

log = get_logger()


def wait_for_standbys(catalog: Catalog, say: Callable[[str], None], check: Callable[[], None]) -> None:
    """Wait until every streaming standby has flushed all that is committed now.

    Raises `CatalogError` that names those which have not after a minute, and what ``check`` raises. A role without the
    privilege to see their positions does not wait; a warning says so.
    """
    if not catalog.is_postgresql:
        return
    with catalog.read() as connection:
        position = connection.exec_driver_sql("SELECT pg_current_wal_insert_lsn()::text").scalar_one()
    deadline, said = time.monotonic() + STANDBY_SECONDS, False
    while behind := _behind(catalog, str(position)):
        names = printable(", ".join(sorted({name for name, known in behind if known})))
        if not names:
            hidden = len(behind)
            log.warning("standby positions not visible to this role", standbys=hidden)
            say(
                f"this role lacks the privilege to see the position of {hidden:,} attached standbys, so this "
                "run does not wait for them: promote none before it has caught up. GRANT pg_monitor TO the "
                "role lets runs wait"
            )
            return
        if time.monotonic() >= deadline:
            raise CatalogError(
                f"the catalog is switched, but the standby {names} has not received the switch after "
                f"{STANDBY_SECONDS} s. If it were promoted now, its rows would point at the sources, so no "
                "source was deleted",
                hint="services may run with the new config; once the standby has caught up or is detached, "
                "run the same command again: it deletes the sources",
            )
        if not said:
            say(f"waiting for the standby {names} to receive the switch, before sources are deleted")
            said = True
        check()
        time.sleep(_POLL_SECONDS)


def _behind(catalog: Catalog, position: str) -> list[tuple[str, bool]]:
    """Return the standbys that have not flushed the position, by name, each with whether its position can be seen."""
    query = sa.text(
        "SELECT coalesce(nullif(application_name, ''), 'unnamed') || coalesce(' at ' || host(client_addr), ''),"
        " state IS NOT NULL FROM pg_stat_replication WHERE state IS NULL OR (state = 'streaming'"
        " AND (flush_lsn IS NULL OR flush_lsn < CAST(:position AS pg_lsn)))"
    )
    with catalog.read() as connection:
        return [(str(row[0]), bool(row[1])) for row in connection.execute(query, {"position": position})]
