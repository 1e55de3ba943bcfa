"""What refresh, limits, links and shortcuts once got wrong (R1 to R7)."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.auditing import claims
from reconcile.auditing.audited import Request
from reconcile.errors import (
    DocumentError,
    ReconcileError,
    StageFailedError,
    TransientError,
    UsageError,
)
from reconcile.running.phases.budget import Budget
from reconcile.running.phases.clean import Cleaner
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.records import find_runs
from reconcile.stores.addresses import SwiftAddress
from reconcile.stores.gate import Gate
from reconcile.stores.s3 import S3Store
from reconcile.stores.swift import SwiftStore
from tests.archives import Place, md5, new_sqlite
from tests.cli.runner import here
from tests.servers.moto import MotoServer
from tests.world import DB, DB2, NOW, World, localfs, s3


@pytest.fixture
def small(folder: Path) -> World:
    """An archive in driver db, on SQLite, to be moved to a data dir."""
    world = World(folder, new_sqlite(folder))
    world.fill(12)
    world.config("old", DB)
    world.config("new", localfs(folder / "new"))
    world.plan(folder / "old.yaml", folder / "new.yaml")
    return world


def test_a_limit_does_not_switch_without_what_the_last_look_missed(small: World) -> None:
    """Copies that vanished are staged anew only as far as the budget goes: the others must stop the switch (R2, R7)."""
    small.apply("p.json", stage_only=True)
    for path in sorted((small.folder / "new").rglob("*.json"))[:5]:
        path.unlink()
    with suppress(ReconcileError):
        small.apply("p.json", budget=Budget(documents=2))
    schemes = {url.partition(":")[0] for url in small.urls()}
    assert len(schemes) == 1, small.urls()


def test_blocked_documents_are_refused_each_time(small: World) -> None:
    """The same command again must not do what it refused to do without --leave-blocked (R4, R7)."""
    small.apply("p.json", stage_only=True)
    small.row("lost", b"x", content_url=None)
    for _attempt in range(2):
        with pytest.raises(ReconcileError, match="no_content_url"):
            small.apply("p.json", refresh=True)


def test_what_was_blocked_and_is_mended_is_taken_along(small: World) -> None:
    """'fix the causes and run the same command again' is what the refusal says (R7)."""
    small.apply("p.json", stage_only=True)
    small.add("lost", b"x", content_url=None)
    with pytest.raises(ReconcileError, match="no_content_url"):
        small.apply("p.json", refresh=True)
    small.sql(
        """UPDATE archive_metadata SET content_url = 'db://admin/policy_bundles/lost' WHERE "archiveId" = 'lost'"""
    )
    outcome = small.apply("p.json", refresh=True)
    assert (outcome.documents, outcome.left) == (13, 0)


def test_an_undo_that_refreshes_leaves_alone_what_was_there_before(small: World) -> None:
    """A document that was at the destination before the run is none of its undo's business (R4, R5)."""
    small.apply("p.json")
    small.add("later", b"{}")
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "second.json")
    before = small.tables()["archive_metadata"]
    small.apply("second.json")
    with pytest.raises(UsageError, match="--refresh is for plans"):
        small.apply("second.undo.json", refresh=True)
    small.apply("second.undo.json")
    assert small.tables()["archive_metadata"] == before


def test_a_refresh_may_bring_the_first_document_of_a_data_dir_that_is_to_be_made(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.add("one", b"{}")
    world.config("old", DB)
    world.config("new", localfs(folder / "new"), localfs(folder / "archive"))
    world.plan(folder / "old.yaml", folder / "new.yaml")
    world.apply("p.json", stage_only=True)
    world.add("two", b"{}", bucket="analysis_archive")
    assert world.apply("p.json", refresh=True).documents == 2


def in_files(folder: Path) -> World:
    """An archive in a data dir, and the configs to move it to another."""
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    config = world.config("db", DB)
    world.apply(world.plan(config, world.config("old", localfs(folder / "old")), out="first.json"))
    world.config("new", localfs(folder / "new"))
    return world


def paths(world: World) -> dict[str, Path]:
    rows = world.sql("""SELECT "archiveId", content_url FROM archive_metadata""")
    return {name: Path(url.removeprefix("file://")) for name, url in rows}


def test_links_that_another_plan_staged_are_no_copies_where_sources_are_kept(folder: Path) -> None:
    """A kept source needs bytes of its own: services overwrite files in place."""
    world = in_files(folder)
    world.plan(folder / "old.yaml", folder / "new.yaml")
    world.apply("p.json", stage_only=True)
    old = paths(world)
    world.plan(folder / "old.yaml", folder / "new.yaml", "keeping.json", keep_source=True)
    try:
        world.apply("keeping.json")
    except ReconcileError:
        return
    assert not [name for name, path in paths(world).items() if path.samefile(old[name])]


def test_a_link_gets_the_mode_that_a_copy_would_have(folder: Path) -> None:
    """New files take owner, group and mode of the data dir, so that services can read them (R1)."""
    world = in_files(folder)
    for path in paths(world).values():
        path.chmod(0o600)
    (folder / "new").mkdir(mode=0o755)
    world.plan(folder / "old.yaml", folder / "new.yaml")
    world.apply("p.json")
    assert {oct(path.stat().st_mode & 0o777) for path in paths(world).values()} == {"0o644"}


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


def test_an_undo_inside_the_database_restores_null(folder: Path, database: str) -> None:
    """b64_encoded NULL comes back as NULL, by the shortcut too (R5)."""
    world = World(folder, database)
    world.fill(3)
    world.sql("UPDATE archive_document SET b64_encoded = NULL WHERE b64_encoded = false")
    before = world.tables()
    world.plan(world.config("old", DB), world.config("new", DB2))
    world.apply("p.json")
    world.undo()
    assert world.tables() == before


def test_an_undo_with_changes_is_not_staged_in_parts(small: World) -> None:
    """Each command makes it anew: a limit would have it begin for ever (R6)."""
    small.apply("p.json")
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(small.folder / "new.yaml")) as catalog:
        run = find_runs(catalog)[0].run_id
        there, back = small.folder / "new.yaml", small.folder / "old.yaml"
        prepared = verbs.undo_plan_of(catalog, run, there, back, with_changes=True)
        with pytest.raises(UsageError, match="cannot be staged in parts"):
            verbs.undo(catalog, prepared, RunOptions(budget=Budget(documents=5)))
        verbs.undo(catalog, prepared)
    assert {url.partition(":")[0] for url in small.urls()} == {"db"}


