"""R3: one place under two names loses nothing, and what is in place already is not moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconcile.running.phases import aliases
from reconcile.running.record.records import find_runs
from reconcile.stores import Store, Write, store_id
from reconcile.stores.addresses import FileAddress
from reconcile.stores.localfs import FileStore
from tests.archives import Place, md5, new_sqlite
from tests.cli.desk import opened
from tests.servers.moto import MotoServer
from tests.world import COMPRESSED, DB, DB2, World, localfs, s3


@pytest.fixture
def lite(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


def moved(world: World, section: dict[str, Any]) -> Path:
    """Fill an archive, move it to a backend, and return the config that it has then."""
    world.fill(12)
    here = world.config("here", section)
    world.apply(world.plan(world.config("start", DB), here, "setup.json"))
    return here


def test_a_data_dir_by_symlink_and_with_trailing_slash_is_in_place(lite: World) -> None:
    here = moved(lite, localfs(lite.folder / "archive"))
    (lite.folder / "link").symlink_to(lite.folder / "archive")
    for number, name in enumerate(("link", "archive/", "archive/../archive", "link/")):
        dest = lite.config("dest", {"storage_driver": {"name": "localfs", "config": {}}})
        section = localfs(lite.folder)
        section["storage_driver"]["config"]["archive_data_dir"] = f"{lite.folder}/{name}"
        dest = lite.config("dest", section)
        plan = lite.plan(here, dest, f"{number}.json")
        assert plan.header.summary.moves.documents == 0, name
        assert plan.header.summary.in_place.documents == 12


def test_rows_that_spell_the_data_dir_in_another_way_are_found_and_moved(lite: World) -> None:
    moved(lite, localfs(lite.folder / "archive"))
    (lite.folder / "link").symlink_to(lite.folder / "archive")
    by_link = lite.config("link", localfs(lite.folder / "link"))
    dest = lite.config("dest", DB2)
    documents = lite.read(by_link)
    plan = lite.plan(by_link, dest)
    assert plan.header.summary.moves.documents == 12
    lite.apply(plan)
    assert lite.read(dest) == documents
    lite.undo()
    assert lite.read(by_link) == documents


def test_compression_alone_moves_nothing(lite: World) -> None:
    archive = localfs(lite.folder / "archive")
    here = moved(lite, archive)
    plan = lite.plan(here, lite.config("dest", COMPRESSED | archive))
    assert plan.header.summary.moves.documents == 0
    assert plan.header.summary.other_encoding > 0


def test_db2_with_compression_changed_is_in_place(lite: World) -> None:
    here = moved(lite, COMPRESSED | DB2)
    assert lite.plan(here, lite.config("dest", DB2)).header.summary.moves.documents == 0


def test_an_s3_server_by_another_name_loses_nothing(lite: World, moto: MotoServer) -> None:
    """The same URLs, so the catalog does not change; the content is found there, and kept."""
    here = moved(lite, s3(moto, "two-names"))
    documents, tables = lite.read(here), lite.tables()
    dest = lite.config("dest", s3(moto, "two-names", url=moto.url.replace("127.0.0.1", "localhost")))
    plan = lite.plan(here, dest)
    assert plan.header.summary.moves.documents == 12
    assert any("keep their URL" in note for note in plan.header.summary.notes)
    lite.apply(plan)
    assert lite.read(here) == lite.read(dest) == documents
    assert lite.tables() == tables
    lite.undo()
    assert lite.read(here) == documents


def test_an_s3_server_by_another_name_and_another_prefix_keeps_the_sources(lite: World, moto: MotoServer) -> None:
    """A marker written at the destination is seen at the source: nothing is deleted, and the run says so."""
    here = moved(lite, s3(moto, "two-prefixes", prefix="one-"))
    documents = lite.read(here)
    url = moto.url.replace("127.0.0.1", "localhost")
    dest = lite.config("dest", s3(moto, "two-prefixes", prefix="two-", url=url))
    outcome = lite.apply(lite.plan(here, dest))
    assert outcome.remark
    assert "one place under two names" in outcome.remark
    assert outcome.kept == 12
    assert lite.read(dest) == documents
    lite.undo()
    assert lite.read(here) == documents


def test_another_prefix_in_one_bucket_is_a_move_and_is_cleaned(lite: World, moto: MotoServer) -> None:
    place = Place(lite.folder, lite.url, moto)
    here = moved(lite, s3(moto, place.buckets[0], prefix="one-"))
    documents = lite.read(here)
    dest = lite.config("dest", s3(moto, place.buckets[0], prefix="one-two-"))
    lite.apply(lite.plan(here, dest))
    assert lite.read(dest) == documents
    assert len(place.objects()) == 12
    assert all("/one-two-" in name for name in place.objects())
    lite.undo()
    assert lite.read(here) == documents
    assert len(place.objects()) == 12


def test_a_directory_under_two_device_numbers_loses_nothing(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an NFS export that is mounted twice: device and inode do not tell, the marker does."""
    here = moved(lite, localfs(lite.folder / "archive"))
    documents = lite.read(here)
    (lite.folder / "again").symlink_to(lite.folder / "archive")
    monkeypatch.setattr(store_id, "directory_identity", lambda path: f"directory:{path.rstrip('/')}")
    dest = lite.config("dest", localfs(lite.folder / "again"))
    plan = lite.plan(here, dest)
    assert plan.header.summary.moves.documents == 12
    outcome = lite.apply(plan)
    assert outcome.kept == 12
    assert lite.read(dest) == documents
    assert len(list((lite.folder / "archive").rglob("*.json"))) == 12
    lite.undo()
    assert lite.read(here) == documents


