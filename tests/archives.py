"""The vendor's own archives: put one into a database and stores, and see what is there."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sqlite3
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import yaml
from attrs import define, field

from examples.build_archive import SCHEMA

DATA = Path(__file__).parent / "data"
NAMES = (
    "db",
    "db2",
    "localfs",
    "s3",
    "db2-compressed",
    "localfs-compressed",
    "s3-compressed",
    "s3prefix",
    "split",
)
TABLES = ("archive_metadata", "archive_document", "object_storage")
_VENDOR_DATA_DIR = "/srv/anchore/archive"
_VENDOR_BUCKETS = ("anchorearchive", "analysisarchive")


@cache
def vendor_archive(name: str) -> dict[str, Any]:
    """Return one archive as the vendor's code wrote it."""
    return json.loads(gzip.decompress((DATA / f"{name}.json.gz").read_bytes()))


@define
class Place:
    """Where archives are put: a data dir and two buckets at an endpoint, under one database."""

    folder: Path
    database: str
    s3: Any = None
    tag: str = field(factory=lambda: uuid.uuid4().hex[:10])
    _client: Any = None

    @property
    def data_dir(self) -> Path:
        return self.folder / f"archive-{self.tag}"

    @property
    def buckets(self) -> tuple[str, str]:
        return tuple(f"{name}-{self.tag}" for name in _VENDOR_BUCKETS)  # type: ignore[return-value]

    def client(self) -> Any:
        if self._client is None:
            self._client = self._new_client()
        return self._client

    def _new_client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.s3.url,
            aws_access_key_id=self.s3.access_key,
            aws_secret_access_key=self.s3.secret_key,
            region_name="us-east-1",
        )

    def localize(self, text: str) -> str:
        """Return a URL, path or bucket of the vendor's archive as it is at this place."""
        text = text.replace(_VENDOR_DATA_DIR, str(self.data_dir))
        for vendor, ours in zip(_VENDOR_BUCKETS, self.buckets, strict=True):
            text = text.replace(f"s3://{vendor}/", f"s3://{ours}/")
        return text

    def config(self, name: str) -> Path:
        """Write the config of an archive for this place; return its path."""
        config = json.loads(json.dumps(vendor_archive(name)["config"]))
        for section in config["services"]["catalog"].values():
            settings = section["storage_driver"]["config"]
            if "bucket" in settings:
                settings["bucket"] = self.buckets[_VENDOR_BUCKETS.index(settings["bucket"])]
                settings |= {"url": self.s3.url, "access_key": self.s3.access_key, "secret_key": self.s3.secret_key}
            if "archive_data_dir" in settings:
                settings["archive_data_dir"] = str(self.data_dir)
        if "analysis_archive" in config["services"]["catalog"]:
            config["services"]["catalog"]["analysis_archive"]["enabled"] = True
        config["credentials"] = {"database": {"db_connect": self.database}}
        path = self.folder / f"{name}-{self.tag}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def load(self, name: str) -> Path:
        """Put an archive here, rows and objects; return its config."""
        archive = vendor_archive(name)
        connection = connect(self.database)
        for table in TABLES:
            insert(connection, table, [self._row(row) for row in archive[table]])
        connection.commit()
        connection.close()
        self._make_buckets({item["container"] for item in archive["objects"] if "container" in item})
        for item in archive["objects"]:
            content = base64.b64decode(item["content"])
            if "path" in item:
                path = Path(self.localize(item["path"]))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            else:
                self.put(self.buckets[_VENDOR_BUCKETS.index(item["container"])], item["key"], content)
        return self.config(name)

    def _make_buckets(self, vendors: set[str]) -> None:
        for vendor in vendors:
            self.client().create_bucket(Bucket=self.buckets[_VENDOR_BUCKETS.index(vendor)])

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Put an object as the vendor's driver does."""
        self.client().put_object(Bucket=bucket, Key=key, Body=content, ContentType="binary/octet-stream")

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        row = dict(row)
        if row.get("content_url"):
            row["content_url"] = self.localize(row["content_url"])
        if "content" in row:
            row["content"] = base64.b64decode(row["content"])
        return row

    def expected_rows(self, name: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
        """Return the location columns of the catalog rows that the vendor wrote, at this place."""
        return {
            row_key(row): (self.localize(row["content_url"]), row["is_compressed"], row["digest"], row["size"])
            for row in vendor_archive(name)["archive_metadata"]
        }

    def expected_objects(self, name: str) -> dict[str, str]:
        """Return MD5s of the objects and files that the vendor wrote, by bucket and key or by path."""
        found = {}
        for item in vendor_archive(name)["objects"]:
            where = (
                self.localize(item["path"])
                if "path" in item
                else f"{self.buckets[_VENDOR_BUCKETS.index(item['container'])]}/{item['key']}"
            )
            found[where] = md5(base64.b64decode(item["content"]))
        return found

    def marks(self) -> list[str]:
        """Return the owner marks that are here."""
        found = [str(path) for path in self.data_dir.rglob(".owner")]
        if self.s3 is None:
            return found
        return found + [
            f"{bucket}/{entry['Key']}"
            for bucket in self._buckets_there()
            for entry in self.client().list_objects_v2(Bucket=bucket, Prefix="reconcile-owner").get("Contents", [])
        ]

    def objects(self) -> dict[str, str]:
        """Return MD5s of every object and file that is here now (S3: the ETags of its listing), but of owner marks."""
        files = [path for path in self.data_dir.rglob("*") if path.is_file() and path.name != ".owner"]
        found = {str(path): md5(path.read_bytes()) for path in files}
        if self.s3 is None:
            return found
        client = self.client()
        for bucket in self._buckets_there():
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for entry in (entry for page in pages for entry in page.get("Contents", [])):
                if not entry["Key"].endswith("reconcile-owner"):
                    found[f"{bucket}/{entry['Key']}"] = entry["ETag"].strip('"')
        return found

    def content_types(self) -> set[str]:
        """Return the content types of some objects of each bucket."""
        client = self.client()
        found = set()
        for bucket in self._buckets_there():
            for entry in client.list_objects_v2(Bucket=bucket, MaxKeys=5).get("Contents", []):
                found.add(client.head_object(Bucket=bucket, Key=entry["Key"])["ContentType"])
        return found

    def _buckets_there(self) -> set[str]:
        return {entry["Name"] for entry in self.client().list_buckets()["Buckets"]} & set(self.buckets)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def row_key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("userId", "bucket", "archiveId", "documentName"))


