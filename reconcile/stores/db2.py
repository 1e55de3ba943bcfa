"""Driver ``db2``: bytes in table ``object_storage``, key = archiveId, version = ''."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from reconcile.catalog.tables import object_storage
from reconcile.errors import DocumentError
from reconcile.payload import Data, md5
from reconcile.stores.base import Content, Write
from reconcile.stores.tables import InSql, TableStore, table_key


class Db2Store(TableStore):
    """Rows of ``object_storage``."""

    table = object_storage
    key_columns = ("userId", "bucket", "key")
    stored = "content"
    restored = ("object_metadata", "created_at", "last_updated")
    sql = InSql(
        document="{0}.content || ''::bytea",  # put together once, for digest and copy
        version="md5({0}.content)",
        reproducible="true",
        is_document="{0}.version = ''",
        stored="document",
    )

    def _only_rows(self) -> sa.ColumnElement[bool]:
        return object_storage.c.version == ""

    def _content(self, row: Mapping[str, Any], raw: Data | None) -> Content:
        if raw is None:
            raise DocumentError("source_missing", "the row in object_storage has content NULL")
        digest = md5(raw)
        return Content(raw, digest, {name: row[name] for name in self.restored}, md5=digest)

    def columns_of(self, write: Write) -> dict[str, Any]:
        user_id, bucket, archive_id = table_key(write.key)
        now = int(time.time())
        key = {"userId": user_id, "bucket": bucket, "key": archive_id, "version": ""}
        return {"object_metadata": None, "created_at": now, "last_updated": now} | dict(write.attributes) | key

    def _raw(self, write: Write) -> Data:
        return write.data

    def _told_by_sql(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return column
