"""R1, R3: a process that is stopped between two steps of deleting, and goes on after another has taken over.

Each was a loss once: the model in ``tests/model`` finds the same histories.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from examples.service_reader import read_all
from reconcile import verbs
from reconcile.errors import LockedError
from reconcile.running.phases.mark import Mark
from reconcile.running.phases.options import RunOptions
from reconcile.running.record import late_requests
from reconcile.stores import s3_delete
from tests.archives import Place
from tests.cli.desk import last_run
from tests.crash.paused import paused
from tests.servers.swift import SwiftServer
from tests.world import DB, DB2, World, localfs, s3

DOCUMENTS = 30
LIFE = 3


@frozen
class Way:
    """An archive and the two configs that it moves between."""

    world: World
    source: Path
    dest: Path
    server: Any = None

    @property
    def bucket(self) -> str:
        return str(verbs.load_config(self.dest).object_store.settings["bucket"])

    def client(self) -> Any:
        return Place(self.world.folder, self.world.url, self.server).client()

    def marks(self) -> list[str]:
        found = self.client().list_objects_v2(Bucket=self.bucket, Prefix="reconcile-owner").get("Contents", [])
        return [entry["Key"] for entry in found]

    def readable(self) -> dict[tuple[str, ...], Any]:
        """Return every document as a service with the config that the rows are of reads it."""
        moved = any(url.startswith(self.scheme) for url in self.world.urls())
        return read_all(self.dest if moved else self.source)

    @property
    def scheme(self) -> str:
        text = self.dest.read_text()
        return next(scheme for name, scheme in (("db2", "db2:"), ("s3", "s3:"), ("localfs", "file:")) if name in text)


def db_to_db2(world: World, _swift: Any) -> Way:
    world.fill(DOCUMENTS)
    return Way(world, world.config("config", DB), world.config("dest", DB2))


def localfs_to_s3(world: World, swift: SwiftServer) -> Way:
    start = world.config("start", DB)
    world.fill(DOCUMENTS)
    source = world.config("config", localfs(world.folder / "archive"))
    world.apply(world.plan(start, source, "setup.json"))
    return Way(
        world, source, world.config("dest", s3(swift, f"two-{world.folder.name[-20:]}".replace("_", "-"))), swift
    )


def s3_to_localfs(world: World, swift: SwiftServer) -> Way:
    way = localfs_to_s3(world, swift)
    world.apply(world.plan(way.source, way.dest, "there.json"))
    return Way(world, way.dest, world.config("back", localfs(world.folder / "other")))


WAYS: dict[str, Callable[[World, Any], Way]] = {
    function.__name__: function for function in (db_to_db2, localfs_to_s3, s3_to_localfs)
}


@pytest.fixture
def way(request: pytest.FixtureRequest, folder: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Way:
    monkeypatch.setattr(s3_delete, "LIFE_SECONDS", LIFE)
    monkeypatch.setattr(late_requests, "HANDLING_SECONDS", 2)
    needs_server = request.param != "db_to_db2"
    server = request.getfixturevalue("swift") if needs_server else None
    return WAYS[request.param](World(folder, database), server)


MATRIX = pytest.mark.matrix
CLEANING = [
    ("db_to_db2", "marked"),
    pytest.param("localfs_to_s3", "marked", marks=MATRIX),
    pytest.param("s3_to_localfs", "marked", marks=MATRIX),
    pytest.param("s3_to_localfs", "delete signed", marks=MATRIX),
    ("s3_to_localfs", "delete checked"),
    ("localfs_to_s3", "taken aside"),
    pytest.param("localfs_to_s3", "aside, checked", marks=MATRIX),
]


@pytest.mark.parametrize(("way", "point"), CLEANING, indirect=["way"])
def test_a_clean_that_was_paused_deletes_nothing_after_the_undo(way: Way, point: str) -> None:
    """The undo adopts sources that the paused process had marked, and was about to delete."""
    world, truth = way.world, way.readable()
    plan = world.plan(way.source, way.dest)
    with paused(point, world.url, "apply", plan.path, "--yes", "--workers", "2", life=LIFE) as old:
        old.end_sessions()
        assert way.readable() == truth
        world.undo()
        assert way.readable() == truth
        code, said = old.resume()
    assert code in (1, 10), said  # its session was found gone, or its token replaced
    assert way.readable() == truth
    leftovers = [path for path in world.folder.rglob("*") if path.is_file() and ".owner" in str(path)]
    assert not leftovers


@pytest.mark.parametrize(("way", "point"), CLEANING, indirect=["way"])
@MATRIX
def test_a_clean_that_was_paused_is_finished_by_the_same_command(way: Way, point: str) -> None:
    world, truth = way.world, way.readable()
    plan = world.plan(way.source, way.dest)
    with paused(point, world.url, "apply", plan.path, "--yes", "--workers", "2", life=LIFE) as old:
        old.end_sessions()
        assert world.apply(plan).documents == DOCUMENTS
        world.undo()
        assert way.readable() == truth
        code, said = old.resume()
    assert code in (1, 10), said  # its session was found gone, or its token replaced
    assert way.readable() == truth


@pytest.mark.parametrize("way", ["localfs_to_s3"], indirect=True)
def test_a_mark_that_was_paused_on_its_way_is_known(way: Way) -> None:
    """Whoever took over has removed the marks by then: the next run takes the late one for its own, and away."""
    world, truth = way.world, way.readable()
    plan = world.plan(way.source, way.dest)
    with paused("mark about to be put", world.url, "apply", plan.path, "--yes", life=LIFE) as old:
        old.end_sessions()
        assert world.apply(plan).documents == DOCUMENTS
        code, said = old.resume()
    assert code in (1, 10), said
    world.undo()
    assert way.readable() == truth
    assert not way.marks()


@pytest.mark.parametrize("way", ["localfs_to_s3"], indirect=True)
def test_a_mark_that_came_late_is_known(way: Way) -> None:
    """Its process was killed after all, so it stays: the next run knows the word, and puts its own in its place."""
    world, truth = way.world, way.readable()
    plan = world.plan(way.source, way.dest)
    with paused("mark about to be put", world.url, "apply", plan.path, "--yes", life=LIFE) as old:
        old.end_sessions()
        query = "SELECT mark_before FROM reconcile_places WHERE name = 'dest.object_store' ORDER BY run_id DESC"
        word = world.sql(query)[0][0]
        assert world.apply(plan).documents == DOCUMENTS
    late = Mark({"word": word, "run": "the killed one's"}).encode()
    way.client().put_object(Bucket=way.bucket, Key="reconcile-owner", Body=late)
    world.undo()
    assert way.readable() == truth
    assert not way.marks()


ROLLING_BACK = [
    ("db_to_db2", "copies marked"),
    ("localfs_to_s3", "delete checked"),
    pytest.param("s3_to_localfs", "taken aside", marks=MATRIX),
    pytest.param("localfs_to_s3", "copies marked", marks=MATRIX),
]


@pytest.mark.parametrize(("way", "point"), ROLLING_BACK, indirect=["way"])
def test_a_rollback_that_was_paused_deletes_nothing_after_the_next_apply(way: Way, point: str) -> None:
    """A second undo ends, a new apply stages the same copies anew and deletes the sources; then the first goes on."""
    world, truth = way.world, way.readable()
    plan = world.plan(way.source, way.dest)
    world.apply(plan, stage_only=True)
    run = last_run(world)
    with paused(point, world.url, "undo", run, "--source", way.dest, "--dest", way.source, "--yes", life=LIFE) as old:
        old.end_sessions()
        with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(way.source)) as catalog:
            verbs.carry_out(catalog, verbs.undo_plan_of(catalog, run, way.dest, way.source), RunOptions())
        assert world.apply(plan).documents == DOCUMENTS
        assert way.readable() == truth
        code, said = old.resume()
    assert code in (1, 10), said  # its session was found gone, or its token replaced
    assert way.readable() == truth


@pytest.mark.parametrize("way", ["db_to_db2"], indirect=True)
def test_another_plan_takes_over_from_a_paused_rollback_too(way: Way) -> None:
    """The token is the database's, not the run's: whoever executes anything there is the only one."""
    world, truth = way.world, way.readable()
    plan = world.plan(way.source, way.dest)
    world.apply(plan, stage_only=True)
    with paused(
        "copies marked", world.url, "undo", last_run(world), "--source", way.dest, "--dest", way.source, "--yes"
    ) as old:
        old.end_sessions()
        assert world.apply(world.plan(way.source, way.dest, "other.json")).documents == DOCUMENTS
        assert old.resume()[0] in (1, 10)
    assert way.readable() == truth


@pytest.mark.parametrize("way", ["s3_to_localfs"], indirect=True)
@pytest.mark.matrix
def test_a_process_that_was_paused_with_the_folder_locked_keeps_nobody_waiting_for_ever(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, truth = way.world, way.readable()
    plan = world.plan(way.source, way.dest)
    monkeypatch.setattr("reconcile.stores.owner_folder._LOCK_SECONDS", 1)
    with paused("mark without its name", world.url, "apply", plan.path, "--yes", life=LIFE) as old:
        old.end_sessions()
        with pytest.raises(LockedError, match="another process has held its lock for 1 seconds") as refused:
            world.apply(plan)
        assert str(refused.value.hint).startswith("fuser -v ")
        old.kill()
        assert world.apply(plan).documents == DOCUMENTS
    world.undo()
    assert way.readable() == truth
