"""R2: the catalog is changed in the order of its pages where it can be, else in any order, and always all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from reconcile.running.phases import repoint
from tests.servers.postgresql import PostgresServer
from tests.world import DB, World, localfs


@pytest.fixture
def archive(folder: Path, database: str) -> World:
    world = World(folder, database)
    world.fill(30)
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    return world


def there_and_back(archive: World) -> None:
    """Every document is read at its new place, and the undo brings back every row and every document."""
    before, truth = archive.tables(), archive.read(archive.folder / "config.yaml")
    archive.apply(archive.plan(archive.folder / "config.yaml", archive.folder / "dest.yaml"))
    assert archive.read(archive.folder / "dest.yaml") == truth
    archive.undo()
    assert archive.tables() == before


def pages(archive: World) -> list[tuple[object, ...]]:
    return archive.sql('SELECT "archiveId" FROM archive_metadata ORDER BY ctid')


def test_rows_are_written_in_the_order_in_which_they_lie(archive: World) -> None:
    """Whatever the order of the plan: so each page of the table is logged whole once."""
    name = archive.url.rpartition("/")[2]
    archive.sql(f'ALTER DATABASE "{name}" SET enable_hashjoin = off')  # a merge join gives rows by their names
    archive.sql('CREATE TABLE shuffled AS SELECT * FROM archive_metadata ORDER BY md5("archiveId")')
    archive.sql("DELETE FROM archive_metadata")
    archive.sql("INSERT INTO archive_metadata SELECT * FROM shuffled")
    archive.sql("DROP TABLE shuffled")
    lying = pages(archive)
    assert lying != sorted(lying)
    archive.apply(archive.plan(archive.folder / "config.yaml", archive.folder / "dest.yaml"))
    assert pages(archive) == lying


def test_rows_of_a_table_that_inherits_are_led_elsewhere_too(archive: World) -> None:
    """Two rows have one place then, each in its table."""
    archive.sql('CREATE TABLE archive_metadata_old (PRIMARY KEY (bucket, "archiveId")) INHERITS (archive_metadata)')
    archive.sql(
        "WITH old AS (DELETE FROM ONLY archive_metadata WHERE \"archiveId\" > 'sha256:0014' RETURNING *)"
        " INSERT INTO archive_metadata_old SELECT * FROM old"
    )
    assert archive.sql("SELECT count(*) > 0 FROM archive_metadata GROUP BY ctid HAVING count(*) > 1")
    there_and_back(archive)


def test_a_role_that_may_make_no_temporary_table_switches_too(
    archive: World, postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order = []
    monkeypatch.setattr(repoint, "_in_order", lambda *given: in_order.append(given))
    name = sa.make_url(archive.url).database
    assert name is not None
    postgresql.run(name, f"CREATE ROLE frugal LOGIN; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    postgresql.run(name, "GRANT ALL ON ALL TABLES IN SCHEMA public TO frugal; GRANT ALL ON SCHEMA public TO frugal")
    postgresql.run(name, "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO frugal")
    owner, archive.url = archive.url, postgresql.url(name, "frugal")
    archive.config("config", DB)
    archive.config("dest", localfs(archive.folder / "archive"))
    try:
        there_and_back(archive)
    finally:
        archive.url = owner
        postgresql.run(name, "DROP OWNED BY frugal; DROP ROLE frugal")
    assert in_order == []


def test_a_database_that_lets_nobody_make_tables_is_switched_too(archive: World) -> None:
    plan = archive.plan(archive.folder / "config.yaml", archive.folder / "dest.yaml")
    truth = archive.read(archive.folder / "config.yaml")
    archive.apply(plan, stage_only=True)
    archive.sql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'no tables here'; END $$"
    )
    tags = "('CREATE TABLE', 'CREATE TABLE AS')"
    archive.sql(f"CREATE EVENT TRIGGER no_tables ON ddl_command_start WHEN TAG IN {tags} EXECUTE FUNCTION refuse()")
    archive.apply(plan)
    assert archive.read(archive.folder / "dest.yaml") == truth
