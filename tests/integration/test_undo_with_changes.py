"""R5: undo, with what services changed since and without; of older runs, and of what is in the database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.errors import (
    ServicesRunningError,
    UsageError,
)
from reconcile.planning.planfile import open_plan
from reconcile.running.phases import order
from reconcile.running.phases.budget import Budget
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.records import find_runs
from tests.integration.steps import (
    all_readable,
    undo_run,
)
from tests.world import DB, DB2, World, localfs


def test_an_undo_with_changes_sees_what_came_after_its_first_attempt(lite: World, monkeypatch: Any) -> None:
    lite.fill(6)
    source, dest = lite.config("config", DB), lite.config("dest", DB2)
    run_id = lite.apply(lite.plan(source, dest)).run_id

    def service_adds(name: str) -> None:
        key = {"userId": "admin", "bucket": "b", "key": name, "version": ""}
        lite.insert("object_storage", key | {"content": name.encode(), "created_at": 1, "last_updated": 1})
        url = f"db2://admin/b/{name}"
        lite.row(name, name.encode(), bucket="b", content_url=url, last_updated=int(time.time()) + 5)

    def busy(*_arguments: object) -> None:
        raise ServicesRunningError("services may be running")

    service_adds("one")
    with monkeypatch.context() as patched:
        patched.setattr(order, "wait_for_quiet", busy)
        with pytest.raises(ServicesRunningError):
            undo_run(lite, run_id, with_changes=True)
    service_adds("two")
    assert undo_run(lite, run_id, with_changes=True).documents == 8
    assert all_readable(lite, source)


def test_an_undo_with_changes_names_what_cannot_go_back(lite: World) -> None:
    """R7: a new document whose account driver db cannot name."""
    from reconcile.stores.addresses import FileAddress

    lite.fill(3)
    archive = lite.folder / "archive"
    source, dest = lite.config("config", DB), lite.config("dest", localfs(archive))
    run_id = lite.apply(lite.plan(source, dest)).run_id
    url = FileAddress(str(archive)).url(("a/b", "b", "n"))
    path = Path(url.removeprefix("file://"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"doc")
    lite.row("n", b"doc", user="a/b", bucket="b", content_url=url, last_updated=int(time.time()) + 5)
    outcome = undo_run(lite, run_id, with_changes=True)
    assert (outcome.documents, outcome.left, outcome.unreadable) == (3, 1, 1)


def test_undo_of_an_older_run_leaves_a_later_runs_undo_plan_alone(lite: World) -> None:
    lite.fill(3)
    source, dest = lite.config("config", DB), lite.config("dest", DB2)
    plan = lite.plan(source, dest)
    first = lite.apply(plan).run_id
    lite.undo()
    second = lite.apply(plan).run_id
    assert undo_run(lite, first).already == "the run is undone already"
    assert open_plan(lite.folder / "p.undo.json").header.undo_of == second
    assert lite.undo().already is None
    assert all_readable(lite, source)


def test_an_undo_that_refreshes_leaves_alone_what_was_there_before(small: World) -> None:
    """A document that was at the destination before the run is none of its undo's business (R4, R5)."""
    small.apply("p.json")
    small.add("later", b"{}")
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "second.json")
    before = small.tables()["archive_metadata"]
    small.apply("second.json")
    with pytest.raises(UsageError, match="--refresh is for plans"):
        small.apply("second.undo.json", refresh=True)
    small.apply("second.undo.json")
    assert small.tables()["archive_metadata"] == before


def test_an_undo_inside_the_database_restores_null(folder: Path, database: str) -> None:
    """b64_encoded NULL comes back as NULL, by the shortcut too (R5)."""
    world = World(folder, database)
    world.fill(3)
    world.sql("UPDATE archive_document SET b64_encoded = NULL WHERE b64_encoded = false")
    before = world.tables()
    world.plan(world.config("old", DB), world.config("new", DB2))
    world.apply("p.json")
    world.undo()
    assert world.tables() == before


def test_an_undo_with_changes_is_not_staged_in_parts(small: World) -> None:
    """Each command makes it anew: a limit would have it begin for ever (R6)."""
    small.apply("p.json")
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(small.folder / "new.yaml")) as catalog:
        run = find_runs(catalog)[0].run_id
        there, back = small.folder / "new.yaml", small.folder / "old.yaml"
        prepared = verbs.undo_plan_of(catalog, run, there, back, with_changes=True)
        with pytest.raises(UsageError, match="cannot be staged in parts"):
            verbs.carry_out(catalog, prepared, RunOptions(budget=Budget(documents=5)))
        verbs.carry_out(catalog, prepared)
    assert {url.partition(":")[0] for url in small.urls()} == {"db"}
