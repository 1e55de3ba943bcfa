"""A plan or config that is replaced between prompt and answer: what was shown is done, or nothing is (R4)."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconcile.cli import apply as apply_command
from reconcile.cli import undo as undo_command
from reconcile.errors import PlanFileError
from reconcile.planning.planfile import open_plan, open_whole_plan
from tests.archives import new_sqlite
from tests.cli.desk import filled, last_run, planned
from tests.cli.runner import here, reconcile
from tests.world import World, localfs


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


def answering(monkeypatch: pytest.MonkeyPatch, module: Any, act: Callable[[], object]) -> None:
    """Have the prompt answered with yes, once something was done."""
    monkeypatch.setattr(module, "confirm", lambda _question, *, yes: None if yes else act())


def test_another_plan_in_the_files_place_is_not_applied(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(lite, "one.json", limit=1)
    planned(lite, "all.json")
    before = lite.tables()
    answering(monkeypatch, apply_command, lambda: Path("all.json").replace("one.json"))
    result = here("apply", "one.json", cwd=lite.folder)
    assert result.code == 1, result.all
    assert "was replaced by another plan" in result.err
    assert lite.tables() == before
    assert here("apply", "one.json", "--yes", cwd=lite.folder).code == 0, "the same command shows and does the new one"


def test_a_plan_that_is_written_over_while_it_is_loaded_is_not_applied(lite: World) -> None:
    """As late as between the check of its digest and the reading of its moves."""
    planned(lite, "one.json", limit=1)
    planned(lite, "all.json")
    plan = open_whole_plan(lite.folder / "one.json")
    moves = plan.moves()
    next(moves)
    (lite.folder / "one.json").write_bytes((lite.folder / "all.json").read_bytes())
    assert len(list(moves)) == 0, "held in the buffer"
    for read in (plan.moves, plan.blockers, plan.verify):
        with pytest.raises(PlanFileError, match="replaced"):
            list(read())


def test_another_undo_plan_in_the_files_place_is_not_applied(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lite.apply(planned(lite, "one.json", limit=1))
    lite.apply(planned(lite, "rest.json"))
    before = lite.tables()
    answering(monkeypatch, undo_command, lambda: Path("one.undo.json").replace("rest.undo.json"))
    result = here("undo", "rest.undo.json", cwd=lite.folder)
    assert result.code == 1, result.all
    assert "was replaced by another plan" in result.err
    assert lite.tables() == before


def test_a_config_that_is_replaced_counts_as_it_was_shown(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lite.config("dest", localfs(lite.folder / "shown"))
    planned(lite)
    answering(monkeypatch, apply_command, lambda: lite.config("dest", localfs(lite.folder / "other")))
    assert here("apply", "p.json", cwd=lite.folder).code == 0
    assert all(url.startswith(f"file://{lite.folder}/shown/") for url in lite.urls())
    assert not (lite.folder / "other").exists()


def test_a_plan_of_the_same_id_and_other_content_resumes_no_run(lite: World) -> None:
    plan = planned(lite, "one.json", limit=1)
    lite.apply(plan, stage_only=True)
    text = (
        plan.path.read_bytes()
        .replace(b'"limited": true', b'"limited":false')
        .replace(b'"limited":true', b'"limited":false')
    )
    body = text[: text.rindex(b'"digest"')]
    digest = hashlib.sha256(body).hexdigest()
    plan.path.write_bytes(body + f'"digest": "sha256:{digest}"\n}}\n'.encode())
    with pytest.raises(PlanFileError, match=f"the plan of run {last_run(lite)}, but other content"):
        lite.apply("one.json")


def test_only_the_plan_of_the_expected_digest_is_applied(lite: World) -> None:
    planned(lite, "one.json", limit=1)
    planned(lite, "all.json")
    shown = json.loads(here("show", "one.json", "--format", "json", cwd=lite.folder).out)["digest"]
    assert f"digest {shown}" in here("show", "one.json", cwd=lite.folder).out
    between = json.loads(here("diff", "one.json", "all.json", "--format", "json", cwd=lite.folder).out)
    assert between["before"]["digest"] == shown != between["after"]["digest"]
    before = lite.tables()
    for arguments in (("all.json", "--expect-digest", shown), ("one.json", "--expect-digest", shown[:-1])):
        result = here("apply", *arguments, "--yes", cwd=lite.folder)
        assert result.code == 64, result.all
        assert "digest" in result.err
        assert lite.tables() == before
        assert lite.sql("SELECT name FROM sqlite_master WHERE name LIKE 'reconcile%'") == []
    assert here("apply", "one.json", "--expect-digest", shown, "--yes", cwd=lite.folder).code == 0


def test_plan_prints_the_digest_that_the_file_has(lite: World) -> None:
    result = here("plan", "config.yaml", "dest.yaml", "--out", "p.json", "--format", "json", cwd=lite.folder)
    assert f'"digest": "{json.loads(result.out)["digest"]}"' in (lite.folder / "p.json").read_text()


def test_a_line_that_no_plan_has_takes_no_memory(lite: World) -> None:
    """400 MB in half a megabyte of gzip."""
    text = planned(lite).path.read_bytes()
    with gzip.open(lite.folder / "bomb.json.gz", "wb", compresslevel=1) as file:
        file.write(text[: text.index(b'"moves": [\n') + len(b'"moves": [\n')])
        for _piece in range(400):
            file.write(b" " * (1 << 20))
    limited = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20));"
        "runpy.run_module('reconcile', run_name='__main__')"
    )
    command = [sys.executable, "-c", limited, "apply", "bomb.json.gz", "--yes"]
    done = subprocess.run(command, cwd=lite.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 78, done.stderr
    assert "longer than 4 MiB: this is not a plan" in done.stderr
    assert "next: make a new plan" in done.stderr


def test_a_header_without_end_takes_no_memory(lite: World) -> None:
    with gzip.open(lite.folder / "bomb.json.gz", "wb") as file:
        file.write(b"{\n")
        for _piece in range(100):
            file.write((b'"x": 1,\n') * (1 << 17))
    with pytest.raises(PlanFileError, match="the plan is incomplete"):
        open_plan(lite.folder / "bomb.json.gz")


def test_a_row_too_long_for_a_plan_is_named(lite: World) -> None:
    lite.row("x" * (5 << 20), b"x")
    result = reconcile("plan", "config.yaml", "dest.yaml", "--out", "p.json", cwd=lite.folder)
    assert result.code == 1, result.all[:2000]
    assert "are too long for a plan" in result.err
    assert len(result.err) < 2000
