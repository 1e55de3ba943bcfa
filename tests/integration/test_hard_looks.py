"""What a second adversarial reading found: doubt taken for presence, room made where a copy was to be adopted."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.errors import BackendError, Interrupted, StageFailedError, UnconfirmedError
from reconcile.planning.planfile import PlanFile
from reconcile.stores import identities
from reconcile.stores.addresses import SwiftAddress
from reconcile.stores.base import Known
from reconcile.stores.localfs import FileStore
from reconcile.stores.swift import SwiftStore
from reconcile.stores.tables import TableStore
from tests.archives import connect, md5, new_sqlite
from tests.contract.conftest import make_backend
from tests.integration.test_corners import undo_run
from tests.servers.swift import SwiftServer
from tests.world import COMPRESSED, DB, DB2, NOW, World, localfs


@pytest.fixture
def lite(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


def path_of(plan: PlanFile, name: str) -> Path:
    url = next(move.after.content_url for move in plan.moves() if move.archiveId == name)
    return Path(url.removeprefix("file://"))


def in_db2(world: World, name: str, content: bytes | None, **row: Any) -> None:
    key = {"userId": "admin", "bucket": "policy_bundles", "key": name, "version": "", "object_metadata": None}
    world.insert("object_storage", key | {"content": content, "created_at": NOW, "last_updated": NOW})
    if row:
        world.row(name, content or b"", content_url=f"db2://admin/policy_bundles/{name}", **row)


SPOILED: dict[str, Callable[[World, PlanFile], Any]] = {
    "a NULL": lambda world, _plan: world.sql("UPDATE object_storage SET content = NULL WHERE key = 'a'"),
    "other bytes of the same length": lambda world, _plan: world.sql(
        "UPDATE object_storage SET content = %s WHERE key = 'a'", b"HELLO"
    ),
    "gone": lambda world, _plan: world.sql("DELETE FROM object_storage"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_copy_in_a_table_that_is_spoiled_before_the_switch(world: World, how: str) -> None:
    """R1, R3: it is staged anew, or nothing is switched; the source stays until then."""
    world.add("a", b"hello")
    world.add("b", b"world")
    source, dest = world.config("config", DB), world.config("dest", DB2)
    plan = world.plan(source, dest)
    run(world, plan)
    SPOILED[how](world, plan)
    if how == "gone":
        assert world.apply(plan).documents == 2
        assert world.read(dest) == {"a": b"hello", "b": b"world"}
        return
    with pytest.raises(UnconfirmedError, match="does not keep copies"):
        world.apply(plan)
    assert world.read(source) == {"a": b"hello", "b": b"world"}


def run(world: World, plan: PlanFile) -> None:
    """Stage, and stop before the switch."""
    from reconcile.running.phases.switch import Switcher

    class Stop(BaseException):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Switcher, "look_again", stop)
        with pytest.raises(Stop):
            world.apply(plan)


def test_a_copy_that_became_a_link_is_not_the_copy(lite: World) -> None:
    lite.add("a", b"hello")
    source = lite.config("config", DB)
    plan = lite.plan(source, lite.config("dest", localfs(lite.folder / "archive")))
    run(lite, plan)
    path_of(plan, "a").unlink()
    path_of(plan, "a").symlink_to("/nowhere")
    with pytest.raises(UnconfirmedError):
        lite.apply(plan)
    assert lite.read(source) == {"a": b"hello"}


SPELLINGS: dict[str, Callable[[Path, str], str]] = {
    "two slashes": lambda root, key: f"{root}/{key.replace('/', '//', 1)}",
    "a dot": lambda root, key: f"{root}/{key.replace('/', '/./', 1)}",
    "slashes at the root": lambda root, key: f"{root}//{key}",
    "a linked folder": lambda root, key: f"{root.parent}/linked/{key.partition('/')[2]}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("what", ["clean", "overwrite", "drop"])
def test_a_file_that_a_row_spells_in_another_way(lite: World, spelling: str, what: str) -> None:
    """R1, R3: neither cleaned, nor overwritten, nor dropped while the row refers to it."""
    archive = lite.folder / "archive"
    lite.add("a", b"hello" if what != "overwrite" else b"other")
    start, files = lite.config("start", DB), lite.config("files", localfs(archive))
    plan = lite.plan(start, files, overwrite=what == "overwrite")
    path = path_of(plan, "a")
    if what == "clean":
        lite.apply(plan)
    else:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"hello") if what == "overwrite" else run(lite, plan)
    user = path.relative_to(archive).parts[0]
    (lite.folder / "linked").symlink_to(archive / user)
    url = "file://" + SPELLINGS[spelling](archive, str(path.relative_to(archive)))
    lite.row("z", b"hello", bucket="other", content_url=url, documentName="z")
    if what == "clean":
        lite.apply(
            lite.plan(files, lite.config("dest", DB2), "q.json", scope=verbs_scope("policy_bundles")),
            leave_blocked=True,
        )
    elif what == "overwrite":
        with pytest.raises(StageFailedError, match="destination_occupied"):
            lite.apply(plan)
    else:
        undo_run(lite, lite.sql("SELECT run_id FROM reconcile_runs")[0][0])
    assert lite.read(files)["z"] == b"hello"


def verbs_scope(bucket: str) -> Any:
    from reconcile.catalog import Scope

    return Scope(buckets=(bucket,))


def test_overwrite_adopts_what_is_the_document_already(lite: World) -> None:
    """R4, R5: a kept original that another zlib made is adopted, as the plan said, and two undos give all back."""
    stored = zlib.compress(os.urandom(3000).hex().encode() * 3, 9)
    in_db2(lite, "a", stored, is_compressed=True)
    here, there = lite.config("a", COMPRESSED | DB2), lite.config("b", localfs(lite.folder / "archive"))
    before = lite.tables()
    lite.apply(lite.plan(here, there, "p1.json"))
    plan = lite.plan(there, here, "p2.json", probe="digest", overwrite=True)
    assert [move.action for move in plan.moves()] == ["adopt"]
    lite.apply(plan)
    assert lite.sql("SELECT content FROM object_storage") == [(stored,)]
    lite.undo("p2.undo.json")
    lite.undo("p1.undo.json")
    assert lite.tables() == before


@pytest.mark.parametrize("then", ["apply", "undo"])
def test_what_was_there_stays_whatever_interrupts(lite: World, then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3, R5: with ``overwrite`` what is to be adopted does not become ours by an interruption."""
    for name in ("a", "b", "c"):
        lite.add(name, name.encode())
    in_db2(lite, "a", b"a")
    in_db2(lite, "b", b"foreign")
    plan = lite.plan(lite.config("s", DB), lite.config("d", DB2), probe="digest", overwrite=True)
    assert [move.action for move in plan.moves()] == ["adopt", "overwrite", None]

    def fail(_self: TableStore, _writes: Any) -> Any:
        raise BackendError("no")

    with monkeypatch.context() as patched:
        patched.setattr(TableStore, "write", fail)
        with pytest.raises(BackendError):
            lite.apply(plan)
    if then == "apply":
        lite.apply(plan)
        lite.undo()
    else:
        undo_run(lite, lite.sql("SELECT run_id FROM reconcile_runs")[0][0])
    assert lite.sql("SELECT key, content FROM object_storage") == [("a", b"a")]


