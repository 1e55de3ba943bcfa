"""Every document that can exist in an archive is moved right, or named in the plan with a reason."""

from __future__ import annotations

import base64
import uuid
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.service_reader import read_all
from reconcile import verbs
from reconcile.config import load_config
from reconcile.errors import StageFailedError
from reconcile.payload import md5
from reconcile.planning.planfile import PlanFile
from reconcile.running.phases.options import RunOptions
from reconcile.secret import Secret
from reconcile.stores import Content, open_store
from reconcile.stores.addresses import Document
from tests.archives import new_sqlite
from tests.servers.swift import SwiftServer
from tests.world import COMPRESSED, DB, DB2, PLAIN, World, localfs, s3, swift

USERS = ["a#b", "a@b", "a!b", "a$b", "a,b", "a/b", "a:b", "a;b", "a<b", "UP=x", "adm[in", "a?b", "tab\tb", "acc\u2100"]
BUCKETS = ["b#c", "b/c", "B C", "b?d", "b%20", "../b", "b\nc", "日本"]
IDS = [
    *("x/y:z", "p", "p#2", "p?2", "a%20b", "a b", " s ", "日本語 🗿", "tab\t", "nl\nx", "cr\rx", "../up", "./here"),
    *("a//b", "trail/", "/lead", "q'\"\\`", "é", "e\u0301", "x" * 800, "-", "."),
]
NAMES: list[Document] = [
    *((user, "policy_bundles", "x") for user in USERS),
    *(("admin", bucket, "x") for bucket in BUCKETS),
    *(("admin", "policy_bundles", archive_id) for archive_id in IDS),
    ("a/b", "c/d", "e/f"),
    ("a", "b/c/d", "e/f"),  # the same key as the one above
    ("a:b@c", "b#c", "p#2"),
]
DRIVERS = [
    "db2",
    "localfs",
    "s3",
    "swift",
    *(pytest.param(n, marks=pytest.mark.matrix) for n in ("s3-upper", "swift-upper")),
]


def section(driver: str, world: World, server: SwiftServer) -> dict[str, Any]:
    name = uuid.uuid4().hex[:12]
    return {
        "db2": lambda: DB2,
        "localfs": lambda: localfs(world.folder / "archive"),
        "s3": lambda: s3(server, f"names-{name}", prefix="pre/fix-"),
        "swift": lambda: swift(server, f"names-{name}", anchore_key_prefix="pre/fix-"),
        "s3-upper": lambda: s3(server, f"Names_{name}"),
        "swift-upper": lambda: swift(server, f"Names_{name}"),
    }[driver]()


def held(world: World, config: Path, plan: PlanFile) -> dict[Document, bytes]:
    """Return what lies where the plan's moves lead to, by the driver's own keys rather than by URLs."""
    with verbs.opened(verbs.DatabaseOptions(url=Secret(world.url))) as catalog:
        store = open_store(load_config(config).object_store, catalog, "test")
        keys = {move.document: store.address.key(move.document) for move in plan.moves()}
        read = store.read(list(keys.values()))
        return {name: c.data for name, key in keys.items() if isinstance(c := read[key], Content)}  # type: ignore[misc]


@pytest.mark.parametrize("driver", DRIVERS)
def test_names(folder: Path, database: str, swift: SwiftServer, driver: str) -> None:
    """R1: none is read, written or deleted as another. What services could not read is blocked, or goes if told to."""
    world = World(folder, database)
    world.add_all(
        (name, f"document {number}".encode(), user, bucket) for number, (user, bucket, name) in enumerate(NAMES)
    )
    truth = {name: f"document {number}".encode() for number, name in enumerate(NAMES)}
    source, dest = world.config("source", DB), world.config("dest", section(driver, world, swift))
    tables = world.tables()

    strict = world.plan(source, dest, "strict.json")
    moved = {move.document for move in strict.moves()}
    blocked = {(b.userId, b.bucket, b.archiveId): b.reason for b in strict.blockers()}
    assert moved | set(blocked) == set(NAMES)
    assert not moved & set(blocked)
    if driver.endswith("upper"):
        assert not moved
        assert "unreadable_by_services" in blocked.values()
    elif moved:
        world.apply(strict, leave_blocked=True)
        found = {name[:3]: content for name, content in read_all(dest).items()}
        assert {name: found[name] for name in moved} == {name: truth[name] for name in moved}
        assert held(world, dest, strict) == {name: truth[name] for name in moved}
        world.undo("strict.undo.json")
        assert world.tables() == tables

    loose = world.plan(source, dest, "loose.json", allow_unreadable=True, probe="digest")
    everything = {move.document for move in loose.moves()}
    reasons = {b.reason for b in loose.blockers()}
    assert moved <= everything
    assert reasons <= {"destination_taken", "name_altered", "leaves_data_dir", "rows_disagree", "key_too_long"}
    assert len(everything) >= len(NAMES) - 8
    world.apply(loose, leave_blocked=True)
    assert held(world, dest, loose) == {name: truth[name] for name in everything}
    world.undo("loose.undo.json")
    assert world.tables() == tables
    assert held(world, dest, loose) == {}


