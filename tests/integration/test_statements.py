"""What a run asks the database of all its documents takes time in proportion to them: tables are joined by hash.

A condition that is evaluated anew for each row, or a nested loop without an index, takes the square of that: days for a
million documents, within the maintenance window.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from reconcile import verbs
from reconcile.catalog.tables import archive_metadata
from reconcile.running.record import late_requests
from reconcile.running.record.tables import moves, same_row
from tests.archives import Place
from tests.cli.desk import last_run, opened
from tests.cli.runner import here, killed
from tests.servers.moto import MotoServer
from tests.world import DB, DB2, World, s3

COPIED = """
    INSERT INTO object_storage ("userId", bucket, key, version, content, created_at, last_updated)
    SELECT "userId", bucket, "archiveId", '', CASE WHEN b64_encoded THEN decode(jsondata, 'base64')
           ELSE convert_to(jsondata, 'UTF8') END, created_at, last_updated
    FROM archive_document
"""  # to where driver db2 would have it
BY_KEY = {"JOIN", "archive_metadata", "LIMIT"}  # the first of a run's moves whose row is as it was
PLANNABLE = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE TEMPORARY TABLE \S+ .*\bAS)\b", re.DOTALL)
SETTINGS = "SELECT " + ", ".join(
    f"current_setting('{name}')" for name in ("enable_nestloop", "statement_timeout", "enable_sort")
)
BOUNDED = ("seq BETWEEN", "seq IN", "json_to_recordset")  # what concerns a batch
LARGE = {"archive_metadata", "reconcile_moves", "reconcile_in_place", "reconcile_late_deletes"}


@contextmanager
def explained() -> Iterator[set[str]]:
    """Give the statements of the block that join no other way than row by row and so on, each with the reason."""
    found: set[str] = set()

    def explain(_connection: Any, at_work: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if PLANNABLE.match(statement) and not many and not at_work.connection.autocommit:
            with at_work.connection.cursor() as beside:  # in the very transaction
                beside.execute(SETTINGS)
                settings = beside.fetchone()
                beside.execute("SET LOCAL enable_nestloop = off")
                beside.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
                plan = beside.fetchone()[0][0]["Plan"]
                found.update(f"{why}: {statement}" for why in faults(statement, plan, *settings))
                beside.execute(f"SET LOCAL enable_nestloop = {settings[0]}")

    sa.event.listen(Engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        sa.event.remove(Engine, "before_cursor_execute", explain)


def faults(statement: str, plan: dict[str, Any], nested: str, limit: str, sorts: str) -> Iterator[str]:
    """Yield what a statement may take too long by: its plan without nested loops, and its transaction's settings."""
    yield from row_by_row(plan)
    if not large(plan):
        return
    if "seq IN" in statement and "ORDER BY" in statement and sorts == "off":
        yield "PostgreSQL reads the whole run for a few numbers"
    if any(bound in statement for bound in BOUNDED):
        return
    if joins(plan) and nested == "on" and not set(statement.split()) >= BY_KEY:
        yield "PostgreSQL may choose a nested loop"
    if "seq > " in statement and sorts == "on":
        yield "PostgreSQL may read all for each page"
    if limit != "0":
        yield "--db-timeout may end it"


def row_by_row(plan: dict[str, Any]) -> Iterator[str]:
    """Yield what of a plan reads a large table for each row of another."""
    parts = plan.get("Plans", [])
    if plan["Node Type"] == "Nested Loop" and all(large(part) for part in parts):
        yield f"nested loop over {[large(part) for part in parts]}"
    for part in parts:
        if part["Parent Relationship"] == "SubPlan" and large(part):
            yield f"{part['Subplan Name']} over {large(part)} for each row"
        yield from row_by_row(part)


def joins(plan: dict[str, Any]) -> bool:
    """Tell whether a plan joins two large tables."""
    parts = plan.get("Plans", [])
    is_join = plan["Node Type"].endswith("Join") and all(large(part) for part in parts)
    return is_join or any(map(joins, parts))


def large(plan: dict[str, Any]) -> set[str]:
    """Return the large tables that a part of a plan reads."""
    mine = {plan.get("Relation Name", "")} & LARGE
    return mine.union(*(large(part) for part in plan.get("Plans", [])))


@pytest.fixture
def world(folder: Path, database: str) -> World:
    world = World(folder, database)
    world.fill(30)
    world.config("config", DB)
    world.config("dest", DB2)
    return world


