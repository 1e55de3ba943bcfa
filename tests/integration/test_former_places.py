"""Content from before bucket, prefix or data dir were changed: services read it by its URL, so it moves (R2, R3)."""

from __future__ import annotations

import shlex
import uuid
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.errors import ConfigError, StageFailedError
from reconcile.planning.render import summary_text
from reconcile.running.record.reporting import report_of
from tests.archives import Place, new_sqlite
from tests.cli.runner import here
from tests.integration.test_swift import names
from tests.servers.moto import MotoServer
from tests.servers.swift import SwiftServer
from tests.world import DB, DB2, World, localfs, s3
from tests.world import swift as in_swift


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.matrix), "postgresql"])
def world(request: pytest.FixtureRequest, folder: Path) -> World:
    """An empty archive: on PostgreSQL, and with the matrix on SQLite."""
    return World(folder, new_sqlite(folder) if request.param == "sqlite" else request.getfixturevalue("database"))


def settled(world: World, first: dict[str, Any], then: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Fill an archive, half of it at one place and half at another; return the config of now, and every document."""
    world.fill(20)
    start = world.config("start", DB)
    documents = world.read(start)
    world.apply(world.plan(start, world.config("first", first), "first.json", limit=10))
    world.apply(world.plan(start, world.config("now", then), "then.json"), leave_blocked=True)
    return world.folder / "now.yaml", documents


def keys_of(moto: MotoServer, bucket: str) -> list[str]:
    client = Place(Path(), "", moto).client()
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.fixture
def bucket() -> str:
    return f"former-{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize("prefixes", [("", ""), ("old/", "new/")], ids=["bucket", "prefix"])
def test_a_changed_bucket_or_prefix(prefixes: tuple[str, str], world: World, moto: MotoServer, bucket: str) -> None:
    old, new = (f"{bucket}-old", f"{bucket}-new") if prefixes == ("", "") else (bucket, bucket)
    now, documents = settled(world, s3(moto, old, prefix=prefixes[0]), s3(moto, new, prefix=prefixes[1]))
    before, kept = world.tables(), [key for key in keys_of(moto, old) if key.startswith(prefixes[0])]
    plan = world.plan(now, world.config("dest", DB2))
    assert {flow.source for flow in plan.header.summary.flows} == {
        "source.object_store",
        f"source.object_store@{old}",
    }
    assert "10 documents at places that the source config does not name" in summary_text(plan)

    world.apply(plan)
    there = world.config("dest", DB2)
    assert {name: world.read(there)[name] for name in documents} == documents
    assert set(keys_of(moto, old)) == set(kept) if old != new else set(kept) <= set(keys_of(moto, old))
    assert len(set(keys_of(moto, new)) - set(kept)) <= (10 if old == new else 0)
    reasons = [sources.reason for sources in report_of_last(world, now).sources if sources.fate == "kept"]
    assert len(reasons) == 1
    assert "the plan has no --clean-elsewhere" in str(reasons[0])

    world.undo()
    assert world.tables() == before
    assert world.read(world.config("dest", s3(moto, new, prefix=prefixes[1]))).keys() == documents.keys()


def report_of_last(world: World, config: Path) -> Any:
    with verbs.opened(verbs.DatabaseOptions(), verbs.load_config(config)) as catalog:
        record = verbs.last_run(catalog)
        assert record is not None
        return report_of(catalog, record)


def test_clean_elsewhere_deletes_there_and_the_undo_brings_it_back(world: World, moto: MotoServer, bucket: str) -> None:
    now, documents = settled(world, s3(moto, f"{bucket}-old"), s3(moto, f"{bucket}-new"))
    before, objects = world.tables(), keys_of(moto, f"{bucket}-old")
    world.apply(world.plan(now, world.config("dest", DB2), clean_elsewhere=True))
    assert keys_of(moto, f"{bucket}-old") == []
    world.undo()
    assert world.tables() == before
    assert keys_of(moto, f"{bucket}-old") == objects
    assert documents


def test_a_plan_to_the_same_config_brings_everything_together(world: World, moto: MotoServer, bucket: str) -> None:
    now, documents = settled(world, s3(moto, f"{bucket}-old"), s3(moto, f"{bucket}-new"))
    plan = world.plan(now, now)
    assert (plan.header.summary.moves.documents, plan.header.summary.in_place.documents) == (10, 10)
    world.apply(plan)
    assert world.read(now) == documents


def test_a_bucket_out_of_reach_is_named_and_moves_with_the_old_config(
    world: World, moto: MotoServer, bucket: str
) -> None:
    now, documents = settled(world, s3(moto, f"{bucket}-old"), s3(moto, f"{bucket}-new"))
    world.sql(f"UPDATE archive_metadata SET content_url = replace(content_url, '{bucket}-old', '{bucket}-gone')")
    result = here("plan", str(now), str(world.config("dest", DB2)), "--out", "p.json", cwd=world.folder)
    assert result.code == 0
    assert "10 not_owned: neither config leads there; as SOURCE, give the config that was in use" in result.out
    assert "this one cannot be reached with its credentials" in result.out
    world.sql(f"UPDATE archive_metadata SET content_url = replace(content_url, '{bucket}-gone', '{bucket}-old')")
    local = world.config("local", localfs(world.folder / "other"))
    assert world.plan(local, world.folder / "dest.yaml", "local.json").header.summary.blocked_by_reason == {
        "not_owned": 20
    }
    world.apply(world.plan(world.folder / "first.yaml", world.folder / "dest.yaml", "all.json"))
    assert world.read(world.folder / "dest.yaml") == documents


def test_a_changed_data_dir(world: World) -> None:
    folder = world.folder
    now, documents = settled(world, localfs(folder / "old"), localfs(folder / "new"))
    before = world.tables()
    with pytest.raises(ConfigError, match=r"is inside the one of source\.object_store@"):
        world.plan(now, world.config("inner", localfs(folder / "old" / "inner")))
    world.apply(world.plan(now, world.config("dest", DB2)))
    assert world.read(folder / "dest.yaml") == documents
    assert len(list((folder / "old").rglob("*.json"))) == 10
    assert not list((folder / "new").rglob("*.json"))
    world.undo()
    assert world.tables() == before


def test_verify_looks_there_too(world: World) -> None:
    now, _documents = settled(world, localfs(world.folder / "old"), localfs(world.folder / "new"))
    assert here("verify", str(now), cwd=world.folder).code == 0
    next((world.folder / "old").rglob("*.json")).unlink()
    result = here("verify", str(now), cwd=world.folder)
    assert result.code == 5
    assert "source_missing" in result.out
    (world.folder / "old").rename(world.folder / "away")
    assert "not_owned" in here("verify", str(now), cwd=world.folder).out


@pytest.mark.matrix
def test_a_changed_container(world: World, swift: SwiftServer, bucket: str) -> None:
    now, documents = settled(world, in_swift(swift, f"{bucket}-old"), in_swift(swift, f"{bucket}-new"))
    objects = names(swift, f"{bucket}-old")
    assert len(objects) == 10
    world.apply(world.plan(now, world.config("dest", DB2)))
    assert world.read(world.folder / "dest.yaml") == documents
    assert names(swift, f"{bucket}-old") == objects


@pytest.mark.matrix
def test_back_to_where_older_copies_were_left(world: World, moto: MotoServer, bucket: str) -> None:
    """The vendor's move from S3 to S3 left its sources, and documents changed since: the hint is a way (R4, R6)."""
    now, documents = settled(world, s3(moto, f"{bucket}-old"), s3(moto, f"{bucket}-new"))
    there = Place(world.folder, world.url, moto)
    name = next(url for url in world.urls() if url.startswith(f"s3://{bucket}-new/"))
    there.put(f"{bucket}-old", name.removeprefix(f"s3://{bucket}-new/"), b"of an earlier day")
    plan = world.plan(now, world.folder / "first.yaml")
    with pytest.raises(StageFailedError, match="destination_occupied") as failed:
        world.apply(plan)
    (again,) = (line for line in str(failed.value.hint).splitlines() if line.startswith("reconcile plan "))
    assert shlex.split(again)[-1] == "--overwrite"
    assert here(*shlex.split(again)[1:], "--out", "again.json", cwd=world.folder).code == 0
    assert here("apply", "again.json", "--yes", cwd=world.folder).code == 0
    assert world.read(world.folder / "first.yaml") == documents
