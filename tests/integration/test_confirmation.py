"""R1, R3: what is read and written is checked; a copy that is not what was written is not switched to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from reconcile.errors import (
    BackendError,
    StageFailedError,
    UnconfirmedError,
)
from reconcile.planning.planfile import PlanFile
from tests.archives import md5
from tests.integration.steps import (
    path_of,
    stage_only,
    stopped_before_the_switch,
    undo_run,
)
from tests.servers.moto import MotoServer
from tests.world import COMPRESSED, DB, DB2, World, localfs, s3


def test_an_etag_that_is_no_md5_is_read_behind(lite: World, moto: MotoServer, monkeypatch: Any) -> None:
    """A bucket with KMS encryption: a resumed run knows its own copies, an undo drops them."""
    from reconcile.stores import s3 as driver

    lite.fill(6)
    monkeypatch.setattr(driver, "_md5_of", lambda etag: md5((etag or "").encode()))
    source, dest = lite.config("config", DB), lite.config("dest", s3(moto, "kms"))
    tables = lite.tables()
    plan = lite.plan(source, dest)
    run_id = stage_only(lite, plan)
    lite.sql("UPDATE reconcile_moves SET state = 'planned'")
    assert lite.apply(plan).documents == 6
    lite.undo()
    assert lite.tables() == tables
    run_id = stage_only(lite, lite.plan(source, dest, "q.json"))
    assert undo_run(lite, run_id).left == 0


def test_a_file_that_does_not_read_back_is_taken_away_again(lite: World, monkeypatch: Any) -> None:
    from reconcile.stores import localfs as driver

    lite.fill(3)
    plan = lite.plan(lite.config("config", DB), lite.config("dest", localfs(lite.folder / "archive")))
    with monkeypatch.context() as patched:
        patched.setattr(driver, "md5_of", lambda _descriptor, _size: "0" * 32)
        with pytest.raises(UnconfirmedError, match="holds none of the first 3 documents as they were sent"):
            lite.apply(plan)
    assert lite.apply(plan).documents == 3


def test_too_big_once_decompressed_is_one_documents_failure(lite: World, monkeypatch: Any) -> None:
    from reconcile import stores

    lite.add("big", b"x" * 5000)
    middle = lite.config("middle", COMPRESSED | localfs(lite.folder / "archive"))
    lite.apply(lite.plan(lite.config("start", DB), middle, "setup.json"))
    monkeypatch.setitem(stores._LARGEST, "db2", 1000)
    with pytest.raises(StageFailedError, match="big: too_big"):
        lite.apply(lite.plan(middle, lite.config("dest", DB2)))


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
    stopped_before_the_switch(world, plan)
    SPOILED[how](world, plan)
    if how == "gone":
        assert world.apply(plan).documents == 2
        assert world.read(dest) == {"a": b"hello", "b": b"world"}
        return
    with pytest.raises(UnconfirmedError, match="does not keep copies"):
        world.apply(plan)
    assert world.read(source) == {"a": b"hello", "b": b"world"}


def test_a_copy_that_became_a_link_is_not_the_copy(lite: World) -> None:
    lite.add("a", b"hello")
    source = lite.config("config", DB)
    plan = lite.plan(source, lite.config("dest", localfs(lite.folder / "archive")))
    stopped_before_the_switch(lite, plan)
    path_of(plan, "a").unlink()
    path_of(plan, "a").symlink_to("/nowhere")
    with pytest.raises(UnconfirmedError):
        lite.apply(plan)
    assert lite.read(source) == {"a": b"hello"}


def test_base64_ends_at_its_padding_however_long(lite: World) -> None:
    """As the services' decoder has it: what follows is passed over."""
    text = "QUJD" * (5 << 20) + "QQ==" + "QUJD" * 10
    lite.add("pad", b"\xff", digest=None, size=None)
    lite.sql("UPDATE archive_document SET jsondata = %s", text)
    dest = lite.config("dest", localfs(lite.folder / "files"))
    lite.apply(lite.plan(lite.config("start", DB), dest))
    assert lite.read(dest) == {"pad": b"ABC" * (5 << 20) + b"A"}


def test_a_pipe_at_a_documents_path_hangs_nobody(lite: World) -> None:
    lite.add("a", b"hello")
    files = lite.config("files", localfs(lite.folder / "files"))
    lite.apply(lite.plan(lite.config("start", DB), files, "setup.json"))
    plan = lite.plan(files, lite.config("dest", DB2))
    path = next((lite.folder / "files").rglob("*.json"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StageFailedError, match="is not a file"):
        lite.apply(plan)


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
        with pytest.raises(
            BackendError, match="a large document could not be written to a temporary file there"
        ) as error:
            lite.apply(plan)
    assert "TMPDIR" in str(error.value.hint)
    assert lite.apply(plan).documents == 1


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
