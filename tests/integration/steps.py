"""Steps that tests of runs share: stage alone, stop before the switch, undo by id; and what is where then."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from reconcile import verbs
from reconcile.errors import (
    ServicesRunningError,
)
from reconcile.planning.planfile import PlanFile
from reconcile.running.record.records import find_runs
from reconcile.running.record.result import Outcome
from reconcile.secret import Secret
from tests.archives import new_sqlite
from tests.world import DB, NOW, World, localfs


def stage_only(world: World, plan: Any) -> str:
    """Stage a plan and be refused at the switch; return the run's id."""
    world.sql("INSERT INTO services (hostid, servicename, heartbeat) VALUES ('h', 's', %s)", int(time.time()))
    with pytest.raises(ServicesRunningError):
        world.apply(plan, wait_for_services=0)
    world.sql("DELETE FROM services")
    return runs(world)[0].run_id


def runs(world: World) -> list[Any]:
    with verbs.opened(verbs.DatabaseOptions(url=Secret(world.url))) as catalog:
        return find_runs(catalog)


def undo_run(world: World, run_id: str, **options: Any) -> Outcome:
    with verbs.opened(verbs.DatabaseOptions(url=Secret(world.url))) as catalog:
        return verbs.carry_out(catalog, verbs.undo_plan_of(catalog, run_id, None, None, **options))


def all_readable(world: World, config: Path) -> bool:
    return all(isinstance(content, bytes) for content in world.read(config).values())


def path_of(plan: PlanFile, name: str) -> Path:
    url = next(move.after.content_url for move in plan.moves() if move.archiveId == name)
    return Path(url.removeprefix("file://"))


def in_db2(world: World, name: str, content: bytes | None, **row: Any) -> None:
    key = {"userId": "admin", "bucket": "policy_bundles", "key": name, "version": "", "object_metadata": None}
    world.insert("object_storage", key | {"content": content, "created_at": NOW, "last_updated": NOW})
    if row:
        world.row(name, content or b"", content_url=f"db2://admin/policy_bundles/{name}", **row)


def stopped_before_the_switch(world: World, plan: PlanFile) -> None:
    """Stage, and stop before the switch."""
    from reconcile.running.phases.switch import Switcher

    class Stop(BaseException):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Switcher, "recheck", stop)
        with pytest.raises(Stop):
            world.apply(plan)


def scope_of(bucket: str) -> Any:
    from reconcile.catalog import Scope

    return Scope(buckets=(bucket,))


def in_files(folder: Path) -> World:
    """An archive in a data dir, and the configs to move it to another."""
    world = World(folder, new_sqlite(folder))
    world.fill(6)
    config = world.config("db", DB)
    world.apply(world.plan(config, world.config("old", localfs(folder / "old")), out="first.json"))
    world.config("new", localfs(folder / "new"))
    return world


def paths(world: World) -> dict[str, Path]:
    rows = world.sql("""SELECT "archiveId", content_url FROM archive_metadata""")
    return {name: Path(url.removeprefix("file://")) for name, url in rows}
