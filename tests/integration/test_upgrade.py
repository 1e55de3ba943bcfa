"""R6: a run that version 0.1.0 left in any state is resumed, or taken back, by this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.archives import new_sqlite
from tests.cli.desk import filled, last_run
from tests.cli.runner import reconcile
from tests.world import World

REPOSITORY = Path(__file__).parents[2]
OLD = "e7acdb0"  # the commit that 0.1.0 was
SELDOM = ("loaded", "all staged", "undo plan written", "after the switch", "before the end is recorded")
OF_AN_UNDO = ("loaded", "all staged", "after the switch", "before the end is recorded")


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of 0.1.0, its crash tests among them."""
    there = subprocess.run(["git", "cat-file", "-e", OLD], cwd=REPOSITORY, capture_output=True, check=False)
    if there.returncode:
        pytest.skip("the history of the repository is not here")
    folder = tmp_path_factory.mktemp("version-0.1.0")
    sources = subprocess.run(["git", "archive", OLD], cwd=REPOSITORY, capture_output=True, check=True).stdout
    subprocess.run(["tar", "xf", "-", "-C", folder], input=sources, check=True)
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, folder: Path) -> World:
    return filled(
        World(folder, new_sqlite(folder) if request.param == "sqlite" else request.getfixturevalue("database"))
    )


def by_old(old: Path, world: World, *arguments: str, killed_at: str | None = None) -> int:
    """Run a command by 0.1.0, perhaps killed at a point; return what it exits with."""
    program = ["tests.crash.killer", killed_at] if killed_at else ["reconcile"]
    done = subprocess.run(
        [sys.executable, "-m", *program, *arguments],
        cwd=world.folder,
        env=os.environ | {"PYTHONPATH": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def contents(world: World) -> dict[str, Any]:
    tables = world.tables()
    return {name: tables[name] for name in ("archive_metadata", "archive_document", "object_storage")}


@pytest.mark.parametrize("point", ["marked", *(pytest.param(point, marks=pytest.mark.matrix) for point in SELDOM)])
def test_a_run_that_was_killed_is_finished_and_taken_back(old: Path, world: World, point: str) -> None:
    before, truth = contents(world), world.read(world.folder / "config.yaml")
    assert by_old(old, world, "plan", "config.yaml", "dest.yaml", "--out", "p.json") == 0
    assert by_old(old, world, "apply", "p.json", "--yes", killed_at=point) == -9
    assert "next: " in reconcile("status", "--source", "config.yaml", cwd=world.folder).out
    done = reconcile("apply", "p.json", "--yes", cwd=world.folder)
    assert done.code == 0, done.all
    assert world.read(world.folder / "dest.yaml") == truth
    undone = reconcile(
        "undo", last_run(world), "--yes", "--source", "dest.yaml", "--dest", "config.yaml", cwd=world.folder
    )
    assert undone.code == 0, undone.all
    assert contents(world) == before


@pytest.mark.parametrize("point", ["marked", *(pytest.param(p, marks=pytest.mark.matrix) for p in (None, *OF_AN_UNDO))])
def test_what_was_done_is_taken_back_wherever_its_undo_stopped(old: Path, world: World, point: str | None) -> None:
    before = contents(world)
    assert by_old(old, world, "plan", "config.yaml", "dest.yaml", "--out", "p.json") == 0
    assert by_old(old, world, "apply", "p.json", "--yes") == 0
    if point is not None:
        assert by_old(old, world, "undo", "p.undo.json", "--yes", killed_at=point) == -9
    undone = reconcile("undo", "p.undo.json", "--yes", cwd=world.folder)
    assert undone.code == 0, undone.all
    assert contents(world) == before


@pytest.mark.matrix
@pytest.mark.parametrize("undone", [False, True])
def test_what_0_1_0_finished_can_be_asked_about_cleaned_and_forgotten(old: Path, world: World, undone: bool) -> None:
    assert by_old(old, world, "plan", "config.yaml", "dest.yaml", "--out", "p.json", "--keep-source") == 0
    assert by_old(old, world, "apply", "p.json", "--yes") == 0
    run = last_run(world)
    if undone:
        assert by_old(old, world, "undo", "p.undo.json", "--yes") == 0
    for asked in (("status",), ("runs",), ("report", run)):
        assert reconcile(*asked, "--source", "config.yaml", cwd=world.folder).code == 0
    if not undone:
        cleaned = reconcile("clean", run, "--yes", "--source", "config.yaml", "--dest", "dest.yaml", cwd=world.folder)
        assert cleaned.code == 0, cleaned.all
        assert contents(world)["archive_document"] == []
    assert reconcile("forget", run, "--yes", "--source", "config.yaml", cwd=world.folder).code == 0


def test_records_of_a_later_version_are_left_alone(world: World) -> None:
    """Refused before anything is done, with the version that knows them; they can be looked at."""
    for arguments in (
        ("plan", "config.yaml", "dest.yaml", "--out", "p.json"),
        ("apply", "p.json", "--yes", "--clean-later"),
    ):
        assert reconcile(*arguments, cwd=world.folder).code == 0
    run = last_run(world)
    world.sql("UPDATE reconcile_runs SET layout = 99, tool_version = '9.1.0'")
    tables = world.tables()
    assert reconcile("plan", "dest.yaml", "config.yaml", "--out", "q.json", cwd=world.folder).code == 0
    for arguments in (
        ("apply", "p.json", "--yes"),
        ("apply", "q.json", "--yes"),
        ("undo", run, "--yes", "--source", "dest.yaml", "--dest", "config.yaml"),
        ("clean", run, "--yes", "--source", "config.yaml", "--dest", "dest.yaml"),
        ("forget", run, "--yes", "--source", "config.yaml"),
    ):
        result = reconcile(*arguments, cwd=world.folder)
        assert result.code == 1, result.all
        assert "by reconcile 9.1.0" in result.err
        assert "nothing was done" in result.err
    assert world.tables() == tables
    assert reconcile("status", "--source", "config.yaml", cwd=world.folder).code == 0
