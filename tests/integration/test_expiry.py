"""A destination that deletes documents by itself, after a time, is refused before anything is copied (R3)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.errors import ConfigError, StageFailedError
from reconcile.logs import configure
from tests.archives import new_sqlite
from tests.contract.test_faults import busy, denied
from tests.integration.test_swift import names
from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy, Forward, Request, Response
from tests.servers.swift import SwiftServer
from tests.world import DB, World, s3
from tests.world import swift as in_swift

DAYS: dict[str, Any] = {"Days": 30}


class Bucket:
    """A bucket of its own at moto, with lifecycle rules."""

    def __init__(self, moto: MotoServer) -> None:
        import boto3

        self.name = f"expiry-{uuid.uuid4().hex[:8]}"
        keys = {"aws_access_key_id": moto.access_key, "aws_secret_access_key": moto.secret_key}
        self.client = boto3.client("s3", endpoint_url=moto.url, region_name="us-east-1", **keys)
        self.client.create_bucket(Bucket=self.name)

    def rule(self, **more: Any) -> None:
        rule = {"ID": "tidy-up", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": DAYS} | more
        configuration = {"Rules": [{name: value for name, value in rule.items() if value is not None}]}
        self.client.put_bucket_lifecycle_configuration(Bucket=self.name, LifecycleConfiguration=configuration)

    def no_rule(self) -> None:
        self.client.delete_bucket_lifecycle(Bucket=self.name)

    def keys(self) -> set[str]:
        return {entry["Key"] for entry in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])}


@pytest.fixture
def bucket(moto: MotoServer) -> Bucket:
    return Bucket(moto)


@pytest.fixture
def archive(folder: Path) -> World:
    world = World(folder, new_sqlite(folder))
    world.fill(3)
    return world


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    server = FaultProxy(moto.url)
    yield server
    server.close()


def test_plan_apply_and_check_name_the_rule_and_refuse(archive: World, moto: MotoServer, bucket: Bucket) -> None:
    """No plan is written, nothing is copied; once the rule is gone the same commands work."""
    source = archive.config("config", DB)
    dest = archive.config("dest", s3(moto, bucket.name, prefix="anchore/"))
    said = "lifecycle rule 'tidy-up' deletes all objects 30 days after they are written"
    archive.plan(source, dest, "before.json")
    bucket.rule()
    with pytest.raises(ConfigError, match=said) as planned:
        archive.plan(source, dest)
    assert planned.value.exit_code == 78
    assert not (archive.folder / "p.json").exists()
    with pytest.raises(ConfigError, match=said):
        archive.apply("before.json")
    assert not bucket.keys()
    (backend,) = verbs.check(dest).backends
    assert not backend.ok
    assert [(step.name, step.detail) for step in backend.steps if not step.ok] == [("keep", said)]
    bucket.no_rule()
    archive.apply("before.json")
    bucket.rule()
    archive.undo("before.undo.json")  # an undo leads back, wherever from


@pytest.mark.parametrize(
    ("rule", "prefix", "said"),
    [
        ({"Filter": {"Prefix": "anchore/"}, "Expiration": {"Days": 1}}, "", "objects below 'anchore/' 1 day after"),
        pytest.param(
            {"Filter": {"Prefix": "anch"}}, "anchore/", "objects below 'anch' 30 days after", marks=pytest.mark.matrix
        ),
        pytest.param({"Filter": None, "Prefix": ""}, "anchore/", "all objects 30 days after", marks=pytest.mark.matrix),
        pytest.param(
            {"Expiration": {"Date": "2030-05-01T00:00:00Z"}},
            "anchore/",
            "all objects on 2030-05-01",
            marks=pytest.mark.matrix,
        ),
        ({"Filter": {"And": {"Prefix": "a", "ObjectSizeGreaterThan": 500}}}, "anchore/", "objects below 'a' 30 days"),
        ({"Filter": {"Prefix": "logs/"}}, "anchore/", None),
        pytest.param({"Status": "Disabled"}, "anchore/", None, marks=pytest.mark.matrix),
        ({"Filter": {"Tag": {"Key": "passing", "Value": "yes"}}}, "anchore/", None),
        pytest.param({"Expiration": {"ExpiredObjectDeleteMarker": True}}, "anchore/", None, marks=pytest.mark.matrix),
        pytest.param(
            {"Expiration": None, "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}]},
            "anchore/",
            None,
            marks=pytest.mark.matrix,
        ),
        pytest.param(
            {"Expiration": None, "NoncurrentVersionExpiration": {"NoncurrentDays": 3}},
            "anchore/",
            None,
            marks=pytest.mark.matrix,
        ),
    ],
    ids=str,
)
def test_which_rules_delete_documents(
    archive: World, moto: MotoServer, bucket: Bucket, rule: dict[str, Any], prefix: str, said: str | None
) -> None:
    bucket.rule(**rule)
    source, dest = archive.config("config", DB), archive.config("dest", s3(moto, bucket.name, prefix=prefix))
    if said is None:
        assert archive.plan(source, dest).header.summary.moves.documents == 3
    else:
        with pytest.raises(ConfigError, match=said):
            archive.plan(source, dest)


def test_a_run_that_is_resumed_asks_too(archive: World, moto: MotoServer, bucket: Bucket) -> None:
    plan = archive.plan(archive.config("config", DB), archive.config("dest", s3(moto, bucket.name)))
    archive.apply(plan, stage_only=True)
    bucket.rule()
    with pytest.raises(ConfigError, match="tidy-up"):
        archive.apply(plan)
    bucket.no_rule()
    archive.apply(plan)


@pytest.mark.parametrize("rule", [denied, "not implemented"], ids=["denied", "not implemented"])
def test_a_server_that_does_not_report_its_rules_is_used(
    archive: World, moto: MotoServer, bucket: Bucket, proxy: FaultProxy, rule: Any
) -> None:
    """A line in the log, and on with it."""

    def refuses(request: Request, forward: Forward) -> Response:
        if "lifecycle" not in request.path:
            return forward(request)
        if rule is denied:
            return denied(request, forward)
        return Response(501, {}, b"<Error><Code>NotImplemented</Code></Error>")

    proxy.rule = refuses
    configure("info", "json", archive.folder / "log")
    try:
        plan = archive.plan(archive.config("config", DB), archive.config("dest", s3(moto, bucket.name, url=proxy.url)))
    finally:
        configure("error")
    assert "the server does not report its lifecycle rules" in (archive.folder / "log").read_text()
    archive.apply(plan)


def test_a_plan_needs_no_bucket(archive: World, moto: MotoServer, proxy: FaultProxy) -> None:
    """Not one that answers, and it is asked once only."""
    proxy.rule = busy
    dest = archive.config("dest", s3(moto, "any", url=proxy.url))
    assert archive.plan(archive.config("config", DB), dest).header.summary.moves.documents == 3
    assert len(proxy.seen) == 1


def test_content_that_swift_is_going_to_delete_is_not_adopted(archive: World, swift: SwiftServer) -> None:
    """`X-Delete-At` at an object that would do as the copy: it is named, and replaced where the plan overwrites."""
    from swiftclient.client import Connection

    container = f"expiry-{uuid.uuid4().hex[:8]}"
    source, dest = archive.config("config", DB), archive.config("dest", in_swift(swift, container))
    connection = Connection(swift.auth_url, swift.access_key, swift.secret_key)
    connection.put_container(container)
    at = int(time.time()) + 5000
    for archive_id, headers in (("sha256:0001", {"X-Delete-At": str(at)}), ("sha256:0002", {})):
        query = 'SELECT "userId", bucket FROM archive_metadata WHERE "archiveId" = ?'
        user, bucket = archive.sql(query, archive_id)[0]
        document = archive.read(source)[archive_id]
        connection.put_object(container, f"{user}/{bucket}/{archive_id}", document, headers=headers)
    truth = archive.read(source)
    plan = archive.plan(source, dest)
    with pytest.raises(StageFailedError, match="sha256:0001: destination_occupied: the same content, but the server"):
        archive.apply(plan)
    (blocked,) = archive.plan(source, dest, "probed.json", probe="digest").blockers()
    assert (blocked.archiveId, blocked.reason) == ("sha256:0001", "destination_occupied")
    assert "X-Delete-At" in blocked.detail
    over = archive.plan(source, dest, "over.json", probe="digest", overwrite=True)
    assert (over.header.summary.adopted, over.header.summary.overwritten) == (2, 1)
    archive.apply(over)
    assert archive.read(dest) == truth
    for name in names(swift, container):
        assert "x-delete-at" not in connection.head_object(container, name)
