"""R2, R7: staging in parts and with documents left out: what ends it, what is refused, what is said."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from reconcile import verbs
from reconcile.errors import (
    ReconcileError,
    UsageError,
)
from reconcile.running.phases.budget import Budget
from reconcile.running.record.records import find_runs
from tests.archives import md5, new_sqlite
from tests.cli.runner import here
from tests.world import DB, DB2, World, localfs


def test_a_limit_does_not_switch_without_what_the_last_look_missed(small: World) -> None:
    """Copies that vanished are staged anew only as far as the budget goes: the others must stop the switch (R2, R7)."""
    small.apply("p.json", stage_only=True)
    for path in sorted((small.folder / "new").rglob("*.json"))[:5]:
        path.unlink()
    with suppress(ReconcileError):
        small.apply("p.json", budget=Budget(documents=2))
    schemes = {url.partition(":")[0] for url in small.urls()}
    assert len(schemes) == 1, small.urls()


def test_blocked_documents_are_refused_each_time(small: World) -> None:
    """The same command again must not do what it refused to do without --leave-blocked (R4, R7)."""
    small.apply("p.json", stage_only=True)
    small.row("lost", b"x", content_url=None)
    for _attempt in range(2):
        with pytest.raises(ReconcileError, match="no_content_url"):
            small.apply("p.json", refresh=True)


def test_what_was_blocked_and_is_mended_is_taken_along(small: World) -> None:
    """'fix the causes and run the same command again' is what the refusal says (R7)."""
    small.apply("p.json", stage_only=True)
    small.add("lost", b"x", content_url=None)
    with pytest.raises(ReconcileError, match="no_content_url"):
        small.apply("p.json", refresh=True)
    small.sql(
        """UPDATE archive_metadata SET content_url = 'db://admin/policy_bundles/lost' WHERE "archiveId" = 'lost'"""
    )
    outcome = small.apply("p.json", refresh=True)
    assert (outcome.documents, outcome.left) == (13, 0)


def test_a_blocked_document_that_came_since_the_plan_is_not_left_in_silence(small: World) -> None:
    """The switch refuses rows that were added and would move; what would be blocked must be named as well (R4, R7)."""
    small.add("new", b"{}", bucket="odd?bucket")
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "now.json")
    with pytest.raises(ReconcileError, match="blocked"):
        small.apply("now.json")
    with suppress(ReconcileError):
        assert small.apply("p.json").left, "switched, and the document is left behind without a word"


def test_a_refresh_of_a_limited_plan_is_refused_before_anything_is_recorded(small: World) -> None:
    """Exit 64 means that nothing was changed."""
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "few.json", limit=3)
    with pytest.raises(UsageError):
        small.apply("few.json", refresh=True)
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(small.folder / "old.yaml")) as catalog:
        assert not find_runs(catalog)


def test_a_refresh_may_bring_the_first_document_of_a_data_dir_that_is_to_be_made(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.add("one", b"{}")
    world.config("old", DB)
    world.config("new", localfs(folder / "new"), localfs(folder / "archive"))
    world.plan(folder / "old.yaml", folder / "new.yaml")
    world.apply("p.json", stage_only=True)
    world.add("two", b"{}", bucket="analysis_archive")
    assert world.apply("p.json", refresh=True).documents == 2


def test_stage_only_ends_with_another_code_than_a_switch(small: World) -> None:
    """3 means switched (docs/exit-codes.md)."""
    small.row("lost", b"x", content_url=None)
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "blocked.json")
    ended = here("apply", "blocked.json", "--stage-only", "--leave-blocked", "--yes", cwd=small.folder)
    assert "nothing was switched" in ended.out
    assert ended.code != 3


def test_a_plan_with_blockers_alone_is_not_called_done(lite: World) -> None:
    lite.row("tape", b"x", content_url="tape://x")
    plan = lite.plan(lite.config("config", DB), lite.config("dest", DB2))
    assert lite.apply(plan, leave_blocked=True).left == 1


def test_three_rows_of_one_document_at_two_places(world: World) -> None:
    """R1: a destination has one content; the rows whose content went elsewhere stay where they are."""
    world.add("x", b"first", documentName="1")
    there = {"userId": "admin", "bucket": "policy_bundles", "key": "x", "version": ""}
    other = {"object_metadata": None, "content": b"second", "created_at": 1, "last_updated": 1}
    world.insert("object_storage", there | other)
    for name in ("2", "3"):
        world.row("x", b"second", documentName=name, content_url="db2://admin/policy_bundles/x")
    dest = world.config("dest", localfs(world.folder / "archive"))
    plan = world.plan(world.config("config", DB, DB2), dest)
    assert [blocker.reason for blocker in plan.blockers()] == ["destination_taken", "destination_taken"]
    world.apply(plan, leave_blocked=True)
    rows = dict(world.sql('SELECT "documentName", digest FROM archive_metadata'))
    assert rows == {"1": md5(b"first"), "2": md5(b"second"), "3": md5(b"second")}
    assert world.sql("SELECT count(*) FROM object_storage") == [(1,)]


def test_limit_does_not_cut_inside_a_document(world: World) -> None:
    world.add("x", b"x", documentName="1")
    world.row("x", b"x", documentName="2")
    world.add("y", b"y")
    plan = world.plan(world.config("config", DB), world.config("dest", DB2), limit=1)
    assert [move.archiveId for move in plan.moves()] == ["x", "x"]
