"""`reconcile verify`: what is missing, wrong, out of the services' reach, or nobody's, is found and named."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reconcile import verbs
from reconcile.auditing import contents, orphans
from reconcile.auditing.verify_report import PARTIAL, Audited, Request
from reconcile.config.validation import load_schema
from reconcile.control import Control
from reconcile.errors import BackendError, Interrupted, ReconcileError, UsageError
from reconcile.planning.model import REASONS
from reconcile.stores.tables import TableStore
from tests.archives import Place, md5, new_sqlite
from tests.cli.runner import Result, reconcile
from tests.integration.steps import stage_only
from tests.integration.test_probe import Damager, section
from tests.servers.moto import MotoServer
from tests.servers.proxy import FaultProxy, Forward, Response
from tests.servers.proxy import Request as HttpRequest
from tests.servers.swift import SwiftServer
from tests.world import COMPRESSED, DB, DB2, World, localfs, s3

__all__ = ["section"]  # a fixture
DRIVERS = ("db", "db2", "localfs", "s3", "swift")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No service is at work in these tests, unless it says so."""
    monkeypatch.setattr(contents, "GRACE_SECONDS", 0)
    monkeypatch.setattr(orphans, "GRACE_SECONDS", 0)


@pytest.fixture
def small(folder: Path) -> World:
    """A filled archive on SQLite, in driver db."""
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    world.config("config", DB)
    return world


def verify(world: World, *options: str, config: str = "config.yaml") -> Result:
    return reconcile("verify", config, *options, cwd=world.folder)


def audited(world: World, config: str = "config.yaml", **request: Any) -> dict[str, Any]:
    """Verify in this process, hold the JSON against the schema, return it."""
    found: Audited = verbs.verify(world.folder / config, request=Request(**request))
    data: dict[str, Any] = json.loads("".join(found.json()))
    assert list(jsonschema.Draft202012Validator(load_schema("verify.schema.json")).iter_errors(data)) == []
    assert data["ok"] is found.ok
    assert {problem["reason"] for problem in data["problems"]} <= set(REASONS)
    return data


def reasons(data: dict[str, Any]) -> dict[str, str]:
    return {problem["archiveId"]: problem["reason"] for problem in data["problems"]}


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_driver(folder: Path, database: str, section: Any, driver: str) -> None:
    missing_and_wrong(World(folder, database), section, driver)


@pytest.mark.parametrize("driver", ["db", "db2"])
def test_tables_of_sqlite(folder: Path, section: Any, driver: str) -> None:
    missing_and_wrong(World(folder, new_sqlite(folder)), section, driver)


def missing_and_wrong(world: World, section: Any, driver: str) -> None:
    """Documents that are missing, damaged, or of another size are found, beside those that are right."""
    world.fill(40)
    settings = section(world, driver)
    start, config = world.config("start", DB), world.config("config", settings, DB2)
    world.apply(world.plan(start, config, "setup.json"))
    before = world.tables()
    data = audited(world, orphans=True)
    assert data["ok"]
    assert world.tables() == before
    assert data["by_backend"]["analysis_archive"]["documents"] == 13
    assert data["by_backend"]["object_store"]["documents"] == data["documents"] - 13 == 27
    assert data["bytes"] == world.sql("SELECT sum(size) FROM archive_metadata")[0][0]
    assert data["orphans"]["count"] == 0

    damager = Damager(world, driver, settings)
    damager.lose("sha256:0001")
    damager.damage("sha256:0003", b"other")
    size = world.sql("""SELECT size FROM archive_metadata WHERE "archiveId" = 'sha256:0004'""")[0][0]
    damager.damage("sha256:0004", b"x" * size)
    world.sql("""UPDATE archive_metadata SET size = 7 WHERE "archiveId" = 'sha256:0006'""")
    world.sql("""UPDATE archive_metadata SET digest = NULL WHERE "archiveId" IN ('sha256:0007', 'sha256:0009')""")
    world.sql("""UPDATE archive_metadata SET size = 7 WHERE "archiveId" = 'sha256:0009'""")
    data = audited(world)
    assert reasons(data) == {
        "sha256:0001": "source_missing",
        "sha256:0003": "wrong_digest",
        "sha256:0004": "wrong_digest",
        "sha256:0006": "wrong_digest",
        "sha256:0009": "wrong_digest",
    }
    assert data["unverifiable"] == 1
    assert data["by_backend"]["object_store"]["problems"] == 5


