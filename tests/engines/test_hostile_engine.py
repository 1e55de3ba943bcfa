"""R1, R3: engines carry, the database decides. One that reorders, loses and repeats costs time and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconcile.catalog import DatabaseOptions
from reconcile.engines import Setup
from reconcile.errors import EngineError, SupersededError
from reconcile.running.phases import dispatch, elsewhere
from reconcile.running.phases.stage_part import PartStager
from reconcile.running.record import claims
from tests.cli.runner import here
from tests.engines.hostile import Hostile
from tests.engines.test_processes import WORKER, contents, is_moved, planned
from tests.world import DB, World, localfs


@pytest.fixture
def archive(folder: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(folder, database)
    world.fill(36)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    monkeypatch.setattr("reconcile.running.phases.stage.BATCH_DOCUMENTS", 3)
    monkeypatch.setattr(elsewhere, "OVERDUE_SECONDS", 2.0)
    monkeypatch.setattr(dispatch, "_LOOK_SECONDS", 0.5)
    monkeypatch.setattr(dispatch, "_ATTEMPTS", 50)
    monkeypatch.setattr(claims, "STALE_SECONDS", 3)
    return world


def setup(world: World, source: str = "config", dest: str = "dest") -> Setup:
    return Setup(WORKER, DatabaseOptions(), world.folder / f"{source}.yaml", world.folder / f"{dest}.yaml")


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.matrix) for seed in (2, 3, 4))])
def test_nothing_is_lost_or_done_twice_there_and_back(archive: World, seed: int) -> None:
    before, truth = contents(archive), planned(archive)
    engine = Hostile(setup(archive), seed)
    archive.apply("p.json", engine=engine)
    assert {"never", "lost", "twice"} <= set(engine.done)
    is_moved(archive, truth)
    files = [path for path in (archive.folder / "archive").rglob("*") if path.is_file() and "owner" not in path.name]
    assert len(files) == len(truth)
    archive.apply("p.undo.json", engine=Hostile(setup(archive, "dest", "config"), seed + 10))
    assert contents(archive) == before
    assert archive.sql("SELECT count(*) FROM reconcile_claims") == [(0,)]


def test_what_is_recorded_late_is_refused(archive: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that comes back when its phase is over records nothing: the move stays as another left it."""
    truth, late, record = planned(archive), list[Any](), PartStager._record

    def held_back(self: PartStager, outcomes: list[Any]) -> None:
        if not late:
            late.append((self, outcomes))
            raise SupersededError("held back by the test")
        record(self, outcomes)

    monkeypatch.setattr(PartStager, "_record", held_back)
    archive.apply("p.json", engine=Hostile(setup(archive), 4))
    is_moved(archive, truth)
    tables = archive.tables()
    stager, outcomes = late[0]
    with pytest.raises(Exception, match=r"another process took over|another worker has taken this part over"):
        record(stager, outcomes)
    assert archive.tables() == tables


@pytest.mark.matrix
def test_an_engine_of_ones_own_is_named_by_its_factory(archive: World) -> None:
    truth = planned(archive)
    done = here("apply", "p.json", "--yes", "--engine", "tests.engines.hostile:Hostile", cwd=archive.folder)
    assert done.code == 0, done.all
    is_moved(archive, truth)


def test_without_any_worker_the_run_ends_after_a_while(archive: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_NOBODY_SECONDS", 1.0)
    monkeypatch.setattr(Hostile, "width", lambda _self: 0)
    planned(archive)
    with pytest.raises(EngineError, match="there has been no worker for 1 s"):
        archive.apply("p.json", engine=Hostile(setup(archive)))
    assert archive.sql("SELECT count(*) FROM reconcile_claims") == [(0,)]
