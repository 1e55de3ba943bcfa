"""``reconcile report``: what a run did, in every form, whatever became of it."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest

from reconcile import verbs
from reconcile.config.validation import load_schema
from reconcile.errors import StageFailedError
from reconcile.rendering.output import FORMS, rendered_report
from reconcile.running.record import executor
from reconcile.secret import Secret
from tests.archives import new_sqlite
from tests.cli.runner import reconcile
from tests.world import DB, DB2, World, localfs


@pytest.fixture
def small(folder: Path) -> World:
    world = World(folder, new_sqlite(folder))
    world.fill(12)
    world.config("config", DB)
    world.config("dest", DB2)
    return world


def shown(world: World, form: str, run_id: str | None = None) -> str:
    """Return the report in a form, without the time that a process of its own takes."""
    return "".join(rendered_report(verbs.report(run_id=run_id, source=world.folder / "config.yaml"), form))


def report(world: World, run_id: str | None = None) -> dict[str, Any]:
    """Return the report as JSON, checked against its schema."""
    document: dict[str, Any] = json.loads(shown(world, "json", run_id))
    assert list(jsonschema.Draft202012Validator(load_schema("report.schema.json")).iter_errors(document)) == []
    return document


def plan_of(world: World) -> Any:
    return world.plan(world.folder / "config.yaml", world.folder / "dest.yaml")


def heartbeat(world: World, age: int) -> int:
    at = int(time.time()) - age
    row = {"hostid": "host-1", "servicename": "catalog", "base_url": "http://x", "status": True, "heartbeat": at}
    world.insert("services", row)
    return at


def test_a_run_that_went_well(world: World) -> None:
    """On both databases: counts, sources, downtime, the way back, the record's digests."""
    world.fill(30)
    world.config("config", DB)
    world.config("dest", localfs(world.folder / "archive"), DB2)
    last = heartbeat(world, 200)
    outcome = world.apply(plan_of(world))
    document = report(world)
    assert document["state"] == "done"
    assert document["run_id"] == outcome.run_id
    assert document["executor"].startswith(f"{getpass.getuser()}@")
    assert {row["bucket"]: row["documents"] for row in document["moved"]} == {
        "analysis_archive": 10,
        "analysis_data": 10,
        "policy_bundles": 10,
    }
    moved = sum(row["bytes_before"] for row in document["moved"])
    assert moved == json.loads((world.folder / "p.json").read_text())["summary"]["moves"]["bytes"]
    assert document["sources"] == [{"fate": "deleted", "reason": None, "documents": 30, "bytes": moved}]
    assert document["left"] == []
    assert document["downtime"]["last_heartbeat"] == last
    assert document["downtime"]["seconds"] == document["phases"][1]["ended_at"] - last
    assert [phase["name"] for phase in document["phases"]] == ["stage", "switch", "clean"]
    assert all(phase["seconds"] >= 0 for phase in document["phases"])
    undo = json.loads((world.folder / "p.undo.json").read_text())
    assert document["undo"]["plan_digest"] == undo["digest"]
    assert document["undo"]["command"].startswith(f"reconcile undo {outcome.run_id} --source")
    assert len(document["space"]) == 1
    for form in FORMS:
        text = shown(world, form, outcome.run_id)
        for wanted in (outcome.run_id, "analysis_archive", undo["digest"], "host-1"):
            assert wanted in text, (form, wanted)


def test_what_was_left_and_kept_is_named_with_its_reason(small: World) -> None:
    """R7."""
    small.row("tape", b"x", content_url="tape://x")
    small.sql("""UPDATE archive_document SET jsondata = 'x' WHERE "archiveId" = 'sha256:0004'""")
    small.add("null", b"")
    small.sql("""UPDATE archive_document SET jsondata = NULL WHERE "archiveId" = 'null'""")
    plan = plan_of(small)
    with pytest.raises(StageFailedError):
        small.apply(plan, leave_blocked=True)
    unfinished = report(small)
    assert (unfinished["state"], unfinished["downtime"]["explanation"]) == ("staging", "nothing was switched")
    assert unfinished["sources"] == []
    assert [phase["ended_at"] for phase in unfinished["phases"]] == [None, None, None]
    assert "unfinished: 12 documents" in shown(small, "text")

    small.apply(plan, leave_blocked=True, leave_failed=True)
    document = report(small)
    left = {(row["state"], row["reason"]): row["documents"] for row in document["left"]}
    assert left == {("blocked", "unknown_scheme"): 1, ("failed", "wrong_digest"): 1}
    assert {row["document"].rpartition("/")[2] for row in document["left_named"]} == {"tape", "sha256:0004"}
    kept = [row for row in document["sources"] if row["fate"] == "kept"]
    assert [(row["documents"], "byte for byte" in row["reason"]) for row in kept] == [(1, True)]
    assert "wrong_digest" in shown(small, "markdown")


