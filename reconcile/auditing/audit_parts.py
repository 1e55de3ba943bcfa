"""Parts of an audit or a probe that workers do: ranges of the catalog's primary key, whose bounds the database keeps.

So what goes to workers is a number, not the names of documents. A part is read in one transaction of its own, in the
order of the stores' listings as far as the key has it. Rows that services add between two parts are no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog, CatalogRow
from reconcile.catalog.rows import stream_rows
from reconcile.catalog.tables import archive_metadata
from reconcile.errors import ReconcileError
from reconcile.planning.planner import new_id
from reconcile.running.record.parts import Part
from reconcile.running.record.tables import audit_parts

PART_DOCUMENTS = 5000
_LONGEST = timedelta(days=30)  # that an audit may take

# The primary key's own order, which its index has: bucket, archiveId, userId, documentName.
_KEY = tuple(archive_metadata.primary_key.columns)
_BOUND = (audit_parts.c.bucket, audit_parts.c.archive_id, audit_parts.c.user_id, audit_parts.c.document_name)


@frozen
class AuditParts:
    """The parts of one audit."""

    audit: str
    parts: list[Part]


@contextmanager
def audit_in_parts(catalog: Catalog, *more: sa.Table) -> Iterator[AuditParts]:
    """Cut the catalog into parts for the block; their bounds are removed after it, and those of killed audits.

    ``more`` are other tables that keep something by the audit's id for so long.
    """
    audit, old = new_id(), f"{datetime.now(UTC) - _LONGEST:%Y%m%d}"  # ids begin with their time
    with catalog.write() as connection:
        for table in (audit_parts, *more):
            table.create(connection, checkfirst=True)
            connection.execute(sa.delete(table).where(table.c.audit < old))
    try:
        with catalog.write(bulk=True) as connection:
            parts = _cut(connection, audit)
        yield AuditParts(audit, parts)
    finally:
        with suppress(ReconcileError), catalog.write() as connection:  # the error of the block is the one to tell
            for table in (audit_parts, *more):
                connection.execute(sa.delete(table).where(table.c.audit == audit))


def rows_of_part(connection: Connection, audit: str, part: Part, condition: sa.ColumnElement[bool]) -> list[CatalogRow]:
    """Return the rows of a part that meet the condition, in the order of the stores' listings."""
    query = sa.select(*_BOUND).where(audit_parts.c.audit == audit)
    first = connection.execute(query.where(audit_parts.c.number == part.first)).one()
    after = connection.execute(query.where(audit_parts.c.number == part.last + 1)).first()
    inside = sa.tuple_(*_KEY) >= sa.tuple_(*first)
    if after is not None:
        inside &= sa.tuple_(*_KEY) < sa.tuple_(*after)
    return list(stream_rows(connection, inside & condition))


def _cut(connection: Connection, audit: str) -> list[Part]:
    number = (sa.func.row_number().over(order_by=_KEY) - 1).label("number")
    rows = sa.select(number, *_KEY).subquery()
    every = sa.select(
        sa.literal(audit), rows.c.number // PART_DOCUMENTS, *(rows.c[column.name] for column in _KEY)
    ).where(rows.c.number % PART_DOCUMENTS == 0)
    names = ["audit", "number", *(column.name for column in _BOUND)]
    connection.execute(audit_parts.insert().from_select(names, every))
    query = sa.select(audit_parts.c.number).where(audit_parts.c.audit == audit).order_by(audit_parts.c.number)
    total = connection.execute(sa.select(sa.func.count()).select_from(archive_metadata)).scalar_one()
    numbers = list(connection.execute(query).scalars())
    return [Part(n, n, min(PART_DOCUMENTS, total - n * PART_DOCUMENTS), 0) for n in numbers]
