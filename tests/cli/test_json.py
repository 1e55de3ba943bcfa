"""What plan, show, apply and undo print as JSON, against its schemas. The other verbs' is tested with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.archives import new_sqlite
from tests.cli.desk import data_of, filled, planned, stage_only
from tests.cli.runner import Result, here
from tests.world import DB, DB2, World, localfs, s3


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def run(world: World, *arguments: str) -> Result:
    return here(*arguments, "--format", "json", cwd=world.folder)


def test_plan_and_show(lite: World) -> None:
    lite.row("blocked", b"x", content_url=None, size=None)
    made = data_of(run(lite, "plan", "config.yaml", "dest.yaml", "--out", "p.json"), "summary")
    assert made["summary"]["blocked_by_reason"] == {"no_content_url": 1}
    shown = data_of(run(lite, "show", "p.json", "--moves"), "summary")
    assert (len(shown["blockers"]), len(shown["moves"])) == (1, 6)
    assert {name: shown[name] for name in made} == made


def test_apply_and_undo(lite: World) -> None:
    lite.row("blocked", b"x", content_url=None, size=None)
    planned(lite)
    result = run(lite, "apply", "p.json", "--yes", "--leave-blocked")
    there = data_of(result, "outcome")
    assert (result.code, there["documents"], there["left"]) == (3, 6, 1)
    assert there["undo_plan"] == str(lite.folder / "p.undo.json")
    assert there["services_config"] is None  # a document is at no driver: services could not read it
    again = data_of(run(lite, "apply", "p.json", "--yes", "--leave-blocked"), "outcome")
    assert (again["run_id"], again["already"]) == (there["run_id"], "the plan is applied already")
    back = data_of(run(lite, "undo", "p.undo.json", "--yes"), "outcome")
    assert (back["undo_of"], back["documents"]) == (there["run_id"], 6)


def test_the_config_from_now_on_without_credentials(lite: World) -> None:
    """R8."""
    lite.config("dest", localfs(lite.folder / "archive"), DB2)
    planned(lite)
    data = data_of(run(lite, "apply", "p.json", "--yes"), "outcome")
    assert data["services_config"]["path"].endswith("dest.yaml")
    assert data["services_config"]["analysis_archive"]["storage_driver"]["name"] == "db2"
    assert json.dumps(data).count("archive_data_dir") == 1


def test_nothing_to_move_and_copies_dropped(lite: World) -> None:
    plan = planned(lite)
    run_id = stage_only(lite, plan)
    dropped = data_of(run(lite, "undo", run_id, "--source", "config.yaml", "--dest", "dest.yaml", "--yes"), "outcome")
    assert (dropped["documents"], dropped["services_config"]) == (0, None)
    lite.config("dest", DB)
    planned(lite, "q.json")
    nothing = data_of(run(lite, "apply", "q.json", "--yes"), "outcome")
    assert (nothing["run_id"], nothing["already"]) == (None, "no document has to move")


def test_an_error_prints_no_json(lite: World) -> None:
    result = run(lite, "apply", "none.json", "--yes")
    assert (result.code, result.out) == (1, "")
    assert "error: none.json: no such plan file" in result.err


def test_no_secret_is_in_the_json(lite: World) -> None:
    """R8."""

    class Server:
        url, access_key, secret_key = "http://127.0.0.1:9", "AKIDCANARY0123456789", "secret/canary"

    lite.config("dest", s3(Server, "bucket"))
    texts = [run(lite, "plan", "config.yaml", "dest.yaml", "--out", "p.json").out]
    lite.config("dest", s3(Server, "other"))
    texts.append(run(lite, "plan", "config.yaml", "dest.yaml", "--out", "q.json").out)
    texts.append(run(lite, "diff", "p.json", "q.json").out)
    assert "other" in texts[-1]
    assert not [text for text in texts if "CANARY" in text or "canary" in text]
