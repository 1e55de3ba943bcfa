"""What a content table's own rules do to added and deleted rows, tried in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from reconcile.catalog.rules import Rule, fire_deferred, meddled, rules_of
from reconcile.payload import md5
from reconcile.stores.addresses import Key
from reconcile.stores.base import Store, Write
from reconcile.stores.tables import TableStore, table_key

_MADE_UP = b"a trial of this table's rules; it is rolled back"


def rules_of_store(connection: Connection, store: Store) -> list[Rule]:
    """Return what the database does by itself as content is added to the store or deleted; for tables only."""
    return rules_of(connection, store.table.name, "INSERT", "DELETE") if isinstance(store, TableStore) else []


def rehearse_content(connection: Connection, store: Store, keys: Sequence[Key]) -> None:
    """Delete and insert rows at the keys as runs and undos do. The caller rolls the transaction back.

    Raises `CatalogError` naming the rules if a row stays that was deleted, or is not what was inserted.
    """
    rules = rules_of_store(connection, store)
    if not rules or not isinstance(store, TableStore):
        return
    table, key_of_row = store.table, [column.name for column in store.table.primary_key]
    here = sa.tuple_(*(table.c[name] for name in store.key_columns)).in_([table_key(key) for key in set(keys)])
    every: sa.Select[Any] = (
        sa.select(sa.literal_column(f"{table.name}.*")).select_from(table).where(here).order_by(*table.primary_key)
    )
    known = sa.select(table).where(here).order_by(*table.primary_key)
    whole, rows = _rows(connection, every), _rows(connection, known)
    made_up = [_made_up(store, key) for key in set(keys)]
    inserted = rows or sorted(made_up, key=lambda row: [row[name] for name in key_of_row])
    _delete(connection, table, here, rules)
    connection.execute(sa.insert(table), inserted)
    fire_deferred(connection)
    if _rows(connection, known) != inserted or (whole and _rows(connection, every) != whole):
        raise meddled(rules, f"in a trial that was rolled back, rows of {table.name} were not what was inserted")
    _delete(connection, table, here, rules)


def _delete(connection: Connection, table: sa.Table, here: sa.ColumnElement[bool], rules: Sequence[Rule]) -> None:
    connection.execute(sa.delete(table).where(here))
    fire_deferred(connection)
    if connection.execute(sa.select(sa.func.count()).select_from(table).where(here)).scalar_one():
        raise meddled(rules, f"in a trial that was rolled back, rows of {table.name} stayed although they were deleted")


def _made_up(store: TableStore, key: Key) -> dict[str, Any]:
    columns = store.columns_of(Write(key, _MADE_UP, md5(_MADE_UP)))
    is_text = isinstance(store.table.c[store.stored].type, sa.String)
    columns[store.stored] = _MADE_UP.decode() if is_text else _MADE_UP
    return {column.name: columns[column.name] for column in store.table.columns}


def _rows(connection: Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]
