"""Undo a run: by the reverse moves if it switched, else by deleting its copies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from attrs import evolve
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog
from reconcile.catalog.rights import refuse_lacking
from reconcile.catalog.services import database_now
from reconcile.control import Control, in_batches, relaxed_gc
from reconcile.errors import PlaceChangedError, ReconcileError, UsageError
from reconcile.planning.decide import DesiredState
from reconcile.planning.planfile import PlanFile
from reconcile.planning.planner import new_id
from reconcile.planning.rights import rights_of_plan
from reconcile.running.phases.aliases import remove_markers
from reconcile.running.phases.context import RunContext, StorePool, open_stores
from reconcile.running.phases.elsewhere import refuse_engine
from reconcile.running.phases.load import begin, make_destinations
from reconcile.running.phases.options import RunOptions
from reconcile.running.phases.order import Phases
from reconcile.running.phases.owner_mark import Owner
from reconcile.running.phases.rehearsal import rehearse
from reconcile.running.phases.rollback import Dropper
from reconcile.running.phases.undo_plan import mark_undoing, mark_undone, undo_rows
from reconcile.running.record import late_requests
from reconcile.running.record.executor import Executor, executing
from reconcile.running.record.identity import check_database
from reconcile.running.record.next_steps import undo_command
from reconcile.running.record.records import RunRecord, find_runs, run_record
from reconcile.running.record.result import UNDONE, Outcome, outcome_of
from reconcile.running.record.run import Run, resume_run
from reconcile.running.record.states import Origin, RunState
from reconcile.running.record.tables import moves, places, runs
from reconcile.running.record.work_moves import LOAD_ROWS


def undo(
    catalog: Catalog,
    run_id: str,
    plan: PlanFile | None,
    desired: DesiredState,
    options: RunOptions,
    control: Control,
) -> Outcome:
    """Undo a run. ``desired`` leads from where the run moved documents to where they were.

    The staged copies of a run that never switched are deleted. Raises a `ReconcileError` as `apply` does.
    """
    _refuse_parts_of_undo(plan, options)
    record = run_record(catalog, run_id)
    refuse_engine(catalog, options.engine, record.header)
    check_database(catalog, record)
    forward = DesiredState(desired.dest, desired.source)
    refuse_lacking(catalog, rights_of_plan(forward, record.header, keep_source=record.keep_source))
    with relaxed_gc(), executing(catalog, options.lock_wait, control.check) as executor:
        record = run_record(catalog, run_id)
        if record.state == RunState.UNDONE:
            return outcome_of(catalog, run_id, already=UNDONE)
        refuse_undo_of_undo(record)
        if record.state in (RunState.STAGING, RunState.UNDOING) and record.switched_at is None:
            return _drop(executor, record, desired, options, control)
        if plan is None:  # to drop copies was asked for; while the lock was waited for, rows came to need them
            raise ReconcileError(
                f"run {run_id} has switched since this command began, and its documents are moved; nothing was undone",
                hint=f"{undo_command(record)}    undoes it, if you still want that",
            )
        attempts = find_runs(catalog, undo_of=run_id)
        begun = next((attempt.run_id for attempt in attempts if _may_be_resumed(attempt, plan)), None)
        pool = StorePool(catalog, desired, begun or new_id(), executor, options.workers)
        make_destinations(pool, plan)
        with catalog.snapshot() as connection:
            for _row in undo_rows(connection, record, plan, desired):
                pass  # refuses a plan that is not the run's before anything is marked
        if record.state in (RunState.SWITCHED, RunState.DONE):
            mark_undoing(executor, record)
        run = _undo_run(executor, record, plan, pool, options, control)
        return Phases(run, pool, options, control).execute()


def refuse_undo_of_undo(record: RunRecord) -> None:
    """Raise `ReconcileError` for a run that is an undo itself, and switched."""
    if record.undo_of is not None and record.state not in (RunState.STAGING, RunState.UNDOING, RunState.UNDONE):
        raise ReconcileError(
            f"run {record.run_id} is itself an undo, and it is done; nothing was changed",
            hint="to move the documents again, apply the plan again",
        )


def _refuse_parts_of_undo(plan: PlanFile | None, options: RunOptions) -> None:
    """Raise `UsageError` for what only a plan can be asked for."""
    if options.refresh:
        raise UsageError(
            "--refresh is for plans, not for undo plans: an undo reverts only what its run did; nothing was done",
            hint="reconcile undo RUN --with-changes    includes what services wrote since",
        )
    if plan is not None and plan.header.policy.with_changes and (options.budget.is_limited or options.stage_only):
        raise UsageError(
            "an undo with changes is planned again by each command, so it cannot be staged in parts; nothing was done",
            hint="omit the limits; use --max-rate to reduce the load on the servers",
        )


def _undo_run(
    executor: Executor,
    record: RunRecord,
    plan: PlanFile,
    pool: StorePool,
    options: RunOptions,
    control: Control,
) -> Run:
    """Resume the undo run that was interrupted, or begin one; an attempt by another plan is dropped."""
    desired = pool.desired
    for attempt in find_runs(executor.catalog, undo_of=record.run_id):
        if _may_be_resumed(attempt, plan):
            return resume_run(executor, attempt)
        if attempt.state in (RunState.STAGING, RunState.UNDOING) and attempt.switched_at is None:
            _drop(executor, attempt, DesiredState(desired.dest, desired.source), options, control, give_back=False)
    control.progress.step("loading the plan")

    def batches(connection: Connection) -> Iterable[list[dict[str, Any]]]:
        return in_batches(undo_rows(connection, record, plan, desired), LOAD_ROWS)

    return begin(pool, executor, plan, plan.verify(), batches, keep_source=False)


def _may_be_resumed(attempt: RunRecord, plan: PlanFile) -> bool:
    """Tell whether an attempt may be resumed: what services changed since is in no attempt with changes."""
    with_changes = attempt.header.policy.with_changes or plan.header.policy.with_changes
    return attempt.state == RunState.SWITCHED or (attempt.state == RunState.STAGING and not with_changes)


def _drop(
    executor: Executor,
    record: RunRecord,
    desired: DesiredState,
    options: RunOptions,
    control: Control,
    *,
    give_back: bool = True,
) -> Outcome:
    """Delete the copies of a run that never switched. One that only its copies are left of stays staged (R1)."""
    catalog, forward = executor.catalog, DesiredState(desired.dest, desired.source)
    own = moves.c.origin.in_((Origin.INTENDED, Origin.WRITTEN))
    reader = Run(catalog, record, 0, executor)
    stores = open_stores(reader, StorePool.of(reader, forward, options), own, create=False)
    run = resume_run(executor, record)
    owner = Owner(run, stores)
    owner.open()
    with run.writing() as connection:
        run.update(connection, state=RunState.UNDOING, paused_at=None)  # from here on its own apply refuses
    rehearse(run, stores)
    late_requests.wait(catalog, run.run_id, stores, control, options.takeover_wait, late_requests.concerns_sources)
    dropper = Dropper(RunContext(run, forward, stores, control, options.pipelines), owner)
    try:
        dropper.drop()
    except PlaceChangedError:
        with run.writing() as connection:
            run.update(connection, state=RunState.STAGING, phase=None)  # it is still to be applied, and may be
        raise
    remove_markers(record.run_id, stores)
    if not dropper.last:
        owner.release()
    with run.writing() as connection:
        if dropper.last:
            run.update(connection, state=RunState.STAGING, phase=None)
        else:
            owner.forget(connection)
            mark_undone(connection, record.run_id, database_now(connection))
            if record.undo_of is not None and give_back:
                _give_back(connection, record.undo_of)
    outcome = outcome_of(catalog, record.run_id)
    left = (*dropper.left, *dropper.last)
    return evolve(outcome, documents=0, left=len(left), not_dropped=left[:20], last_copies=len(dropper.last))


def _give_back(connection: Connection, run_id: str) -> None:
    """Let a run be what it was before an undo of it was begun and taken back; the undo's owner marks replaced its."""
    without = {"mark_before": places.c.mark, "mark": None}
    connection.execute(sa.update(places).where(places.c.run_id == run_id, places.c.mark.is_not(None)).values(**without))
    finished = runs.c.finished_at.is_not(None)
    others = sa.select(runs.c.run_id).where(
        runs.c.undo_of == run_id, runs.c.state.in_((RunState.STAGING, RunState.SWITCHED, RunState.UNDOING))
    )
    if connection.execute(others).first() is None:
        connection.execute(
            sa.update(runs)
            .where(runs.c.run_id == run_id, runs.c.state == RunState.UNDOING)
            .values(state=sa.case((finished, RunState.DONE), else_=RunState.SWITCHED))
        )
