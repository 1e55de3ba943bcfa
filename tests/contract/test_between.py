"""A copy that a server makes between two of its buckets keeps every promise of one that goes through us (R3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from reconcile.catalog import DatabaseOptions, connect
from reconcile.errors import BackendError, DocumentError, TransientError
from reconcile.payload import md5
from reconcile.secret import Secret
from reconcile.stores import Content, Stat, Transfer, Transferred, Write, open_store, server_copy
from reconcile.stores.addresses import Document, Key
from reconcile.stores.objects import ObjectStore
from reconcile.stores.server_copy import BetweenBuckets
from tests.archives import new_sqlite
from tests.contract.conftest import make_backend

ODD: Document = ("Ops #1", "policy_bundles", "a//b ü?&")
DOCUMENTS: dict[Document, bytes] = {("admin", "policy_bundles", "x"): b"x" * 300_000, ODD: bytes(range(256)) * 1200}


@pytest.fixture(params=["s3-moto", "s3-swift", "swift-swift"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ObjectStore, ObjectStore]]:
    driver, _dash, server = request.param.partition("-")
    catalog = connect(DatabaseOptions(url=Secret(new_sqlite(tmp_path))))
    backends = [make_backend(driver, request.getfixturevalue(server), tmp_path) for _end in range(2)]
    stores = [open_store(backend, catalog, "test") for backend in backends]
    for store in stores:
        store.prepare(create=True)
    source, dest = stores
    assert isinstance(source, ObjectStore)
    assert isinstance(dest, ObjectStore)
    source.write([Write(source.address.key(name), data, md5(data)) for name, data in DOCUMENTS.items()])
    yield source, dest
    catalog.close()


def transfers(source: ObjectStore, dest: ObjectStore, **digests: str) -> list[Transfer]:
    return [
        Transfer(source.address.key(name), dest.address.key(name), digests.get(name[2], md5(data)))
        for name, data in DOCUMENTS.items()
    ]


def copied(source: ObjectStore, dest: ObjectStore, todo: list[Transfer]) -> dict[Key, Any]:
    way = dest.shortcut_from(source)
    assert way is not None
    return dict(way.copy(todo))


def test_it_tells_what_reading_and_writing_would_tell(pair: tuple[ObjectStore, ObjectStore]) -> None:
    source, dest = pair
    done = copied(source, dest, transfers(source, dest))
    there = dest.look([dest.address.key(name) for name in DOCUMENTS], digest=True)
    for name, data in DOCUMENTS.items():
        answer, content = done[dest.address.key(name)], source.read([source.address.key(name)])
        assert isinstance(answer, Transferred)
        assert answer.stat == there[dest.address.key(name)]
        assert (answer.stat.size, answer.stat.md5) == (len(data), md5(data))
        assert [answer.version] == [c.version for c in content.values() if isinstance(c, Content)]
        assert dest.read([dest.address.key(name)])[dest.address.key(name)].data == data  # type: ignore[union-attr]


def test_what_is_not_what_the_catalog_says_is_left(pair: tuple[ObjectStore, ObjectStore]) -> None:
    source, dest = pair
    missing = Transfer("nowhere", "nowhere", md5(b""))
    done = copied(source, dest, [*transfers(source, dest, x=md5(b"other")), missing])
    assert set(done) == {dest.address.key(ODD)}
    assert set(dest.look([transfer.dest for transfer in transfers(source, dest)])) == set(done)


def test_what_is_there_is_never_replaced(pair: tuple[ObjectStore, ObjectStore]) -> None:
    source, dest = pair
    taken = dest.address.key(ODD)
    dest.write([Write(taken, b"there before", md5(b"there before"))])
    assert taken not in copied(source, dest, transfers(source, dest))
    assert dest.read([taken])[taken].data == b"there before"  # type: ignore[union-attr]


def test_only_within_one_server_and_account(pair: tuple[ObjectStore, ObjectStore], tmp_path: Path, moto: Any) -> None:
    source, _dest = pair
    catalog = connect(DatabaseOptions(url=Secret(f"sqlite:///{tmp_path / 'anchore.db'}")))
    backend = make_backend("s3", moto, tmp_path)
    settings = backend.settings | {"secret_key": Secret("another")}
    assert open_store(evolve(backend, settings=settings), catalog, "test").shortcut_from(source) is None
    assert source.shortcut_from(open_store(make_backend("localfs", None, tmp_path), catalog, "test")) is None
    catalog.close()


@pytest.mark.parametrize("trouble", ["answer lost", "never served", "altered", "denied"])
def test_trouble_on_the_way(pair: tuple[ObjectStore, ObjectStore], trouble: str) -> None:
    source, dest = pair
    dest.attempts = 2  # type: ignore[misc]
    tried: list[Key] = []

    def copy_one(transfer: Transfer) -> Stat:
        tried.append(transfer.dest)
        if trouble == "denied":
            raise BackendError("access denied")
        if trouble != "never served":
            data = b"altered" if trouble == "altered" else b"x" * 300_000
            stat = dest.write([Write(transfer.dest, data, md5(data))])[transfer.dest]
            if trouble == "altered":
                assert isinstance(stat, Stat)
                return stat
        raise TransientError("no answer")

    todo = [transfer for transfer in transfers(source, dest) if "//" not in str(transfer.dest)]
    way = BetweenBuckets(source, dest, copy_one)
    answer, there = way.copy(todo), dest.look([todo[0].dest])
    if trouble == "answer lost":  # what the first attempt left is this run's own
        assert isinstance(answer[todo[0].dest], Transferred)
        assert there
    elif trouble == "never served":  # it may have been written: not a document to be written again as if it were not
        assert isinstance(answer[todo[0].dest], DocumentError)
    else:
        assert (answer, there) == ({}, {})
    if trouble == "denied":
        way.copy(todo)
        assert len(tried) == 1


@pytest.mark.parametrize("stopped", [0.0, 600.0], ids=["at once", "the process was stopped"])
def test_what_is_written_between_look_and_copy_is_not_replaced(
    pair: tuple[ObjectStore, ObjectStore], monkeypatch: pytest.MonkeyPatch, stopped: float
) -> None:
    """Another executor may have gone on meanwhile, and services written there: a look does not count for long (R1)."""
    source, dest = pair
    now, late = [1000.0], [stopped]
    monkeypatch.setattr(server_copy, "_now", lambda: now[0])
    stat = dest.stat

    def stopped_after(key: Key) -> Stat | None:
        there = stat(key)
        if late[0]:
            now[0] += late[0]
            dest.write([Write(key, b"by a service", md5(b"by a service"))])
        return there

    monkeypatch.setattr(dest, "stat", stopped_after)
    todo = transfers(source, dest)[:1]
    done = copied(source, dest, todo)
    monkeypatch.undo()
    data = dest.read([todo[0].dest])[todo[0].dest].data  # type: ignore[union-attr]
    assert data == (b"by a service" if stopped else DOCUMENTS["admin", "policy_bundles", "x"])
    assert (todo[0].dest in done) == (not stopped)
