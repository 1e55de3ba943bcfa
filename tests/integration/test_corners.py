"""Corners that an adversarial reading found: each was a loss, a dead end, or a failure reported as success."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.errors import (
    BackendError,
    ConfigError,
    PlaceChangedError,
    PlanFileError,
    ServicesRunningError,
    StageFailedError,
    StaleError,
    UnconfirmedError,
)
from reconcile.planning.planfile import open_plan
from reconcile.running.phases import order
from reconcile.running.record.outcome import Outcome
from reconcile.running.record.records import find_runs
from reconcile.secret import Secret
from reconcile.stores.localfs import FileStore
from reconcile.stores.s3 import S3Store
from tests.archives import md5, new_sqlite
from tests.servers.moto import MotoServer
from tests.world import COMPRESSED, DB, DB2, World, localfs, s3


@pytest.fixture
def lite(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


def stage_only(world: World, plan: Any) -> str:
    """Stage a plan and be refused at the switch; return the run's id."""
    world.sql("INSERT INTO services (hostid, servicename, heartbeat) VALUES ('h', 's', %s)", int(time.time()))
    with pytest.raises(ServicesRunningError):
        world.apply(plan, wait_for_services=0)
    world.sql("DELETE FROM services")
    return runs(world)[0].run_id


def runs(world: World) -> list[Any]:
    with verbs.opened(verbs.DatabaseOptions(url=Secret(world.url))) as catalog:
        return find_runs(catalog)


def undo_run(world: World, run_id: str, **options: Any) -> Outcome:
    with verbs.opened(verbs.DatabaseOptions(url=Secret(world.url))) as catalog:
        return verbs.undo(catalog, verbs.undo_plan_of(catalog, run_id, None, None, **options))


def all_readable(world: World, config: Path) -> bool:
    return all(isinstance(content, bytes) for content in world.read(config).values())


def test_undo_of_an_abandoned_run_spares_copies_that_rows_name_by_a_symlink(lite: World) -> None:
    """R3: by location, not by the text of the URL."""
    lite.fill(6)
    (lite.folder / "real").mkdir()
    (lite.folder / "link").symlink_to(lite.folder / "real")
    start = lite.config("start", DB)
    first = lite.plan(start, lite.config("real", localfs(lite.folder / "real")))
    abandoned = stage_only(lite, first)
    by_link = lite.config("link", localfs(lite.folder / "link"))
    lite.apply(lite.plan(start, by_link, "q.json"))
    undo_run(lite, abandoned)
    assert all_readable(lite, by_link)


def test_three_rows_of_one_document_at_two_places(world: World) -> None:
    """R1: a destination has one content; the rows whose content went elsewhere stay where they are."""
    world.add("x", b"first", documentName="1")
    there = {"userId": "admin", "bucket": "policy_bundles", "key": "x", "version": ""}
    other = {"object_metadata": None, "content": b"second", "created_at": 1, "last_updated": 1}
    world.insert("object_storage", there | other)
    for name in ("2", "3"):
        world.row("x", b"second", documentName=name, content_url="db2://admin/policy_bundles/x")
    dest = world.config("dest", localfs(world.folder / "archive"))
    plan = world.plan(world.config("config", DB, DB2), dest)
    assert [blocker.reason for blocker in plan.blockers()] == ["destination_taken", "destination_taken"]
    world.apply(plan, leave_blocked=True)
    rows = dict(world.sql('SELECT "documentName", digest FROM archive_metadata'))
    assert rows == {"1": md5(b"first"), "2": md5(b"second"), "3": md5(b"second")}
    assert world.sql("SELECT count(*) FROM object_storage") == [(1,)]


def test_limit_does_not_cut_inside_a_document(world: World) -> None:
    world.add("x", b"x", documentName="1")
    world.row("x", b"x", documentName="2")
    world.add("y", b"y")
    plan = world.plan(world.config("config", DB), world.config("dest", DB2), limit=1)
    assert [move.archiveId for move in plan.moves()] == ["x", "x"]


def test_keep_source_counts_on_a_resumed_run(lite: World) -> None:
    lite.fill(6)
    plan = lite.plan(lite.config("config", DB), lite.config("dest", DB2))
    stage_only(lite, plan)
    lite.apply(plan, keep_source=True)
    assert lite.sql("SELECT count(*) FROM archive_document") == [(6,)]


