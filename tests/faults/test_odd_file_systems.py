"""File systems that fail at a sync, are full, belong to others, or do not tell upper from lower case."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconcile.cli.main import main
from reconcile.errors import BackendError, PlanFileError, StageFailedError
from reconcile.planning import planfile
from reconcile.stores import data_dir
from reconcile.stores import localfs as driver
from tests.archives import new_sqlite
from tests.cli.desk import filled, planned
from tests.world import DB, World, localfs

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and become another user")


@pytest.fixture
def lite(folder: Path) -> World:
    world = filled(World(folder, new_sqlite(folder)))
    world.config("dest", localfs(folder / "archive"))
    return world


def there_and_back(world: World, before: dict[str, Any], truth: dict[str, Any]) -> None:
    assert world.apply("p.json").documents == len(truth)
    assert world.read(world.folder / "dest.yaml") == truth
    world.undo()
    assert world.tables() == before


def failing(number: int, act: Callable[..., Any]) -> tuple[Callable[..., Any], list[int]]:
    """Return a sync whose n-th call fails as a dying disk does, and its calls."""
    calls: list[int] = []

    def sync(*args: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return act(*args)

    return sync, calls


@pytest.mark.parametrize("number", [1, 2], ids=["of the files", "of their names"])
@pytest.mark.parametrize(
    "batches", [True, pytest.param(False, marks=pytest.mark.matrix)], ids=["a batch", "one by one"]
)
def test_a_sync_that_fails_ends_the_run_and_is_made_up_for(
    lite: World, monkeypatch: pytest.MonkeyPatch, number: int, batches: bool
) -> None:
    """R1: what has its name and was not synced is synced before the same command takes it for a copy."""
    planned(lite)
    before, truth = lite.tables(), lite.read(lite.folder / "config.yaml")
    monkeypatch.setattr(driver, "syncs_batches", lambda _root: batches)
    owner, name = (driver, "sync_batch") if batches else (driver, "sync_directory")
    if not batches and number == 1:
        owner, name = os, "fsync"  # type: ignore[assignment]
    original = getattr(owner, name)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, failing(number, original)[0])
        with pytest.raises(BackendError, match="Input/output error"):
            lite.apply("p.json")
    assert lite.tables()["archive_metadata"] == before["archive_metadata"]
    named = [path for path in (lite.folder / "archive").rglob("*.json") if not path.name.startswith(".")]
    sync, calls = failing(0, original)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, sync)
        written: list[str] = []
        laid = driver.FileStore._laid
        patched.setattr(driver.FileStore, "_laid", lambda *a, **k: (written.append(a[1].key), laid(*a, **k))[1])
        lite.apply("p.json", stage_only=True)
    rewritten = {str(lite.folder / "archive" / key) for key in written}
    assert all(str(path) in rewritten for path in named) or calls, "neither written again nor synced with its directory"
    there_and_back(lite, before, truth)


def test_a_disk_that_fails_under_the_plan(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, _calls = failing(1, os.fsync)
    with monkeypatch.context() as patched:
        patched.setattr(planfile.os, "fsync", sync)
        with pytest.raises(PlanFileError, match="Input/output error"):
            planned(lite)
    assert not list(lite.folder.glob("*p.json*"))


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    place = folder / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@as_root
def test_the_disk_with_the_plans_is_full(lite: World, small_disk: Path) -> None:
    """The undo plan cannot be written: nothing is switched, and the same command finishes once there is room."""
    before, truth = lite.tables(), lite.read(lite.folder / "config.yaml")
    planned(lite, "small/p.json")
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(b"x" * 4096)
    with pytest.raises(PlanFileError, match="No space left on device"):
        lite.apply("small/p.json")
    assert lite.tables()["archive_metadata"] == before["archive_metadata"]
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "p.json"]
    with pytest.raises(PlanFileError, match="No space left on device"):
        planned(lite, "small/other.json")
    (small_disk / "filler").unlink()
    assert lite.apply("small/p.json").documents == 6
    assert lite.read(lite.folder / "dest.yaml") == truth
    lite.undo("small/p.undo.json")
    assert lite.tables() == before


def as_nobody(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run ``reconcile`` as a user who owns nothing here: as root is, on an export with root_squash."""
    messages = folder / "messages"
    child = os.fork()
    if child == 0:  # the interpreter itself may be out of the other user's reach: no exec
        sys.stderr = messages.open("w", buffering=1)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        sys.argv = ["reconcile", *arguments]
        try:
            main()
        except SystemExit as end:
            os._exit(int(end.code or 0))
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), messages.read_text()


@as_root
def test_sources_on_an_export_that_squashes_root(folder: Path) -> None:
    """They can be read and not deleted: the catalog is switched, each is named, and whoever may deletes them later."""
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    start = world.config("start", DB)
    world.apply(world.plan(start, world.config("config", localfs(folder / "old")), "first.json"))
    truth = world.read(folder / "config.yaml")
    (folder / "new").mkdir()
    world.config("dest", localfs(folder / "new"))
    planned(world)
    for path in (folder, folder / "new", *folder.glob("*.*")):
        path.chmod(0o777)
    for parent in folder.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(0o755)
    code, said = as_nobody(folder, "--quiet", "apply", "p.json", "--yes")
    assert code == 1, said
    assert "the catalog is switched, but 6 sources could not be deleted" in said
    assert "Permission denied" in said
    assert world.read(folder / "dest.yaml") == truth
    assert world.apply("p.json").documents == 6
    assert not list((folder / "old").rglob("*.json"))


@pytest.mark.parametrize(
    "same", [True, pytest.param(False, marks=pytest.mark.matrix)], ids=["the same content", "other content"]
)
def test_two_buckets_that_are_one_to_the_file_system(lite: World, monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    """R1: where case does not count, the second document is not written over the first, and neither is lost."""
    lite.add("x", b"one", bucket="Names")
    lite.add("x", b"one" if same else b"two", bucket="names")
    before, truth = lite.tables(), lite.read(lite.folder / "config.yaml")
    path = data_dir.DataDir.path
    monkeypatch.setattr(data_dir.DataDir, "path", lambda self, key: path(self, str(key).lower()))
    planned(lite)
    if not same:
        with pytest.raises(StageFailedError, match=r"1 document could not be staged(?s:.*)admin/[Nn]ames/x"):
            lite.apply("p.json")
        assert lite.tables()["archive_metadata"] == before["archive_metadata"]
        assert lite.read(lite.folder / "config.yaml") == truth
    outcome = lite.apply("p.json", leave_failed=True)
    assert (outcome.documents, outcome.left) == ((8, 0) if same else (7, 1))
    lite.undo()
    assert lite.tables() == before