def test_overwrite_in_one_directory_under_two_names(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R1: as an NFS export that is mounted twice; what seems to be in the way is the source itself."""
    (lite.folder / "d").mkdir()
    (lite.folder / "e").symlink_to(lite.folder / "d")
    original = identities.directory_identity
    monkeypatch.setattr(
        identities,
        "directory_identity",
        lambda path: f"mount:{path}" if Path(path).name in ("d", "e") else original(path),
    )
    lite.add("a", b"hello" * 1000)
    one = lite.config("one", localfs(lite.folder / "d"))
    two = lite.config("two", COMPRESSED | localfs(lite.folder / "e"))
    lite.apply(lite.plan(lite.config("start", DB), one, "p0.json"))
    with pytest.raises(StageFailedError, match="destination_occupied"):
        lite.apply(lite.plan(one, two, "p1.json", overwrite=True))
    assert lite.read(one) == {"a": b"hello" * 1000}


def test_a_probed_plan_overwrites_what_it_said(lite: World) -> None:
    """R4: content that turned up since the probe is in nobody's plan."""
    lite.add("a", b"mine")
    plan = lite.plan(lite.config("s", DB), lite.config("d", DB2), probe="exists", overwrite=True)
    in_db2(lite, "a", b"came later")
    with pytest.raises(StageFailedError, match="destination_occupied"):
        lite.apply(plan)
    assert lite.sql("SELECT content FROM object_storage") == [(b"came later",)]


@pytest.mark.parametrize("status", ["413 Request Entity Too Large", "401 Unauthorized", "500 Internal Error"])
def test_swift_refuses_a_bulk_delete_in_the_body_of_a_200(swift: SwiftServer, status: str) -> None:
    """R7: then one by one; nothing is called deleted that is not."""

    class Connection:
        def __init__(self) -> None:
            self.deleted: list[str] = []

        def head_object(self, _container: str, key: str) -> dict[str, str]:
            if key in self.deleted:
                from swiftclient.exceptions import ClientException

                raise ClientException("gone", http_status=404)
            return {"etag": "v", "content-length": "1"}

        def post_account(self, **_: Any) -> tuple[dict[str, str], bytes]:
            return {}, json.dumps({"Response Status": status, "Errors": [], "Number Deleted": 0}).encode()

        def delete_object(self, _container: str, key: str) -> None:
            self.deleted.append(key)

    class Store(SwiftStore):
        _connection = Connection()

    store = Store(SwiftAddress("swift", "id", "c", ""), make_backend("swift", swift, Path()))
    store._can_delete_many = True
    assert set(store.delete([Known(str(number), "v") for number in range(10)]).values()) == {None}
    assert len(store._connection.deleted) == 10


@pytest.mark.parametrize("source", ["db", "localfs"])
def test_the_spool_has_no_room(lite: World, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of the spool is named, not the store that was being read."""
    lite.add("a", b"0123456789abcdef" * (17 << 16))
    here = lite.config("here", DB if source == "db" else localfs(lite.folder / "files"))
    if source == "localfs":
        lite.apply(lite.plan(lite.config("start", DB), here, "setup.json"))
    plan = lite.plan(here, lite.config("dest", DB2))
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", "/nowhere")
        with pytest.raises(BackendError, match="a large document could not be spooled there") as error:
            lite.apply(plan)
    assert "TMPDIR" in str(error.value.hint)
    assert lite.apply(plan).documents == 1


def test_a_source_that_a_destination_not_yet_made_should_hold(lite: World) -> None:
    lite.row("x", b"x", content_url=f"file://{lite.folder}/later/x/y/z.json")
    dest = lite.config("dest", DB2, localfs(lite.folder / "later"))
    plan = lite.plan(lite.config("config", DB), dest, probe="exists")
    assert [blocker.reason for blocker in plan.blockers()] == ["source_missing"]


def test_a_signal_while_waiting_for_the_lock(folder: Path, database: str) -> None:
    from reconcile.control import Control
    from reconcile.running.phases.options import RunOptions

    world = World(folder, database)
    world.fill(2)
    plan = world.plan(world.config("config", DB), world.config("dest", DB2))
    holder = connect(database)
    holder.cursor().execute("SELECT pg_advisory_lock(2, 1)")
    with pytest.raises(Interrupted):
        verbs.apply(verbs.prepare(plan.path), options=RunOptions(lock_wait=60), control=Control(signal=2))
    holder.close()


def test_pruning_does_not_disturb_writing(tmp_path: Path) -> None:
    """Threads that delete the last file of a folder, and threads that put another there."""
    from concurrent.futures import ThreadPoolExecutor

    from reconcile.stores import Stat, Write
    from reconcile.stores.addresses import FileAddress

    store = FileStore(FileAddress(str(tmp_path / "archive")), "t")
    store.prepare(create=True)

    def churn(number: int) -> bool:
        for _round in range(50):
            key = f"{'0' * 32}/b/00/{number}.json"
            stat = store.write([Write(key, b"x", md5(b"x"))])[key]
            if not isinstance(stat, Stat) or store.delete([Known(key, stat.version or "")])[key] is not None:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(churn, range(4)))


def test_a_file_written_while_it_is_read_is_not_deleted_as_known(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: what was read is known by the version from before."""
    lite.add("a", b"hello")
    files = lite.config("files", localfs(lite.folder / "files"))
    lite.apply(lite.plan(lite.config("start", DB), files, "setup.json"))
    plan = lite.plan(files, lite.config("dest", DB2))
    path = next((lite.folder / "files").rglob("*.json"))
    read = os.read

    def written_meanwhile(descriptor: int, size: int) -> bytes:
        data = read(descriptor, size)
        if data == b"hello":
            path.write_bytes(b"newer")
        return data

    with monkeypatch.context() as patched:
        patched.setattr(os, "read", written_meanwhile)
        lite.apply(plan)
    assert path.read_bytes() == b"newer"


def test_a_pipe_at_a_documents_path_hangs_nobody(lite: World) -> None:
    lite.add("a", b"hello")
    files = lite.config("files", localfs(lite.folder / "files"))
    lite.apply(lite.plan(lite.config("start", DB), files, "setup.json"))
    plan = lite.plan(files, lite.config("dest", DB2))
    path = next((lite.folder / "files").rglob("*.json"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StageFailedError, match="is no file"):
        lite.apply(plan)


def test_base64_ends_at_its_padding_however_long(lite: World) -> None:
    """As the services' decoder has it: what follows is passed over."""
    text = "QUJD" * (5 << 20) + "QQ==" + "QUJD" * 10
    lite.add("pad", b"\xff", digest=None, size=None)
    lite.sql("UPDATE archive_document SET jsondata = %s", text)
    dest = lite.config("dest", localfs(lite.folder / "files"))
    lite.apply(lite.plan(lite.config("start", DB), dest))
    assert lite.read(dest) == {"pad": b"ABC" * (5 << 20) + b"A"}


def test_staged_documents_of_one_store_do_not_excuse_another(lite: World) -> None:
    """``--leave-failed`` comes to the same, run once or twice."""
    (lite.folder / "files").mkdir()
    for name in ("x", "y"):
        lite.row(name, b"x", bucket="analysis_archive", content_url=f"file://{lite.folder}/files/a/b/{name}.json")
    lite.fill(4)
    lite.sql("UPDATE archive_metadata SET bucket = 'other' WHERE content_url LIKE 'db:%%analysis_archive%%'")
    lite.sql("UPDATE archive_document SET bucket = 'other' WHERE bucket = 'analysis_archive'")
    lite.sql("UPDATE archive_metadata SET content_url = replace(content_url, '/analysis_archive/', '/other/')")
    plan = lite.plan(lite.config("s", DB, localfs(lite.folder / "files")), lite.config("d", DB2))
    for _time in range(2):
        with pytest.raises(BackendError, match=r"none of the first 2 documents is in source\.analysis_archive"):
            lite.apply(plan)
    outcome = lite.apply(plan, leave_failed=True)
    assert (outcome.documents, outcome.left) == (4, 2)


@pytest.mark.parametrize("packed", [False, True])
def test_a_copy_that_was_not_recorded_is_ours_though_its_source_changed_since(lite: World, *, packed: bool) -> None:
    """R5, R6: the undo of a run that never switched drops it, and a new plan finds the place free."""
    from reconcile.running.phases.stage import Stager

    class Stop(BaseException):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    lite.add("a", b"first" * 1000)
    source = lite.config("s", DB)
    dest = lite.config("d", (COMPRESSED if packed else {}) | localfs(lite.folder / "archive"))
    plan = lite.plan(source, dest)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Stager, "_record", stop)
        with pytest.raises(Stop):
            lite.apply(plan)
    lite.sql("UPDATE archive_document SET jsondata = 'second'")
    lite.sql("UPDATE archive_metadata SET digest = %s, size = 6, last_updated = 5", md5(b"second"))
    outcome = undo_run(lite, lite.sql("SELECT run_id FROM reconcile_runs")[0][0])
    assert outcome.left == 0
    assert not list((lite.folder / "archive").rglob("*.json"))
    lite.apply(lite.plan(source, dest, "q.json"))
    assert lite.read(dest) == {"a": b"second"}
