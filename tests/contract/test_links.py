"""Hard links between data dirs: no byte is copied, and no two rows ever share one file (R1, R3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconcile.catalog import Scope
from reconcile.errors import ReconcileError, StageFailedError
from reconcile.payload import md5
from reconcile.stores import Content, Transfer, Transferred, Write
from reconcile.stores.addresses import Document, FileAddress, Key
from reconcile.stores.data_dir import DataDir
from reconcile.stores.localfs import FileStore
from tests.archives import new_sqlite
from tests.world import World, localfs

NAMES: list[Document] = [("admin", "policy_bundles", str(number)) for number in range(4)]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[FileStore, FileStore]:
    source, dest = (FileStore(FileAddress(str(tmp_path / name)), "t") for name in ("old", "new"))
    source.prepare(create=True)
    dest.prepare(create=True)
    source.write([Write(source.address.key(name), name[2].encode(), md5(name[2].encode())) for name in NAMES])
    return source, dest


def linked(source: FileStore, dest: FileStore, **digests: str) -> dict[Key, object]:
    way = dest.shortcut_from(source)
    assert way is not None
    assert way.shares_bytes
    key = dest.address.key
    return dict(way.copy([Transfer(key(n), key(n), digests.get(f"n{n[2]}", md5(n[2].encode()))) for n in NAMES]))


@pytest.mark.parametrize("in_batches", [True, False])
def test_it_tells_what_reading_and_writing_would_tell(pair: tuple[FileStore, FileStore], in_batches: bool) -> None:
    source, dest = pair
    dest.__dict__["_syncs_batches"] = in_batches
    for key, done in linked(source, dest).items():
        content, there = source.read([key])[key], dest.look([key])[key]
        assert isinstance(done, Transferred)
        assert isinstance(content, Content)
        assert (done.stat.size, done.stat.version, done.version) == (there.size, there.version, content.version)
        assert done.stat.md5 == content.md5
        assert Path(source.data_dir.path(key)).samefile(dest.data_dir.path(key))


def test_content_with_another_digest_loses_its_new_name(pair: tuple[FileStore, FileStore]) -> None:
    source, dest = pair
    done = linked(source, dest, n2=md5(b"other"))
    wrong = dest.address.key(NAMES[2])
    assert set(done) == {dest.address.key(name) for name in NAMES} - {wrong}
    assert source.look([wrong])
    assert not dest.look([wrong])


def test_what_is_there_and_what_is_not_there_is_left(pair: tuple[FileStore, FileStore]) -> None:
    source, dest = pair
    taken, gone = dest.address.key(NAMES[0]), dest.address.key(NAMES[1])
    dest.write([Write(taken, b"there before", md5(b"there before"))])
    Path(source.data_dir.path(gone)).unlink()
    assert set(linked(source, dest)) == {dest.address.key(name) for name in NAMES[2:]}
    assert Path(dest.data_dir.path(taken)).read_bytes() == b"there before"


def test_not_between_two_file_systems(pair: tuple[FileStore, FileStore], monkeypatch: pytest.MonkeyPatch) -> None:
    source, dest = pair
    monkeypatch.setattr(DataDir, "is_beside", lambda _self, _other: False)
    assert dest.shortcut_from(source) is None


@pytest.fixture
def files(folder: Path) -> World:
    """An archive in a data dir, and the configs to move it to another."""
    world = World(folder, new_sqlite(folder))
    world.fill(12)
    config = world.config("db", {"storage_driver": {"name": "db", "config": {}}})
    world.apply(world.plan(config, world.config("old", localfs(folder / "old")), out="first.json"))
    world.config("new", localfs(folder / "new"))
    return world


def paths(world: World) -> dict[str, Path]:
    rows = world.sql("""SELECT "archiveId", content_url FROM archive_metadata""")
    return {name: Path(url.removeprefix("file://")) for name, url in rows}


def plan(world: World, **request: object) -> None:
    world.plan(world.folder / "old.yaml", world.folder / "new.yaml", **request)


def test_a_run_links_and_its_undo_links_back(files: World) -> None:
    plan(files)
    before, rows = {name: path.stat().st_ino for name, path in paths(files).items()}, files.tables()
    files.apply("p.json")
    assert {name: path.stat().st_ino for name, path in paths(files).items()} == before
    assert all(path.stat().st_nlink == 1 and "new" in path.parts for path in paths(files).values())
    files.undo()
    assert {name: path.stat().st_ino for name, path in paths(files).items()} == before
    assert files.tables() == rows


def test_kept_sources_have_bytes_of_their_own(files: World) -> None:
    plan(files, keep_source=True)
    old = paths(files)
    files.apply("p.json")
    assert not any(path.samefile(old[name]) for name, path in paths(files).items())


def test_a_source_that_another_row_refers_to_has_bytes_of_its_own(files: World) -> None:
    """A service that overwrites one document in place must not alter the other (R1)."""
    name, path = next(iter(paths(files).items()))
    files.row("other", path.read_bytes(), bucket="elsewhere", content_url=f"file://{path}")
    plan(files, scope=Scope(exclude_buckets=("elsewhere",)))
    files.apply("p.json")
    assert path.exists()
    assert not paths(files)[name].samefile(path)


def test_sources_cannot_be_kept_once_they_are_linked(files: World, monkeypatch: pytest.MonkeyPatch) -> None:
    doomed = next(iter(paths(files).values()))
    doomed.write_bytes(b"damaged")
    plan(files)
    with pytest.raises(StageFailedError):
        files.apply("p.json")
    with pytest.raises(ReconcileError, match="11 sources of run"):
        files.apply("p.json", keep_source=True)
