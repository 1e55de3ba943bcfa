"""Clean later: delete the sources that a run kept, with the same code that deletes them right after a switch.

A run that is cleaned later is again in the state right after its switch: switched, with sources to clean. So a kill
leaves no new state: the same command or the plan's apply resumes, and an undo works from there.
"""

from __future__ import annotations

import sqlalchemy as sa
from attrs import evolve, field, frozen

from reconcile.catalog import Catalog
from reconcile.catalog.lock import lock_holder
from reconcile.catalog.rights import refuse_lacking
from reconcile.catalog.services import database_now
from reconcile.control import Control
from reconcile.errors import ReconcileError
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import Tally
from reconcile.planning.rights import rights_of_plan
from reconcile.running.phases.context import StorePool, open_stores
from reconcile.running.phases.elsewhere import refuse_engine
from reconcile.running.phases.options import RunOptions
from reconcile.running.phases.order import Phases
from reconcile.running.record.details import why_kept
from reconcile.running.record.executor import Executor, executing, executor_name
from reconcile.running.record.identity import check_database
from reconcile.running.record.next_steps import next_step, watch_step
from reconcile.running.record.records import RunRecord, run_record
from reconcile.running.record.run import Run
from reconcile.running.record.states import Asked, MoveState, Removal, RunState
from reconcile.running.record.tables import moves, runs

_DAY_SECONDS = 86400


@frozen
class Kept:
    """What a run kept: ``deletable`` by backend, before the stores are checked; ``stays`` by reason."""

    record: RunRecord
    deletable: dict[str, Tally]
    stays: dict[str, int]

    @property
    def documents(self) -> int:
        """How many sources may be deleted."""
        return sum(tally.documents for tally in self.deletable.values())


@frozen
class Cleaned:
    """The outcome of a later clean. ``already`` says why there was nothing to do, ``not_intact`` is as in `Outcome`."""

    run_id: str
    deleted: int = 0
    stays: dict[str, int] = field(factory=dict)
    not_intact: tuple[str, ...] = ()
    remark: str | None = None
    already: str | None = None


def kept_sources(catalog: Catalog, run_id: str) -> Kept:
    """Return what a run kept. Raises `ReconcileError` for a run that has nothing to clean by its state."""
    record = run_record(catalog, run_id)
    if record.state not in (RunState.SWITCHED, RunState.DONE):
        raise ReconcileError(
            f"run {run_id} is {record.state}: clean deletes only the sources of a run that has switched and "
            "is not undone; nothing was deleted",
            hint=next_step(record, {}) if lock_holder(catalog) is None else watch_step(record),
        )
    if record.undo_of is not None:
        raise ReconcileError(
            f"run {run_id} is an undo: what it left at the other side existed before it, so clean does not delete it",
            hint="reconcile runs    lists the runs that moved documents",
        )
    query = (
        sa.select(moves.c.source, sa.func.count(), sa.func.coalesce(sa.func.sum(moves.c.before_size), 0))
        .where(_left(run_id), ~moves.c.keep)
        .group_by(moves.c.source)
        .order_by(moves.c.source)
    )
    with catalog.read(bulk=True) as connection:
        deletable = {row[0]: Tally(int(row[1]), int(row[2])) for row in connection.execute(query)}
    stays = why_kept(catalog, run_id, only_lasting=True)
    return Kept(record, deletable, stays)


def clean(
    catalog: Catalog,
    run_id: str,
    desired: DesiredState,
    options: RunOptions,
    control: Control,
    older_than: int | None = None,
) -> Cleaned:
    """Delete what a run kept, under R3. ``older_than`` skips a run that ended less than so many days ago."""
    record = run_record(catalog, run_id)
    check_database(catalog, record)
    refuse_engine(catalog, options.engine)
    refuse_lacking(catalog, rights_of_plan(desired, record.header, keep_source=False))
    with executing(catalog, options.lock_wait, control.check) as executor:
        kept = kept_sources(catalog, run_id)
        why = nothing_to_do(catalog, kept, older_than)
        if why is not None:
            return Cleaned(run_id, stays=kept.stays, already=why)
        reader = Run(catalog, kept.record, 0, executor)
        pool = StorePool.of(reader, desired, options)
        open_stores(reader, pool, create=False)  # before anything is recorded
        before = _deleted(catalog, run_id)
        outcome = Phases(_reopened(executor, kept.record), pool, options, control).execute(is_news=False)
        deleted = _deleted(catalog, run_id) - before
        return Cleaned(run_id, deleted, why_kept(catalog, run_id), outcome.not_intact, outcome.remark)


def nothing_to_do(catalog: Catalog, kept: Kept, older_than: int | None) -> str | None:
    """Return why there is nothing to delete; None if there is something."""
    if not kept.documents and kept.record.state == RunState.DONE:
        return "no source of the run is left that may be deleted"
    ended = kept.record.finished_at or kept.record.switched_at or 0
    with catalog.read() as connection:
        age = database_now(connection) - ended
    if older_than is not None and age < older_than * _DAY_SECONDS:
        return f"the run ended {age // _DAY_SECONDS:,} days ago, --older-than is {older_than:,}"
    return None


def _reopened(executor: Executor, record: RunRecord) -> Run:
    """Make a run one whose sources are to be cleaned; what was kept for a reason is judged anew. Raises its epoch."""
    catalog = executor.catalog
    with catalog.write(bulk=True) as connection:
        executor.guard(connection)
        epoch = connection.execute(
            sa.update(runs)
            .where(runs.c.run_id == record.run_id, runs.c.state == record.state)
            .values(
                state=RunState.SWITCHED,
                keep_source=False,
                asked=Asked.CLEAN,
                finished_at=None,
                epoch=runs.c.epoch + 1,
                executor=executor_name(),
                token=executor.token,
            )
            .returning(runs.c.epoch)
        ).scalar_one()
        connection.execute(
            sa.update(moves)
            .where(moves.c.run_id == record.run_id, moves.c.state == MoveState.STAGED, moves.c.cleaned == Removal.KEPT)
            .values(cleaned=None, detail=None)
        )
    reopened = evolve(record, state=RunState.SWITCHED, keep_source=False, asked=Asked.CLEAN, finished_at=None)
    return Run(catalog, reopened, epoch, executor)


def _left(run_id: str) -> sa.ColumnElement[bool]:
    """Return the condition of a run's moves whose sources are not deleted."""
    return sa.and_(
        moves.c.run_id == run_id, moves.c.state == MoveState.STAGED, moves.c.cleaned.is_distinct_from(Removal.DELETED)
    )


def _deleted(catalog: Catalog, run_id: str) -> int:
    query = sa.select(sa.func.count()).where(moves.c.run_id == run_id, moves.c.cleaned == Removal.DELETED)
    with catalog.read(bulk=True) as connection:
        return int(connection.execute(query).scalar_one())
