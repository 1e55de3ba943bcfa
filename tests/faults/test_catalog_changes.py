"""What administrators and proxies do to the catalog's database while a run is under way."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from reconcile.catalog import Catalog
from reconcile.running.phases.switch import Switcher
from tests.archives import new_sqlite
from tests.cli.desk import filled, opened, planned
from tests.servers.postgresql import PostgresServer
from tests.world import DB, DB2, World, localfs


def test_no_transaction_may_be_sent_to_a_replica(folder: Path, database: str, postgresql: PostgresServer) -> None:
    """A proxy sends what is declared read-only to a replica; that lags, and a row may not be there yet (R3)."""
    name = database.rpartition("/")[2]
    postgresql.run("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with opened(World(folder, database)) as catalog:
        for transaction in (Catalog.read, Catalog.snapshot, Catalog.write):
            with transaction(catalog) as connection:
                assert connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "off", transaction


MAINTENANCE = (
    "VACUUM FULL",
    "ALTER TABLE {table} ADD COLUMN note text DEFAULT 'none'",
    "ALTER TABLE {table} ALTER COLUMN last_updated TYPE bigint",  # writes every row anew
    "CLUSTER {table} USING {table}_pkey",
    "REINDEX TABLE {table}",
)


@pytest.mark.parametrize(
    "statement", [*MAINTENANCE[:1], *(pytest.param(s, marks=pytest.mark.matrix) for s in MAINTENANCE[1:])]
)
@pytest.mark.parametrize("table", [pytest.param("archive_metadata", marks=pytest.mark.matrix), "object_storage"])
def test_maintenance_between_staging_and_switch(
    folder: Path, database: str, postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch, statement: str, table: str
) -> None:
    """Rows that were written anew are looked at again, and nothing is lost; the same before an undo."""
    world = filled(World(folder, database))
    truth = world.read(folder / "config.yaml")
    planned(world)
    recheck = Switcher.recheck

    def maintained(self: Switcher, *args: object) -> None:
        postgresql.run(database.rpartition("/")[2], statement.format(table=table))
        recheck(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Switcher, "recheck", maintained)
        assert world.apply("p.json").documents == 6
    assert world.read(folder / "dest.yaml") == truth
    postgresql.run(database.rpartition("/")[2], "VACUUM FULL")
    assert world.undo().documents == 6
    assert world.read(folder / "config.yaml") == truth


@pytest.mark.matrix
def test_a_logical_replication_slot_is_no_hindrance(folder: Path) -> None:
    server = PostgresServer()
    try:
        server.run("postgres", "ALTER SYSTEM SET wal_level = 'logical'")
        server.stop("fast")
        server.start()
        world = filled(World(folder, server.database()))
        world.sql("CREATE PUBLICATION everything FOR ALL TABLES")
        world.sql("SELECT pg_create_logical_replication_slot('copy', 'pgoutput')")
        before, truth = world.tables(), world.read(folder / "config.yaml")
        planned(world)
        assert world.apply("p.json").documents == 6
        assert world.read(folder / "dest.yaml") == truth
        assert world.undo().documents == 6
        assert world.tables() == before
    finally:
        server.close()


@pytest.mark.parametrize("dest", [pytest.param(DB2, marks=pytest.mark.matrix), "files"])
def test_an_sqlite_catalog_in_wal_mode(folder: Path, dest: object) -> None:
    world = filled(World(folder, new_sqlite(folder)))
    assert world.sql("PRAGMA journal_mode = WAL") == [("wal",)]
    world.config("dest", localfs(folder / "archive") if dest == "files" else DB2)
    before, truth = world.tables(), world.read(folder / "config.yaml")
    reader = sqlite3.connect(folder / "anchore.db")  # as a service has it open, in the middle of a transaction
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM archive_metadata").fetchone()
    planned(world)
    assert world.apply("p.json").documents == 6
    reader.close()
    assert world.read(folder / "dest.yaml") == truth
    assert world.undo().documents == 6
    assert world.tables() == before
    assert world.sql("PRAGMA journal_mode") == [("wal",)]
    world.config("config", DB)
