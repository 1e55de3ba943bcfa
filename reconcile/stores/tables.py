"""What ``db`` and ``db2`` share: content in a table of the catalog's database, a batch a statement.

Large content is read in slices, and on PostgreSQL written by COPY from its spool file, since psycopg2 spends
several times a value's size on a parameter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import sqlalchemy as sa
from attrs import field, frozen
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from reconcile.catalog import Catalog
from reconcile.catalog.rows import streamed
from reconcile.catalog.rules import fire_deferred, meddled, rules_of
from reconcile.errors import BackendError, CatalogError, DocumentError
from reconcile.payload import SPOOL_BYTES, Data, chunks_of, gathered, md5
from reconcile.stores.addresses import Address, Key
from reconcile.stores.base import Capabilities, Content, Known, Stat, Store, Write
from reconcile.stores.binary_copy import copy_in, copy_out
from reconcile.stores.shortcuts import Shortcut

_SLICE_BYTES = 8 << 20
_READ_AS = {sa.String: str, sa.LargeBinary: bytes, sa.Integer: int, sa.Boolean: bool}
_INSERT_ATTEMPTS = 5
SQL_TYPES = {sa.String: "text", sa.LargeBinary: "bytea", sa.Integer: "integer", sa.Boolean: "boolean"}


@frozen
class InSql:
    """How a table's row is a document, as PostgreSQL expressions over its alias ``{0}``.

    ``reproducible``, ``stored`` and ``derived`` may name ``document``, the bytes. ``stored`` makes the column's value
    of them, ``derived`` those of other columns where they are not given; where one is NULL, only reading shows it.
    """

    document: str
    version: str
    reproducible: str
    is_document: str
    stored: str
    derived: Mapping[str, str] = field(factory=dict)


class TableStore(Store):
    """Content as rows of one table. A transaction a batch; PostgreSQL confirms by ``md5()`` in the statement."""

    table: ClassVar[sa.Table]
    key_columns: ClassVar[tuple[str, str, str]]  # in the order user, bucket, archiveId
    stored: ClassVar[str]  # the column that holds the bytes or text
    restored: ClassVar[tuple[str, ...]]  # the other columns that an undo gives back
    sql: ClassVar[InSql]

    def __init__(self, address: Address, catalog: Catalog) -> None:
        super().__init__(address)
        self.catalog = catalog

    @abstractmethod
    def _content(self, row: Mapping[str, Any], raw: Data | None) -> Content:
        """Return the content of a row whose column holds these bytes. Raises `DocumentError` ``undecodable``."""

    @abstractmethod
    def columns_of(self, write: Write) -> dict[str, Any]:
        """Return the row to insert, but for the column that holds the bytes."""

    @abstractmethod
    def _raw(self, write: Write) -> Data:
        """Return what the column is to hold, text as UTF-8. Raises `DocumentError` where it cannot."""

    @abstractmethod
    def _told_by_sql(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return the expression where what the column holds is the document itself; NULL where only reading tells."""

    def _only_rows(self) -> sa.ColumnElement[bool]:
        """Return the condition for rows that are documents at all."""
        return sa.true()

    def shortcut_from(self, source: Store) -> Shortcut | None:
        from reconcile.stores.sql_copy import copy_inside  # noqa: PLC0415 - which is made of two of these

        if not isinstance(source, TableStore) or source.table is self.table or source.catalog is not self.catalog:
            return None
        if not (self.catalog.is_postgresql and self.catalog.is_utf8):
            return None
        return Shortcut(partial(copy_inside, self.catalog, source, self))

    def prepare(self, *, create: bool) -> None:  # noqa: ARG002 - the services make their own tables
        if not self.catalog.has_table(self.table):
            raise BackendError(
                f"the database has no table {self.table.name}, in which driver {self.address.scheme} keeps content",
                hint="the services create it when they first start on this database",
            )

    def look(self, keys: Sequence[Key], *, digest: bool = False) -> dict[Key, Stat]:
        found: dict[Key, Stat] = {}
        is_null, size = self.table.c[self.stored].is_(None), self._told_by_sql(self._size())
        version = sa.func.md5(self._as_bytes()) if digest else sa.null()
        columns = (is_null, size, self._told_by_sql(version), version, self._mark())
        with self.catalog.read(bulk=digest) as connection:
            for row in connection.execute(sa.select(*self._key(), *columns).where(self._is_one_of(keys))):
                key = tuple(row[:3])
                several = key in found
                found[key] = Stat(unverified=True) if several else Stat(row[4], row[5], row[6], row[3], row[7])
        return found | (self._read_digests(found) if digest else {})

    def _read_digests(self, found: dict[Key, Stat]) -> dict[Key, Stat]:
        """Complete what SQL could not tell, by reading."""
        unknown = [key for key, stat in found.items() if stat.md5 is None]
        read = self.read(unknown) if unknown else {}
        return {
            key: Stat(len(content.data), content.md5, content.version, mark=found[key].mark)
            for key, content in read.items()
            if isinstance(content, Content)
        }

    def read(self, keys: Sequence[Key]) -> dict[Key, Content | DocumentError]:
        if not keys:
            return {}
        answer: dict[Key, Content | DocumentError] = {
            key: DocumentError("source_missing", f"no row in {self.table.name}") for key in keys
        }
        seen = set()
        with self.catalog.read() as connection:
            for row in self._rows(connection, keys):
                key = tuple(row[name] for name in self.key_columns)
                if key in seen:
                    answer[key] = DocumentError("ambiguous_source", f"several rows in {self.table.name}")
                    continue
                seen.add(key)
                try:
                    answer[key] = self._content(row, self._raw_of(connection, row))
                except DocumentError as error:
                    answer[key] = error
        return answer

    def _rows(self, connection: Connection, keys: Sequence[Key]) -> Iterable[Mapping[str, Any]]:
        """Give rows with what their column holds, as bytes; none of it where it is too much, only its ``size``."""
        stored = self.table.c[self.stored]
        others = [column for column in self.table.c if column is not stored]
        if not self.catalog.is_postgresql:
            whole = sa.case((self._size() <= SPOOL_BYTES, self._bytes_of_column())).label(self.stored)
            query = sa.select(*others, whole, self._size().label("size")).where(self._is_one_of(keys))
            return [dict(row) for row in connection.execute(query).mappings()]
        size = f'octet_length("{stored.name}")'
        columns = [_cast(column) for column in others]
        columns += [f'CASE WHEN {size} <= {SPOOL_BYTES} THEN "{stored.name}" END', f"{size}::bigint"]
        wanted = ", ".join(f'"{name}"' for name in self.key_columns)
        text = (
            f"SELECT {', '.join(columns)} FROM {self.table.name}"  # noqa: S608 - names are the vendor's
            f" WHERE ({wanted}) IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))"
            f" AND {self.sql.is_document.format(self.table.name)}"
        )
        names = [column.name for column in others] + [stored.name, "size"]
        types = [_READ_AS[type(column.type)] for column in others] + [bytes, int]
        found = copy_out(connection, text, [list(part) for part in zip(*keys, strict=True)], types)
        return (dict(zip(names, row, strict=True)) for row in found)

    def _raw_of(self, connection: Connection, row: Mapping[str, Any]) -> Data | None:
        value: bytes | None = row[self.stored]
        if value is None and row["size"] is not None:
            return gathered(self._slices(connection, row))
        return value

    def _slices(self, connection: Connection, row: Mapping[str, Any]) -> Iterator[bytes]:
        same = [self.table.c[column.name] == row[column.name] for column in self.table.primary_key]
        if self.catalog.is_postgresql:  # one statement, so that the server puts the value together once
            whole = sa.select(self._bytes_of_column().op("||")(sa.literal_column("''")).label("value"))
            value = whole.where(*same).offset(0).subquery("whole")
            series = sa.func.generate_series(1, sa.func.octet_length(value.c.value), _SLICE_BYTES)
            starts = series.table_valued("start").render_derived().lateral()
            piece = sa.func.substr(value.c.value, starts.c.start, _SLICE_BYTES, type_=sa.LargeBinary)
            query = sa.select(piece).select_from(value.join(starts, sa.true()))
            for found in connection.execute(query, execution_options=streamed(1)):
                yield bytes(found[0])
            return
        for start in range(1, row["size"] + 1, _SLICE_BYTES):
            piece = sa.func.substr(self._bytes_of_column(), start, _SLICE_BYTES, type_=sa.LargeBinary)
            yield bytes(connection.execute(sa.select(piece).where(*same)).scalar_one())

    def write(self, writes: Sequence[Write]) -> dict[Key, Stat | DocumentError]:
        answer: dict[Key, Stat | DocumentError] = {}
        rows: list[tuple[dict[str, Any], Data]] = []
        digests = {}
        for write in writes:
            try:
                raw = self._raw(write)
            except DocumentError as error:
                answer[write.key] = error
                continue
            digests[write.key] = write.md5 if raw is write.data else md5(raw)
            rows.append((self.columns_of(write), raw))
        if not rows:
            return answer
        with self.catalog.write(bulk=True) as connection:
            before = self._insert(connection, rows, list(digests))
            stored = self._as_inserted(connection, [row for row, _raw in rows], digests, before)
        for write in writes:
            if write.key in digests:
                digest, mark = stored.get(write.key, (None, None))
                answer[write.key] = (
                    Stat(len(write.data), write.md5, digest, mark=mark, found=write.key in before)
                    if digest == digests[write.key]
                    else DocumentError("destination_occupied", "another row exists there already")
                )
        return answer

    def _as_inserted(
        self, connection: Connection, rows: Sequence[dict[str, Any]], digests: Mapping[Key, str], before: set[Key]
    ) -> dict[Key, tuple[str | None, str | None]]:
        """Return MD5 and mark by key. Raises `CatalogError` if the database changed in a column what was inserted."""
        fire_deferred(connection)
        names = [name for name in rows[0] if name not in self.key_columns]
        columns = [self.table.c[name] for name in names]
        query = sa.select(*self._key(), sa.func.md5(self._as_bytes()), self._mark(), *columns)
        found: dict[Key, Any] = {
            tuple(row[:3]): row for row in connection.execute(query.where(self._is_one_of(list(digests))))
        }
        for (key, digest), columns_of_row in zip(digests.items(), rows, strict=True):
            wanted = (digest, *(columns_of_row[name] for name in names))
            row = found.get(key)
            if key not in before and (row is None or (row[3], *row[5:]) != wanted):
                rules = rules_of(connection, self.table.name, "INSERT")
                raise meddled(rules, f"a row of {self.table.name} is not what was inserted; its batch was rolled back")
        return {key: (row[3], row[4]) for key, row in found.items()}

    def _insert(
        self, connection: Connection, rows: Sequence[tuple[dict[str, Any], Data]], keys: Sequence[Key]
    ) -> set[Key]:
        """Insert the rows whose keys are free; return the keys that are not."""
        if not self.catalog.is_postgresql:
            before = self._taken(connection, keys)
            values = [columns | {self.stored: self._value(b"".join(chunks_of(raw)))} for columns, raw in rows]
            connection.execute(sqlite.insert(self.table).on_conflict_do_nothing(), values)
            return before
        taken: set[Key] = set()
        for _attempt in range(_INSERT_ATTEMPTS):  # a key that is taken ends a COPY as a whole
            free = [row for key, row in zip(keys, rows, strict=True) if key not in taken]
            names = [*rows[0][0], self.stored]
            with suppress(IntegrityError), connection.begin_nested():
                copy_in(connection, self.table.name, names, ([*columns.values(), raw] for columns, raw in free))
                return taken
            taken = self._taken(connection, keys)
        raise CatalogError(
            f"another process keeps adding rows to {self.table.name} at keys that this run is about to write"
        )

    def _taken(self, connection: Connection, keys: Sequence[Key]) -> set[Key]:
        query = sa.select(*self._key()).where(self._is_one_of(keys))
        return {tuple(row) for row in connection.execute(query)}

    def _value(self, raw: bytes) -> str | bytes:
        return raw.decode() if isinstance(self.table.c[self.stored].type, sa.String) else raw

    def delete(self, known: Sequence[Known]) -> dict[Key, DocumentError | None]:
        if not known:
            return {}
        keys = [content.key for content in known]
        with self.catalog.write(bulk=True) as connection:
            self.fence.guard(connection)
            connection.execute(sa.delete(self.table).where(self._still_is(known), self._only_rows()))
            left = set(self._digests(connection, keys))
        changed = "what is there now is not the content that was copied"
        return {key: DocumentError("content_changed", changed) if key in left else None for key in keys}

    def _still_is(self, known: Sequence[Known]) -> sa.ColumnElement[bool]:
        """Return the condition that a row is one of these, and holds what was known of it."""
        digest = sa.func.md5(self._as_bytes())
        if not self.catalog.is_postgresql:
            return sa.tuple_(*self._key(), digest).in_([(*table_key(c.key), c.version) for c in known])
        names = (*self.key_columns, "known_version")
        rows = zip(*((*table_key(content.key), content.version) for content in known), strict=True)
        wanted = sa.func.unnest(*map(_array, rows)).table_valued(*names, name="known").render_derived()
        same_key = [column == wanted.c[column.name] for column in self._key()]
        # IS TRUE keeps the digest from being joined by: it would be worked out for every row of the table.
        return sa.and_(*same_key, (digest == wanted.c.known_version).is_(sa.true()))

    def capabilities(self) -> Capabilities:
        return Capabilities(
            conditional_put=True, confirmation="md5() in the transaction that wrote it", bulk_delete=True
        )

    def rights(self) -> Mapping[str, str]:
        selecting, inserting, deleting = (
            f"{right} on {self.table.name}" for right in ("SELECT", "INSERT and SELECT", "DELETE and SELECT")
        )
        return {
            "prepare": selecting,
            "look": selecting,
            "read": selecting,
            "listing": selecting,
            "write": inserting,
            "delete": deleting,
        }

    def listing(self) -> Iterator[tuple[Key, Stat]]:
        with self.catalog.snapshot() as connection:
            query = sa.select(*self._key()).where(self._only_rows())
            for row in connection.execute(query, execution_options=streamed(5000)):
                yield tuple(row), Stat()

    def _digests(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, tuple[str | None, str | None]]:
        """Return MD5 and mark of what the column holds."""
        query = sa.select(*self._key(), sa.func.md5(self._as_bytes()), self._mark()).where(self._is_one_of(keys))
        return {tuple(row[:3]): (row[3], row[4]) for row in connection.execute(query)}

    def _mark(self) -> sa.ColumnElement[str]:
        """Return what tells a row that was written again: ``xmin``; SQLite has nothing cheaper than the MD5."""
        if self.catalog.is_postgresql:
            return sa.cast(sa.cast(sa.literal_column(f"{self.table.name}.xmin"), sa.Text), sa.String)
        return sa.func.md5(self._as_bytes())

    def _key(self) -> list[sa.Column[Any]]:
        return [self.table.c[name] for name in self.key_columns]

    def _is_one_of(self, keys: Sequence[Key]) -> sa.ColumnElement[bool]:
        return sa.and_(sa.tuple_(*self._key()).in_(self._listed(keys)), self._only_rows())

    def _listed(self, keys: Sequence[Key]) -> Any:  # noqa: ANN401 - a list or a query: what IN takes
        """Return the keys for IN: PostgreSQL joins with arrays, where it would try a list's members one by one."""
        if not self.catalog.is_postgresql:
            return list(keys)
        arrays = map(_array, zip(*map(table_key, keys), strict=True)) if keys else [_array(())] * 3
        return sa.select(sa.func.unnest(*arrays).table_valued(*self.key_columns).render_derived())

    def _as_bytes(self) -> sa.ColumnElement[Any]:
        return self.table.c[self.stored]

    def _size(self) -> sa.ColumnElement[Any]:
        """Return the length in bytes of what the column holds."""
        if self.catalog.is_postgresql:
            return sa.func.octet_length(self.table.c[self.stored] if self.catalog.is_utf8 else self._bytes_of_column())
        return sa.func.length(self._bytes_of_column())

    def _bytes_of_column(self) -> sa.ColumnElement[Any]:
        column = self.table.c[self.stored]
        if not isinstance(column.type, sa.String):
            return column
        return sa.func.convert_to(column, "UTF8") if self.catalog.is_postgresql else sa.cast(column, sa.LargeBinary)


def _array(values: Sequence[str]) -> sa.ColumnElement[Any]:
    """Return texts as an array of PostgreSQL's."""
    kind = postgresql.ARRAY(sa.Text)
    return sa.cast(sa.literal(list(values), kind), kind)


def _cast(column: sa.Column[Any]) -> str:
    """Return a column as SQL, in the type that we read it as."""
    return f'"{column.name}"' + ("::bigint" if isinstance(column.type, sa.Integer) else "")


def table_key(key: Key) -> tuple[str, str, str]:
    """Return a key of a table: user, logical bucket, archiveId."""
    if isinstance(key, str):
        raise TypeError(key)
    return key