def test_a_copy_of_two_rows_stays_when_one_of_them_goes(small: World) -> None:
    """A refresh deletes nothing that a staged move of its own run needs (R3)."""
    row = small.sql("""SELECT "archiveId", "userId", bucket, digest, size FROM archive_metadata LIMIT 1""")[0]
    small.row(row[0], b"", row[1], row[2], digest=row[3], size=row[4], documentName="old name")
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "two.json")
    assert small.apply("two.json", stage_only=True).documents == 13
    small.sql("""DELETE FROM archive_metadata WHERE "documentName" = 'old name'""")
    outcome = small.apply("two.json", stage_only=True, refresh=True)
    assert outcome.documents == 12
    assert len(list((small.folder / "new").rglob("*.json"))) == 12


def test_a_blocked_document_that_came_since_the_plan_is_not_left_in_silence(small: World) -> None:
    """The switch refuses rows that were added and would move; what would be blocked must be named as well (R4, R7)."""
    small.add("new", b"{}", bucket="odd?bucket")
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "now.json")
    with pytest.raises(ReconcileError, match="blocked"):
        small.apply("now.json")
    with suppress(ReconcileError):
        assert small.apply("p.json").left, "switched, and the document is left behind without a word"


def test_a_refresh_of_a_limited_plan_is_refused_before_anything_is_recorded(small: World) -> None:
    """Exit 64 means that nothing was changed."""
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "few.json", limit=3)
    with pytest.raises(UsageError):
        small.apply("few.json", refresh=True)
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(small.folder / "old.yaml")) as catalog:
        assert not find_runs(catalog)


def test_a_switch_while_orphans_are_looked_for_makes_none(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that rows refer to is no orphan, though they came to do so between two looks at the database."""
    small.apply("p.json", stage_only=True)
    then = claims.referred_by_other_names

    def switched_meanwhile(*arguments: Any) -> Any:
        small.apply("p.json")
        return then(*arguments)

    monkeypatch.setattr(claims, "referred_by_other_names", switched_meanwhile)
    audited = verbs.verify(small.folder / "new.yaml", request=Request(orphans=True))
    assert audited.orphans is not None
    assert not len(audited.orphans.listed)


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


def test_sources_are_not_kept_where_a_link_was_not_recorded(folder: Path) -> None:
    """Killed between link and record, then --keep-source: the source needs bytes of its own."""
    world = in_files(folder)
    world.plan(folder / "old.yaml", folder / "new.yaml")
    world.apply("p.json", stage_only=True)
    old = paths(world)
    world.sql(
        "UPDATE reconcile_moves SET state = 'planned', origin = 'intended', source_version = NULL, copy_version = NULL"
        " WHERE run_id = (SELECT run_id FROM reconcile_runs WHERE state = 'staging')"
    )
    with suppress(ReconcileError):
        world.apply("p.json", keep_source=True)
        assert not [name for name, path in paths(world).items() if path.samefile(old[name])]


def test_stage_only_ends_with_another_code_than_a_switch(small: World) -> None:
    """3 means switched (docs/exit-codes.md)."""
    small.row("lost", b"x", content_url=None)
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "blocked.json")
    ended = here("apply", "blocked.json", "--stage-only", "--leave-blocked", "--yes", cwd=small.folder)
    assert "nothing was switched" in ended.out
    assert ended.code != 3


def test_stage_only_deletes_no_source(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the run was killed right after its switch (R4)."""

    def killed(_self: Cleaner) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(Cleaner, "clean", killed)
        small.apply("p.json")
    small.apply("p.json", stage_only=True)
    assert len(small.tables()["archive_document"]) == 12