def test_a_source_is_kept_when_the_adopted_copy_is_compressed_in_another_way(lite: World) -> None:
    """R5: undo gives back the original's very bytes."""
    import zlib

    document = b"a document that is long enough " * 100
    one, two = lite.folder / "one", lite.folder / "two"
    one.mkdir()
    two.mkdir()
    source, dest = lite.config("one", COMPRESSED | localfs(one)), lite.config("two", COMPRESSED | localfs(two))
    start = lite.config("start", DB)
    lite.add("x", document)
    lite.apply(lite.plan(start, source, "setup.json"))
    (here,) = one.rglob("*.json")
    there = two / here.relative_to(one)
    there.parent.mkdir(parents=True)
    there.write_bytes(zlib.compress(document, 9))
    before = here.read_bytes()
    lite.apply(lite.plan(source, dest))
    assert lite.read(dest) == {"x": document}
    lite.undo()
    assert here.read_bytes() == before
    assert there.exists()


def test_a_document_overwritten_while_staged_goes_with_the_next_plan(lite: World) -> None:
    """R6: an unfinished run does not stand in the way of a new plan."""
    lite.fill(6)
    source, dest = lite.config("config", DB), lite.config("dest", DB2)
    plan = lite.plan(source, dest)
    stage_only(lite, plan)
    lite.sql("UPDATE archive_document SET jsondata = 'newer' WHERE \"archiveId\" = 'sha256:0001'")
    lite.sql("UPDATE archive_metadata SET digest = %s, size = 5 WHERE \"archiveId\" = 'sha256:0001'", md5(b"newer"))
    with pytest.raises(StaleError):
        lite.apply(plan)
    assert lite.apply(lite.plan(source, dest, "q.json")).documents == 6
    assert lite.read(dest)["sha256:0001"] == b"newer"


def test_a_kill_after_old_content_gave_way_leaves_no_orphan(lite: World, monkeypatch: Any) -> None:
    """R5: the intent is recorded before the bytes go out, also where old content is replaced."""
    from reconcile.running.phases.stage import Stager

    lite.fill(3)
    source, dest = lite.config("config", DB), lite.config("dest", DB2)
    stage_only(lite, lite.plan(source, dest))
    lite.sql("UPDATE archive_document SET jsondata = 'newer' WHERE \"archiveId\" = 'sha256:0001'")
    lite.sql("UPDATE archive_metadata SET digest = %s, size = 5 WHERE \"archiveId\" = 'sha256:0001'", md5(b"newer"))
    tables = lite.tables()
    plan = lite.plan(source, dest, "q.json")

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Stager, "_record", killed)
        with pytest.raises(KeyboardInterrupt):
            lite.apply(plan)
    lite.apply(plan)
    lite.undo("q.undo.json")
    assert b"newer" not in {row[5] for row in lite.tables()["object_storage"]}
    assert lite.tables()["archive_document"] == tables["archive_document"]


def test_an_undo_with_changes_sees_what_came_after_its_first_attempt(lite: World, monkeypatch: Any) -> None:
    lite.fill(6)
    source, dest = lite.config("config", DB), lite.config("dest", DB2)
    run_id = lite.apply(lite.plan(source, dest)).run_id

    def service_adds(name: str) -> None:
        key = {"userId": "admin", "bucket": "b", "key": name, "version": ""}
        lite.insert("object_storage", key | {"content": name.encode(), "created_at": 1, "last_updated": 1})
        url = f"db2://admin/b/{name}"
        lite.row(name, name.encode(), bucket="b", content_url=url, last_updated=int(time.time()) + 5)

    def busy(*_arguments: object) -> None:
        raise ServicesRunningError("services may be running")

    service_adds("one")
    with monkeypatch.context() as patched:
        patched.setattr(order, "wait_for_quiet", busy)
        with pytest.raises(ServicesRunningError):
            undo_run(lite, run_id, with_changes=True)
    service_adds("two")
    assert undo_run(lite, run_id, with_changes=True).documents == 8
    assert all_readable(lite, source)


