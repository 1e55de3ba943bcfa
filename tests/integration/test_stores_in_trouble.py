"""R3, R7: stores that fail, refuse, or are not there; each fails what it has to and nothing else."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.auditing import ownership
from reconcile.auditing.verify_report import Request
from reconcile.errors import (
    BackendError,
    DocumentError,
    Interrupted,
    PlaceChangedError,
    StageFailedError,
    TransientError,
)
from reconcile.running.phases.options import RunOptions
from reconcile.stores.addresses import SwiftAddress
from reconcile.stores.base import Known
from reconcile.stores.concurrency import Gate
from reconcile.stores.localfs import FileStore
from reconcile.stores.s3 import S3Store
from reconcile.stores.swift import SwiftStore
from tests.archives import Place, connect, md5, new_sqlite
from tests.contract.conftest import make_backend
from tests.integration.steps import (
    runs,
    stage_only,
)
from tests.servers.moto import MotoServer
from tests.servers.swift import SwiftServer
from tests.world import DB, DB2, World, localfs, s3


def test_a_store_is_refused_before_a_run_is_recorded(lite: World, moto: MotoServer) -> None:
    lite.fill(3)
    plan = lite.plan(lite.config("config", DB), lite.config("dest", s3(moto, "never-made", create_bucket=False)))
    with pytest.raises(BackendError, match="the bucket is not there"):
        lite.apply(plan)
    assert runs(lite) == []


def test_a_data_dir_that_is_not_mounted_any_more_is_noticed(lite: World) -> None:
    lite.fill(3)
    archive = lite.folder / "archive"
    plan = lite.plan(lite.config("config", DB), lite.config("dest", localfs(archive)))
    stage_only(lite, plan)
    archive.rename(lite.folder / "unmounted")
    archive.mkdir()
    with pytest.raises(PlaceChangedError, match="is not the place that run"):
        lite.apply(plan)


@pytest.mark.parametrize("status", ["413 Request Entity Too Large", "401 Unauthorized", "500 Internal Error"])
def test_swift_refuses_a_bulk_delete_in_the_body_of_a_200(swift: SwiftServer, status: str) -> None:
    """R7: then one by one; nothing is called deleted that is not."""

    class Connection:
        def __init__(self) -> None:
            self.deleted: list[str] = []

        def head_object(self, _container: str, key: str) -> dict[str, str]:
            if key in self.deleted:
                from swiftclient.exceptions import ClientException

                raise ClientException("gone", http_status=404)
            return {"etag": "v", "content-length": "1"}

        def post_account(self, **_: Any) -> tuple[dict[str, str], bytes]:
            return {}, json.dumps({"Response Status": status, "Errors": [], "Number Deleted": 0}).encode()

        def delete_object(self, _container: str, key: str) -> None:
            self.deleted.append(key)

    class Store(SwiftStore):
        _connection = Connection()

    store = Store(SwiftAddress("swift", "id", "c", ""), make_backend("swift", swift, Path()))
    store._can_delete_many = True
    assert set(store.delete([Known(str(number), "v") for number in range(10)]).values()) == {None}
    assert len(store._connection.deleted) == 10


def test_a_source_that_a_destination_not_yet_made_should_hold(lite: World) -> None:
    lite.row("x", b"x", content_url=f"file://{lite.folder}/later/x/y/z.json")
    dest = lite.config("dest", DB2, localfs(lite.folder / "later"))
    plan = lite.plan(lite.config("config", DB), dest, probe="exists")
    assert [blocker.reason for blocker in plan.blockers()] == ["source_missing"]


def test_pruning_does_not_disturb_writing(tmp_path: Path) -> None:
    """Threads that delete the last file of a folder, and threads that put another there."""
    from concurrent.futures import ThreadPoolExecutor

    from reconcile.stores import Stat, Write
    from reconcile.stores.addresses import FileAddress

    store = FileStore(FileAddress(str(tmp_path / "archive")), "t")
    store.prepare(create=True)

    def churn(number: int) -> bool:
        for _round in range(50):
            key = f"{'0' * 32}/b/00/{number}.json"
            stat = store.write([Write(key, b"x", md5(b"x"))])[key]
            if not isinstance(stat, Stat) or store.delete([Known(key, stat.version or "")])[key] is not None:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(churn, range(4)))


@pytest.mark.parametrize("error", [DocumentError("refused", "400"), TransientError("500")])
def test_one_source_that_the_server_does_not_tell_of_hinders_no_other(
    folder: Path, moto: MotoServer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Between buckets too: that document fails, or goes the ordinary way (R7)."""
    world, there = World(folder, new_sqlite(folder)), Place(folder, "", moto)
    for number in range(4):
        world.add(str(number), b"x" * 300_000 + bytes([48 + number]))
    first, second = there.buckets
    world.apply(world.plan(world.config("db", DB), world.config("old", s3(moto, first)), "first.json"))
    world.plan(folder / "old.yaml", world.config("new", s3(moto, second)))
    stat = S3Store._stat

    def refusing(self: S3Store, key: Any) -> Any:
        if self.settings.bucket == first and key.endswith("/0"):
            raise error
        return stat(self, key)

    monkeypatch.setattr(S3Store, "_stat", refusing)
    monkeypatch.setattr(S3Store, "attempts", 1)
    with suppress(StageFailedError):
        world.apply("p.json", keep_source=True)
    found = there.client().list_objects_v2(Bucket=second).get("Contents", [])
    assert {entry["Key"][-1] for entry in found} >= {"1", "2", "3"}


def test_a_container_whose_server_gives_short_pages_is_listed_whole() -> None:
    """radosgw and clusters with a lower container_listing_limit give fewer names than were asked for."""

    names = [f"{number:05}" for number in range(25)]

    class Server:
        def get_container(self, _container: str, marker: str | None, limit: int, **_more: Any) -> Any:
            after = [name for name in names if name > (marker or "")]
            return {}, [{"name": name, "bytes": 1, "hash": "0" * 32} for name in after[: min(limit, 10)]]

    store = object.__new__(SwiftStore)
    store.address, store.container, store._prefix = SwiftAddress("swift", "swift:x", "c"), "c", ""
    store._gate, store._local = Gate(1), threading.local()
    store._local.connection = Server()
    assert len(list(store.listing())) == 25


def test_a_signal_while_waiting_for_the_lock(folder: Path, database: str) -> None:
    from reconcile.control import Control

    world = World(folder, database)
    world.fill(2)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    holder = connect(database)
    holder.cursor().execute("SELECT pg_advisory_lock(2, 1)")
    with pytest.raises(Interrupted):
        verbs.apply(verbs.prepare(plan.path), options=RunOptions(lock_wait=60), control=Control(signal=2))
    holder.close()


def test_a_switch_while_orphans_are_looked_for_makes_none(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that rows refer to is no orphan, though they came to do so between two looks at the database."""
    small.apply("p.json", stage_only=True)
    then = ownership.referred_by_other_names

    def switched_meanwhile(*arguments: Any) -> Any:
        small.apply("p.json")
        return then(*arguments)

    monkeypatch.setattr(ownership, "referred_by_other_names", switched_meanwhile)
    audited = verbs.verify(small.folder / "new.yaml", request=Request(orphans=True))
    assert audited.orphans is not None
    assert not len(audited.orphans.listed)
