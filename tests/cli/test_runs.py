"""All runs, and one run as it goes, seen from outside."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from reconcile.catalog.lock import run_lock
from reconcile.running.phases import order, undo_plan
from tests.archives import new_sqlite
from tests.cli.desk import data_of, filled, opened, planned, stage_only
from tests.cli.forks import Process, forks
from tests.cli.runner import Result, here
from tests.world import World

PROGRAM = (sys.executable, "-m", "reconcile")


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def run(world: World, *arguments: str) -> Result:
    return here(*arguments, "--source", "config.yaml", cwd=world.folder)


def test_all_runs_and_the_vendors_own(world: World) -> None:
    filled(world)
    assert "no run is recorded" in run(world, "runs").out
    assert data_of(run(world, "runs", "--format", "json"), "runs") == {
        "format_version": "1.0",
        "runs": [],
        "migrations": [],
    }
    started = datetime(2020, 5, 1, 12)  # noqa: DTZ001 - as the vendor writes it
    task = {"id": 1000, "state": "failed", "last_state": "running", "started_at": started, "executor_id": "vendor"}
    world.insert("tasks", task | {"type": "archivemigrationtask"})
    counts = {"archive_documents_to_migrate": 7, "archive_documents_migrated": 3, "online_migration": False}
    world.insert(
        "archive_migration_tasks", {"id": 1000, "migrate_from_driver": "db", "migrate_to_driver": "s3"} | counts
    )
    world.apply(planned(world))
    world.undo()
    found = data_of(run(world, "runs", "--format", "json"), "runs")
    back, there = found["runs"]
    assert (there["state"], there["from"], there["to"], there["documents"]) == ("undone", ["db"], ["db2"], 6)
    assert (back["state"], back["from"], back["to"], back["undo_of"]) == ("done", ["db2"], ["db"], there["run_id"])
    assert [task["by_reconcile"] for task in found["migrations"]].count(True) == 2
    (theirs,) = [task for task in found["migrations"] if not task["by_reconcile"]]
    assert (theirs["begun"], theirs["migrated"], theirs["state"]) == ("2020-05-01T12:00:00+00:00", 3, "failed")
    text = run(world, "runs").out
    assert f"undoes {there['run_id']}" in text
    assert "3 of 7 documents, 2020-05-01 12:00:00 to ?, by vendor" in text


def test_status_is_of_the_undo_that_ended_last_however_the_clock_ticks(
    lite: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lite.apply(planned(lite))
    ticks = itertools.count(int(time.time()))
    for module in (order, undo_plan):
        monkeypatch.setattr(module, "database_now", lambda _: next(ticks))
    lite.undo()
    undo, _undone = data_of(run(lite, "runs", "--format", "json"), "runs")["runs"]
    assert data_of(run(lite, "status", "--format", "json"), "status")["run"]["run_id"] == undo["run_id"]


def test_status_tells_whether_anybody_is_at_work(world: World) -> None:
    filled(world)
    assert data_of(run(world, "status", "--format", "json"), "status") == {"format_version": "1.0", "run": None}
    run_id = stage_only(world, planned(world))
    idle = data_of(run(world, "status", run_id, "--format", "json"), "status")
    assert (idle["at_work"], idle["finished"], idle["done"]["documents"], idle["total"]["documents"]) == (
        False,
        False,
        6,
        6,
    )
    assert "not running: no process holds the lock" in run(world, "status").out
    with opened(world) as catalog, run_lock(catalog, 0):
        busy = data_of(run(world, "status", "--format", "json"), "status")
        assert busy["at_work"]
        assert busy["rate"] is None or busy["rate"]["documents_per_second"] > 0
        assert "running: the lock is held by " in run(world, "status").out
    world.apply("p.json")
    done = data_of(run(world, "status", "--format", "json"), "status")
    assert (done["finished"], done["at_work"], done["sources"]) == (True, False, {"deleted": 6})


def test_a_killed_run_is_not_taken_for_one_at_work(lite: World) -> None:
    """Its lock file still names it."""
    stage_only(lite, planned(lite))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = lite.folder / "anchore.db.reconcile-lock"
    lock.write_text(f"process {dead.pid} on {socket.gethostname()}, since long ago\n")
    assert "not running" in run(lite, "status").out
    lock.write_text("process 1 on another-host, since long ago\n")
    assert "held by process 1 on another-host" in run(lite, "status").out


def watching(world: World, *arguments: str) -> Process:
    """Begin to watch."""
    watch = ("status", "--watch", "--interval", "0.1", "--source", "config.yaml")
    return forks().start("reconcile", [*watch, *arguments], world.folder)


def test_a_watched_run_goes_on_and_the_watch_ends_with_it(world: World) -> None:
    filled(world)
    plan = planned(world)
    stage_only(world, plan)
    process = watching(world)
    line = process.stdout.readline()
    assert "staging: 6 of 6 documents" in line
    assert "no process is working on it" in line
    assert world.apply(plan, lock_wait=0).documents == 6
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "done: 6 of 6 documents" in out
    assert "next: nothing is left to do" in out


def test_a_watch_in_json_is_a_document_a_look(lite: World) -> None:
    stage_only(lite, planned(lite))
    process = watching(lite, "--format", "json")
    first = process.stdout.readline()
    lite.apply("p.json")
    out, _err = process.communicate(timeout=300)
    states = [json.loads(line)["run"]["state"] for line in (first + out).splitlines()]
    assert states[0] == "staging"
    assert states[-1] == "done"
    for line in (first, out.splitlines()[-1]):
        data_of(Result(0, line, ""), "status")


def test_ctrl_c_ends_the_watching_not_the_run(lite: World) -> None:
    plan = planned(lite)
    stage_only(lite, plan)
    tables = lite.tables()
    process = watching(lite)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "stopped watching; the run is not affected" in err
    assert "error" not in err
    assert lite.tables() == tables
    assert lite.apply(plan).documents == 6


def test_a_look_needs_no_lock_and_leaves_the_database_as_it_is(lite: World) -> None:
    lite.apply(planned(lite))
    database = (lite.folder / "anchore.db").read_bytes()
    with opened(lite) as catalog, run_lock(catalog, 0):
        assert run(lite, "status").code == 0
        assert run(lite, "runs").code == 0
    assert (lite.folder / "anchore.db").read_bytes() == database
