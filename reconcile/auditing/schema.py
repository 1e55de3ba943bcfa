"""What the catalog's database holds: the vendor's tables and their columns, its version, rows by driver and bucket."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from reconcile.catalog import Catalog
from reconcile.catalog.connect import translated
from reconcile.catalog.rights import CONTENT, lacking
from reconcile.catalog.tables import CONTENT_TABLES, VENDOR, archive_metadata
from reconcile.config.drivers import DRIVERS

_VERSIONS = ("service_version", "db_version")  # columns of the vendor's own table of versions
_VERSIONS_TABLE = "anchore"


@frozen
class TableReport:
    """One of the vendor's tables. ``missing`` are columns that this tool needs, ``extra`` those it leaves alone."""

    there: bool
    missing: list[str]
    extra: list[str]


@frozen
class Group:
    """Rows of one driver and logical bucket. ``driver`` is None where no driver has the scheme of their URLs."""

    driver: str | None
    bucket: str
    documents: int
    bytes: int
    without_content_url: int
    without_digest: int


@frozen
class CatalogReport:
    """The catalog as it is. ``versions`` are the vendor's, None where its database tells none.

    ``lacks`` are privileges that the database role needs and has not, and ``grants`` the statements that give them.
    """

    ok: bool
    database: dict[str, Any]
    versions: list[dict[str, str | None]] | None
    tables: dict[str, TableReport]
    documents: int
    bytes: int
    without_content_url: int
    without_digest: int
    groups: list[Group]
    role: str | None
    lacks: list[str]
    grants: str | None


def report(catalog: Catalog, drivers: Iterable[str] = ()) -> CatalogReport:
    """Look at the catalog, and at what the role may do there with these drivers' tables. Raises `CatalogError`."""
    with translated():
        inspector = sa.inspect(catalog.engine)
        there = set(inspector.get_table_names())
        columns = {
            name: [column["name"] for column in inspector.get_columns(name)]
            for name in (*VENDOR.tables, _VERSIONS_TABLE)
            if name in there
        }
    tables = {name: _table(table, columns.get(name)) for name, table in VENDOR.tables.items()}
    groups = _groups(catalog) if not tables[archive_metadata.name].missing else []
    with catalog.read() as connection:
        lacks = lacking(connection, [(CONTENT_TABLES[name], CONTENT) for name in drivers if name in CONTENT_TABLES])
    return CatalogReport(
        ok=not lacks and not any(table.missing for table in tables.values()),
        database=catalog.identity,
        versions=_versions(catalog, columns.get(_VERSIONS_TABLE, [])),
        tables=tables,
        documents=sum(group.documents for group in groups),
        bytes=sum(group.bytes for group in groups),
        without_content_url=sum(group.without_content_url for group in groups),
        without_digest=sum(group.without_digest for group in groups),
        groups=groups,
        role=lacks.role or None,
        lacks=[f"{privileges} on {target}" for privileges, target in lacks.missing],
        grants=lacks.grants or None,
    )


def _table(table: sa.Table, columns: list[str] | None) -> TableReport:
    if columns is None:
        return TableReport(there=False, missing=[], extra=[])
    needed = {str(column.name) for column in table.columns}
    return TableReport(True, sorted(needed - set(columns)), sorted(set(columns) - needed))


def _versions(catalog: Catalog, columns: list[str]) -> list[dict[str, str | None]] | None:
    wanted: list[sa.ColumnElement[Any]] = [sa.column(name) for name in _VERSIONS if name in columns]
    if not wanted:
        return None
    query = sa.select(*wanted).select_from(sa.table(_VERSIONS_TABLE))
    with catalog.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _groups(catalog: Catalog) -> list[Group]:
    columns = archive_metadata.c
    url = columns.content_url
    driver = sa.case(
        *(
            (sa.func.substr(url, 1, len(known.scheme) + 3) == f"{known.scheme}://", known.name)
            for known in DRIVERS.values()
        ),
        else_=None,
    ).label("driver")
    nowhere = sa.case((sa.func.coalesce(url, "") == "", 1), else_=0)
    undigested = sa.case((columns.digest.is_(None), 1), else_=0)
    query: sa.Select[Any] = (
        sa.select(
            driver,
            columns.bucket,
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(columns.size), 0),
            sa.func.sum(nowhere),
            sa.func.sum(undigested),
        )
        .group_by(driver, columns.bucket)
        .order_by(driver, columns.bucket)
    )
    with catalog.read(bulk=True) as connection:
        return [Group(row[0], row[1], *(int(count) for count in row[2:])) for row in connection.execute(query)]
