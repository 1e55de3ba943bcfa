"""Space that documents left in the database, and the commands that reclaim it, with what each blocks.

An estimate, made without an extension: what a table takes, against what the rows that are left in it take as they
are stored (``pg_column_size`` looks at TOAST pointers, not at what they point to).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from attrs import frozen
from sqlalchemy.engine import Connection

from reconcile.catalog.connect import Catalog
from reconcile.catalog.tables import CONTENT_TABLES

_ROW_BYTES = 28  # of a row's header and line pointer
_OVERHEAD = 1.05  # of pages and TOAST chunks


@frozen(slots=False)
class Command:
    """One way to reclaim space: what to type, what it does, what it blocks."""

    command: str
    effect: str
    blocks: str


@frozen(slots=False)
class Space:
    """One table, or an SQLite file: what it takes in bytes, indexes apart, and about how much of that is free."""

    table: str
    table_bytes: int
    index_bytes: int
    live_bytes: int
    reclaimable_bytes: int
    commands: list[Command]


def space_left(catalog: Catalog, drivers: Iterable[str]) -> list[Space]:
    """Return the size and the reclaimable space of these drivers' content tables; nothing for other drivers."""
    tables = [CONTENT_TABLES[driver] for driver in sorted(set(drivers)) if driver in CONTENT_TABLES]
    if not tables:
        return []
    with catalog.read(bulk=True) as connection:
        if not catalog.is_postgresql:
            return [_file(connection, str(catalog.sqlite_path))]
        database = str(catalog.identity["database"])
        names = [
            (str(table.name), [column.name for column in table.columns]) for table in tables if catalog.has_table(table)
        ]
        return [_table(connection, name, columns, database) for name, columns in names]


def _table(connection: Connection, name: str, columns: list[str], database: str) -> Space:
    takes, indexes = connection.exec_driver_sql(
        "SELECT pg_table_size(to_regclass(%s)), pg_indexes_size(to_regclass(%s))", (name, name)
    ).one()
    stored = " + ".join(f'coalesce(pg_column_size("{column}"), 0)' for column in columns)
    live = connection.exec_driver_sql(
        f"SELECT coalesce(sum({stored} + {_ROW_BYTES}), 0)::bigint FROM {name}"  # noqa: S608 - names are the vendor's
    ).scalar_one()
    live = min(int(live * _OVERHEAD), takes)
    return Space(name, takes, indexes, live, takes - live, _commands(name, database))


def _commands(table: str, database: str) -> list[Command]:
    name = shlex.quote(database)
    return [
        Command(
            f"psql -d {name} -c 'VACUUM (ANALYZE) {table}'",
            "lets the database reuse the space; returns to the system only what is free at the table's end",
            "nothing: reads and writes continue",
        ),
        Command(
            f"psql -d {name} -c 'VACUUM FULL {table}'",
            "rewrites the table and returns all free space; needs temporary space for the rows that are left",
            "all access, reads too, until it ends, so stop the services",
        ),
        Command(
            f"pg_repack --dbname={name} --table={table}",
            "does the same while services run; needs the extension pg_repack, and space for the rows that are left",
            "all access, for a moment at its start and end",
        ),
    ]


def _file(connection: Connection, path: str) -> Space:
    page, pages, free = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
        for name in ("page_size", "page_count", "freelist_count")
    )
    command = Command(
        f"sqlite3 {shlex.quote(path)} VACUUM",
        "rewrites the file and returns the free space; needs temporary space for up to two copies of it",
        "all access until it ends, so stop the services",
    )
    return Space(path, page * pages, 0, page * (pages - free), page * free, [command])
