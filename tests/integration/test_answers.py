"""What servers answer when they refuse, and what the operator is told of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from attrs import evolve

from reconcile import verbs
from reconcile.errors import BackendError, DeniedError, DocumentError, StageFailedError
from reconcile.payload import md5
from reconcile.stores import Stat, Store, Write, open_store
from tests.archives import new_sqlite
from tests.contract.conftest import make_backend
from tests.integration.test_s3_servers import backend_at, get, opened, put
from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy, Forward, Request, Response, Rule
from tests.servers.swift import SwiftServer
from tests.world import DB, World, s3
from tests.world import swift as in_swift


@pytest.fixture
def archive(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    server = FaultProxy(request.getfixturevalue(getattr(request, "param", "moto")).url)
    yield server
    server.close()


def client_of(server: MotoServer) -> Any:
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    return boto3.client("s3", endpoint_url=server.url, region_name="us-east-1", **keys)


def says(status: int, code: str, message: str = "", more: str = "", only: str = "", **headers: str) -> Rule:
    """Answer every request for a document so, or those of one method; an answer to HEAD has no body."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>".encode() if code else b""

    def rule(request: Request, forward: Forward) -> Response:
        is_meant = "admin/" in request.path and request.method in (only or request.method)
        return Response(status, headers, body) if is_meant else forward(request)

    return rule


def write_all(store: Store, count: int = 20) -> dict[Any, Any]:
    keys = [store.address.key(("admin", "policy_bundles", f"{number:02}")) for number in range(count)]
    return store.write([Write(key, b"document", md5(b"document")) for key in keys])


# Objects in an archive class.


def in_glacier(world: World, moto: MotoServer, count: int) -> tuple[Path, Path, Any, str, str]:
    """Put an archive into S3; one of its objects goes to Glacier. Return configs, client, bucket and that key."""
    world.fill(count)
    bucket = f"answers-{uuid.uuid4().hex[:8]}"
    there, back = world.config("s3", s3(moto, bucket)), world.config("back", DB)
    world.apply(world.plan(back, there, "setup.json"))
    client, key = client_of(moto), "team-a/analysis_data/sha256:0001"
    client.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": key}, StorageClass="GLACIER")
    return there, back, client, bucket, key


@pytest.mark.parametrize("count", [pytest.param(3, marks=pytest.mark.matrix), 20])
def test_an_archived_object_is_named_and_the_others_go(archive: World, moto: MotoServer, count: int) -> None:
    """A probe and verify see it by the listing, or ask by name; once it is restored it goes too."""
    there, back, client, bucket, key = in_glacier(archive, moto, count)
    plan = archive.plan(there, back)
    with pytest.raises(StageFailedError, match="sha256:0001: archived: it is in an archive class") as error:
        archive.apply(plan)
    assert "The operation is not valid for the object's storage class" in error.value.message
    assert "access_key" not in str(error.value.hint)
    (blocked,) = archive.plan(there, back, "probed.json", probe="exists").blockers()
    assert (blocked.archiveId, blocked.reason) == ("sha256:0001", "archived")
    assert "GLACIER" in blocked.detail
    found = verbs.verify(there)
    assert [(problem.archiveId, problem.reason) for problem in found.problems] == [("sha256:0001", "archived")]
    archive.apply(plan, leave_failed=True)
    client.restore_object(Bucket=bucket, Key=key, RestoreRequest={"Days": 1})
    rest = archive.plan(there, back, "rest.json", probe="exists")
    assert not rest.header.summary.blocked.documents
    archive.apply(rest)


def test_an_archived_object_is_not_adopted(archive: World, moto: MotoServer) -> None:
    """R1: the services could not read it there."""
    archive.fill(3)
    client, bucket = client_of(moto), f"answers-{uuid.uuid4().hex[:8]}"
    source, dest = archive.config("config", DB), archive.config("dest", s3(moto, bucket))
    client.create_bucket(Bucket=bucket)
    document = archive.read(source)["sha256:0001"]
    client.put_object(Bucket=bucket, Key="team-a/analysis_data/sha256:0001", Body=document, StorageClass="DEEP_ARCHIVE")
    with pytest.raises(StageFailedError, match="sha256:0001: destination_occupied"):
        archive.apply(archive.plan(source, dest))


# Buckets with Object Lock, and with versions.


def test_a_bucket_that_wants_content_md5_gets_it(moto: MotoServer, proxy: FaultProxy) -> None:
    """Found out by the first document; no other is refused."""

    def locked(request: Request, forward: Forward) -> Response:
        if request.method == "PUT" and "admin/" in request.path and "content-md5" not in request.headers:
            text = b"Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
            return Response(400, {}, b"<Error><Code>InvalidRequest</Code><Message>" + text + b"</Message></Error>")
        return forward(request)

    proxy.rule = locked
    store = opened(backend_at(moto, proxy.url))
    answers = write_all(store)
    assert all(isinstance(answer, Stat) for answer in answers.values()), answers
    refused = [r for r in proxy.seen if r.method == "PUT" and "admin/" in r.path and "content-md5" not in r.headers]
    assert len(refused) == 1


