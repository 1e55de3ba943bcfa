"""Planning on its own: cross-row checks, reasons, and the file against its schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from reconcile.config.validation import load_schema
from reconcile.planning.model import REASONS
from reconcile.planning.planfile import undo_path
from reconcile.stores.addresses import FileAddress
from tests.archives import new_sqlite
from tests.world import DB, DB2, World, localfs, s3


@pytest.fixture
def world(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


def reasons(world: World, dest: Path) -> dict[str, str]:
    plan = world.plan(world.config("config", DB), dest)
    return {blocker.archiveId: blocker.reason for blocker in plan.blockers()}


def test_plan_and_undo_plan_are_as_the_schema_says(world: World) -> None:
    world.fill(6)
    world.row("blocked", b"x", content_url=None, size=None)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    world.apply(plan, leave_blocked=True)
    validator = jsonschema.Draft202012Validator(load_schema("plan.schema.json"))
    for name in ("p.json", "p.undo.json"):
        document = json.loads((world.folder / name).read_text())
        assert list(validator.iter_errors(document)) == []
        assert len(document["moves"]) == 6
    broken = json.loads((world.folder / "p.json").read_text())
    broken["moves"][0]["before"]["size"] = "big"
    assert list(validator.iter_errors(broken))


def test_every_reason_found_in_the_catalog_alone(world: World) -> None:
    world.row("null", b"", content_url=None)
    world.row("tape", b"", content_url="tape://a/b/c")
    world.row("elsewhere", b"", content_url="s3://other/key")
    world.row("by hand", b"", content_url="db://admin/policy_bundles/a/b")
    world.add("a", b"a", bucket="..")
    world.add("hash", b"a", bucket="b#c")
    world.add("long", b"a", bucket="b" * 300)
    world.row("disagree", b"one")
    world.row("disagree", b"two", documentName="second")
    world.row("taken", b"one")
    world.row("taken", b"two", documentName="second", content_url="db://admin/policy_bundles/other")
    found = reasons(world, world.config("dest", localfs(world.folder / "archive")))
    assert found == {
        "null": "no_content_url",
        "tape": "unknown_scheme",
        "elsewhere": "not_owned",
        "by hand": "ambiguous_url",
        "a": "leaves_data_dir",
        "hash": "unreadable_by_services",
        "long": "key_too_long",
        "disagree": "rows_disagree",
        "taken": "destination_taken",
    }
    assert set(found.values()) <= set(REASONS)


def test_names_with_slashes_that_meet_at_one_key(world: World, moto: object) -> None:
    """``a/b`` + ``c`` and ``a`` + ``b/c`` make one key in S3: neither is written over the other."""
    files = FileAddress(str(world.folder))
    for user, bucket, archive_id in (("a/b", "c", "x"), ("a", "b/c", "x"), ("a/b", "c", "y")):
        url = files.url((user, bucket, archive_id))
        world.row(archive_id, b"content of " + user.encode(), user, bucket, content_url=url)
    source = world.config("config", localfs(world.folder))
    plan = world.plan(source, world.config("dest", s3(moto, "meeting")))
    assert sorted(blocker.reason for blocker in plan.blockers()) == ["destination_taken", "destination_taken"]
    assert [move.archiveId for move in plan.moves()] == ["y"]


def test_too_big(world: World) -> None:
    world.add("big", b"x", size=600 << 20)
    assert reasons(world, world.config("dest", DB2)) == {"big": "too_big"}


def test_a_plan_says_what_services_cannot_read_afterwards(world: World) -> None:
    world.fill(3)
    world.row("null", b"", content_url=None)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    assert any("read only db2://" in note for note in plan.header.summary.notes)
    assert any("VACUUM FULL" in note for note in plan.header.summary.notes)
    assert plan.header.summary.database_growth == plan.header.summary.moves.bytes


@pytest.mark.parametrize(
    ("name", "undo"),
    [
        ("p.json", "p.undo.json"),
        ("p.json.gz", "p.undo.json.gz"),
        ("p.json.zst", "p.undo.json.zst"),
        ("p", "p.undo.json"),
    ],
)
def test_where_the_undo_plan_goes(name: str, undo: str) -> None:
    assert undo_path(Path("dir") / name) == Path("dir") / undo


def test_a_plan_is_one_move_a_line_and_the_same_every_time(world: World) -> None:
    world.fill(6)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    texts = [world.plan(source, dest, name).path.read_text() for name in ("p.json", "q.json")]
    moves = [[line for line in text.splitlines() if line.startswith('{"userId"')] for text in texts]
    assert len(moves[0]) == 6
    assert moves[0] == moves[1]
