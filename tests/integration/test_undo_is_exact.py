"""R4, R5: an undo concerns the moves of its run, and nothing that was in place before or that other runs moved."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from reconcile import verbs
from reconcile.errors import StageFailedError, StaleError
from reconcile.secret import Secret
from tests.archives import md5
from tests.cli.desk import last_run
from tests.cli.runner import here
from tests.world import COMPRESSED, DB, DB2, World, localfs


@pytest.fixture
def moved(world: World) -> World:
    """Six documents: two that the vendor's tool had moved just before, then a run for the others."""
    world.fill(6)
    now = int(time.time())
    for number in (1, 2):
        row = world.sql('SELECT "userId", bucket FROM archive_metadata WHERE "archiveId" = %s', f"sha256:000{number}")[
            0
        ]
        data = f'{{"number": {number}}}'.encode() * number
        key = {"userId": row[0], "bucket": row[1], "key": f"sha256:000{number}", "version": ""}
        world.insert(
            "object_storage", key | {"object_metadata": None, "content": data, "created_at": now, "last_updated": now}
        )
        url = f"db2://{row[0]}/{row[1]}/sha256:000{number}"
        world.sql(
            'UPDATE archive_metadata SET content_url = %s, last_updated = %s WHERE "archiveId" = %s',
            url, now, f"sha256:000{number}",
        )  # fmt: skip
        assert md5(data)
    world.config("config", DB)
    world.config("dest", DB2)
    return world


def paths(world: World) -> tuple[Path, Path]:
    return world.folder / "config.yaml", world.folder / "dest.yaml"


def test_what_was_in_place_before_the_run_stays(moved: World) -> None:
    before = moved.tables()
    plan = moved.plan(*paths(moved))
    assert plan.header.summary.moves.documents == 4
    moved.apply(plan)
    moved.undo()
    assert moved.tables() == before


def test_what_was_in_place_before_the_run_stays_with_changes_too(moved: World) -> None:
    moved.apply(moved.plan(*paths(moved)))
    source, dest = paths(moved)
    result = here(
        "undo", last_run(moved), "--source", dest, "--dest", source, "--with-changes", "--yes", cwd=moved.folder
    )
    assert result.code == 0, result.all
    assert sum(url.startswith("db2:") for url in moved.urls()) == 2


def test_what_an_earlier_run_moved_stays(world: World) -> None:
    world.fill(6)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    world.apply(world.plan(source, dest, "first.json", limit=2))
    middle = world.tables()
    world.apply(world.plan(source, dest, "second.json"))
    world.undo("second.undo.json")
    assert world.tables() == middle


def test_what_a_later_run_moved_stays(world: World) -> None:
    world.fill(6)
    source, dest = world.config("config", DB), world.config("dest", DB2)
    world.apply(world.plan(source, dest, "first.json", limit=2))
    world.apply(world.plan(source, dest, "second.json"))
    world.undo("first.undo.json")
    assert sum(url.startswith("db2:") for url in world.urls()) == 4


def test_what_a_service_added_since_is_still_told(moved: World) -> None:
    """Also where it has the name of one that was in place, was deleted and came again."""
    moved.apply(moved.plan(*paths(moved)))
    now = int(time.time())
    moved.sql(
        """UPDATE archive_metadata SET created_at = %s, last_updated = %s WHERE "archiveId" = 'sha256:0001'""", now, now
    )
    with pytest.raises(StaleError, match=r"sha256:0001: added since the plan, at db2?://"):
        moved.undo()


def test_what_another_zlib_would_encode_otherwise_is_not_restored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5: the library was another one when the source was compressed; nothing is switched back to other bytes."""
    world.fill(6)
    world.apply(world.plan(world.config("config", DB), world.config("packed", DB2 | COMPRESSED), "p1.json"))
    packed = world.tables()
    world.apply(
        world.plan(world.folder / "packed.yaml", world.config("dest", localfs(world.folder / "data")), "p2.json")
    )
    switched = world.tables()
    with monkeypatch.context() as another:
        another.setattr("reconcile.payload.ZLIB_LEVEL", 9)
        with pytest.raises(StageFailedError, match="not_reproducible"):
            world.undo("p2.undo.json")
    assert world.tables()["archive_metadata"] == switched["archive_metadata"]
    world.undo("p2.undo.json")
    assert world.tables() == packed


def test_what_was_in_a_table_that_no_config_named_goes_back_there(world: World) -> None:
    """R5, where the plan was made with the new config on both sides: killed in between, given up, and undone."""
    world.fill(12)
    config = world.config("config", localfs(world.folder / "archive"))
    before, documents = world.tables(), world.read(world.config("first", DB))
    world.apply(world.plan(config, config))
    assert {url.partition(":")[0] for url in world.urls()} == {"file"}
    assert world.read(config) == documents
    world.undo()
    assert world.tables() == before
    world.apply("p.json", stage_only=True)
    with verbs.opened(verbs.DatabaseOptions(url=Secret(world.url))) as catalog:
        record = verbs.last_run(catalog)
        assert record is not None
        verbs.carry_out(catalog, verbs.undo_plan_of(catalog, record.run_id, None, None))
    assert world.tables() == before
    assert not [path for path in (world.folder / "archive").rglob("*") if path.is_file()]
