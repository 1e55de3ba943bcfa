"""One data dir inside another: refused before anything is planned, however the paths are spelled (R1, R4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconcile.errors import ConfigError
from tests.archives import new_sqlite
from tests.cli.runner import here
from tests.world import DB, World, localfs

INNER = "a" * 32


@pytest.fixture
def in_files(folder: Path) -> World:
    """An archive in the data dir ``outer``."""
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    world.apply(world.plan(world.config("db", DB), world.config("config", localfs(folder / "outer")), "first.json"))
    return world


def spelled(folder: Path, how: str) -> tuple[Path, Path]:
    """Return outer and inner data dir."""
    outer, inner = folder / "outer", folder / "outer" / INNER
    if how == "inner not made yet":
        return outer, inner
    inner.mkdir()
    if how == "a link to the inner":
        (folder / "link").symlink_to(inner)
        return outer, folder / "link"
    if how == "a link above the outer":
        (folder / "above").symlink_to(folder)
        return folder / "above" / "outer", inner
    if how == "dots":
        return outer, folder / "elsewhere" / ".." / "outer" / INNER
    return outer, inner


HOW = ("a link to the inner", "inner not made yet", "a link above the outer", "dots", "plain")


@pytest.mark.parametrize("how", [HOW[0], *(pytest.param(how, marks=pytest.mark.matrix) for how in HOW[1:])])
@pytest.mark.parametrize("inwards", [True, False])
def test_nested_data_dirs_are_refused(in_files: World, how: str, inwards: bool) -> None:
    world, folder = in_files, in_files.folder
    before = world.tables()
    outer, inner = spelled(folder, how)
    world.config("config", localfs(outer if inwards else inner))
    world.config("dest", localfs(inner if inwards else outer))
    result = here("plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=folder)
    assert result.code == 78, result.all
    assert "is inside the one of" in result.err
    assert "next: set archive_data_dir to a directory outside" in result.err
    assert not (folder / "p.json").exists()
    assert world.tables() == before


def test_both_dests_nested_are_refused(in_files: World) -> None:
    world, folder = in_files, in_files.folder
    world.config("dest", localfs(folder / "new"), localfs(folder / "new" / "archive"))
    with pytest.raises(ConfigError, match="is inside"):
        world.plan(folder / "config.yaml", folder / "dest.yaml")


def test_a_directory_that_moved_inside_after_the_plan_is_refused_by_apply(in_files: World) -> None:
    world, folder = in_files, in_files.folder
    (folder / "new").mkdir()
    world.config("dest", localfs(folder / "new"))
    world.plan(folder / "config.yaml", folder / "dest.yaml")
    (folder / "new").rename(folder / "outer" / INNER)
    (folder / "new").symlink_to(folder / "outer" / INNER)
    with pytest.raises(ConfigError, match="is inside"):
        world.apply("p.json")


def test_nested_sources_can_be_left(in_files: World) -> None:
    """What lies so already is to be moved away."""
    world, folder = in_files, in_files.folder
    world.config("config", localfs(folder / "outer"), localfs(folder / "outer" / INNER))
    world.config("dest", localfs(folder / "new"), localfs(folder / "archive"))
    world.plan(folder / "config.yaml", folder / "dest.yaml")
    assert world.apply("p.json").documents == 6


def test_dirs_beside_one_another_are_not_nested(in_files: World) -> None:
    """Not by the spelling of their names alone."""
    world, folder = in_files, in_files.folder
    world.config("dest", localfs(folder / "outer2"))
    world.plan(folder / "config.yaml", folder / "dest.yaml")
    assert world.apply("p.json").documents == 6
