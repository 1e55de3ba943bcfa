"""The serial reference: one document at a time, a transaction for each of its steps, as the incumbent works.

Read the row, read the content, compare its MD5, write the copy, repoint the row, delete the source; by SQLAlchemy and
boto3. It is written as plainly and as quickly as that order allows: no logging, no ORM, no batch.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmarks.archive import NOW
from benchmarks.spec import End, Spec

Key = tuple[str, str, str]

_ROWS = sa.text('SELECT "userId", bucket, "archiveId" FROM archive_metadata ORDER BY 1, 2, 3 LIMIT :limit')
_ROW = sa.text('SELECT * FROM archive_metadata WHERE "userId" = :u AND bucket = :b AND "archiveId" = :a')
_REPOINT = sa.text(
    "UPDATE archive_metadata SET content_url = :url, is_compressed = :compressed, digest = :digest, size = :size"
    ' WHERE "userId" = :u AND bucket = :b AND "archiveId" = :a'
)


class Driver(Protocol):
    """What the reference asks of a place."""

    def url(self, key: Key) -> str:
        """Return the document's URL there."""

    def get(self, key: Key) -> bytes:
        """Return its bytes."""

    def put(self, key: Key, data: bytes) -> None:
        """Write its bytes."""

    def delete(self, key: Key) -> None:
        """Delete it."""


class Db:
    """Driver ``db``."""

    _where = 'WHERE "userId" = :u AND bucket = :b AND "archiveId" = :a'

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def url(self, key: Key) -> str:
        return "db://" + "/".join(key)

    def get(self, key: Key) -> bytes:
        with self._engine.begin() as connection:
            query = sa.text(f"SELECT jsondata, b64_encoded FROM archive_document {self._where}")  # noqa: S608
            text, is_base64 = connection.execute(query, _names(key)).one()
        return base64.b64decode(text) if is_base64 else text.encode()

    def put(self, key: Key, data: bytes) -> None:
        try:
            text, is_base64 = data.decode(), False
        except UnicodeDecodeError:
            text, is_base64 = base64.encodebytes(data).decode(), True
        statement = sa.text(
            'INSERT INTO archive_document ("userId", bucket, "archiveId", "documentName", created_at, last_updated,'
            " record_state_key, jsondata, b64_encoded) VALUES (:u, :b, :a, :name, :now, :now, 'active', :text, :base64)"
        )
        values = {"name": f"{key[2]}.json", "now": NOW, "text": text, "base64": is_base64}
        with self._engine.begin() as connection:
            connection.execute(statement, _names(key) | values)

    def delete(self, key: Key) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.text(f"DELETE FROM archive_document {self._where}"), _names(key))  # noqa: S608


class Db2:
    """Driver ``db2``."""

    _where = "WHERE \"userId\" = :u AND bucket = :b AND key = :a AND version = ''"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def url(self, key: Key) -> str:
        return "db2://" + "/".join(key)

    def get(self, key: Key) -> bytes:
        with self._engine.begin() as connection:
            query = sa.text(f"SELECT content FROM object_storage {self._where}")  # noqa: S608
            return bytes(connection.execute(query, _names(key)).scalar_one())

    def put(self, key: Key, data: bytes) -> None:
        statement = sa.text(
            'INSERT INTO object_storage ("userId", bucket, key, version, content, created_at, last_updated)'
            " VALUES (:u, :b, :a, '', :data, :now, :now)"
        )
        with self._engine.begin() as connection:
            connection.execute(statement, _names(key) | {"data": data, "now": NOW})

    def delete(self, key: Key) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.text(f"DELETE FROM object_storage {self._where}"), _names(key))  # noqa: S608


class LocalFs:
    """Driver ``localfs``, with no sync, as the incumbent."""

    def __init__(self, root: str) -> None:
        self._root = root

    def url(self, key: Key) -> str:
        return f"file://{self._path(key)}"

    def _path(self, key: Key) -> Path:
        user, name = (hashlib.md5(part.encode()).hexdigest() for part in (key[0], key[2]))  # noqa: S324
        return Path(self._root, user, key[1], name[:2], f"{name}.json")

    def get(self, key: Key) -> bytes:
        return self._path(key).read_bytes()

    def put(self, key: Key, data: bytes) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, key: Key) -> None:
        self._path(key).unlink()


class S3:
    """Driver ``s3``, by boto3."""

    def __init__(self, client: Any, bucket: str) -> None:  # noqa: ANN401
        self._client, self._bucket = client, bucket

    def url(self, key: Key) -> str:
        return f"s3://{self._bucket}/{'/'.join(key)}"

    def get(self, key: Key) -> bytes:
        return bytes(self._client.get_object(Bucket=self._bucket, Key="/".join(key))["Body"].read())

    def put(self, key: Key, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key="/".join(key), Body=data)

    def delete(self, key: Key) -> None:
        self._client.delete_object(Bucket=self._bucket, Key="/".join(key))


def _names(key: Key) -> dict[str, Any]:
    return {"u": key[0], "b": key[1], "a": key[2]}


def _driver(end: End, engine: Engine) -> Driver:
    if end.driver == "s3":
        return S3(end.client(), end.bucket)
    if end.driver == "localfs":
        return LocalFs(end.root)
    return Db(engine) if end.driver == "db" else Db2(engine)


def run(spec: Spec) -> int:
    """Move the first documents of the archive; return how many."""
    engine = sa.create_engine(spec.url.replace("postgresql://", "postgresql+psycopg2://"))
    source, dest = _driver(spec.source, engine), _driver(spec.dest, engine)
    with engine.begin() as connection:
        keys: list[Key] = [tuple(row) for row in connection.execute(_ROWS, {"limit": spec.documents})]
    for key in keys:
        with engine.begin() as connection:
            row = connection.execute(_ROW, _names(key)).mappings().one()
        data = source.get(key)
        if hashlib.md5(data).hexdigest() != row["digest"]:  # noqa: S324
            raise ValueError(key)
        copy = zlib.compress(data, 3) if spec.dest.compressed and len(data) > 1 << 10 else data
        dest.put(key, copy)
        new = {"url": dest.url(key), "compressed": copy is not data, "digest": hashlib.md5(copy).hexdigest()}  # noqa: S324
        with engine.begin() as connection:
            connection.execute(_REPOINT, _names(key) | new | {"size": len(copy)})
        source.delete(key)
    return len(keys)
