"""R3: sources that stay: kept by policy or for a reason, linked to their copies, or not deleted by their store."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.control import Control, Silent
from reconcile.errors import (
    BackendError,
    DocumentError,
    ReconcileError,
    StageFailedError,
)
from reconcile.running.phases.clean import Cleaner
from reconcile.stores.localfs import FileStore
from reconcile.stores.s3 import S3Store
from tests.archives import md5
from tests.cli.runner import here
from tests.integration.steps import (
    in_files,
    path_of,
    paths,
    runs,
    scope_of,
    stage_only,
    stopped_before_the_switch,
    undo_run,
)
from tests.servers.moto import MotoServer
from tests.world import COMPRESSED, DB, DB2, World, localfs, s3


def test_keep_source_counts_on_a_resumed_run(lite: World) -> None:
    lite.fill(6)
    plan = lite.plan(lite.config("config", DB), lite.config("dest", DB2))
    stage_only(lite, plan)
    lite.apply(plan, keep_source=True)
    assert lite.sql("SELECT count(*) FROM archive_document") == [(6,)]


def test_a_source_is_kept_when_the_adopted_copy_is_compressed_in_another_way(lite: World) -> None:
    """R5: undo gives back the original's very bytes."""

    document = b"a document that is long enough " * 100
    one, two = lite.folder / "one", lite.folder / "two"
    one.mkdir()
    two.mkdir()
    source, dest = lite.config("one", COMPRESSED | localfs(one)), lite.config("two", COMPRESSED | localfs(two))
    start = lite.config("start", DB)
    lite.add("x", document)
    lite.apply(lite.plan(start, source, "setup.json"))
    (here,) = one.rglob("*.json")
    there = two / here.relative_to(one)
    there.parent.mkdir(parents=True)
    there.write_bytes(zlib.compress(document, 9))
    before = here.read_bytes()
    lite.apply(lite.plan(source, dest))
    assert lite.read(dest) == {"x": document}
    lite.undo()
    assert here.read_bytes() == before
    assert there.exists()


def test_a_source_that_the_store_would_not_delete_is_tried_again(
    lite: World, moto: MotoServer, monkeypatch: Any
) -> None:
    """R7: the run is not done, and says so; the same command finishes it."""

    lite.fill(6)
    source = lite.config("source", s3(moto, "undeletable"))
    lite.apply(lite.plan(lite.config("start", DB), source, "setup.json"))
    plan = lite.plan(source, lite.config("dest", DB2))
    with monkeypatch.context() as patched:
        denied = DocumentError("refused", "AccessDenied")
        patched.setattr(S3Store, "_delete_many", lambda _self, keys: dict.fromkeys(keys, denied))
        told = r"6 sources could not be deleted; the first: [\w-]+/\w+/sha256:\d+: AccessDenied"
        with pytest.raises(BackendError, match=told):
            lite.apply(plan)
    assert runs(lite)[0].state == "switched"
    assert lite.apply(plan).kept == 0