def test_a_file_that_another_row_names_by_another_path_is_kept(lite: World) -> None:
    """R3: nothing is deleted that a row refers to, whatever its spelling."""
    here = moved(lite, localfs(lite.folder / "archive"))
    (lite.folder / "link").symlink_to(lite.folder / "archive")
    document = next(iter(lite.read(here)))
    row = lite.sql('SELECT * FROM archive_metadata WHERE "archiveId" = %s', document)[0]
    names = [
        "bucket", "archiveId", "userId", "documentName", "content_url", "is_compressed", "digest", "size",
        "document_metadata", "created_at", "last_updated", "record_state_key", "record_state_val",
    ]  # fmt: skip
    twin = dict(zip(names, row, strict=True)) | {"documentName": "twin"}
    twin["content_url"] = twin["content_url"].replace("/archive/", "/link/")
    lite.insert("archive_metadata", twin)
    dest = lite.config("dest", DB2)
    plan = lite.plan(here, dest)
    assert [blocker.reason for blocker in plan.blockers()] == ["destination_taken"]
    outcome = lite.apply(plan, leave_blocked=True)
    assert outcome.kept == 1
    assert Path(twin["content_url"].removeprefix("file://")).exists()


def test_a_misplaced_document_goes_where_services_can_read_it(lite: World, moto: MotoServer) -> None:
    """A working document in the archive's bucket (the incumbent left such): services could not read it there."""
    lite.fill(6)
    split = lite.config("split", localfs(lite.folder / "archive"), s3(moto, "misplaced"))
    start = lite.config("start", DB)
    lite.apply(lite.plan(start, split, "setup.json"))
    wrong = lite.config("wrong", s3(moto, "misplaced"))
    only = lite.plan(split, wrong, "wrong.json")
    lite.apply(only)
    plan = lite.plan(start, split)
    assert {move.source for move in plan.moves()} == {"dest.analysis_archive"}
    lite.apply(plan)
    assert not [error for error in lite.read(split).values() if not isinstance(error, bytes)]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("then", ["the same command", "undo"])
def test_a_marker_that_a_kill_left_is_removed(lite: World, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """Killed between writing the marker and removing it: nobody's file stays at the destination."""
    before = moved(lite, localfs(lite.folder / "old")), lite.tables()
    lite.plan(before[0], lite.config("dest", localfs(lite.folder / "new")))

    def killed(*_arguments: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "delete", killed)
        with pytest.raises(Killed):
            lite.apply("p.json")
    with opened(lite) as catalog:
        name = aliases.marker(find_runs(catalog)[0].run_id)
    left = lite.folder / "new" / FileAddress(str(lite.folder / "new")).key(name)
    assert left.is_file()
    if then == "undo":
        lite.undo()
        assert lite.tables() == before[1]
    else:
        lite.apply("p.json")
    assert not left.exists()
    assert len([path for path in lite.folder.glob("*/**/*.json") if path.is_file()]) == 12


def test_a_marker_is_told_by_its_content(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process left under the same name does not make two places one."""
    lite.plan(moved(lite, localfs(lite.folder / "old")), lite.config("dest", localfs(lite.folder / "new")))
    original = aliases._marker_is_seen

    def with_a_leftover(source: Store, dest: Store, run_id: str) -> bool:
        source.write([Write(source.address.key(aliases.marker(run_id)), b"left", md5(b"left"))])
        return original(source, dest, run_id)

    monkeypatch.setattr(aliases, "_marker_is_seen", with_a_leftover)
    assert lite.apply("p.json").kept == 0