def test_the_command(small: World) -> None:
    """Exit codes and words."""
    result = verify(small)
    assert result.code == 0, result.all
    assert "verified 6 documents" in result.out
    assert "nothing is missing or wrong" in result.out
    small.sql("DELETE FROM archive_document WHERE \"archiveId\" = 'sha256:0002'")
    result = verify(small)
    assert result.code == 5
    assert "team-a" not in result.out
    assert "admin/analysis_archive/sha256:0002: source_missing: nothing is at db://admin/" in result.out
    assert "error: 1 of 6 documents missing or wrong" in result.err
    assert verify(small, "--sample", "101%").code == 64
    assert verify(small, config="missing.yaml").code == 78


def test_many_problems_are_counted(small: World) -> None:
    for number in range(30):
        small.row(f"gone\x1b[2J{number:02}", b"x")
    result = verify(small)
    assert result.code == 5
    assert result.out.count(": source_missing: ") == 20
    assert "and 10 more: --format json lists them all" in result.out
    assert "\x1b" not in result.all
    result = verify(small, "--format", "json")
    assert result.code == 5
    assert len(json.loads(result.out)["problems"]) == 30


def test_rows_that_services_cannot_read(small: World) -> None:
    """Nowhere, at an unknown driver, in nobody's bucket, at the wrong driver, by a name that URL parsers cut."""
    small.row("null", b"", content_url=None)
    small.row("tape", b"", content_url="tape://a/b/c")
    small.row("elsewhere", b"", content_url="s3://other/key")
    small.row("by hand", b"", content_url="db://admin/policy_bundles/a/b")
    small.add("hash#", b"a")
    data = audited(small)
    assert reasons(data) == {
        "null": "no_content_url",
        "tape": "unknown_scheme",
        "elsewhere": "not_owned",
        "by hand": "ambiguous_url",
        "hash#": "unreadable_by_services",
    }
    assert data["by_backend"]["nowhere"] == {"documents": 4, "bytes": 0, "problems": 4}


def test_rows_at_the_wrong_driver_or_backend(small: World) -> None:
    """Whole, and yet out of the reach of services with this config."""
    archive = localfs(small.folder / "archive")
    small.apply(small.plan(small.folder / "config.yaml", small.config("files", archive), "files.json"))
    small.config("split", archive, DB2)
    found = reasons(audited(small, "split.yaml"))
    assert set(found.values()) == {"unreadable_by_services"}
    assert set(found) == {"sha256:0002", "sha256:0005"}
    assert set(reasons(audited(small)).values()) == {"not_owned"}
    small.undo("files.undo.json")
    data = audited(small, "files.yaml")
    assert set(reasons(data).values()) == {"unreadable_by_services"}
    assert data["by_backend"]["db"]["problems"] == 6
    small.sql("DELETE FROM archive_document WHERE \"archiveId\" = 'sha256:0000'")
    assert reasons(audited(small, "files.yaml"))["sha256:0000"] == "source_missing"


def test_a_path_out_of_the_data_dir_is_not_followed(small: World) -> None:
    (small.folder / "archive").mkdir()
    (small.folder / "outside.json").write_bytes(b"secret")
    small.row("out", b"secret", content_url=f"file://{small.folder}/archive/../outside.json")
    small.config("files", localfs(small.folder / "archive"))
    assert reasons(audited(small, "files.yaml"))["out"] == "leaves_data_dir"