def test_a_data_dir_without_room_to_take_files_aside_keeps_them(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3, R7: nothing is deleted that cannot be deleted safely; the same command does it once there is room."""
    lite.fill(6)
    source = lite.config("source", localfs(lite.folder / "archive"))
    lite.apply(lite.plan(lite.config("start", DB), source, "setup.json"))
    truth, dest = lite.read(source), lite.config("dest", DB2)
    plan = lite.plan(source, dest)

    def full(_store: FileStore) -> None:
        raise BackendError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "ready_to_delete", full)
        with pytest.raises(BackendError, match=r"^the catalog is switched, but 6 sources .* No space"):
            lite.apply(plan)
    assert runs(lite)[0].state == "switched"
    assert sum(path.suffix == ".json" for path in (lite.folder / "archive").rglob("*")) == 6
    assert lite.apply(plan).kept == 0
    assert lite.read(dest) == truth
    assert not list((lite.folder / "archive").iterdir())


def test_links_that_another_plan_staged_are_no_copies_where_sources_are_kept(folder: Path) -> None:
    """A kept source needs bytes of its own: services overwrite files in place."""
    world = in_files(folder)
    world.plan(folder / "old.yaml", folder / "new.yaml")
    world.apply("p.json", stage_only=True)
    old = paths(world)
    world.plan(folder / "old.yaml", folder / "new.yaml", "keeping.json", keep_source=True)
    try:
        world.apply("keeping.json")
    except ReconcileError:
        return
    assert not [name for name, path in paths(world).items() if path.samefile(old[name])]


def test_a_link_gets_the_mode_that_a_copy_would_have(folder: Path) -> None:
    """New files take owner, group and mode of the data dir, so that services can read them (R1)."""
    world = in_files(folder)
    for path in paths(world).values():
        path.chmod(0o600)
    (folder / "new").mkdir(mode=0o755)
    world.plan(folder / "old.yaml", folder / "new.yaml")
    world.apply("p.json")
    assert {oct(path.stat().st_mode & 0o777) for path in paths(world).values()} == {"0o644"}


def test_sources_are_not_kept_where_a_link_was_not_recorded(folder: Path) -> None:
    """Killed between link and record, then --keep-source: the source needs bytes of its own."""
    world = in_files(folder)
    world.plan(folder / "old.yaml", folder / "new.yaml")
    world.apply("p.json", stage_only=True)
    old = paths(world)
    world.sql(
        "UPDATE reconcile_moves SET state = 'planned', origin = 'intended', source_version = NULL, copy_version = NULL"
        " WHERE run_id = (SELECT run_id FROM reconcile_runs WHERE state = 'staging')"
    )
    with suppress(ReconcileError):
        world.apply("p.json", keep_source=True)
        assert not [name for name, path in paths(world).items() if path.samefile(old[name])]


def test_stage_only_deletes_no_source(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the run was killed right after its switch (R4)."""

    def killed(_self: Cleaner) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(Cleaner, "clean", killed)
        small.apply("p.json")
    small.apply("p.json", stage_only=True)
    assert len(small.tables()["archive_document"]) == 12


SPELLINGS: dict[str, Callable[[Path, str], str]] = {
    "two slashes": lambda root, key: f"{root}/{key.replace('/', '//', 1)}",
    "a dot": lambda root, key: f"{root}/{key.replace('/', '/./', 1)}",
    "slashes at the root": lambda root, key: f"{root}//{key}",
    "a linked folder": lambda root, key: f"{root.parent}/linked/{key.partition('/')[2]}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("what", ["clean", "overwrite", "drop", "take over"])
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
        path.write_bytes(b"hello") if what == "overwrite" else stopped_before_the_switch(lite, plan)
    if what == "take over":  # what an unfinished run copied makes room for a later run's, of a newer document
        lite.sql("UPDATE archive_document SET jsondata = 'newer'")
        lite.sql("UPDATE archive_metadata SET digest = %s, size = 5 WHERE \"archiveId\" = 'a'", md5(b"newer"))
        plan = lite.plan(start, files, "q.json", scope=scope_of("policy_bundles"))
    user = path.relative_to(archive).parts[0]
    (lite.folder / "linked").symlink_to(archive / user)
    url = "file://" + SPELLINGS[spelling](archive, str(path.relative_to(archive)))
    lite.row("z", b"hello", bucket="other", content_url=url, documentName="z")
    if what == "clean":
        lite.apply(
            lite.plan(files, lite.config("dest", DB2), "q.json", scope=scope_of("policy_bundles")),
            leave_blocked=True,
        )
    elif what in {"overwrite", "take over"}:
        with pytest.raises(StageFailedError, match="destination_occupied"):
            lite.apply(plan)
    else:
        undo_run(lite, lite.sql("SELECT run_id FROM reconcile_runs")[0][0])
    assert lite.read(files)["z"] == b"hello"


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


class WhenCleanBegins(Silent):
    """Lets something happen when the clean has chosen what to delete, and has deleted nothing yet."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens = happens

    def phase(self, name: str, documents: int, size: int, before: tuple[int, int] = (0, 0)) -> None:
        if name == "clean":
            self._happens()


def test_a_row_that_a_service_leads_back_while_the_clean_begins_keeps_its_source(lite: World) -> None:
    """R3: a service with the old config wrote the same document again, at the source; the others' are deleted."""
    lite.fill(3)
    documents = lite.read(lite.config("config", DB))
    plan = lite.plan(lite.folder / "config.yaml", lite.config("dest", DB2))
    back = "UPDATE archive_metadata SET content_url = replace(content_url, 'db2://', 'db://') WHERE \"archiveId\" = %s"
    name = min(documents)
    control = Control(progress=WhenCleanBegins(lambda: lite.sql(back, name)))
    verbs.apply(verbs.prepare(plan.path), control=control)
    assert lite.sql('SELECT "archiveId" FROM archive_document') == [(name,)]
    assert lite.read(lite.folder / "config.yaml")[name] == documents[name]
    assert lite.sql("SELECT detail FROM reconcile_moves WHERE cleaned = 'kept'") == [
        ("its catalog row refers to it again",)
    ]


def test_a_source_that_a_row_spells_in_another_way_stays_in_whatever_batch_it_is(
    lite: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R3: also after a batch with nothing to keep."""
    monkeypatch.setattr("reconcile.running.phases.clean._BATCH_DOCUMENTS", 2)
    archive = lite.folder / "archive"
    for name in "abcdef":
        lite.add(name, b"hello")
    plan = lite.plan(lite.config("start", DB), lite.config("files", localfs(archive)))
    lite.apply(plan)
    key = path_of(plan, "f").relative_to(archive)
    lite.row("z", b"hello", bucket="other", content_url=f"file://{archive}/./{key}", documentName="z")
    files = lite.folder / "files.yaml"
    lite.plan(files, lite.config("dest", DB2), "q.json", scope=scope_of("policy_bundles"))
    done = here("apply", "q.json", "--leave-blocked", "--yes", cwd=lite.folder)
    assert (done.code, done.all.count('"event": "source kept"')) == (0, 1)
    assert lite.read(files)["z"] == b"hello"
    assert not path_of(plan, "a").exists()
    assert lite.sql("SELECT detail FROM reconcile_moves WHERE cleaned = 'kept'") == [
        ("a catalog row refers to it under another name",)
    ]


def test_sources_of_documents_that_a_later_run_moved_on_stay(lite: World) -> None:
    """R1, R5: until that run is undone or forgotten, they are not this run's to delete."""
    lite.fill(6)
    ends = [lite.config(name, section) for name, section in (("config", DB), ("dest", DB2))]
    files = lite.config("files", localfs(lite.folder / "archive"))
    plan = lite.plan(*ends)
    lite.apply(plan, clean_later=True)
    lite.apply(lite.plan(ends[1], files, "q.json", keep_source=True))
    assert lite.apply(plan).kept == 6
    assert lite.sql("SELECT count(*) FROM archive_document") == [(6,)]
    assert lite.sql("SELECT DISTINCT detail FROM reconcile_moves WHERE cleaned = 'kept'") == [
        ("a later run has to do with it",)
    ]


def test_a_source_that_is_referred_to_since_a_killed_clean_marked_it_stays(lite: World) -> None:
    """R3, R7: what is marked may be deleted or not; whoever goes on looks again."""
    lite.fill(3)
    plan = lite.plan(lite.config("config", DB), lite.config("dest", DB2))
    lite.apply(plan, clean_later=True)
    lite.sql("UPDATE reconcile_moves SET cleaned = 'marked'")
    name, url = lite.sql("SELECT archive_id, before_url FROM reconcile_moves ORDER BY seq")[0]
    content = lite.read(lite.folder / "dest.yaml")[name]
    lite.row("z", content, bucket="other", content_url=url, documentName="z")
    lite.apply(plan)
    assert lite.read(lite.folder / "config.yaml")["z"] == content
    assert lite.sql("SELECT count(*) FROM archive_document") == [(1,)]
