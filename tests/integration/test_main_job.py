"""The main job on both databases: plan, apply, read, undo, read; and what must survive it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from reconcile import verbs
from reconcile.catalog import Scope
from reconcile.errors import ReconcileError, StageFailedError, StaleError
from reconcile.planning.planfile import open_plan
from tests.archives import md5
from tests.servers.moto import MotoServer
from tests.servers.swift import SwiftServer
from tests.world import COMPRESSED, DB, DB2, World, localfs, s3


def test_there_and_back(world: World) -> None:
    """R5, R6: apply, apply again, undo, undo again, apply again."""
    world.fill()
    source = world.config("config", DB)
    dest = world.config("dest", COMPRESSED | localfs(world.folder / "archive"), DB2)
    before, tables = world.read(source), world.tables()

    plan = world.plan(source, dest)
    assert plan.header.summary.moves.documents == 30
    assert world.tables() == tables
    assert not (world.folder / "archive").exists()

    assert world.apply(plan).documents == 30
    assert world.read(dest) == before
    assert world.sql("SELECT count(*) FROM archive_document") == [(0,)]
    assert world.apply(plan).already == "the plan is applied already"

    world.undo()
    assert world.tables() == tables
    assert not list((world.folder / "archive").iterdir())
    assert world.undo().already == "the run is undone already"

    assert world.apply(plan).already is None
    assert world.read(dest) == before


def test_real_s3_server(world: World, swift: SwiftServer) -> None:
    world.fill()
    source, dest = world.config("config", DB), world.config("dest", COMPRESSED | s3(swift, "main-job", prefix="x/y"))
    before, tables = world.read(source), world.tables()
    world.apply(world.plan(source, dest))
    assert world.read(dest) == before
    world.undo()
    assert world.tables() == tables


def test_vendor_task_rows_are_written(world: World) -> None:
    world.fill()
    source, dest = world.config("config", DB), world.config("dest", localfs(world.folder / "archive"), DB2)
    world.apply(world.plan(source, dest))
    rows = world.sql(
        "SELECT state, type, migrate_from_driver, migrate_to_driver, archive_documents_migrated"
        " FROM tasks JOIN archive_migration_tasks USING (id) ORDER BY 4"
    )
    assert rows == [
        ("complete", "archivemigrationtask", "db", "db2", 10),
        ("complete", "archivemigrationtask", "db", "localfs", 20),
    ]


def test_other_columns_and_odd_names_survive(world: World) -> None:
    world.add("odd", b"odd", document_metadata='{"kept": true}', documentName="not-the-archive-id", created_at=1)
    world.add("state", b"state", record_state_key="deleted", record_state_val="x", is_compressed=None)
    world.add("two", b"two")
    world.row("two", b"two", documentName="second-row")
    world.add("null", b"null digest", digest=None, size=None)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    tables = world.tables()
    columns = (
        'SELECT "archiveId", "documentName", document_metadata, created_at, last_updated, record_state_key,'
        " record_state_val FROM archive_metadata ORDER BY 1, 2"
    )
    kept = world.sql(columns)
    plan = world.plan(source, dest)
    assert plan.header.summary.moves.documents == 5
    assert world.apply(plan).documents == 5
    assert world.sql(columns) == kept
    assert world.sql("SELECT count(*) FROM object_storage") == [(4,)]
    assert world.sql("SELECT digest FROM archive_metadata WHERE digest IS NULL") == []
    assert world.sql("SELECT count(*) FROM archive_document") == [(0,)]
    world.undo()
    assert world.tables() == tables


def test_sources_that_only_they_can_give_back_are_kept(world: World) -> None:
    """R5: base64 in lines of another length, an empty document as NULL."""
    world.add("b64", b"\xff" * 100)
    world.sql("UPDATE archive_document SET jsondata = replace(jsondata, '\n', '')")
    world.add("null", b"")
    world.sql("""UPDATE archive_document SET jsondata = NULL WHERE "archiveId" = 'null'""")
    source, dest = world.config("config", DB), world.config("dest", DB2)
    tables = world.tables()
    world.apply(world.plan(source, dest))
    assert world.read(dest) == {"b64": b"\xff" * 100, "null": b""}
    assert world.tables()["archive_document"] == tables["archive_document"]
    world.undo()
    assert world.tables() == tables


def test_only_what_is_in_scope_moves(world: World) -> None:
    world.fill()
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan = world.plan(source, dest, scope=Scope(buckets=("analysis_data",), users=("admin",)))
    assert plan.header.summary.moves.documents == 5
    world.apply(plan)
    assert sum(url.startswith("db2://admin/analysis_data/") for url in world.urls()) == 5
    assert sum(url.startswith("db://") for url in world.urls()) == 25
    again = world.plan(source, dest, "q.json", limit=7)
    assert again.header.summary.moves.documents == 7
    assert again.header.summary.beyond_limit == 18
    world.apply(again)
    assert sum(url.startswith("db2://") for url in world.urls()) == 12


def test_a_partial_move_says_what_services_could_not_read(world: World) -> None:
    """Nobody is told to start services with a config that reads a part of the archive only."""
    world.fill()
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan = world.plan(source, dest, scope=Scope(buckets=("analysis_data",)))
    assert plan.header.summary.unreadable_after == 20
    assert any("20 documents of the archive" in note for note in plan.header.summary.notes)
    assert world.apply(plan).unreadable == 20
    rest = world.plan(source, dest, "q.json")
    assert rest.header.summary.unreadable_after == 0
    assert world.apply(rest).unreadable == 0


def test_an_undo_that_services_changed_things_under_can_be_given_up(world: World) -> None:
    world.fill(6)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan = world.plan(source, dest)
    world.apply(plan)
    world.sql("UPDATE archive_metadata SET last_updated = 5 WHERE \"archiveId\" = 'sha256:0001'")
    tables = world.tables()
    with pytest.raises(StaleError):
        world.undo()
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(source)) as catalog:
        attempt = verbs.last_run(catalog)
        assert attempt
        assert attempt.undo_of
        for files in ((source, dest), (dest, source)):  # either order says which two
            verbs.carry_out(catalog, verbs.undo_plan_of(catalog, attempt.run_id, *files))
    assert world.tables() == tables
    assert world.apply(plan).already == "the plan is applied already"


def test_a_reader_sees_all_before_or_all_after(folder: Path, database: str, moto: MotoServer) -> None:
    """R2, by observation from another session."""
    world = World(folder, database)
    world.fill(200)
    source, dest = world.config("config", DB), world.config("dest", s3(moto, "observed"))
    plan = world.plan(source, dest)
    seen: set[tuple[int, int]] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            rows = [row[0] for row in world.sql("SELECT content_url FROM archive_metadata")]
            seen.add((sum(url.startswith("db:") for url in rows), sum(url.startswith("s3:") for url in rows)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        world.apply(plan)
    finally:
        done.set()
        watcher.join()
    assert seen <= {(200, 0), (0, 200)}
    assert (200, 0) in seen


def test_a_failed_document_stops_the_switch_and_is_named(world: World) -> None:
    """R2, R7; after the cause is fixed the same apply goes on."""
    world.fill()
    world.sql("""UPDATE archive_document SET jsondata = 'damaged' WHERE "archiveId" = 'sha256:0004'""")
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan, tables = world.plan(source, dest), world.tables()
    with pytest.raises(StageFailedError, match=r"(?s)1 document .*29 are staged.*sha256:0004: wrong_digest") as error:
        world.apply(plan)
    assert error.value.exit_code == 1
    assert world.tables()["archive_metadata"] == tables["archive_metadata"]
    text = '{"number": 4}' * 4
    world.sql("""UPDATE archive_document SET jsondata = %s WHERE "archiveId" = 'sha256:0004'""", text)
    assert world.apply(plan).documents == 30
    assert len(world.read(dest)) == 30


def test_leave_failed_switches_the_rest(world: World) -> None:
    world.fill()
    world.sql("""UPDATE archive_document SET jsondata = 'damaged' WHERE "archiveId" = 'sha256:0004'""")
    source, dest = world.config("config", DB), world.config("dest", DB2)
    outcome = world.apply(world.plan(source, dest), leave_failed=True)
    assert (outcome.documents, outcome.left) == (29, 1)
    assert [url for url in world.urls() if url.startswith("db://")] == ["db://admin/analysis_data/sha256:0004"]
    assert world.sql("""SELECT "archiveId" FROM archive_document""") == [("sha256:0004",)]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE archive_metadata SET last_updated = last_updated + 1 WHERE \"archiveId\" = 'sha256:0003'",
        "UPDATE archive_metadata SET content_url = 'db://x/y/z' WHERE \"archiveId\" = 'sha256:0003'",
        "DELETE FROM archive_metadata WHERE \"archiveId\" = 'sha256:0003'",
    ],
    ids=["overwritten", "moved", "deleted"],
)
def test_a_stale_plan_switches_nothing(world: World, change: str) -> None:
    """R4."""
    world.fill()
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan = world.plan(source, dest)
    world.sql(change)
    tables = world.tables()
    with pytest.raises(StaleError, match=r"(?s)1 row has changed.*sha256:0003") as error:
        world.apply(plan)
    assert error.value.exit_code == 4
    assert world.tables()["archive_metadata"] == tables["archive_metadata"]
    assert world.tables()["archive_document"] == tables["archive_document"]


def test_a_row_added_since_the_plan_stops_the_switch(world: World) -> None:
    """R4; a new plan adopts what is staged."""
    world.fill()
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan = world.plan(source, dest)
    world.add("new", b"new")
    with pytest.raises(StaleError, match=r"(?s)added.*new"):
        world.apply(plan)
    written = world.tables()["object_storage"]
    assert len(written) == 30
    assert world.apply(world.plan(source, dest, "q.json")).documents == 31
    assert set(written) <= set(world.tables()["object_storage"])


def test_of_many_rows_that_changed_or_were_added_the_first_are_named(world: World) -> None:
    """However many there are: nothing else of them is held in memory, while the catalog is locked."""
    world.fill(24)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    world.apply(plan, stage_only=True)
    world.add_all((f"new-{number:02}", b"x", "admin", "policy_bundles") for number in range(23))
    with pytest.raises(StaleError, match="23 rows were added at a source") as added:
        world.apply(plan)
    assert added.value.message.count("added since the plan, at") == 20
    assert "\n  and 3 more" in added.value.message
    world.sql("DELETE FROM archive_metadata WHERE \"archiveId\" LIKE 'new-%%'")
    world.sql("UPDATE archive_metadata SET last_updated = last_updated + 1")
    with pytest.raises(StaleError, match="24 rows have changed since the plan") as changed:
        world.apply(plan)
    assert changed.value.message.count("last_updated was") == 20
    assert "\n  and 4 more" in changed.value.message


def test_a_row_added_since_the_plan_that_leads_nowhere_stops_the_switch_too(world: World) -> None:
    """R7: it would be blocked, and an operator would learn of it. What an undo finds so was there before it."""
    world.fill(3)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan = world.plan(source, dest)
    world.row("new", b"new", content_url="s3://elsewhere/admin/policy_bundles/new")
    with pytest.raises(StaleError, match=r"new: added since the plan, at s3://elsewhere"):
        world.apply(plan)
    world.sql("""DELETE FROM archive_metadata WHERE "archiveId" = 'new'""")
    truth = world.urls()
    world.apply(plan)
    world.row("new", b"new", content_url="s3://elsewhere/admin/policy_bundles/new", created_at=int(time.time()))
    world.undo()
    world.sql("""DELETE FROM archive_metadata WHERE "archiveId" = 'new'""")
    assert world.urls() == truth


def test_a_copy_taken_over_by_another_run_survives_the_undo_of_the_first(world: World) -> None:
    """R3: run 1 stages, run 2 adopts, run 1 is undone, run 2 switches. A source is damaged: its copy stays."""
    world.fill()
    source, dest = world.config("config", DB), world.config("dest", DB2)
    first = world.plan(source, dest)
    world.add("new", b"new")
    with pytest.raises(StaleError):
        world.apply(first)
    world.sql("""UPDATE archive_document SET jsondata = 'damaged' WHERE "archiveId" = 'sha256:0004'""")
    second = world.plan(source, dest, "q.json")
    with pytest.raises(StageFailedError):
        world.apply(second)
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(source)) as catalog:
        run = next(run for run in verbs.find_runs(catalog) if run.plan_id == first.header.plan_id)
        assert verbs.carry_out(catalog, verbs.undo_plan_of(catalog, run.run_id, None, None)).last_copies == 1
    assert len(world.tables()["object_storage"]) == 31
    world.sql("""UPDATE archive_document SET jsondata = %s WHERE "archiveId" = 'sha256:0004'""", '{"number": 4}' * 4)
    assert world.apply(second).documents == 31
    assert len(world.read(dest)) == 31


def test_undo_of_a_run_that_never_switched_drops_its_copies_only(world: World) -> None:
    world.fill()
    world.sql("""UPDATE archive_document SET jsondata = 'damaged' WHERE "archiveId" = 'sha256:0004'""")
    there = {"userId": "team-a", "bucket": "policy_bundles", "key": "sha256:0003", "version": ""}
    content = {"object_metadata": None, "content": b'{"number": 3}' * 3, "created_at": 1, "last_updated": 1}
    world.insert("object_storage", there | content)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan, tables = world.plan(source, dest), world.tables()
    with pytest.raises(StageFailedError):
        world.apply(plan)
    assert len(world.tables()["object_storage"]) == 29
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(source)) as catalog:
        run = verbs.last_run(catalog)
        assert run
        verbs.carry_out(catalog, verbs.undo_plan_of(catalog, run.run_id, None, None))
    assert world.tables() == tables


def test_other_content_at_the_destination_is_never_overwritten(world: World) -> None:
    world.fill(3)
    there = {"userId": "admin", "bucket": "policy_bundles", "key": "sha256:0000", "version": ""}
    content = {"object_metadata": None, "content": b"somebody's", "created_at": 1, "last_updated": 1}
    world.insert("object_storage", there | content)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    with pytest.raises(StageFailedError, match="destination_occupied"):
        world.apply(world.plan(source, dest))
    assert b"somebody's" in {row[5] for row in world.tables()["object_storage"]}


def test_two_documents_that_the_incumbent_made_one(world: World) -> None:
    """R1: ``pol`` and ``pol#2``, without digests."""
    world.add("pol", b"first", digest=None, size=None)
    world.add("pol#2", b"second", digest=None, size=None)
    source, dest = world.config("config", DB), world.config("dest", localfs(world.folder / "archive"))
    plan = world.plan(source, dest)
    world.apply(plan)
    assert world.read(dest) == {"pol": b"first", "pol#2": b"second"}
    back = world.config("back", DB)
    again = world.plan(dest, back, "q.json")
    assert [blocker.reason for blocker in again.blockers()] == ["unreadable_by_services"]
    with pytest.raises(ReconcileError, match="1 blocked"):
        world.apply(again)
    anyway = world.plan(dest, back, "r.json", allow_unreadable=True)
    assert world.apply(anyway).documents == 2
    assert sorted(row[8] for row in world.tables()["archive_document"]) == ["first", "second"]
    world.undo("r.undo.json")
    assert world.read(dest) == {"pol": b"first", "pol#2": b"second"}


