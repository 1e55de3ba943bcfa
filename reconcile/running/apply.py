"""Apply a plan, and undo a run: which run it is, what refuses it, then the phases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import sqlalchemy as sa
from attrs import evolve
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog
from reconcile.config import Config
from reconcile.control import Control, calm_collector
from reconcile.errors import PlaceChangedError, PlanFileError, ReconcileError, UsageError
from reconcile.logs import printable
from reconcile.planning.desired import DesiredState
from reconcile.planning.expiry import refuse_expiring
from reconcile.planning.model import PlanHeader
from reconcile.planning.places import is_elsewhere
from reconcile.planning.planfile import PlanFile
from reconcile.running.phases.aliases import remove_markers
from reconcile.running.phases.context import RunContext
from reconcile.running.phases.options import RunOptions
from reconcile.running.phases.order import Phases, open_stores
from reconcile.running.phases.owner_mark import Owner
from reconcile.running.phases.rehearsal import rehearse
from reconcile.running.phases.rollback import Dropper
from reconcile.running.phases.stale import refuse_overtaken
from reconcile.running.phases.steps import Step, carries_out
from reconcile.running.phases.undo_plan import mark_undoing, mark_undone, undo_rows
from reconcile.running.record import late_requests
from reconcile.running.record.executor import Executor, executing
from reconcile.running.record.identity import check_database, same_database
from reconcile.running.record.in_place import record_in_place
from reconcile.running.record.next_steps import undo_command
from reconcile.running.record.outcome import APPLIED, UNDONE, Outcome, outcome_of
from reconcile.running.record.records import RunRecord, count_linked, find_runs
from reconcile.running.record.run import Run, begin_run, resume_run
from reconcile.running.record.states import Origin, RunState
from reconcile.running.record.tables import blocker_row, move_row, moves, places, runs
from reconcile.stores import open_store
from reconcile.wording import count


def check_plan(catalog: Catalog, plan: PlanFile) -> None:
    """Raise unless the plan was made for this database, or its run belongs to it by now.

    `PlanFileError` for a plan of another database, `PlaceChangedError` for a run of one.
    """
    header = plan.header
    record = _latest(catalog, header.plan_id) if header.undo_of is None else _found(catalog, header.undo_of)
    if record is not None:
        check_database(catalog, record)
    elif not same_database(header.database, catalog.identity):
        raise PlanFileError(
            f"{plan.path}: the plan is for another database ({header.database}), this one is {catalog.identity}",
            hint="connect to the database that the plan was made from, or make a new plan",
        )


def is_switched(catalog: Catalog, header: PlanHeader) -> bool:
    """Tell whether the catalog is as the run of a plan switched it, or the one that an undo plan takes back."""
    record = _latest(catalog, header.plan_id) if header.undo_of is None else _found(catalog, header.undo_of)
    return record is not None and record.switched_at is not None and record.state != RunState.UNDONE


def apply(catalog: Catalog, plan: PlanFile, desired: DesiredState, options: RunOptions, control: Control) -> Outcome:
    """Stage, switch and clean a plan, or go on with the run of it that was interrupted.

    Raises a `ReconcileError`, whose exit code says what state things are in (docs/exit-codes.md).
    """
    digest = plan.verify()
    check_plan(catalog, plan)
    if plan.header.undo_of is not None:
        return undo(catalog, plan.header.undo_of, plan, desired, options, control)
    if options.refresh and plan.header.policy.limited:
        raise UsageError(
            "--refresh includes all that is new, and this plan was made with --limit; nothing was done",
            hint="make a plan without --limit; what is staged is adopted, nothing is copied twice",
        )
    summary = plan.header.summary
    refuse_blocked(plan, leave_blocked=options.leave_blocked)
    if not summary.moves.documents:
        return Outcome(run_id="", left=summary.blocked.documents, already="no document is to be moved")
    with calm_collector(), executing(catalog, options.lock_wait, control.check) as executor:
        record = _latest(catalog, plan.header.plan_id)
        ended = None if record is None else _ended(catalog, record, plan, digest, options)
        if ended is not None:
            return ended
        if record is not None and record.state != RunState.UNDONE:
            if options.keep_source and not record.keep_source:
                _refuse_linked(catalog, record)
            run = resume_run(executor, record, keep_source=options.keep_source)
        else:
            _make_destinations(catalog, plan, desired)
            control.progress.step("loading the plan")
            keep_source = options.keep_source or plan.header.policy.keep_source
            run = _begin(
                executor,
                plan,
                digest,
                desired,
                lambda _connection: checked_rows(plan, desired),
                keep_source,
                check=None if options.refresh else partial(refuse_overtaken, plan=plan),
            )
        return Phases(run, desired, options, control).execute()


def _ended(catalog: Catalog, record: RunRecord, plan: PlanFile, digest: str, options: RunOptions) -> Outcome | None:
    """Return what a plan's run came to where nothing is left to do for it; None for one to go on with, or do again.

    Raises `PlanFileError` for a plan that is not the one the run was begun with, `ReconcileError` for one being undone.
    """
    if record.plan_digest != digest:
        raise PlanFileError(
            f"{plan.path}: it has the id of the plan that run {record.run_id} was begun with, and other content",
            hint=f"reconcile status {record.run_id}    names the file of that plan; a new plan has an id of its own",
        )
    if record.state == RunState.UNDOING:
        raise ReconcileError(f"run {record.run_id} of this plan is being undone", hint=undo_command(record))
    already = None
    if record.state == RunState.DONE:
        already = APPLIED
    elif record.state == RunState.SWITCHED and options.clean_later:
        already = "the run is switched already; reconcile clean deletes its sources"
    elif record.state == RunState.SWITCHED and options.stage_only:
        already = "the run is switched already; without --stage-only its sources are cleaned"
    return outcome_of(catalog, record.run_id, already=already) if already else None


def config_record(config: Config) -> dict[str, Any]:
    """Return what a run records of a config: no secret in it, but where each came from (a file, a variable)."""
    return {
        "path": str(config.path.absolute()),
        "fingerprint": config.fingerprint(),
        "backends": config.describe(),
        "secrets": config.provenance(),
    }


@carries_out(Step.LOAD)
def _begin(
    executor: Executor,
    plan: PlanFile,
    digest: str,
    desired: DesiredState,
    rows: Callable[[Connection], Iterable[dict[str, Any]]],
    keep_source: bool,  # noqa: FBT001
    check: Callable[[Connection, str], None] | None = None,
) -> Run:
    configs = {side: config_record(config) for side, config in (("source", desired.source), ("dest", desired.dest))}
    run = begin_run(executor, plan, digest, rows, configs=configs, keep_source=keep_source, check=check)
    if plan.header.undo_of is None:
        dests = {dest for _source, dest in run.backend_pairs()}
        with run.writing(bulk=True) as connection:
            executor.catalog.favour_hash_joins(connection)
            record_in_place(connection, run.run_id, [desired.places[name].address.head for name in dests])
    return run


def _refuse_linked(catalog: Catalog, record: RunRecord) -> None:
    """Raise `ReconcileError` where sources cannot be kept any more: files that are hard links of their copies."""
    linked = count_linked(catalog, record.run_id)
    if linked:
        raise ReconcileError(
            f"{linked} sources of run {record.run_id} are hard links of their copies: kept, they would be overwritten"
            " together with them; nothing was done",
            hint=f"go on without --keep-source, or apply with it from the start, after\n{undo_command(record)}",
        )


def refuse_blocked(plan: PlanFile, *, leave_blocked: bool) -> None:
    """Raise `ReconcileError` for a plan with blockers, unless those documents are to be left."""
    summary = plan.header.summary
    if summary.blocked.documents and not leave_blocked:
        blocked = count(summary.blocked.documents, "blocked document")
        raise ReconcileError(
            f"the plan has {blocked}: {_reasons(summary.blocked_by_reason)}",
            hint="fix the causes and plan again, or give --leave-blocked to leave those documents where they are",
        )


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{documents} {reason}" for reason, documents in counts.items())


def _latest(catalog: Catalog, plan_id: str) -> RunRecord | None:
    found = find_runs(catalog, plan_id=plan_id)
    return found[0] if found else None


def _make_destinations(catalog: Catalog, plan: PlanFile, desired: DesiredState) -> None:
    """Make what the destination config asks to be made; refuse one that is not usable before anything is recorded."""
    for name in sorted({flow.dest for flow in plan.header.summary.flows}):
        is_known = name in desired.places or (is_elsewhere(name) and plan.header.undo_of is not None)
        if not is_known:
            raise PlanFileError(f"{plan.path}: the plan names a backend {printable(name)}, which no config has")
        store = open_store(desired.places[name].backend, catalog, plan.header.plan_id)
        store.write_with(plan.header.policy.s3_put)
        store.prepare(create=not is_elsewhere(name))
        if plan.header.undo_of is None:  # what is undone goes back to where it was, whatever becomes of it there
            refuse_expiring(name, store)


def checked_rows(plan: PlanFile, desired: DesiredState) -> Iterator[dict[str, Any]]:
    """Yield the plan's moves as rows of the work table, each worked out again from its row and the configs."""
    total = 0
    for move in plan.moves():
        decision = desired.decide(move.row())
        planned = move if move.action is None else evolve(move, action=None)
        if decision != planned:
            raise PlanFileError(
                f"{plan.path}: the move of {'/'.join(move.document)} is not what the configs lead to",
                hint="the plan was changed, or made by another version; make a new one with reconcile plan",
            )
        total += 1
        yield move_row(move, desired.target(move), keep=plan.header.policy.keeps(move.source))
    for blocker in plan.blockers():
        yield blocker_row(blocker)
    if total != plan.header.summary.moves.documents:
        raise PlanFileError(
            f"{plan.path}: the plan holds {total} moves, its summary says {plan.header.summary.moves.documents}"
        )


