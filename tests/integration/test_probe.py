"""``plan --probe``: what is missing or wrong is in the plan, before any downtime is booked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconcile.errors import BackendError, StageFailedError
from reconcile.planning.planfile import PlanFile
from tests.archives import md5, new_sqlite
from tests.cli.runner import reconcile
from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy
from tests.servers.swift import SwiftServer
from tests.world import COMPRESSED, DB, DB2, World, localfs, s3, swift

SOURCES = ("db", "db2", "localfs", "s3", pytest.param("swift", marks=pytest.mark.matrix))


def reasons(plan: PlanFile) -> dict[str, str]:
    return {blocker.archiveId: blocker.reason for blocker in plan.blockers()}


def actions(plan: PlanFile) -> dict[str, str | None]:
    return {move.archiveId: move.action for move in plan.moves()}


class Damager:
    """Loses and damages contents behind the catalog's back, by driver."""

    def __init__(self, world: World, driver: str, section: dict[str, Any]) -> None:
        self.world, self.driver = world, driver
        self.keys: dict[str, str] = {}
        self.settings = section["storage_driver"]["config"]

    def lose(self, name: str) -> None:
        self._change(name, None)

    def damage(self, name: str, data: bytes) -> None:
        self._change(name, data)

    def _change(self, name: str, data: bytes | None) -> None:
        table, key = ("archive_document", "archiveId") if self.driver == "db" else ("object_storage", "key")
        if self.driver in ("db", "db2"):
            if data is None:
                self.world.sql(f'DELETE FROM {table} WHERE "{key}" = %s', name)
            elif self.driver == "db":
                self.world.sql('UPDATE archive_document SET jsondata = %s WHERE "archiveId" = %s', data.decode(), name)
            else:
                self.world.sql("UPDATE object_storage SET content = %s WHERE key = %s", data, name)
        elif self.driver == "localfs":
            path = next(Path(self.settings["archive_data_dir"]).rglob(f"{md5(name.encode())}.json"))
            path.unlink() if data is None else path.write_bytes(data)
        else:
            url = self.world.sql('SELECT content_url FROM archive_metadata WHERE "archiveId" = %s', name)[0][0]
            self._change_object(self.keys.get(name) or url.split("/", 3)[3], data)

    def _change_object(self, key: str, data: bytes | None) -> None:
        if self.driver == "s3":
            import boto3

            where = {"Bucket": self.settings["bucket"], "Key": key}
            client = boto3.client(
                "s3",
                endpoint_url=self.settings["url"],
                aws_access_key_id=self.settings["access_key"],
                aws_secret_access_key=self.settings["secret_key"],
                region_name="us-east-1",
            )
            client.delete_object(**where) if data is None else client.put_object(**where, Body=data)
        else:
            from swiftclient.client import Connection

            connection = Connection(self.settings["auth"], self.settings["user"], self.settings["key"])
            container = self.settings["container"]
            if data is None:
                connection.delete_object(container, key)
            else:
                connection.put_object(container, key, data)


@pytest.fixture
def section(request: pytest.FixtureRequest) -> Callable[[World, str], dict[str, Any]]:
    def make(world: World, driver: str) -> dict[str, Any]:
        name = f"probe-{md5(str(world.folder).encode())[:12]}"
        if driver == "s3":
            moto: MotoServer = request.getfixturevalue("moto")
            return s3(moto, name)
        if driver == "swift":
            server: SwiftServer = request.getfixturevalue("swift")
            return swift(server, name)
        return {"db": DB, "db2": DB2, "localfs": localfs(world.folder / "source")}[driver]

    return make


