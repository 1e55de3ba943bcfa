"""R1, R2, R6: PostgreSQL fails over to a standby with workers at work; whatever it had not received is done again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from reconcile.engines import Engine, Message
from reconcile.errors import ReconcileError
from tests.cli.runner import here
from tests.engines.test_processes import contents, is_moved, planned, processes
from tests.servers.postgresql import PostgresServer
from tests.world import DB, World, localfs


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    """A server of the test's own, which ends at the failover."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def standby(primary: PostgresServer, archive: World) -> Iterator[PostgresServer]:
    """What follows the primary, the archive's database included."""
    assert archive.url.startswith("postgresql")
    server = PostgresServer(origin=primary, standby=True)
    yield server
    server.close()


@pytest.fixture
def archive(folder: Path, primary: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(folder, primary.database())
    world.fill(40)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    monkeypatch.setattr("reconcile.running.phases.stage.BATCH_DOCUMENTS", 5)
    monkeypatch.setattr("reconcile.running.phases.clean._PART_DOCUMENTS", 5)
    return world


class FailsOver:
    """An engine with a database that fails over before the third part of a phase is given to workers."""

    def __init__(self, engine: Engine, task: str, primary: PostgresServer, standby: PostgresServer) -> None:
        self.engine, self.name, self.task, self.given = engine, engine.name, task, 0
        self.primary, self.standby = primary, standby

    def width(self) -> int:
        return self.engine.width()

    def submit(self, message: Message) -> Future[Message]:
        self.given += message["task"] == self.task
        if self.given == 3 and self.primary.is_running:
            self.primary.stop("immediate")
            self.standby.promote(self.primary.port)
        return self.engine.submit(message)

    def close(self) -> None:
        self.engine.close()


@pytest.mark.parametrize("task", ["stage", pytest.param("clean", marks=pytest.mark.matrix)])
def test_the_same_command_finishes_at_the_promoted_standby(
    task: str, archive: World, primary: PostgresServer, standby: PostgresServer
) -> None:
    before, truth = contents(archive), planned(archive)
    engine = FailsOver(processes(archive), task, primary, standby)
    with pytest.raises(ReconcileError) as caught:
        archive.apply("p.json", engine=engine)
    engine.close()
    assert not primary.is_running
    assert caught.value.exit_code in (1, 10), caught.value
    assert archive.read(archive.folder / ("dest.yaml" if task == "clean" else "config.yaml")) == truth
    done = here("apply", "p.json", "--yes", "--engine", "processes:2", cwd=archive.folder)
    assert done.code == 0, done.all
    is_moved(archive, truth)
    undone = here("undo", "p.undo.json", "--yes", "--engine", "processes:2", cwd=archive.folder)
    assert undone.code == 0, undone.all
    assert contents(archive) == before
