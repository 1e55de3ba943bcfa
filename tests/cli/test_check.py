"""`reconcile check`: every verb of every backend, on any driver, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import psycopg2
import pytest

from reconcile import verbs
from reconcile.auditing import store_check
from reconcile.catalog import DatabaseOptions, connect
from reconcile.config import load_config
from reconcile.config.validation import load_schema
from reconcile.control import Control
from reconcile.errors import BackendError, Interrupted
from reconcile.secret import Secret
from reconcile.stores import open_store
from tests.archives import Place, new_sqlite
from tests.cli.forks import forks
from tests.cli.runner import Result, reconcile
from tests.integration.test_swift import names
from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy, Forward, Request, Response
from tests.servers.swift import SwiftServer
from tests.world import DB, DB2, World, localfs, s3
from tests.world import swift as in_swift

STEPS = ["prepare", "look", "write", "confirm", "read", "replace", "list", "delete", "gone", "rates"]


@pytest.fixture
def small(folder: Path) -> World:
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    return world


def check(world: World, *options: str, config: str = "config.yaml") -> Result:
    return reconcile("check", config, *options, cwd=world.folder)


def checked(world: World, *, ok: bool = True) -> dict[str, Any]:
    """Check in this process, hold the JSON against the schema, return it."""
    report = verbs.check(world.folder / "config.yaml")
    data: dict[str, Any] = json.loads(msgspec.json.encode(report.data()))
    assert list(jsonschema.Draft202012Validator(load_schema("check.schema.json")).iter_errors(data)) == []
    assert data["ok"] is ok
    return data


def failed(backend: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {step["name"]: (step["detail"], step["right"]) for step in backend["steps"] if not step["ok"]}


@pytest.mark.parametrize("driver", ["db", "db2"])
def test_tables(world: World, driver: str) -> None:
    world.fill(3)
    world.config("config", {"db": DB, "db2": DB2}[driver])
    before = world.tables()
    (backend,) = checked(world)["backends"]
    assert [step["name"] for step in backend["steps"]] == STEPS
    assert backend["capabilities"] == {
        "conditional_put": True,
        "confirmation": "md5() in the transaction that wrote it",
        "server_side_copy": world.url.startswith("postgresql"),
        "bulk_delete": True,
    }
    assert all(rate > 0 for rate in backend["rates"].values())
    assert world.tables() == before


def test_a_data_dir_is_made_and_holds_nothing_afterwards(small: World) -> None:
    small.config("config", localfs(small.folder / "archive"))
    (backend,) = checked(small)["backends"]
    assert backend["made"].endswith("archive: the data dir was not there, and is made now")
    assert list((small.folder / "archive").iterdir()) == []
    assert checked(small)["backends"][0]["made"] is None


def test_a_data_dir_holds_only_folders_that_services_accept_meanwhile(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = small.folder / "archive"
    seen: set[str] = set()
    read = store_check.Trial._read

    def look_around(self: store_check.Trial) -> None:
        seen.update(path.name for path in data_dir.iterdir())
        read(self)

    monkeypatch.setattr(store_check.Trial, "_read", look_around)
    tried = attempt(small, localfs(data_dir))
    assert tried.ok
    assert seen
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in seen)


def attempt(world: World, section: dict[str, Any], control: Control | None = None) -> store_check.Trial:
    """Try a backend in this process."""
    config = load_config(world.config("config", section))
    catalog = connect(DatabaseOptions(url=Secret(world.url, remembered=False)))
    tried = store_check.Trial(open_store(config.object_store, catalog, "check-test"), control or Control())
    try:
        tried.run()
    finally:
        catalog.close()
    return tried


def test_a_parent_that_is_missing_is_not_made(small: World) -> None:
    small.config("config", localfs(small.folder / "no" / "archive"))
    (backend,) = checked(small, ok=False)["backends"]
    assert list(failed(backend)) == ["prepare"]
    assert not (small.folder / "no").exists()


@pytest.mark.parametrize("server", ["moto", "swift"])
def test_s3(small: World, server: str, request: pytest.FixtureRequest) -> None:
    place = Place(small.folder, small.url, request.getfixturevalue(server))
    bucket = place.buckets[0]
    small.config("config", s3(place.s3, bucket, prefix="pre/fix-"))
    (backend,) = checked(small)["backends"]
    assert f"bucket {bucket} at {place.s3.url}: the bucket was not there" in backend["made"]
    assert [step["name"] for step in backend["steps"]] == [*STEPS[:5], "copy", *STEPS[5:]]
    can = backend["capabilities"]
    assert can["server_side_copy"] is True
    assert can["conditional_put"] is True
    assert can["bulk_delete"] is True
    assert can["confirmation"] == "the ETag, which is the MD5"
    assert place.objects() == {}
    place.put(bucket, "pre/fix-admin/policy_bundles/a", b"a document")
    before = place.objects()
    result = check(small)
    assert result.code == 0
    assert "made now" not in result.out
    assert place.objects() == before
    assert place.s3.secret_key not in result.all
    assert place.s3.access_key not in result.all


def test_swift(small: World, swift: SwiftServer) -> None:
    container = f"checked-{uuid.uuid4().hex[:8]}"
    section = in_swift(swift, container)
    small.config("config", section)
    (backend,) = checked(small)["backends"]
    assert backend["made"] == f"container {container}: the container was not there, and is made now"
    assert backend["capabilities"]["conditional_put"] is True
    assert backend["rates"] is not None
    assert names(swift, container) == set()


def test_a_bucket_that_nobody_asks_to_make(small: World, moto: MotoServer) -> None:
    place = Place(small.folder, small.url, moto)
    small.config("config", s3(moto, place.buckets[0], create_bucket=False), DB2)
    backends = checked(small, ok=False)["backends"]
    detail, right = failed(backends[0])["prepare"]
    assert "the bucket is not there; create it, or set create_bucket: true" in detail
    assert right is None
    assert backends[0]["rates"] is None
    assert backends[1]["ok"], "a failing backend hinders no other"
    assert backends[1]["role"] == "analysis_archive"
    assert place._buckets_there() == set()


def test_a_bucket_without_rights(small: World, swift: SwiftServer) -> None:
    small.config("config", s3(swift, "denied", secret_key="wrong-but-secret"))
    result = check(small)
    assert result.code == 1
    assert "access denied (403" in result.out
    assert "s3:ListBucket" in result.out
    assert "error: the check of" in result.err
    assert "object_store (prepare)" in result.err
    assert "wrong-but-secret" not in result.all
    assert swift.access_key not in result.all


def test_swift_that_may_read_only(small: World, swift: SwiftServer) -> None:
    """The step that is refused is named, and the right for it."""
    from swiftclient.client import Connection

    container = f"reading-{uuid.uuid4().hex[:8]}"
    owner = Connection(swift.auth_url, swift.access_key, swift.secret_key)
    owner.put_container(container, headers={"X-Container-Read": ".r:*,.rlistings,test:reader"})
    section = in_swift(swift, container, user="test:reader", key="reading")
    small.config("config", section)
    (backend,) = checked(small, ok=False)["backends"]
    detail, right = failed(backend)["write"]
    assert "access denied (403" in detail
    assert right == "to write in the container (X-Container-Write)"
    assert [step["name"] for step in backend["steps"]] == ["prepare", "look", "write", "list"]


def test_a_data_dir_that_cannot_be_written(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (small.folder / "archive").mkdir()
    small.config("config", localfs(small.folder / "archive"))
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)  # root is refused nothing
    (backend,) = checked(small, ok=False)["backends"]
    assert failed(backend)["prepare"][1] == f"permission to write {small.folder / 'archive'} and everything below it"


def test_a_data_dir_that_is_mounted_read_only(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a matter of which user runs this."""
    (small.folder / "archive").mkdir()
    small.config("config", localfs(small.folder / "archive"))
    found = os.statvfs(small.folder)
    values = [*found[:8], found.f_flag | os.ST_RDONLY, found.f_namemax]
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(values))
    (backend,) = checked(small, ok=False)["backends"]
    assert failed(backend)["prepare"][0].endswith("the file system is mounted read-only")
    assert failed(backend)["prepare"][1] is None


