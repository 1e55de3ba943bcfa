"""R1, R2, R3, R6 with worker processes: killed, stopped, of another version, with another config."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconcile import verbs
from reconcile.catalog import Catalog, DatabaseOptions
from reconcile.catalog.lock import WORKERS
from reconcile.engines import Setup
from reconcile.engines.processes import Processes
from reconcile.errors import EngineError, LockedError, PlaceChangedError, ReconcileError
from reconcile.running.phases import dispatch, elsewhere
from reconcile.running.phases.look_part import Looked, PartLooker
from reconcile.running.record import executor, status
from reconcile.running.record.crew import note_work
from reconcile.running.record.parts import Part
from tests.cli.desk import data_of, last_run, opened, stage_only
from tests.cli.runner import here
from tests.servers.moto import MotoServer
from tests.world import DB, DB2, World, localfs, s3

DOCUMENTS = 40
WORKER = "reconcile.workers.worker:Worker"


@pytest.fixture
def archive(folder: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(folder, database)
    world.fill(DOCUMENTS)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    monkeypatch.setattr("reconcile.running.phases.stage.BATCH_DOCUMENTS", 5)
    return world


def processes(world: World, number: int = 2, task: str = WORKER, dest: str = "dest") -> Processes:
    source, dest_path = world.folder / "config.yaml", world.folder / f"{dest}.yaml"
    return Processes(number, Setup(task, DatabaseOptions(), source, dest_path))


def apply(world: World, engine: Processes, plan: str = "p.json", **options: object) -> object:
    try:
        return world.apply(plan, engine=engine, **options)
    finally:
        engine.close()


def planned(world: World, dest: str = "dest", **request: object) -> dict[str, object]:
    """Plan; return what every document is."""
    truth = world.read(world.folder / "config.yaml")
    world.plan(world.folder / "config.yaml", world.folder / f"{dest}.yaml", **request)
    return dict(truth)


def is_moved(world: World, truth: dict[str, object], dest: str = "dest") -> None:
    """An independent reader sees every document, no source and no claim is left."""
    assert world.read(world.folder / f"{dest}.yaml") == truth
    assert world.sql("SELECT count(*) FROM archive_document") == [(0,)]
    assert world.sql("SELECT count(*) FROM reconcile_claims") == [(0,)]


def contents(world: World) -> dict[str, object]:
    tables = world.tables()
    return {name: tables[name] for name in ("archive_metadata", "archive_document", "object_storage")}


@pytest.mark.parametrize("kind", ["localfs", "s3", "db2"])
def test_there_and_back_by_the_command_line(
    kind: str, folder: Path, database: str, request: pytest.FixtureRequest
) -> None:
    world = World(folder, database)
    world.fill(DOCUMENTS)
    world.config("config", DB)
    moto: MotoServer = request.getfixturevalue("moto")
    world.config("dest", {"localfs": localfs(folder / "archive"), "s3": s3(moto, "engines-there"), "db2": DB2}[kind])
    before, truth = contents(world), planned(world)
    done = here("apply", "p.json", "--yes", "--engine", "processes:2", cwd=folder)
    assert done.code == 0, done.all
    is_moved(world, truth)
    assert done.err.count('"event": "batch staged"') >= DOCUMENTS / 10  # so that each worker gets some
    assert world.sql("SELECT engine FROM reconcile_runs") == [("processes:2",)]
    assert world.sql("SELECT sum(documents) FROM reconcile_workers") == [(DOCUMENTS,)]
    report = data_of(here("report", last_run(world), "--source", "dest.yaml", "--format", "json", cwd=folder), "report")
    assert report["engine"] == "processes:2"
    assert sum(worker["documents"] for worker in report["workers"]) == DOCUMENTS
    undone = here("undo", "p.undo.json", "--yes", cwd=folder, RECONCILE_ENGINE="processes:2")
    assert undone.code == 0, undone.all
    assert contents(world) == before
    assert world.sql("SELECT engine FROM reconcile_runs WHERE undo_of IS NOT NULL") == [("processes:2",)]


def test_a_worker_that_is_killed_after_a_write_costs_nothing(archive: World) -> None:
    truth = planned(archive)
    apply(archive, processes(archive, task="tests.engines.tasks:dies_between_write_and_record"))
    assert Path("died").exists()
    is_moved(archive, truth)


@pytest.mark.parametrize("where", ["between_write_and_record", "inside_a_transaction"])
def test_a_worker_that_is_stopped_is_done_without(archive: World, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "OVERDUE_SECONDS", 8.0)
    monkeypatch.setattr(dispatch, "_LOOK_SECONDS", 1.0)
    truth = planned(archive)
    apply(archive, processes(archive, task=f"tests.engines.tasks:stops_{where}"))
    assert Path("died").exists()
    is_moved(archive, truth)


def test_a_part_that_ends_every_worker_is_named(archive: World) -> None:
    truth, engine = planned(archive), processes(archive, task="tests.engines.tasks:dies_of_the_document")
    with pytest.raises(EngineError, match=r"3 workers in a row .* 5 documents from .*sha256:") as caught:
        apply(archive, engine)
    assert "nothing was switched" in caught.value.message
    assert archive.read(archive.folder / "config.yaml") == truth
    apply(archive, processes(archive))
    is_moved(archive, truth)


def test_a_worker_of_another_version_stages_nothing(archive: World) -> None:
    planned(archive)
    with pytest.raises(ReconcileError, match=r"is led by 0\.0\.1.*worker") as caught:
        apply(archive, processes(archive, task="tests.engines.tasks:of_another_version"))
    assert caught.value.exit_code == 78
    assert not list((archive.folder / "archive").rglob("*.json"))


def test_a_worker_that_does_not_find_the_mark_stages_nothing(archive: World) -> None:
    """R1: disks of two machines may have one path, one inode and one file system id; copies there would be lost."""
    truth = planned(archive)
    with pytest.raises(PlaceChangedError, match="does not find the owner mark"):
        apply(archive, processes(archive, task="tests.engines.tasks:finds_no_mark"))
    assert not list((archive.folder / "archive").rglob("*.json"))
    apply(archive, processes(archive))
    is_moved(archive, truth)


def test_workers_stage_at_a_destination_that_is_shared_since(archive: World) -> None:
    """The mark there is another installation's by now: what this run once wrote there is not looked for."""
    truth = planned(archive)
    archive.apply("p.json", stage_only=True)
    (mark,) = [path for path in (archive.folder / "archive").rglob("*") if path.is_file() and "owner" in path.name]
    found = json.loads(mark.read_bytes())
    found["owner"] |= {"word": "f" * 32, "database": {"identity": {"kind": "sqlite", "path": "/another"}}}
    mark.write_text(json.dumps(found))
    archive.sql("UPDATE reconcile_moves SET state = 'planned', origin = NULL WHERE seq > 20")
    configs = ("--engine", "processes:2", "--share-destination")
    done = here("apply", "p.json", "--yes", *configs, cwd=archive.folder)
    assert done.code == 0, done.all
    assert archive.read(archive.folder / "dest.yaml") == truth


