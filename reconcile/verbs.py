"""The verbs as library functions: what the command line calls, and what a program may call.

Each opens the catalog, does one thing, and closes it again. Errors are `reconcile.errors.ReconcileError`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from reconcile.catalog import Catalog, DatabaseOptions, Scope, connect
from reconcile.catalog.tasks import Migration, migrations
from reconcile.commands import command_line, naming_database, undo_run
from reconcile.config import Config, load_config
from reconcile.control import Control
from reconcile.errors import ConfigError, ReconcileError, UsageError
from reconcile.formatting import time_text
from reconcile.planning.desired import DesiredState
from reconcile.planning.model import PlanHeader
from reconcile.planning.planfile import PlanFile, open_plan, open_whole_plan, undo_path
from reconcile.planning.planner import PlanRequest, make_plan
from reconcile.planning.planner import plan as plan  # a verb too; where it is, it needs nothing that runs need
from reconcile.running import apply as applying
from reconcile.running import undo as undoing
from reconcile.running.phases.options import RunOptions
from reconcile.running.phases.undo_plan import write_undo_plan
from reconcile.running.preview import UndoPreview, preview_undo
from reconcile.running.record.configs import configs_of, path_now
from reconcile.running.record.records import RunRecord, find_runs, latest_run_of, run_record
from reconcile.running.record.report import Report
from reconcile.running.record.reporting import report_of
from reconcile.running.record.result import APPLIED, UNDONE, Outcome, outcome_of
from reconcile.running.record.states import RunState
from reconcile.running.record.status import Status, status_of
from reconcile.running.undo_with_changes import plan_with_changes

if TYPE_CHECKING:
    from reconcile.auditing.check import CheckReport
    from reconcile.auditing.verify_report import Audited, Request
    from reconcile.engines import Engine


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


@contextmanager
def planned_again(
    plan_file: PlanFile,
    database: DatabaseOptions | None = None,
    source: Path | None = None,
    dest: Path | None = None,
) -> Iterator[PlanFile]:
    """Plan again, as a plan was made, for the block: its file is gone afterwards."""
    header = plan_file.header
    if header.undo_of is not None:
        sides = (path_now(header, side) or side.path for side in (header.source, header.dest))
        raise UsageError(
            f"{plan_file.path}: an undo plan is made from the record of run {header.undo_of}, not from the "
            "catalog, so it cannot be compared",
            hint=f"{undo_run(header.undo_of, *sides, dry_run=True)}    says what it would do",
        )
    _refuse_applied(plan_file, database or DatabaseOptions(), source, dest)
    desired = configs_of(header, source, dest)
    policy, summary = header.policy, header.summary
    request = PlanRequest(
        scope=Scope.of(header.scope),
        limit=max(1, summary.moves.documents) if policy.limited else None,
        keep_source=policy.keep_source,
        clean_elsewhere=policy.clean_elsewhere,
        s3_put=policy.s3_put,
        note=header.note,
        allow_unreadable=policy.allow_unreadable,
        overwrite=policy.overwrite,
        probe=summary.probed,
        again=True,
    )
    with (
        opened(database or DatabaseOptions(), desired.source) as catalog,
        tempfile.TemporaryDirectory(prefix="reconcile-") as folder,
    ):
        yield make_plan(catalog, desired.source, desired.dest, request, Path(folder) / "again.json")


def _refuse_applied(plan_file: PlanFile, database: DatabaseOptions, source: Path | None, dest: Path | None) -> None:
    """Raise `UsageError` for a plan whose run has switched: what differs since is what it did."""
    try:
        found = Prepared(plan_file, configs_of(plan_file.header, source, dest, anywhere=True))
    except ConfigError:
        return  # it is said by who needs the configs as they were
    with opened(database, found.with_database) as catalog:
        record = latest_run_of(catalog, plan_file.header.plan_id)
        if record is None or record.switched_at is None or record.state == RunState.UNDONE:
            return
        raise UsageError(
            f"{plan_file.path}: run {record.run_id} has applied this plan, and switched at "
            f"{time_text(record.switched_at)}: the catalog now differs by what the run did and what services "
            "wrote",
            hint=f"{command_line('report', record.run_id)}    shows its outcome",
        )


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


def apply(
    prepared: Prepared,
    database: DatabaseOptions | None = None,
    options: RunOptions | None = None,
    control: Control | None = None,
) -> Outcome:
    """Apply a plan or an undo plan, or resume its interrupted run.

    Nothing asks before a document is deleted. After the switch the sources are, unless the plan or ``options`` keep
    them.

    Args:
        prepared: The plan, from `prepare`.
        database: How to connect. By default as a config of the plan says.
        options: Limits and waits, and where to end: after staging, or after the switch.
        control: Is notified of the progress, and ends the run on request.

    Returns:
        The outcome: the run's id, how many documents were moved, and how many were left.

    Raises:
        StageFailedError: A document could not be staged. Nothing was switched.
        StaleError: A catalog row has changed since the plan. Nothing was switched.
        UnconfirmedError: The destination does not keep what it confirmed. Its message says
            whether the catalog was switched.
        ServicesRunningError: A service is running. Nothing was switched.
        LockedError: Another process works on this database.

    Example:
        >>> from reconcile.running.phases.options import RunOptions
        >>> prepared = reconcile.prepare(folder / "plan.json")
        >>> outcome = reconcile.apply(prepared, options=RunOptions(keep_source=True))
        >>> outcome.documents, outcome.left
        (6, 0)
        >>> run_id = outcome.run_id
    """
    with opened(database or DatabaseOptions(), prepared.with_database) as catalog:
        return carry_out(catalog, prepared, options, control)


def to_undo(catalog: Catalog, run_id: str) -> RunRecord:
    """Return the record of a run to undo. Raises `ReconcileError` if there is none, or for an undo."""
    record = run_record(catalog, run_id)
    undoing.refuse_undo_of_undo(record)
    return record


@contextmanager
def undo_previewed(
    catalog: Catalog, run_id: str, source: Path | None, dest: Path | None, *, with_changes: bool = False
) -> Iterator[tuple[UndoPreview, Prepared]]:
    """Return for the block what an undo of a run would do, and by which plan. Changes nothing and takes no lock."""
    record = to_undo(catalog, run_id)
    with tempfile.TemporaryDirectory(prefix="reconcile-") as folder:
        out = Path(folder) / f"{run_id}.undo.json"
        prepared = undo_plan_of(catalog, run_id, source, dest, with_changes=with_changes, out=out)
        preview = preview_undo(catalog, record)
        if prepared.plan is not None:
            preview = evolve(preview, documents=prepared.plan.header.summary.moves.documents)
        yield preview, prepared


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


def carry_out(
    catalog: Catalog,
    prepared: Prepared,
    options: RunOptions | None = None,
    control: Control | None = None,
) -> Outcome:
    """Carry out what was prepared on an open catalog."""
    options, control = options or RunOptions(), control or Control()
    if prepared.plan is not None:
        return applying.apply(catalog, prepared.plan, prepared.desired, options, control)
    assert prepared.undo_of is not None  # noqa: S101 - only an undo can do without a plan
    return undoing.undo(catalog, prepared.undo_of, None, prepared.desired, options, control)


def last_run(catalog: Catalog, run_id: str | None = None) -> RunRecord | None:
    """Return a run's record; by default of the run that last changed something, None if there has been none.

    That is not always the one begun last: an earlier one may have switched since.
    """
    if run_id is not None:
        return run_record(catalog, run_id)
    return max(find_runs(catalog), key=lambda record: record.last_event, default=None)


def status_of_plan(prepared: Prepared, database: DatabaseOptions | None = None) -> Status | None:
    """Return how far the run of a plan is that applying it would resume; None where a new run would begin."""
    if prepared.plan is None:
        return None
    header = prepared.plan.header
    with opened(database or DatabaseOptions(), prepared.with_database) as catalog:
        if header.undo_of is not None:
            return begun_undo(catalog, header.undo_of)
        return _begun(catalog, find_runs(catalog, plan_id=header.plan_id))


def begun_undo(catalog: Catalog, run_id: str) -> Status | None:
    """Return how far the undo of a run is that was begun and not ended."""
    return _begun(catalog, find_runs(catalog, undo_of=run_id))


def unfinished_beside(prepared: Prepared, database: DatabaseOptions | None = None) -> list[RunRecord]:
    """Return the runs that are not finished, other than that of the plan and the one that it undoes."""
    if prepared.plan is None:
        return []
    header = prepared.plan.header
    with opened(database or DatabaseOptions(), prepared.with_database) as catalog:
        return [
            record
            for record in find_runs(catalog)
            if record.state not in (RunState.DONE, RunState.UNDONE)
            and record.plan_id != header.plan_id
            and record.run_id != header.undo_of
        ]


def _begun(catalog: Catalog, found: list[RunRecord]) -> Status | None:
    is_begun = bool(found) and found[0].state in (RunState.STAGING, RunState.SWITCHED)
    return status_of(catalog, found[0]) if is_begun else None


def applied_already(prepared: Prepared, database: DatabaseOptions | None = None) -> Outcome | None:
    """Return the outcome of the plan's run, if it is done and nothing is left for `apply` to do."""
    if prepared.plan is None:
        return None
    undo_of = prepared.plan.header.undo_of
    with opened(database or DatabaseOptions(), prepared.with_database) as catalog:
        if undo_of is not None and run_record(catalog, undo_of).state == RunState.UNDONE:
            return outcome_of(catalog, undo_of, already=UNDONE)
        found = find_runs(catalog, plan_id=prepared.plan.header.plan_id)
        if not found or found[0].state != RunState.DONE or found[0].plan_digest != prepared.plan.digest:
            return None
        return outcome_of(catalog, found[0].run_id, already=APPLIED)


