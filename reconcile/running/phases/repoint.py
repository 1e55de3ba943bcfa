"""Repoint: the one statement that changes the catalog, in the order of the table's pages.

PostgreSQL logs a whole page the first time that it changes after a checkpoint. Rows in the order of a join lead from
page to page and back, so that the same pages are logged again after each checkpoint. In the order in which the rows
lie, each page of the table is written once: a quarter of the write-ahead log for 10^6 rows, and less downtime.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from reconcile.catalog import Catalog
from reconcile.catalog.tables import archive_metadata
from reconcile.logs import get_logger
from reconcile.running.record.tables import as_before, moves, same_row
from reconcile.secret import scrub

# An event trigger, a privilege, a limit of temporary files, or a full disk may stand in a temporary table's way.
_REFUSALS = ("P0001", "42501", "53400", "53100")
_PARAMETERIZED_TID = (12,)  # the first version that joins a table by the places of its rows
_MEMORY = "64MB"  # in the server, for the join and for the sort

# By its place a row is found only in an ordinary table that no other one inherits from, and a view has none.
_HAS_PLACES = """
    SELECT relkind = 'r' AND NOT relhassubclass AND relam = (SELECT oid FROM pg_am WHERE amname = 'heap')
           AND has_database_privilege(current_database(), 'TEMPORARY')
    FROM pg_class WHERE oid = 'archive_metadata'::regclass
"""

_PLACES = """
    UPDATE archive_metadata SET content_url = after_url, is_compressed = after_is_compressed, digest = after_digest,
           size = after_size
    FROM pg_temp.reconcile_switch AS planned WHERE archive_metadata.ctid = planned.place
"""

log = get_logger()

_LOCATION = (moves.c.after_url, moves.c.after_is_compressed, moves.c.after_digest, moves.c.after_size)


def repoint(connection: Connection, catalog: Catalog, mine: sa.ColumnElement[bool], *, has_rules: bool) -> int:
    """Write the location columns of the rows that are as planned; return how many.

    ``mine`` is which moves. Nobody else may write the table before the transaction ends: places of rows would change.
    ``has_rules``: the database's own rules act on the statement, which then is the plain one.
    """
    as_planned = sa.and_(mine, same_row(archive_metadata), as_before(archive_metadata))
    if catalog.is_postgresql and not has_rules and _has_places(connection):
        try:
            with connection.begin_nested():
                return _in_order(connection, as_planned)
        except DBAPIError as error:
            if error.connection_invalidated or getattr(error.orig, "pgcode", None) not in _REFUSALS:
                raise
            log.info("the rows are switched in any order", reason=scrub(str(error.orig).strip().partition("\n")[0]))
    url, is_compressed, digest, size = _LOCATION
    values = {"content_url": url, "is_compressed": is_compressed, "digest": digest, "size": size}
    return connection.execute(sa.update(archive_metadata).where(as_planned).values(values)).rowcount


def _has_places(connection: Connection) -> bool:
    version = connection.dialect.server_version_info
    return (
        version is not None
        and version >= _PARAMETERIZED_TID
        and bool(connection.exec_driver_sql(_HAS_PLACES).scalar_one())
    )


def _in_order(connection: Connection, as_planned: sa.ColumnElement[bool]) -> int:
    place: sa.ColumnElement[object] = sa.literal_column("archive_metadata.ctid")
    rows = sa.select(place.label("place"), *_LOCATION).select_from(moves).join(archive_metadata, as_planned)
    query = rows.order_by(place).compile(dialect=connection.dialect)
    connection.exec_driver_sql(f"SET LOCAL work_mem = '{_MEMORY}'")
    connection.exec_driver_sql(f"CREATE TEMPORARY TABLE reconcile_switch ON COMMIT DROP AS {query}", query.params)
    # Row by row from here on: a hash join would read the whole table, and lose the order.
    for name, value in (("tidscan", "on"), ("nestloop", "on"), ("hashjoin", "off"), ("mergejoin", "off")):
        connection.exec_driver_sql(f"SET LOCAL enable_{name} = {value}")
    changed = connection.exec_driver_sql(_PLACES).rowcount
    connection.exec_driver_sql("DROP TABLE pg_temp.reconcile_switch")
    for name in ("work_mem", "enable_tidscan", "enable_hashjoin", "enable_mergejoin"):
        connection.exec_driver_sql(f"SET LOCAL {name} TO DEFAULT")
    connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
    return changed
