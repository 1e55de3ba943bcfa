"""How documents came to where they are: by which run on record, or by which migration of the vendor's."""

from __future__ import annotations

from reconcile.catalog import Catalog
from reconcile.catalog.tasks import migrations
from reconcile.config import Config
from reconcile.running.record.records import find_runs
from reconcile.running.record.states import RunState


def how_they_came(catalog: Catalog, config: Config) -> str | None:
    """Return which run or migration moved documents to where a config says, in words; None if none on record did."""
    fingerprint = config.fingerprint()
    for record in find_runs(catalog):
        if record.state in (RunState.SWITCHED, RunState.DONE) and record.header.dest.fingerprint == fingerprint:
            return f"run {record.run_id}"
    drivers = {backend.driver for backend in config.backends()}
    for task in migrations(catalog):
        if task.state == "complete" and task.to_driver in drivers and not task.is_ours:
            return f"migration {task.id} of anchore-manager"
    return None
