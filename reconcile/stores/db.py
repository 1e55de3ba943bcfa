"""Driver ``db``: text in table ``archive_document``; what is not UTF-8 as base64, MIME style."""

from __future__ import annotations

import base64
import binascii
import codecs
import string
import time
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from reconcile.catalog.tables import archive_document
from reconcile.errors import DocumentError
from reconcile.payload import Data, chunks_of, gathered, md5
from reconcile.stores.base import Content, Write
from reconcile.stores.tables import InSql, TableStore, table_key

_IN_BASE64 = (  # lines of 76 characters, each with its newline, as MIME has them
    "CASE WHEN document = '' THEN '' ELSE rtrim(encode(document, 'base64'), E'\\n') || E'\\n' END"
)
_UTF8 = (  # as a pattern over bytes read as Latin-1; what has a NUL byte is no pattern's to judge
    r"^([\x01-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    r"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*$"
)
_IS_BASE64 = (
    f"CASE WHEN position('\\x00'::bytea IN document) = 0 THEN convert_from(document, 'LATIN1') !~ '{_UTF8}' END"
)
_LINE_BYTES = 57  # give 76 characters
_BASE64 = (string.ascii_letters + string.digits + "+/=").encode()
_NOT_BASE64 = bytes(byte for byte in range(256) if byte not in _BASE64)


class DbStore(TableStore):
    """Rows of ``archive_document``."""

    table = archive_document
    key_columns = ("userId", "bucket", "archiveId")
    stored = "jsondata"
    restored = ("documentName", "created_at", "last_updated", "record_state_key", "record_state_val", "b64_encoded")
    sql = InSql(
        document="CASE WHEN {0}.b64_encoded THEN decode({0}.jsondata, 'base64')"
        " ELSE convert_to({0}.jsondata, 'UTF8') END",
        version="md5({0}.jsondata)",
        reproducible=f"({{0}}.b64_encoded IS NOT TRUE OR {{0}}.jsondata = {_IN_BASE64})",
        is_document="true",
        stored=f"CASE WHEN to_b64_encoded THEN {_IN_BASE64} ELSE convert_from(document, 'UTF8') END",
        derived={"b64_encoded": _IS_BASE64},
    )

    def _content(self, row: Mapping[str, Any], raw: Data | None) -> Content:
        stored = b"" if raw is None else raw
        as_base64 = bool(row["b64_encoded"])
        data = _from_base64(stored) if as_base64 else stored
        version = md5(stored)
        return Content(
            data,
            version=version,
            attributes={name: row[name] for name in self.restored},
            reproducible=raw is not None and (not as_base64 or md5(_to_base64(data)) == version),
            is_null=raw is None,
            md5=md5(data) if as_base64 else version,
        )

    def columns_of(self, write: Write) -> dict[str, Any]:
        user_id, bucket, archive_id = table_key(write.key)
        now = int(time.time())
        columns = {
            "documentName": f"{archive_id}.json",
            "created_at": now,
            "last_updated": now,
            "record_state_key": "active",
            "record_state_val": None,
            "b64_encoded": self._wants_base64(write),
        } | dict(write.attributes)
        return columns | {"userId": user_id, "bucket": bucket, "archiveId": archive_id}

    def _raw(self, write: Write) -> Data:
        raw = _to_base64(write.data) if self._wants_base64(write) else write.data
        if len(raw) > self.address.max_size:
            raise DocumentError(
                "too_big", f"{len(raw):,} bytes as base64, but a field holds at most {self.address.max_size:,}"
            )
        if self.catalog.is_postgresql and any(b"\0" in chunk for chunk in chunks_of(raw)):
            raise DocumentError(
                "nul_in_text", "it is text with a NUL character, which PostgreSQL's type text cannot hold"
            )
        return raw

    def _told_by_sql(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.case((archive_document.c.b64_encoded.is_(True), None), else_=column)

    def _as_bytes(self) -> sa.ColumnElement[Any]:
        text = sa.func.coalesce(archive_document.c.jsondata, "")
        return text if self.catalog.is_utf8 else sa.func.convert_to(text, "UTF8")

    def _wants_base64(self, write: Write) -> bool:
        """Tell whether to store base64: what is not UTF-8, and what a database of another encoding may not take."""
        recorded = write.attributes.get("b64_encoded")
        if recorded is not None:
            return bool(recorded)
        return not _is_text(write.data, "utf-8" if self.catalog.is_utf8 else "ascii")


def _is_text(data: Data, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in chunks_of(data):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _from_base64(text: Data) -> Data:
    """Decode as the services do: characters that are not base64 are passed over."""
    try:
        return gathered(_decoded(text))
    except binascii.Error as error:
        raise DocumentError("undecodable", f"b64_encoded is true, but jsondata is not base64: {error}") from None


def _decoded(text: Data) -> Iterator[bytes]:
    if isinstance(text, bytes):
        yield binascii.a2b_base64(text)
        return
    rest, padded = b"", False
    for chunk in chunks_of(text):
        rest += chunk.translate(None, delete=_NOT_BASE64)
        padded = padded or b"=" in rest
        if not padded:  # else what follows is the decoder's to judge, as one piece: it ends at a padding
            whole = len(rest) - len(rest) % 4
            yield binascii.a2b_base64(rest[:whole])
            rest = rest[whole:]
    yield binascii.a2b_base64(rest)


def _to_base64(data: Data) -> Data:
    """Encode MIME style: lines of 76 characters, each with its newline."""
    return gathered(base64.encodebytes(piece) for piece in _in_lines(data))


def _in_lines(data: Data) -> Iterator[bytes]:
    """Yield the bytes in pieces that end where a line of base64 ends."""
    rest = b""
    for chunk in chunks_of(data):
        rest += chunk
        whole = len(rest) - len(rest) % _LINE_BYTES
        yield rest[:whole]
        rest = rest[whole:]
    yield rest