@pytest.mark.parametrize(
    ("granted", "step", "right"),
    [
        ("SELECT", "write", "INSERT and SELECT on archive_document"),
        ("SELECT, INSERT", "delete", "DELETE and SELECT on archive_document"),
    ],
)
def test_a_role_without_rights(folder: Path, database: str, granted: str, step: str, right: str) -> None:
    name = f"checker_{uuid.uuid4().hex[:8]}"
    world = World(folder, database)
    connection = psycopg2.connect(database)
    connection.cursor().execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'checking-canary'; GRANT USAGE ON SCHEMA public TO {name};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}; GRANT {granted} ON archive_document TO {name}"
    )
    connection.commit()
    connection.close()
    url = re.sub("//[^@]*@", f"//{name}:checking-canary@", database)
    World(folder, url).config("config", DB)
    data = checked(world, ok=False)
    (backend,) = data["backends"]
    assert failed(backend)[step][1] == right
    assert "permission denied for table archive_document" in failed(backend)[step][0]
    left = world.tables()["archive_document"]
    if step == "delete":  # nobody could take it away: it is named
        assert "LEFT BEHIND, delete it by hand: db://reconcile-check-" in failed(backend)["clean"][0]
        assert len(left) == 1
    else:
        assert left == []
    assert "checking-canary" not in json.dumps(data)