def test_check_says_when_a_delete_frees_nothing(archive: World, moto: MotoServer) -> None:
    client, bucket = client_of(moto), f"answers-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule = {"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}}
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"} | rule)
    (backend,) = verbs.check(archive.config("config", s3(moto, bucket))).backends
    assert backend.ok, backend.steps
    versions, locked = backend.remarks
    assert "Deleting frees no space" in versions
    assert "locked for 30 days (Object Lock, GOVERNANCE)" in locked


# A store that is full.


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "QuotaExceeded"),
        (400, "XMinioStorageFull"),
        pytest.param(400, "XMinioAdminBucketQuotaExceeded", marks=pytest.mark.matrix),
        pytest.param(507, "InsufficientStorage", marks=pytest.mark.matrix),
        (507, ""),
    ],
)
def test_a_full_store_ends_the_run(moto: MotoServer, proxy: FaultProxy, status: int, code: str) -> None:
    """As a full disk does: not document by document, and not as a matter of credentials."""
    store = opened(backend_at(moto, proxy.url))
    store.set_concurrency(1)
    proxy.rule = says(status, code, "Your quota is used up", only="PUT")
    proxy.seen.clear()
    with pytest.raises(BackendError, match="the store is full") as error:
        write_all(store)
    assert "access_key" not in str(error.value.hint)
    assert ("Your quota is used up" in error.value.message) == bool(code)
    assert proxy.counts()["PUT"] == 1


@pytest.mark.parametrize("driver", ["swift", "s3"])
def test_a_full_container_ends_the_run(archive: World, swift: SwiftServer, driver: str) -> None:
    """By a quota that Swift itself enforces, also by its s3api."""
    from swiftclient.client import Connection

    container = f"answers-{uuid.uuid4().hex[:8]}"
    connection = Connection(swift.auth_url, swift.access_key, swift.secret_key)
    connection.put_container(container, headers={"X-Container-Meta-Quota-Bytes": "100"})
    archive.fill(12)
    section = in_swift(swift, container) if driver == "swift" else s3(swift, container)
    plan = archive.plan(archive.config("config", DB), archive.config("dest", section))
    with pytest.raises(BackendError, match=r"the store is full \(4.. .*\): .*[qQ]uota"):
        archive.apply(plan)


@pytest.mark.parametrize("proxy", ["swift"], indirect=True)
def test_a_full_swift_ends_the_run(swift: SwiftServer, proxy: FaultProxy) -> None:
    store = opened(make_backend("swift", swift, Path(), auth=f"{proxy.url}/auth/v1.0"))
    proxy.rule = says(507, "")
    with pytest.raises(BackendError, match=r"the store is full \(507 Insufficient Storage\)"):
        write_all(store)


# Clocks.


@pytest.mark.parametrize("how", ["words", "headers"])
def test_clocks_that_differ_are_named(moto: MotoServer, proxy: FaultProxy, how: str) -> None:
    """By the error's own time, or, where a HEAD has no words for it, by the answer's date."""
    there = datetime.now(UTC) + timedelta(hours=2)
    store = opened(backend_at(moto, proxy.url))
    if how == "words":
        time = f"<ServerTime>{there:%Y-%m-%dT%H:%M:%SZ}</ServerTime>"
        proxy.rule = says(403, "RequestTimeTooSkewed", "The difference is too large.", time)
    else:
        proxy.rule = says(403, "", date=format_datetime(there, usegmt=True))
    with pytest.raises(BackendError, match="the clocks differ") as error:
        store.look([store.address.key(("admin", "b", "x"))])
    assert f"the server {there:%Y-%m-%d %H:%M:%S} UTC" in error.value.message
    assert "clock" in str(error.value.hint)


# Answers without words, and with.


def only_gets_tell(status: int, code: str, message: str = "") -> Rule:
    def rule(request: Request, forward: Forward) -> Response:
        if "admin/" not in request.path and request.method != "HEAD" and "list-type" not in request.path:
            return forward(request)
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        return Response(status, {}, b"" if request.method == "HEAD" else body)

    return rule


@pytest.mark.parametrize("verb", ["look", "prepare"])
@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ExpiredToken"), (403, "AccessDenied"), pytest.param(403, "InvalidAccessKeyId", marks=pytest.mark.matrix)],
)
def test_what_a_head_does_not_tell_is_asked_for(
    moto: MotoServer, proxy: FaultProxy, verb: str, status: int, code: str
) -> None:
    store = opened(backend_at(moto, proxy.url))
    proxy.rule = only_gets_tell(status, code, "For a reason")
    with pytest.raises(DeniedError, match=rf"access denied \({status} {code}\): For a reason"):
        store.prepare(create=False) if verb == "prepare" else store.look([store.address.key(("admin", "b", "x"))])


