"""Read every document of an archive as a service would, knowing only the vendor's rules.

    python examples/service_reader.py CONFIG

Shares no code with the tool, so that it can bear witness: look up the catalog row, fetch by ``content_url``
as the vendor's drivers take it apart, check the MD5 if the row has a digest, decompress if it says so.
Exits 1 if a document cannot be read.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
import sys
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml


class Unreadable(Exception):  # noqa: N818
    """A service could not read the document."""


class Reader:
    """Reads with one config; a service can only read URLs of its drivers' schemes."""

    def __init__(self, config: dict[str, Any], connection: Any) -> None:  # noqa: ANN401
        catalog = config["services"]["catalog"]
        self._main = catalog.get("object_store") or catalog.get("archive") or {}
        self._archive = catalog.get("analysis_archive") or self._main
        self._connection = connection
        self._mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
        self._clients: dict[str, Any] = {}

    def documents(self) -> dict[tuple[str, str, str, str], bytes | Unreadable]:
        """Return every document by (userId, bucket, archiveId, documentName)."""
        rows = self._query(
            'SELECT "userId", bucket, "archiveId", "documentName", content_url, is_compressed, digest'
            " FROM archive_metadata"
        )
        found: dict[tuple[str, str, str, str], bytes | Unreadable] = {}
        for user, bucket, archive_id, name, url, is_compressed, digest in rows:
            try:
                found[user, bucket, archive_id, name] = self._document(bucket, url, is_compressed, digest)
            except Unreadable as error:
                found[user, bucket, archive_id, name] = error
        return found

    def _document(self, bucket: str, url: str, is_compressed: bool | None, digest: str | None) -> bytes:  # noqa: FBT001
        section = self._archive if bucket == "analysis_archive" else self._main
        driver = section.get("storage_driver") or {"name": "db", "config": {}}
        data = self._fetch(driver["name"], driver.get("config") or {}, url)
        if digest and hashlib.md5(data).hexdigest() != digest:  # noqa: S324
            raise Unreadable(f"digest mismatch at {url}")
        return zlib.decompress(data) if is_compressed else data

    def _fetch(self, driver: str, settings: dict[str, Any], url: str) -> bytes:
        try:
            parts = urlparse(url)
            _ = parts.hostname
        except ValueError as error:
            raise Unreadable(f"{url}: {error}") from None
        if parts.scheme != {"localfs": "file"}.get(driver, driver):
            raise Unreadable(f"driver {driver} cannot read {url}")
        if driver == "localfs":
            try:
                return Path(parts.path).read_bytes()
            except OSError as error:
                raise Unreadable(f"{url}: {error}") from None
        if driver == "s3":
            return self._object(settings, parts)
        if driver == "swift":
            return self._swift_object(settings, parts)
        bucket, _slash, archive_id = parts.path.removeprefix("/").partition("/")
        key = (parts.netloc, bucket, archive_id)
        return self._text(key, url) if driver == "db" else self._blob(key, url)

    def _text(self, key: tuple[str, str, str], url: str) -> bytes:
        where = f'"userId" = {self._mark} AND bucket = {self._mark} AND "archiveId" = {self._mark}'
        rows = self._query(f"SELECT jsondata, b64_encoded FROM archive_document WHERE {where}", key)  # noqa: S608
        if not rows:
            raise Unreadable(f"no row for {url}")
        text, is_base64 = rows[0]
        return base64.decodebytes((text or "").encode()) if is_base64 else (text or "").encode()

    def _blob(self, key: tuple[str, str, str], url: str) -> bytes:
        where = f"\"userId\" = {self._mark} AND bucket = {self._mark} AND key = {self._mark} AND version = ''"
        rows = self._query(f"SELECT content FROM object_storage WHERE {where}", key)  # noqa: S608
        if not rows:
            raise Unreadable(f"no row for {url}")
        return bytes(rows[0][0])

    def _object(self, settings: dict[str, Any], parts: Any) -> bytes:  # noqa: ANN401
        client = self._client(settings)
        try:
            answer = client.get_object(Bucket=parts.hostname, Key=parts.path.removeprefix("/"))
        except client.exceptions.ClientError as error:
            raise Unreadable(f"s3://{parts.hostname}{parts.path}: {error.response['Error']['Code']}") from None
        return answer["Body"].read()  # type: ignore[no-any-return]

    def _swift_object(self, settings: dict[str, Any], parts: Any) -> bytes:  # noqa: ANN401
        from swiftclient.client import ClientException, Connection  # noqa: PLC0415

        name = repr(sorted(settings.items(), key=str))
        if name not in self._clients:
            self._clients[name] = Connection(settings["auth"], settings["user"], settings["key"])
        try:
            _headers, data = self._clients[name].get_object(parts.hostname, parts.path.removeprefix("/"))
        except ClientException as error:
            raise Unreadable(f"swift://{parts.hostname}{parts.path}: {error.http_status}") from None
        return bytes(data)

    def _client(self, settings: dict[str, Any]) -> Any:  # noqa: ANN401
        import boto3  # noqa: PLC0415

        name = repr(sorted(settings.items(), key=str))
        if name not in self._clients:
            self._clients[name] = boto3.client(
                "s3",
                endpoint_url=settings.get("url"),
                aws_access_key_id=settings["access_key"],
                aws_secret_access_key=settings["secret_key"],
                region_name=settings.get("region") or "us-east-1",
            )
        return self._clients[name]

    def _query(self, text: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        cursor.execute(text, values)
        return list(cursor.fetchall())


def connect(url: str) -> Any:  # noqa: ANN401
    """Open the database that a config names."""
    if url.startswith("sqlite:///"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    import psycopg2  # noqa: PLC0415

    return psycopg2.connect(url.replace("+pg8000", "").replace("+psycopg2", ""))


def read_all(config_path: Path, url: str | None = None) -> dict[tuple[str, str, str, str], bytes | Unreadable]:
    """Read every document with a config file; the database is the config's unless another is named."""
    config = yaml.safe_load(config_path.read_text())
    connection = connect(url or config["credentials"]["database"]["db_connect"])
    try:
        return Reader(config, connection).documents()
    finally:
        connection.close()


def main() -> None:
    """Read all and say what came of it."""
    documents = read_all(Path(sys.argv[1]))
    bad = {name: error for name, error in documents.items() if isinstance(error, Unreadable)}
    for name, error in list(bad.items())[:10]:
        print(f"{'/'.join(name[:3])}: {error}")  # noqa: T201
    total = hashlib.sha256()
    for name in sorted(documents):
        data = documents[name]
        total.update(repr(name).encode() + (data if isinstance(data, bytes) else b"unreadable"))
    print(f"{len(documents) - len(bad)} of {len(documents)} documents readable, sha256 over all {total.hexdigest()}")  # noqa: T201
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
