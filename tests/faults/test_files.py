"""What a file system can do to a run: full, read-only, gone, somebody else's, links that lead astray."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconcile.errors import BackendError
from reconcile.stores.addresses import FileAddress
from reconcile.stores.localfs import FileStore
from tests.archives import new_sqlite
from tests.cli.runner import reconcile
from tests.world import DB, World, localfs

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give files away")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield place
    subprocess.run(["mount", "-o", "remount,rw", place], check=False)
    subprocess.run(["umount", "-l", place], check=True)


def prepared(folder: Path, data_dir: Path) -> tuple[World, Path, Path, dict[str, Any], dict[str, Any]]:
    world = World(folder, new_sqlite(folder))
    world.add_all((f"{number:02}", bytes([65 + number]) * 20_000, "admin", "policy_bundles") for number in range(30))
    source, dest = world.config("config", DB), world.config("dest", localfs(data_dir))
    world.plan(source, dest)
    return world, source, dest, world.tables(), world.read(source)


def finish(world: World, source: Path, dest: Path, before: dict[str, Any], truth: dict[str, Any]) -> None:
    done = reconcile("apply", "p.json", "--yes", cwd=world.folder)
    assert done.code == 0, done.all
    assert world.read(dest) == truth
    world.undo()
    assert world.tables() == before
    assert world.read(source) == truth


@as_root
def test_the_disk_is_full(folder: Path, small_disk: Path) -> None:
    """One error, not one a document; no half a file is left under a document's name."""
    world, source, dest, before, truth = prepared(folder, small_disk / "archive")
    result = reconcile("apply", "p.json", "--yes", cwd=folder)
    assert result.code == 1
    assert "No space left on device" in result.err
    assert "next: fix the cause" in result.err
    assert world.read(source) == truth
    assert all(len(path.read_bytes()) == 20_000 for path in small_disk.rglob("*.json"))
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    finish(world, source, dest, before, truth)


@as_root
def test_the_file_system_is_read_only(folder: Path, small_disk: Path) -> None:
    (small_disk / "archive").mkdir()
    world, source, dest, before, truth = prepared(folder, small_disk / "archive")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    result = reconcile("apply", "p.json", "--yes", cwd=folder)
    assert result.code == 1
    assert "mounted read-only" in result.err
    assert "next: mount it writable" in result.err
    assert world.tables()["archive_metadata"] == before["archive_metadata"]
    subprocess.run(["mount", "-o", "remount,rw,size=8m", small_disk], check=True)
    finish(world, source, dest, before, truth)


def test_the_data_dir_goes_away(folder: Path) -> None:
    """As when a mount is lost between staging and the next command."""
    world, source, dest, before, truth = prepared(folder, folder / "archive")
    (folder / "archive").mkdir()
    world.sql("INSERT INTO services VALUES ('h', 's', 'u', 1, 99999999999)")
    assert reconcile("apply", "p.json", "--yes", "--wait-for-services", "0", cwd=folder).code == 11
    world.sql("DELETE FROM services")
    (folder / "archive").rename(folder / "away")
    (folder / "archive").mkdir()
    result = reconcile("apply", "p.json", "--yes", cwd=folder)
    assert result.code == 5
    assert "if the data dir is not mounted, mount it" in result.err
    assert not list((folder / "archive").iterdir())
    (folder / "archive").rmdir()
    (folder / "away").rename(folder / "archive")
    finish(world, source, dest, before, truth)


@as_root
def test_the_way_to_the_data_dir_is_barred(folder: Path) -> None:
    """As when a ticket for a network file system expires: one error for all, and it says which place it is about."""
    archive = folder / "mount" / "archive"
    archive.mkdir(parents=True)
    store = FileStore(FileAddress(str(archive)), "tag")
    store.prepare(create=False)
    (folder / "mount").chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(BackendError, match=f"{archive}: Permission denied"):
            store.read(["user/bucket/ab/document.json"])
    finally:
        os.seteuid(0)


@as_root
def test_the_data_dir_is_another_users(folder: Path) -> None:
    """Files are the data dir's owner's, so that services can read them."""
    archive = folder / "archive"
    archive.mkdir(mode=0o750)
    os.chown(archive, 1234, 5678)
    world, source, dest, before, truth = prepared(folder, archive)
    assert reconcile("apply", "p.json", "--yes", cwd=folder).code == 0
    for path in archive.rglob("*"):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (1234, 5678)
        assert status.st_mode & 0o777 == (0o750 if path.is_dir() else 0o640)
    world.undo()
    finish(world, source, dest, before, truth)


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_symbolic_link_leads_out_of_the_data_dir(folder: Path, what: str) -> None:
    """Nothing is written, adopted or deleted through it; the document is named."""
    world, source, dest, before, truth = prepared(folder, folder / "archive")
    outside = folder / "outside"
    outside.mkdir()
    move = next(world.plan(source, dest, "look.json").moves())
    path = Path(move.after.content_url.removeprefix("file://"))
    if what == "directory":
        path.parent.parent.mkdir(parents=True)
        path.parent.symlink_to(outside)
    else:
        path.parent.mkdir(parents=True)
        (outside / "precious").write_bytes(truth[move.archiveId])
        path.symlink_to(outside / "precious")
    result = reconcile("apply", "p.json", "--yes", cwd=folder)
    assert result.code == 1
    assert "1 document could not be staged" in result.err
    assert f"{move.archiveId}: " in result.err
    left = [path.name for path in outside.iterdir()]
    assert left == (["precious"] if what == "file" else [])
    shutil.rmtree(folder / "archive")
    (folder / "archive").mkdir()
    (folder / "p.json").unlink()
    world.plan(source, dest)
    finish(world, source, dest, before, truth)


def test_a_source_that_is_a_link_into_the_destination_is_not_lost(folder: Path) -> None:
    """R1: adopted there and cleaned here would be the only copy deleted."""
    world, source, _dest, _before, truth = prepared(folder, folder / "real")
    world.apply("p.json")
    linked = folder / "linked"
    linked.mkdir()
    for path in (folder / "real").iterdir():
        (linked / path.name).symlink_to(path)
    world.sql("UPDATE archive_metadata SET content_url = replace(content_url, '/real/', '/linked/')")
    here, there = world.config("here", localfs(linked)), world.config("there", localfs(folder / "real"))
    assert world.read(here) == truth
    result = reconcile("plan", here, there, "--out", "q.json", cwd=folder)
    assert result.code == 0, result.all
    assert reconcile("apply", "q.json", "--yes", cwd=folder).code == 1
    assert world.read(here) == truth
    assert source.exists()