def undo(
    catalog: Catalog,
    run_id: str,
    plan: PlanFile | None,
    desired: DesiredState,
    options: RunOptions,
    control: Control,
) -> Outcome:
    """Take a run back. ``desired`` leads from where the run moved documents to where they were.

    A run that never switched has its staged copies dropped. Raises a `ReconcileError` as `apply` does.
    """
    _refuse_parts_of_undo(plan, options)
    check_database(catalog, run_record(catalog, run_id))
    with calm_collector(), executing(catalog, options.lock_wait, control.check) as executor:
        record = run_record(catalog, run_id)
        if record.state == RunState.UNDONE:
            return outcome_of(catalog, run_id, already=UNDONE)
        refuse_undo_of_undo(record)
        if record.state in (RunState.STAGING, RunState.UNDOING) and record.switched_at is None:
            return _drop(executor, record, desired, options, control)
        if plan is None:  # to drop copies was asked for; while the lock was waited for, rows came to need them
            raise ReconcileError(
                f"run {run_id} has switched meanwhile, its documents are moved; nothing was undone",
                hint=f"{undo_command(record)}    undoes it, if that is still wanted",
            )
        _make_destinations(catalog, plan, desired)
        with catalog.snapshot() as connection:
            for _row in undo_rows(connection, record, plan, desired):
                pass  # refuses a plan that is not the run's before anything is marked
        if record.state in (RunState.SWITCHED, RunState.DONE):
            mark_undoing(executor, record)
        run = _undo_run(executor, record, plan, desired, options, control)
        return Phases(run, desired, options, control).execute()


