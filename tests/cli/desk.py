"""What the tests of the operator's verbs share: a small archive, a run that stopped before its switch, JSON."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from typing import Any

import jsonschema
import pytest

from reconcile import verbs
from reconcile.catalog import Catalog
from reconcile.config.validation import load_schema
from reconcile.errors import ServicesRunningError
from reconcile.planning.planfile import PlanFile
from reconcile.secret import Secret
from tests.cli.runner import Result
from tests.world import DB, DB2, World


def filled(world: World) -> World:
    """Fill an archive, with config.yaml (db) and dest.yaml (db2)."""
    world.fill(6)
    world.config("config", DB)
    world.config("dest", DB2)
    return world


def planned(world: World, out: str = "p.json", **request: Any) -> PlanFile:
    """Plan from config.yaml to dest.yaml."""
    return world.plan(world.folder / "config.yaml", world.folder / "dest.yaml", out, **request)


def opened(world: World) -> AbstractContextManager[Catalog]:
    """Open the archive's catalog."""
    return verbs.opened(verbs.DatabaseOptions(url=Secret(world.url)))


def last_run(world: World) -> str:
    """Return the id of the last run."""
    with opened(world) as catalog:
        record = verbs.last_run(catalog)
    assert record is not None
    return record.run_id


def stage_only(world: World, plan: PlanFile) -> str:
    """Stage a plan and be refused at the switch; return the run's id."""
    beat = {"hostid": "h", "servicename": "s", "base_url": "u", "status": True, "heartbeat": int(time.time())}
    world.insert("services", beat)
    with pytest.raises(ServicesRunningError):
        world.apply(plan, wait_for_services=0)
    world.sql("DELETE FROM services")
    return last_run(world)


def data_of(result: Result, schema: str) -> Any:
    """Return the JSON that was printed; it must be as ``schemas/NAME.schema.json`` says, and of a version."""
    assert result.code in (0, 2, 3), result.all
    document = json.loads(result.out)
    validator = jsonschema.Draft202012Validator(load_schema(f"{schema}.schema.json"))
    assert [error.message for error in validator.iter_errors(document)] == []
    assert document["format_version"] == "1.0"
    return document