@pytest.mark.parametrize("mode", ["exists", "digest"])
@pytest.mark.parametrize("driver", SOURCES)
def test_sources(folder: Path, database: str, section: Any, driver: str, mode: str) -> None:
    """Missing, or of another size: both modes. Same size, other bytes: ``digest``, or where a listing tells anyway."""
    world = World(folder, database)
    world.fill(40)
    start, source = world.config("start", DB), world.config("source", section(world, driver))
    if driver != "db":
        world.apply(world.plan(start, source, "setup.json"))
    damager = Damager(world, driver, section(world, driver))
    sizes = dict(world.sql('SELECT "archiveId", size FROM archive_metadata'))
    texts = [name for (name,) in world.sql('SELECT "archiveId" FROM archive_metadata ORDER BY 1') if sizes[name] > 0]
    if driver == "db":
        texts = [name for (name,) in world.sql('SELECT "archiveId" FROM archive_document WHERE NOT b64_encoded')]
        texts = [name for name in sorted(texts) if sizes[name] > 0]
    lost, longer, other = texts[0], texts[1], texts[2]
    damager.lose(lost)
    damager.damage(longer, b"x" * (sizes[longer] + 1))
    damager.damage(other, b"~" * sizes[other])
    dest = world.config("dest", localfs(world.folder / "dest"))

    assert not reasons(world.plan(source, dest, "unprobed.json"))
    plan = world.plan(source, dest, probe=mode)
    wrong = {lost: "source_missing", longer: "wrong_digest"}
    tells = mode == "digest" or driver in ("s3", "swift")
    if tells:
        wrong[other] = "wrong_digest"
    assert reasons(plan) == wrong
    assert plan.header.summary.probed == mode
    assert plan.header.summary.blocked_by_reason["source_missing"] == 1
    assert plan.header.summary.moves.documents == 40 - len(wrong)
    assert not (world.folder / "dest").exists()
    if tells:
        world.apply(plan, leave_blocked=True)
        world.undo()
    else:
        with pytest.raises(StageFailedError, match=f"{other}: wrong_digest"):
            world.apply(plan, leave_blocked=True)


@pytest.mark.parametrize("driver", SOURCES)
def test_destinations(folder: Path, database: str, section: Any, driver: str) -> None:
    """The right content is adopted, other content a blocker, unless ``overwrite``; undo knows whose is whose."""
    world = World(folder, database)
    names = ("right", "packed", "wrong", "new", *(f"more-{number}" for number in range(30)))
    world.add_all((name, f"{name} ".encode() * 1000, "admin", "policy_bundles") for name in names)
    source = world.config("source", localfs(world.folder / "files"))
    dest = world.config("dest", (COMPRESSED if driver != "db" else {}) | section(world, driver))
    world.apply(world.plan(world.config("start", DB), source, "setup.json"))
    scratch = world.plan(source, dest, "scratch.json")  # its copies become content that nobody refers to
    kept = world.apply(scratch, keep_source=True)
    assert kept.documents == 34
    world.sql("DELETE FROM reconcile_moves")
    world.sql("DELETE FROM reconcile_runs")
    rows = {m.archiveId: (m.before.content_url, m.before.digest, m.before.size) for m in scratch.moves()}
    for name, (url, digest, size) in rows.items():
        world.sql(
            "UPDATE archive_metadata SET content_url = %s, digest = %s, size = %s, is_compressed = %s"
            ' WHERE "archiveId" = %s',
            url,
            digest,
            size,
            False,
            name,
        )
    damager = Damager(world, driver, section(world, driver))
    damager.keys = {name: f"admin/policy_bundles/{name}" for name in rows}
    damager.lose("new")
    damager.damage("wrong", b"somebody else's")
    before = world.tables()

    plan = world.plan(source, dest, probe="exists")
    assert reasons(plan) == {"wrong": "destination_occupied"}
    assert actions(plan) == {name: None if name == "new" else "adopt" for name in rows if name != "wrong"}
    assert plan.header.summary.adopted == 32
    assert world.tables() == before

    over = world.plan(source, dest, "over.json", probe="digest", overwrite=True)
    assert not reasons(over)
    assert actions(over)["wrong"] == "overwrite"
    assert over.header.summary.overwritten == 1
    world.apply(over)
    found = world.read(dest)
    assert found == {name: f"{name} ".encode() * 1000 for name in rows}
    world.undo("over.undo.json")
    assert world.tables()["archive_metadata"] == before["archive_metadata"]
    assert world.read(source) == found


