"""R1, R3, R6: sources deleted by worker processes, one of which is killed or stopped with a source in hand."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from reconcile.catalog import DatabaseOptions
from reconcile.engines import Setup
from reconcile.engines.processes import Processes
from reconcile.errors import CatalogError, EngineError, PlaceChangedError, ReconcileError
from reconcile.running.phases import dispatch, elsewhere
from reconcile.running.record import claims, executor, late_requests
from tests.cli.desk import last_run
from tests.cli.runner import here
from tests.engines.tasks import STALE_SECONDS
from tests.servers.moto import MotoServer
from tests.world import DB, World, localfs, s3

DOCUMENTS = 40
TASKS = "tests.engines.tasks"
UNDO = ("undo", "p.undo.json", "--yes")


@pytest.fixture
def files(folder: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """An archive in files, planned to go to the database; parts are small."""
    return planned(World(folder, database), localfs(folder / "archive"), monkeypatch)


def planned(world: World, source: Any, monkeypatch: pytest.MonkeyPatch, dest: Any = DB) -> World:
    world.fill(DOCUMENTS)
    config = world.config("config", source)
    if source != DB:
        world.apply(world.plan(world.config("start", DB), config, "setup.json"))
    world.plan(config, world.config("dest", dest))
    monkeypatch.setattr("reconcile.running.phases.clean._PART_DOCUMENTS", 5)
    monkeypatch.setattr("reconcile.running.phases.stage.BATCH_DOCUMENTS", 5)
    monkeypatch.setattr(dispatch, "_LOOK_SECONDS", 1.0)
    monkeypatch.setattr(elsewhere, "OVERDUE_SECONDS", 4.0)
    return world


def processes(world: World, task: str, number: int = 2) -> Processes:
    return Processes(number, Setup(task, DatabaseOptions(), world.folder / "config.yaml", world.folder / "dest.yaml"))


def apply(world: World, task: str, number: int = 2) -> None:
    """Apply with so many workers of a task."""
    engine = processes(world, f"{TASKS}:{task}", number)
    try:
        world.apply("p.json", engine=engine)
    finally:
        engine.close()


def left(world: World) -> list[Path]:
    """Return what is left in the data dir, whatever its name."""
    return [path for path in (world.folder / "archive").rglob("*") if path.is_file()]


def read(world: World, config: str) -> object:
    return world.read(world.folder / f"{config}.yaml")


def test_a_worker_that_is_killed_with_a_source_aside_leaves_nothing(files: World) -> None:
    truth = read(files, "config")
    apply(files, "dies_with_a_file_aside")
    assert Path("died").exists()
    assert read(files, "dest") == truth
    assert left(files) == []
    assert files.sql("SELECT count(*) FROM reconcile_moves WHERE cleaned = 'deleted'") == [(2 * DOCUMENTS,)]
    assert files.sql("SELECT count(*) FROM reconcile_claims") == [(0,)]


def test_a_worker_that_is_stopped_with_a_source_aside_deletes_nothing_later(
    files: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another does its part; what it goes on with an hour later finds no file aside, and no way to take one."""
    monkeypatch.setattr(executor, "_WORKERS_SECONDS", 0.5)
    truth, engine = read(files, "config"), processes(files, f"{TASKS}:stops_with_a_file_aside")
    files.apply("p.json", engine=engine)
    assert read(files, "dest") == truth
    assert left(files) == []
    refused = here(*UNDO, cwd=files.folder)  # while it may go on at any moment
    assert refused.code == 10, refused.all
    os.kill(int(Path("died").read_text()), signal.SIGCONT)
    done = here(*UNDO, cwd=files.folder)
    while done.code == 10:  # until it has seen that its part is another's
        done = here(*UNDO, cwd=files.folder)
    engine.close()
    assert done.code == 0, done.all
    assert read(files, "config") == truth


