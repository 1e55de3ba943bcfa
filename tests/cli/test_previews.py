"""``--dry-run``: the same counts as the act, and nothing changed by it."""

from __future__ import annotations

import json
import random
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reconcile.catalog.lock import run_lock
from reconcile.errors import ReconcileError
from tests.archives import dump, new_sqlite
from tests.cli.desk import data_of, filled, last_run, opened, planned, stage_only
from tests.cli.runner import Result, here, on_terminal
from tests.world import DB, DB2, World, localfs


@pytest.fixture
def lite(folder: Path) -> World:
    return World(folder, new_sqlite(folder))


def state(world: World) -> dict[str, Any]:
    """Everything that a command could change: all tables, all files and when they were written."""
    tables = [name for (name,) in world.sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
    files = {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(world.folder.rglob("*"))
        if not path.name.startswith("anchore.db")
    }
    return {name: dump(world.url, name) for name in tables} | files


def previewed(world: World, *arguments: str) -> Result:
    """Run a verb with ``--dry-run`` while another run holds the lock; see that nothing changes."""
    configs = (
        ("--source", "dest.yaml", "--dest", "config.yaml") if arguments[0] == "undo" else ("--source", "config.yaml")
    )
    before = state(world)
    with opened(world) as catalog, run_lock(catalog, 0):
        result = here(*arguments, "--dry-run", *configs, cwd=world.folder)
    assert result.code == 0, result.all
    assert state(world) == before
    return result


def stays(result: Result) -> dict[str, int]:
    return {why: int(number) for number, why in re.findall(r"^  (\d+) stay: (.*)$", result.out, re.MULTILINE)}


def number(result: Result, what: str) -> int:
    found = re.search(rf"run \S+: (\d+) {what}", result.out)
    assert found, result.out
    return int(found[1])


def meddle(world: World, chance: random.Random, in_files: bool) -> None:
    """Do what services and administrators do to sources and rows between a run and its cleaning."""
    urls = [
        row[0]
        for row in world.sql("SELECT before_url FROM reconcile_moves WHERE run_id = %s ORDER BY seq", last_run(world))
    ]
    for url in urls:
        archive_id = f"other-{chance.random()}"
        what = chance.choice(["nothing", "nothing", "nothing", "refer", "change", "remove", "other name"])
        path = Path(url.removeprefix("file://"))
        if what == "refer":
            world.row(archive_id, b"x", content_url=url)
        elif in_files and what == "change":
            path.write_bytes(b"written by a service")
        elif in_files and what == "remove":
            path.unlink()
        elif in_files and what == "other name":
            world.row(archive_id, b"x", content_url=f"file://{path.parent}/./{path.name}")
        elif not in_files and what == "change":
            world.sql('UPDATE archive_document SET jsondata = %s WHERE "archiveId" = %s', "new", url.rpartition("/")[2])
        elif not in_files and what == "remove":
            world.sql('DELETE FROM archive_document WHERE "archiveId" = %s', url.rpartition("/")[2])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.matrix) for seed in range(1, 40))])
def test_a_clean_does_what_its_preview_says(lite: World, seed: int) -> None:
    chance = random.Random(seed)
    in_files = seed % 2 == 0
    lite.fill(12)
    lite.config("config", DB)
    if in_files:
        old = lite.config("old", localfs(lite.folder / "old"))
        lite.apply(lite.plan(lite.folder / "config.yaml", old, "first.json"))
        lite.config("config", localfs(lite.folder / "old"))
    lite.config("dest", DB2)
    limit = chance.choice([None, 8])
    lite.apply(planned(lite, keep_source=True, limit=limit))
    run_id = last_run(lite)
    meddle(lite, chance, in_files)
    if limit is None and chance.random() < 0.5:
        lite.plan(lite.folder / "dest.yaml", lite.folder / "config.yaml", "back.json")
        with suppress(ReconcileError):  # what is in the way stops it, staged
            lite.apply("back.json", leave_blocked=True, leave_failed=chance.random() < 0.5)
    preview = previewed(lite, "clean", run_id)
    act = here("clean", run_id, "--source", "config.yaml", "--yes", cwd=lite.folder)
    assert act.code == 0, act.all
    if "nothing to do" in act.out:
        assert preview.out == act.out
        return
    assert number(preview, "sources? would be deleted") == number(act, "sources? deleted"), preview.out + act.out
    assert stays(preview) == stays(act)


