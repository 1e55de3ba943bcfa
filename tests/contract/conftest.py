"""One store a driver and server; a new one joins with a line here."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from reconcile.catalog import Catalog, DatabaseOptions, connect
from reconcile.config import Backend
from reconcile.secret import Secret
from reconcile.stores import Store, open_store
from tests.archives import new_sqlite


@frozen
class Subject:
    """A store under test. ``is_text``: it is PostgreSQL text, and cannot hold a NUL character in text."""

    store: Store
    backend: Backend
    catalog: Catalog
    is_text: bool


STORES = (
    *("db-sqlite", "db-postgresql", "db2-sqlite", "db2-postgresql", "localfs", "s3-moto", "s3-swift", "swift-swift"),
    pytest.param("s3-gcs", marks=pytest.mark.matrix),
)


@pytest.fixture(params=STORES)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    driver, _dash, server = request.param.partition("-")
    url = request.getfixturevalue("database") if server == "postgresql" else new_sqlite(tmp_path)
    catalog = connect(DatabaseOptions(url=Secret(url)))
    backend = make_backend(driver, request.getfixturevalue(server) if driver in ("s3", "swift") else None, tmp_path)
    store = open_store(backend, catalog, "test")
    store.prepare(create=True)
    yield Subject(store, backend, catalog, request.param == "db-postgresql")
    catalog.close()


def make_backend(driver: str, server: Any, folder: Path, **changed: Any) -> Backend:
    settings: dict[str, Any] = {}
    if driver == "localfs":
        settings = {"archive_data_dir": str(folder / "archive")}
    if driver == "s3":
        settings = {
            "bucket": f"contract-{uuid.uuid4().hex[:12]}",
            "url": server.url,
            "access_key": Secret(server.access_key),
            "secret_key": Secret(server.secret_key),
            "prefix": "pre/fix-",
            "create_bucket": True,
        }
    if driver == "swift":
        settings = {
            "container": f"contract-{uuid.uuid4().hex[:12]}",
            "auth": server.auth_url,
            "user": Secret(server.access_key),
            "key": Secret(server.secret_key),
            "anchore_key_prefix": "pre/fix-",
            "create_container": True,
        }
    return Backend("object_store", driver, settings | changed)
