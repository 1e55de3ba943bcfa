"""A data dir in memory, or in a container's own layer: plan, check and the prompt of apply warn of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconcile import verbs
from reconcile.stores import syncing
from reconcile.stores import volatile as module
from reconcile.stores.addresses import FileAddress, TableAddress
from reconcile.stores.volatile import volatile
from tests.archives import new_sqlite
from tests.cli.runner import here, reconcile
from tests.world import DB, World, localfs

IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def memory() -> Iterator[Path]:
    if syncing.file_system(IN_MEMORY) != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs here")
    folder = Path(tempfile.mkdtemp(dir=IN_MEMORY, prefix="reconcile-"))
    yield folder
    shutil.rmtree(folder)


def test_a_data_dir_in_memory_is_warned_of(folder: Path, memory: Path) -> None:
    """Also one that apply is going to make; what is warned of is done all the same."""
    world = World(folder, new_sqlite(folder))
    world.fill(2)
    world.config("config", DB)
    dest = world.config("dest", localfs(memory / "archive"))
    said = f"WARNING: {memory / 'archive'} is in memory (tmpfs)"
    planned = here("plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=folder)
    assert said in planned.out
    asked = reconcile("apply", "p.json", cwd=folder)  # nobody can be asked here
    assert asked.code == 64
    assert asked.err.count(said) == 2
    applied = reconcile("apply", "p.json", "--yes", cwd=folder)
    assert (applied.code, applied.err.count(said)) == (0, 1)
    (backend,) = verbs.check(dest).backends
    assert backend.ok
    assert [said in remark for remark in backend.remarks] == [True]
    assert said in here("check", "dest.yaml", cwd=folder).out
    assert said not in here("plan", "dest.yaml", "config.yaml", "--out", "back.json", cwd=folder).out


@pytest.mark.parametrize(
    ("kind", "said"),
    [("ramfs", "in memory (ramfs)"), ("overlay", "the container's own layer (overlay)"), ("ext4", ""), (None, "")],
)
def test_which_file_systems_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str | None, said: str
) -> None:
    monkeypatch.setattr(module, "file_system", lambda _path: kind)
    warning = volatile(FileAddress(str(tmp_path / "below" / "archive")))
    assert (said in warning) if warning else not said
    assert volatile(TableAddress("db", "database:db", 1)) is None
