"""Staging beside running services, and the refresh that includes what they did meanwhile (R1, R3, R4, R5, R6)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.errors import LimitReachedError, ReconcileError, StaleError, UsageError
from reconcile.planning.probe import Prober
from reconcile.running.phases.budget import Budget
from reconcile.running.phases.stage_part import PartStager
from reconcile.running.record.records import find_runs
from tests.archives import Place, md5
from tests.servers.moto import MotoServer
from tests.world import DB, NOW, World, localfs, s3


class Archive:
    """A filled archive in driver db, a plan to move it to a bucket, and a service that goes on writing."""

    def __init__(self, world: World, moto: MotoServer) -> None:
        self.world, self.there = world, Place(world.folder, world.url, moto)
        world.fill(20)
        self.source = world.config("config", DB)
        self.dest = world.config("dest", s3(moto, self.there.buckets[0]))
        world.plan(self.source, self.dest)

    def overwrite(self, archive_id: str, data: bytes) -> None:
        """Write a document again, in place, as a service does."""
        where = f"""WHERE "archiveId" = '{archive_id}'"""
        self.world.sql(f"UPDATE archive_document SET jsondata = '{data.decode()}' {where}")
        new = f"digest = '{md5(data)}', size = {len(data)}, last_updated = {NOW + 5}"
        self.world.sql(f"UPDATE archive_metadata SET {new} {where}")

    def remove(self, archive_id: str) -> None:
        for table in ("archive_document", "archive_metadata"):
            self.world.sql(f"""DELETE FROM {table} WHERE "archiveId" = '{archive_id}'""")

    def change_all(self) -> dict[str, bytes]:
        """Add, overwrite and remove documents; return all there are then."""
        self.world.add("new-1", b'{"new": 1}', "aaa")
        self.world.add("new-2", b'{"new": 2}', "zzz")
        self.overwrite("sha256:0001", b'{"overwritten": true}')
        self.remove("sha256:0004")
        return self.read(self.source)

    def read(self, config: Path) -> dict[str, Any]:
        return self.world.read(config)


@pytest.fixture
def archive(world: World, moto: MotoServer) -> Archive:
    return Archive(world, moto)


def test_staging_alone_leaves_the_catalog(archive: Archive) -> None:
    before = archive.world.tables()
    outcome = archive.world.apply("p.json", stage_only=True)
    assert (outcome.staged, outcome.documents) == (True, 20)
    assert archive.world.tables() == before
    assert len(archive.there.objects()) == 20


def test_what_services_did_meanwhile_is_taken_along(archive: Archive) -> None:
    archive.world.apply("p.json", stage_only=True)
    wanted = archive.change_all()
    before = archive.world.tables()
    with pytest.raises(StaleError, match=r"overwritten|changed since the plan|was deleted|added"):
        archive.world.apply("p.json")
    assert archive.world.tables() == before

    outcome = archive.world.apply("p.json", refresh=True)
    assert outcome.documents == 21
    assert archive.read(archive.dest) == wanted
    assert len(archive.there.objects()) == 21  # nothing is left of what was overwritten or removed

    archive.world.undo()
    assert archive.world.tables() == before
    assert not archive.there.objects()


def test_a_document_that_goes_to_a_backend_of_its_own_is_taken_along(world: World) -> None:
    """Nothing that was staged before had to do with that backend: its store is opened after the refresh."""
    source = world.config("config", DB, DB)
    dest = world.config("dest", localfs(world.folder / "store"), localfs(world.folder / "archive"))
    world.add("before", b"before")
    world.plan(source, dest)
    world.apply("p.json", stage_only=True)
    world.add("meanwhile", b"meanwhile", bucket="analysis_archive")
    wanted, before = world.read(source), world.tables()
    assert world.apply("p.json", refresh=True).documents == 2
    assert world.read(dest) == wanted
    assert [path for path in (world.folder / "archive").rglob("*") if path.is_file()]
    world.undo()
    assert world.tables() == before


def test_staging_again_sees_that_rows_changed_and_goes_on(archive: Archive) -> None:
    archive.world.apply("p.json", stage_only=True)
    archive.change_all()
    outcome = archive.world.apply("p.json", stage_only=True, refresh=True)
    assert (outcome.documents, outcome.changed) == (21, 0)
    archive.overwrite("new-1", b'{"new": "again"}')
    wanted = archive.read(archive.source)
    archive.world.apply("p.json", refresh=True)
    assert archive.read(archive.dest) == wanted
    assert len(archive.there.objects()) == 21


def test_undo_with_changes_after_a_refresh(archive: Archive) -> None:
    archive.world.apply("p.json", stage_only=True)
    archive.change_all()
    archive.world.apply("p.json", refresh=True)
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(archive.dest)) as catalog:
        run = find_runs(catalog)[0].run_id
        prepared = verbs.undo_plan_of(catalog, run, archive.dest, archive.source, with_changes=True)
        verbs.carry_out(catalog, prepared)
    assert not archive.there.objects()


def test_a_copy_that_is_not_ours_stays_and_is_named(archive: Archive) -> None:
    """What was at the destination before us is adopted, and never given up for a newer document (R3)."""
    data = archive.read(archive.source)["sha256:0001"]
    bucket = archive.there.buckets[0]
    archive.there.client().create_bucket(Bucket=bucket)
    archive.there.put(bucket, "team-a/analysis_data/sha256:0001", data)
    archive.world.apply("p.json", stage_only=True)
    archive.overwrite("sha256:0001", b'{"overwritten": true}')
    with pytest.raises(ReconcileError, match="destination_occupied"):
        archive.world.apply("p.json", refresh=True)
    assert len(archive.there.objects()) == 20


def test_what_comes_and_cannot_be_moved_is_refused_and_named(archive: Archive) -> None:
    archive.world.apply("p.json", stage_only=True)
    archive.world.row("lost", b"x", content_url=None)
    with pytest.raises(ReconcileError, match="admin/policy_bundles/lost: no_content_url"):
        archive.world.apply("p.json", refresh=True)
    outcome = archive.world.apply("p.json", refresh=True, leave_blocked=True)
    assert (outcome.documents, outcome.left) == (20, 1)


def test_a_plan_with_a_limit_takes_nothing_along(archive: Archive) -> None:
    archive.world.plan(archive.source, archive.dest, "few.json", limit=3)
    with pytest.raises(UsageError, match="made with --limit"):
        archive.world.apply("few.json", refresh=True)


def test_limits_end_a_staging_and_the_same_command_goes_on(archive: Archive) -> None:
    with pytest.raises(LimitReachedError, match=r"ended by --limit: 7 documents staged.* 13 still"):
        archive.world.apply("p.json", budget=Budget(documents=7))
    assert len(archive.there.objects()) == 7
    with pytest.raises(LimitReachedError, match=r"--max-bytes"):
        archive.world.apply("p.json", budget=Budget(size=1))
    with pytest.raises(LimitReachedError, match=r"its time limit: 8 documents"):
        archive.world.apply("p.json", budget=Budget(until=0))
    outcome = archive.world.apply("p.json", max_rate=1000.0)
    assert outcome.documents == 20
    assert archive.read(archive.dest)


def test_what_a_service_writes_while_it_is_staged_is_no_damage(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row was as planned, and the content was another a moment later: changed, and included (R7)."""
    stage_group = PartStager._stage_group
    changes, changing = [archive.change_all], threading.Lock()

    def overtaken(*arguments: Any) -> Any:
        with changing:  # no other thread stages a group before the change is made
            while changes:
                changes.pop()()
        return stage_group(*arguments)

    monkeypatch.setattr(PartStager, "_stage_group", overtaken)
    outcome = archive.world.apply("p.json", stage_only=True)
    assert (outcome.staged, outcome.changed) == (True, 2)
    wanted = archive.read(archive.source)
    archive.world.apply("p.json", refresh=True)
    assert archive.read(archive.dest) == wanted


