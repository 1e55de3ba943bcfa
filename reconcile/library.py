"""The verbs for programs: each opens the catalog, does one thing, and closes it again.

``database`` says how to connect: a URL, or nothing where ``source`` or ``dest`` is a config of the services with
``credentials.database``. ``options`` and ``control`` are as the command line's own: limits and waits, progress and an
end on request. Nothing is asked or printed. Errors are `reconcile.errors.ReconcileError`, with ``exit_code``,
``message`` and ``hint``.

These functions keep their names and arguments, and what they return its fields, as long as the first number of the
version stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from reconcile import beforehand, verbs
from reconcile.catalog import Catalog, DatabaseOptions
from reconcile.config import load_config
from reconcile.control import Control
from reconcile.planning.diff import Change, changes
from reconcile.planning.planfile import PlanFile, open_whole_plan
from reconcile.running import clean_kept
from reconcile.running import forget as forgetting
from reconcile.running.forget import Forgettable
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.configs import configs_of
from reconcile.running.record.result import Outcome
from reconcile.running.record.status import Status
from reconcile.verbs import apply as apply
from reconcile.verbs import check as check
from reconcile.verbs import plan as plan
from reconcile.verbs import prepare as prepare
from reconcile.verbs import report as report
from reconcile.verbs import verify as verify


def show(path: Path) -> PlanFile:
    """Return a plan that was saved. Opens no connection.

    Args:
        path: The file of the plan.

    Returns:
        The plan: its header with the summary, and its moves and blockers one by one.

    Raises:
        PlanFileError: The file is missing, damaged or edited.

    Example:
        >>> plan = reconcile.show(folder / "plan.json")
        >>> plan.header.summary.moves.bytes
        6130
    """
    return open_whole_plan(path)


def diff(
    path: Path,
    other: Path | None = None,
    database: DatabaseOptions | None = None,
    *,
    source: Path | None = None,
    dest: Path | None = None,
) -> list[Change]:
    """Return what differs between a plan and another one, or the one that would be made now.

    Args:
        path: The file of a plan.
        other: The file of the plan to compare with. By default the catalog is planned again.
        database: How to connect. By default as ``source`` says.
        source: The services' config. By default the file that the plan was made with.
        dest: The destination config, likewise.

    Returns:
        A change for each document that differs: its ``kind``, and the row ``before`` and ``after``.

    Raises:
        PlanFileError: A file is missing, damaged or edited.
        UsageError: The plan is an undo plan, or it has been applied.

    Example:
        >>> reconcile.diff(folder / "plan.json")
        []
    """
    with ExitStack() as stack:
        before = open_whole_plan(path)
        if other is None:
            after = stack.enter_context(beforehand.planned_again(before, database, source, dest))
        else:
            after = open_whole_plan(other)
        return list(changes(before, after))


def undo(
    run_id: str,
    database: DatabaseOptions | None = None,
    *,
    source: Path | None = None,
    dest: Path | None = None,
    with_changes: bool = False,
    options: RunOptions | None = None,
    control: Control | None = None,
) -> Outcome:
    """Undo a run, or resume its undo: documents go from where ``source`` says to where ``dest`` says.

    Args:
        run_id: The run.
        database: How to connect. By default as the configs say.
        source: The config that the documents are at now. By default the file that the run recorded.
        dest: The config that they go back to, likewise.
        with_changes: Includes what services wrote since.
        options: Limits and waits.
        control: Is notified of the progress, and ends the run on request.

    Returns:
        The outcome of the undo, which is a run of its own.

    Raises:
        StaleError: Services wrote since, and ``with_changes`` is not set. Nothing was switched.
        ServicesRunningError: A service is running. Nothing was switched.
        LockedError: Another process works on this database. Nothing was done.

    Example:
        >>> reconcile.undo(run_id, source=there, dest=here).documents
        6
    """
    with _opened(database, source, dest) as catalog:
        prepared = verbs.undo_plan_of(catalog, run_id, source, dest, with_changes=with_changes)
        return verbs.carry_out(catalog, prepared, options, control)


def status(
    run_id: str | None = None, database: DatabaseOptions | None = None, *, source: Path | None = None
) -> Status | None:
    """Return how far a run is. Takes no lock, and writes nothing.

    Args:
        run_id: The run. By default the last one.
        database: How to connect. By default as ``source`` says.
        source: A config of the services that names the database.

    Returns:
        Its state, and how many documents and bytes are done. None where there has been no run.

    Raises:
        ReconcileError: There is no such run.

    Example:
        >>> reconcile.status(run_id, source=there).is_finished
        True
    """
    with _opened(database, source) as catalog:
        return verbs.status(catalog, run_id)


def clean(
    run_id: str,
    database: DatabaseOptions | None = None,
    *,
    source: Path | None = None,
    dest: Path | None = None,
    options: RunOptions | None = None,
    control: Control | None = None,
) -> clean_kept.Cleaned:
    """Delete the sources that a run kept. Services may run.

    Args:
        run_id: The run.
        database: How to connect. By default as the configs say.
        source: The config that the run moved documents from. By default the file that the run recorded.
        dest: The config that it moved them to, likewise.
        options: Limits and waits.
        control: Is notified of the progress, and ends the run on request.

    Returns:
        How many sources were ``deleted``, and why others stay: documents by reason.

    Raises:
        ReconcileError: The run has not switched, or is an undo. Nothing was deleted.
        UnconfirmedError: Not one copy of a batch is intact. The sources are kept.

    Example:
        >>> reconcile.clean(run_id, source=here, dest=there).deleted
        6
    """
    with _opened(database, dest, source) as catalog:
        kept = clean_kept.kept_sources(catalog, run_id)
        desired = configs_of(kept.record.header, source, dest, anywhere=True)
        return clean_kept.clean(catalog, run_id, desired, options or RunOptions(), control or Control())


def forget(
    run_id: str, database: DatabaseOptions | None = None, *, source: Path | None = None, force: bool = False
) -> Forgettable:
    """Remove the records of a finished run, and those of its undo. It can no longer be undone.

    Args:
        run_id: The run.
        database: How to connect. By default as ``source`` says.
        source: A config of the services that names the database.
        force: Also where sources that it kept are known by this record only.

    Returns:
        What was known of the run.

    Raises:
        ReconcileError: The run is not finished, or ``force`` is needed. Nothing was removed.

    Example:
        >>> reconcile.forget(run_id, source=here).last
        True
    """
    with _opened(database, source) as catalog:
        return forgetting.forget(catalog, run_id, force=force, lock_wait=RunOptions().lock_wait)


@contextmanager
def _opened(database: DatabaseOptions | None, *configs: Path | None) -> Iterator[Catalog]:
    given = next((path for path in configs if path is not None), None)
    with verbs.opened(database or DatabaseOptions(), load_config(given) if given else None) as catalog:
        yield catalog
