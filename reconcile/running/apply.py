"""Apply a plan: which run it is, what refuses it, then the phases."""

from __future__ import annotations

from functools import partial

from reconcile.catalog import Catalog
from reconcile.catalog.rights import refuse_lacking
from reconcile.control import Control, relaxed_gc
from reconcile.errors import PlanFileError, ReconcileError, UsageError
from reconcile.formatting import count
from reconcile.logs import get_logger
from reconcile.planning.decide import DesiredState
from reconcile.planning.model import PlanHeader
from reconcile.planning.planfile import PlanFile
from reconcile.planning.planner import new_id
from reconcile.planning.rights import rights_of_plan
from reconcile.running.phases.context import StorePool
from reconcile.running.phases.elsewhere import refuse_engine
from reconcile.running.phases.load import begin, checked_batches, make_destinations
from reconcile.running.phases.options import RunOptions
from reconcile.running.phases.order import Phases
from reconcile.running.phases.stale import refuse_overtaken
from reconcile.running.record.executor import executing
from reconcile.running.record.identity import check_database, same_database
from reconcile.running.record.next_steps import undo_command
from reconcile.running.record.records import RunRecord, count_linked, find_run, latest_run_of
from reconcile.running.record.result import APPLIED, Outcome, outcome_of
from reconcile.running.record.run import resume_run
from reconcile.running.record.states import RunState
from reconcile.running.undo import undo

log = get_logger()


def check_plan(catalog: Catalog, plan: PlanFile) -> None:
    """Raise unless the plan was made for this database, or its run belongs to it now.

    `PlanFileError` for a plan of another database, `PlaceChangedError` for a run of one.
    """
    header = plan.header
    record = latest_run_of(catalog, header.plan_id) if header.undo_of is None else find_run(catalog, header.undo_of)
    if record is not None:
        check_database(catalog, record)
    elif not same_database(header.database, catalog.identity):
        raise PlanFileError(
            f"{plan.path}: the plan is for another database ({header.database}); this one is {catalog.identity}",
            hint="connect to the database that the plan was made from, or make a new plan",
        )


def is_switched(catalog: Catalog, header: PlanHeader) -> bool:
    """Tell whether the catalog is as the run of a plan switched it, or the run that an undo plan undoes."""
    record = latest_run_of(catalog, header.plan_id) if header.undo_of is None else find_run(catalog, header.undo_of)
    return record is not None and record.switched_at is not None and record.state != RunState.UNDONE


def apply(catalog: Catalog, plan: PlanFile, desired: DesiredState, options: RunOptions, control: Control) -> Outcome:
    """Stage, switch and clean a plan, or resume its interrupted run.

    Raises a `ReconcileError`, whose exit code says in which state the run is (docs/exit-codes.md).
    """
    digest = plan.verify()
    keep_source = options.keep_source or plan.header.policy.keep_source
    if plan.header.undo_of is None:  # before anything that reads the work tables, so that one list names them too
        refuse_lacking(catalog, rights_of_plan(desired, plan.header, keep_source=keep_source))
    check_plan(catalog, plan)
    if plan.header.undo_of is not None:
        return undo(catalog, plan.header.undo_of, plan, desired, options, control)
    if options.refresh and plan.header.policy.limited:
        raise UsageError(
            "--refresh includes all new documents, but this plan was made with --limit; nothing was done",
            hint="make a plan without --limit; it adopts what is staged, and copies nothing twice",
        )
    refuse_engine(catalog, options.engine, plan.header)
    summary = plan.header.summary
    refuse_blocked(plan, leave_blocked=options.leave_blocked)
    if not summary.moves.documents:
        return Outcome(run_id="", left=summary.blocked.documents, already="no document has to move")
    with relaxed_gc(), executing(catalog, options.lock_wait, control.check) as executor:
        record = latest_run_of(catalog, plan.header.plan_id)
        ended = None if record is None else _ended(catalog, record, plan, digest, options)
        if ended is not None:
            return ended
        if record is not None and record.state != RunState.UNDONE:
            if options.keep_source and not record.keep_source:
                _refuse_linked(catalog, record)
            run = resume_run(executor, record, keep_source=options.keep_source, asked=options.asked)
            pool = StorePool.of(run, desired, options)
        else:
            pool = StorePool(catalog, desired, new_id(), executor, options.workers)
            make_destinations(pool, plan)
            control.progress.step("loading the plan")
            run = begin(
                pool,
                executor,
                plan,
                digest,
                lambda _connection: checked_batches(plan, desired),
                keep_source,
                asked=options.asked,
                check=None if options.refresh else partial(refuse_overtaken, plan=plan),
            )
        before = run.record.approved
        if options.approval is not None and options.approval not in (before or ""):
            with run.writing() as connection:  # who approved it first stays on record
                run.update(connection, approved=f"{before}; {options.approval}" if before else options.approval)
        return Phases(run, pool, options, control).execute()


def _ended(catalog: Catalog, record: RunRecord, plan: PlanFile, digest: str, options: RunOptions) -> Outcome | None:
    """Return the outcome of a plan's run that has nothing left to do; None for a run to resume, or to start again.

    Raises `PlanFileError` for a plan that is not the one the run was begun with, `ReconcileError` for one being undone.
    """
    if record.plan_digest != digest:
        raise PlanFileError(
            f"{plan.path}: it has the same id as the plan of run {record.run_id}, but other content; nothing was done",
            hint=f"reconcile status {record.run_id}    names the file of that plan; a new plan gets its own id",
        )
    if record.state == RunState.UNDOING:
        raise ReconcileError(
            f"run {record.run_id} of this plan is being undone; nothing was done", hint=undo_command(record)
        )
    already = None
    if record.state == RunState.DONE:
        already = APPLIED
    elif record.state == RunState.SWITCHED and options.clean_later:
        already = "the run has already switched; reconcile clean deletes its sources"
    elif record.state == RunState.SWITCHED and options.stage_only:
        already = "the run has already switched; apply without --stage-only deletes its sources"
    return outcome_of(catalog, record.run_id, already=already) if already else None


def _refuse_linked(catalog: Catalog, record: RunRecord) -> None:
    """Raise `ReconcileError` where sources cannot be kept any more: files that are hard links of their copies."""
    linked = count_linked(catalog, record.run_id)
    if linked:
        raise ReconcileError(
            f"{linked:,} sources of run {record.run_id} are hard links of their copies: if kept, services "
            "would overwrite them together with the copies; nothing was done",
            hint="resume without --keep-source; or undo the run, and apply with --keep-source from the "
            f"start:\n{undo_command(record)}",
        )


def refuse_blocked(plan: PlanFile, *, leave_blocked: bool) -> None:
    """Raise `ReconcileError` for a plan with blockers, unless those documents will be left."""
    summary = plan.header.summary
    if summary.blocked.documents and not leave_blocked:
        log.info("blocked", documents=summary.blocked.documents, plan=str(plan.path))
        blocked = count(summary.blocked.documents, "blocked document")
        raise ReconcileError(
            f"the plan has {blocked}: {_reasons(summary.blocked_by_reason)}; nothing was done",
            hint="fix the causes and plan again, or give --leave-blocked to leave those documents where they are",
        )


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{documents:,} {reason}" for reason, documents in counts.items())