def test_what_a_service_writes_while_a_plan_is_probed_blocks_nothing(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Prober.probe

    def overtaken(*arguments: Any) -> Any:
        archive.change_all()
        return probe(*arguments)

    monkeypatch.setattr(Prober, "probe", overtaken)
    archive.world.sql("""UPDATE archive_document SET jsondata = 'damaged' WHERE "archiveId" = 'sha256:0002'""")
    plan = archive.world.plan(archive.source, archive.dest, "probed.json", probe="digest")
    assert [blocker.archiveId for blocker in plan.blockers()] == ["sha256:0002"]
    assert plan.header.summary.moves.documents == 19


def test_a_refresh_that_finds_all_in_place_leaves_no_run(lite: World) -> None:
    """R6: another plan has moved everything; the way back of that one, and an undo plan of this name, stay."""
    lite.fill(6)
    source, dest = lite.config("config", DB), lite.config("dest", localfs(lite.folder / "archive"))
    mine = lite.plan(source, dest)
    other = lite.apply(lite.plan(source, dest, "q.json")).run_id
    (lite.folder / "p.undo.json").write_text("of an earlier run")
    tables = lite.tables()
    outcome = lite.apply(mine, refresh=True)
    assert (outcome.run_id, outcome.already) == ("", "no document has to move")
    assert lite.sql("SELECT run_id FROM reconcile_runs") == [(other,)]
    assert lite.sql("SELECT count(*) FROM reconcile_places WHERE run_id <> %s", other) == [(0,)]
    assert (lite.folder / "p.undo.json").read_text() == "of an earlier run"
    assert lite.tables() == tables
    assert not list((lite.folder / "archive").rglob(".owner"))