@pytest.mark.parametrize(
    ("driver", "when"),
    [("localfs", "_read"), ("localfs", "_delete"), ("s3", "_confirm"), ("db", "_measure")],
)
def test_nothing_is_left_when_a_step_fails(
    small: World, moto: MotoServer, driver: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is a defect, or the operator, that ends the check in the middle of a step."""
    place = Place(small.folder, small.url, moto)
    section = {"localfs": localfs(place.data_dir), "s3": s3(moto, place.buckets[0]), "db": DB}[driver]
    before = small.tables()

    def end(error: BaseException) -> None:
        monkeypatch.setattr(store_check.Trial, when, lambda self: (_ for _ in ()).throw(error))

    end(BackendError("it fails"))
    assert [step.name for step in attempt(small, section).steps if not step.ok] == [
        when.removeprefix("_").replace("measure", "rates")
    ]
    for error in (KeyboardInterrupt(), RuntimeError("a defect")):
        end(error)
        with pytest.raises(type(error)):
            attempt(small, section)
    assert place.objects() == {}
    assert small.tables() == before
    if driver == "localfs":
        assert list(place.data_dir.iterdir()) == []


def test_a_rate_trial_that_fails_leaves_nothing(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconcile.auditing import measured

    data_dir = small.folder / "archive"

    def fail(*_arguments: Any) -> None:
        assert len([path for path in data_dir.rglob("*") if path.is_file()]) == 49
        raise BackendError("it fails")

    monkeypatch.setattr(measured, "_read", fail)
    assert not attempt(small, localfs(data_dir)).ok
    assert list(data_dir.iterdir()) == []


def test_a_signal_ends_the_check_and_leaves_nothing(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control()
    read = store_check.Trial._read
    monkeypatch.setattr(
        store_check.Trial, "_read", lambda self: (setattr(control, "signal", signal.SIGINT), read(self))[1]
    )
    with pytest.raises(Interrupted):
        attempt(small, localfs(small.folder / "archive"), control)
    assert list((small.folder / "archive").iterdir()) == []


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultProxy]:
    proxy = FaultProxy(moto.url)
    yield proxy
    proxy.close()


def test_ctrl_c(small: World, moto: MotoServer, proxy: FaultProxy) -> None:
    place = Place(small.folder, small.url, moto)
    place.client().create_bucket(Bucket=place.buckets[0])

    def slow(request: Request, forward: Forward) -> Response:
        time.sleep(0.2)
        return forward(request)

    proxy.rule = slow
    small.config("config", s3(moto, place.buckets[0], url=proxy.url))
    process = forks().start("reconcile", ("check", "config.yaml"), small.folder)
    deadline = time.monotonic() + 30
    while not place.objects() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "what was tried is taken away again" in err
    assert place.objects() == {}


DENIED = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
RIGHTS = {
    "write": (lambda request: request.method == "PUT", "s3:PutObject"),
    "read": (
        lambda request: request.method == "GET" and "reconcile-check" in request.path.partition("?")[0],
        "s3:GetObject",
    ),
    "list": (lambda request: request.method == "GET" and "list-type" in request.path, "s3:ListBucket"),
    "delete": (lambda request: request.method in ("POST", "DELETE"), "s3:DeleteObject"),
}


@pytest.mark.parametrize("step", RIGHTS)
def test_the_right_that_is_missing_is_named(small: World, moto: MotoServer, proxy: FaultProxy, step: str) -> None:
    place = Place(small.folder, small.url, moto)
    place.client().create_bucket(Bucket=place.buckets[0])
    denied, right = RIGHTS[step]
    proxy.rule = lambda request, forward: (
        Response(403, {"content-type": "application/xml"}, DENIED) if denied(request) else forward(request)
    )
    small.config("config", s3(moto, place.buckets[0], url=proxy.url))
    (backend,) = checked(small, ok=False)["backends"]
    detail, said = failed(backend)[step]
    assert "access denied (403 AccessDenied)" in detail
    assert said == right
    assert set(failed(backend)) == {step} | ({"clean"} if step == "delete" else set())
    assert bool(place.objects()) == (step == "delete")
    if step == "delete":
        assert f"LEFT BEHIND, delete it by hand: s3://{place.buckets[0]}/" in failed(backend)["clean"][0]


def test_only_the_analysis_archive(small: World) -> None:
    small.config("config", localfs(small.folder / "archive"), DB2)
    result = check(small, "--analysis-archive", "--format", "json")
    assert result.code == 0, result.err
    (backend,) = json.loads(result.out)["backends"]
    assert (backend["role"], backend["driver"]) == ("analysis_archive", "db2")
    assert not (small.folder / "archive").exists()
    small.config("config", DB)
    result = check(small, "--analysis-archive")
    assert result.code == 64
    assert "has no analysis_archive" in result.err


def test_a_config_that_services_would_refuse(small: World) -> None:
    small.config("config", {"storage_driver": {"name": "s3", "config": {"bucket": "b"}}})
    assert check(small).code == 78
    assert check(small, config="missing.yaml").code == 78


def test_a_server_that_heeds_no_condition(small: World, moto: MotoServer, proxy: FaultProxy) -> None:
    place = Place(small.folder, small.url, moto)

    def unconditional(request: Request, forward: Forward) -> Response:
        request.headers.pop("if-none-match", None)
        return forward(request)

    proxy.rule = unconditional
    small.config("config", s3(moto, place.buckets[0], url=proxy.url))
    (backend,) = checked(small)["backends"]
    assert backend["capabilities"]["conditional_put"] is False
    assert place.objects() == {}


def test_the_catalog(world: World) -> None:
    world.fill(6)
    world.row("nowhere", b"x", content_url=None, digest=None)
    world.row("tape", b"xyz", content_url="tape://x")
    world.sql("ALTER TABLE archive_metadata ADD COLUMN added_by_enterprise integer")
    world.sql("CREATE TABLE anchore (service_version varchar, db_version varchar, created_at integer)")
    world.sql("INSERT INTO anchore VALUES ('1.1.0', '0.0.16', 1)")
    world.sql("DROP TABLE archive_migration_tasks")
    world.config("config", DB)
    catalog = checked(world)["catalog"]
    assert catalog["versions"] == [{"service_version": "1.1.0", "db_version": "0.0.16"}]
    assert catalog["tables"]["archive_metadata"] == {"there": True, "missing": [], "extra": ["added_by_enterprise"]}
    assert catalog["tables"]["archive_migration_tasks"]["there"] is False
    assert (catalog["documents"], catalog["without_content_url"], catalog["without_digest"]) == (8, 1, 1)
    groups = {(group["driver"], group["bucket"]): group["documents"] for group in catalog["groups"]}
    assert groups == {
        ("db", "policy_bundles"): 2,
        ("db", "analysis_data"): 2,
        ("db", "analysis_archive"): 2,
        (None, "policy_bundles"): 2,
    }
    text = check(world).out
    assert "service_version 1.1.0, db_version 0.0.16" in text
    assert "not archive_migration_tasks" in text


def test_a_catalog_that_lacks_a_column(small: World) -> None:
    small.sql("ALTER TABLE object_storage DROP COLUMN object_metadata")
    small.config("config", localfs(small.folder / "archive"))
    assert checked(small, ok=False)["catalog"]["tables"]["object_storage"]["missing"] == ["object_metadata"]
    assert "table object_storage lacks the columns object_metadata" in check(small).out
