"""R1, R3: a database that was copied, restored or upgraded: one of the copies may delete, and a person says which."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.control import Control
from reconcile.errors import PlaceChangedError, ReconcileError
from reconcile.running.clean_kept import clean
from reconcile.running.phases.options import RunOptions
from reconcile.secret import Secret
from tests.archives import Place
from tests.cli.desk import last_run
from tests.cli.runner import reconcile
from tests.servers.moto import MotoServer
from tests.servers.postgresql import PostgresServer
from tests.world import DB, World, s3

DOCUMENTS = 12


class Twins:
    """An archive in production, moved from driver db to S3 and then between buckets, and a copy of its database."""

    def __init__(self, folder: Path, postgresql: PostgresServer, moto: MotoServer) -> None:
        self.server, self.folder = postgresql, folder
        self.world = World(folder, postgresql.database())
        self.world.fill(DOCUMENTS)
        place, other = Place(folder, self.world.url, moto), Place(folder, self.world.url, moto)
        start = self.world.config("start", DB)
        self.source = self.world.config("config", s3(moto, place.buckets[0]))
        self.dest = self.world.config("dest", s3(moto, other.buckets[0]))
        self.world.apply(self.world.plan(start, self.source, "setup.json"))
        self.truth = self.world.read(self.source)
        self.plan = self.world.plan(self.source, self.dest)

    def logical_copy(self) -> str:
        """Return the URL of a copy with another name, as by pg_dump and pg_restore."""
        return self.server.copy_of(self.world.url.rpartition("/")[2])

    def restore(self, copy: str) -> None:
        """Put a copy in the place of production's database, under its name: restored in place, another oid."""
        name, backup = self.world.url.rpartition("/")[2], copy.rpartition("/")[2]
        self.server.run("postgres", f"DROP DATABASE {name} WITH (FORCE)")
        self.server.run("postgres", f"ALTER DATABASE {backup} RENAME TO {name}")

    def restore_rows(self, tables: dict[str, list[tuple[Any, ...]]]) -> None:
        """Put tables back as they were, in the same database: as restoring a dump into it does."""
        self.world.sql(f"TRUNCATE {', '.join(tables)}")
        for table, rows in sorted(tables.items(), key=lambda item: item[0] == "archive_migration_tasks"):
            for row in rows:
                self.world.sql(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", *row)

    def work(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all tables that a dump would hold."""
        names = [row[0] for row in self.world.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        return {name: self.world.sql(f"SELECT * FROM {name}") for name in names}

    def undo(self, url: str, run: str, source: Path | None = None, dest: Path | None = None) -> Any:
        with verbs.opened(verbs.DatabaseOptions(url=Secret(url))) as catalog:
            return verbs.carry_out(catalog, verbs.undo_plan_of(catalog, run, source, dest), RunOptions())


@pytest.fixture
def twins(folder: Path, postgresql: PostgresServer, moto: MotoServer) -> Twins:
    return Twins(folder, postgresql, moto)


@pytest.fixture
def copy_of_server(twins: Twins) -> Iterator[PostgresServer]:
    """A physical copy of production's server, made once a run is staged: same system identifier, name and oid."""
    twins.world.apply(twins.plan, stage_only=True)
    server = PostgresServer(origin=twins.server)
    yield server
    server.close()


def at(server: PostgresServer, world: World) -> str:
    return server.url(world.url.rpartition("/")[2])


def test_an_undo_in_a_copy_under_another_name_is_refused(twins: Twins) -> None:
    twins.world.apply(twins.plan, stage_only=True)
    copy, run = twins.logical_copy(), last_run(twins.world)
    twins.world.apply(twins.plan)
    with pytest.raises(PlaceChangedError, match="belongs to another database") as error:
        twins.undo(copy, run)
    assert error.value.exit_code == 5
    assert f"reconcile rebind {run}" in (error.value.hint or "")
    assert twins.world.read(twins.dest) == twins.truth


def test_an_undo_in_a_physical_copy_is_refused(twins: Twins, copy_of_server: PostgresServer) -> None:
    """What tells it is where it is reached, and that the former address answers."""
    run = last_run(twins.world)
    twins.world.apply(twins.plan)
    with pytest.raises(PlaceChangedError, match="another server answers at the former address"):
        twins.undo(at(copy_of_server, twins.world), run)
    assert twins.world.read(twins.dest) == twins.truth


@pytest.mark.matrix
def test_a_physical_copy_of_a_finished_run_cannot_take_it_back(twins: Twins, postgresql: PostgresServer) -> None:
    twins.world.apply(twins.plan)
    run, server = last_run(twins.world), PostgresServer(origin=postgresql)
    try:
        with pytest.raises(PlaceChangedError):
            twins.undo(at(server, twins.world), run)
    finally:
        server.close()
    assert twins.world.read(twins.dest) == twins.truth


@pytest.mark.matrix
def test_the_owner_mark_stops_a_copy_that_nothing_else_tells_apart(
    twins: Twins, copy_of_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Production went on: the places carry the mark of an executor that the copy has no record of."""
    for verb in ("apply", "undo"):
        monkeypatch.setattr(f"reconcile.running.{verb}.check_database", lambda *_: None)
    run = last_run(twins.world)
    twins.world.add("late", b"late")
    with pytest.raises(ReconcileError):
        twins.world.apply(twins.plan)
    with pytest.raises(ReconcileError, match="belongs to a run that this database does not know") as error:
        twins.undo(at(copy_of_server, twins.world), run)
    assert error.value.exit_code == 10


@pytest.mark.matrix
def test_a_clean_in_a_copy_deletes_no_last_copy(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept sources; production undoes, so that they are the only ones. Refused, and if not, stopped by the look."""
    twins.world.apply(twins.plan, keep_source=True)
    copy, run = twins.logical_copy(), last_run(twins.world)
    twins.world.undo()

    def clean_there() -> None:
        with verbs.opened(verbs.DatabaseOptions(url=Secret(copy))) as catalog:
            desired = verbs.prepare(twins.plan.path).desired
            clean(catalog, run, desired, RunOptions(), Control())

    with pytest.raises(PlaceChangedError, match="belongs to another database"):
        clean_there()
    assert twins.world.read(twins.source) == twins.truth
    monkeypatch.setattr("reconcile.running.clean_kept.check_database", lambda *_: None)
    with pytest.raises(ReconcileError, match="none is intact"):
        clean_there()
    assert twins.world.read(twins.source) == twins.truth


def test_a_dump_restored_in_place_is_recognised(twins: Twins) -> None:
    """R1: the run went on after the dump; undo would delete the only copies, apply brings the catalog up to date."""
    twins.world.apply(twins.plan, stage_only=True)
    run, dump = last_run(twins.world), twins.work()
    twins.world.apply(twins.plan)
    twins.restore_rows(dump)

    status = reconcile("status", run, "--source", twins.source, cwd=twins.folder)
    assert "older than the stores" in status.out
    assert f"next: reconcile apply {twins.plan.path}" in status.out
    cleaned = reconcile("clean", run, "--source", twins.source, "--dest", twins.dest, "--yes", cwd=twins.folder)
    assert (cleaned.code, "older than the stores" in cleaned.err) == (5, True), cleaned.all
    undone = reconcile("undo", run, "--source", twins.dest, "--dest", twins.source, "--yes", cwd=twins.folder)
    assert undone.code == 5, undone.all
    assert "older than the stores" in undone.err
    assert f"next: reconcile apply {twins.plan.path}" in undone.err

    applied = reconcile("apply", twins.plan.path, "--yes", cwd=twins.folder)
    assert applied.code == 0, applied.all
    assert twins.world.read(twins.dest) == twins.truth


@pytest.mark.matrix
def test_a_dump_taken_half_way_is_brought_up_to_date_too(twins: Twins) -> None:
    """What was staged only after the dump is found at the destination, and proves itself by the catalog's digest."""
    from reconcile.running.phases.budget import Budget

    with pytest.raises(ReconcileError):
        twins.world.apply(twins.plan, stage_only=True, budget=Budget(documents=4))
    dump = twins.work()
    twins.world.apply(twins.plan)
    twins.restore_rows(dump)
    assert twins.world.apply(twins.plan).documents == DOCUMENTS
    assert twins.world.read(twins.dest) == twins.truth


def rebind(twins: Twins, run: str, *more: str) -> Any:
    return reconcile(
        "rebind", run, "--source", twins.source, "--dest", twins.dest, *more, cwd=twins.folder,
        RECONCILE_DB_CONNECT=twins.world.url,
    )  # fmt: skip


def test_rebind_puts_the_restored_database_on_record(twins: Twins) -> None:
    """Restored under its name: another oid. The former database does not exist any more."""
    twins.world.apply(twins.plan, stage_only=True)
    run, copy = last_run(twins.world), twins.logical_copy()
    twins.restore(copy)
    refused = reconcile("apply", twins.plan.path, "--yes", cwd=twins.folder)
    assert refused.code == 5, refused.all
    assert f"reconcile rebind {run}" in refused.err
    assert rebind(twins, run, "--yes").code == 64
    assert rebind(twins, run, "--confirm", "another").code == 64
    done = rebind(twins, run, "--confirm", run)
    assert done.code == 0, done.all
    assert "database on record" in done.err
    again = rebind(twins, run, "--confirm", run)
    assert again.code != 5, again.all


@pytest.mark.matrix
def test_a_restored_database_goes_on_after_rebind(twins: Twins) -> None:
    """It takes minutes: requests that the former database's executor may have sent have to expire first."""
    twins.world.apply(twins.plan, stage_only=True)
    run, copy = last_run(twins.world), twins.logical_copy()
    twins.restore(copy)
    assert rebind(twins, run, "--confirm", run).code == 0
    assert reconcile("apply", twins.plan.path, "--yes", cwd=twins.folder).code == 0
    assert twins.world.read(twins.dest) == twins.truth
    assert reconcile("undo", "p.undo.json", "--yes", cwd=twins.folder).code == 0
    assert twins.world.read(twins.source) == twins.truth


def test_rebind_is_refused_while_the_former_database_answers(twins: Twins) -> None:
    twins.world.apply(twins.plan, stage_only=True)
    run, former = last_run(twins.world), twins.world.url
    twins.world.url = twins.logical_copy()
    result = rebind(twins, run, "--confirm", run)
    assert result.code == 5, result.all
    assert "still answers" in result.err
    twins.world.url = former
    assert twins.world.apply(twins.plan).documents == DOCUMENTS


def test_no_password_is_on_record(twins: Twins) -> None:
    """R8: of a database only host, port and name are written down."""
    canary = "canary-of-the-database"
    url = twins.world.url.replace("anchore@", f"anchore:{canary}@")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "RECONCILE_DB_CONNECT", url)
        verbs.apply(verbs.prepare(twins.plan.path), verbs.DatabaseOptions(url=Secret(url)), RunOptions(stage_only=True))
    assert canary not in str(twins.work())
    assert "anchore@" not in str(twins.world.sql("SELECT database FROM reconcile_runs"))
