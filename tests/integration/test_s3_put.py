"""Objects are written to S3 as a site's rules ask for: class, encryption, tags, by whatever way they come there."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from reconcile.errors import ConfigError
from reconcile.planning.render import summary_text
from tests.archives import Place, new_sqlite
from tests.cli.runner import here
from tests.servers.moto import MotoServer
from tests.world import DB, DB2, World, localfs, s3

CLASS, TAGS = {"StorageClass": "STANDARD_IA"}, {"Tagging": "team=sec&cost=42"}
LARGE = bytes(range(256)) * 1200  # beyond what the server copies by itself


@pytest.fixture
def small(folder: Path) -> World:
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    world.add("large", LARGE)
    world.config("db", DB)
    return world


def heads(moto: MotoServer, bucket: str) -> list[dict[str, Any]]:
    client = Place(Path(), "", moto).client()
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]]
    tags = {key: client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] for key in keys}
    return [client.head_object(Bucket=bucket, Key=key) | {"tags": tags[key]} for key in keys]


def test_written_copied_and_undone(small: World, moto: MotoServer) -> None:
    one, two = f"put-{uuid.uuid4().hex[:8]}", f"put-{uuid.uuid4().hex[:8]}"
    source, first, second = (
        small.folder / "db.yaml",
        small.config("one", s3(moto, one)),
        small.config("two", s3(moto, two)),
    )
    documents = small.read(source)
    plan = small.plan(source, first, "first.json", s3_put=CLASS | TAGS)
    assert "to S3     with StorageClass=STANDARD_IA, Tagging=team=sec&cost=42" in summary_text(plan)
    small.apply(plan)
    found = heads(moto, one)
    assert len(found) == 7
    assert {head["StorageClass"] for head in found} == {"STANDARD_IA"}
    assert all({"Key": "team", "Value": "sec"} in head["tags"] for head in found)

    small.apply(small.plan(first, second, "second.json", s3_put=CLASS))  # the large one by the server itself
    assert {head["StorageClass"] for head in heads(moto, two)} == {"STANDARD_IA"}
    assert [head["tags"] for head in heads(moto, two) if head["ContentLength"] == len(LARGE)] != [[]]
    assert small.read(second) == documents
    small.undo("second.undo.json")
    small.undo("first.undo.json")
    assert small.read(source) == documents


def test_encryption_by_a_key_of_ones_own(small: World, moto: MotoServer) -> None:
    """The ETag is no MD5 then: confirmed by what the server computed, or by reading back (R2)."""
    bucket = f"put-{uuid.uuid4().hex[:8]}"
    name = "arn:aws:kms:us-east-1:123456789012:key/a"
    key = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": name, "BucketKeyEnabled": "true"}
    dest = small.config("dest", s3(moto, bucket))
    documents = small.read(small.folder / "db.yaml")
    small.apply(small.plan(small.folder / "db.yaml", dest, s3_put=key))
    found = heads(moto, bucket)
    assert {(head["ServerSideEncryption"], head["SSEKMSKeyId"]) for head in found} == {("aws:kms", name)}
    assert small.read(dest) == documents


def test_what_services_write_meanwhile_is_written_so_too(small: World, moto: MotoServer) -> None:
    bucket = f"put-{uuid.uuid4().hex[:8]}"
    small.plan(small.folder / "db.yaml", small.config("dest", s3(moto, bucket)), s3_put=CLASS)
    small.apply("p.json", stage_only=True)
    small.add("late", b"late")
    assert small.apply("p.json", refresh=True).documents == 8
    assert {head["StorageClass"] for head in heads(moto, bucket)} == {"STANDARD_IA"}


def test_a_rule_that_deletes_what_is_tagged_so_is_minded(small: World, moto: MotoServer) -> None:
    bucket = f"put-{uuid.uuid4().hex[:8]}"
    client = Place(Path(), "", moto).client()
    client.create_bucket(Bucket=bucket)
    tag = {"Key": "cost", "Value": "42"}
    rule = {"ID": "thrift", "Status": "Enabled", "Filter": {"Tag": tag}, "Expiration": {"Days": 3}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    source, dest = small.folder / "db.yaml", small.config("dest", s3(moto, bucket))
    with pytest.raises(ConfigError, match="lifecycle rule 'thrift' deletes all objects 3 days after"):
        small.plan(source, dest, s3_put=TAGS)
    client.delete_bucket_lifecycle(Bucket=bucket)
    plan = small.plan(source, dest, s3_put=TAGS)
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    with pytest.raises(ConfigError, match="would not keep documents"):
        small.apply(plan)
    small.apply(small.plan(source, dest, "untagged.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["StorageClass"], "expected KEY=VALUE"),
        (["StorageClass="], "expected KEY=VALUE"),
        (["Storageclass=X"], "one of the keys ServerSideEncryption, SSEKMSKeyId"),
        (["StorageClass=DEEP_ARCHIVE"], "the services cannot read archive classes"),
        (["StorageClass=GLACIER"], "GLACIER_IR, STANDARD_IA"),
        (["StorageClass=A", "StorageClass=B"], "two values, A and B"),
        (["BucketKeyEnabled=yes"], "expected true or false"),
        (["SSEKMSKeyId=k"], "needs --s3-put ServerSideEncryption=aws:kms"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str, small: World, moto: MotoServer) -> None:
    dest = small.config("dest", s3(moto, "never-made"))
    options = [option for word in words for option in ("--s3-put", word)]
    result = here("plan", small.folder / "db.yaml", dest, "--out", "p.json", *options, cwd=small.folder)
    assert result.code == 64
    assert said in result.err
    assert not (small.folder / "p.json").exists()


@pytest.mark.parametrize("section", [DB2, localfs(Path("/nowhere"))], ids=["db2", "localfs"])
def test_a_destination_that_is_not_s3_has_no_such_parameters(section: dict[str, Any], small: World) -> None:
    dest = small.config("dest", section)
    words = ("--s3-put", "StorageClass=STANDARD_IA")
    result = here("plan", small.folder / "db.yaml", dest, "--out", "p.json", *words, cwd=small.folder)
    assert (result.code, "has no backend of driver s3" in result.err) == (64, True)