def test_buckets(small: World) -> None:
    small.sql("DELETE FROM archive_document WHERE bucket = 'policy_bundles'")
    assert audited(small, buckets=("analysis_data",))["documents"] == 2
    data = audited(small, buckets=("analysis_data", "policy_bundles"))
    assert (data["documents"], len(data["problems"])) == (4, 2)
    result = verify(small, "--bucket", "no-such")
    assert result.code == 64
    assert "the catalog has: analysis_archive, analysis_data, policy_bundles" in result.err


def test_a_sample(world: World) -> None:
    world.fill(30)
    world.config("config", DB)
    data = audited(world, sample=50.0)
    assert data["sample"] == {"percent": 50.0, "of": 30}
    assert 0 < data["documents"] < 30
    assert audited(world, sample=100.0)["documents"] == 30


def test_a_sample_says_so(small: World) -> None:
    assert "verified 6 documents of 6, a random sample of 100%" in verify(small, "--sample", "100%").out


def test_large_and_many_documents_in_batches(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconcile.auditing import verify_part as module

    monkeypatch.setattr(module, "_BATCH_DOCUMENTS", 4)
    monkeypatch.setattr(module, "_BATCH_BYTES", 3000)
    asked: list[int] = []
    look = TableStore.look
    monkeypatch.setattr(
        TableStore, "look", lambda self, keys, **more: (asked.append(len(keys)), look(self, keys, **more))[1]
    )
    assert audited(small)["documents"] == 6
    assert len(asked) > 2


@pytest.mark.parametrize("what", ["overwritten", "removed"])
def test_services_at_work(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A row that changes or goes between its reading and the look at its content is judged anew."""
    world.fill(6)
    world.config("config", DB)
    look = TableStore.look
    done: list[int] = []

    def look_late(self: TableStore, keys: Any, **more: Any) -> Any:
        if not done:
            done.append(1)
            if what == "removed":
                world.sql("DELETE FROM archive_document WHERE \"archiveId\" = 'sha256:0003'")
                world.sql("DELETE FROM archive_metadata WHERE \"archiveId\" = 'sha256:0003'")
            else:
                world.sql("UPDATE archive_document SET jsondata = 'new' WHERE \"archiveId\" = 'sha256:0003'")
                world.sql(
                    "UPDATE archive_metadata SET digest = %s, size = 3 WHERE \"archiveId\" = 'sha256:0003'", md5(b"new")
                )
        return look(self, keys, **more)

    monkeypatch.setattr(TableStore, "look", look_late)
    data = audited(world)
    assert data["ok"], data["problems"]
    assert (data["documents"], data["gone"]) == ((5, 1) if what == "removed" else (6, 0))


def test_a_store_that_is_not_there_is_no_list_of_missing_documents(small: World, moto: MotoServer) -> None:
    section = s3(moto, "no-such-bucket-at-all", create_bucket=False)
    small.config("config", section)
    small.row("x", b"x", content_url="s3://no-such-bucket-at-all/admin/policy_bundles/x")
    with pytest.raises(BackendError, match="the bucket is not there"):
        audited(small)


def test_a_bucket_is_audited_by_its_listing(small: World, moto: MotoServer) -> None:
    """No object is asked for by name; and where ETags are no MD5s, each is read before it is called wrong."""
    proxy = FaultProxy(moto.url)
    small.add_all((f"more {number:02}", b"x" * number, "admin", "policy_bundles") for number in range(40))
    place = Place(small.folder, small.url, moto)
    small.apply(small.plan(small.folder / "config.yaml", small.config("s3", s3(moto, place.buckets[0]))))
    small.config("s3", s3(moto, place.buckets[0], url=proxy.url))

    assert audited(small, "s3.yaml")["ok"]
    listings = [request for request in proxy.seen if "list-type" in request.path]
    by_name = [request for request in proxy.seen if request not in listings and place.buckets[0] + "/" in request.path]
    assert (len(listings), by_name) == (1, [])

    def encrypted(request: HttpRequest, forward: Forward) -> Response:
        response = forward(request)
        response.body = re.sub(b"<ETag>[^<]*", b"<ETag>&quot;" + b"0" * 32 + b"&quot;", response.body)
        return response

    proxy.rule = encrypted
    assert audited(small, "s3.yaml")["ok"]
    proxy.close()


def test_an_interrupted_audit_says_so(small: World) -> None:
    with pytest.raises(Interrupted, match="verify changes nothing"):
        verbs.verify(small.folder / "config.yaml", control=Control(signal=2))


def test_what_is_found_has_no_room(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of the temporary files is named, not the store that was being read."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(BackendError, match="what was found could not be kept there") as error:
        audited(small)
    assert "TMPDIR" in str(error.value.hint)


def test_orphans_in_a_bucket(small: World, moto: MotoServer) -> None:
    place = Place(small.folder, small.url, moto)
    bucket = place.buckets[0]
    config = small.config("s3", s3(moto, bucket, prefix="a/"), s3(moto, bucket, prefix="a/archive/"))
    small.apply(small.plan(small.folder / "config.yaml", config))
    place.put(bucket, "a/nobody/policy_bundles/x", b"orphan")
    place.put(bucket, "a/archive/nobody/x", b"two")
    place.put(bucket, "b/other tenant", b"not ours")
    data = audited(small, "s3.yaml", orphans=True)
    assert data["ok"]
    assert {entry["url"]: (entry["size"], entry["kind"]) for entry in data["orphans"]["listed"]} == {
        f"s3://{bucket}/a/nobody/policy_bundles/x": (6, "document"),
        f"s3://{bucket}/a/archive/nobody/x": (3, "document"),
    }
    assert (data["orphans"]["count"], data["orphans"]["bytes"]) == (2, 9)
    result = verify(small, "--orphans", config="s3.yaml")
    assert result.code == 0
    assert "orphans: 2, 9 B" in result.out
    assert f"s3://{bucket}/a/nobody/policy_bundles/x" in result.out


def test_the_services_own_checks_are_no_orphans(small: World, swift: SwiftServer) -> None:
    place = Place(small.folder, small.url, swift)
    bucket = place.buckets[0]
    small.apply(small.plan(small.folder / "config.yaml", small.config("s3", s3(swift, bucket))))
    place.put(bucket, "__anchore_s3_key_self_check__5f0e", b"check")
    orphans = audited(small, "s3.yaml", orphans=True)["orphans"]
    assert (orphans["count"], orphans["self_checks"]) == (0, 1)


def test_orphans_in_a_data_dir(small: World) -> None:
    """A row under another spelling of its URL keeps its file; a temporary file of ours is named as such."""
    archive = small.folder / "archive"
    (small.folder / "link").symlink_to(archive)
    config = small.config("files", localfs(archive))
    small.apply(small.plan(small.folder / "config.yaml", config))
    for archive_id, spelling in (("0000", "link"), ("0001", "archive//"), ("0002", "archive/./x/..")):
        small.sql(
            'UPDATE archive_metadata SET content_url = replace(content_url, %s, %s) WHERE "archiveId" = %s',
            f"{small.folder}/archive/",
            f"{small.folder}/{spelling}/",
            f"sha256:{archive_id}",
        )
    (archive / "x").mkdir()
    file = next(archive.rglob("*.json"))
    file.with_name("nobodys.json").write_bytes(b"12345")
    file.with_name(f".{file.name}.20260801-101500-a1b2c3d4.tmp").write_bytes(b"123")
    orphans = audited(small, "files.yaml", orphans=True)["orphans"]
    assert {(Path(entry["url"]).name, entry["kind"]) for entry in orphans["listed"]} == {
        ("nobodys.json", "document"),
        (f".{file.name}.20260801-101500-a1b2c3d4.tmp", "temporary"),
    }
    assert (orphans["temporary"], orphans["bytes"]) == (1, 8)


@pytest.mark.parametrize("driver", ["db", "db2"])
def test_orphans_in_tables(world: World, driver: str) -> None:
    world.fill(6)
    config = world.config("config", {"db": DB, "db2": DB2}[driver])
    if driver == "db2":
        world.apply(world.plan(world.config("start", DB), config))
    world.sql("DELETE FROM archive_metadata WHERE \"archiveId\" = 'sha256:0004'")
    orphans = audited(world, orphans=True)["orphans"]
    assert [entry["url"] for entry in orphans["listed"]] == [f"{driver}://admin/analysis_data/sha256:0004"]


def test_orphans_beside_an_unfinished_run(small: World, moto: MotoServer) -> None:
    """What a run has staged is no orphan; neither are the sources that it keeps afterwards."""
    place = Place(small.folder, small.url, moto)
    config = small.config("dest", s3(moto, place.buckets[0]))
    plan = small.plan(small.folder / "config.yaml", config)
    stage_only(small, plan)
    place.put(place.buckets[0], "nobody/x/y", b"orphan")
    data = audited(small, "dest.yaml", orphans=True)
    assert len(data["problems"]) == 6, "the catalog still points at db"
    assert (data["orphans"]["count"], data["orphans"]["staged"]) == (1, 6)
    assert audited(small, orphans=True)["orphans"]["count"] == 0
    small.apply(plan, keep_source=True)
    data = audited(small, "dest.yaml", orphans=True)
    assert data["ok"]
    assert (data["orphans"]["count"], data["orphans"]["staged"]) == (1, 0)
    kept = audited(small, orphans=True)["orphans"]
    assert (kept["count"], kept["kept"]) == (0, 6)


def test_the_copies_of_a_run(world: World) -> None:
    world.fill(12)
    config, dest = world.config("config", DB), world.config("dest", COMPRESSED | localfs(world.folder / "archive"))
    run = stage_only(world, world.plan(config, dest))
    data = audited(world, "dest.yaml", run=run)
    assert data["ok"]
    assert data["documents"] == 12
    assert data["scope"]["run"] == {
        "run_id": run, "state": "staging", "staged": 12, "not_staged": 0, "partial": False, "remark": None,
    }  # fmt: skip
    copies = sorted((world.folder / "archive").rglob("*.json"))
    copies[0].unlink()
    copies[1].write_bytes(b"damaged")
    world.sql(
        "UPDATE archive_metadata SET content_url = (SELECT after_url FROM reconcile_moves m"
        ' WHERE m.archive_id = "archiveId") WHERE "archiveId" = (SELECT max(archive_id) FROM reconcile_moves'
        " WHERE after_url NOT LIKE %s AND after_url NOT LIKE %s)",
        f"%{copies[0].name}",
        f"%{copies[1].name}",
    )
    assert sorted(reasons(audited(world, "dest.yaml", run=run)).values()) == [
        "row_changed",
        "source_missing",
        "wrong_digest",
    ]
    result = verify(world, "--run", run, config="dest.yaml")
    assert result.code == 5
    assert "has not switched" in result.out
    assert PARTIAL not in result.out
    with pytest.raises(UsageError, match="is not where run"):
        audited(world, run=run)


def test_a_partial_run_says_what_a_switch_of_it_would_be(small: World) -> None:
    config, dest = small.folder / "config.yaml", small.config("dest", DB2)
    run = stage_only(small, small.plan(config, dest, limit=2))
    data = audited(small, "dest.yaml", run=run)
    assert data["scope"]["run"]["partial"]
    assert data["scope"]["run"]["remark"] == f"its plan was limited: {PARTIAL}"
    result = verify(small, "--run", run, config="dest.yaml")
    assert result.code == 0
    assert PARTIAL in result.out


def test_a_run_that_has_nothing_staged_to_verify(small: World) -> None:
    dest = small.config("dest", DB2)
    run = small.apply(small.plan(small.folder / "config.yaml", dest)).run_id
    result = verify(small, "--run", run, config="dest.yaml")
    assert result.code == 64
    assert "reconcile verify" in result.err
    with pytest.raises(ReconcileError, match="this database has no run no-such"):
        audited(small, "dest.yaml", run="no-such")
    with pytest.raises(UsageError, match="--orphans"):
        audited(small, "dest.yaml", run=run, orphans=True)
    small.sql("DROP TABLE object_storage")
    with pytest.raises(BackendError):
        audited(small, "dest.yaml")