def connect(url: str) -> Any:
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    return psycopg2.connect(url)


def new_sqlite(folder: Path) -> str:
    """Make an empty SQLite catalog; return its URL."""
    path = folder / "anchore.db"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    connection.close()
    return f"sqlite:///{path}"


def insert(connection: Any, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        names = list(rows[0])
        mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
        columns = ", ".join(f'"{name}"' for name in names)
        marks = ", ".join([mark] * len(names))
        connection.cursor().executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({marks})", [tuple(row[name] for name in names) for row in rows]
        )


def query(url: str, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Run a statement in a transaction of its own; return its rows."""
    connection = connect(url)
    try:
        cursor = connection.cursor()
        if url.startswith("sqlite"):
            cursor.execute(sql.replace("%s", "?"), values)
        else:
            cursor.execute(sql, values or None)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return list(rows)
    finally:
        connection.close()


def dump(url: str, table: str) -> list[tuple[Any, ...]]:
    """Return a table, every column of every row, in a fixed order."""
    rows = query(url, f"SELECT * FROM {table}")
    return sorted((tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in rows), key=repr)


def catalog(url: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """Return the location columns of every catalog row by its key."""
    sql = (
        'SELECT "userId", bucket, "archiveId", "documentName", content_url, is_compressed, digest, size'
        " FROM archive_metadata"
    )
    return {row[:4]: (row[4], bool(row[5]), row[6], row[7]) for row in query(url, sql)}


def truth(name: str) -> dict[tuple[str, str, str], bytes]:
    """Return the documents of an archive as services read them."""
    return {
        (d["userId"], d["bucket"], d["archiveId"]): base64.b64decode(d["content"])
        for d in vendor_archive(name)["documents"]
    }
