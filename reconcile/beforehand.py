"""What a verb would do, and what is there already: what is looked up before an operator is asked. Changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve

from reconcile.catalog import Catalog, DatabaseOptions, Scope
from reconcile.commands import command_line, undo_run
from reconcile.errors import ConfigError, UsageError
from reconcile.formatting import time_text
from reconcile.planning.planfile import PlanFile
from reconcile.planning.planner import PlanRequest, make_plan
from reconcile.prepared import Prepared, opened, to_undo, undo_plan_of
from reconcile.running.preview import UndoPreview, preview_undo
from reconcile.running.record.configs import configs_of, path_now
from reconcile.running.record.records import RunRecord, find_runs, latest_run_of, run_record
from reconcile.running.record.result import APPLIED, UNDONE, Outcome, outcome_of
from reconcile.running.record.states import RunState
from reconcile.running.record.status import Status, status_of


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


def _begun(catalog: Catalog, found: list[RunRecord]) -> Status | None:
    is_begun = bool(found) and found[0].state in (RunState.STAGING, RunState.SWITCHED)
    return status_of(catalog, found[0]) if is_begun else None


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
