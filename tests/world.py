"""A small archive made by hand, on SQLite or PostgreSQL, for tests that need odd rows or odd configs."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from attrs import define

from examples.service_reader import Unreadable, read_all
from reconcile import verbs
from reconcile.planning.planfile import PlanFile
from reconcile.planning.planner import PlanRequest
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.result import Outcome
from tests.archives import TABLES, connect, dump, insert, md5, query

NOW = 1_700_000_000
DB: dict[str, Any] = {"storage_driver": {"name": "db", "config": {}}}
DB2: dict[str, Any] = {"storage_driver": {"name": "db2", "config": {}}}
COMPRESSED = {"compression": {"enabled": True, "min_size_kbytes": 1}}
PLAIN = {"compression": {"enabled": False, "min_size_kbytes": 100}}


def localfs(data_dir: Path) -> dict[str, Any]:
    return {"storage_driver": {"name": "localfs", "config": {"archive_data_dir": str(data_dir)}}}


def s3(server: Any, bucket: str, **more: Any) -> dict[str, Any]:
    settings = {"url": server.url, "access_key": server.access_key, "secret_key": server.secret_key}
    return {"storage_driver": {"name": "s3", "config": {"bucket": bucket, "create_bucket": True, **settings, **more}}}


@define
class World:
    """A database with the vendor's tables, and a folder for configs, plans and data dirs."""

    folder: Path
    url: str

    def config(self, name: str, object_store: dict[str, Any], archive: dict[str, Any] | None = None) -> Path:
        """Write a config file; return its path."""
        catalog = {"object_store": object_store} | ({"analysis_archive": PLAIN | archive} if archive else {})
        path = self.folder / f"{name}.yaml"
        content = {"credentials": {"database": {"db_connect": self.url}}, "services": {"catalog": catalog}}
        path.write_text(yaml.safe_dump(content))
        return path

    def add(
        self, archive_id: str, data: bytes, user: str = "admin", bucket: str = "policy_bundles", **row: Any
    ) -> None:
        """Add a document in driver db, as a service would; keyword arguments change the catalog row."""
        self.add_all([(archive_id, data, user, bucket)], **row)

    def add_all(self, documents: Iterable[tuple[str, bytes, str, str]], **row: Any) -> None:
        """Add documents, each of archiveId, content, account and logical bucket, by one connection."""
        given = list(documents)
        connection = connect(self.url)
        insert(connection, "archive_document", [_content(*document) for document in given])
        insert(connection, "archive_metadata", [_catalog_row(*document) | row for document in given])
        connection.commit()
        connection.close()

    def row(
        self, archive_id: str, data: bytes, user: str = "admin", bucket: str = "policy_bundles", **row: Any
    ) -> None:
        """Add a catalog row for content that is in driver db or elsewhere."""
        self.insert("archive_metadata", _catalog_row(archive_id, data, user, bucket) | row)

    def fill(self, count: int = 30) -> None:
        """Add so many documents: two accounts, three logical buckets, text and bytes."""
        documents = []
        for number in range(count):
            data = bytes([128 + number % 64]) * 3000 if number % 5 == 0 else f'{{"number": {number}}}'.encode() * number
            bucket = ("policy_bundles", "analysis_data", "analysis_archive")[number % 3]
            documents.append((f"sha256:{number:04}", data, ("admin", "team-a")[number % 2], bucket))
        self.add_all(documents)

    def insert(self, table: str, *rows: dict[str, Any]) -> None:
        """Insert rows that have the same columns."""
        connection = connect(self.url)
        insert(connection, table, list(rows))
        connection.commit()
        connection.close()

    def sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        return query(self.url, text, values)

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return catalog and content tables, every column of every row."""
        return {table: dump(self.url, table) for table in TABLES}

    def urls(self) -> list[str]:
        return sorted(row[0] for row in self.sql("SELECT content_url FROM archive_metadata"))

    def read(self, config: Path) -> dict[str, bytes | Unreadable]:
        """Read every document as a service with this config does, by archiveId."""
        return {name[2]: content for name, content in read_all(config).items()}

    def plan(self, source: Path, dest: Path, out: str = "p.json", **request: Any) -> PlanFile:
        return verbs.plan(source, dest, request=PlanRequest(**request), out=self.folder / out)

    def apply(self, plan: PlanFile | str, **options: Any) -> Outcome:
        path = self.folder / plan if isinstance(plan, str) else plan.path
        return verbs.apply(verbs.prepare(path), options=RunOptions(**options))

    def undo(self, plan: str = "p.undo.json", **options: Any) -> Outcome:
        return self.apply(plan, **options)


def swift(server: Any, container: str, **more: Any) -> dict[str, Any]:
    settings = {"auth": server.auth_url, "user": server.access_key, "key": server.secret_key, "container": container}
    return {"storage_driver": {"name": "swift", "config": {"create_container": True, **settings, **more}}}


def _content(archive_id: str, data: bytes, user: str, bucket: str) -> dict[str, Any]:
    try:
        text, is_base64 = data.decode(), False
    except UnicodeDecodeError:
        text, is_base64 = base64.encodebytes(data).decode(), True
    times = {"created_at": NOW, "last_updated": NOW, "record_state_key": "active", "record_state_val": None}
    return _name(archive_id, user, bucket) | times | {"jsondata": text, "b64_encoded": is_base64}


def _catalog_row(archive_id: str, data: bytes, user: str, bucket: str) -> dict[str, Any]:
    return (
        _name(archive_id, user, bucket)
        | {"content_url": f"db://{user}/{bucket}/{archive_id}", "is_compressed": False, "digest": md5(data)}
        | {"size": len(data), "document_metadata": None, "created_at": NOW, "last_updated": NOW}
        | {"record_state_key": "active", "record_state_val": None}
    )


def _name(archive_id: str, user: str, bucket: str) -> dict[str, Any]:
    return {"bucket": bucket, "archiveId": archive_id, "userId": user, "documentName": f"{archive_id}.json"}
