"""R3: content that is at a destination already: adopted, replaced where the plan says so, or left alone."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from reconcile.errors import (
    StageFailedError,
    StaleError,
)
from reconcile.stores import store_id
from tests.archives import Place, md5, new_sqlite
from tests.integration.steps import (
    in_db2,
    in_files,
    paths,
    stage_only,
)
from tests.servers.moto import MotoServer
from tests.world import COMPRESSED, DB, DB2, NOW, World, localfs, s3


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
    from reconcile.running.phases.stage_part import PartStager

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
        patched.setattr(PartStager, "_record", killed)
        with pytest.raises(KeyboardInterrupt):
            lite.apply(plan)
    lite.apply(plan)
    lite.undo("q.undo.json")
    assert b"newer" not in {row[5] for row in lite.tables()["object_storage"]}
    assert lite.tables()["archive_document"] == tables["archive_document"]


def test_overwrite_adopts_what_is_the_document_already(lite: World) -> None:
    """R4, R5: a kept original that another zlib made is adopted, as the plan said, and two undos give all back."""
    stored = zlib.compress(os.urandom(3000).hex().encode() * 3, 9)
    in_db2(lite, "a", stored, is_compressed=True)
    here, there = lite.config("a", COMPRESSED | DB2), lite.config("b", localfs(lite.folder / "archive"))
    before = lite.tables()
    lite.apply(lite.plan(here, there, "p1.json"))
    plan = lite.plan(there, here, "p2.json", probe="digest", overwrite=True)
    assert [move.action for move in plan.moves()] == ["adopt"]
    lite.apply(plan)
    assert lite.sql("SELECT content FROM object_storage") == [(stored,)]
    lite.undo("p2.undo.json")
    lite.undo("p1.undo.json")
    assert lite.tables() == before


def test_overwrite_in_one_directory_under_two_names(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1: as an NFS export that is mounted twice; what seems to be in the way is the source itself."""
    (lite.folder / "d").mkdir()
    (lite.folder / "e").symlink_to(lite.folder / "d")
    original = store_id.directory_identity
    monkeypatch.setattr(
        store_id,
        "directory_identity",
        lambda path: f"mount:{path}" if Path(path).name in ("d", "e") else original(path),
    )
    lite.add("a", b"hello" * 1000)
    one = lite.config("one", localfs(lite.folder / "d"))
    two = lite.config("two", COMPRESSED | localfs(lite.folder / "e"))
    lite.apply(lite.plan(lite.config("start", DB), one, "p0.json"))
    with pytest.raises(StageFailedError, match="destination_occupied"):
        lite.apply(lite.plan(one, two, "p1.json", overwrite=True))
    assert lite.read(one) == {"a": b"hello" * 1000}


def test_a_probed_plan_overwrites_what_it_said(lite: World) -> None:
    """R4: content that turned up since the probe is in nobody's plan."""
    lite.add("a", b"mine")
    plan = lite.plan(lite.config("s", DB), lite.config("d", DB2), probe="exists", overwrite=True)
    in_db2(lite, "a", b"came later")
    with pytest.raises(StageFailedError, match="destination_occupied"):
        lite.apply(plan)
    assert lite.sql("SELECT content FROM object_storage") == [(b"came later",)]


def test_what_was_overwritten_is_taken_along_where_urls_stay(folder: Path, moto: MotoServer) -> None:
    """The same bucket name at another endpoint: the services write at the old one until the switch."""
    other = MotoServer()
    try:
        world, there = World(folder, new_sqlite(folder)), Place(folder, "", moto)
        bucket = there.buckets[0]
        world.fill(4)
        world.apply(world.plan(world.config("db", DB), world.config("old", s3(moto, bucket)), "first.json"))
        world.plan(folder / "old.yaml", world.config("new", s3(other, bucket)))
        world.apply("p.json", stage_only=True)
        there.put(bucket, "team-a/analysis_data/sha256:0001", b"{}")
        new = f"digest = '{md5(b'{}')}', size = 2, last_updated = {NOW + 5}"
        world.sql(f"""UPDATE archive_metadata SET {new} WHERE "archiveId" = 'sha256:0001'""")
        assert world.apply("p.json", refresh=True).documents == 4
    finally:
        other.close()


def test_a_document_overwritten_in_place_is_the_runs_own_after_a_refresh(folder: Path) -> None:
    """Its staged link changes with it; an undo must take it away again (R5)."""
    world = in_files(folder)
    world.plan(folder / "old.yaml", folder / "new.yaml")
    world.apply("p.json", stage_only=True)
    name, path = next(iter(paths(world).items()))
    path.write_bytes(b"{}")
    new = f"digest = '{md5(b'{}')}', size = 2, last_updated = {NOW + 5}, is_compressed = 0"
    world.sql(f"""UPDATE archive_metadata SET {new} WHERE "archiveId" = '{name}'""")
    world.apply("p.json", refresh=True)
    world.undo()
    assert not list((folder / "new").rglob("*.json"))
