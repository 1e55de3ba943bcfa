"""The shortest path inside one PostgreSQL database: content goes from table to table without going through this client.

One statement takes a batch: it reads and decodes each source, compares its MD5 with the one expected, inserts it
where the key is free, and has the MD5 of what was inserted returned. Documents that it does not take, for whatever
reason, go the ordinary way, which then finds the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy.exc import DataError, IntegrityError, NotSupportedError

from reconcile.catalog import Catalog
from reconcile.catalog.rules import rules_of
from reconcile.errors import CatalogError, DocumentError
from reconcile.stores.addresses import Key
from reconcile.stores.base import Stat, Write
from reconcile.stores.shortcuts import Transfer, Transferred
from reconcile.stores.tables import SQL_TYPES, TableStore, table_key

_NOT_THIS_WAY = (DataError, IntegrityError, NotSupportedError)
_WORK_MEMORY = "SET LOCAL work_mem = '128MB'"  # what a batch holds: it is not to go by way of the disk


class _Unexpected(Exception):  # noqa: N818 - ends a transaction
    """What was inserted is not what was read."""


def copy_inside(
    catalog: Catalog, source: TableStore, dest: TableStore, transfers: Sequence[Transfer]
) -> dict[Key, Transferred | DocumentError]:
    """Copy documents whose bytes do not change; return those that were, each by its key at the destination."""
    chosen = [transfer for transfer in transfers if not _restores_null(transfer, dest)]
    if not chosen:
        return {}
    rows = [_row(number, transfer, dest) for number, transfer in enumerate(chosen)]
    restored = list(source.restored)
    try:
        with catalog.write(bulk=True) as connection:
            connection.exec_driver_sql(_WORK_MEMORY)
            values = (msgspec.json.encode(rows).decode(),)
            result = connection.exec_driver_sql(_statement(source, dest, list(rows[0]), restored), values)
            found: dict[Key, Transferred | DocumentError] = {
                chosen[row[0]].dest: _transferred(row, chosen[row[0]], restored) for row in result
            }
            if rules_of(connection, dest.table.name, "INSERT"):  # what they do is not in the statement's answer
                raise _Unexpected
    except (_Unexpected, CatalogError) as error:
        if isinstance(error, CatalogError) and not isinstance(
            error.__cause__, DataError | IntegrityError | NotSupportedError
        ):
            raise
        return {}  # a row that cannot be decoded ends the statement for all; a table with rules wants another one
    return found


def _restores_null(transfer: Transfer, dest: TableStore) -> bool:
    """Tell whether a column is to be NULL again that would be worked out here."""
    return any(transfer.attributes.get(name, "") is None for name in dest.sql.derived)


def _row(number: int, transfer: Transfer, dest: TableStore) -> dict[str, Any]:
    columns = dest.columns_of(Write(transfer.dest, b"", transfer.md5, transfer.attributes))
    user_id, bucket, archive_id = table_key(transfer.source)
    columns |= {name: transfer.attributes.get(name) for name in dest.sql.derived}
    head = {"n": number, "user": user_id, "bucket": bucket, "archive": archive_id, "expected": transfer.md5}
    return head | {f"to_{name}": value for name, value in columns.items()}


def _transferred(row: Sequence[Any], transfer: Transfer, restored: Sequence[str]) -> Transferred:
    _number, size, version, reproducible, confirmed, stored, mark, *attributes = row
    if confirmed != transfer.md5:
        raise _Unexpected
    return Transferred(
        stat=Stat(size, confirmed, stored, mark=mark),
        md5=transfer.md5,
        version=version,
        attributes=dict(zip(restored, attributes, strict=True)),
        reproducible=reproducible,
    )


def _statement(source: TableStore, dest: TableStore, names: Sequence[str], restored: Sequence[str]) -> str:
    """Return the statement; all names in it are ours or the vendor's.

    Documents are gone through once: what is joined and counted is ``told``, which has none of them.
    """
    columns = [name.removeprefix("to_") for name in names if name.startswith("to_")]
    types = {"n": "integer"} | {f"to_{name}": SQL_TYPES[type(dest.table.c[name].type)] for name in columns}
    wanted = ", ".join(f'"{name}" {types.get(name, "text")}' for name in names)
    given = ", ".join(f'w."{name}"' for name in names if name.removeprefix("to_") not in dest.sql.derived)
    derived = "".join(
        f', coalesce(w."to_{name}", {expression}) AS "to_{name}"' for name, expression in dest.sql.derived.items()
    )
    is_derived = "".join(f' AND r."to_{name}" IS NOT NULL' for name in dest.sql.derived)
    source_key = " AND ".join(
        f's."{column}" = w."{name}"' for column, name in zip(source.key_columns, names[1:4], strict=True)
    )
    dest_key = " AND ".join(f'r."to_{name}" = i."{name}"' for name in dest.key_columns)
    into = ", ".join(f'"{name}"' for name in [*columns, dest.stored])
    out_of = ", ".join(f'r."to_{name}"' for name in columns)
    attributes = ", ".join(f's."{name}" AS "of_{name}"' for name in restored)
    returned = ", ".join(f'r."of_{name}"' for name in restored)
    returned_key = ", ".join(f't."{name}"' for name in dest.key_columns)
    key = ", ".join(f'"to_{name}"' for name in dest.key_columns)
    told = ", ".join([key, *(f'"of_{name}"' for name in restored)])
    return f"""
        WITH wanted AS (SELECT * FROM json_to_recordset(%s::json) AS w({wanted})),
        read AS MATERIALIZED (
            SELECT {given}{derived}, {attributes}, d.document, md5(d.document) AS md5,
                   {source.sql.version.format("s")} AS version, {source.sql.reproducible.format("s")} AS reproducible
            FROM wanted w JOIN {source.table.name} s ON {source_key} AND {source.sql.is_document.format("s")}
            CROSS JOIN LATERAL (SELECT {source.sql.document.format("s")} AS document OFFSET 0) d
        ),
        told AS MATERIALIZED (SELECT n, octet_length(document) AS size, version, reproducible, {told} FROM read),
        inserted AS (
            INSERT INTO {dest.table.name} AS t ({into})
            SELECT {out_of}, {dest.sql.stored} FROM read r
            WHERE r.md5 = r.expected{is_derived}
              AND r.n = ANY (ARRAY(SELECT n FROM told GROUP BY n HAVING count(*) = 1))
            ON CONFLICT DO NOTHING
            RETURNING {returned_key}, md5({dest.sql.document.format("t")}) AS confirmed,
                      {dest.sql.version.format("t")} AS stored, t.xmin::text AS mark
        )
        SELECT r.n, r.size, r.version, r.reproducible, i.confirmed, i.stored, i.mark, {returned}
        FROM inserted i JOIN told r ON {dest_key}
    """  # noqa: S608