LIMIT = 1024  # COMPRESSED's
PACKED = zlib.compress(b"packed " * 500, 3)
CONTENTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "empty": (b"", {}),
    "one byte": (b"x", {}),
    "one byte that is no text": (b"\xff", {}),
    "at the limit": (b"l" * LIMIT, {}),
    "over the limit": (b"l" * (LIMIT + 1), {}),
    "not UTF-8": (bytes(range(256)) * 20, {}),
    "text": ("grüße 日本 ".encode() * 200, {}),
    "looks like base64": (b"YWJjZGVm\n" * 200, {}),
    "looks compressed": (PACKED, {"is_compressed": None}),
    "incompressible": (bytes((i * 7919 >> 3) & 255 for i in range(5000)), {}),
    "no digest": (b"no digest", {"digest": None}),
    "no size": (b"no size", {"size": None}),
    "neither": (b"neither" * 500, {"digest": None, "size": None}),
    "no flag": (b"no flag" * 500, {"is_compressed": None}),
}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("driver", ["db2", "localfs"])
def test_contents(world: World, driver: str, compressed: bool) -> None:
    """From ``db`` there, on to the other encoding, on to ``db`` again, and all the way back."""
    for name, (data, columns) in CONTENTS.items():
        world.add(name, data, **columns)
    truth = {name: data for name, (data, _columns) in CONTENTS.items()}
    start = world.config("start", DB)
    here: dict[str, Any] = {"db2": DB2, "localfs": localfs(world.folder / "here")}[driver]
    there: dict[str, Any] = {"db2": localfs(world.folder / "there"), "localfs": DB2}[driver]
    ways = (COMPRESSED, PLAIN) if compressed else (PLAIN, COMPRESSED)
    configs = [
        start,
        world.config("first", ways[0] | here),
        world.config("second", ways[1] | there),
        world.config("third", DB),
    ]
    states = [world.tables()]
    for number in range(3):
        plan = world.plan(configs[number], configs[number + 1], f"{number}.json", probe="digest")
        assert not list(plan.blockers())
        world.apply(plan)
        assert world.read(configs[number + 1]) == truth
        packed = {row[0] for row in world.sql('SELECT "archiveId" FROM archive_metadata WHERE is_compressed')}
        limit_matters = number < 2 and ways[number] is COMPRESSED
        assert packed == ({name for name, data in truth.items() if len(data) > LIMIT} if limit_matters else set())
        states.append(world.tables())
    for number in (2, 1, 0):
        world.undo(f"{number}.undo.json")
        assert world.tables() == states[number]
        assert world.read(configs[number]) == truth


@pytest.mark.parametrize("text", ["/w==", "/w==\n\n", " /w = =", "/\nw\n=\n=\n"])
def test_base64_in_other_lines(world: World, text: str) -> None:
    """What services read is what moves; the text itself comes back with an undo."""
    world.add("b64", b"\xff")
    world.sql("UPDATE archive_document SET jsondata = %s", text)
    source, dest, tables = world.config("source", DB), world.config("dest", DB2), world.tables()
    world.apply(world.plan(source, dest, probe="digest"))
    assert world.read(dest) == {"b64": b"\xff"}
    world.undo()
    assert world.tables() == tables


