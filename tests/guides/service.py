"""A service that stands for the vendor's: it reads, adds, overwrites and removes documents all the time, by its config.

It keeps a ledger of what it wrote, so that a document that is lost, old or unreadable is noticed. As the vendor's it
writes the content first and the catalog row after it, each in a transaction of its own.
"""

from __future__ import annotations

import base64
import random
import threading
import time
import zlib
from hashlib import md5
from pathlib import Path
from typing import Any

import yaml

from examples.service_reader import Reader, Unreadable, read_all
from tests.archives import connect, insert
from tests.world import World

_PAUSE = 0.02
_BUCKETS = ("policy_bundles", "analysis_data", "analysis_archive")

Key = tuple[str, str, str]  # userId, bucket, archiveId


class Service:
    """One service of a `World`; its config is ``config.yaml``, read when it starts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.documents: dict[Key, bytes] = {}
        self.complaints: list[str] = []
        self.written = 0
        self._random = random.Random(4)
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    @property
    def config_path(self) -> Path:
        return self.world.folder / "config.yaml"

    def start(self) -> None:
        """Start; what is there must be what was there when the service stopped."""
        assert self._thread is None, "started twice"
        if self.documents:
            self.check()
        else:
            self.documents = self._all()
        self._ended.clear()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        """Stop, if it is running; the last heartbeat stays as it is."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def work(self, count: int = 12) -> None:
        """Let it do so many things more, if it is running."""
        until = self.written + count
        while self._thread is not None and self._thread.is_alive() and self.written < until:
            time.sleep(_PAUSE)

    def let_time_pass(self) -> None:
        """Make heartbeats as old as those of a service that was stopped a while ago."""
        self.world.sql("UPDATE services SET heartbeat = heartbeat - 200")

    def check(self) -> None:
        """Read every document with the config of now, and compare it with the ledger."""
        assert self.complaints == []
        found = self._all()
        assert set(found) == set(self.documents)
        assert [name for name in found if found[name] != self.documents[name]] == []

    def _all(self) -> dict[Key, Any]:
        return {name[:3]: content for name, content in read_all(self.config_path, self.world.url).items()}

    def _serve(self) -> None:
        connection = connect(self.world.url)
        try:
            desk = _Desk(yaml.safe_load(self.config_path.read_text()), connection)
            while not self._ended.wait(_PAUSE):
                desk.beat()
                self._do_something(desk)
        except Exception as error:  # noqa: BLE001 - told by the test, in its own thread
            self.complaints.append(repr(error))
        finally:
            connection.close()

    def _do_something(self, desk: _Desk) -> None:
        what = self._random.random()
        known = sorted(self.documents)
        key = self._random.choice(known) if known else None
        if key is None or what < 0.3:
            key = ("admin", self._random.choice(_BUCKETS), f"new-{self.written}")
            self._put(desk, key)
        elif what < 0.5:
            self._put(desk, key)
        elif what < 0.6 and len(known) > 10:
            desk.remove(key)
            del self.documents[key]
        elif desk.read(key) != self.documents[key]:
            self.complaints.append(f"{key}: not what was written")
        self.written += 1

    def _put(self, desk: _Desk, key: Key) -> None:
        data = f'{{"written": {self.written}}}'.encode() * self._random.randrange(1, 200)
        self.documents[key] = data if self._random.random() < 0.8 else data + b"\xff"
        desk.put(key, self.documents[key])