def test_overwrite_spares_what_a_row_refers_to(folder: Path) -> None:
    """R3: content that a row refers to, under whatever name, does not be replaced."""
    world = World(folder, new_sqlite(folder))
    world.add("x", b"mine")
    (folder / "real").mkdir()
    (folder / "link").symlink_to(folder / "real")
    dest = world.config("dest", localfs(folder / "real"))
    plan = world.plan(world.config("source", DB), dest, overwrite=True)
    path = Path(next(plan.moves()).after.content_url.removeprefix("file://"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    url = f"file://{folder}/link/{path.relative_to(folder / 'real')}"
    world.row("y", b"other", content_url=url)
    with pytest.raises(StageFailedError, match="destination_occupied"):
        world.apply(plan)
    assert path.read_bytes() == b"other"


def test_overwrite_without_a_probe(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.fill(5)
    source, dest = world.config("source", DB), world.config("dest", localfs(folder / "archive"))
    path = Path(next(world.plan(source, dest, "look.json").moves()).after.content_url.removeprefix("file://"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    with pytest.raises(StageFailedError, match="destination_occupied"):
        world.apply(world.plan(source, dest))
    assert path.read_bytes() == b"other"
    outcome = world.apply(world.plan(source, dest, "q.json", overwrite=True))
    assert outcome.documents == 5
    assert path.read_bytes() != b"other"


def test_null_and_doubled_rows_are_found(world: World) -> None:
    world.fill(3)
    for name, digest in (("empty", md5(b"")), ("lost", md5(b"x")), ("unknown", None)):
        world.add(name, b"", digest=digest, size=None)
        world.sql('UPDATE archive_document SET jsondata = NULL WHERE "archiveId" = %s', name)
    world.add("twice", b"one")
    columns = 'bucket, "archiveId", "userId", created_at, last_updated, jsondata, b64_encoded'
    world.sql(
        f"""INSERT INTO archive_document ({columns}, "documentName") SELECT {columns}, 'other'"""
        """ FROM archive_document WHERE "archiveId" = 'twice'"""
    )
    source, dest = world.config("source", DB), world.config("dest", DB2)
    plan = world.plan(source, dest, probe="exists")
    found = {"lost": "wrong_digest", "unknown": "source_missing", "twice": "ambiguous_source"}
    assert reasons(plan) == found
    with pytest.raises(StageFailedError) as error:  # without a probe staging finds the same
        world.apply(world.plan(source, dest, "q.json"))
    assert all(f"{name}: {reason}" in str(error.value) for name, reason in found.items())


def test_a_store_that_cannot_be_asked(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.fill(2)
    source, dest = world.config("source", localfs(folder / "files")), world.config("dest", DB2)
    world.apply(world.plan(world.config("start", DB), source, "setup.json"))
    (folder / "files").rename(folder / "away")
    with pytest.raises(BackendError, match="the data dir is not there"):
        world.plan(source, dest, probe="exists")
    assert not (folder / "p.json").exists()


def test_a_listing_tells(folder: Path, moto: MotoServer) -> None:
    """1,000 names a request: no request a document."""
    world = World(folder, new_sqlite(folder))
    world.add_all((f"{number:04}", str(number).encode(), "admin", "policy_bundles") for number in range(300))
    source, dest = world.config("source", s3(moto, "listed")), world.config("dest", DB2)
    world.apply(world.plan(world.config("start", DB), source, "setup.json"))
    proxy = FaultProxy(moto.url)
    text = source.read_text()
    source.write_text(text.replace(moto.url, proxy.url))
    assert world.plan(source, dest, probe="digest").header.summary.moves.documents == 300
    proxy.close()
    assert len(proxy.seen) <= 6


def test_command_line(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.fill(3)
    world.add("gone", b"x")
    world.sql("DELETE FROM archive_document WHERE \"archiveId\" = 'gone'")
    world.config("source", DB)
    world.config("dest", DB2)
    result = reconcile("plan", "source.yaml", "dest.yaml", "--out", "p.json", "--probe", "exists", cwd=folder)
    assert result.code == 0
    assert "1 source_missing" in result.out
    assert "admin/policy_bundles/gone: source_missing: no row in archive_document" in result.out
    assert "every source is there" in result.out
    refused = reconcile("apply", "p.json", "--yes", cwd=folder)
    assert refused.code == 1
    assert "1 blocked document: 1 source_missing" in refused.err


def test_documents_without_a_digest_are_said(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.add("sized", b"1234", digest=None)
    world.add("bare", b"12", digest=None, size=None)
    world.add("wrong", b"123", digest=None, size=4)
    world.add("binary", bytes(range(256)), digest=None, size=None)
    plan = world.plan(world.config("source", DB), world.config("dest", DB2), probe="digest")
    assert reasons(plan) == {"wrong": "wrong_digest"}
    assert plan.header.summary.unverifiable == 3
    assert any("3 documents have no digest" in note for note in plan.header.summary.notes)
    world.apply(plan, leave_blocked=True)
    rows = dict(world.sql("SELECT \"archiveId\", digest FROM archive_metadata WHERE content_url LIKE 'db2:%%'"))
    assert rows == {"sized": md5(b"1234"), "bare": md5(b"12"), "binary": md5(bytes(range(256)))}


def test_a_destination_that_is_still_to_be_made_is_said(folder: Path) -> None:
    world = World(folder, new_sqlite(folder))
    world.fill(3)
    plan = world.plan(world.config("config", DB), world.config("dest", localfs(folder / "archive")), probe="exists")
    assert f"{folder}/archive: the data dir is not there: apply creates it, as the config says." in (
        plan.header.summary.notes
    )
    assert world.apply(plan).documents == 3
