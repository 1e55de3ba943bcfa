"""What is made ready before documents move: the catalog opened, the plan read, the configs compared with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve, frozen

from reconcile.catalog import Catalog, DatabaseOptions, connect
from reconcile.commands import command_line, naming_database
from reconcile.config import Config
from reconcile.errors import ConfigError, ReconcileError, UsageError
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import PlanHeader
from reconcile.planning.planfile import PlanFile, open_plan, open_whole_plan, undo_path
from reconcile.running import apply as applying
from reconcile.running import undo as undoing
from reconcile.running.phases.undo_plan import write_undo_plan
from reconcile.running.record.configs import configs_of
from reconcile.running.record.records import RunRecord, run_record
from reconcile.running.record.states import RunState
from reconcile.running.undo_with_changes import plan_with_changes


@frozen
class Prepared:
    """A plan and its two configs, checked and ready to be applied.

    ``plan`` is None for the undo of a run that never switched: there is nothing to move back, only copies to drop.
    """

    plan: PlanFile | None
    desired: DesiredState
    undo_of: str | None = None

    @property
    def with_database(self) -> Config:
        """The config that names the database."""
        return self.desired.source if self.desired.source.database is not None else self.desired.dest


@contextmanager
def opened(options: DatabaseOptions, config: Config | None = None) -> Iterator[Catalog]:
    """Open the catalog for the block."""
    catalog = connect(options, config)
    try:
        yield catalog
    except ReconcileError as error:
        if config is not None and options.url is None:
            error.hint = naming_database(error.hint, config.path)
        raise
    finally:
        catalog.close()


def prepare(
    path: Path,
    source: Path | None = None,
    dest: Path | None = None,
    expect_digest: str | None = None,
    database: DatabaseOptions | None = None,
) -> Prepared:
    """Read a plan's file and the configs it was made with.

    Opens no connection, unless a config is not where it was: then the database is asked whether the run is switched.

    Args:
        path: The file of the plan.
        source: The services' config. By default the file that the plan was made with.
        dest: The destination config, likewise.
        expect_digest: The digest that the plan must have: ``sha256:`` and 64 hex digits.
        database: How to connect. By default as a config says.

    Returns:
        What `apply` takes.

    Raises:
        PlanFileError: The file is missing, damaged or edited.
        UsageError: The plan has another digest.
        ConfigError: A config is not what the plan was made with.

    Example:
        >>> prepared = reconcile.prepare(folder / "plan.json")
        >>> prepared.desired.dest.object_store.driver
        'db2'
    """
    plan_file = open_whole_plan(path)
    if expect_digest not in (None, plan_file.digest):
        raise UsageError(
            f"{path}: the plan's digest is {plan_file.digest}, but --expect-digest has {expect_digest}; "
            "nothing was done",
            hint=f"{command_line('show', path)}    shows what this plan would do, and its digest",
        )
    header = plan_file.header
    try:
        return Prepared(plan_file, configs_of(header, source, dest), header.undo_of)
    except ConfigError:
        found = Prepared(plan_file, configs_of(header, source, dest, anywhere=True), header.undo_of)
        with opened(database or DatabaseOptions(), found.with_database) as catalog:
            if not applying.is_switched(catalog, header):
                raise
        return found


def to_undo(catalog: Catalog, run_id: str) -> RunRecord:
    """Return the record of a run to undo. Raises `ReconcileError` if there is none, or for an undo."""
    record = run_record(catalog, run_id)
    undoing.refuse_undo_of_undo(record)
    return record


def undo_plan_of(
    catalog: Catalog,
    run_id: str,
    source: Path | None,
    dest: Path | None,
    *,
    with_changes: bool = False,
    out: Path | None = None,
) -> Prepared:
    """Make the undo of a run ready, its plan written anew from the run's record, to ``out`` if that is given.

    ``with_changes`` makes a plan that also includes what services wrote since, as it is now.
    """
    record = run_record(catalog, run_id)
    header = _turned(record.header, run_id)
    try:
        desired = configs_of(header, source, dest, anywhere=record.switched_at is not None)
    except ConfigError:
        if record.switched_at is not None:
            raise
        desired = configs_of(header, dest, source)  # copies are dropped: either order says which
    if record.switched_at is None or record.state == RunState.UNDONE:
        return Prepared(None, desired, run_id)
    path = out or (Path(record.undo_path) if record.undo_path else undo_path(Path(record.plan_path)))
    if path.exists() and open_plan(path).header.undo_of != run_id:
        path = path.with_name(f"{run_id}.undo.json")  # the other is a later run's
    if with_changes:
        return Prepared(plan_with_changes(catalog, record, desired, path), desired, run_id)
    digest = write_undo_plan(catalog, record, path, DesiredState(desired.dest, desired.source))
    return Prepared(open_plan(path, digest), desired, run_id)


def _turned(header: PlanHeader, run_id: str) -> PlanHeader:
    return evolve(header, source=header.dest, dest=header.source, undo_of=run_id)
