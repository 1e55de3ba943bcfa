"""Driver ``db``: text in table ``archive_document``; what is not UTF-8 as base64, MIME style."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from reconcile.catalog.tables import archive_document
from reconcile.errors import DocumentError
from reconcile.payload import md5
from reconcile.stores.base import Content, Write
from reconcile.stores.tables import TableStore, table_key

_RESTORED = ("documentName", "created_at", "last_updated", "record_state_key", "record_state_val", "b64_encoded")


class DbStore(TableStore):
    """Rows of ``archive_document``."""

    table = archive_document
    key_columns = ("userId", "bucket", "archiveId")
    stored = "jsondata"

    def _content(self, row: RowMapping) -> Content:
        text = row["jsondata"]
        data = _decode(text or "", is_base64=bool(row["b64_encoded"]))
        return Content(
            data,
            version=md5((text or "").encode()),
            attributes={name: row[name] for name in _RESTORED},
            reproducible=text is not None and text == _encode(data, as_base64=bool(row["b64_encoded"])),
        )

    def _row(self, write: Write) -> dict[str, Any]:
        user_id, bucket, archive_id = table_key(write.key)
        now = int(time.time())
        as_base64 = bool(write.attributes.get("b64_encoded", not _is_text(write.data)))
        columns = {
            "documentName": f"{archive_id}.json",
            "created_at": now,
            "last_updated": now,
            "record_state_key": "active",
            "record_state_val": None,
            "b64_encoded": as_base64,
        } | dict(write.attributes)
        return columns | {
            "userId": user_id,
            "bucket": bucket,
            "archiveId": archive_id,
            "jsondata": self._text(write.data, as_base64=as_base64),
        }

    def _text(self, data: bytes, *, as_base64: bool) -> str:
        text = _encode(data, as_base64=as_base64)
        if len(text) > self.address.max_size:
            raise DocumentError("too_big", f"{len(text)} characters as base64, a field holds {self.address.max_size}")
        if "\0" in text and self._catalog.is_postgresql:
            raise DocumentError("nul_in_text", "it is text with a NUL character, which PostgreSQL text cannot hold")
        return text

    def _as_bytes(self) -> sa.ColumnElement[Any]:
        return sa.func.coalesce(archive_document.c.jsondata, "")


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _decode(text: str, *, is_base64: bool) -> bytes:
    if not is_base64:
        return text.encode()
    try:
        return base64.decodebytes(text.encode())
    except binascii.Error as error:
        raise DocumentError("undecodable", f"b64_encoded is true, but jsondata is not base64: {error}") from None


def _encode(data: bytes, *, as_base64: bool) -> str:
    if as_base64:
        return base64.encodebytes(data).decode("ascii")
    return data.decode("utf-8")
