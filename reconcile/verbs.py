"""The verbs as library functions: what the command line calls, and what a program may call.

Each opens the catalog, does one thing, and closes it again. Errors are `reconcile.errors.ReconcileError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve, frozen

from reconcile.catalog import Catalog, DatabaseOptions, connect
from reconcile.config import Config, load_config
from reconcile.planning.desired import DesiredState
from reconcile.planning.model import PlanHeader
from reconcile.planning.planfile import PlanFile, open_plan, undo_path
from reconcile.planning.planner import PlanRequest, make_plan
from reconcile.running import apply as running
from reconcile.running.changes import plan_with_changes
from reconcile.running.control import Control
from reconcile.running.phases import Outcome, RunOptions
from reconcile.running.run import RunRecord, find_runs
from reconcile.running.undo import write_undo_plan


@frozen
class Prepared:
    """A plan and its two configs, checked and ready to be applied."""

    plan: PlanFile
    desired: DesiredState


@contextmanager
def opened(options: DatabaseOptions, config: Config | None = None) -> Iterator[Catalog]:
    """Open the catalog for the block."""
    catalog = connect(options, config)
    try:
        yield catalog
    finally:
        catalog.close()


def plan(
    source: Path,
    dest: Path,
    database: DatabaseOptions | None = None,
    request: PlanRequest | None = None,
    out: Path | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> PlanFile:
    """Diff what the destination config wants against the catalog, and save the plan."""
    source_config, dest_config = load_config(source), load_config(dest, destination=True)
    with opened(database or DatabaseOptions(), source_config) as catalog:
        return make_plan(catalog, source_config, dest_config, request or PlanRequest(), out, progress)


def prepare(path: Path, source: Path | None = None, dest: Path | None = None) -> Prepared:
    """Read a plan's file and the configs it was made with. Opens no connection."""
    plan_file = open_plan(path)
    plan_file.verify()
    return Prepared(plan_file, running.configs_of(plan_file.header, source, dest))


def apply(
    prepared: Prepared,
    database: DatabaseOptions | None = None,
    options: RunOptions | None = None,
    control: Control | None = None,
) -> Outcome:
    """Apply a plan, or an undo plan; go on where an interrupted run of it stopped."""
    with opened(database or DatabaseOptions(), prepared.desired.source) as catalog:
        return running.apply(catalog, prepared.plan, prepared.desired, options or RunOptions(), control or Control())


def undo_plan_of(
    catalog: Catalog, run_id: str, source: Path | None, dest: Path | None, *, with_changes: bool = False
) -> Prepared:
    """Write the undo plan of a run anew from its record, and make it ready.

    ``with_changes`` makes a plan that also takes back what services wrote since, as it is now.
    """
    record = running.run_record(catalog, run_id)
    header = _turned(record.header, run_id)
    desired = running.configs_of(header, source, dest)
    forward = DesiredState(desired.dest, desired.source)
    path = Path(record.undo_path) if record.undo_path else undo_path(Path(record.plan_path))
    if with_changes:
        return Prepared(plan_with_changes(catalog, record, desired, path), desired)
    write_undo_plan(catalog, record, path, forward)
    return Prepared(open_plan(path), desired)


def _turned(header: PlanHeader, run_id: str) -> PlanHeader:
    return evolve(header, source=header.dest, dest=header.source, undo_of=run_id)


def undo(
    catalog: Catalog,
    prepared: Prepared,
    options: RunOptions | None = None,
    control: Control | None = None,
) -> Outcome:
    """Take a run back by its undo plan."""
    return running.apply(catalog, prepared.plan, prepared.desired, options or RunOptions(), control or Control())


def last_run(catalog: Catalog, run_id: str | None = None) -> RunRecord | None:
    """Return a run's record, or the last run's; None where there has been none."""
    if run_id is not None:
        return running.run_record(catalog, run_id)
    found = find_runs(catalog)
    return found[0] if found else None