def refuse_undo_of_undo(record: RunRecord) -> None:
    """Raise `ReconcileError` for a run that is an undo itself, and switched."""
    if record.undo_of is not None and record.state not in (RunState.STAGING, RunState.UNDOING, RunState.UNDONE):
        raise ReconcileError(
            f"run {record.run_id} is an undo itself, and it is done", hint="to go forward again, apply the plan again"
        )


def _refuse_parts_of_undo(plan: PlanFile | None, options: RunOptions) -> None:
    """Raise `UsageError` for what only a plan can be asked for."""
    if options.refresh:
        raise UsageError(
            "--refresh is for plans: an undo takes back what its run did, and nothing else; nothing was done",
            hint="reconcile undo RUN --with-changes    includes what services wrote since",
        )
    if plan is not None and plan.header.policy.with_changes and (options.budget.is_limited or options.stage_only):
        raise UsageError(
            "an undo with changes is made anew by each command, and cannot be staged in parts; nothing was done",
            hint="leave the limits out; --max-rate spares the servers",
        )


def run_record(catalog: Catalog, run_id: str) -> RunRecord:
    """Return a run's record. Raises `ReconcileError` if there is no such run."""
    found = _found(catalog, run_id)
    if found is None:
        raise ReconcileError(f"there is no run {run_id} in this database", hint="reconcile runs    lists them")
    return found


def _found(catalog: Catalog, run_id: str) -> RunRecord | None:
    found = find_runs(catalog, run_id=run_id)
    return found[0] if found else None


def _undo_run(
    executor: Executor,
    record: RunRecord,
    plan: PlanFile,
    desired: DesiredState,
    options: RunOptions,
    control: Control,
) -> Run:
    """Resume the undo run that was interrupted, or begin one; an attempt by another plan is dropped."""
    for attempt in find_runs(executor.catalog, undo_of=record.run_id):
        if attempt.state == RunState.SWITCHED or (attempt.state == RunState.STAGING and _is_of_plan(attempt, plan)):
            return resume_run(executor, attempt)
        if attempt.state in (RunState.STAGING, RunState.UNDOING) and attempt.switched_at is None:
            _drop(executor, attempt, DesiredState(desired.dest, desired.source), options, control, give_back=False)
    control.progress.step("loading the plan")
    rows = partial(undo_rows, record=record, plan=plan, desired=desired)
    return _begin(executor, plan, plan.verify(), desired, rows, keep_source=False)


def _is_of_plan(attempt: RunRecord, plan: PlanFile) -> bool:
    """Tell whether an attempt may be resumed: what services changed since is in no attempt with changes."""
    return not (attempt.header.policy.with_changes or plan.header.policy.with_changes)


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
    stores = open_stores(Run(catalog, record, 0, executor), forward, options, own, create=False)
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
            mark_undone(connection, record.run_id)
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