def test_a_run_that_keeps_its_sources(small: World) -> None:
    small.apply(plan_of(small), keep_source=True)
    sources = report(small)["sources"]
    assert [(row["fate"], row["reason"]) for row in sources] == [("kept", "the run keeps all sources")]


def test_undone_runs_and_undos_say_so(small: World) -> None:
    first = small.apply(plan_of(small)).run_id
    undo = small.undo().run_id
    document = report(small, first)
    assert (document["state"], document["undone_by"], document["undo"]) == ("undone", [undo], None)
    assert document["phases"][2]["ended_at"] is None  # the record's end is the undo's by now
    assert "undone: 12 documents" in shown(small, "text", first)
    document = report(small, undo)
    assert (document["undo_of"], document["undo"]) == (first, None)
    assert shown(small, "text", undo).startswith("Undo report: 12 documents")


def test_a_run_undone_before_its_switch(small: World) -> None:
    small.sql("""UPDATE archive_document SET jsondata = 'x' WHERE "archiveId" = 'sha256:0004'""")
    with pytest.raises(StageFailedError):
        small.apply(plan_of(small))
    run = report(small)["run_id"]
    database = verbs.DatabaseOptions(url=Secret(small.url))
    with verbs.opened(database) as catalog:
        prepared = verbs.undo_plan_of(catalog, run, small.folder / "dest.yaml", small.folder / "config.yaml")
        verbs.carry_out(catalog, prepared)
    assert report(small)["state"] == "undone"
    assert "undone before the switch" in shown(small, "text")


def test_downtime_is_not_made_up(small: World) -> None:
    small.apply(plan_of(small))
    assert "no service has a heartbeat" in report(small)["downtime"]["explanation"]
    last = heartbeat(small, 3)
    small.undo(ignore_services=True)
    assert report(small)["downtime"]["last_heartbeat"] == last


def test_space_in_postgresql(folder: Path, database: str) -> None:
    """What leaving driver db frees is told as it is: near all of 8 MiB that does not compress, none before."""
    world = World(folder, database)
    for number in range(8):
        world.add(f"big-{number}", Random(number).randbytes(1 << 20))
    world.config("config", DB)
    world.config("dest", localfs(folder / "archive"))
    plan = plan_of(world)
    world.apply(plan, keep_source=True)
    (before,) = report(world)["space"]
    assert before["table"] == "archive_document"
    assert before["reclaimable_bytes"] < before["table_bytes"] / 5
    world.sql("DELETE FROM archive_document")
    (after,) = report(world)["space"]
    assert after["live_bytes"] == 0
    assert after["reclaimable_bytes"] > 8 << 20
    commands = [command["command"] for command in after["commands"]]
    name = database.rpartition("/")[2]
    assert commands == [
        f"psql -d {name} -c 'VACUUM (ANALYZE) archive_document'",
        f"psql -d {name} -c 'VACUUM FULL archive_document'",
        f"pg_repack --dbname={name} --table=archive_document",
    ]
    assert "VACUUM FULL" in shown(world, "markdown")


def test_the_command_line(small: World) -> None:
    """Exit codes, streams, and what is said where there is nothing to report."""
    result = reconcile("report", "--source", "config.yaml", cwd=small.folder)
    assert result.code == 1
    assert "no run is recorded" in result.err
    run = small.apply(plan_of(small)).run_id
    result = reconcile(
        "report", run, "--source", "config.yaml", "--format", "html", "--out", "r.html", cwd=small.folder
    )
    assert (result.code, result.out) == (0, "")
    assert (small.folder / "r.html").read_text().endswith("</html>\n")
    assert reconcile("report", "--source", "config.yaml", cwd=small.folder).out.startswith("Report: 12 documents")
    result = reconcile("report", "no-such-run", "--source", "config.yaml", cwd=small.folder)
    assert result.code == 1
    assert "this database has no run no-such-run" in result.err


def test_who_executes_is_the_systems_user_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert not executor.executor_name().startswith("somebody-else")
    monkeypatch.setattr(executor.os, "geteuid", lambda: 4_000_000)
    assert executor.executor_name().startswith("4000000@")