@pytest.mark.parametrize(("what", "code"), [("config", 78), ("data dir", 78), ("database", 78), ("secret", 1)])
def test_a_worker_that_would_do_something_else_stages_nothing(
    archive: World, what: str, code: int, request: pytest.FixtureRequest, postgresql: object
) -> None:
    if what == "secret":
        server = request.getfixturevalue("swift")
        container = s3(server, "engines-secret")
        archive.config("dest", container)
        archive.config("there", s3(server, "engines-secret", secret_key="another-secret"))
    elif what == "config":
        archive.config("there", DB2)
    else:
        archive.config("there", localfs(archive.folder / "elsewhere"))
    planned(archive)
    engine = processes(archive, dest="there")
    if what == "database":
        world = World(archive.folder, postgresql.database())  # type: ignore[attr-defined]
        setup = Setup(WORKER, DatabaseOptions(), world.config("other", DB), None)
        engine = Processes(1, setup)
    truth = contents(archive)
    with pytest.raises(ReconcileError) as caught:
        apply(archive, engine)
    assert caught.value.exit_code == code, caught.value.message
    assert "worker" in caught.value.message
    assert contents(archive) == truth
    assert archive.sql("SELECT count(*) FROM reconcile_moves WHERE state = 'staged'") == [(0,)]


