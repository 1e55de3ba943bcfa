"""R1, R3: before one side of a move is deleted, the other is seen to be intact in the same batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconcile.running.phases import counterparts
from reconcile.stores.localfs import FileStore
from tests.archives import Place, new_sqlite
from tests.cli.desk import last_run
from tests.cli.runner import here
from tests.servers.moto import MotoServer
from tests.world import DB, World, localfs, s3, swift

DOCUMENTS = 20


@pytest.fixture
def lite(folder: Path) -> World:
    """An archive in driver db, and its move to files with the sources kept."""
    world = World(folder, new_sqlite(folder))
    world.fill(DOCUMENTS)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    return world


def kept(world: World) -> str:
    """Move with the sources kept; return the run's id."""
    world.apply(world.plan(world.folder / "config.yaml", world.folder / "dest.yaml", keep_source=True))
    return last_run(world)


def copies(world: World) -> list[Path]:
    return sorted((world.folder / "archive").rglob("*.json"))


def sources(world: World) -> int:
    return int(world.sql("SELECT count(*) FROM archive_document")[0][0])


def clean(world: World, run: str) -> tuple[int, str]:
    result = here(
        "clean", run, "--source", world.folder / "config.yaml", "--dest", world.folder / "dest.yaml", "--yes",
        cwd=world.folder,
    )  # fmt: skip
    return result.code, result.all


def test_clean_keeps_the_sources_of_copies_that_are_gone_or_damaged(lite: World) -> None:
    truth = lite.read(lite.folder / "config.yaml")
    run = kept(lite)
    gone, damaged = copies(lite)[:4], copies(lite)[4]
    for path in gone:
        path.unlink()
    damaged.write_bytes(b"damaged")
    code, said = clean(lite, run)
    assert code == 3, said
    assert "NOT INTACT at the destination" in said
    assert said.count('"event": "source kept"') == sources(lite) == 5
    readable = {name for name, data in lite.read(lite.folder / "dest.yaml").items() if isinstance(data, bytes)}
    assert len(readable) == DOCUMENTS - 5
    lite.undo()
    assert lite.read(lite.folder / "config.yaml") == truth


def test_clean_ends_where_not_one_copy_is_intact(lite: World) -> None:
    run = kept(lite)
    for path in copies(lite):
        path.unlink()
    code, said = clean(lite, run)
    assert code == 5, said
    assert "none is intact" in said
    assert f"reconcile undo {run}" in said
    assert sources(lite) == DOCUMENTS


def test_an_apply_that_resumes_long_after_its_switch_looks_too(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconcile.running.phases import clean as cleaning
    from tests.crash.test_broken_builds import Killed, kill_at

    plan = lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, cleaning.Cleaner, "clean")
        with pytest.raises(Killed):
            lite.apply(plan)
    copies(lite)[0].unlink()
    outcome = lite.apply(plan)
    assert len(outcome.not_intact) == 1
    assert sources(lite) == 1
    assert lite.apply(plan).already


def test_what_services_removed_or_rewrote_since_is_no_reason_to_keep_its_source(lite: World) -> None:
    run = kept(lite)
    rewritten, removed = copies(lite)[:2]
    rewritten.write_bytes(b"another")
    lite.sql(
        "UPDATE archive_metadata SET digest = 'another', last_updated = 1 WHERE content_url = %s", f"file://{rewritten}"
    )
    lite.sql("DELETE FROM archive_metadata WHERE content_url = %s", f"file://{removed}")
    removed.unlink()
    assert clean(lite, run)[0] == 0
    assert sources(lite) == 0


@pytest.mark.parametrize("every", [False, True])
def test_what_a_service_is_just_writing_is_no_broken_copy(
    lite: World, monkeypatch: pytest.MonkeyPatch, *, every: bool
) -> None:
    """The services write the content first and the row after it: clean may look in between."""
    run = kept(lite)
    written = copies(lite) if every else copies(lite)[:1]
    for path in written:
        path.write_bytes(b"another")

    def let_the_rows_follow(_seconds: float) -> None:
        for path in written:
            row = "UPDATE archive_metadata SET digest = 'another', last_updated = 1 WHERE content_url = %s"
            lite.sql(row, f"file://{path}")

    monkeypatch.setattr(counterparts.time, "sleep", let_the_rows_follow)
    code, said = clean(lite, run)
    assert code == 0, said
    assert sources(lite) == 0


def test_content_that_was_restored_from_a_backup_is_intact(lite: World) -> None:
    """Other inodes and times, the same bytes: what tells is the digest."""
    run = kept(lite)
    for path in copies(lite):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    assert clean(lite, run)[0] == 0
    assert sources(lite) == 0


def test_rollback_keeps_a_copy_whose_source_is_damaged(lite: World) -> None:
    """Exit 3: the run stays staged, and its plan can be applied again."""
    plan = lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml")
    lite.apply(plan, stage_only=True)
    lite.sql("""UPDATE archive_document SET jsondata = 'damaged' WHERE "archiveId" = 'sha256:0003'""")
    result = here("undo", last_run(lite), "--source", "dest.yaml", "--dest", "config.yaml", "--yes", cwd=lite.folder)
    assert result.code == 3, result.all
    assert "the source is not intact" in result.out
    assert len(copies(lite)) == 1
    outcome = lite.apply(plan)
    assert outcome.documents == DOCUMENTS
    assert all(isinstance(data, bytes) for data in lite.read(lite.folder / "dest.yaml").values())