@pytest.mark.matrix
def test_whoever_resumes_puts_back_what_workers_had_taken_aside(files: World, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = read(files, "config")
    monkeypatch.setattr(dispatch, "_REMINDERS", 1)
    with pytest.raises(EngineError, match="the catalog is switched"):
        apply(files, "stops_with_a_file_aside", number=1)
    assert left(files) != []
    files.apply("p.json")
    assert read(files, "dest") == truth
    assert left(files) == []


def test_what_a_worker_may_have_sent_is_on_record_when_the_run_ends_early(
    folder: Path, database: str, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1: its request may arrive when an undo has brought the source back."""
    world = planned(World(folder, database), s3(moto, "engines-early"), monkeypatch)
    monkeypatch.setattr(claims, "STALE_SECONDS", STALE_SECONDS)
    monkeypatch.setattr(dispatch, "_REMINDERS", 1)
    with pytest.raises(EngineError, match="the catalog is switched"):
        apply(world, "stops_after_the_mark", number=1)
    marked = world.sql("SELECT count(*) FROM reconcile_moves WHERE cleaned = 'marked'")[0][0]
    assert world.sql("SELECT count(*) FROM reconcile_late_deletes WHERE NOT answered")[0][0] >= marked > 0


def test_a_worker_whose_part_is_anothers_deletes_no_row_of_it(
    folder: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R3: the other has found the copy damaged, and keeps the source: it is the last one."""
    monkeypatch.setattr(claims, "STALE_SECONDS", STALE_SECONDS)
    world = planned(World(folder, database), DB, monkeypatch, localfs(folder / "archive"))
    apply(world, "continues_when_its_part_is_anothers")
    damaged = Path("damaged").read_text()
    kept = "SELECT count(*) FROM reconcile_moves WHERE cleaned = 'kept' AND archive_id = %s"
    assert world.sql(kept, damaged) == [(1,)]
    assert world.sql('SELECT count(*) FROM archive_document WHERE "archiveId" = %s', damaged) == [(1,)]


@pytest.mark.parametrize("task", ["loses_its_connection_once", "is_killed_and_the_next_loses_its_connection"])
def test_what_is_recorded_as_deleted_is_gone(files: World, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R7: files that are put back for another part's sake are deleted by whoever has theirs."""
    monkeypatch.setattr(claims, "STALE_SECONDS", STALE_SECONDS)
    monkeypatch.setattr(dispatch, "_ATTEMPTS", 10)
    truth = read(files, "config")
    apply(files, task)
    assert Path("died").exists()
    assert read(files, "dest") == truth
    assert left(files) == []


def test_what_a_staging_worker_had_aside_leaves_no_folder(
    folder: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = planned(World(folder, database), DB, monkeypatch, localfs(folder / "archive"))
    truth = read(world, "config")
    with contextlib.suppress(ReconcileError):
        apply(world, "reads_back_something_else_once", number=1)
    assert Path("died").exists()
    world.apply("p.json")
    assert here(*UNDO, cwd=folder).code == 0
    assert read(world, "config") == truth
    assert list((folder / "archive").rglob("*")) == []


def test_sources_that_were_kept_are_deleted_by_workers_later(files: World) -> None:
    truth = read(files, "config")
    files.apply("p.json", keep_source=True)
    configs = ("--source", "config.yaml", "--dest", "dest.yaml")
    done = here("clean", last_run(files), *configs, "--yes", "--engine", "processes:2", cwd=files.folder)
    assert done.code == 0, done.all
    assert f"{DOCUMENTS} sources deleted" in done.out
    assert left(files) == []
    assert read(files, "dest") == truth


def test_a_worker_that_does_not_find_the_mark_deletes_nothing(files: World) -> None:
    """R3: at its path there may be another directory than where the run has put its mark."""
    with pytest.raises(PlaceChangedError, match="does not find the owner mark"):
        apply(files, "finds_no_mark_when_it_cleans")
    assert len([path for path in left(files) if "owner" not in path.name]) == DOCUMENTS
    files.apply("p.json")
    assert left(files) == []


def test_what_cannot_be_recorded_at_an_early_end_hides_no_error(files: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R7: the error is the one that ended the run; R3: whoever comes next takes this process for a killed one."""

    def broken(*_given: object) -> None:
        raise CatalogError("the database went away")

    monkeypatch.setattr(late_requests, "note_marked_of", broken)
    with pytest.raises(PlaceChangedError, match="does not find the owner mark"):
        apply(files, "finds_no_mark_when_it_cleans")
    assert files.sql("SELECT count(*) FROM reconcile_executors WHERE ended_at IS NULL") == [(1,)]


def test_what_a_killed_worker_may_have_sent_is_on_record(
    folder: Path, database: str, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R3: its deleting request may arrive yet; whoever points rows at these places waits until it has expired."""
    world = planned(World(folder, database), s3(moto, "engines-sent"), monkeypatch)
    truth = read(world, "config")
    apply(world, "dies_after_the_mark")
    assert read(world, "dest") == truth
    assert world.sql("SELECT count(*) > 0 FROM reconcile_late_deletes WHERE NOT answered") == [(True,)]
