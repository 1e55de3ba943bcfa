"""docs/backup.md: what a backup is worth, and an undo rehearsed on a copy, as the page says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.desk import last_run
from tests.cli.runner import reconcile
from tests.guides.guide import Block, blocks_of, first_missing
from tests.servers.postgresql import PostgresServer
from tests.world import DB, World, localfs


@pytest.fixture
def production(folder: Path, database: str) -> World:
    """An archive that was moved from one data dir to another."""
    world = World(folder, database)
    world.fill(8)
    start, source = world.config("start", DB), world.config("config", localfs(folder / "one"))
    world.apply(world.plan(start, source, "in.json"))
    world.config("dest-config", localfs(folder / "two"))
    return world


def rehearsal() -> Block:
    """Return the rehearsal's block, as the page has it."""
    return list(blocks_of("docs/backup.md"))[-1]


def commands(run: str) -> list[list[str]]:
    """Return the commands of the rehearsal."""
    lines = [line.text.split("#")[0].replace("RUN", run).split() for line in rehearsal().lines]
    return [line[1:] for line in lines if line[0] == "reconcile"]


def test_a_backup_from_before_the_clean_is_brought_up_to_date(production: World, postgresql: PostgresServer) -> None:
    """The table: restored, rows lead to sources that are deleted; applying the plan leads them to the copies."""
    world, folder = production, production.folder
    truth = world.read(folder / "config.yaml")
    plan = world.plan(folder / "config.yaml", folder / "dest-config.yaml")
    backup = postgresql.copy_of(world.url.rpartition("/")[2])
    world.apply(plan)
    name = world.url.rpartition("/")[2]
    postgresql.run("postgres", f"DROP DATABASE {name} WITH (FORCE)")
    postgresql.run("postgres", f"ALTER DATABASE {backup.rpartition('/')[2]} RENAME TO {name}")
    applied = reconcile("apply", plan.path, "--yes", cwd=folder)
    if applied.code != 0:  # the plan's database had another oid: a new plan adopts the copies
        assert "another database" in applied.err
        world.plan(folder / "config.yaml", folder / "dest-config.yaml", "again.json")
        applied = reconcile("apply", "again.json", "--yes", cwd=folder)
    assert applied.code == 0, applied.all
    assert world.read(folder / "dest-config.yaml") == truth


@pytest.mark.matrix
def test_an_undo_is_rehearsed_on_a_copy(
    production: World, postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, folder = production, production.folder
    truth = world.read(folder / "config.yaml")
    world.apply(world.plan(folder / "config.yaml", folder / "dest-config.yaml"))
    run, name = last_run(world), world.url.rpartition("/")[2]

    copy = postgresql.copy_of(name)
    refused = reconcile(*commands(run)[0], cwd=folder, RECONCILE_DB_CONNECT=copy)
    assert refused.code == 5, "production's database answers"
    postgresql.run("postgres", f"ALTER DATABASE {name} RENAME TO {name}_away")  # a machine that does not reach it
    for place in ("one", "two"):
        (folder / place).rename(folder / f"{place}.production")
        shutil.copytree(folder / f"{place}.production", folder / place)
    shown = ""
    for arguments in commands(run):
        done = reconcile(*arguments, cwd=folder, RECONCILE_DB_CONNECT=copy)
        assert done.code == 0, done.all
        shown += done.err + done.out
    assert first_missing(rehearsal().output, shown) is None, shown
    assert any((folder / "one").iterdir())

    postgresql.run("postgres", f"ALTER DATABASE {name}_away RENAME TO {name}")
    for place in ("one", "two"):
        shutil.rmtree(folder / place)
        (folder / f"{place}.production").rename(folder / place)
    assert world.read(folder / "dest-config.yaml") == truth
