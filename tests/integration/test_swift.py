"""Driver swift against a real Swift server: the vendor's archive from and to every other driver, and back."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from reconcile import __version__, verbs
from reconcile.errors import BackendError, ConfigError
from tests.archives import TABLES, Place, dump, truth
from tests.integration.test_equal_to_vendor import documents
from tests.servers.keystone import DOMAIN, PASSWORD, PROJECT, USER, KeystoneServer
from tests.servers.moto import MotoServer
from tests.servers.swift import SwiftServer
from tests.world import COMPRESSED, DB, DB2, World, localfs, s3
from tests.world import swift as in_swift

OTHERS = ("db", "db2", "localfs", "s3", "swift")
QUICK = {True: ("db",), False: ("localfs",)}


def names(server: SwiftServer, container: str) -> set[str]:
    from swiftclient.client import Connection

    connection = Connection(server.auth_url, server.access_key, server.secret_key)
    return {entry["name"] for entry in connection.get_container(container, full_listing=True)[1]}


@pytest.mark.parametrize(
    ("other", "to_swift"),
    [
        pytest.param(
            other,
            to_swift,
            id=f"{'to' if to_swift else 'from'} swift-{other}",
            marks=[] if other in QUICK[to_swift] else [pytest.mark.matrix],
        )
        for other in OTHERS
        for to_swift in (True, False)
    ],
)
def test_there_and_back(
    other: str, to_swift: bool, folder: Path, database: str, moto: MotoServer, swift: SwiftServer
) -> None:
    world, place = World(folder, database), Place(folder, database, moto)
    start = place.load("db")
    container = f"anchore-{uuid.uuid4().hex[:8]}"
    sections: dict[str, Any] = {
        "db": DB,
        "db2": COMPRESSED | DB2,
        "localfs": localfs(place.data_dir),
        "s3": s3(moto, place.buckets[0]),
        "swift": in_swift(swift, f"{container}-two", anchore_key_prefix="pre/fix-"),
    }
    source, dest = (
        world.config("other", sections[other]),
        world.config("swift", COMPRESSED | in_swift(swift, container)),
    )
    if not to_swift:
        source, dest = dest, source
    setup = world.plan(start, source, "setup.json")
    if setup.header.summary.moves.documents:
        world.apply(setup)
    before = {table: dump(database, table) for table in TABLES}
    held = names(swift, container) if not to_swift else set()

    plan = world.plan(source, dest)
    world.apply(plan)
    assert documents(dest) == truth("db")
    if to_swift:
        assert names(swift, container) == {"/".join(document) for document in truth("db")}
    else:
        assert not names(swift, container)

    world.undo()
    assert {table: dump(database, table) for table in TABLES} == before
    assert documents(source) == truth("db")
    assert names(swift, container) == held


def test_without_the_client_the_message_says_how_to_install_it(
    folder: Path, database: str, monkeypatch: pytest.MonkeyPatch, swift: SwiftServer
) -> None:
    import sys

    world = World(folder, database)
    world.fill(3)
    plan = world.plan(world.config("config", DB), world.config("dest", in_swift(swift, "any")))
    for name in {"swiftclient", *(name for name in sys.modules if name.startswith("swiftclient."))}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match="python-swiftclient") as error:
        world.apply(plan)
    assert error.value.hint == f"pip install './anchore_reconcile-{__version__}-py3-none-any.whl[swift]'"


def test_dot_segments_are_blocked(folder: Path, database: str, swift: SwiftServer) -> None:
    """Never is one document written as another: the client would take ``..`` out of the name."""
    world = World(folder, database)
    world.add("../up", b"x")
    world.add("up", b"y", bucket="x")
    plan = world.plan(world.config("config", DB), world.config("dest", in_swift(swift, "any")))
    assert [(b.archiveId, b.reason) for b in plan.blockers()] == [("../up", "name_altered")]


DOTTED = ("../up", "./here", "a/../b", "a/./b", "..", "up")


def put_raw(server: SwiftServer, container: str, name: str, data: bytes, **headers: str) -> None:
    """Put an object by a request whose path nobody alters, as old clients did."""
    from swiftclient.client import Connection

    storage, token = Connection(server.auth_url, server.access_key, server.secret_key).get_auth()
    parts = urlsplit(storage)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port)
    connection.request("PUT", f"{parts.path}/{container}/{quote(name)}", data, {"X-Auth-Token": token, **headers})
    answer = connection.getresponse()
    assert answer.status == 201, (answer.status, answer.read())
    connection.close()


@pytest.fixture
def in_a_container(folder: Path, database: str, swift: SwiftServer) -> tuple[World, str]:
    """An archive of 20 documents in Swift, config.yaml, and a database to move it to, dest.yaml."""
    world, container = World(folder, database), f"anchore-{uuid.uuid4().hex[:8]}"
    world.fill(20)
    start = world.config("dest", DB2)
    world.config("config", in_swift(swift, container))
    world.apply(world.plan(world.config("start", DB), folder / "config.yaml", "setup.json"))
    assert start.exists()
    return world, container


def test_names_with_dot_segments_leave_swift_and_come_back(
    in_a_container: tuple[World, str], swift: SwiftServer
) -> None:
    world, container = in_a_container
    for number, name in enumerate(DOTTED):
        data = f"document {number}".encode()
        key = f"admin/policy_bundles/{name}"
        put_raw(swift, container, key, data)
        world.row(name, data, content_url=f"swift://{container}/{key}")
    source, dest = world.folder / "config.yaml", world.folder / "dest.yaml"
    before, held = world.tables(), names(swift, container)
    assert len(held) == 20 + len(DOTTED)
    assert list(verbs.verify(source).problems) == []
    world.apply(world.plan(source, dest, probe="digest"))
    assert [world.read(dest)[name] for name in DOTTED] == [f"document {n}".encode() for n in range(len(DOTTED))]
    assert not names(swift, container)
    world.undo()
    assert (world.tables(), names(swift, container)) == (before, held)
    assert list(verbs.verify(source).problems) == []


def make_large(swift: SwiftServer, container: str, name: str, data: bytes, kind: str) -> None:
    """Put a document as a static or dynamic large object of two segments, which lie in a container of their own."""
    from swiftclient.client import Connection

    connection = Connection(swift.auth_url, swift.access_key, swift.secret_key)
    connection.put_container(f"{container}_segments")
    middle = len(data) // 2
    segments = [(f"{kind}/{name}/{n}", part) for n, part in enumerate((data[:middle], data[middle:]))]
    for segment, part in segments:
        connection.put_object(f"{container}_segments", segment, part)
    if kind == "static":
        manifest = [{"path": f"{container}_segments/{segment}", "size_bytes": len(part)} for segment, part in segments]
        connection.put_object(container, name, json.dumps(manifest), query_string="multipart-manifest=put")
    else:
        head = {"X-Object-Manifest": f"{container}_segments/dynamic/{quote(name)}/"}
        connection.put_object(container, name, b"", headers=head)


def test_large_objects_go_there_and_back(in_a_container: tuple[World, str], swift: SwiftServer) -> None:
    """Their sources are kept (R5), and the plan counts them; a listing's hash of a manifest is no digest."""
    world, container = in_a_container
    source, dest = world.folder / "config.yaml", world.folder / "dest.yaml"
    larges = {
        f"{row[0]}/{row[1]}/{row[2]}": kind
        for row, kind in zip(
            world.sql(
                'SELECT "userId", bucket, "archiveId" FROM archive_metadata WHERE size > 100 ORDER BY "archiveId"'
            ),
            ("static", "dynamic", "static", "dynamic"),
            strict=False,
        )
    }
    truth = world.read(source)
    for name, kind in larges.items():
        document = truth[name.rpartition("/")[2]]
        assert isinstance(document, bytes)
        make_large(swift, container, name, document, kind)
    before = world.tables()
    assert list(verbs.verify(source).problems) == []
    plan = world.plan(source, dest, probe="exists")
    assert not plan.header.summary.blocked.documents
    assert any("4 sources are large objects" in note for note in plan.header.summary.notes)
    world.apply(plan)
    assert world.read(dest) == truth
    assert names(swift, container) == set(larges)
    assert len(names(swift, f"{container}_segments")) == 8
    world.undo()
    assert world.tables() == before
    assert world.read(source) == truth
    assert len(names(swift, container)) == 20
    world.apply(world.plan(source, dest, "again.json"))
    assert world.read(dest) == truth