def test_nothing_is_switched_or_deleted_while_a_worker_has_a_part_in_hand(
    archive: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of an earlier attempt, stopped for an hour, would go on with its write whenever it is continued."""
    monkeypatch.setattr(executor, "_WORKERS_SECONDS", 0.5)
    truth = planned(archive)
    with opened(archive) as catalog, catalog.engine.connect() as worker:
        pid = worker.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
        worker.execute(sa.select(sa.func.pg_advisory_lock_shared(*WORKERS)))
        for attempt in (lambda: apply(archive, processes(archive)), lambda: archive.apply("p.json")):
            with pytest.raises(LockedError, match=f"database process {pid} from") as caught:
                attempt()
            assert caught.value.exit_code == 10
        assert archive.read(archive.folder / "config.yaml") == truth
        worker.invalidate()
    archive.apply("p.json", keep_source=True)
    run, configs = last_run(archive), ("--source", "config.yaml", "--dest", "dest.yaml")
    with opened(archive) as catalog, catalog.engine.connect() as worker:
        worker.execute(sa.select(sa.func.pg_advisory_lock_shared(*WORKERS)))
        for verb in (("clean", run, *configs), ("undo", "p.undo.json")):
            refused = here(*verb, "--yes", cwd=archive.folder)
            assert refused.code == 10, refused.all
        worker.invalidate()
    assert archive.read(archive.folder / "dest.yaml") == truth
    assert archive.read(archive.folder / "config.yaml") != truth
    assert here("undo", "p.undo.json", "--yes", cwd=archive.folder).code == 0
    assert archive.read(archive.folder / "config.yaml") == truth


def test_what_a_late_worker_writes_does_not_come_after_the_last_look(
    archive: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server without conditions it could replace, or take away again, what was just seen to be right."""
    monkeypatch.setattr(executor, "_WORKERS_SECONDS", 0.5)
    looked, look = list[object](), PartLooker.look

    def noted(self: PartLooker, part: Part) -> Looked:
        looked.append(part)
        return look(self, part)

    monkeypatch.setattr(PartLooker, "look", noted)
    truth = planned(archive)
    archive.apply("p.json", stage_only=True)
    with opened(archive) as catalog, catalog.engine.connect() as worker:
        worker.execute(sa.select(sa.func.pg_advisory_lock_shared(*WORKERS)))
        with pytest.raises(LockedError, match="a worker is still working on a part"):
            archive.apply("p.json")
        worker.invalidate()
    assert looked == []
    archive.apply("p.json")
    assert looked
    is_moved(archive, truth)


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("processes:0", "a number from 1 to 256"),
        ("processes:many", "a number from 1 to 256"),
        ("spark", "there is no such engine"),
        ("json:nothing", "there is no such engine"),
        ("dask:somewhere", "an address of a scheduler is tls://HOST:PORT"),
        ("dask:tcp://10.0.0.1:8786", "without TLS anybody"),
    ],
)
def test_a_name_that_is_no_engine_is_refused(archive: World, engine: str, says: str) -> None:
    planned(archive)
    refused = here("apply", "p.json", "--yes", "--engine", engine, cwd=archive.folder)
    assert refused.code == 64, refused.all
    assert says in refused.err
    assert archive.sql("SELECT to_regclass('reconcile_runs')") == [(None,)]


def test_what_cannot_be_done_elsewhere_is_refused(archive: World, folder: Path) -> None:
    planned(archive, overwrite=True)
    refused = here("apply", "p.json", "--yes", "--engine", "processes:2", cwd=folder)
    assert refused.code == 64, refused.all
    assert "the plan overwrites" in refused.err


def test_sqlite_has_no_workers(folder: Path) -> None:
    from tests.archives import new_sqlite
    from tests.cli.desk import filled

    world = filled(World(folder, new_sqlite(folder)))
    planned(world)
    for verb in (("apply", "p.json"),):
        refused = here(*verb, "--yes", "--engine", "processes:2", cwd=folder)
        assert refused.code == 64, refused.all
        assert "SQLite" in refused.err
    world.apply("p.json")
    assert here("undo", "p.undo.json", "--yes", "--engine", "processes:2", cwd=folder).code == 64


def test_connections_are_counted_before_anything_is_begun(archive: World) -> None:
    planned(archive)
    engine = processes(archive, 200)
    with pytest.raises(EngineError, match="takes about 2400 connections, and of max_connections the database has"):
        apply(archive, engine)


def test_no_worker_is_seen_later_than_the_time_of_a_status(archive: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = stage_only(archive, archive.plan(archive.folder / "config.yaml", archive.folder / "dest.yaml"))

    def meanwhile(catalog: Catalog) -> None:
        time.sleep(1.1)  # times are whole seconds
        with catalog.write() as connection:
            note_work(connection, run_id, "root@elsewhere:1", 1, 1)

    monkeypatch.setattr(status, "lock_holder", meanwhile)
    with opened(archive) as catalog:
        found = verbs.status(catalog, run_id)
    assert [worker.seen_at <= found.at for worker in found.workers] == [True]
