"""Apply a plan, and take a run back: which run it is, what refuses it, then the phases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from attrs import evolve
from sqlalchemy.engine import Connection

from reconcile.catalog import Catalog
from reconcile.catalog.lock import run_lock
from reconcile.config import Config, load_config
from reconcile.control import Control, calm_collector
from reconcile.errors import ConfigError, PlanFileError, ReconcileError, UsageError
from reconcile.logs import printable
from reconcile.planning.desired import DesiredState
from reconcile.planning.model import ConfigReference, PlanHeader
from reconcile.planning.planfile import PlanFile
from reconcile.planning.planner import new_id
from reconcile.planning.render import backend_text
from reconcile.running.drop import Dropper
from reconcile.running.options import RunOptions
from reconcile.running.outcome import Outcome, outcome_of
from reconcile.running.phases import Phases
from reconcile.running.records import RunRecord, backend_pairs, count_linked, find_runs
from reconcile.running.run import Run, begin_run, resume_run
from reconcile.running.undo import mark_undoing, mark_undone, undo_rows
from reconcile.running.worktables import (
    DONE,
    INTENDED,
    STAGING,
    SWITCHED,
    UNDOING,
    UNDONE,
    WRITTEN,
    blocker_row,
    create_work_tables,
    move_row,
    moves,
    runs,
)
from reconcile.stores import open_store
from reconcile.wording import count


def configs_of(header: PlanHeader, source: Path | None, dest: Path | None) -> DesiredState:
    """Load the two configs of a plan, from the paths it recorded or from others.

    Raises `ConfigError` if one says something else than it did when the plan was made, credentials aside.
    """
    going_forward = header.undo_of is None  # an undo leads back to whatever the services had
    return DesiredState(
        _config("source", header.source, source),
        _config("dest", header.dest, dest, destination=going_forward),
        header.policy.allow_unreadable,
    )


def _config(option: str, wanted: ConfigReference, path: Path | None, *, destination: bool = False) -> Config:
    if path is None and not Path(wanted.path).exists():
        raise ConfigError(
            f"{wanted.path}: no such config file; it was the plan's {option} config",
            hint=f"--{option} FILE names where it is now, or a copy of it",
        )
    config = load_config(path or Path(wanted.path), destination=destination)
    if config.fingerprint() == wanted.fingerprint:
        return config
    now = config.describe()
    differences = [
        f"{role}: {option} was {backend_text(wanted.backends.get(role))}, this file says {backend_text(now.get(role))}"
        for role in sorted({*wanted.backends, *now})
        if wanted.backends.get(role) != now.get(role)
    ]
    raise ConfigError(
        f"{config.path}: this is not the {option} config that the plan was made with: " + "; ".join(differences),
        hint=f"name the file that says what was planned: --{option} FILE (a copy of the old config.yaml, perhaps)",
    )


def check_database(catalog: Catalog, plan: PlanFile) -> None:
    """Raise `PlanFileError` for a plan that was made for another database, as far as both names are known."""
    planned = plan.header.database
    known = [name for name in planned if planned[name] is not None and catalog.identity.get(name) is not None]
    if planned.get("kind") != catalog.identity["kind"] or any(planned[n] != catalog.identity[n] for n in known):
        raise PlanFileError(
            f"{plan.path}: the plan is for another database ({planned}), this one is {catalog.identity}",
            hint="connect to the database that the plan was made from, or make a new plan",
        )


def apply(catalog: Catalog, plan: PlanFile, desired: DesiredState, options: RunOptions, control: Control) -> Outcome:
    """Stage, switch and clean a plan, or go on with the run of it that was interrupted.

    Raises a `ReconcileError`, whose exit code says what state things are in (docs/exit-codes.md).
    """
    digest = plan.verify()
    check_database(catalog, plan)
    if plan.header.undo_of is not None:
        return undo(catalog, plan.header.undo_of, plan, desired, options, control)
    if options.refresh and plan.header.policy.limited:
        raise UsageError(
            "--refresh takes along all that is new, and this plan was made with --limit; nothing was done",
            hint="make a plan without --limit; what is staged is adopted, nothing is copied twice",
        )
    summary = plan.header.summary
    refuse_blocked(plan, leave_blocked=options.leave_blocked)
    if not summary.moves.documents:
        return Outcome(run_id="", left=summary.blocked.documents, already="no document is to be moved")
    with calm_collector(), run_lock(catalog, options.lock_wait, control.check) as lock:
        create_work_tables(catalog)
        record = _latest(catalog, plan.header.plan_id)
        if record is not None and record.state == DONE:
            return outcome_of(catalog, record.run_id, already="the plan is applied already")
        if record is not None and record.state == SWITCHED and options.stage_only:
            return outcome_of(
                catalog,
                record.run_id,
                already="the run is switched already; without --stage-only its sources are cleaned",
            )
        if record is not None and record.state == UNDOING:
            raise ReconcileError(
                f"run {record.run_id} of this plan is being undone", hint=f"reconcile undo {record.run_id}"
            )
        if record is not None and record.state != UNDONE:
            if options.keep_source and not record.keep_source:
                _refuse_linked(catalog, record)
            run = resume_run(catalog, record, keep_source=options.keep_source)
        else:
            _make_destinations(catalog, plan, desired)
            run = begin_run(
                catalog,
                new_id(),
                plan.path,
                digest,
                plan.header,
                lambda _connection: checked_rows(plan, desired),
                keep_source=options.keep_source or plan.header.policy.keep_source,
            )
        return Phases(run, desired, options, control, lock).execute()


def _refuse_linked(catalog: Catalog, record: RunRecord) -> None:
    """Raise `ReconcileError` where sources cannot be kept any more: files that are hard links of their copies."""
    linked = count_linked(catalog, record.run_id)
    if linked:
        raise ReconcileError(
            f"{linked} sources of run {record.run_id} are hard links of their copies: kept, they would be overwritten"
            " together with them; nothing was done",
            hint=f"go on without --keep-source, or reconcile undo {record.run_id} and apply with it from the start",
        )


def refuse_blocked(plan: PlanFile, *, leave_blocked: bool) -> None:
    """Raise `ReconcileError` for a plan with blockers, unless those documents are to be left."""
    summary = plan.header.summary
    if summary.blocked.documents and not leave_blocked:
        blocked = count(summary.blocked.documents, "blocked document")
        raise ReconcileError(
            f"the plan has {blocked}: {_reasons(summary.blocked_by_reason)}",
            hint="mend the causes and plan again, or give --leave-blocked to leave those documents where they are",
        )


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{documents} {reason}" for reason, documents in counts.items())


def _latest(catalog: Catalog, plan_id: str) -> RunRecord | None:
    found = find_runs(catalog, plan_id=plan_id)
    return found[0] if found else None


def _make_destinations(catalog: Catalog, plan: PlanFile, desired: DesiredState) -> None:
    """Make what the destination config asks to be made; refuse one that is not usable before anything is recorded."""
    for name in sorted({flow.dest for flow in plan.header.summary.flows}):
        if name not in desired.places:
            raise PlanFileError(f"{plan.path}: the plan names a backend {printable(name)}, which no config has")
        open_store(desired.places[name].backend, catalog, plan.header.plan_id).prepare(create=True)


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
        yield move_row(move, desired.target(move))
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
    with calm_collector(), run_lock(catalog, options.lock_wait, control.check) as lock:
        record = run_record(catalog, run_id)
        if record.state == UNDONE:
            return outcome_of(catalog, run_id, already="the run is undone already")
        if record.undo_of is not None and record.state not in (STAGING, UNDOING):
            raise ReconcileError(
                f"run {run_id} is an undo itself, and it is done", hint="to go forward again, apply the plan again"
            )
        if record.state in (STAGING, UNDOING) and record.switched_at is None:
            return _drop(catalog, record, desired, options, control)
        if plan is not None:
            _make_destinations(catalog, plan, desired)
            with catalog.snapshot() as connection:
                for _row in undo_rows(connection, record, plan, desired):
                    pass  # refuses a plan that is not the run's before anything is marked
        if record.state in (SWITCHED, DONE):
            mark_undoing(catalog, record)
        run = _undo_run(catalog, record, plan, desired, options, control)
        return Phases(run, desired, options, control, lock).execute()


def _refuse_parts_of_undo(plan: PlanFile | None, options: RunOptions) -> None:
    """Raise `UsageError` for what only a plan can be asked for."""
    if options.refresh:
        raise UsageError(
            "--refresh is for plans: an undo takes back what its run did, and nothing else; nothing was done",
            hint="reconcile undo RUN --with-changes takes along what services wrote since",
        )
    if plan is not None and plan.header.policy.with_changes and (options.budget.is_limited or options.stage_only):
        raise UsageError(
            "an undo with changes is made anew by each command, and cannot be staged in parts; nothing was done",
            hint="leave the limits out; --max-rate spares the servers",
        )


def run_record(catalog: Catalog, run_id: str) -> RunRecord:
    """Return a run's record. Raises `ReconcileError` if there is no such run."""
    found = find_runs(catalog, run_id=run_id) if catalog.has_table(runs) else []
    if not found:
        raise ReconcileError(f"there is no run {run_id} in this database", hint="reconcile runs lists them")
    return found[0]