def test_the_servers_own_sentence_is_shown_in_one_line_without_secrets(moto: MotoServer, proxy: FaultProxy) -> None:
    store = opened(backend_at(moto, proxy.url))
    sentence = f"User\n {moto.access_key} may not\x9b31m s3:PutObject here, " + "blah " * 200
    proxy.rule = says(403, "AccessDenied", sentence)
    with pytest.raises(DeniedError) as error:
        write_all(store)
    assert "(403 AccessDenied): User *** may not" in error.value.message
    assert error.value.message.isprintable()
    assert len(error.value.message) < 500
    proxy.rule = says(418, "Teapot", "I am short and stout", only="PUT")
    answers = write_all(store, 3)
    assert {"I am short and stout" in a.detail for a in answers.values() if isinstance(a, DocumentError)} == {True}


def test_swifts_own_sentence_is_shown(swift: SwiftServer) -> None:
    backend = make_backend("swift", swift, Path(), key="wrong")
    with pytest.raises(DeniedError, match=r"access denied \(401 Unauthorized\): \S"):
        open_store(backend, None, "test").prepare(create=False)  # type: ignore[arg-type]


# Regions.


@pytest.mark.parametrize(
    ("environment", "config", "signed"),
    [
        pytest.param(None, None, "us-east-1", marks=pytest.mark.matrix),
        pytest.param("eu-west-1", None, "eu-west-1", marks=pytest.mark.matrix),
        ("eu-west-1", "ap-south-1", "eu-west-1"),
        pytest.param(None, "ap-south-1", "us-east-1", marks=pytest.mark.matrix),
    ],
)
def test_beside_a_url_the_environments_region_is_signed_for(
    moto: MotoServer,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    environment: str | None,
    config: str | None,
    signed: str,
) -> None:
    """As the vendor's client does, whatever the config says, for both clients."""
    if environment:
        monkeypatch.setenv("AWS_DEFAULT_REGION", environment)
    backend = backend_at(moto, proxy.url)
    store = opened(evolve(backend, settings=backend.settings | ({"region": config} if config else {})))
    assert isinstance(put(store, "x", b"document"), Stat)
    assert get(store, "x") == b"document"
    assert {request.headers["authorization"].split("/")[2] for request in proxy.seen} == {signed}
    assert store.remarks() == []


def only(region: str, names_it: Callable[[Request], bool]) -> Rule:
    """Be a server that serves requests signed for one region only, and says which where ``names_it`` says so."""

    def rule(request: Request, forward: Forward) -> Response:
        signed = request.headers.get("authorization") or unquote(request.path)  # a delete is signed in the query
        if signed.partition("Credential=")[2].split("/")[2] == region:
            return forward(request)
        named = f"<Region>{region}</Region>" if names_it(request) else ""
        body = f"<Error><Code>AuthorizationHeaderMalformed</Code><Message>Wrong</Message>{named}</Error>"
        return Response(400, {}, b"" if request.method == "HEAD" else body.encode())

    return rule


@pytest.mark.parametrize("is_named", [pytest.param(True, marks=pytest.mark.matrix), False], ids=["named", "not named"])
def test_another_region_is_tried_and_named(archive: World, moto: MotoServer, proxy: FaultProxy, is_named: bool) -> None:
    """The one that the server names, else the config's; `check` says which."""
    archive.fill(20)
    proxy.rule = only("eu-north-1", lambda _request: is_named)
    region = {} if is_named else {"region": "eu-north-1"}
    behind = s3(moto, f"answers-{uuid.uuid4().hex[:8]}", url=proxy.url, **region)
    source, dest = archive.config("config", DB), archive.config("dest", behind)
    (backend,) = verbs.check(dest).backends
    assert backend.ok, backend.steps
    origin = "which the server reports" if is_named else "the config's"
    assert [f"for region eu-north-1, {origin}" in remark for remark in backend.remarks] == [True]
    archive.apply(archive.plan(source, dest))
    archive.undo()


def test_a_region_that_nothing_leads_to_is_named(moto: MotoServer, proxy: FaultProxy) -> None:
    proxy.rule = only("eu-north-1", lambda _request: False)
    backend = backend_at(moto, proxy.url)
    with pytest.raises(BackendError, match="signed for another region"):
        opened(evolve(backend, settings=backend.settings | {"region": "ap-south-1"}))


def test_a_real_servers_region_is_found(swift: SwiftServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swift's s3api is in us-east-1, and says so."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    store = opened(make_backend("s3", swift, Path()))
    assert isinstance(put(store, "x", b"document"), Stat)
    assert any("us-east-1, which the server reports" in remark for remark in store.remarks())
