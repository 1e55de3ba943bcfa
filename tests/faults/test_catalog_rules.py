"""Triggers, rules and generated columns of the catalog's database: what they change is found out before it counts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from reconcile.errors import CatalogError, StaleError
from reconcile.running.phases import order
from tests.archives import new_sqlite
from tests.cli.runner import here
from tests.world import COMPRESSED, DB, DB2, World, localfs


def function(name: str, body: str) -> str:
    return f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"


def trigger(name: str, when: str, body: str, table: str = "archive_metadata", condition: str = "") -> str:
    made = "CREATE CONSTRAINT TRIGGER" if "DEFERRED" in condition else "CREATE TRIGGER"
    return function(name, body) + f"{made} {name} {when} ON {table} {condition} FOR EACH ROW EXECUTE FUNCTION {name}();"


AGAIN = 'WHERE "archiveId" = NEW."archiveId"; RETURN NULL;'
ON_UPDATE = {
    "keeps the url": trigger("mine", "BEFORE UPDATE", "NEW.content_url := OLD.content_url; RETURN NEW;"),
    "leaves the row alone": trigger("mine", "BEFORE UPDATE", "RETURN NULL;"),
    "renews last_updated": trigger("mine", "BEFORE UPDATE", "NEW.last_updated := OLD.last_updated + 1; RETURN NEW;"),
    "renews a column of no interest": trigger("mine", "BEFORE UPDATE", "NEW.record_state_val := 'x'; RETURN NEW;"),
    "writes the row again": trigger(
        "mine",
        "AFTER UPDATE OF content_url",
        f"UPDATE archive_metadata SET created_at = created_at + 1 {AGAIN}",
    ),
    "writes it at the commit": trigger(
        "mine",
        "AFTER UPDATE",
        f"IF pg_trigger_depth() = 1 THEN UPDATE archive_metadata SET digest = 'x' {AGAIN} END IF; RETURN NULL;",
        condition="DEFERRABLE INITIALLY DEFERRED",
    ),
    "deletes another row": trigger(
        "mine", "AFTER UPDATE", """DELETE FROM archive_metadata WHERE "archiveId" = 'bystander'; RETURN NULL;"""
    ),
    "moves another row": trigger(
        "mine",
        "AFTER UPDATE",
        """UPDATE archive_metadata SET content_url = 'db://x/y/z' WHERE "archiveId" = 'bystander'
           AND pg_trigger_depth() = 1; RETURN NULL;""",
    ),
    "is a rule": "CREATE RULE mine AS ON UPDATE TO archive_metadata DO INSTEAD NOTHING",
    "does something besides": """CREATE RULE mine AS ON UPDATE TO archive_metadata
        DO ALSO DELETE FROM archive_metadata WHERE "archiveId" = 'bystander'""",
}


OFTEN = ("keeps the url", "writes it at the commit", "deletes the catalog row along", "an audit trail")


def some(rules: Iterable[str]) -> list[Any]:
    """Return the rules as parameters, most of them for the matrix."""
    return [pytest.param(rule, marks=() if rule in OFTEN else pytest.mark.matrix) for rule in rules]


@pytest.fixture
def world(folder: Path, database: str) -> World:
    """Documents in driver db to be moved to db2, and one that is there already."""
    world = World(folder, database)
    world.fill(12)
    world.insert(
        "object_storage",
        {"userId": "admin", "bucket": "policy_bundles", "key": "bystander", "version": "", "content": b"x"},
    )
    world.row("bystander", b"x", content_url="db2://admin/policy_bundles/bystander")
    world.config("config", DB)
    world.config("dest", DB2)
    return world


def plan(world: World) -> None:
    world.plan(world.folder / "config.yaml", world.folder / "dest.yaml")


def there_and_back(world: World, before: dict[str, Any]) -> None:
    """Once the rule does nothing, the same command finishes, and an undo gives all back."""
    assert world.apply("p.json").documents == 12
    assert world.apply("p.undo.json").documents == 12
    assert world.tables() == before


@pytest.mark.parametrize("rule", some(ON_UPDATE))
def test_what_changes_the_switch_rolls_it_back(world: World, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """R2: it is not the number of rows that counts, but what all rows hold before the commit."""
    before = world.tables()
    plan(world)
    world.sql(ON_UPDATE[rule])
    with monkeypatch.context() as patched:
        patched.setattr(order, "rehearse", lambda *_: None)
        with pytest.raises(CatalogError, match=r"rolled back.*(trigger|rule) mine on archive_metadata") as failed:
            world.apply("p.json")
    assert "DISABLE" in (failed.value.hint or "")
    assert world.tables()["archive_metadata"] == before["archive_metadata"]
    assert world.tables()["archive_document"] == before["archive_document"]
    world.sql((failed.value.hint or "").partition(".")[0])
    there_and_back(world, before)


@pytest.mark.parametrize("rule", some(ON_UPDATE))
def test_what_would_change_the_switch_is_found_before_anything_is_copied(world: World, rule: str) -> None:
    before = world.tables()
    world.sql(ON_UPDATE[rule])
    plan(world)
    result = here("apply", "p.json", "--yes", cwd=world.folder)
    assert result.code == 1, result.all
    assert "in a trial that was rolled back" in result.err
    assert "mine on archive_metadata" in result.err
    assert "DISABLE" in result.err
    assert world.tables() == before
    assert world.sql("SELECT count(*) FROM reconcile_moves WHERE state = 'staged'") == [(0,)]


def test_a_generated_column_is_found_before_anything_is_copied(world: World) -> None:
    world.sql("ALTER TABLE archive_metadata DROP COLUMN size, ADD COLUMN size bigint GENERATED ALWAYS AS (7) STORED")
    plan(world)
    with pytest.raises(CatalogError, match="generated column size on archive_metadata"):
        world.apply("p.json")
    assert world.sql("SELECT count(*) FROM object_storage") == [(1,)]


HARMLESS = {
    "an audit trail": "CREATE TABLE trail (what text); "
    + "".join(
        trigger(
            f"audit_{table}",
            "AFTER INSERT OR UPDATE OR DELETE",
            f"INSERT INTO trail VALUES ('{table}'); RETURN NULL;",
            table,
        )
        for table in ("archive_metadata", "archive_document", "object_storage")
    ),
    "a trigger that is disabled": ON_UPDATE["keeps the url"] + "ALTER TABLE archive_metadata DISABLE TRIGGER mine",
    "a trigger for replicas": ON_UPDATE["keeps the url"] + "ALTER TABLE archive_metadata ENABLE REPLICA TRIGGER mine",
}


@pytest.mark.parametrize("rule", some(HARMLESS))
def test_what_changes_nothing_is_no_hindrance(world: World, rule: str) -> None:
    world.sql(HARMLESS[rule])
    plan(world)
    there_and_back(world, world.tables())


CONTENT = "archive_document", "object_storage"
ON_CONTENT = {
    "changes the content": ("BEFORE INSERT", "NEW.{content} := 'other'; RETURN NEW;", "not what was inserted"),
    "changes another column": ("BEFORE INSERT", "NEW.created_at := 7; RETURN NEW;", "not what was inserted"),
    "writes it again": (
        "AFTER INSERT",
        "UPDATE {table} SET last_updated = 7 WHERE bucket = NEW.bucket; RETURN NULL;",
        "not what was inserted",
    ),
    "takes nothing in": ("BEFORE INSERT", "RETURN NULL;", "not what was inserted"),
    "keeps what is deleted": ("BEFORE DELETE", "RETURN NULL;", "stayed although they were deleted"),
    "deletes the catalog row along": (
        "AFTER DELETE",
        """DELETE FROM archive_metadata WHERE bucket = OLD.bucket AND "archiveId" = OLD.{key}; RETURN NULL;""",
        "rows of archive_metadata changed as content",
    ),
}


@pytest.mark.parametrize("table", [CONTENT[0], pytest.param(CONTENT[1], marks=pytest.mark.matrix)])
@pytest.mark.parametrize("rule", some(ON_CONTENT))
def test_what_changes_content_is_found_before_anything_is_copied(world: World, table: str, rule: str) -> None:
    """R1, R5: at the destination a run writes and its undo deletes, at the source it is the other way round."""
    when, body, found = ON_CONTENT[rule]
    is_db = table == "archive_document"
    names = {"table": table, "content": "jsondata" if is_db else "content", "key": '"archiveId"' if is_db else "key"}
    before = world.tables()
    world.sql(trigger("mine", when, body.format(**names), table))
    plan(world)
    with pytest.raises(CatalogError, match=f"(?s){found}.*trigger mine on {table}") as failed:
        world.apply("p.json")
    assert world.tables() == before
    world.sql((failed.value.hint or "").partition(".")[0])
    there_and_back(world, before)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("NEW.content := 'other'; RETURN NEW;", marks=pytest.mark.matrix),
        "NEW.last_updated := 7; RETURN NEW;",
    ],
)
@pytest.mark.parametrize("large", [False, True], ids=["inside the database", "through the tool"])
def test_a_write_is_confirmed_in_every_column(
    world: World, monkeypatch: pytest.MonkeyPatch, body: str, large: bool
) -> None:
    """Whatever way the content goes, and though nothing was rehearsed."""
    if large:
        world.config("dest", COMPRESSED | DB2)
    plan(world)
    before = world.tables()
    world.sql(trigger("mine", "BEFORE INSERT", body, "object_storage"))
    monkeypatch.setattr(order, "rehearse", lambda *_: None)
    with pytest.raises(CatalogError, match="trigger mine on object_storage"):
        world.apply("p.json")
    assert world.tables() == before


ON_SQLITE = {
    "keeps the url": "AFTER UPDATE ON archive_metadata BEGIN UPDATE archive_metadata SET content_url = OLD.content_url"
    """ WHERE "archiveId" = OLD."archiveId"; END""",
    "leaves the row alone": "BEFORE UPDATE ON archive_metadata BEGIN SELECT RAISE(IGNORE); END",
    "deletes another row": "AFTER UPDATE ON archive_metadata BEGIN DELETE FROM archive_metadata"
    """ WHERE "archiveId" = 'bystander'; END""",
    "deletes the catalog row along": "AFTER DELETE ON archive_document BEGIN DELETE FROM archive_metadata"
    """ WHERE "archiveId" = OLD."archiveId"; END""",
    "keeps what is deleted": "BEFORE DELETE ON archive_document BEGIN SELECT RAISE(IGNORE); END",
}


@pytest.mark.parametrize("rule", some(ON_SQLITE))
def test_triggers_of_sqlite_are_found_likewise(folder: Path, rule: str) -> None:
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    world.row("bystander", b"x", content_url="file:///nowhere")
    before = world.tables()
    world.sql(f"CREATE TRIGGER mine {ON_SQLITE[rule]}")
    world.plan(world.config("config", DB), world.config("dest", localfs(folder / "new")))
    with pytest.raises(CatalogError, match="trigger mine on archive_") as failed:
        world.apply("p.json", leave_blocked=True)
    assert "drop the trigger mine" in (failed.value.hint or "")
    assert world.tables() == before
    world.sql("DROP TRIGGER mine")
    assert world.apply("p.json", leave_blocked=True).documents == 6
    assert world.undo().documents == 6
    assert world.tables() == before


def test_the_switch_itself_sees_what_triggers_of_sqlite_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    world.row("bystander", b"x", content_url="file:///nowhere")
    before = world.tables()
    world.plan(world.config("config", DB), world.config("dest", localfs(folder / "new")))
    monkeypatch.setattr(order, "rehearse", lambda *_: None)
    for rule in ("keeps the url", "deletes another row"):
        world.sql(f"CREATE TRIGGER mine {ON_SQLITE[rule]}")
        with pytest.raises(CatalogError, match=r"rolled back.*trigger mine on archive_metadata"):
            world.apply("p.json", leave_blocked=True)
        world.sql("DROP TRIGGER mine")
        assert world.tables() == before


def test_a_migration_that_is_not_taken_in_is_no_bug(world: World) -> None:
    plan(world)
    before = world.tables()["archive_metadata"]
    world.sql(trigger("mine", "BEFORE INSERT", "RETURN NULL;", "tasks"))
    with pytest.raises(CatalogError, match="trigger mine on tasks"):
        world.apply("p.json")
    assert world.tables()["archive_metadata"] == before


def test_only_rows_that_changed_are_called_stale(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those too that the switch had repointed already when it was rolled back (R7)."""
    plan(world)
    original = order.wait_for_quiet

    def wait(*args: Any) -> Any:
        world.sql("""UPDATE archive_metadata SET last_updated = 1 WHERE "archiveId" = 'sha256:0004'""")
        return original(*args)

    monkeypatch.setattr(order, "wait_for_quiet", wait)
    with pytest.raises(StaleError) as failed:
        world.apply("p.json")
    assert failed.value.message.startswith("1 row has changed"), failed.value.message
    assert "sha256:0004" in failed.value.message