def status(catalog: Catalog, run_id: str | None = None) -> Status | None:
    """Return how far a run is, or the last one; None where there has been none. Disturbs no run."""
    record = last_run(catalog, run_id)
    return None if record is None else status_of(catalog, record)


def all_runs(catalog: Catalog) -> tuple[list[RunRecord], list[Migration]]:
    """Return all runs on record, and all migrations in the vendor's, the newest first."""
    return find_runs(catalog), migrations(catalog)


def report(database: DatabaseOptions | None = None, run_id: str | None = None, source: Path | None = None) -> Report:
    """Return the report of a run.

    Args:
        database: How to connect. By default as ``source`` says.
        run_id: The run. By default the last one.
        source: A config of the services that names the database.

    Returns:
        What the run did: documents and bytes by backend, times in Unix seconds, downtime, failures.

    Raises:
        ReconcileError: There has been no run, or not this one.

    Example:
        >>> reconcile.report(run_id=run_id, source=there).state.value
        'done'
    """
    with opened(database or DatabaseOptions(), load_config(source) if source else None) as catalog:
        record = last_run(catalog, run_id)
        if record is None:
            raise ReconcileError("no run is recorded in this database", hint="reconcile apply PLAN    makes one")
        return report_of(catalog, record)


def check(
    config: Path,
    database: DatabaseOptions | None = None,
    control: Control | None = None,
    *,
    only_archive: bool = False,
) -> CheckReport:
    """Test the backends of a config with test objects, and inspect its catalog. The test objects are deleted again.

    Args:
        config: A config of the services.
        database: How to connect. By default as ``config`` says.
        control: Is notified of the progress, and ends it on request.
        only_archive: Tests the analysis archive's backend alone.

    Returns:
        For each backend what it can do and how fast it is, in bytes and requests a second; ``ok`` if it is all right.

    Raises:
        ConfigError: The config is invalid.
        CatalogError: The database cannot be reached.

    Example:
        >>> reconcile.check(there).ok
        True
    """
    from reconcile.auditing import check as checking  # noqa: PLC0415 - the other verbs do without

    loaded = load_config(config, destination=True)
    with opened(database or DatabaseOptions(), loaded) as catalog:
        return checking.check(catalog, loaded, control or Control(), only_archive=only_archive)


def verify(
    config: Path,
    database: DatabaseOptions | None = None,
    request: Request | None = None,
    control: Control | None = None,
    engine: Engine | None = None,
) -> Audited:
    """Audit the archive of a config: each catalog row must lead to content with its digest and size. Changes nothing.

    Args:
        config: The config that the services have.
        database: How to connect. By default as ``config`` says.
        request: Which buckets, or a sample in percent; whether to find orphans. By default all documents.
        control: Is notified of the progress, and ends it on request.
        engine: Has the documents audited by workers.

    Returns:
        Documents and bytes by backend, and the ``problems``; ``ok`` if there is none.

    Raises:
        BackendError: A store cannot be used at all.

    Example:
        >>> audited = reconcile.verify(there)
        >>> audited.documents, audited.ok
        (6, True)
    """
    from reconcile.auditing import verify as verifying  # noqa: PLC0415 - the other verbs do without
    from reconcile.auditing.verify_report import Request  # noqa: PLC0415

    loaded = load_config(config)
    with opened(database or DatabaseOptions(), loaded) as catalog:
        return verifying.verify(catalog, loaded, request or Request(), control or Control(), engine)
