"""Servers for the whole session, each started when the first test asks for it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

from reconcile import secret
from reconcile.logs import configure
from tests.archives import new_sqlite
from tests.servers import chromium as browsers
from tests.servers.gcs import GcsServer
from tests.servers.moto import MotoServer
from tests.servers.postgresql import PostgresServer
from tests.servers.swift import SwiftServer
from tests.world import World

# Nothing of the machine's own AWS or reconcile settings may reach a test.
for name in [name for name in os.environ if name.startswith(("AWS_", "RECONCILE_", "ANCHORE", "PG"))]:
    del os.environ[name]
configure("error")
gc.set_threshold(50_000, 20, 100)  # as a command does: a tenth of what the tests compute
if (
    threading.current_thread() is threading.main_thread()
):  # a shell's background jobs ignore it, and so would every child
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


_SAMPLED = {"cli", "crash", "engines", "faults", "integration"}  # whose tests start processes and servers
_LONG = {"crash", "deploy", "engines", "guides"}  # whose tests take seconds each, most of them to wait


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave most variants of a slow test to ``make test-all``: of two, as on two databases, one; of more, every third.

    Which one its name decides, so that all kinds of variants come by.
    """
    variants: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.path.parent.name in _SAMPLED and item.get_closest_marker("matrix") is None:
            variants.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, found in variants.items():
        step = min(3, len(found))
        first = crc32(name.encode()) % step
        for number, item in enumerate(found):
            if number % step != first:
                item.add_marker("matrix")
    items.sort(key=lambda item: item.path.parent.name not in _LONG)  # what is long ends beside what is short


@pytest.fixture(autouse=True)
def who_takes_what_nobody_handles() -> Iterator[None]:
    """Give pytest back what a command that ran in this process had taken."""
    before = sys.excepthook, sys.unraisablehook, threading.excepthook
    yield
    sys.excepthook, sys.unraisablehook, threading.excepthook = before


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    server = MotoServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def gcs(moto: MotoServer) -> Iterator[GcsServer]:
    server = GcsServer(moto)
    yield server
    server.close()


@pytest.fixture(scope="session")
def swift() -> Iterator[SwiftServer]:
    if find_spec("swift") is None:
        pytest.skip("OpenStack Swift is not installed: it exists for Linux only")
    server = SwiftServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[browsers.Chromium]:
    if browsers.find() is None:
        pytest.skip("Chromium is not installed: make test installs it as root on Debian")
    browser = browsers.Chromium()
    yield browser
    browser.close()


@pytest.fixture(scope="session", autouse=True)
def statements_compiled_once() -> Iterator[None]:
    """Each command makes an engine, which would compile each statement anew: a quarter of what a test computes.

    So all engines of one kind of database share what is compiled, as those of one process of an operator do not.
    """
    compiled: LRUCache[Any, Any] = LRUCache(5000)
    connecting = import_module("reconcile.catalog.connect")
    make = connecting._engine

    def sharing(*arguments: Any) -> Engine:
        engine: Engine = make(*arguments)
        engine.update_execution_options(compiled_cache=compiled)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connecting, "_engine", sharing)
        patch.setattr(DefaultDialect, "__hash__", lambda self: hash(type(self)))
        patch.setattr(DefaultDialect, "__eq__", lambda self, other: type(self) is type(other))
        yield


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets of one test are not scrubbed from what another prints."""
    monkeypatch.setattr(secret, "_known", set())


@pytest.fixture
def database(postgresql: PostgresServer) -> str:
    """URL of a fresh PostgreSQL database with the vendor's schema."""
    return postgresql.database()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, folder: Path) -> World:
    """An empty archive on either database."""
    return World(folder, new_sqlite(folder) if request.param == "sqlite" else request.getfixturevalue("database"))