@pytest.mark.parametrize("with_changes", [False, True])
def test_undo_uses_kept_sources_without_their_copies(lite: World, *, with_changes: bool) -> None:
    truth, tables = lite.read(lite.folder / "config.yaml"), lite.tables()
    run = kept(lite)
    for path in copies(lite)[:5]:
        path.unlink()
    more = ["--with-changes"] if with_changes else []
    result = here("undo", run, "--source", "dest.yaml", "--dest", "config.yaml", "--yes", *more, cwd=lite.folder)
    assert result.code == 0, result.all
    assert lite.read(lite.folder / "config.yaml") == truth
    assert lite.tables() == tables
    assert not copies(lite)


def test_an_undo_that_cannot_restore_everything_restores_the_rest_if_told_so(lite: World) -> None:
    """The message names an option that undo has."""
    lite.apply(lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml"))
    lost = copies(lite)[0]
    lost.unlink()
    result = here("undo", "p.undo.json", "--yes", cwd=lite.folder)
    assert result.code == 1, result.all
    assert "--leave-failed" in result.err
    result = here("undo", "p.undo.json", "--yes", "--leave-failed", cwd=lite.folder)
    assert result.code == 3, result.all
    assert sources(lite) == DOCUMENTS - 1


def test_adopted_files_are_made_durable(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: whoever wrote them may have been killed before they were synced."""
    from tests.crash.test_broken_builds import Killed

    first = lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml")
    with pytest.MonkeyPatch.context() as patch:
        named = FileStore._named

        def killed(self: FileStore, write: object) -> None:
            named(self, write)  # type: ignore[arg-type]
            raise Killed

        patch.setattr(FileStore, "_named", killed)
        with pytest.raises(Killed):
            lite.apply(first, workers=1)
    adopted = {str(path.relative_to(lite.folder / "archive")) for path in copies(lite)}
    assert adopted
    durable: set[object] = set()
    make = FileStore.make_durable
    monkeypatch.setattr(FileStore, "make_durable", lambda self, keys: (durable.update(keys), make(self, keys))[1])
    lite.apply(lite.plan(lite.folder / "config.yaml", lite.folder / "dest.yaml", "second.json"))
    assert adopted <= durable


@pytest.mark.parametrize("batches", [True, False], ids=["syncfs", "fsync"])
def test_durable_means_synced(lite: World, monkeypatch: pytest.MonkeyPatch, *, batches: bool) -> None:
    from reconcile.stores import localfs as driver
    from reconcile.stores import open_store
    from tests.contract.conftest import make_backend

    store = open_store(make_backend("localfs", None, lite.folder), None, "test")  # type: ignore[arg-type]
    store.prepare(create=True)
    path = lite.folder / "archive" / "a" / "b.json"
    path.parent.mkdir()
    path.write_bytes(b"x")
    synced: list[object] = []
    monkeypatch.setattr(FileStore, "_syncs_batches", batches)
    monkeypatch.setattr(driver, "sync_batch", synced.append)
    monkeypatch.setattr(driver, "sync_directory", lambda directory: synced.append(str(directory)))
    monkeypatch.setattr("os.fsync", lambda _descriptor: synced.append("file"))
    store.make_durable(["a/b.json"])
    wanted = [store._root] if batches else ["file", str(path.parent), str(path.parent.parent)]  # type: ignore[attr-defined]
    assert sorted(map(str, synced)) == sorted(map(str, wanted))


def two_installations(folder: Path, server: object, section: object) -> tuple[World, World]:
    """Two installations with documents of the same names, and one destination without prefixes."""
    worlds = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        world = World(folder / name, new_sqlite(folder / name))
        world.fill(DOCUMENTS)
        world.config("config", DB)
        world.config("dest", section)  # type: ignore[arg-type]
        worlds.append(world)
    return worlds[0], worlds[1]


@pytest.mark.parametrize("kind", ["s3", "localfs", pytest.param("swift", marks=pytest.mark.matrix)])
def test_two_installations_in_one_place_do_not_undo_each_other(
    kind: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    """B adopts A's copies, and A undoes: what B has put on record there keeps them."""
    place = Place(folder, "", None)
    if kind == "s3":
        section = s3(request.getfixturevalue("moto"), place.buckets[0])
    elif kind == "swift":
        section = swift(request.getfixturevalue("swift"), place.buckets[0])
    else:
        section = localfs(folder / "shared")
    a, b = two_installations(folder, None, section)
    a.apply(a.plan(a.folder / "config.yaml", a.folder / "dest.yaml"))
    plan = b.plan(b.folder / "config.yaml", b.folder / "dest.yaml", probe="exists")
    assert any(f"{DOCUMENTS} documents are at the destination already" in note for note in plan.header.summary.notes)
    b.apply(plan)
    truth = b.read(b.folder / "dest.yaml")
    outcome = a.undo()
    assert outcome.kept == DOCUMENTS
    assert b.read(b.folder / "dest.yaml") == truth
    assert a.read(a.folder / "config.yaml") == truth


def test_a_place_that_another_installation_has_in_hand_is_refused(folder: Path, moto: MotoServer) -> None:
    place = Place(folder, "", None)
    a, b = two_installations(folder, moto, s3(moto, place.buckets[0]))
    a.apply(a.plan(a.folder / "config.yaml", a.folder / "dest.yaml"), stage_only=True)
    plan = b.plan(b.folder / "config.yaml", b.folder / "dest.yaml")
    result = here("apply", plan.path, "--yes", cwd=b.folder)
    assert result.code == 10, result.all
    assert "--share-destination" in result.err
    b.apply(plan, share_destination=True)
    truth = b.read(b.folder / "dest.yaml")
    undone = here("undo", last_run(a), "--source", "dest.yaml", "--dest", "config.yaml", "--yes", cwd=a.folder)
    assert undone.code == 3, undone.all
    assert b.read(b.folder / "dest.yaml") == truth
