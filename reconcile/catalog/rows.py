"""Rows of the catalog as the planner and the run see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection

from reconcile.catalog.connect import Catalog
from reconcile.catalog.tables import archive_metadata

_READ_AHEAD = 5000
KEY_COLUMNS = ("userId", "bucket", "archiveId", "documentName")
BEFORE_COLUMNS = ("content_url", "is_compressed", "digest", "size", "last_updated")


@frozen
class CatalogRow:
    """One row: its key of four columns, and the columns that say where and what its content is.

    ``digest`` is the hex MD5 and ``size`` the length in bytes of the stored bytes; both, the URL and
    ``is_compressed`` may be None. ``last_updated`` is in Unix seconds.
    """

    user_id: str
    bucket: str
    archive_id: str
    document_name: str
    content_url: str | None
    is_compressed: bool | None
    digest: str | None
    size: int | None
    last_updated: int | None

    @property
    def document(self) -> tuple[str, str, str]:
        """The name of the document: user, logical bucket, archiveId."""
        return (self.user_id, self.bucket, self.archive_id)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The row's primary key, in the order of `KEY_COLUMNS`."""
        return (self.user_id, self.bucket, self.archive_id, self.document_name)


_SINGLE: dict[str, Callable[[str], Any]] = {"listed_in": str, "created_before": int, "larger_than": int}


@frozen
class Scope:
    """Which rows a plan covers. An empty filter matches every row.

    ``documents`` are names ``user/bucket/archiveId``, of the list in the file ``listed_in``; ``created_before`` is in
    Unix seconds, ``larger_than`` in bytes, by the columns of the catalog.
    """

    buckets: tuple[str, ...] = ()
    exclude_buckets: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    listed_in: str | None = None
    created_before: int | None = None
    larger_than: int | None = None

    def as_filters(self) -> dict[str, list[str]]:
        """Return the scope as a plan records it: lists of text, of one item where the filter is a number."""
        single = {name: getattr(self, name) for name in _SINGLE}
        filters = {name: list(getattr(self, name)) for name in ("buckets", "exclude_buckets", "users")}
        filters |= {"documents": list(self.documents)} if self.documents else {}
        return filters | {name: [str(value)] for name, value in single.items() if value is not None}

    @classmethod
    def of(cls, filters: dict[str, list[str]]) -> Scope:
        """Return the scope that a plan recorded."""
        known: dict[str, Any] = {name: tuple(values) for name, values in filters.items()}
        for name in _SINGLE.keys() & known.keys():
            known[name] = _SINGLE[name](known[name][0])
        return cls(**known)

    def condition(self) -> sa.ColumnElement[bool]:
        """Return the filter as SQL over ``archive_metadata``."""
        columns = archive_metadata.c
        conditions: list[sa.ColumnElement[bool]] = [sa.true()]
        if self.buckets:
            conditions.append(columns.bucket.in_(self.buckets))
        if self.exclude_buckets:
            conditions.append(columns.bucket.not_in(self.exclude_buckets))
        if self.users:
            conditions.append(columns.userId.in_(self.users))
        if self.documents:
            names = [tuple(name.split("/", 2)) for name in self.documents]
            conditions.append(sa.tuple_(columns.userId, columns.bucket, columns.archiveId).in_(names))
        if self.created_before is not None:
            conditions.append(columns.created_at < self.created_before)
        if self.larger_than is not None:
            conditions.append(columns.size > self.larger_than)
        return sa.and_(*conditions)


def row_columns() -> list[sa.ColumnElement[Any]]:
    """Return the columns of a `CatalogRow`, in its order."""
    return [archive_metadata.c[name] for name in (*KEY_COLUMNS, *BEFORE_COLUMNS)]


