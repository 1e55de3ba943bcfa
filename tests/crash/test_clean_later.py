"""R1, R3, R5, R6: SIGKILL while kept sources are cleaned; the same command, or the plan's apply, finishes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.archives import new_sqlite
from tests.cli.desk import last_run
from tests.cli.runner import here
from tests.crash.test_kills import killed
from tests.integration.test_equal_to_vendor import documents
from tests.world import COMPRESSED, DB, World, localfs

POINTS = (
    pytest.param("loaded", marks=pytest.mark.matrix),
    "marked",
    "deleted, not recorded",
    pytest.param("before the end is recorded", marks=pytest.mark.matrix),
)


@pytest.mark.parametrize("world", ["sqlite", pytest.param("postgresql", marks=pytest.mark.matrix)], indirect=True)
@pytest.mark.parametrize("point", POINTS)
def test_killed_while_cleaning_later(point: str, world: World, folder: Path) -> None:
    world.fill(20)
    source, dest = world.config("config", DB), world.config("dest", COMPRESSED | localfs(folder / "archive"))
    wanted, tables = documents(source), world.tables()
    plan = world.plan(source, dest, keep_source=True)
    world.apply(plan)
    run_id = last_run(world)

    killed(point, "clean", run_id, "--source", str(source), "--yes", "--workers", "2", cwd=world.folder)
    assert documents(dest) == wanted

    if point == "marked":  # a run that is being cleaned is a switched one: its own apply goes on too
        assert world.apply(plan).documents == 20
    else:
        result = here("clean", run_id, "--source", source, "--yes", cwd=folder)
        assert result.code == 0, result.all
    assert documents(dest) == wanted
    assert world.sql("SELECT count(*) FROM archive_document") == [(0,)]
    assert "nothing to do" in here("clean", run_id, "--source", source, "--yes", cwd=folder).out

    world.undo()
    assert world.tables() == tables


def test_killed_while_cleaning_later_and_undone_from_there(folder: Path) -> None:
    """R5: some sources are gone, some are not."""
    world = World(folder, new_sqlite(folder))
    world.fill(20)
    source, dest = world.config("config", DB), world.config("dest", COMPRESSED | localfs(folder / "archive"))
    tables = world.tables()
    world.apply(world.plan(source, dest, keep_source=True))
    killed(
        "deleted, not recorded",
        "clean",
        last_run(world),
        "--source",
        str(source),
        "--yes",
        "--workers",
        "2",
        cwd=world.folder,
    )
    assert 0 < world.sql("SELECT count(*) FROM archive_document")[0][0] < 20
    world.undo()
    assert world.tables() == tables
