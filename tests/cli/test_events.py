"""``--events``: JSON lines for programs, valid to the last one whatever becomes of the command."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reconcile.config.validation import load_schema
from reconcile.events import NAMES, EventStream
from reconcile.logs import is_fed
from tests.archives import new_sqlite
from tests.cli.desk import filled, planned
from tests.cli.runner import here, killed, reconcile
from tests.world import World, localfs

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def checked(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream; each must be as the schema says."""
    validator = jsonschema.Draft202012Validator(load_schema("event.schema.json"))
    events = [json.loads(line) for line in text.splitlines()]
    assert [error.message for event in events for error in validator.iter_errors(event)] == []
    return events


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def test_every_verb_writes_what_happens(lite: World) -> None:
    """Whatever the log's level is: a file, appended to, with each command from ``begun`` to ``ended``."""
    file = lite.folder / "e.jsonl"
    plan = ("plan", "config.yaml", "dest.yaml", "--out", "p.json", "--probe", "exists")
    verify = ("verify", "dest.yaml")
    for arguments in (plan, ("apply", "p.json", "--yes"), verify, ("undo", "p.undo.json", "--yes")):
        result = reconcile("--quiet", *arguments, "--events", "e.jsonl", cwd=lite.folder)
        assert (result.code, result.err) == (0, "")
    events = checked(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    begun = [event["verb"] for event in events if event["event"] == "begun"]
    assert begun == ["plan", "apply", "verify", "undo"]
    assert [event["exit_code"] for event in events if event["event"] == "ended"] == [0, 0, 0, 0]
    first = names(events).index("ended")
    apply = events[first + 1 : names(events).index("ended", first + 1)]
    told = ["begun", "phase", "staged", "phase", "switched", "phase", "cleaned", "run_finished"]
    assert names(apply) == told
    assert [event["phase"] for event in apply if event["event"] == "phase"] == ["stage", "recheck", "clean"]
    assert (apply[2]["documents"], apply[4]["documents"], apply[6]["deleted"]) == (6, 6, 6)
    assert len({event["run"] for event in apply[1:]}) == 1


def test_the_log_says_of_each_batch_what_came_of_it(lite: World) -> None:
    planned(lite)
    done = reconcile("--log-format", "json", "apply", "p.json", "--yes", cwd=lite.folder)
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    for name, part in (("batch staged", "documents"), ("batch cleaned", "documents"), ("batch cleaned", "deleted")):
        assert sum(line[part] for line in lines if line["event"] == name) == 6


def test_standard_output_has_the_events_alone(lite: World) -> None:
    planned(lite)
    result = reconcile("apply", "p.json", "--yes", "--events", "-", cwd=lite.folder)
    assert names(checked(result.out))[-1] == "ended"
    assert "6 documents moved" in result.err


def test_a_document_that_fails_and_an_error(lite: World) -> None:
    """The reason, and the exit code with what people are told."""
    planned(lite)
    lite.sql("UPDATE archive_document SET jsondata = 'other' WHERE \"archiveId\" = 'sha256:0001'")
    result = here("apply", "p.json", "--yes", "--events", "e.jsonl", cwd=lite.folder)
    assert result.code == 1
    events = checked((lite.folder / "e.jsonl").read_text())
    failed = [event for event in events if event["event"] == "document_failed"]
    assert [(event["archiveId"], bool(event["reason"])) for event in failed] == [("sha256:0001", True)]
    assert events[-1]["exit_code"] == 1
    assert "could not be staged" in events[-1]["message"]
    assert events[-1]["next"]


def test_a_command_that_is_refused_has_two_lines(lite: World) -> None:
    result = here("apply", "none.json", "--yes", "--events", "e.jsonl", cwd=lite.folder)
    events = checked((lite.folder / "e.jsonl").read_text())
    assert names(events) == ["begun", "ended"]
    assert events[-1]["exit_code"] == result.code != 0
    assert "no such plan file" in events[-1]["message"]


@pytest.mark.parametrize("point", ["recorded", "after the switch", "marked"])
def test_what_a_kill_leaves_is_valid_and_is_gone_on_with(lite: World, point: str) -> None:
    planned(lite)
    killed(point, "apply", "p.json", "--yes", "--events", "e.jsonl", cwd=lite.folder)
    text = (lite.folder / "e.jsonl").read_text()
    assert text.endswith("\n")
    before = names(checked(text))
    assert "ended" not in before
    assert ("switched" in before) == (point != "recorded")
    assert here("apply", "p.json", "--yes", "--events", "e.jsonl", cwd=lite.folder).code == 0
    after = names(checked((lite.folder / "e.jsonl").read_text()))
    assert after[: len(before)] == before
    assert after[len(before)] == "begun"
    assert after[-2:] == ["run_finished", "ended"]


def test_a_disk_that_is_full_stops_no_run_and_a_file_that_cannot_be_opened_begins_none(lite: World) -> None:
    planned(lite)
    refused = here("apply", "p.json", "--yes", "--events", "no/such/folder/e.jsonl", cwd=lite.folder)
    assert refused.code == 64
    assert "no/such/folder/e.jsonl: No such file or directory" in refused.err
    assert here("runs", "--source", "config.yaml", cwd=lite.folder).out.startswith("no run")
    assert here("apply", "p.json", "--yes", "--events", "/dev/full", cwd=lite.folder).code == 0


def test_a_stream_that_ended_writes_into_no_other_file(folder: Path) -> None:
    """Its number is free for another file from then on, the database's for one."""
    stream = EventStream(folder / "e.jsonl")
    stream.end(0, None, None)
    with (folder / "other").open("wb") as other:
        stream.take({"event": "switched", "level": "info"})
        assert os.fstat(other.fileno()).st_size == 0
    here("verify", "none.yaml", "--events", "e.jsonl", cwd=folder)
    assert not is_fed()


def test_progress_comes_every_ten_seconds(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconcile.cli.progress._EVENT_SECONDS", 0.01)
    planned(lite)
    here("apply", "p.json", "--yes", "--max-rate", "10", "--events", "e.jsonl", cwd=lite.folder)
    events = checked((lite.folder / "e.jsonl").read_text())
    progress = [event for event in events if event["event"] == "progress"]
    assert progress
    assert {event["of_documents"] for event in progress} == {6}


def test_no_secret_is_in_an_event(lite: World) -> None:
    """R8."""
    lite.config("bad", localfs(lite.folder / "a"))
    url = "postgresql://u:canary-of-events@127.0.0.1:9/d?password=canary-of-events"
    environment = {"RECONCILE_DB_RETRIES": "1", "RECONCILE_DB_CONNECT_TIMEOUT": "2"}
    arguments = ("plan", "config.yaml", "dest.yaml", "--db-connect", url, "--events", "e.jsonl")
    assert here(*arguments, cwd=lite.folder, **environment).code != 0
    text = (lite.folder / "e.jsonl").read_text()
    assert "canary" not in text
    assert checked(text)[-1]["message"]


def test_what_is_written_is_documented() -> None:
    text = (REPOSITORY / "docs" / "events.md").read_text()
    schema = load_schema("event.schema.json")
    assert re.findall(r"(?m)^\| `(\w+)` \|", text) == schema["properties"]["event"]["enum"]
    assert set(NAMES.values()) <= set(schema["properties"]["event"]["enum"])
    assert all(f"`{name}`" in text for name in NAMES)