def stream_rows(
    connection: Connection, condition: sa.ColumnElement[bool], *, ordered: bool = True
) -> Iterator[CatalogRow]:
    """Yield matching rows without holding them in memory, in the byte order of user, bucket, archiveId."""
    query = sa.select(*row_columns()).where(condition)
    if ordered:
        query = query.order_by(*(in_byte_order(connection, archive_metadata.c[name]) for name in KEY_COLUMNS))
    result = connection.execute(query, execution_options=streamed(_READ_AHEAD))
    return (CatalogRow(*row) for row in result)


def rows_of(catalog: Catalog, keys: Sequence[tuple[str, str, str, str]]) -> dict[tuple[str, str, str, str], CatalogRow]:
    """Return the rows of these primary keys that are there now."""
    wanted = sa.tuple_(*(archive_metadata.c[name] for name in KEY_COLUMNS)).in_(keys)
    with catalog.read() as connection:
        rows = [CatalogRow(*row) for row in connection.execute(sa.select(*row_columns()).where(wanted))]
    return {row.key: row for row in rows}


def streamed(rows: int) -> dict[str, Any]:
    """Return the execution options that read a result so many rows at a time, by a cursor of the server."""
    return {"stream_results": True, "yield_per": rows}


def in_byte_order(connection: Connection, column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return the column collated by code point, the same order on every server and on S3."""
    return sa.collate(column, "C" if connection.dialect.name == "postgresql" else "BINARY")


def disagreeing_urls(connection: Connection) -> set[str]:
    """Return URLs that several rows share although they disagree on the content."""
    columns = archive_metadata.c
    compressed = sa.case((columns.is_compressed.is_(True), 1), else_=0)
    query = (
        sa.select(columns.content_url)
        .where(columns.content_url.is_not(None))
        .group_by(columns.content_url)
        .having(
            sa.and_(
                sa.func.count() > 1,
                sa.or_(
                    sa.func.min(columns.digest) != sa.func.max(columns.digest),
                    sa.func.min(columns.size) != sa.func.max(columns.size),
                    sa.func.min(compressed) != sa.func.max(compressed),
                ),
            )
        )
    )
    return {row[0] for row in connection.execute(query)}


def count_elsewhere(connection: Connection, archive_bucket: str, scheme: str, archive_scheme: str) -> int:
    """Count the rows whose URL has another scheme than the driver configured for their logical bucket.

    ``archive_scheme`` is the one of the logical bucket ``archive_bucket``, ``scheme`` that of all others.
    """
    columns = archive_metadata.c
    wanted = sa.case((columns.bucket == archive_bucket, f"{archive_scheme}://"), else_=f"{scheme}://")
    readable = sa.func.substr(columns.content_url, 1, sa.func.length(wanted)) == wanted
    query = sa.select(sa.func.count()).where(sa.or_(columns.content_url.is_(None), ~readable))
    return int(connection.execute(query).scalar_one())


def urls_of_runs(catalog: Catalog, urls: Sequence[str]) -> set[str]:
    """Return those URLs that runs of this tool, by their work table, moved documents from or to."""
    work = sa.table("reconcile_moves", sa.column("before_url"), sa.column("after_url"))
    with catalog.read(bulk=True) as connection:
        if not sa.inspect(connection).has_table(work.name):
            return set()
        found = [sa.select(column).where(column.in_(urls)) for column in (work.c.before_url, work.c.after_url)]
        return set(connection.execute(sa.union(*found)).scalars())


def urls_in_use(catalog: Catalog, urls: Sequence[str]) -> set[str]:
    """Return those of the URLs that a row refers to."""
    columns = archive_metadata.c
    query = sa.select(columns.content_url).where(columns.content_url.in_(urls))
    with catalog.read(bulk=True) as connection:  # there is no index on URLs
        return set(connection.execute(query).scalars())


def names_in_use(connection: Connection, column: str) -> set[str]:
    """Return the distinct values of ``bucket`` or ``userId``, for messages about a filter that matches nothing."""
    return set(connection.execute(sa.select(archive_metadata.c[column]).distinct()).scalars())