class _Desk:
    """Reads and writes by the vendor's rules."""

    def __init__(self, config: dict[str, Any], connection: Any) -> None:
        catalog = config["services"]["catalog"]
        self._main = catalog["object_store"]
        self._archive = catalog.get("analysis_archive") or self._main
        self._connection = connection
        self._reader = Reader(config, connection)

    def beat(self) -> None:
        now = int(time.time())
        if not self._sql("UPDATE services SET heartbeat = %s WHERE hostid = 'guide'", now):
            row = {"hostid": "guide", "servicename": "catalog", "base_url": "http://x", "status": True}
            insert(self._connection, "services", [row | {"heartbeat": now}])
        self._connection.commit()

    def read(self, key: Key) -> bytes:
        cursor = self._connection.cursor()
        cursor.execute(
            "SELECT content_url, is_compressed, digest FROM archive_metadata"
            ' WHERE "userId" = %s AND bucket = %s AND "archiveId" = %s',
            key,
        )
        row = cursor.fetchone()
        if row is None:
            raise Unreadable("no row")
        data = self._reader._document(key[1], *row)
        self._connection.commit()
        return data

    def put(self, key: Key, data: bytes) -> None:
        section = self._archive if key[1] == "analysis_archive" else self._main
        compression = section.get("compression") or {}
        driver = section["storage_driver"]["name"]
        compress = bool(
            compression.get("enabled") and driver != "db" and len(data) > 1024 * compression["min_size_kbytes"]
        )
        stored = zlib.compress(data, 3) if compress else data
        url = self._store(section, key, stored)
        now = int(time.time())
        changed = self._sql(
            "UPDATE archive_metadata SET content_url = %s, is_compressed = %s, digest = %s, size = %s,"
            ' last_updated = %s WHERE "userId" = %s AND bucket = %s AND "archiveId" = %s',
            *(url, compress, md5(stored).hexdigest(), len(stored), now, *key),
        )
        if not changed:
            row = _named(key) | _times(now) | {"content_url": url, "is_compressed": compress}
            more = {"digest": md5(stored).hexdigest(), "size": len(stored), "document_metadata": None}
            insert(self._connection, "archive_metadata", [row | more])
        self._connection.commit()

    def remove(self, key: Key) -> None:
        section = self._archive if key[1] == "analysis_archive" else self._main
        driver, settings = section["storage_driver"]["name"], section["storage_driver"]["config"]
        if driver == "s3":
            self._reader._client(settings).delete_object(Bucket=settings["bucket"], Key=_object_key(settings, key))
        else:
            self._sql('DELETE FROM archive_document WHERE "userId" = %s AND bucket = %s AND "archiveId" = %s', *key)
        self._connection.commit()
        self._sql('DELETE FROM archive_metadata WHERE "userId" = %s AND bucket = %s AND "archiveId" = %s', *key)
        self._connection.commit()

    def _store(self, section: dict[str, Any], key: Key, stored: bytes) -> str:
        driver, settings = section["storage_driver"]["name"], section["storage_driver"]["config"]
        if driver == "s3":
            name = _object_key(settings, key)
            kind = "binary/octet-stream"
            self._reader._client(settings).put_object(
                Bucket=settings["bucket"], Key=name, Body=stored, ContentType=kind
            )
            return f"s3://{settings['bucket']}/{name}"
        assert driver == "db", "the guides have services at db and s3"
        try:
            text, is_base64 = stored.decode(), False
        except UnicodeDecodeError:
            text, is_base64 = base64.encodebytes(stored).decode(), True
        now = int(time.time())
        changed = self._sql(
            "UPDATE archive_document SET jsondata = %s, b64_encoded = %s, last_updated = %s"
            ' WHERE "userId" = %s AND bucket = %s AND "archiveId" = %s',
            *(text, is_base64, now, *key),
        )
        if not changed:
            row = _named(key) | _times(now) | {"jsondata": text, "b64_encoded": is_base64}
            insert(self._connection, "archive_document", [row])
        self._connection.commit()
        return f"db://{'/'.join(key)}"

    def _sql(self, text: str, *values: Any) -> int:
        cursor = self._connection.cursor()
        cursor.execute(text, values)
        return int(cursor.rowcount)


def _object_key(settings: dict[str, Any], key: Key) -> str:
    return (settings.get("prefix") or "") + "/".join(key)


def _named(key: Key) -> dict[str, Any]:
    user, bucket, archive_id = key
    return {"userId": user, "bucket": bucket, "archiveId": archive_id, "documentName": f"{archive_id}.json"}


def _times(now: int) -> dict[str, Any]:
    return {"created_at": now, "last_updated": now, "record_state_key": "active", "record_state_val": None}
