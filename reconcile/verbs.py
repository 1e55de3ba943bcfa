"""The verbs as library functions: what the command line calls, and what a program may call.

Each opens the catalog, does one thing, and closes it again. Errors are `reconcile.errors.ReconcileError`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.catalog import Catalog, DatabaseOptions
from reconcile.catalog.tasks import Migration, migrations
from reconcile.config import load_config
from reconcile.control import Control
from reconcile.errors import ReconcileError
from reconcile.limits import keep_few_arenas
from reconcile.planning.planner import plan as plan  # a verb too; where it is, it needs nothing that runs need
from reconcile.prepared import Prepared as Prepared
from reconcile.prepared import opened as opened
from reconcile.prepared import prepare as prepare
from reconcile.prepared import undo_plan_of as undo_plan_of
from reconcile.running import apply as applying
from reconcile.running import undo as undoing
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.records import RunRecord, find_runs, run_record
from reconcile.running.record.report import Report
from reconcile.running.record.reporting import report_of
from reconcile.running.record.result import Outcome
from reconcile.running.record.status import Status, status_of

if TYPE_CHECKING:
    from reconcile.auditing.check import CheckReport
    from reconcile.auditing.verify_report import Audited, Request
    from reconcile.engines import Engine


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


def carry_out(
    catalog: Catalog,
    prepared: Prepared,
    options: RunOptions | None = None,
    control: Control | None = None,
) -> Outcome:
    """Carry out what was prepared on an open catalog."""
    options, control = options or RunOptions(), control or Control()
    keep_few_arenas()
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
