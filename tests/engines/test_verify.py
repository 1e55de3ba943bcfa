"""R7: an archive audited by workers: what they count is what one process counts, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconcile.errors import ConfigError
from reconcile.verbs import verify
from tests.archives import new_sqlite
from tests.cli.desk import filled
from tests.cli.runner import here
from tests.engines.test_clean import TASKS, processes
from tests.world import DB, World, localfs

ENGINE = ("--engine", "processes:2")


@pytest.fixture
def archive(folder: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """Documents in files, of which a part has few."""
    world = World(folder, database)
    world.fill(40)
    start, config = world.config("start", DB), world.config("config", localfs(folder / "archive"))
    world.config("dest", DB)
    world.apply(world.plan(start, config, "setup.json"))
    monkeypatch.setattr("reconcile.auditing.audit_parts.PART_DOCUMENTS", 6)
    return world


def test_workers_find_what_one_process_finds(archive: World) -> None:
    files = sorted(path for path in (archive.folder / "archive").rglob("*") if path.is_file())
    files[3].unlink()
    files[20].write_bytes(b"damaged")
    verb = ("verify", "config.yaml", "--format", "json", "--orphans")
    alone, by_workers = here(*verb, cwd=archive.folder), here(*verb, *ENGINE, cwd=archive.folder)
    assert (alone.code, by_workers.code) == (5, 5), by_workers.all
    expected, found = json.loads(alone.out), json.loads(by_workers.out)
    for report in (expected, found):
        report["problems"].sort(key=lambda problem: problem["archiveId"])
        del report["verified_at"]
    assert found == expected
    assert len(found["problems"]) == 2
    assert archive.sql("SELECT count(*) FROM reconcile_audit_parts") == [(0,)]


def test_a_sample_is_some_of_the_documents(archive: World) -> None:
    done = here("verify", "config.yaml", "--format", "json", "--sample", "50%", *ENGINE, cwd=archive.folder)
    report = json.loads(done.out)
    assert done.code == 0, done.all
    assert 5 < report["documents"] < 35
    assert report["sample"] == {"percent": 50, "of": 40}


def test_a_worker_that_is_killed_costs_nothing(archive: World) -> None:
    engine = processes(archive, f"{TASKS}:dies_of_its_first_part")
    audited = verify(archive.folder / "config.yaml", engine=engine)
    engine.close()
    assert Path("died").exists()
    assert (audited.documents, audited.ok) == (40, True)


def test_what_only_a_worker_does_not_find_is_no_problem(archive: World) -> None:
    """A worker without the mount: who asked for the audit judges once more."""
    engine = processes(archive, f"{TASKS}:sees_no_file")
    audited = verify(archive.folder / "config.yaml", engine=engine)
    engine.close()
    assert (audited.documents, audited.ok) == (40, True)


def test_a_worker_with_another_config_audits_nothing(archive: World) -> None:
    engine = processes(archive, "reconcile.workers.worker:Worker")
    with pytest.raises(ConfigError, match="are not the one that is audited"):
        verify(archive.config("other", localfs(archive.folder / "elsewhere")), engine=engine)
    engine.close()


@pytest.mark.parametrize("more", [("--bucket", "policy_bundles"), ("--run", "20260101-000000-00000000")])
def test_what_workers_do_not_audit_is_refused(archive: World, more: tuple[str, str]) -> None:
    refused = here("verify", "config.yaml", *more, *ENGINE, cwd=archive.folder)
    assert refused.code == 64, refused.all
    assert "workers audit the whole archive, or a sample" in refused.err


def test_an_engine_that_is_set_for_all_commands_hinders_no_audit_of_a_bucket(archive: World) -> None:
    line = ("verify", "config.yaml", "--bucket", "policy_bundles")
    done = here(*line, cwd=archive.folder, RECONCILE_ENGINE="no:1")
    assert done.code == 0, done.all
    assert here("verify", "config.yaml", cwd=archive.folder, RECONCILE_ENGINE="no:1").code == 64


def test_sqlite_has_no_workers(folder: Path) -> None:
    world = filled(World(folder, new_sqlite(folder)))
    world.config("config", DB)
    refused = here("verify", "config.yaml", *ENGINE, cwd=folder)
    assert refused.code == 64, refused.all
    assert "SQLite" in refused.err
