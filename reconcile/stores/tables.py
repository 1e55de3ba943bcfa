"""What ``db`` and ``db2`` share: content in a table of the catalog's database, a batch a statement."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, RowMapping

from reconcile.catalog import Catalog
from reconcile.catalog.rows import streamed
from reconcile.errors import BackendError, DocumentError
from reconcile.payload import md5
from reconcile.stores.addresses import Address, Key
from reconcile.stores.base import Content, Known, Stat, Store, Write


class TableStore(Store):
    """Content as rows of one table. A transaction a batch; PostgreSQL confirms by ``md5()`` in the statement."""

    table: ClassVar[sa.Table]
    key_columns: ClassVar[tuple[str, str, str]]  # in the order user, bucket, archiveId
    stored: ClassVar[str]  # the column that holds the bytes or text

    def __init__(self, address: Address, catalog: Catalog) -> None:
        super().__init__(address)
        self._catalog = catalog

    @abstractmethod
    def _content(self, row: RowMapping) -> Content:
        """Return the content of a row. Raises `DocumentError` where it cannot be decoded."""

    @abstractmethod
    def _row(self, write: Write) -> dict[str, Any]:
        """Return the row to insert. Raises `DocumentError` where the table cannot hold the bytes."""

    def _only_rows(self) -> sa.ColumnElement[bool]:
        """Return the condition for rows that are documents at all."""
        return sa.true()

    def prepare(self, *, create: bool) -> None:  # noqa: ARG002 - the services make their own tables
        if not self._catalog.has_table(self.table):
            raise BackendError(
                f"the database has no table {self.table.name}, which driver {self.address.scheme} keeps content in",
                hint="the services make it when they first start on this database",
            )

    def look(self, keys: Sequence[Key], *, digest: bool = False) -> dict[Key, Stat]:
        if digest:
            found: dict[Key, Stat] = {}
            for key, content in self.read(keys).items():
                if isinstance(content, Content):
                    found[key] = Stat(len(content.data), md5(content.data), content.version)
                elif content.reason != "source_missing":
                    found[key] = Stat()
            return found
        with self._catalog.read() as connection:
            rows = connection.execute(sa.select(*self._key()).where(self._is_one_of(keys)))
            return {tuple(row): Stat() for row in rows}

    def read(self, keys: Sequence[Key]) -> dict[Key, Content | DocumentError]:
        answer: dict[Key, Content | DocumentError] = {
            key: DocumentError("source_missing", f"no row in {self.table.name}") for key in keys
        }
        seen = set()
        with self._catalog.read() as connection:
            for row in connection.execute(sa.select(self.table).where(self._is_one_of(keys))).mappings():
                key = tuple(row[name] for name in self.key_columns)
                if key in seen:
                    answer[key] = DocumentError("ambiguous_source", f"several rows in {self.table.name}")
                    continue
                seen.add(key)
                try:
                    answer[key] = self._content(row)
                except DocumentError as error:
                    answer[key] = error
        return answer

    def write(self, writes: Sequence[Write]) -> dict[Key, Stat | DocumentError]:
        answer: dict[Key, Stat | DocumentError] = {}
        rows, digests = [], {}
        for write in writes:
            try:
                row = self._row(write)
            except DocumentError as error:
                answer[write.key] = error
                continue
            rows.append(row)
            value = row[self.stored]
            digests[write.key] = md5(value.encode() if isinstance(value, str) else value)
        if rows:
            with self._catalog.write(bulk=True) as connection:
                connection.execute(self._insert(connection).on_conflict_do_nothing(), rows)
                stored = self._digests(connection, list(digests))
            for write in writes:
                if write.key not in answer:
                    digest = digests[write.key]
                    answer[write.key] = (
                        Stat(len(write.data), write.md5, digest)
                        if stored.get(write.key) == digest
                        else DocumentError("destination_occupied", "another row is there already")
                    )
        return answer

    def delete(self, known: Sequence[Known]) -> dict[Key, DocumentError | None]:
        keys = [content.key for content in known]
        same = sa.tuple_(*self._key(), sa.func.md5(self._as_bytes())).in_(
            [(*content.key, content.version) for content in known]
        )
        with self._catalog.write(bulk=True) as connection:
            connection.execute(sa.delete(self.table).where(same, self._only_rows()))
            left = set(self._digests(connection, keys))
        changed = "what is there now is not the content that was copied"
        return {key: DocumentError("content_changed", changed) if key in left else None for key in keys}

    def listing(self) -> Iterator[tuple[Key, Stat]]:
        with self._catalog.snapshot() as connection:
            query = sa.select(*self._key()).where(self._only_rows())
            for row in connection.execute(query, execution_options=streamed(5000)):
                yield tuple(row), Stat()

    def _insert(self, connection: Connection) -> Any:  # noqa: ANN401 - two dialects' insert
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        return dialect.insert(self.table)

    def _digests(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, str | None]:
        query = sa.select(*self._key(), sa.func.md5(self._as_bytes())).where(self._is_one_of(keys))
        return {tuple(row[:3]): row[3] for row in connection.execute(query)}

    def _key(self) -> list[sa.Column[Any]]:
        return [self.table.c[name] for name in self.key_columns]

    def _is_one_of(self, keys: Sequence[Key]) -> sa.ColumnElement[bool]:
        return sa.and_(sa.tuple_(*self._key()).in_(list(keys)), self._only_rows())

    def _as_bytes(self) -> sa.ColumnElement[Any]:
        return self.table.c[self.stored]


def table_key(key: Key) -> tuple[str, str, str]:
    """Return a key of a table: user, logical bucket, archiveId."""
    if isinstance(key, str):
        raise TypeError(key)
    return key
