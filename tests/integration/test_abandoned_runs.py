"""R3, R5, R6: runs that never switched: what their undo drops, and what stays because others have to do with it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from reconcile import verbs
from reconcile.errors import (
    BackendError,
    ReconcileError,
    ServicesRunningError,
)
from reconcile.running.phases import order
from reconcile.secret import Secret
from reconcile.stores.localfs import FileStore
from reconcile.stores.tables import TableStore
from tests.archives import md5
from tests.integration.steps import (
    all_readable,
    in_db2,
    runs,
    stage_only,
    undo_run,
)
from tests.world import COMPRESSED, DB, DB2, World, localfs


def test_undo_of_an_abandoned_run_spares_copies_that_rows_name_by_a_symlink(lite: World) -> None:
    """R3: by location, not by the text of the URL."""
    lite.fill(6)
    (lite.folder / "real").mkdir()
    (lite.folder / "link").symlink_to(lite.folder / "real")
    start = lite.config("start", DB)
    first = lite.plan(start, lite.config("real", localfs(lite.folder / "real")))
    abandoned = stage_only(lite, first)
    by_link = lite.config("link", localfs(lite.folder / "link"))
    lite.apply(lite.plan(start, by_link, "q.json"))
    undo_run(lite, abandoned)
    assert all_readable(lite, by_link)


def test_a_run_that_switched_while_its_undo_waited_stays_done(lite: World) -> None:
    """R6: to drop the copies was confirmed, for a run that had not switched; it is not marked for another undo."""
    lite.fill(6)
    plan = lite.plan(lite.config("config", DB), lite.config("dest", DB2))
    run_id = stage_only(lite, plan)
    with verbs.opened(verbs.DatabaseOptions(url=Secret(lite.url))) as catalog:
        prepared = verbs.undo_plan_of(catalog, run_id, None, None)
        assert prepared.plan is None
        lite.apply(plan)
        with pytest.raises(ReconcileError, match="has switched since this command began") as raised:
            verbs.carry_out(catalog, prepared)
    assert f"reconcile undo {run_id} " in (raised.value.hint or "")
    assert [run.state for run in runs(lite)] == ["done"]
    assert lite.apply(plan).already == "the plan is applied already"
    assert undo_run(lite, run_id).documents == 6


def test_copies_that_were_taken_over_are_cleaned_by_the_undo_of_who_took_them(lite: World) -> None:
    lite.fill(6)
    source, dest = lite.config("config", DB), lite.config("dest", localfs(lite.folder / "archive"))
    first = stage_only(lite, lite.plan(source, dest))
    tables = lite.tables()
    second = lite.apply(lite.plan(source, dest, "q.json")).run_id
    assert undo_run(lite, second).kept == 0
    undo_run(lite, first)
    assert lite.tables() == tables
    assert not list((lite.folder / "archive").rglob("*.json"))


def test_a_half_dropped_undo_does_not_revive_an_undone_run(lite: World, monkeypatch: Any) -> None:
    lite.fill(3)
    source, dest = lite.config("config", DB), lite.config("dest", DB2)
    plan = lite.plan(source, dest)
    run_id = lite.apply(plan).run_id

    def busy(*_arguments: object) -> None:
        raise ServicesRunningError("services may be running")

    with monkeypatch.context() as patched:
        patched.setattr(order, "wait_for_quiet", busy)
        with pytest.raises(ServicesRunningError):
            lite.undo()
    attempt = runs(lite)[0].run_id
    lite.sql("UPDATE reconcile_runs SET state = 'undoing' WHERE run_id = %s", attempt)
    undo_run(lite, run_id)
    assert undo_run(lite, attempt).already == "the run is undone already"
    assert lite.apply(plan).already is None


def test_copies_that_are_no_longer_ours_are_left_and_said(lite: World) -> None:
    lite.fill(3)
    archive = lite.folder / "archive"
    run_id = stage_only(lite, lite.plan(lite.config("config", DB), lite.config("dest", localfs(archive))))
    next(archive.rglob("*.json")).write_bytes(b"somebody else's")
    outcome = undo_run(lite, run_id)
    assert outcome.left == 1
    assert len(outcome.not_dropped) == 1
    assert len(list(archive.rglob("*.json"))) == 1


def test_what_a_kill_left_beside_a_file_goes_with_the_undo(lite: World, monkeypatch: Any) -> None:
    lite.fill(3)
    archive = lite.folder / "archive"
    plan = lite.plan(lite.config("config", DB), lite.config("dest", localfs(archive)))

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FileStore, "_name", killed)
        patched.setattr(os, "unlink", lambda *_a, **_k: None)
        with pytest.raises(KeyboardInterrupt):
            lite.apply(plan)
    assert list(archive.rglob("*.tmp"))
    undo_run(lite, runs(lite)[0].run_id)
    assert not list(archive.rglob("*.tmp"))


def test_a_copy_of_two_rows_stays_when_one_of_them_goes(small: World) -> None:
    """A refresh deletes nothing that a staged move of its own run needs (R3)."""
    row = small.sql("""SELECT "archiveId", "userId", bucket, digest, size FROM archive_metadata LIMIT 1""")[0]
    small.row(row[0], b"", row[1], row[2], digest=row[3], size=row[4], documentName="old name")
    small.plan(small.folder / "old.yaml", small.folder / "new.yaml", "two.json")
    assert small.apply("two.json", stage_only=True).documents == 13
    small.sql("""DELETE FROM archive_metadata WHERE "documentName" = 'old name'""")
    outcome = small.apply("two.json", stage_only=True, refresh=True)
    assert outcome.documents == 12
    assert len(list((small.folder / "new").rglob("*.json"))) == 12


@pytest.mark.parametrize("packed", [False, True])
def test_a_copy_that_was_not_recorded_is_ours_though_its_source_changed_since(lite: World, *, packed: bool) -> None:
    """R5, R6: the undo of a run that never switched drops it, and a new plan finds the place free."""
    from reconcile.running.phases.stage_part import PartStager

    class Stop(BaseException):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    lite.add("a", b"first" * 1000)
    source = lite.config("s", DB)
    dest = lite.config("d", (COMPRESSED if packed else {}) | localfs(lite.folder / "archive"))
    plan = lite.plan(source, dest)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PartStager, "_record", stop)
        with pytest.raises(Stop):
            lite.apply(plan)
    lite.sql("UPDATE archive_document SET jsondata = 'second'")
    lite.sql("UPDATE archive_metadata SET digest = %s, size = 6, last_updated = 5", md5(b"second"))
    outcome = undo_run(lite, lite.sql("SELECT run_id FROM reconcile_runs")[0][0])
    assert outcome.left == 0
    assert not list((lite.folder / "archive").rglob("*.json"))
    lite.apply(lite.plan(source, dest, "q.json"))
    assert lite.read(dest) == {"a": b"second"}


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
