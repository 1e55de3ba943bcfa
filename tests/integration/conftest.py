"""Archives that several files of tests begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.archives import new_sqlite
from tests.world import DB, World, localfs


@pytest.fixture
def lite(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


@pytest.fixture
def small(folder: Path) -> World:
    """An archive in driver db, on SQLite, to be moved to a data dir."""
    world = World(folder, new_sqlite(folder))
    world.fill(12)
    world.config("old", DB)
    world.config("new", localfs(folder / "new"))
    world.plan(folder / "old.yaml", folder / "new.yaml")
    return world
