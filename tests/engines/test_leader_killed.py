"""R1, R6: the process that leads is killed at each point of its order, with worker processes at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.runner import killed, reconcile
from tests.engines.test_processes import contents, is_moved, planned
from tests.world import DB, World, localfs

QUICK = {"loaded", "all staged"}
POINTS = (
    *("moves half loaded", "loaded", "all staged", "undo plan half written", "undo plan written", "before the switch"),
    *("inside the switch", "after the switch"),  # from here on workers delete: tests/engines/test_clean.py kills them
    *("before the end is recorded", "owner marks removed", "after the end is recorded"),
)
ENGINE = {"RECONCILE_ENGINE": "processes:2"}


@pytest.fixture
def archive(folder: Path, database: str) -> World:
    world = World(folder, database)
    world.fill(30)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    return world


def points(*, undone: bool) -> list[object]:
    known = [p for p in POINTS if not (undone and p.startswith("undo plan"))]
    return [pytest.param(p, marks=[] if p in QUICK and not undone else [pytest.mark.matrix]) for p in known]


@pytest.mark.parametrize("point", points(undone=False))
def test_the_same_command_finishes(archive: World, point: str) -> None:
    before, truth = contents(archive), planned(archive)
    killed(point, "apply", "p.json", "--yes", cwd=archive.folder, **ENGINE)
    assert truth in (archive.read(archive.folder / "config.yaml"), archive.read(archive.folder / "dest.yaml"))
    done = reconcile("apply", "p.json", "--yes", cwd=archive.folder, **ENGINE)
    assert done.code == 0, done.all
    is_moved(archive, truth)
    undone = reconcile("undo", "p.undo.json", "--yes", cwd=archive.folder, **ENGINE)
    assert undone.code == 0, undone.all
    assert contents(archive) == before


@pytest.mark.parametrize("point", points(undone=True))
def test_an_undo_is_finished_too(archive: World, point: str) -> None:
    before, truth = contents(archive), planned(archive)
    archive.apply("p.json")
    killed(point, "undo", "p.undo.json", "--yes", cwd=archive.folder, **ENGINE)
    assert truth in (archive.read(archive.folder / "config.yaml"), archive.read(archive.folder / "dest.yaml"))
    undone = reconcile("undo", "p.undo.json", "--yes", cwd=archive.folder, **ENGINE)
    assert undone.code == 0, undone.all
    assert contents(archive) == before
    assert archive.sql("SELECT count(*) FROM reconcile_claims") == [(0,)]