def test_an_undo_with_changes_names_what_cannot_go_back(lite: World) -> None:
    """R7: a new document whose account driver db cannot name."""
    from reconcile.stores.addresses import FileAddress

    lite.fill(3)
    archive = lite.folder / "archive"
    source, dest = lite.config("config", DB), lite.config("dest", localfs(archive))
    run_id = lite.apply(lite.plan(source, dest)).run_id
    url = FileAddress(str(archive)).url(("a/b", "b", "n"))
    path = Path(url.removeprefix("file://"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"doc")
    lite.row("n", b"doc", user="a/b", bucket="b", content_url=url, last_updated=int(time.time()) + 5)
    outcome = undo_run(lite, run_id, with_changes=True)
    assert (outcome.documents, outcome.left, outcome.unreadable) == (3, 1, 1)


def test_copies_that_were_taken_over_are_cleaned_by_the_undo_of_who_took_them(lite: World) -> None:
    lite.fill(6)
    source, dest = lite.config("config", DB), lite.config("dest", localfs(lite.folder / "archive"))
    first = stage_only(lite, lite.plan(source, dest))
    tables = lite.tables()
    second = lite.apply(lite.plan(source, dest, "q.json")).run_id
    assert undo_run(lite, second).kept == 0
    undo_run(lite, first)
    assert lite.tables() == tables
    assert not list((lite.folder / "archive").rglob("*.json"))


def test_a_half_dropped_undo_does_not_revive_an_undone_run(lite: World, monkeypatch: Any) -> None:
    lite.fill(3)
    source, dest = lite.config("config", DB), lite.config("dest", DB2)
    plan = lite.plan(source, dest)
    run_id = lite.apply(plan).run_id

    def busy(*_arguments: object) -> None:
        raise ServicesRunningError("services may be running")

    with monkeypatch.context() as patched:
        patched.setattr(order, "wait_for_quiet", busy)
        with pytest.raises(ServicesRunningError):
            lite.undo()
    attempt = runs(lite)[0].run_id
    lite.sql("UPDATE reconcile_runs SET state = 'undoing' WHERE run_id = %s", attempt)
    undo_run(lite, run_id)
    assert undo_run(lite, attempt).already == "the run is undone already"
    assert lite.apply(plan).already is None


def test_undo_of_an_older_run_leaves_a_later_runs_undo_plan_alone(lite: World) -> None:
    lite.fill(3)
    source, dest = lite.config("config", DB), lite.config("dest", DB2)
    plan = lite.plan(source, dest)
    first = lite.apply(plan).run_id
    lite.undo()
    second = lite.apply(plan).run_id
    assert undo_run(lite, first).already == "the run is undone already"
    assert open_plan(lite.folder / "p.undo.json").header.undo_of == second
    assert lite.undo().already is None
    assert all_readable(lite, source)


def test_a_store_is_refused_before_a_run_is_recorded(lite: World, moto: MotoServer) -> None:
    lite.fill(3)
    plan = lite.plan(lite.config("config", DB), lite.config("dest", s3(moto, "never-made", create_bucket=False)))
    with pytest.raises(BackendError, match="the bucket is not there"):
        lite.apply(plan)
    assert runs(lite) == []


def test_a_source_that_the_store_would_not_delete_is_tried_again(
    lite: World, moto: MotoServer, monkeypatch: Any
) -> None:
    """R7: the run is not done, and says so; the same command finishes it."""
    from reconcile.errors import DocumentError

    lite.fill(6)
    source = lite.config("source", s3(moto, "undeletable"))
    lite.apply(lite.plan(lite.config("start", DB), source, "setup.json"))
    plan = lite.plan(source, lite.config("dest", DB2))
    with monkeypatch.context() as patched:
        denied = DocumentError("refused", "AccessDenied")
        patched.setattr(S3Store, "_delete_many", lambda _self, keys: dict.fromkeys(keys, denied))
        with pytest.raises(BackendError, match="6 sources could not be deleted"):
            lite.apply(plan)
    assert runs(lite)[0].state == "switched"
    assert lite.apply(plan).kept == 0


def test_an_etag_that_is_no_md5_is_read_behind(lite: World, moto: MotoServer, monkeypatch: Any) -> None:
    """A bucket with KMS encryption: a resumed run knows its own copies, an undo drops them."""
    from reconcile.stores import s3 as driver

    lite.fill(6)
    monkeypatch.setattr(driver, "_md5_of", lambda etag: md5((etag or "").encode()))
    source, dest = lite.config("config", DB), lite.config("dest", s3(moto, "kms"))
    tables = lite.tables()
    plan = lite.plan(source, dest)
    run_id = stage_only(lite, plan)
    lite.sql("UPDATE reconcile_moves SET state = 'planned'")
    assert lite.apply(plan).documents == 6
    lite.undo()
    assert lite.tables() == tables
    run_id = stage_only(lite, lite.plan(source, dest, "q.json"))
    assert undo_run(lite, run_id).left == 0


def test_copies_that_are_no_longer_ours_are_left_and_said(lite: World) -> None:
    lite.fill(3)
    archive = lite.folder / "archive"
    run_id = stage_only(lite, lite.plan(lite.config("config", DB), lite.config("dest", localfs(archive))))
    next(archive.rglob("*.json")).write_bytes(b"somebody else's")
    outcome = undo_run(lite, run_id)
    assert outcome.left == 1
    assert len(outcome.not_dropped) == 1
    assert len(list(archive.rglob("*.json"))) == 1


def test_what_a_kill_left_beside_a_file_goes_with_the_undo(lite: World, monkeypatch: Any) -> None:
    lite.fill(3)
    archive = lite.folder / "archive"
    plan = lite.plan(lite.config("config", DB), lite.config("dest", localfs(archive)))

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "_name", killed)
        patched.setattr(os, "unlink", lambda *_a, **_k: None)
        with pytest.raises(KeyboardInterrupt):
            lite.apply(plan)
    assert list(archive.rglob("*.tmp"))
    undo_run(lite, runs(lite)[0].run_id)
    assert not list(archive.rglob("*.tmp"))