def _undo_run(
    catalog: Catalog,
    record: RunRecord,
    plan: PlanFile | None,
    desired: DesiredState,
    options: RunOptions,
    control: Control,
) -> Run:
    """Go on with the undo run that was interrupted, or begin one; an attempt by another plan is dropped."""
    for attempt in find_runs(catalog, undo_of=record.run_id):
        if attempt.state == SWITCHED or (attempt.state == STAGING and _is_of_plan(attempt, plan)):
            return resume_run(catalog, attempt)
        if attempt.state in (STAGING, UNDOING) and attempt.switched_at is None:
            _drop(catalog, attempt, DesiredState(desired.dest, desired.source), options, control, give_back=False)
    if plan is None:
        raise ReconcileError(f"run {record.run_id} has no undo plan")
    return begin_run(
        catalog,
        new_id(),
        plan.path,
        plan.verify(),
        plan.header,
        lambda connection: undo_rows(connection, record, plan, desired),
        keep_source=False,
    )


def _is_of_plan(attempt: RunRecord, plan: PlanFile | None) -> bool:
    """Tell whether an attempt may be resumed: what services changed since is in no attempt with changes."""
    return plan is None or not (attempt.header.policy.with_changes or plan.header.policy.with_changes)


def _drop(
    catalog: Catalog,
    record: RunRecord,
    desired: DesiredState,
    options: RunOptions,
    control: Control,
    *,
    give_back: bool = True,
) -> Outcome:
    forward = DesiredState(desired.dest, desired.source)
    names = _places_of_copies(catalog, record.run_id)
    stores = {name: open_store(forward.places[name].backend, catalog, record.run_id) for name in names}
    for store in stores.values():
        store.use(options.workers or store.default_workers)
        store.prepare(create=False)
    if record.state == STAGING:
        mark_undoing(catalog, record)
    run = resume_run(catalog, record)
    dropper = Dropper(run, forward, stores, control, options.pipelines)
    dropper.drop()
    with run.writing() as connection:
        mark_undone(connection, record.run_id)
        if record.undo_of is not None and give_back:
            _give_back(connection, record.undo_of)
    outcome = outcome_of(catalog, record.run_id)
    return evolve(outcome, documents=0, left=len(dropper.left), not_dropped=tuple(dropper.left[:20]))


def _places_of_copies(catalog: Catalog, run_id: str) -> set[str]:
    """Return the places that a run's own copies came from and are at."""
    own = moves.c.origin.in_((INTENDED, WRITTEN))
    return {name for pair in backend_pairs(catalog, run_id, own) for name in pair}


def _give_back(connection: Connection, run_id: str) -> None:
    """Let a run be what it was before an undo of it was begun and taken back."""
    finished = runs.c.finished_at.is_not(None)
    others = sa.select(runs.c.run_id).where(runs.c.undo_of == run_id, runs.c.state.in_((STAGING, SWITCHED, UNDOING)))
    if connection.execute(others).first() is None:
        connection.execute(
            sa.update(runs)
            .where(runs.c.run_id == run_id, runs.c.state == UNDOING)
            .values(state=sa.case((finished, DONE), else_=SWITCHED))
        )
