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

    Raises `CatalogError` that names those which have not after a minute, and what ``check`` raises. A role that may not
    see their positions is told so, and does not wait.
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
            log.warning("standbys whose position this role may not see", standbys=hidden)
            say(f"{hidden} standbys are attached whose position this role may not see: let none be promoted before it"
                " has caught up (GRANT pg_monitor TO the role, and this waits for them)")  # fmt: skip
            return
        if time.monotonic() >= deadline:
            raise CatalogError(
                f"the catalog is switched, but the standby {names} has not received it after {STANDBY_SECONDS} s; if it"
                " were promoted now, its rows would lead to sources that are deleted. No source was deleted",
                hint="services may run with the new config; once the standby has caught up, or is detached, the same"
                " command deletes the sources",
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