def test_a_file_that_does_not_read_back_is_taken_away_again(lite: World, monkeypatch: Any) -> None:
    from reconcile.stores import localfs as driver

    lite.fill(3)
    plan = lite.plan(lite.config("config", DB), lite.config("dest", localfs(lite.folder / "archive")))
    with monkeypatch.context() as patched:
        patched.setattr(driver, "md5_of", lambda _descriptor, _size: "0" * 32)
        with pytest.raises(UnconfirmedError, match="holds none of the first 3 documents as they were sent"):
            lite.apply(plan)
    assert lite.apply(plan).documents == 3


def test_too_big_once_decompressed_is_one_documents_failure(lite: World, monkeypatch: Any) -> None:
    from reconcile import stores

    lite.add("big", b"x" * 5000)
    middle = lite.config("middle", COMPRESSED | localfs(lite.folder / "archive"))
    lite.apply(lite.plan(lite.config("start", DB), middle, "setup.json"))
    monkeypatch.setitem(stores._LARGEST, "db2", 1000)
    with pytest.raises(StageFailedError, match="big: too_big"):
        lite.apply(lite.plan(middle, lite.config("dest", DB2)))


def test_a_data_dir_that_is_not_mounted_any_more_is_noticed(lite: World) -> None:
    lite.fill(3)
    archive = lite.folder / "archive"
    plan = lite.plan(lite.config("config", DB), lite.config("dest", localfs(archive)))
    stage_only(lite, plan)
    archive.rename(lite.folder / "unmounted")
    archive.mkdir()
    with pytest.raises(PlaceChangedError, match="is not the place that run"):
        lite.apply(plan)


def test_a_plan_with_blockers_alone_is_not_called_done(lite: World) -> None:
    lite.row("tape", b"x", content_url="tape://x")
    plan = lite.plan(lite.config("config", DB), lite.config("dest", DB2))
    assert lite.apply(plan, leave_blocked=True).left == 1


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08\x00garbage-garbage", b"{\n\xff\xfe\n"], ids=["gzip", "not UTF-8"])
def test_damaged_plan_files(folder: Path, content: bytes) -> None:
    path = folder / ("p.json.gz" if content.startswith(b"\x1f") else "p.json")
    path.write_bytes(content)
    with pytest.raises(PlanFileError):
        open_plan(path).verify()


def test_odd_config_values(lite: World) -> None:
    dest = lite.folder / "dest.yaml"
    dest.write_text("credentials: {database: text}\nservices: {catalog: {object_store: {}}}\n")
    assert verbs.load_config(dest).database is None
    url = {"bucket": "b", "access_key": "a-key", "secret_key": "s-key", "url": "http://h:abc"}
    section = {"storage_driver": {"name": "s3", "config": url}}
    lite.add("x", b"x")
    with pytest.raises((BackendError, ConfigError)):
        lite.apply(lite.plan(lite.config("config", DB), lite.config("dest", section)))
