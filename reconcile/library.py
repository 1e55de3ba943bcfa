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

from reconcile import verbs
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
    """Return a plan: its header with the summary, and its moves and blockers one by one. Opens no connection.

    Raises `PlanFileError` for a file that is missing, damaged or edited.
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
    """Return what differs between a plan and another one, or the one that would be made now."""
    with ExitStack() as stack:
        before = open_whole_plan(path)
        if other is None:
            after = stack.enter_context(verbs.planned_again(before, database, source, dest))
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

    Either may be None if the file that the run recorded is unchanged. ``with_changes`` includes what
    services wrote since. Raises `StaleError` if they did and ``with_changes`` is not set.
    """
    with _opened(database, source, dest) as catalog:
        prepared = verbs.undo_plan_of(catalog, run_id, source, dest, with_changes=with_changes)
        return verbs.carry_out(catalog, prepared, options, control)


def status(
    run_id: str | None = None, database: DatabaseOptions | None = None, *, source: Path | None = None
) -> Status | None:
    """Return how far a run is, or the last one; None where there has been none. Takes no lock, writes nothing."""
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
    """Delete the sources that a run kept. Services may run."""
    with _opened(database, dest, source) as catalog:
        kept = clean_kept.kept_sources(catalog, run_id)
        desired = configs_of(kept.record.header, source, dest, anywhere=True)
        return clean_kept.clean(catalog, run_id, desired, options or RunOptions(), control or Control())


def forget(
    run_id: str, database: DatabaseOptions | None = None, *, source: Path | None = None, force: bool = False
) -> Forgettable:
    """Remove the records of a finished run, and those of its undo. It can no longer be undone."""
    with _opened(database, source) as catalog:
        return forgetting.forget(catalog, run_id, force=force, lock_wait=RunOptions().lock_wait)


@contextmanager
def _opened(database: DatabaseOptions | None, *configs: Path | None) -> Iterator[Catalog]:
    given = next((path for path in configs if path is not None), None)
    with verbs.opened(database or DatabaseOptions(), load_config(given) if given else None) as catalog:
        yield catalog