def test_an_undo_names_what_services_changed_since(world: World) -> None:
    """R4 backwards, and --with-changes, with sources kept, which is the harder case."""
    world.fill(9)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    world.apply(world.plan(source, dest, keep_source=True))
    later = 2_000_000_000
    world.sql("UPDATE object_storage SET content = %s WHERE key = 'sha256:0001'", b"rewritten")
    world.sql(
        "UPDATE archive_metadata SET digest = %s, size = 9, last_updated = %s WHERE \"archiveId\" = 'sha256:0001'",
        md5(b"rewritten"),
        later,
    )
    world.row("fresh", b"fresh", content_url="db2://admin/policy_bundles/fresh", last_updated=later)
    there = {"userId": "admin", "bucket": "policy_bundles", "key": "fresh", "version": ""}
    world.insert(
        "object_storage",
        there | {"object_metadata": None, "content": b"fresh", "created_at": 1, "last_updated": 1},
    )
    world.sql("DELETE FROM object_storage WHERE key = 'sha256:0002'")
    world.sql("DELETE FROM archive_metadata WHERE \"archiveId\" = 'sha256:0002'")
    expected = world.read(dest)
    with pytest.raises(StaleError, match="sha256:0001"):
        world.undo()
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(source)) as catalog:
        attempt = verbs.last_run(catalog)
        assert attempt
        assert attempt.undo_of
        outcome = verbs.carry_out(catalog, verbs.undo_plan_of(catalog, attempt.undo_of, None, None, with_changes=True))
    assert outcome.documents == 9
    assert world.read(source) == expected
    assert world.sql("SELECT count(*) FROM object_storage") == [(0,)]


def test_a_plan_is_complete_in_its_file(world: World) -> None:
    world.fill()
    source, dest = world.config("config", DB), world.config("dest", DB2)
    for name in ("p.json", "p.json.gz", "p.json.zst"):
        plan = open_plan(world.plan(source, dest, name).path)
        plan.verify()
        assert len(list(plan.moves())) == 30
        assert plan.path.stat().st_mode & 0o777 == 0o600