def test_apply_and_undo(world: World) -> None:
    """Also of documents that are at their destination already, beside another run that is on record."""
    source, dest = world.folder / "config.yaml", world.folder / "dest.yaml"
    with explained() as slow:
        world.apply(world.plan(source, dest, keep_source=True))
        world.undo()
        world.sql(COPIED)
        world.add("damaged", b"x", digest="0" * 32)
        world.apply(world.plan(source, dest, "again.json"), leave_failed=True)
        world.undo("again.undo.json")
    assert not slow, "\n\n".join(slow)


def test_a_run_with_what_services_wrote_meanwhile(world: World) -> None:
    plan = world.plan(world.folder / "config.yaml", world.folder / "dest.yaml")
    with explained() as slow:
        world.apply(plan, stage_only=True)
        write(world, "meanwhile")
        world.apply(plan, refresh=True)
        world.sql("UPDATE archive_metadata SET last_updated = last_updated + 1 WHERE \"archiveId\" = 'sha256:0004'")
        with opened(world) as catalog:
            configs = (world.folder / "dest.yaml", world.folder / "config.yaml")
            verbs.carry_out(catalog, verbs.undo_plan_of(catalog, last_run(world), *configs, with_changes=True))
    assert not slow, "\n\n".join(slow)


def test_a_killed_clean_and_what_comes_after_it(
    world: World, moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests to delete may still arrive, and are waited for."""
    monkeypatch.setattr(late_requests, "HANDLING_SECONDS", 1)
    there = Place(world.folder, world.url, moto)
    source, dest = world.config("there", s3(moto, there.buckets[0])), world.folder / "dest.yaml"
    world.apply(world.plan(world.folder / "config.yaml", source, "there.json"))
    plan = world.plan(source, dest)
    killed("marked", "apply", plan.path, "--yes", cwd=world.folder, CRASH_LIFE="1")
    with explained() as slow:
        world.undo()
        world.apply(plan, stage_only=True)
        with opened(world) as catalog:
            verbs.carry_out(catalog, verbs.undo_plan_of(catalog, last_run(world), dest, source))
    assert not slow, "\n\n".join(slow)


def write(world: World, name: str) -> None:
    """Add a document, and write another again, as services do."""
    world.add(name, b"{}")
    world.sql("UPDATE archive_metadata SET last_updated = last_updated + 1 WHERE \"archiveId\" = 'sha256:0003'")


def test_the_other_verbs(world: World) -> None:
    """By the command line, in this process; a run is staged, then ended."""
    config = ("--source", "config.yaml")

    def run(*arguments: str) -> None:
        done = here(*arguments, cwd=world.folder)
        assert done.code == 0, done.all

    with explained() as slow:
        run("plan", "config.yaml", "dest.yaml", "--out", "p.json", "--probe", "digest", "--overwrite")
        run("apply", "p.json", "--yes", "--stage-only")
        run("verify", "dest.yaml", "--run", last_run(world))
        run("status", *config)
        run("apply", "p.json", "--yes", "--refresh", "--keep-source")
        run("undo", "p.undo.json", "--dry-run")
        for verb in ("status", "report"):
            run(verb, *config, "--format", "json")
        run("clean", last_run(world), *config, "--dest", "dest.yaml", "--dry-run")
        run("clean", last_run(world), *config, "--dest", "dest.yaml", "--yes")
        run("verify", "dest.yaml", "--orphans")
        run("plan", "dest.yaml", "config.yaml", "--out", "back.json", "--limit", "5")
        run("check", "dest.yaml")
        run("forget", last_run(world), *config, "--yes")
    assert not slow, "\n\n".join(slow)


def test_a_statement_that_takes_the_square_is_found(world: World) -> None:
    """A condition within an "or", as an undo had it, and a read of all moves that has a time limit."""
    world.apply(world.plan(world.folder / "config.yaml", world.folder / "dest.yaml"))
    ours = sa.exists().where(same_row(archive_metadata))
    with opened(world) as catalog, explained() as slow:
        with catalog.read(bulk=True) as connection:
            connection.execute(sa.select(archive_metadata.c.bucket).where(ours | (archive_metadata.c.size > 9)))
        with catalog.read() as connection:
            connection.execute(sa.select(sa.func.count()).select_from(moves))
    assert {why.partition(":")[0].partition(" over")[0] for why in slow} >= {"SubPlan 2", "--db-timeout may end it"}


def test_a_few_rows_are_read_by_one_process_that_compiles_nothing(world: World) -> None:
    names = ("max_parallel_workers_per_gather", "enable_sort", "jit")
    query = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
    with opened(world) as catalog:
        for transaction in (catalog.read(), catalog.read(limited=False), catalog.write()):
            with transaction as connection:
                assert tuple(connection.exec_driver_sql(query).one()) == ("0", "off", "off")
        with catalog.read(bulk=True) as connection:
            assert tuple(connection.exec_driver_sql(query).one())[:2] == ("2", "on")