def test_what_is_no_base64_is_named(world: World) -> None:
    world.add("b64", b"\xff")
    world.sql("UPDATE archive_document SET jsondata = 'x'")
    plan = world.plan(world.config("source", DB), world.config("dest", DB2), probe="exists")
    with pytest.raises(StageFailedError, match="b64: undecodable: b64_encoded is true, but jsondata is not base64"):
        world.apply(plan)
    probed = world.plan(world.config("source", DB), world.config("dest", DB2), "q.json", probe="digest")
    assert [blocker.reason for blocker in probed.blockers()] == ["undecodable"]


def test_text_with_nul_cannot_go_into_driver_db(folder: Path, database: str) -> None:
    world = World(folder, database)
    for name, data in (("nul", b"a\0b"), ("fine", b"fine"), ("bytes", b"\xff\0")):
        content = {"object_metadata": None, "content": data, "created_at": 1, "last_updated": 1, "version": ""}
        world.insert("object_storage", {"userId": "admin", "bucket": "policy_bundles", "key": name} | content)
        world.row(name, data, content_url=f"db2://admin/policy_bundles/{name}")
    plan = world.plan(world.config("source", DB2), world.config("dest", DB))
    with pytest.raises(StageFailedError, match="nul: nul_in_text: it is text with a NUL character"):
        world.apply(plan)
    outcome = world.apply(plan, leave_failed=True)
    assert (outcome.documents, outcome.left) == (2, 1)
    assert base64.encodebytes(b"\xff\0").decode() in {row[8] for row in world.tables()["archive_document"]}


def test_rows(world: World) -> None:
    """Shared URLs, rows moved by hand, rows without content, content without rows, other states."""
    world.add("shared", b"shared")
    world.row("shared", b"shared", documentName="again")
    world.row("elsewhere", b"shared", content_url="db://admin/policy_bundles/shared")
    world.add("quarrel", b"quarrel")
    world.row("quarrel", b"other", documentName="again")
    world.add("hidden", b"hidden", record_state_key="inactive", record_state_val="why")
    world.row("bare", b"bare")
    world.row("nowhere", b"x", content_url=None)
    world.row("strange", b"x", content_url="gopher://x/y")
    world.add("orphan", b"orphan")
    world.sql("DELETE FROM archive_metadata WHERE \"archiveId\" = 'orphan'")
    source, dest, tables = world.config("source", DB), world.config("dest", localfs(world.folder / "a")), world.tables()

    plan = world.plan(source, dest, probe="digest")
    assert {(b.archiveId, b.reason) for b in plan.blockers()} == {
        ("quarrel", "rows_disagree"),
        ("bare", "source_missing"),
        ("nowhere", "no_content_url"),
        ("strange", "unknown_scheme"),
    }
    world.apply(plan, leave_blocked=True)
    found = world.read(dest)
    assert [found[name] for name in ("shared", "elsewhere", "hidden")] == [b"shared", b"shared", b"hidden"]
    assert len(list((world.folder / "a").rglob("*.json"))) == 3  # one a document, not one a row
    left = {row[0] for row in world.sql('SELECT "archiveId" FROM archive_document')}
    assert left == {"quarrel", "orphan"}
    world.undo()
    assert world.tables() == tables


def test_content_null_in_db2(world: World) -> None:
    nothing = {"object_metadata": None, "content": None, "created_at": 1, "last_updated": 1, "version": ""}
    world.insert("object_storage", {"userId": "admin", "bucket": "policy_bundles", "key": "x"} | nothing)
    world.row("x", b"", content_url="db2://admin/policy_bundles/x")
    plan = world.plan(world.config("source", DB2), world.config("dest", DB), probe="exists")
    assert [(b.reason, b.detail) for b in plan.blockers()] == [
        ("source_missing", "the row in object_storage has content NULL")
    ]


def test_a_document_of_many_mebibytes_by_the_command(folder: Path) -> None:
    """The spool files lie where TMPDIR says, and are gone afterwards."""
    world = World(folder, new_sqlite(folder))
    world.add("large", b"0123456789abcdef" * (20 << 16))
    source, dest = world.config("source", DB), world.config("dest", COMPRESSED | localfs(folder / "archive"))
    prepared = verbs.prepare(world.plan(source, dest).path)
    verbs.apply(prepared, options=RunOptions())
    assert md5(world.read(dest)["large"]) == md5(b"0123456789abcdef" * (20 << 16))  # type: ignore[arg-type]
    assert yaml.safe_load(dest.read_text())
    world.undo()
    assert world.sql("SELECT count(*) FROM archive_document") == [(1,)]
