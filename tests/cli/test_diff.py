"""What changed since a plan was reviewed: against the catalog of today, and against another plan."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.archives import new_sqlite
from tests.cli.commands import commands_in
from tests.cli.desk import data_of, filled, last_run, planned
from tests.cli.runner import Result, here
from tests.world import DB, DB2, World, localfs


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def diff(world: World, *arguments: str) -> Result:
    return here("diff", *arguments, cwd=world.folder)


def kinds(data: Any) -> dict[str, str]:
    return {change["archiveId"]: change["kind"] for change in data["changes"]}


def test_nothing_changed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(world)
    planned(world)
    monkeypatch.setattr(tempfile, "tempdir", str(world.folder / "temporary"))
    (world.folder / "temporary").mkdir()
    tables = world.tables()
    result = diff(world, "p.json", "--detailed-exitcode")
    assert (result.code, "no document differs" in result.out) == (0, True)
    assert world.tables() == tables
    assert list((world.folder / "temporary").iterdir()) == []  # nothing of the plan that was made is kept


def test_what_services_did_since(world: World) -> None:
    filled(world)
    world.row("blocked", b"x", content_url=None)
    world.row("fixed", b"x", content_url="tape://x")
    planned(world)
    world.add("new", b"new")
    world.sql("DELETE FROM archive_metadata WHERE \"archiveId\" IN ('sha256:0000', 'blocked')")
    world.sql("UPDATE archive_metadata SET digest = 'd', size = 7 WHERE \"archiveId\" = 'sha256:0001'")
    world.sql("UPDATE archive_metadata SET content_url = 'tape://y' WHERE \"archiveId\" = 'sha256:0002'")
    world.sql(
        "UPDATE archive_metadata SET content_url = 'db://admin/policy_bundles/fixed' WHERE \"archiveId\" = 'fixed'"
    )
    result = diff(world, "p.json", "--format", "json", "--detailed-exitcode")
    assert result.code == 2
    data = data_of(result, "diff")
    assert kinds(data) == {
        "new": "added",
        "sha256:0000": "removed",
        "sha256:0001": "changed",
        "sha256:0002": "blocked",
        "blocked": "unblocked",
        "fixed": "unblocked",
    }
    (changed,) = [change for change in data["changes"] if change["kind"] == "changed"]
    assert changed["columns"]["before.size"] == [13, 7]
    assert set(changed["columns"]) == {"before.digest", "before.size"}
    assert data["summary"] == {"added": 1, "removed": 1, "changed": 1, "blocked": 1, "unblocked": 2}
    assert {flow["bucket"] for flow in data["flows"]} == {"policy_bundles", "analysis_data", "analysis_archive"}
    keys = [tuple(change[name] for name in ("userId", "bucket", "archiveId")) for change in data["changes"]]
    assert keys == sorted(keys)

    text = diff(world, "p.json").out
    assert "+ admin/policy_bundles/new: db://admin/policy_bundles/new -> db2://admin/policy_bundles/new" in text
    assert "~ team-a/analysis_data/sha256:0001: " in text
    assert "before.size was 13, is 7" in text
    assert "! admin/analysis_archive/sha256:0002: unknown_scheme: tape://y" in text
    assert "1 added, 1 removed, 1 changed, 1 blocked, 2 unblocked" in text


def test_between_two_plans_no_database_is_needed(lite: World) -> None:
    planned(lite)
    lite.add("new", b"new", user="zoe")
    lite.config("dest", localfs(lite.folder / "archive"))
    planned(lite, "q.json", keep_source=True)
    for path in (lite.folder / "anchore.db", *lite.folder.glob("*.yaml")):
        path.unlink()
    data = data_of(diff(lite, "p.json", "q.json", "--format", "json"), "diff")
    assert data["summary"] == {"added": 1, "removed": 0, "changed": 6, "blocked": 0, "unblocked": 0}
    assert data["circumstances"]["policy.keep_source"] == [False, True]
    assert data["circumstances"]["dest.object_store.driver"] == ["db2", "localfs"]
    back = data_of(diff(lite, "q.json", "p.json", "--format", "json"), "diff")
    assert kinds(back)["new"] == "removed"
    assert diff(lite, "p.json", "p.json", "--detailed-exitcode").code == 0
    assert diff(lite, "p.json", "q.json", "--detailed-exitcode").code == 2
    assert diff(lite, "p.json", "q.json").code == 0
    assert 'dest.object_store.driver: was "db2", is "localfs"' in diff(lite, "p.json", "q.json").out


def test_a_probed_plan_is_probed_again(lite: World) -> None:
    """What a probe finds stands behind the other blockers in the file, and is found all the same."""
    lite.row("zzz", b"x", content_url=None, user="zoe")
    lite.sql("""DELETE FROM archive_document WHERE "archiveId" = 'sha256:0001'""")
    planned(lite, probe="digest")
    assert "no document differs" in diff(lite, "p.json").out
    lite.sql("""DELETE FROM archive_document WHERE "archiveId" = 'sha256:0003'""")
    data = data_of(diff(lite, "p.json", "--format", "json"), "diff")
    assert kinds(data) == {"sha256:0003": "blocked"}
    assert data["changes"][0]["columns"]["reason"] == [None, "source_missing"]


def test_a_limited_plan_is_limited_again(lite: World) -> None:
    planned(lite, limit=2)
    assert "no document differs" in diff(lite, "p.json").out


def test_what_cannot_be_compared_is_refused(lite: World) -> None:
    plan = planned(lite)
    lite.config("dest", localfs(lite.folder / "archive"))
    other = diff(lite, "p.json")
    assert (other.code, "not the dest config that the plan was made with" in other.err) == (78, True)
    lite.config("dest", DB2)
    lite.apply(plan)
    undo = diff(lite, "p.undo.json")
    assert (undo.code, "an undo plan is made from the record" in undo.err) == (64, True)
    assert diff(lite, "p.undo.json", "p.undo.json").code == 0
    assert diff(lite, "none.json").code == 1
    lite.config("config", DB)
    text = (lite.folder / "p.json").read_text()
    (lite.folder / "p.json").write_text(text.replace("sha256:0001", "sha256:0009"))
    assert diff(lite, "p.json").code == 1


@pytest.mark.parametrize("in_place", [False, True])
def test_a_plan_that_was_applied_differs_by_what_its_run_did(lite: World, in_place: bool) -> None:
    """Said in one line, wherever the configs are by now; of an undo plan what it would do can be asked."""
    world = lite
    planned(world)
    assert here("apply", "p.json", "--yes", cwd=world.folder).code == 0
    if in_place:
        shutil.copy(world.folder / "config.yaml", world.folder / "config.old.yaml")
        shutil.copy(world.folder / "dest.yaml", world.folder / "config.yaml")
    result = here("diff", "p.json", cwd=world.folder)
    assert result.code == 64, result.all
    assert f"run {last_run(world)} has applied this plan, and switched at" in result.err
    for plan in ("p.json", "p.undo.json"):
        (command,) = commands_in(here("diff", plan, cwd=world.folder).err)
        done = here(*shlex.split(command)[1:], cwd=world.folder)
        assert done.code == 0, done.all
    assert "nothing was changed" in done.all