def test_the_undo_of_a_switched_run(lite: World) -> None:
    filled(lite)
    lite.apply(planned(lite))
    run_id = last_run(lite)
    preview = previewed(lite, "undo", run_id)
    assert "to move   6 documents" in preview.out
    asked = previewed(lite, "undo", "p.undo.json", "--format", "json")
    assert data_of(asked, "preview")["documents"] == number(preview, "documents would be moved back") == 6
    assert lite.undo().documents == 6
    assert "nothing to do: the run is undone already" in previewed(lite, "undo", run_id).out


def test_the_undo_of_a_run_that_never_switched(lite: World) -> None:
    filled(lite)
    lite.config("dest", localfs(lite.folder / "archive"))
    run_id = stage_only(lite, planned(lite))
    assert f"run {run_id} never switched: 6 copies would be deleted" in previewed(lite, "undo", run_id).out
    assert len(list((lite.folder / "archive").rglob("*.json"))) == 6
    assert here("undo", run_id, "--yes", "--source", "config.yaml", cwd=lite.folder).code == 0
    assert not list((lite.folder / "archive").rglob("*.json"))


def test_an_undo_that_would_be_refused_says_so(lite: World) -> None:
    filled(lite)
    lite.apply(planned(lite))
    lite.sql("""UPDATE archive_metadata SET last_updated = 9 WHERE "archiveId" = 'sha256:0001'""")
    run_id = last_run(lite)
    assert (
        "1 row is no longer as the run left them: an undo refuses this (exit 4)" in previewed(lite, "undo", run_id).out
    )
    act = here("undo", run_id, "--source", "dest.yaml", "--dest", "config.yaml", "--yes", cwd=lite.folder)
    assert act.code == 4
    preview = previewed(lite, "undo", run_id, "--with-changes", "--format", "json")
    assert json.loads(preview.out)["documents"] == 6


def test_forgetting(lite: World) -> None:
    filled(lite)
    lite.apply(planned(lite, keep_source=True))
    run_id = last_run(lite)
    preview = previewed(lite, "forget", run_id)
    act = here("forget", run_id, "--source", "config.yaml", "--yes", cwd=lite.folder)
    assert act.code == 0, act.all
    assert f"run {run_id} (done)" in preview.out
    said = [line for line in act.out.splitlines() if line.startswith("  ")]
    *foreseen, before = [line for line in preview.out.splitlines() if line.startswith("  ")]
    assert foreseen == said
    assert before.strip().startswith(f"reconcile clean {run_id} ")
    assert "6 sources or copies" in preview.out


def test_what_the_act_refuses_the_preview_refuses(lite: World) -> None:
    filled(lite)
    lite.apply(planned(lite))
    lite.undo()
    undo = last_run(lite)
    for verb in ("clean", "undo"):
        results = [here(verb, undo, way, "--source", "config.yaml", cwd=lite.folder) for way in ("--dry-run", "--yes")]
        assert results[0].code == results[1].code == 1, results
        assert results[0].err == results[1].err


def test_a_preview_of_a_clean_says_that_it_is_at_work(lite: World) -> None:
    """It looks at every source and copy, which takes a while."""
    filled(lite)
    lite.apply(planned(lite, keep_source=True))
    shown = on_terminal("clean", last_run(lite), "--dry-run", "--source", "config.yaml", cwd=lite.folder)
    assert "checking what would be deleted" in shown.err
    assert "6 sources would be deleted" in shown.out