V2 = {"auth_version": "2", "os_tenant_name": PROJECT}
V3 = {
    "auth_version": "3",
    "os_project_name": PROJECT,
    "os_project_domain_name": DOMAIN,
    "os_user_domain_name": DOMAIN,
}


def by_keystone(url: str, container: str, **more: Any) -> dict[str, Any]:
    settings = {"os_auth_url": url, "os_username": USER, "os_password": PASSWORD, "container": container}
    return {"storage_driver": {"name": "swift", "config": settings | {"create_container": True} | more}}


@pytest.fixture
def keystone(swift: SwiftServer) -> Iterator[KeystoneServer]:
    server = KeystoneServer(swift)
    yield server
    server.close()


@pytest.mark.parametrize("version", [V2, V3], ids=["v2", "v3"])
def test_keystone(
    folder: Path, database: str, swift: SwiftServer, keystone: KeystoneServer, version: dict[str, Any]
) -> None:
    """The vendor hands these options to python-swiftclient; what is written is found by another way in."""
    world = World(folder, database)
    world.fill(5)
    container = f"anchore-{uuid.uuid4().hex[:8]}"
    source = world.config("config", DB)
    url = f"{keystone.url}/{'v3' if version is V3 else 'v2.0'}"
    dest = world.config("dest", by_keystone(url, container, **version))
    plan = world.plan(source, dest)
    for secret in (USER, PASSWORD):
        assert secret not in plan.path.read_text()
    world.apply(plan)
    assert len(names(swift, container)) == 5
    assert keystone.logins
    assert all(
        isinstance(content, bytes) for content in world.read(world.config("v1", in_swift(swift, container))).values()
    )
    world.undo()
    assert not names(swift, container)


@pytest.mark.parametrize("version", [V2, V3], ids=["v2", "v3"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [({"os_password": "wrong"}, "access denied"), ({"os_auth_url": "http://127.0.0.1:9/v3"}, "no answer")],
)
def test_keystone_refuses(
    folder: Path,
    database: str,
    keystone: KeystoneServer,
    version: dict[str, Any],
    changed: dict[str, Any],
    message: str,
) -> None:
    world = World(folder, database)
    world.fill(2)
    url = f"{keystone.url}/{'v3' if version is V3 else 'v2.0'}"
    plan = world.plan(world.config("config", DB), world.config("dest", by_keystone(url, "any", **version, **changed)))
    with pytest.raises(BackendError, match=message) as error:
        world.apply(plan)
    assert PASSWORD not in str(error.value)


def test_projects_are_told_apart(folder: Path, database: str, keystone: KeystoneServer) -> None:
    """R4: a config that names another project is not the one that was planned with."""
    world = World(folder, database)
    world.fill(2)
    plan = world.plan(world.config("config", DB), world.config("dest", by_keystone(keystone.url, "any", **V3)))
    other = world.config("other", by_keystone(keystone.url, "any", **V3 | {"os_project_name": "another"}))
    with pytest.raises(ConfigError, match="not the dest config"):
        verbs.prepare(plan.path, None, other)
