"""A copy that does not read back is taken away again: but not what a service wrote there in the meantime (R1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconcile.payload import md5
from reconcile.stores import Content, Write, localfs, open_store, s3
from reconcile.stores.localfs import FileStore
from tests.archives import new_sqlite
from tests.cli.desk import opened
from tests.contract.conftest import make_backend
from tests.servers.moto import MotoServer
from tests.servers.swift import SwiftServer
from tests.world import World

DOCUMENT = ("admin", "policy_bundles", "x")
THEIRS = b"by a service"


def written(store: Any, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Write a document that is damaged on the way; return what is at its key afterwards."""
    key, data = store.address.key(DOCUMENT), b"our own"
    store.write([Write(key, data, md5(data))])
    monkeypatch.undo()
    content = store.read([key])[key]
    return content.data if isinstance(content, Content) else b"nothing"


def test_a_file_that_a_service_wrote_meanwhile_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(World(folder, new_sqlite(folder))) as catalog:
        store = open_store(make_backend("localfs", None, folder), catalog, "test")
        assert isinstance(store, FileStore)
        store.prepare(create=True)
        path = store.data_dir.path(store.address.key(DOCUMENT))

        def read_back(_descriptor: int, _size: int) -> str:
            Path(path + ".new").write_bytes(THEIRS)
            Path(path + ".new").replace(path)
            return md5(b"damaged")

        monkeypatch.setattr(localfs, "md5_of", read_back)
        assert written(store, monkeypatch) == THEIRS


def test_an_object_that_a_service_wrote_meanwhile_stays(
    folder: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server whose ETag is no MD5."""
    with opened(World(folder, new_sqlite(folder))) as catalog:
        store: Any = open_store(make_backend("s3", moto, folder), catalog, "test")
        store.prepare(create=True)

        def read_back(_self: Any, key: Any) -> Content:
            store._clients.boto.put_object(Bucket=store.settings.bucket, Key=key, Body=THEIRS)
            return Content(b"damaged")

        monkeypatch.setattr(s3, "_md5_of", lambda _etag: None)
        monkeypatch.setattr(s3.S3Store, "_get", read_back)
        assert written(store, monkeypatch) == THEIRS


def test_an_object_of_swift_that_a_service_wrote_meanwhile_stays(
    folder: Path, swift: SwiftServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(World(folder, new_sqlite(folder))) as catalog:
        store: Any = open_store(make_backend("swift", swift, folder), catalog, "test")
        store.prepare(create=True)
        put = store._connection.put_object

        def no_etag(*args: Any, **kwargs: Any) -> str:
            put(*args, **kwargs)
            return "none"

        def read_back(_self: Any, key: Any) -> Content:
            put(store.container, key, contents=THEIRS)
            return Content(b"damaged")

        monkeypatch.setattr(store._connection, "put_object", no_etag)
        monkeypatch.setattr(type(store), "_get", read_back)
        assert written(store, monkeypatch) == THEIRS
